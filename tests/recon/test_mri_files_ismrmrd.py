"""ISMRMRD: files that the ismrmrd package itself wrote, sorted to where their readouts belong."""

import math
import warnings

import numpy as np
import pytest
import torch

from operators import Fourier
from recon.data import KSpace, read_ismrmrd, read_kspace, write_kspace
from recon.data.ismrmrd_write import HEAD
from recon.data.mr_header import Encoding, header_xml, parse_header

pytest.importorskip("h5py", reason="the `mri` extra")
ismrmrd = pytest.importorskip("ismrmrd")
from ismrmrd import constants  # noqa: E402

NY, NX, COILS = 8, 12, 2
FOV = (5.0, 80.0, 240.0)


def random(*shape, seed=0):
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed)).numpy()


def acquisition(samples, *flags, centre=None, **values):
    """One readout by the package; values of the head, or of its counters."""
    a = ismrmrd.Acquisition.from_array(np.ascontiguousarray(samples))
    a.center_sample = samples.shape[1] // 2 if centre is None else centre
    for name, value in values.items():
        if hasattr(a.idx, name):
            setattr(a.idx, name, value)
        elif isinstance(value, tuple):
            getattr(a, name)[:] = value
        else:
            setattr(a, name, value)
    for flag in flags:
        a.setFlag(flag)
    return a


def written(
    path, acquisitions, matrix=(1, NY, NX), limits=None, recon=None, recon_fov=None, trajectory="cartesian"
):
    e = Encoding(matrix, FOV, recon or matrix, recon_fov or FOV, limits or {}, trajectory)
    with ismrmrd.Dataset(str(path), "dataset", create_if_needed=True) as data:
        data.write_xml_header(header_xml(e, COILS).encode())
        for a in acquisitions:
            data.append_acquisition(a)
    return path


def lines(y, **values):
    """Every row of (coils, ny, nx)."""
    return [acquisition(y[:, k], kspace_encode_step_1=k, **values) for k in range(y.shape[1])]


def test_a_plain_scan(tmp_path):
    y = random(COILS, NY, NX)
    scan = read_kspace(written(tmp_path / "scan.h5", reversed(lines(y))))
    assert scan.mask is None and len(scan) == 1 and scan.pixel_size == (10, 20)
    np.testing.assert_array_equal(scan[0], y)


def test_our_head_is_theirs():
    """Field by field, with no padding between."""
    from ismrmrd.hdf5 import acquisition_header_dtype

    assert np.dtype(HEAD) == acquisition_header_dtype


def test_our_header_is_valid():
    """Their own generated classes read it."""
    xsd = pytest.importorskip("ismrmrd.xsd")
    e = Encoding((1, 8, 12), FOV, (1, 8, 6), (5.0, 80.0, 120.0), {1: (0, 7, 4)})
    header = xsd.CreateFromDocument(
        header_xml(e, 3, {"field_strength_T": 3.0, "TR": 5.0, "acquisition": "a<b"})
    )
    assert header.encoding[0].encodedSpace.matrixSize.x == 12 and header.sequenceParameters.TR == [5.0]
    assert header.encoding[0].encodingLimits.kspace_encoding_step_1.center == 4
    assert header.userParameters.userParameterString[0].value == "a<b"
    again = parse_header("here", xsd.ToXML(header))
    assert again.encodings[0] == e and again.attributes["acquisition"] == "a<b"


def test_partial_fourier_and_asymmetric_echo(tmp_path):
    """Rows 2 … 7 of 8, counted from 0 with their centre at 2; readouts of 9 of 12 samples, centre at 3."""
    y = random(COILS, NY, NX)
    parts = [acquisition(y[:, k, 3:], centre=3, kspace_encode_step_1=k - 2) for k in range(2, 8)]
    scan = read_ismrmrd(written(tmp_path / "a.h5", parts, limits={1: (0, 5, 2)}))
    expected = np.zeros((NY, NX), bool)
    expected[2:, 3:] = True
    np.testing.assert_array_equal(scan.sampled(0), expected)
    np.testing.assert_array_equal(scan[0], y * expected)


def test_discarded_samples(tmp_path):
    y = random(COILS, NY, NX)
    wide = np.pad(y, ((0, 0), (0, 0), (2, 1)), constant_values=99)
    parts = [
        acquisition(wide[:, k], centre=NX // 2 + 2, discard_pre=2, discard_post=1, kspace_encode_step_1=k)
        for k in range(NY)
    ]
    np.testing.assert_array_equal(read_ismrmrd(written(tmp_path / "a.h5", parts))[0], y)


def test_reversed_readouts(tmp_path):
    y = random(COILS, NY, NX)
    flags = [[constants.ACQ_IS_REVERSE] * (k % 2) for k in range(NY)]
    turned = [y[:, k, :: 1 - 2 * (k % 2)] for k in range(NY)]
    parts = [acquisition(turned[k], *flags[k], kspace_encode_step_1=k) for k in range(NY)]
    np.testing.assert_array_equal(read_ismrmrd(written(tmp_path / "a.h5", parts))[0], y)


def test_averages_and_their_noise(tmp_path):
    y, other = random(COILS, NY, NX), random(COILS, NY, NX, seed=1)
    noise = acquisition(random(COILS, 64, seed=2), constants.ACQ_IS_NOISE_MEASUREMENT, sample_time_us=2.0)
    parts = lines(y, sample_time_us=8.0) + lines(other, sample_time_us=8.0, average=1)
    scan = read_ismrmrd(written(tmp_path / "a.h5", [noise, *parts]))
    np.testing.assert_allclose(scan[0], (y + other) / 2, rtol=1e-6)
    assert scan.attributes["averages"] == (2, 2)
    # a quarter of the bandwidth has a quarter of the variance, two averages half of that
    np.testing.assert_allclose(scan.noise, noise.data * math.sqrt(2 / 8 / 2), rtol=1e-6)


def test_noise_of_another_file(tmp_path):
    """Four times the dwell time has a quarter of the variance; a filter let 0.8 of the noise scan through."""
    scan = random(COILS, 64, seed=2)
    noise = acquisition(scan, constants.ACQ_IS_NOISE_MEASUREMENT, sample_time_us=2.0)
    written(tmp_path / "noise.h5", [noise])
    with ismrmrd.Dataset(str(tmp_path / "noise.h5"), "dataset", create_if_needed=False) as data:
        field = "<relativeReceiverNoiseBandwidth>0.8</relativeReceiverNoiseBandwidth>"
        text = data.read_xml_header().decode()
        data.write_xml_header(text.replace("<receiverChannels>", field + "<receiverChannels>").encode())
    path = written(tmp_path / "scan.h5", lines(random(COILS, NY, NX), sample_time_us=8.0))
    found = read_ismrmrd(path, noise=tmp_path / "noise.h5").noise
    np.testing.assert_allclose(found, scan * math.sqrt(2 / 8 / 0.8), rtol=1e-6)
    with pytest.raises(ValueError, match=r"scan\.h5: no noise scan of 2 coils"):
        read_ismrmrd(path, noise=path)


def test_images_by_their_counters(tmp_path):
    ys = {(r, s): random(COILS, NY, NX, seed=10 * r + s) for r in range(2) for s in range(3)}
    parts = [a for (r, s), y in ys.items() for a in lines(y, repetition=r, slice=s)]
    scan = read_ismrmrd(written(tmp_path / "a.h5", parts))
    assert len(scan) == 6
    for k, label in enumerate(scan.labels):
        np.testing.assert_array_equal(scan[k], ys[label["repetition"], label["slice"]])


def test_calibration_lines_apart(tmp_path):
    """Lines only for calibration are not imaging; lines for both are."""
    y, c = random(COILS, NY, NX), random(COILS, NY, NX, seed=1)
    both = (constants.ACQ_IS_PARALLEL_CALIBRATION, constants.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING)
    parts = [acquisition(y[:, k], kspace_encode_step_1=k) for k in (0, 2, 6)]
    parts += [acquisition(y[:, 4], *both, kspace_encode_step_1=4)]
    parts += [
        acquisition(c[:, k], constants.ACQ_IS_PARALLEL_CALIBRATION, kspace_encode_step_1=k) for k in (3, 4, 5)
    ]
    parts += [acquisition(c[:, 0], constants.ACQ_IS_NAVIGATION_DATA)]
    scan = read_ismrmrd(written(tmp_path / "a.h5", parts))
    assert scan.sampled(0).any(-1).tolist() == [True, False] * 4
    np.testing.assert_array_equal(scan[0][:, ::2], y[:, ::2])
    np.testing.assert_array_equal(scan.calibration[0, :, 3:6], c[:, 3:6])
    assert not bool(scan.calibration[0, :, :3].any())


def test_volumes(tmp_path):
    y = random(COILS, 4, NY, NX)
    parts = [
        acquisition(y[:, z, k], kspace_encode_step_1=k, kspace_encode_step_2=z)
        for z in range(4)
        for k in range(NY)
    ]
    scan = read_ismrmrd(written(tmp_path / "a.h5", parts, matrix=(4, NY, NX)))
    assert scan.grid == (4, NY, NX)
    np.testing.assert_array_equal(scan[0], y)


def test_oversampling_goes_in_the_image(tmp_path):
    """The middle of the image is the same before and after; the noise per sample stays."""
    y = random(COILS, NY, NX)
    path = written(tmp_path / "a.h5", lines(y), recon=(1, NY, 6), recon_fov=(5.0, 80.0, 120.0))
    both = [read_ismrmrd(path, remove_oversampling=r) for r in (False, True)]
    images = [Fourier(s.grid).adjoint(s[0]) for s in both]
    assert both[1].grid == (NY, 6) and both[1].pixel_size == both[0].pixel_size
    torch.testing.assert_close(images[1], images[0][..., 3:9], rtol=1e-5, atol=1e-6)


def test_readout_along_columns(tmp_path):
    y = random(COILS, NY, NX)
    scan = read_ismrmrd(written(tmp_path / "a.h5", lines(y)), readout=-2)
    np.testing.assert_array_equal(scan[0], y.transpose(0, 2, 1))
    assert scan.pixel_size == (20, 10)


def test_trajectories(tmp_path):
    """x first in the file and cycles per pixel; y first here and rad per pixel."""
    k = (np.random.default_rng(0).random((3, NX, 2)) - 0.5).astype(np.float32)
    y = random(COILS, 3, NX)
    parts = []
    for n in range(3):
        a = ismrmrd.Acquisition.from_array(np.ascontiguousarray(y[:, n]), k[n])
        a.idx.kspace_encode_step_1 = n
        parts.append(a)
    scan = read_ismrmrd(written(tmp_path / "a.h5", parts, trajectory="radial"))
    assert scan.grid == (NY, NX) and scan.trajectory.shape == (3 * NX, 2)
    np.testing.assert_allclose(scan.trajectory, 2 * np.pi * k.reshape(-1, 2)[:, ::-1], rtol=1e-6)
    np.testing.assert_array_equal(scan[0], y.reshape(COILS, -1))
    with pytest.raises(ValueError, match=r"within ±π"):
        read_ismrmrd(written(tmp_path / "b.h5", parts_in_metres(parts), trajectory="radial"))


def parts_in_metres(parts):
    for a in parts:
        a.traj[:] *= 100
    return parts


def test_where_it_lies(tmp_path):
    """The middle of the field of view is where the head says; slices go along their positions."""
    y = random(COILS, NY, NX)
    place = {"read_dir": (0.0, 1.0, 0.0), "phase_dir": (1.0, 0.0, 0.0), "slice_dir": (0.0, 0.0, -1.0)}
    parts = lines(y, slice=0, position=(5.0, 6.0, 7.0), **place) + lines(
        y, slice=1, position=(5.0, 6.0, 3.0), **place
    )
    scan = read_ismrmrd(written(tmp_path / "a.h5", parts))
    np.testing.assert_allclose(scan.affine @ [NX // 2, NY // 2, 1, 1], [5, 6, 3, 1], atol=1e-5)
    np.testing.assert_allclose(scan.affine[:3, :3], [[0, 10, 0], [20, 0, 0], [0, 0, -4]], atol=1e-5)
    turned = read_ismrmrd(tmp_path / "a.h5", readout=-2)
    np.testing.assert_allclose(turned.affine @ [NY // 2, NX // 2, 1, 1], [5, 6, 3, 1], atol=1e-5)


def test_several_encodings(tmp_path):
    parts = lines(random(COILS, NY, NX)) + lines(random(COILS, NY, NX, seed=1), encoding_space_ref=1)
    path = written(tmp_path / "a.h5", parts)
    with pytest.raises(ValueError, match=r"encoding spaces \[0, 1\].*encoding="):
        read_ismrmrd(path)
    np.testing.assert_array_equal(read_ismrmrd(path, encoding=0)[0], random(COILS, NY, NX))


def scan_to_write():
    y = torch.from_numpy(random(3, 2, NY, NX))
    mask = torch.tensor([True, False, True, True, True, True, False, True])[:, None]
    calibration = torch.zeros_like(y)
    calibration[:, :, 3:6] = y[:, :, 3:6]
    return KSpace(
        y * mask, mask=mask, noise=torch.from_numpy(random(2, 5000)), calibration=calibration,
        field_of_view=(80.0, 240.0), recon_shape=(8, 6), labels=tuple({"slice": k} for k in range(3)),
        affine=np.array([[20.0, 0, 0, 1], [0, 10, 0, 2], [0, 0, 4, 3], [0, 0, 0, 1]]),
        attributes={"slice_spacing_mm": 4.0, "TE": 3.5},
    )  # fmt: skip


def test_what_we_write_comes_back(tmp_path):
    scan = scan_to_write()
    again = read_kspace(write_kspace(scan, tmp_path / "scan.mrd"))
    for k in range(3):
        torch.testing.assert_close(again[k], scan[k], rtol=0, atol=0)
        assert again.labels[k]["slice"] == k
    torch.testing.assert_close(again.noise, scan.noise, rtol=0, atol=0)
    torch.testing.assert_close(again.calibration, scan.calibration, rtol=0, atol=0)
    assert bool((again.sampled(1) == scan.sampled(1)).all()) and again.field_of_view == scan.field_of_view
    np.testing.assert_allclose(again.affine, scan.affine, atol=1e-4)  # float32 in the heads
    assert again.attributes["TE"] == 3.5 and again.recon_shape == (8, 6)


def test_lines_along_the_last_axis(tmp_path):
    """fastMRI's masks: the readout is the other axis, which both sides say."""
    y = torch.from_numpy(random(1, 2, NY, NX))
    mask = torch.arange(NX) % 3 == 0
    path = write_kspace(KSpace(y * mask, mask=mask), tmp_path / "scan.h5")
    again = read_kspace(path, readout=-2)
    torch.testing.assert_close(again[0], y[0] * mask, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"whole readouts.*npz"):
        write_kspace(KSpace(y, mask=torch.rand(NY, NX) < 0.5), tmp_path / "other.h5")
    assert not (tmp_path / "other.h5").exists() and len(list(tmp_path.iterdir())) == 1


def test_mrpro_sees_the_same_images(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mrpro = pytest.importorskip("mrpro")
        scan = scan_to_write()
        full = KSpace(scan.kspace, field_of_view=scan.field_of_view, labels=scan.labels, affine=scan.affine)
        path = write_kspace(full, tmp_path / "scan.h5")
        data = mrpro.data.KData.from_file(path, mrpro.data.traj_calculators.KTrajectoryCartesian())
        (images,) = mrpro.operators.FourierOp.from_kdata(data).H(data.data)
    for k in range(3):
        torch.testing.assert_close(
            images[k].squeeze(), Fourier((NY, NX)).adjoint(full[k]), rtol=1e-4, atol=1e-5
        )


def test_they_read_what_we_write(tmp_path):
    scan = scan_to_write()
    write_kspace(scan, tmp_path / "scan.h5")
    with ismrmrd.Dataset(str(tmp_path / "scan.h5"), "dataset", create_if_needed=False) as data:
        noise = 2  # 5000 samples in readouts of 4096 at most
        assert data.number_of_acquisitions() == noise + 3 * (3 + 6)
        last = data.read_acquisition(data.number_of_acquisitions() - 1)
        assert data.read_acquisition(0).isFlagSet(constants.ACQ_IS_NOISE_MEASUREMENT)
    np.testing.assert_array_equal(last.data, scan[2][:, 7])
    assert last.idx.slice == 2 and last.center_sample == NX // 2
