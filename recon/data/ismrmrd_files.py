"""ISMRMRD files (Inati et al., Magn. Reson. Med. 77, 2017): readouts sorted into k-space."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .hdf5 import dataset, import_h5py, member, names, opened, text
from .ismrmrd_grid import Grid, affine_of, sorted_lines
from .kspace import KSpace
from .mr_header import Encoding, Header, parse_header

NOISE, CALIBRATION, BOTH = 19, 20, 21
# navigators, phase correction, feedback, dummy scans, surface coil correction, phase stabilisation
OTHER = (23, 24, 26, 27, 28, 29, 30, 31)
IMAGE = ("repetition", "phase", "set", "contrast", "slice")  # counters that tell images apart, slowest first
UNITS = {"cycles": 2 * math.pi, "rad": 1.0}


def read_ismrmrd(
    path: str | Path,
    dataset_name: str | None = None,
    encoding: int | None = None,
    remove_oversampling: bool = False,
    readout: int = -1,
    trajectory_unit: str = "cycles",
    noise: str | Path | None = None,
) -> KSpace:
    """The readouts of an ISMRMRD file as k-space; images are its slices, contrasts, phases, repetitions.

    Cartesian: every readout goes to its row by kspace_encode_step_1 (and _2, of volumes), relative to the
    centre that the header's limits give, and to its columns by center_sample, so that partial Fourier and
    asymmetric echoes lie where they belong; what was never measured is outside `mask`. Readouts of one place
    are averaged. Reversed readouts are turned; noise scans come out as `noise`, scaled by dwell times and the
    header's relative noise bandwidth to the noise of one sample (and by the averages); calibration-only
    lines as `calibration`; navigators, phase correction and dummy scans are left out. Any other trajectory:
    samples and `trajectory`, readouts of an image in their order.

    The affine is that of the headers' position and directions; which way a scanner counts k-space is not in
    the file, so compare its orientation with the scanner's own images before you trust left and right.

    path : .h5 or .mrd
    dataset_name : group in the file; None takes "dataset", else the only one
    encoding : which encoding space, where the file has several
    remove_oversampling : crop the readout to the header's field of view of the reconstruction
    readout : axis that the readout gets, -1 (kx) or -2 (ky, as in fastMRI's files)
    trajectory_unit : of the file's trajectory, "cycles" per pixel (±0.5) or "rad" per pixel
    noise : another file, with the noise scan; Siemens scanners keep it in a measurement of its own

    Raises ValueError, naming the file, where it is damaged, claims more than it holds, points outside itself,
    or its readouts do not fit the header.
    """
    path = Path(path)
    if readout not in (-1, -2):
        raise ValueError(f"read_ismrmrd readout: expected -1 or -2, got {readout}")
    if trajectory_unit not in UNITS:
        raise ValueError(f"read_ismrmrd trajectory_unit: expected {list(UNITS)}, got {trajectory_unit!r}")
    with opened(path) as file:
        header, data, heads = _contents(path, _group(path, file, dataset_name))
        flags = heads["flags"]
        noise_at = np.flatnonzero(_flag(flags, NOISE))
        use = ~_flag(flags, NOISE, *OTHER)
        if not use.any():
            raise ValueError(f"{path}: no readouts of an image in it, only {noise_at.size} of noise")
        space, e = _encoding(path, header, heads[use]["encoding_space_ref"], encoding)
        use &= heads["encoding_space_ref"] == space
        only = _flag(flags, CALIBRATION) & ~_flag(flags, BOTH)
        imaging, calibrating = np.flatnonzero(use & ~only), np.flatnonzero(use & only)
        if not imaging.size:
            imaging, calibrating = calibrating, imaging  # all that there is
        coils = _coils(path, heads[imaging])
        dwell = float(heads[imaging[0]]["sample_time_us"])
        if noise is None:
            scan = _noise(path, data, heads, noise_at, dwell, coils, header)
        else:
            scan = _noise_of(Path(noise), dwell, coils)
        combos, which = _images(heads[imaging])
        about = _about(e, heads, imaging, combos, header, path)
        if e.trajectory != "cartesian":
            _refuse_cartesian_options(readout, remove_oversampling)
            k, y = _free(path, data, heads, imaging, which, len(combos), e, UNITS[trajectory_unit])
            return KSpace(y, trajectory=k, shape=_shape(e), noise=scan, **about)
        grid = Grid.of(path, e, heads[imaging], len(combos), coils)
        y, count = sorted_lines(grid, _blocks(path, data, heads, imaging), imaging, which)
        calibration = None
        if calibrating.size:
            known = {tuple(c): n for n, c in enumerate(combos)}
            also = np.array([known.get(tuple(c), -1) for c in _counters(heads[calibrating])])
            calibrating, also = calibrating[also >= 0], also[also >= 0]
            calibration, _ = sorted_lines(grid, _blocks(path, data, heads, calibrating), calibrating, also)
    return grid.finished(y, count, calibration, scan, remove_oversampling, readout, about)


def _group(path: Path, file: Any, name: str | None) -> Any:
    """The group of readouts."""
    h5py = import_h5py()
    if name is None:
        there = [n for n in names(file) if isinstance(file.get(n, getlink=True), h5py.HardLink)]
        groups = [n for n in there if isinstance(file[n], h5py.Group) and {"xml", "data"} <= set(file[n])]
        if "dataset" not in groups and len(groups) != 1:
            raise ValueError(
                f"{path}: expected one ISMRMRD group (xml, data), found {groups or 'none'} in {names(file)}; "
                "name it with dataset_name"
            )
        name = "dataset" if "dataset" in groups else groups[0]
    group = member(path, file, name)
    if not isinstance(group, h5py.Group):
        raise ValueError(f"{path}: no group {name!r}, found {names(file)}")
    return group


def _contents(path: Path, group: Any) -> tuple[Header, Any, Any]:
    """The header, the table of readouts, and their heads."""
    said = text(path, group, "xml")
    if said is None:
        raise ValueError(f"{path}: no dataset 'xml', the header of an ISMRMRD file")
    data = _acquisitions(path, group)
    heads = data.fields("head")[()]  # which leaves the samples in the file
    _check_sizes(path, heads)
    return parse_header(str(path), said), data, heads


def _acquisitions(path: Path, group: Any) -> Any:
    """The table of readouts, with the fields that are read."""
    h5py = import_h5py()
    data = dataset(path, group, "data")
    if data is None or data.ndim != 1 or not len(data):
        raise ValueError(f"{path}: no readouts in it (dataset 'data')")
    fields = data.dtype.names or ()
    inner = [h5py.check_vlen_dtype(data.dtype[n]) if n in fields else None for n in ("traj", "data")]
    wanted = {"flags", "idx", "number_of_samples", "active_channels", "center_sample", "sample_time_us"}
    heads = (data.dtype["head"].names or ()) if "head" in fields else ()
    if inner != [np.float32, np.float32] or not wanted <= set(heads):
        raise ValueError(f"{path}: 'data' is no table of ISMRMRD readouts, its type is {data.dtype}")
    return data


def _check_sizes(path: Path, heads: Any) -> None:
    """Readouts are not compressed: what they claim is in the file."""
    pairs = heads["number_of_samples"].astype(np.int64) * heads["active_channels"]
    claimed, held = 8 * int(pairs.sum()), path.stat().st_size
    if claimed > held:
        raise ValueError(f"{path}: its readouts claim {claimed} bytes, the file has {held}: truncated")
    if not pairs.all():
        raise ValueError(f"{path}: readout {int(np.argmin(pairs))} has no samples or no coils")


def _flag(flags: Any, *bits: int) -> NDArray[np.bool_]:
    wanted = np.uint64(sum(1 << (b - 1) for b in bits))
    return (flags & wanted) != 0


def _encoding(path: Path, header: Header, refs: Any, wanted: int | None) -> tuple[int, Encoding]:
    used = sorted({int(r) for r in refs})
    if wanted is None:
        if len(used) > 1:
            raise ValueError(f"{path}: readouts of the encoding spaces {used}; choose one by encoding=…")
        wanted = used[0] if used else 0
    if wanted not in used or not wanted < len(header.encodings):
        raise ValueError(
            f"{path}: no encoding space {wanted}; readouts have {used}, the header {len(header.encodings)}"
        )
    return wanted, header.encodings[wanted]


def _coils(path: Path, heads: Any) -> int:
    found = sorted({int(c) for c in heads["active_channels"]})
    if len(found) != 1:
        raise ValueError(f"{path}: readouts of {found} coils, expected always the same number")
    return found[0]


def _counters(heads: Any) -> NDArray[Any]:
    return np.stack([heads["idx"][n].astype(np.int64) for n in IMAGE], -1)


def _images(heads: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """The counters of every image, and which of them each readout belongs to."""
    combos, which = np.unique(_counters(heads), axis=0, return_inverse=True)
    return combos, which.reshape(-1)


def _about(e: Encoding, heads: Any, imaging: Any, combos: Any, header: Header, path: Path) -> dict[str, Any]:
    """What there is to say of a scan, whatever its trajectory."""
    fov = None if e.field_of_view is None else e.field_of_view[-len(_shape(e)) :]
    recon = None
    if e.recon_matrix is not None:
        recon = e.recon_matrix if len(_shape(e)) == 3 else e.recon_matrix[1:]
    affine, spacing = affine_of(e, heads[imaging], header)
    return {
        "field_of_view": fov,
        "recon_shape": recon,
        "affine": affine,
        "labels": tuple(dict(zip(IMAGE, map(int, c), strict=True)) for c in combos),
        "attributes": dict(header.attributes) | ({"slice_spacing_mm": spacing} if spacing else {}),
        "source": path,
    }


def _shape(e: Encoding) -> tuple[int, ...]:
    return e.matrix if e.matrix[0] > 1 else e.matrix[1:]


def _blocks(path: Path, data: Any, heads: Any, at: Any) -> Iterator[tuple[int, Any, NDArray[Any], Any]]:
    """(number, head, samples (coils, n), trajectory) of the readouts `at`, in order, a block in memory."""
    # every readout of a hostile file may name the same large one
    size = int(np.clip((1 << 33) // path.stat().st_size, 1, 256))
    for first in range(0, len(at), size):
        block = at[first : first + size]
        start, stop = int(block[0]), int(block[-1]) + 1
        near = stop - start <= 2 * size
        rows = data[start:stop][block - start] if near else [data[int(k)] for k in block]
        for k, row in zip(block, rows, strict=True):
            head = heads[k]
            coils, n = int(head["active_channels"]), int(head["number_of_samples"])
            values = np.asarray(row["data"])
            if values.size != 2 * coils * n:
                raise ValueError(
                    f"{path}: readout {k} has {values.size // 2} numbers, its head claims {coils} × {n}"
                )
            samples = np.ascontiguousarray(values).view(np.complex64).reshape(coils, n)
            yield int(k), head, samples, row["traj"]


def _noise(
    path: Path, data: Any, heads: Any, at: Any, here: float, coils: int, header: Header
) -> Tensor | None:
    """The noise scan (coils, samples), scaled to the bandwidth of the readouts."""
    at = at[heads[at]["active_channels"] == coils]
    if not at.size:
        return None
    parts = [samples for _, _, samples, _ in _blocks(path, data, heads, at)]
    there, factor = float(heads[at[0]]["sample_time_us"]), 1.0
    if there > 0 and here > 0:
        # variance goes with the bandwidth, 1/dwell; the noise scan's filter lets less than its band through
        factor = math.sqrt(there / here / (header.noise_bandwidth or 1.0))
    noise = torch.from_numpy(np.concatenate(parts, 1)) * factor
    if not bool(torch.isfinite(noise).all()):
        raise ValueError(f"{path}: NaN or inf in its noise scan")
    return noise


def _noise_of(path: Path, dwell: float, coils: int) -> Tensor:
    """The noise scan of another file."""
    with opened(path) as file:
        header, data, heads = _contents(path, _group(path, file, None))
        noise = _noise(path, data, heads, np.flatnonzero(_flag(heads["flags"], NOISE)), dwell, coils, header)
    if noise is None:
        raise ValueError(f"{path}: no noise scan of {coils} coils in it")
    return noise


def _refuse_cartesian_options(readout: int, remove_oversampling: bool) -> None:
    if readout != -1 or remove_oversampling:
        raise ValueError("read_ismrmrd: readout and remove_oversampling are for Cartesian scans")


def _free(
    path: Path, data: Any, heads: Any, at: Any, which: Any, images: int, e: Encoding, unit: float
) -> tuple[Tensor, Tensor]:
    """Trajectory (images, samples, 2|3) [rad per pixel], or (samples, 2|3) if shared, and samples."""
    ndim = len(_shape(e))
    y: list[list[Any]] = [[] for _ in range(images)]
    k: list[list[Any]] = [[] for _ in range(images)]
    for (n, head, samples, traj), image in zip(_blocks(path, data, heads, at), which, strict=True):
        have, length = int(head["trajectory_dimensions"]), int(head["number_of_samples"])
        if have < ndim or np.size(traj) != have * length:
            raise ValueError(
                f"{path}: readout {n} of a {e.trajectory} scan has a trajectory of {np.size(traj)} numbers, "
                f"expected {length} × {ndim} or more dimensions"
            )
        kept = slice(int(head["discard_pre"]), length - int(head["discard_post"]))
        # x first in the file, the last axis here
        k[image].append(np.asarray(traj).reshape(length, have)[kept, :ndim][:, ::-1] * unit)
        y[image].append(samples[:, kept])
    sizes = sorted({sum(len(part) for part in image) for image in k})
    if len(sizes) != 1:
        raise ValueError(f"{path}: images of {sizes} samples; expected as many in each")
    trajectory = torch.from_numpy(np.stack([np.concatenate(parts) for parts in k]).astype(np.float32))
    shared = bool((trajectory == trajectory[:1]).all())
    return (
        trajectory[0] if shared else trajectory,
        torch.from_numpy(np.stack([np.concatenate(parts, 1) for parts in y])),
    )
