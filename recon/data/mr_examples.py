"""A real MR image that comes with a pip package, for a quick look."""

from __future__ import annotations

import torch
from torch import Tensor

from .dicom import read_dicom

PERCENTILE = 99.9


def example_mr() -> tuple[Tensor, float]:
    """A real abdominal MR slice that comes with pydicom: magnitude, (300, 484), float32; and its pixel [mm].

    Liver, kidneys and spleen, 12 bit, pixels of 0.723 mm, scaled such that its 99.9th percentile is 1 (the
    maximum is 1.37). The file is `examples_overlay.dcm` of pydicom's tests (MIT). A magnitude without phase,
    as the scanner exported it, not k-space: what is made of it flatters every method, see `simulate_mri`.
    """
    from pydicom.data import get_testdata_file

    found = get_testdata_file("examples_overlay.dcm", download=False)
    if found is None:
        raise ValueError("example_mr: this pydicom has no examples_overlay.dcm; install pydicom>=3")
    image = read_dicom(str(found))
    bright = torch.quantile(image.hu.double().flatten(), PERCENTILE / 100)
    return (image.hu / bright).float(), image.pixel_size
