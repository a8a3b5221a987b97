"""Fan-beam scans of laboratories: the Helsinki challenge's .mat files and the folders of 2DeteCT."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from operators import FanBeam

from .tiff import read_tiff
from .volumes import finite

STARVED = 1e-6  # of the open beam: the least that the logarithm sees


def read_htc(
    path: str | Path,
    image_shape: tuple[int, int] = (512, 512),
    pixel_size: float | None = None,
    clockwise: bool = False,
) -> tuple[FanBeam, Tensor]:
    """Geometry and line integrals (views, bins) of a Helsinki Tomography Challenge 2022 file.

    A MATLAB file (version 5 or 7) with a struct CtDataFull or CtDataLimited: `sinogram`, post-log, and
    `parameters` with angles [degrees], distanceSourceOrigin, distanceSourceDetector, pixelSizePost (or
    pixelSize) [mm] and numDetectorsPost (or numDetectors).

    image_shape, pixel_size : of the reconstruction [mm]; None takes the bin size at the centre
    clockwise : count the angles the other way round, which mirrors the image; the files do not say which way
        the object turned

    Raises ValueError, naming the file, where it is not such a file, is damaged, or does not fit together.
    """
    path = Path(path)
    values = _htc_fields(path)
    data = np.asarray(values["sinogram"])
    angles = np.deg2rad(np.atleast_1d(np.asarray(values["angles"], dtype=np.float64)))
    if data.ndim != 2 or data.dtype.kind not in "iuf" or data.shape[0] != angles.size:
        raise ValueError(
            f"{path}: a sinogram of shape {data.shape} ({data.dtype}) for {angles.size} angles; expected "
            "(angles, bins)"
        )
    bins = int(values["bins"])
    if bins != data.shape[1]:
        raise ValueError(f"{path}: {data.shape[1]} bins in the sinogram, but {bins} in the parameters")
    source, detector, bin_size = (float(values[k]) for k in ("source", "detector", "bin_size"))
    geometry = FanBeam(
        image_shape=image_shape,
        pixel_size=pixel_size or bin_size * source / detector,
        angles=tuple(-angles if clockwise else angles),
        n_bins=bins,
        bin_size=bin_size,
        source_to_centre=source,
        source_to_detector=detector,
    )
    return geometry, finite(str(path), torch.from_numpy(data.astype(np.float32)))


def read_2detect(
    folder: str | Path,
    image_shape: tuple[int, int] = (1024, 1024),
    pixel_size: float | None = None,
    shift: float | None = None,
) -> tuple[FanBeam, Tensor]:
    """Geometry and line integrals (3600, 956) of one slice and mode of 2DeteCT (Kiss et al., Sci. Data 2023).

    −log((sinogram − dark) / (mean of the flats − dark)), neighbouring detector pixels added before; the last
    of the 3601 views repeats the first and goes. The detector is read from its far end, so that the image
    lies as the data set's own reconstructions do.

    folder : …/sliceNNNNN/modeM with sinogram.tif, dark.tif, flat1.tif and flat2.tif
    image_shape, pixel_size : of the reconstruction [mm]; None covers the field of view
    shift : of the detector [mm]; None takes 0.0748 (a detector pixel) for slices 1–2830 and 5521–5870, which
        were scanned with the first detector, else 0, by the number in the folder's name

    Raises ValueError, naming the file, where files are missing, damaged or do not fit together.
    """
    folder = Path(folder)
    counts, dark, flat1, flat2 = (
        read_tiff(folder / f"{name}.tif")[0].double() for name in ("sinogram", "dark", "flat1", "flat2")
    )
    if counts.shape[0] < 2 or counts.shape[1] % 2:
        raise ValueError(f"{folder / 'sinogram.tif'}: expected (views + 1, 2 × bins), got {_by(counts)}")
    for name, field in (("dark", dark), ("flat1", flat1), ("flat2", flat2)):
        if field.shape[-1] != counts.shape[1]:
            raise ValueError(f"{folder / name}.tif: {_by(field)} for a sinogram of {_by(counts)}")
    dark, flat = dark.mean(0), (flat1.mean(0) + flat2.mean(0)) / 2
    views, bins = counts.shape[0] - 1, counts.shape[1] // 2
    added = [field.unflatten(-1, (bins, 2)).sum(-1) for field in (counts[:-1], dark, flat)]
    y = _post_log(folder, *added).flip(-1)
    bin_size, source, detector = 0.1496, 431.019989, 529.000488
    width = bins * bin_size * source / detector
    geometry = FanBeam(
        image_shape=image_shape,
        pixel_size=pixel_size or width / max(image_shape),
        angles=tuple(2 * math.pi * k / views for k in range(views)),
        n_bins=bins,
        bin_size=bin_size,
        source_to_centre=source,
        source_to_detector=detector,
        offset=_shift(folder) if shift is None else shift,
    )
    return geometry, y.float().contiguous()


def _post_log(folder: Path, counts: Tensor, dark: Tensor, flat: Tensor) -> Tensor:
    open_beam = flat - dark
    if not bool((open_beam > 0).all()):
        dead = int((open_beam <= 0).sum())
        raise ValueError(
            f"{folder}: {dead} of {open_beam.numel()} detector pixels have no light in the flats"
        )
    return -((counts - dark) / open_beam).clamp(min=STARVED).log()


def _shift(folder: Path) -> float:
    for part in reversed(folder.resolve().parts):
        if part.startswith("slice") and part[5:].isdigit():
            number = int(part[5:])
            return 0.0748 if number <= 2830 or 5521 <= number <= 5870 else 0.0
    raise ValueError(f"{folder}: no folder sliceNNNNN in its path; say shift=0.0748 or shift=0 [mm]")


def _htc_fields(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        content = loadmat(path, squeeze_me=True, struct_as_record=True)
    except NotImplementedError:
        raise ValueError(f"{path}: a MATLAB 7.3 file; save it with -v7 in MATLAB") from None
    except Exception as error:
        raise ValueError(f"{path}: not a MATLAB file, truncated or damaged ({error})") from error
    names = [n for n in ("CtDataFull", "CtDataLimited") if n in content]
    if not names:
        found = ", ".join(n for n in content if not n.startswith("__")) or "nothing"
        raise ValueError(f"{path}: expected CtDataFull or CtDataLimited, found {found}")
    scan = _struct(path, content[names[0]], names[0])
    parameters = _struct(path, scan.get("parameters"), f"{names[0]}.parameters")
    wanted = {
        "angles": ("angles",),
        "source": ("distanceSourceOrigin",),
        "detector": ("distanceSourceDetector",),
        "bin_size": ("pixelSizePost", "pixelSize"),
        "bins": ("numDetectorsPost", "numDetectors"),
    }
    values = {"sinogram": scan.get("sinogram")}
    for key, choices in wanted.items():
        values[key] = next((parameters[c] for c in choices if c in parameters), None)
        numbers = np.asarray(values[key])
        scalar = key != "angles"
        fine = values[key] is not None and numbers.dtype.kind in "iuf" and bool(np.isfinite(numbers).all())
        if not fine or (scalar and (numbers.size != 1 or numbers.item() <= 0)):
            raise ValueError(
                f"{path}: parameters.{' or '.join(choices)}: missing or unusable, got {values[key]}"
            )
    return values


def _struct(path: Path, value: Any, name: str) -> dict[str, Any]:
    """A MATLAB struct of one element, as a dictionary."""
    array = np.asarray(value)
    if array.dtype.names is None or array.size != 1:
        raise ValueError(f"{path}: {name} is not a struct")
    record = array.reshape(())[()]
    return {field: _plain(record[field]) for field in array.dtype.names}


def _plain(value: Any) -> Any:
    return (
        value.item()
        if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.names is None
        else value
    )


def _by(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape))
