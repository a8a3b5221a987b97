"""Density compensation: how much of k-space each sample of a trajectory stands for.

Weights w are normalised such that A*WA is nearly the identity where k-space is sampled densely: for a cell of
a [rad per pixel]^d w = n a/(2π)^d, n pixels; 1 on the full Cartesian grid. They have the shape of the
trajectory's samples, and broadcast over coils. A disc of k-space lacks the corners: A*WA is a low pass there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .base import LinearOperator
from .nufft import NonUniformFourier
from .trajectories import check_trajectory

Array = NDArray[np.float64]


def density_compensated_adjoint(A: LinearOperator, y: Tensor, weights: Tensor) -> Tensor:
    """x = A*W y: gridding. Of a `NonUniformSense` Σ_c conj(S_c) x_c, without division by Σ|S_c|².

    A        `NonUniformFourier`, `NonUniformSense`, or any operator whose data end in the weights' shape
    y        data, (*batch, *A.out_shape)
    weights  real, as from `voronoi`, `pipe_menon` or `radial_ramp`

    Raises ValueError for weights that are not real, or of another shape than the samples.
    """
    if weights.is_complex() or tuple(weights.shape) != A.out_shape[len(A.out_shape) - weights.ndim :]:
        raise ValueError(
            f"density_compensated_adjoint weights: expected real values whose shape ends {A.out_shape}, got "
            f"{weights.dtype} {tuple(weights.shape)}"
        )
    return A.adjoint(y * weights.to(y.device, y.real.dtype))


def radial_ramp(trajectory: Tensor, shape: Sequence[int]) -> Tensor:
    """w = n/(2π)² · |k| Δk π/S in 2-D, n/(2π)³ · |k|² Δk 2π/S in 3-D: rings shared by S full spokes.

    The centre has Δk²/6 (2-D) and nothing (3-D) in place of |k| Δk, the end correction of Euler–Maclaurin; a
    disc of radius Δk/2, as `voronoi` gives it, lifts the whole image a little. Supposes that spokes are
    evenly distributed; `voronoi` and `pipe_menon` look.

    trajectory  (spokes, readout, 2|3), full spokes, evenly sampled, as `radial` or `koosh_ball`
    shape       of the image, (ny, nx) or (nz, ny, nx)
    """
    k = _checked("radial_ramp", trajectory, shape)
    if k.ndim != 3 or k.shape[1] < 2:
        raise ValueError(
            f"radial_ramp trajectory: expected (spokes, readout, 2|3), got {tuple(k.shape)}; use voronoi"
        )
    spokes, _, d = k.shape
    step = torch.linalg.vector_norm(k[:, 1:] - k[:, :-1], dim=-1)
    if bool(((step - step.mean()).abs() > 1e-3 * step.mean()).any()):
        raise ValueError("radial_ramp trajectory: the samples of a spoke are not evenly spaced; use voronoi")
    delta = float(step.mean())
    radius = torch.linalg.vector_norm(k, dim=-1)
    if bool((radius.amin(1) > 0.6 * delta).any()):
        raise ValueError("radial_ramp trajectory: a spoke does not pass through the centre; use voronoi")
    if d == 3:
        return _normalised(radius**2 * delta * 2 * math.pi / spokes, shape)
    # both halves of a spoke share the centre
    radius = torch.where(radius < delta / 4, torch.full_like(radius, delta / 6), radius)
    return _normalised(radius * delta * math.pi / spokes, shape)


def pipe_menon(
    trajectory: Tensor,
    shape: Sequence[int],
    iterations: int = 20,
    tolerance: float = 1e-4,
    backend: str = "auto",
) -> Tensor:
    """w ← w / (ψ ∗ w), from w = 1: then every sample is answered for once, (ψ ∗ w)_j = 1.

    Pipe, Menon, Magn. Reson. Med. 41 (1999). ψ, the transform of the triangle Π (1 − |r_d|/n_d), is positive
    and as wide as a pixel of k-space, so that what it blurs stays within the field of view. Weights reach
    at most 1: where samples are further apart than 2π/n, gaps are left as gaps.

    trajectory  ([shots,] samples, 2|3)
    shape       of the image, (ny, nx) or (nz, ny, nx)
    iterations  each costs a forward and an adjoint transform on a grid of twice the side
    tolerance, backend  of the transforms, as for `NonUniformFourier`
    """
    k = _checked("pipe_menon", trajectory, shape)
    if iterations < 1:
        raise ValueError(f"pipe_menon iterations: expected 1 or more, got {iterations}")
    A = NonUniformFourier([2 * n for n in shape], k.reshape(-1, k.shape[-1]), tolerance, backend)
    window = torch.ones((), dtype=torch.float64, device=k.device)
    for n in shape:
        r = torch.arange(2 * n, dtype=torch.float64, device=k.device) - n
        window = window[..., None] * (1 - r.abs() / n)
    window = window / math.prod(shape)
    w = torch.ones(A.out_shape, dtype=torch.float64, device=k.device)
    for _ in range(iterations):
        blurred = A._sum(window * A._adjoint_sum(w + 0j)).real
        # ψ is not negative and ψ(0) = 1; the clamp keeps the error of the transform out
        w = w / torch.maximum(blurred, w)
    return w.reshape(k.shape[:-1])


def voronoi(trajectory: Tensor, shape: Sequence[int]) -> Tensor:
    """w = n a/(2π)^d, a the area (volume) of what lies nearer to a sample than to any other.

    Rasche, Proksa, Sinkus, Börnert, Eggers, IEEE Trans. Med. Imaging 18 (1999). Samples in one place share a
    cell. Cells end at the sampled disc (ball, or cylinder for a stack of discs), half a sample further out;
    in another trajectory at ±π, periodically. On the CPU, some seconds for 10⁵ samples.

    trajectory  ([shots,] samples, 2|3)
    shape       of the image, (ny, nx) or (nz, ny, nx)
    """
    k = _checked("voronoi", trajectory, shape)
    points = k.detach().cpu().numpy().reshape(-1, k.shape[-1])
    disc = _disc(points)
    edge = _edge(points[:, disc]) if disc else 0.0
    grid = np.round(points / (2 * math.pi) * 2**24).astype(np.int64)  # closer than 4e-7 is the same place
    _, first, of, count = np.unique(grid, axis=0, return_index=True, return_inverse=True, return_counts=True)
    points = points[first]
    around = _mirrored(points, disc, edge) if disc else np.empty((0, points.shape[1]))
    everything = _repeated(np.concatenate([points, around]), disc)
    area = _cells(everything, len(points)) / count
    return _normalised(torch.from_numpy(area[of.reshape(-1)]).reshape(k.shape[:-1]).to(k.device), shape)


def _disc(points: Array) -> list[int]:
    """The axes across which the samples fill a disc or ball, and not a square: all, the last two, or none."""
    d = points.shape[1]
    for axes in ([*range(d)], [d - 2, d - 1]):
        part = points[:, axes]
        if np.linalg.norm(part, axis=1).max() <= 1.05 * np.abs(part).max():
            return axes
    return []


def _edge(part: Array) -> float:
    """Radius of the sampled disc, half a step beyond the last sample, as the path goes outwards there."""
    radius = np.linalg.norm(part, axis=1)
    step = np.abs(np.diff(radius))[np.maximum(radius[1:], radius[:-1]) > 0.9 * radius.max()]
    half = float(np.median(step)) / 2 if len(step) else 0.0
    return float(radius.max()) * 1.001 if half < 1e-3 * radius.max() else float(radius.max()) + half


def _mirrored(points: Array, axes: list[int], edge: float) -> Array:
    """Samples of the outer half mirrored at the edge of the disc: open cells end at its tangents."""
    radius = np.linalg.norm(points[:, axes], axis=1)
    chosen = radius > 0.5 * radius.max()
    around = points[chosen].copy()
    around[:, axes] *= (2 * edge / radius[chosen] - 1)[:, None]
    return around


def _repeated(points: Array, disc: list[int]) -> Array:
    """With periodic copies across the axes that are not part of the disc; the samples come first."""
    for axis in sorted(set(range(points.shape[1])) - set(disc)):
        copies = [points]
        for shift in (-2 * math.pi, 2 * math.pi):
            copy = points.copy()
            copy[:, axis] += shift
            copies.append(copy)
        points = np.concatenate(copies)
    return points


def _cells(points: Array, count: int) -> Array:
    """Area (volume) of the Voronoi cells of the first `count` points, summed over their faces as pyramids."""
    from scipy.spatial import QhullError, Voronoi

    d = points.shape[1]
    try:
        cells = Voronoi(points)
    except (QhullError, ValueError) as error:
        raise ValueError(
            f"voronoi trajectory: expected samples that fill {d} dimensions, got {count} different places in "
            f"a line or plane ({str(error).splitlines()[0]})"
        ) from error
    pairs, faces = np.asarray(cells.ridge_points), cells.ridge_vertices
    keep = np.flatnonzero((pairs < count).any(axis=1))
    pairs, faces = pairs[keep], [faces[k] for k in keep]
    if any(-1 in face for face in faces):
        raise ValueError("voronoi trajectory: a cell is open; use pipe_menon")
    size = _face_sizes(cells.vertices, faces)
    height = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1) / 2
    area = np.zeros(len(points))
    for side in (0, 1):
        np.add.at(area, pairs[:, side], size * height / d)
    return area[:count]


def _face_sizes(vertices: Array, faces: list[list[int]]) -> Array:
    """Length of edges in 2-D, area of polygons in 3-D as fans of triangles."""
    if vertices.shape[1] == 2:
        ends = vertices[np.asarray(faces)]
        return np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    longest = max(map(len, faces))
    padded = vertices[np.array([face + face[-1:] * (longest - len(face)) for face in faces])]
    arms = padded[:, 1:] - padded[:, :1]
    return np.linalg.norm(np.cross(arms[:, :-1], arms[:, 1:]).sum(1), axis=1) / 2


def _normalised(area: Tensor, shape: Sequence[int]) -> Tensor:
    return area * math.prod(shape) / (2 * math.pi) ** len(shape)


def _checked(name: str, trajectory: Tensor, shape: Sequence[int]) -> Tensor:
    check_trajectory(f"{name} trajectory", trajectory)
    if len(shape) != trajectory.shape[-1] or min(shape) < 1:
        raise ValueError(
            f"{name} shape: expected {trajectory.shape[-1]} positive sizes, those of the image, "
            f"got {tuple(shape)}"
        )
    return trajectory.double()
