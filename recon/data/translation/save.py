"""Translated images as the kind of file that they came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...comparison.files import replaced, write_image
from ..nifti import write_nifti
from ..volumes import Volume, finite
from .pictures import Picture, suffix_of


def save(picture: Picture, values: Tensor, path: Path, unit: str = "") -> float:
    """`values` (nz, ny, nx) as `path`, of the kind of file of `picture`; it appears whole or not at all.

    NIfTI, TIFF, .npy, .npz and text hold float32 values as they are, NIfTI with the source's affine. PNG and
    JPEG hold grey values of 8 bits, PNG of 16 where the source had them: values are rounded, and clipped to
    what they hold.

    unit : of the values; HU do not fit PNG and JPEG

    Returns the part of the values that was clipped.
    """
    finite(str(path), values)
    values = values.detach().cpu().float()
    kind, suffix = picture.kind, suffix_of(path)
    if kind == "nifti":
        assert picture.affine is not None
        write_nifti(Volume(values, picture.affine), path)
        return 0.0
    content = (values if picture.volume else values[0]).numpy()
    if kind == "raster":
        return _raster(picture, values[0], path, unit)
    if suffix == ".npz":
        write_image(path, content)
        return 0.0
    with replaced(path) as beside:
        if kind == "tiff":
            import tifffile

            tifffile.imwrite(beside, content, photometric="minisblack")
        elif kind == "array":
            with beside.open("wb") as file:
                np.save(file, content, allow_pickle=False)
        elif kind == "text":
            np.savetxt(beside, content, fmt="%.7g", delimiter="," if suffix == ".csv" else "\t")
        else:
            raise ValueError(f"{path}: cannot be written as {kind}")
    return 0.0


def _raster(picture: Picture, values: Tensor, path: Path, unit: str) -> float:
    from PIL import Image

    if unit == "HU":
        raise ValueError(
            f"{path}: the translation gives HU, which {suffix_of(path)} cannot hold; store the input as "
            ".npy, NIfTI or DICOM"
        )
    deep = picture.bits != 8
    most = 65535 if deep else 255
    grey = torch.round(values).clamp(0, most).numpy().astype(np.uint16 if deep else np.uint8)
    with replaced(path) as beside:
        if suffix_of(path) == ".png":
            Image.fromarray(grey).save(beside)
        else:
            Image.fromarray(grey).save(beside, quality=95)
    return float(((values < 0) | (values > most)).double().mean())
