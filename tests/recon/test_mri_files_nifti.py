"""Complex images in NIfTI files."""

import numpy as np
import pytest
import torch

from recon.data import KSpace, read_nifti, write_nifti

nibabel = pytest.importorskip("nibabel", reason="the `formats` extra")


def volume():
    scan = KSpace(torch.randn(2, 1, 5, 6, dtype=torch.complex64), field_of_view=(10.0, 18.0))
    generator = torch.Generator().manual_seed(0)
    return scan.volume(torch.randn(2, 5, 6, dtype=torch.complex64, generator=generator))


def test_phase_and_place_survive(tmp_path):
    path = write_nifti(volume(), tmp_path / "x.nii.gz", "complex64")
    again = read_nifti(path, complex_values=True)
    torch.testing.assert_close(again.hu, volume().hu, rtol=0, atol=0)
    np.testing.assert_allclose(again.affine, volume().affine, atol=1e-5)
    assert again.spacing == pytest.approx((1, 2, 3))


def test_as_others_see_it(tmp_path):
    image = nibabel.load(write_nifti(volume(), tmp_path / "x.nii", "complex64"))
    assert image.get_data_dtype() == np.complex64
    np.testing.assert_array_equal(np.asarray(image.dataobj), volume().hu.permute(2, 1, 0))


def test_the_phase_is_not_lost_by_accident(tmp_path):
    with pytest.raises(ValueError, match="complex values do not fit float32"):
        write_nifti(volume(), tmp_path / "x.nii")
    path = write_nifti(volume(), tmp_path / "x.nii", "complex64")
    with pytest.raises(ValueError, match=r"x\.nii: expected real numbers, got complex64"):
        read_nifti(path)
