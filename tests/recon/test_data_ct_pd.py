"""DICOM-CT-PD: scans of a ball written here by the format's own definitions, and read into our geometry."""

import math
import struct

import numpy as np
import pytest
import torch
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from operators import XRay, fbp
from operators.helical import helical_fbp
from recon.data import open_scans, read_ct_pd

CENTRE, RADIUS = np.array([18.0, -11.0, 4.0]), 9.0
ROWS, COLUMNS, DV, DU = 8, 90, 6.0, 2.5
RHO, D = 200.0, 360.0
CENTRAL = (46.625, 4.25)  # (column, row), counted from 1: the detector is 1.125 columns off the middle
SLOPE, INTERCEPT = 40 / 65535, -1.0


def chord(sources, elements):
    """Length of every ray in the ball."""
    way = elements - sources
    way = way / np.linalg.norm(way, axis=-1, keepdims=True)
    to = CENTRE - sources
    along = (to * way).sum(-1)
    return 2 * np.sqrt((RADIUS**2 - ((to**2).sum(-1) - along**2)).clip(0))


def definition(phi, z, shift=(0.0, 0.0, 0.0), shape="CYLINDRICAL"):
    """Source (3,) and elements (rows, columns, 3) as the format defines them: x = −ρ sin φ, y = ρ cos φ."""

    def place(rho, angle, height):
        return np.array([-rho * math.sin(angle), rho * math.cos(angle), height])

    focus = place(RHO, phi, z)
    source = place(RHO + shift[2], phi + shift[0], z + shift[1])
    j, i = np.arange(1, COLUMNS + 1) - CENTRAL[0], np.arange(1, ROWS + 1) - CENTRAL[1]
    inward = np.array([math.sin(phi), -math.cos(phi)])
    sideways = np.array([-inward[1], inward[0]])  # a quarter turn counter-clockwise
    if shape == "CYLINDRICAL":
        gamma = j * DU / D
        plane = focus[:2] + D * (np.cos(gamma)[:, None] * inward + np.sin(gamma)[:, None] * sideways)
    else:
        plane = focus[:2] + D * inward + (j * DU)[:, None] * sideways
    elements = np.empty((ROWS, COLUMNS, 3))
    elements[..., :2], elements[..., 2] = plane, (z - i * DV)[:, None]
    return source, elements


def write(folder, n, values, phi, z, shift=(0.0, 0.0, 0.0), implicit=False, drop=(), **changes):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.Modality, data.KVP, data.InstanceNumber = "Somebody", "CT", "120", n + 1
    stored = np.rint((values.T - INTERCEPT) / SLOPE).astype(
        np.uint16
    )  # columns as rows, as the library has it
    data.Rows, data.Columns = stored.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.RescaleSlope, data.RescaleIntercept = f"{SLOPE:.14f}", f"{INTERCEPT:g}"
    tags = {
        (0x7029, 0x1002): ("FL", DU), (0x7029, 0x1006): ("FL", DV), (0x7029, 0x100B): ("CS", "CYLINDRICAL"),
        (0x7029, 0x1010): ("US", ROWS), (0x7029, 0x1011): ("US", COLUMNS), (0x7031, 0x1001): ("FL", phi),
        (0x7031, 0x1002): ("FL", z), (0x7031, 0x1003): ("FL", RHO), (0x7031, 0x1031): ("FL", D),
        (0x7031, 0x1033): ("FL", list(CENTRAL)), (0x7033, 0x100B): ("FL", shift[0]),
        (0x7033, 0x100C): ("FL", shift[1]), (0x7033, 0x100D): ("FL", shift[2]),
        (0x7033, 0x1065): ("FL", [1e5 + 10.0 * c for c in range(COLUMNS)]),
        (0x7041, 0x1001): ("DS", "0.0192"),
    } | changes.get("tags", {})  # fmt: skip
    for tag, (vr, value) in tags.items():
        if tag not in drop:
            data.add_new(tag, vr, value)
    data.PixelData = changes.get("pixels", stored.tobytes())
    data["PixelData"].VR = "OW"
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"view{n}.dcm"
    data.save_as(path, implicit_vr=implicit, little_endian=True)
    return path


def scan(folder, views=24, pitch=0.0, turns=1.0, shifts=((0.0, 0.0, 0.0),), shape="CYLINDRICAL", **options):
    """A whole scan; φ wraps at 2π, as the tags do."""
    truth = []
    for n in range(views):
        phi = 0.3 + 2 * math.pi * turns * n / views
        z, shift = 3.0 + pitch * (n - views / 2) * turns / views, shifts[n % len(shifts)]
        truth.append(chord(*definition(phi, z, shift, shape)))
        tags = {(0x7029, 0x100B): ("CS", shape)}
        write(folder, n, truth[-1], phi % (2 * math.pi), z, shift, tags=tags, **options)
    return np.stack(truth)


def ours(geometry, middle):
    """The ball's chords along the rays of a geometry whose volume has its middle at a height."""
    points, ways = geometry.rays()
    up = np.array([0, 0, middle])
    return chord(points + up, points + up + ways)


# float32 tags: 1e-7 of some 500 mm at a grazing ray; and 40/65535 between stored values
CLOSE = {"atol": 2e-2, "rtol": 0}


@pytest.mark.parametrize("shape", ["CYLINDRICAL", "FLAT"])
@pytest.mark.parametrize("pitch", [0.0, 30.0])
@pytest.mark.parametrize("implicit", [False, True])
def test_rays_are_those_of_the_format(tmp_path, shape, pitch, implicit):
    scan(tmp_path, pitch=pitch, turns=2.0, shape=shape, implicit=implicit)
    found = read_ct_pd(tmp_path)
    assert found.data.shape == (24, ROWS, COLUMNS) and found.helical == (pitch > 0) and not found.flying
    assert (found.mu_water, found.kvp) == (0.0192, 120)
    assert found.offset[1] == pytest.approx(1.125 * DU) and found.offset[0] == pytest.approx(-0.25 * DV)
    volume = ((4, 8, 8), 5.0)
    for geometry in (found.vectors(*volume, middle=1.0), found.cone(*volume, middle=1.0)):
        np.testing.assert_allclose(found.data.numpy(), ours(geometry, 1.0), **CLOSE)
    assert found.data.max() > 17.5  # the ball was seen
    assert not any("Somebody" in repr(v) for v in vars(found).values())


def test_a_flying_focal_spot_is_where_it_flew(tmp_path):
    shifts = ((0.004, 0.9, 0.5), (-0.004, -0.9, -0.5))
    scan(tmp_path, pitch=30.0, turns=2.0, shifts=shifts)
    found = read_ct_pd(tmp_path)
    assert found.flying
    np.testing.assert_allclose(found.shifts[:2], shifts, rtol=1e-6)
    geometry = found.vectors((4, 8, 8), 5.0, middle=0.0)
    np.testing.assert_allclose(found.data.numpy(), ours(geometry, 0.0), **CLOSE)
    with pytest.raises(ValueError, match=r"focal spot flew.*focal_spots"):
        found.cone((4, 8, 8), 5.0)
    first, second = found.focal_spots()
    assert len(first.angles) == len(second.angles) == 12 and not first.flying
    for spot in (first, second):
        exact = spot.data.numpy()
        near = ours(spot.cone((4, 8, 8), 5.0, middle=0.0), 0.0)
        apart = ours(replaced(spot, found).cone((4, 8, 8), 5.0, middle=0.0), 0.0)
        errors = [np.linalg.norm(exact - other) / np.linalg.norm(exact) for other in (near, apart)]
        # 0.8 mm beside the arc's centre leaves 0.02 mm at the ball's rays; left out it would be a tenth
        assert errors[0] < 2e-3 and errors[1] > 0.1


def replaced(spot, found):
    """The views of a focal spot as if it had not flown."""
    from dataclasses import replace

    names = ("source_to_centre", "source_to_detector", "offset")
    angle, height, _ = next(s for s in found.shifts if np.isclose(found.angles + s[0], spot.angles[0]).any())
    return replace(
        spot,
        angles=spot.angles - angle,
        heights=spot.heights - height,
        **{n: getattr(found, n) for n in names},
    )


def test_views_come_in_the_order_of_their_numbers(tmp_path):
    truth = scan(tmp_path, views=12)
    for n in (3, 10):
        (tmp_path / f"view{n}.dcm").rename(tmp_path / f"zz{20 - n}.dcm")
    (tmp_path / "notes.txt").write_text("not DICOM")
    found = read_ct_pd(tmp_path, views=slice(2, None, 3))
    np.testing.assert_allclose(found.data.numpy()[:, ::-1, ::-1], truth[2::3], atol=1e-3)
    assert np.all(np.diff(read_ct_pd(tmp_path).angles) > 0)  # unwrapped


def test_photons_of_the_open_beam_are_turned_with_the_columns(tmp_path):
    scan(tmp_path, views=3)
    photons = read_ct_pd(tmp_path).photons
    assert (
        photons.shape == (3, COLUMNS) and photons[0, 0] == 1e5 + 10 * (COLUMNS - 1) and photons[0, -1] == 1e5
    )


def test_a_row_of_a_still_table_is_a_fan_beam(tmp_path):
    scan(tmp_path, views=180)
    found = read_ct_pd(tmp_path)
    geometry, y = found.fan((80, 80), 1.0)
    x = fbp(XRay(geometry), y)
    # the row crosses the axis at 3 + 0.25 · 6 · 200/360 = 3.83 mm, the ball's middle lies at 4
    inside = (x > 0.5).double()
    grid = torch.arange(80) - 39.5
    place = (
        float((inside.sum(0) * grid).sum() / inside.sum()),
        float(-(inside.sum(1) * grid).sum() / inside.sum()),
    )
    assert place == pytest.approx((18, -11), abs=0.1)  # a tenth of a pixel
    assert float(inside.sum()) == pytest.approx(math.pi * (81 - 0.17**2), rel=0.02)
    assert float(x[inside.bool()].median()) == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="row: expected 0 to 7"):
        found.fan((80, 80), 1.0, row=8)


def test_a_helix_is_rebinned_and_reconstructed(tmp_path):
    scan(tmp_path, views=360, turns=3.0, pitch=18.0)
    found = read_ct_pd(tmp_path)
    with pytest.raises(ValueError, match="the table moved"):
        found.fan((80, 80), 1.0)
    x = helical_fbp(found.cone((1, 80, 80), 1.0, middle=4.0), found.data)[0]
    inside = (x > 0.5).double()
    grid = torch.arange(80) - 39.5
    place = (
        float((inside.sum(0) * grid).sum() / inside.sum()),
        float(-(inside.sum(1) * grid).sum() / inside.sum()),
    )
    assert place == pytest.approx((18, -11), abs=0.15)
    assert float(inside.sum()) == pytest.approx(math.pi * 81, rel=0.04)
    scans = open_scans(tmp_path, pixels=40, spacing=2.0)
    heights = [float(s.affine[2, 3]) + s.number * 2.0 for s in scans]
    assert len(scans) > 3 and heights == sorted(heights) and scans[0].mu_water == 0.0192
    problem = min(scans, key=lambda s: abs(float(s.affine[2, 3]) + s.number * 2.0 - 4)).load()
    assert problem.A.in_shape == (40, 40) and float(problem.linear.max()) == pytest.approx(18, abs=0.3)


def test_a_table_that_stutters_is_no_helix(tmp_path):
    for n in range(6):
        phi, z = 0.5 * n, float(n * n)
        write(tmp_path, n, chord(*definition(phi, z)), phi, z)
    found = read_ct_pd(tmp_path)
    with pytest.raises(ValueError, match=r"differ by .* mm from a helix"):
        found.cone((4, 8, 8), 5.0)
    np.testing.assert_allclose(found.data.numpy(), ours(found.vectors((4, 8, 8), 5.0, 0.0), 0.0), **CLOSE)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"drop": [(0x7031, 0x1001)]}, r"DetectorFocalCenterAngularPosition \(7031,1001\).*without geometry"),
        ({"drop": [(0x7031, 0x1003)]}, "DetectorFocalCenterRadialDistance"),
        ({"drop": [(0x7029, 0x1010)]}, "NumberofDetectorRows"),
        ({"tags": {(0x7029, 0x1002): ("FL", -1.0)}}, "DetectorElementTransverseSpacing.*positive"),
        ({"tags": {(0x7031, 0x1031): ("FL", 100.0)}}, "not beyond"),
        ({"tags": {(0x7031, 0x1033): ("FL", 4.0)}}, r"expected \(column, row\)"),
        ({"tags": {(0x7029, 0x1011): ("US", 77)}}, "8 rows and 77 columns"),
        ({"tags": {(0x7029, 0x100B): ("CS", "SPHERICAL")}}, "SPHERICAL"),
        ({"tags": {(0x7031, 0x1002): ("FL", math.nan)}}, "finite"),
        ({"tags": {(0x7041, 0x1001): ("DS", "0.192")}}, "WaterAttenuationCoefficient 0.192"),
        ({"tags": {(0x7031, 0x1003): ("FL", 201.0)}}, "files of two scans"),
        ({"pixels": b"\0\0" * 100}, "truncated"),
    ],
)
def test_projections_that_lie_are_refused_by_name(tmp_path, changes, words):
    files = [
        write(tmp_path, n, np.ones((ROWS, COLUMNS)), 0.1 * n, 0.0, **(changes if n else {})) for n in (0, 1)
    ]
    with pytest.raises(ValueError, match=words) as error:
        read_ct_pd(files)
    assert "view1.dcm" in str(error.value)


def test_folders_without_projections_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no DICOM-CT-PD"):
        read_ct_pd(tmp_path)
    path = write(tmp_path, 0, np.ones((ROWS, COLUMNS)), 0.0, 0.0)
    with pytest.raises(ValueError, match="one view"):
        open_scans(path)
    with pytest.raises(ValueError, match="leaves no file"):
        read_ct_pd(tmp_path, views=slice(5, 6))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated"):
        read_ct_pd(tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        read_ct_pd([tmp_path / "absent.dcm"])


def test_private_values_may_be_bytes(tmp_path):
    # pydicom gives bytes where a file does not state the type of a private value
    tags = {(0x7031, 0x1003): struct.pack("<f", RHO), (0x7029, 0x1010): struct.pack("<H", ROWS)}
    unknown = {tag: ("UN", value) for tag, value in tags.items()}
    path = write(tmp_path, 0, np.ones((ROWS, COLUMNS)), 0.0, 0.0, tags=unknown)
    assert read_ct_pd([path]).source_to_centre == RHO
