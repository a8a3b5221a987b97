"""K-space in NumPy files: .npz with named arrays, .npy with k-space alone."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from .cfl import measured
from .hdf5 import SHORTENED, SMALL
from .kspace import KSpace

ARRAYS = ("mask", "trajectory", "noise", "maps", "calibration", "affine", "whitening")
WRITTEN = "about"


def read_kspace_npz(path: str | Path, ndim: int = 2) -> KSpace:
    """K-space from a .npz file: `kspace`, and what there is of mask, maps, noise, trajectory, reference.

    kspace is (images, coils, [kz,] ky, kx), (coils, ky, kx) or (ky, kx), centred and orthonormal. Without a
    mask what is zero in every coil was not measured. Strings of the file (licence, source, note) become
    attributes. A .npy file holds k-space alone.

    ndim : how many dimensions are spatial, where the file does not say: 3 takes (coils, kz, ky, kx)

    Raises ValueError, naming the file, where it is damaged, pickled, claims more than it can hold, has no
    complex `kspace`, or its arrays do not fit together.
    """
    path = Path(path)
    values = _arrays(path)
    if "kspace" not in values:
        raise ValueError(f"{path}: no array 'kspace', found {sorted(values)}")
    about = _about(path, values)
    data = values["kspace"]
    if not data.is_complex():
        raise ValueError(f"{path}: kspace: expected complex numbers, got {data.dtype}")
    free = "trajectory" in values
    spatial = 1 if free else int(about.get("ndim", ndim))
    if data.ndim == spatial and not free:
        data = data[None]
    if data.ndim == spatial + 1:
        data = data[None]
    mask = values.get("mask")
    if mask is not None and mask.dtype != torch.bool:
        if mask.is_complex() or not bool(torch.isfinite(mask.double()).all()):
            raise ValueError(f"{path}: mask: expected bool or finite numbers, got {mask.dtype}")
        mask = mask != 0
    references = {n.removeprefix("reference."): v for n, v in values.items() if n.startswith("reference.")}
    if "reference" in values:
        references["reference"] = values["reference"]
    scan = KSpace(
        kspace=data,
        mask=measured(data, path) if mask is None and not free else mask,
        trajectory=values.get("trajectory"),
        shape=_tuple(about.get("shape")),
        noise=_complex64(values.get("noise")),
        maps=_complex64(values.get("maps")),
        calibration=_complex64(values.get("calibration")),
        references=references,
        field_of_view=_tuple(about.get("field_of_view")),
        recon_shape=_tuple(about.get("recon_shape")),
        affine=values["affine"].double().numpy() if "affine" in values else None,
        whitening=values.get("whitening"),
        labels=tuple(about.get("labels", ())),
        attributes=about.get("attributes", {}),
        source=path,
    )
    return scan


def write_kspace_npz(scan: KSpace, path: Path) -> None:
    """The file at `path`, which is written straight away; `write_kspace` replaces files in one step."""
    arrays: dict[str, Any] = {"kspace": torch.stack([scan[k] for k in range(len(scan))]).numpy()}
    for name in ARRAYS:
        value = getattr(scan, name)
        if value is not None:
            arrays[name] = value.numpy() if isinstance(value, Tensor) else value
    for kind, images in scan.references.items():
        arrays[f"reference.{kind}"] = torch.stack([images[k] for k in range(len(images))]).numpy()
    about = {
        "ndim": len(scan.grid),
        "shape": scan.grid,
        "field_of_view": scan.field_of_view,
        "recon_shape": scan.recon_shape,
        "labels": [dict(label) for label in scan.labels],
        "attributes": dict(scan.attributes),
    }
    arrays[WRITTEN] = np.array(json.dumps(about))
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _arrays(path: Path) -> dict[str, Any]:
    """Tensors and strings of the file; nothing is unpickled, nothing allocated that the file cannot hold."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    found: dict[str, Any] = {}
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                shape, dtype = _header(file)
                _check(path, "kspace", shape, dtype, path.stat().st_size, 1)
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            return {"kspace": torch.from_numpy(np.array(mapped))}
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                with archive.open(info) as member:
                    shape, dtype = _header(member)
                _check(path, name, shape, dtype, info.compress_size, SHORTENED)
                with archive.open(info) as member:
                    found[name] = _value(path, name, npy.read_array(member, allow_pickle=False))
    except ValueError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise ValueError(f"{path}: not a whole NumPy file of numbers ({error})") from None
    except (OSError, EOFError, KeyError, MemoryError, RecursionError, zipfile.BadZipFile, SyntaxError,
            NotImplementedError, AttributeError, TypeError, RuntimeError) as error:  # fmt: skip
        raise ValueError(f"{path}: not a whole NumPy file of numbers ({error})") from None
    return found


def _header(file: Any) -> tuple[tuple[int, ...], Any]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _check(path: Path, name: str, shape: tuple[int, ...], dtype: Any, held: int, shortened: int) -> None:
    if dtype.hasobject:
        raise ValueError(f"{path}: {name}: pickled objects, which are not opened")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > (held if shortened == 1 else max(SMALL, shortened * held)):
        raise ValueError(f"{path}: {name} claims {claimed} bytes {shape}, the file holds {held} of it")


def _value(path: Path, name: str, value: Any) -> Any:
    if value.dtype.kind == "U":
        return str(value) if value.ndim == 0 else [str(v) for v in value.ravel()]
    if value.dtype.kind not in "biufc":
        raise ValueError(f"{path}: {name}: expected numbers, got {value.dtype}")
    if name == "kspace" and value.dtype.kind == "c":
        with np.errstate(all="ignore"):
            value = value.astype(np.complex64, copy=False)
    if value.dtype.kind in "fc" and not np.isfinite(value).all():
        raise ValueError(f"{path}: NaN or inf in {name}")
    return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))


def _about(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """What our own files say in JSON; of others their strings."""
    said = values.get(WRITTEN)
    if not isinstance(said, str):
        return {"attributes": {k: v for k, v in values.items() if isinstance(v, str)}}
    try:
        about = json.loads(said)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: {WRITTEN} is not JSON ({error})") from None
    kinds = {"ndim": int, "labels": list, "attributes": dict}
    if not isinstance(about, dict) or any(not isinstance(about.get(k), t) for k, t in kinds.items()):
        raise ValueError(f"{path}: {WRITTEN} does not describe a scan")
    return about


def _tuple(values: Any) -> Any:
    return None if values is None else tuple(values)


def _complex64(values: Tensor | None) -> Tensor | None:
    return values if values is None or not values.is_complex() else values.to(torch.complex64)
