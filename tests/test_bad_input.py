"""What must raise, clearly: one table, every row a mistake people make and words its message must hold."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file

from operators import (
    ConeBeam,
    FanBeam,
    Fourier,
    Gaussian,
    Gradient,
    LowDose,
    ParallelBeam,
    Poisson,
    XRay,
    fbp,
    fdk,
    insert_dose_into_image,
    normalise,
    photons_per_ray,
)
from priors import L21, TV, WaveletL1
from recon import CGLS, METHODS, Problem, TotalVariation, psnr
from recon.data import axial, read_dicom, simulate, write_nifti

GEOMETRY = ParallelBeam((8, 8), 1.0, [0.1, 1.0, 2.0], 13, 1.0)
A = XRay(GEOMETRY)
CONE = ConeBeam((2, 8, 8), 1.0, [0.0, 1.0], (3, 9), 1.0, 50.0, 90.0)
IMAGE, DATA = torch.ones(8, 8), torch.ones(3, 13)
NAN = DATA.clone().index_fill_(0, torch.tensor([1]), torch.nan)


def fan(**changes: object) -> FanBeam:
    values = {
        "image_shape": (8, 8), "pixel_size": 1.0, "angles": [0.0, 1.0], "n_bins": 13, "bin_size": 1.0,
        "source_to_centre": 50.0, "source_to_detector": 90.0,
    }  # fmt: skip
    return FanBeam(**(values | changes))


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "image of another shape": (lambda: A(torch.ones(8, 9)), r"expects shape \(\*batch, 8, 8\), got \(8, 9\)"),
    "data of another shape": (lambda: A.adjoint(IMAGE), r"expects shape \(\*batch, 3, 13\), got \(8, 8\)"),
    "data without their last dimension": (lambda: A.adjoint(torch.ones(13)), r"expects shape .*got \(13,\)"),
    "complex image where real": (lambda: A(IMAGE + 0j), "complex"),
    "integer image": (lambda: A(IMAGE.long()), "floating-point.*int64"),
    "numpy image": (lambda: A(IMAGE.numpy()), "torch.Tensor.*ndarray"),
    "operators that do not fit": (lambda: A @ A, "cannot compose"),
    "a sum of different operators": (lambda: A + Gradient((8, 8)), "cannot add"),
    "unknown backend": (lambda: XRay(GEOMETRY, backend="numbra"), "numba"),
    "NaN in data": (lambda: Problem(A, NAN, Gaussian(1.0)), "NaN"),
    "inf in data": (lambda: Problem(A, DATA / 0, Gaussian(1.0)), "inf"),
    "NaN in fbp": (lambda: fbp(A, NAN), "NaN"),
    "NaN in an image to simulate": (
        lambda: simulate(torch.full((16, 16), torch.nan), GEOMETRY, Gaussian(1.0)),
        "NaN",
    ),
    "integer image to simulate": (
        lambda: simulate(torch.ones(16, 16).int(), GEOMETRY, Gaussian(1.0)),
        "int32",
    ),
    "an image on the grid of the reconstruction": (
        lambda: simulate(IMAGE, GEOMETRY, Gaussian(1.0)),
        "inverse_crime",
    ),
    "HU where attenuation": (
        lambda: simulate(torch.full((16, 16), -1000.0), GEOMETRY, LowDose(1e4)),
        "attenuation",
    ),
    "zero photons": (lambda: LowDose(i0=0.0), "i0.*positive"),
    "negative photons": (lambda: LowDose(i0=-1e5), "i0.*positive"),
    "photons per ray with a hole": (lambda: LowDose(i0=torch.tensor([1e4, 0.0])), "i0.*positive"),
    "negative electronic noise": (lambda: LowDose(1e4, electronic_sigma=-1.0), "electronic_sigma"),
    "negative counts without electronic noise": (
        lambda: Problem(A, -DATA, LowDose(1e4)),
        "negative",
    ),
    "negative counts in emission": (lambda: Problem(A, -DATA, Poisson()), "negative"),
    "no noise level": (lambda: Gaussian(), "sigma"),
    "source inside the object": (lambda: fan(source_to_centre=5.0), "inside"),
    "detector before the centre": (lambda: fan(source_to_detector=40.0), "source_to_detector"),
    "a third kind of detector": (lambda: fan(detector="round"), "'flat' or 'arc'"),
    "zero bins": (lambda: fan(n_bins=0), "n_bins"),
    "half a bin": (lambda: fan(n_bins=13.5), "n_bins"),
    "no angles": (lambda: fan(angles=[]), "angles"),
    "angles with NaN": (lambda: fan(angles=[0.0, float("nan")]), "angles"),
    "negative pixel": (lambda: fan(pixel_size=-1.0), "pixel_size"),
    "image shape of three": (lambda: fan(image_shape=(8, 8, 8)), "image_shape"),
    "unknown filter": (lambda: fbp(A, DATA, filter="ramlak"), "ram-lak"),
    "frequency scaling beyond Nyquist": (lambda: fbp(A, DATA, frequency_scaling=1.5), "frequency_scaling"),
    "fbp without a geometry": (lambda: fbp(Fourier((8, 8)), DATA), "geometry"),
    "negative weight": (lambda: -1.0 * TV((8, 8)), "positive"),
    "a functional on another space": (lambda: L21() @ A, "cannot compose"),
    "negative regularisation": (lambda: TotalVariation(weight=-1.0)(_problem()), "weight"),
    "no iterations": (lambda: CGLS(iterations=-1)(_problem()), "iterations"),
    "PSNR without a range": (lambda: psnr(IMAGE, IMAGE, data_range=None), "data_range"),
    "photons of an operator": (lambda: photons_per_ray(A, 1.0, 1.0), "geometry: expected a scanner geometry"),
    "one slice of a slab": (lambda: fdk(CONE, torch.ones(2, 3, 9), slab=1), "slab: expected 0 ≤ start"),
    "numpy readings": (lambda: normalise(DATA.numpy(), DATA[0], DATA[0]), "normalise raw: expected a tensor"),
    "a geometry to insert noise with": (
        lambda: insert_dose_into_image(IMAGE, GEOMETRY, LowDose(1e4), 0.5),
        "A: expected an operator",
    ),
    "NIfTI without a place": (lambda: write_nifti(IMAGE[None], "never.nii"), "expected a Volume"),
    "one spacing for three": (lambda: axial(IMAGE, 2.0), "expected three positive lengths"),
    "a volume of nothing": (lambda: axial(torch.ones(0, 8, 8), (1.0, 1.0, 1.0)), "Volume hu: expected"),
    "wavelets of a line": (lambda: WaveletL1((8,)), "WaveletL1 shape: expected"),
    "unknown method": (lambda: METHODS["totl-variation"], "total-variation"),
}


def _problem() -> Problem:
    return Problem(A, A(IMAGE), Gaussian(0.1))


@pytest.mark.parametrize("name", MISTAKES)
def test_raises(name: str) -> None:
    act, words = MISTAKES[name]
    with pytest.raises((ValueError, KeyError), match=words):
        act()


def test_truncated_dicom(tmp_path: Path) -> None:
    cut = tmp_path / "cut.dcm"
    whole = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.dcm"):
        read_dicom(cut)


def test_dicom_without_pixels(tmp_path: Path) -> None:
    data = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    del data.PixelData
    data.save_as(tmp_path / "empty.dcm")
    with pytest.raises(ValueError, match=r"empty\.dcm.*pixel"):
        read_dicom(tmp_path / "empty.dcm")


def test_not_a_dicom(tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("not a scan")
    with pytest.raises(ValueError, match=r"text\.dcm"):
        read_dicom(tmp_path / "text.dcm")


def test_degrees_are_noticed():
    with pytest.warns(UserWarning, match=r"look like degrees: numpy\.deg2rad"):
        fan(angles=[3.0 * k for k in range(120)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fan(angles=[0.0, 1.0, 2.0])  # three radians may be meant
        fan(angles=[2.39996 * k for k in range(20)])  # golden angles run on


def test_modules_are_there_without_an_import_of_their_own():
    import recon

    assert recon.data.__name__ == "recon.data" and not hasattr(recon, "no_such_module")
