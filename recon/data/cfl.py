"""BART's files: NAME.hdr with dimensions in text, NAME.cfl with complex64 in column-major order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .kspace import KSpace, Stored

# BART's dimensions 4 … 15, those of images after readout, two phases and coils
OTHERS = (
    "maps",
    "te",
    "coeff",
    "coeff2",
    "iter",
    "cshift",
    "time",
    "time2",
    "level",
    "slice",
    "avg",
    "batch",
)
COIL, MAPS = 3, 4
LABELS = {"te": "contrast", "time": "phase", "time2": "repetition"}


def read_cfl(path: str | Path) -> Tensor:
    """The array of NAME.cfl in BART's order (readout, phase1, phase2, coil, maps, …), complex64.

    path : with or without .cfl or .hdr. Trailing dimensions of 1 are left out.

    Raises ValueError, naming the file, where the header is not one, or the data are shorter or longer.
    """
    dims, values = _mapped(path)
    kept = max((k + 1 for k, n in enumerate(dims) if n > 1), default=1)
    return torch.from_numpy(np.array(values.reshape(dims[:kept], order="F")))


def write_cfl(array: Tensor, path: str | Path) -> Path:
    """An array in BART's order of dimensions as NAME.cfl and NAME.hdr, each whole or not at all.

    path : with or without .cfl or .hdr
    """
    from ..comparison.files import replaced

    stem = _stem(path)
    if not isinstance(array, Tensor) or not array.numel():
        raise ValueError(f"write_cfl array: expected a tensor with values, got {array!r:.80}")
    if array.ndim > 16:
        raise ValueError(f"write_cfl array: BART has 16 dimensions, got {array.ndim}")
    dims = (*array.shape, *(1,) * (16 - array.ndim))
    values = array.detach().cpu().to(torch.complex64).numpy()
    with replaced(_beside(stem, ".cfl")) as beside:
        values.ravel(order="F").tofile(beside)
    with replaced(_beside(stem, ".hdr")) as beside:
        beside.write_text("# Dimensions\n" + " ".join(map(str, dims)) + "\n", encoding="ascii")
    return _beside(stem, ".cfl")


def from_bart(array: Tensor) -> Tensor:
    """BART's order to ours, and (others, coils, [nz,] ny, nx): its readout is our x, phase1 y, phase2 z.

    Coils stay if they are one; of readout and phases those of size 1 go while two remain (BART's own phantoms
    use the first two, its undersampled scans often the last two). Others, slowest first, stay if more than 1.
    """
    array = array.reshape(*array.shape, *(1,) * (16 - array.ndim)).permute(*reversed(range(16)))
    others = [n for n in array.shape[: 15 - COIL] if n > 1]
    return array.reshape(*others, array.shape[15 - COIL], *_spatial(tuple(array.shape[:12:-1])))


def to_bart(array: Tensor, ndim: int = 2, dimension: str = "slice") -> Tensor:
    """Ours (images, coils, [nz,] ny, nx), or without images, in BART's order; images along `dimension`.

    array : k-space, coil images or maps
    ndim : how many dimensions are spatial
    dimension : of maps, te, coeff, …, time, slice, avg, batch
    """
    if dimension not in OTHERS:
        raise ValueError(f"to_bart dimension: expected one of {list(OTHERS)}, got {dimension!r}")
    if array.ndim - ndim not in (1, 2):
        raise ValueError(f"to_bart array: expected ([images,] coils, …{ndim} axes), got {tuple(array.shape)}")
    array = array if array.ndim - ndim == 2 else array[None]
    spatial = tuple(reversed(array.shape[2:]))
    full = [*spatial, *(1,) * (3 - ndim), array.shape[1], *(1,) * len(OTHERS)]
    full[MAPS + OTHERS.index(dimension)] = len(array)
    return array.permute(*reversed(range(array.ndim))).reshape(full)


def read_bart(
    path: str | Path, trajectory: str | Path | None = None, shape: tuple[int, ...] | None = None
) -> KSpace:
    """A k-space of BART, centred and unitary as of `bart fft -u`; images are its dimensions above coils.

    What is zero in every coil was not measured, as BART takes it.

    trajectory : of non-Cartesian k-space (1, samples, spokes, coils), another file, (3, samples, spokes) in
        cycles per field of view, as of `bart traj`
    shape : of the image, ([nz,] ny, nx), which such files do not say

    Raises ValueError where the file is damaged, all zero or NaN, holds several sets of maps, or does not fit
    its trajectory.
    """
    path = Path(path)
    dims, _ = _mapped(path)
    if dims[MAPS] != 1:
        raise ValueError(f"{path}: {dims[MAPS]} sets of maps: not k-space; use read_cfl")
    if trajectory is not None:
        return _non_cartesian(path, dims, trajectory, shape)
    stored = Stored(*_images(path, dims, _spatial(dims[:3])))
    return KSpace(stored, mask=measured(stored, path), labels=_labels(dims), source=path)


def _non_cartesian(
    path: Path, dims: tuple[int, ...], trajectory: str | Path, shape: tuple[int, ...] | None
) -> KSpace:
    if shape is None or len(shape) not in (2, 3):
        raise ValueError(f"{path}: shape: expected ([nz,] ny, nx) of the image, got {shape}")
    k = read_cfl(trajectory)
    if k.shape[0] != 3 or k.ndim > 3 or (*k.shape[1:], 1)[:2] != dims[1:3] or dims[0] != 1:
        raise ValueError(
            f"{trajectory}: {tuple(k.shape)} for k-space {dims[:4]}; expected (3, samples, spokes) and (1, "
            "samples, spokes, coils)"
        )
    components = k.real.permute(*reversed(range(1, k.ndim)), 0).reshape(-1, 3)[:, : len(shape)].flip(-1)
    pixels = torch.tensor(shape, dtype=torch.float32)
    stored = Stored(*_images(path, dims, (dims[1] * dims[2],)))
    return KSpace(
        stored, trajectory=2 * math.pi * components / pixels, shape=shape, labels=_labels(dims), source=path
    )


def _images(path: Path, dims: tuple[int, ...], spatial: tuple[int, ...]) -> tuple[tuple[int, ...], _Image]:
    one = (dims[COIL], *spatial)
    return (math.prod(dims[MAPS:]), *one), _Image(path, one)


def _labels(dims: tuple[int, ...]) -> tuple[dict[str, int], ...]:
    """Where every image lies in BART's dimensions above coils, the first of them fastest."""
    place = np.indices(dims[: MAPS - 1 : -1]).reshape(len(OTHERS), -1)[::-1]
    used = [k for k, n in enumerate(dims[MAPS:]) if n > 1]
    names = [LABELS.get(OTHERS[k], OTHERS[k]) for k in used]
    images = math.prod(dims[MAPS:])
    return tuple({n: int(place[k, i]) for n, k in zip(names, used, strict=True)} for i in range(images))


def measured(stored: Stored | Tensor, path: Path) -> Tensor | None:
    """Where some coil is not zero, (images, [kz,] ky, kx) or smaller; None: everywhere."""
    from .ismrmrd_grid import smallest

    mask = torch.stack([(stored[k] != 0).any(0) for k in range(len(stored))])
    if not bool(mask.any()):
        raise ValueError(f"{path}: its k-space is zero everywhere")
    return smallest(mask)


@dataclass(frozen=True)
class _Image:
    """One image of a .cfl file."""

    path: Path
    shape: tuple[int, ...]

    def __call__(self, k: int) -> Tensor:
        _, values = _mapped(self.path)
        n = math.prod(self.shape)
        if (k + 1) * n > len(values):
            raise ValueError(f"{self.path}: has changed since it was opened")
        return torch.from_numpy(np.array(values[k * n : (k + 1) * n]).reshape(self.shape))


def _mapped(path: str | Path) -> tuple[tuple[int, ...], NDArray[np.complex64]]:
    """Sixteen dimensions and the values, mapped into memory, column-major."""
    stem = _stem(path)
    header, data = _beside(stem, ".hdr"), _beside(stem, ".cfl")
    for file in (header, data):
        if not file.is_file():
            raise ValueError(f"{file}: there is no such file; BART keeps NAME.hdr beside NAME.cfl")
    dims = _dimensions(header)
    need, held = 8 * math.prod(dims), data.stat().st_size
    if need != held:
        raise ValueError(f"{data}: {held} bytes, its header {dims} says {need}: truncated, or not its header")
    return dims, np.memmap(data, dtype="<c8", mode="r")


def _dimensions(header: Path) -> tuple[int, ...]:
    with header.open("rb") as file:
        lines = file.read(1 << 16).decode("ascii", errors="replace").splitlines()
    for n, line in enumerate(lines[:-1]):
        if line.strip() == "# Dimensions":
            words = lines[n + 1].split()
            if words and all(w.isdecimal() and 0 < int(w) < 1 << 31 for w in words) and len(words) <= 16:
                return (*map(int, words), *(1,) * (16 - len(words)))
            raise ValueError(f"{header}: expected up to 16 positive dimensions, got {lines[n + 1][:80]!r}")
    raise ValueError(f"{header}: no line '# Dimensions', so no header of BART")


def _spatial(dims: Sequence[int]) -> tuple[int, ...]:
    """([nz,] ny, nx) of (readout, phase1, phase2)."""
    kept = [int(n) for n in dims]
    while len(kept) > 2 and 1 in kept:
        # from the far end: (x, y, 1) is (x, y), (1, y, z) is (y, z), (x, 1, 1) is (x, 1)
        kept.pop(len(kept) - 1 - kept[::-1].index(1))
    return tuple(reversed(kept))


def _stem(path: str | Path) -> Path:
    path = Path(path)
    return path.with_suffix("") if path.suffix in (".cfl", ".hdr") else path


def _beside(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)
