"""HDF5 files of strangers: nothing outside the file is followed, nothing claimed is believed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALL = 1 << 26  # bytes that anybody may claim
SHORTENED = 200  # k-space hardly shrinks; zeros of undersampling shrink, but not further than this


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, open to read; whatever HDF5 says of a damaged one becomes a ValueError that names it."""
    h5py = import_h5py()
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except ValueError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise ValueError(f"{path}: damaged ({error})") from error
    except (OSError, RuntimeError, KeyError, TypeError, MemoryError, UnicodeError) as error:
        raise ValueError(f"{path}: not an HDF5 file, truncated or damaged ({error})") from error


def names(group: Any) -> list[str]:
    """What is directly in a group, links out of the file included."""
    return sorted(str(name) for name in group)


def member(path: Path, group: Any, name: str) -> Any:
    """group[name], if it lies in this file; None if there is none of that name."""
    h5py = import_h5py()
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        kind = "an external link" if isinstance(link, h5py.ExternalLink) else "a soft link"
        raise ValueError(f"{path}: {name!r} is {kind}; links are not followed, copy the data into the file")
    return group[name]


def dataset(path: Path, group: Any, name: str) -> Any:
    """A dataset that holds its own numbers, not more than the file can hold; None if there is none."""
    h5py = import_h5py()
    found = member(path, group, name)
    if found is None:
        return None
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise ValueError(f"{path}: {name!r} is not an array of numbers")
    if found.is_virtual or found.external:
        raise ValueError(f"{path}: {name!r} keeps its values in other files, which are not opened")
    if refers(found.dtype):
        raise ValueError(f"{path}: {name!r} holds references ({found.dtype}), expected numbers")
    claimed = math.prod(found.shape) * found.dtype.itemsize
    held = min(found.id.get_storage_size(), path.stat().st_size)
    if claimed > max(SMALL, SHORTENED * held) or (claimed and not held):
        raise ValueError(
            f"{path}: {name!r} claims {claimed} bytes {found.shape}, its file holds {held} of it: truncated "
            "or hostile"
        )
    return found


def refers(dtype: Any) -> bool:
    """Whether some field is a reference to an object or a region."""
    h5py = import_h5py()
    if dtype.names:
        return any(refers(dtype[n]) for n in dtype.names)
    if dtype.subdtype:
        return refers(dtype.subdtype[0])
    inner = h5py.check_vlen_dtype(dtype)
    return refers(inner) if isinstance(inner, np.dtype) else h5py.check_ref_dtype(dtype) is not None


def complex_numbers(where: str, values: Any) -> NDArray[np.complex64]:
    """complex64 of complex values, of (real, imag) pairs by name, whatever their precision."""
    kind = is_complex(values.dtype)
    if kind is None:
        raise ValueError(f"{where}: expected complex numbers, got {values.dtype}; k-space is complex")
    if kind:
        out = np.empty(values.shape, dtype=np.complex64)
        with np.errstate(all="ignore"):  # what is too large becomes inf, which is told later
            out.real, out.imag = values[kind[0]], values[kind[1]]
        return out
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(values, dtype=np.complex64)


def is_complex(dtype: Any) -> tuple[str, ...] | None:
    """() for complex numbers, the names of the parts for pairs, None for anything else."""
    if dtype.kind == "c":
        return ()
    fields = dtype.names or ()
    for pair in (("r", "i"), ("real", "imag"), ("re", "im")):
        if set(fields) == set(pair) and all(dtype[n].kind == "f" for n in pair):
            return pair
    return None


def text(path: Path, group: Any, name: str, most: int = 1 << 22) -> str | None:
    """A string kept as a scalar or as one element."""
    found = dataset(path, group, name)
    if found is None:
        return None
    if math.prod(found.shape) != 1 or found.dtype.kind not in "OS":
        raise ValueError(f"{path}: {name!r}: expected one string, got {found.dtype} {found.shape}")
    value = found[()] if found.shape == () else found[(0,) * len(found.shape)]
    raw = value.encode() if isinstance(value, str) else bytes(value)
    if len(raw) > most:
        raise ValueError(f"{path}: {name!r} has {len(raw)} bytes, more than {most}")
    try:
        return raw.decode("utf-8").rstrip("\0")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {name!r} is not text in UTF-8 ({error})") from None


def import_h5py() -> Any:
    """h5py, or an ImportError that says how to get it."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError("HDF5 k-space needs h5py: pip install 'hybrid-recon[mri]'") from error
    return h5py
