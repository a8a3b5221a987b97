"""A geometry drawn to scale, in mm; needs matplotlib (the `report` extra)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .geometry import FanBeam, Geometry, PlanarGeometry
from .volume import ConeBeam, Frames, ParallelBeam3D, VolumeGeometry

Array = NDArray[np.float64]
SOURCE, DETECTOR, BEAM, OBJECT, FIELD = "tab:red", "tab:blue", "tab:orange", "0.35", "tab:green"


def plot(geometry: Geometry, ax: Any = None, view: int = 0, legend: bool = True) -> Any:
    """One view to scale, with the path of the source, the object and the circle that every view sees whole.

    2-D: from above. 3-D: from above, and from the side, with the central ray of `view` to the right and z up.
    Parallel beams have no source: the detector and the rays are drawn beside the object.

    geometry  any of this package
    ax        matplotlib axes, of a 3-D geometry a pair of them; by default a new figure
    view      which view's detector and outermost rays are drawn
    legend    whether to name the parts

    Returns the axes, or the pair of them.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError("plot needs matplotlib: pip install 'hybrid-recon[report]'") from None
    if not isinstance(geometry, PlanarGeometry | VolumeGeometry):
        raise ValueError(f"plot geometry: expected one of this package, got {type(geometry).__name__}")
    if not -geometry.views <= view < geometry.views:
        raise ValueError(f"plot view: expected one of the {geometry.views} views, got {view}")
    scan = _Scan(geometry, view % geometry.views)
    if isinstance(geometry, PlanarGeometry):
        ax = plt.subplots(figsize=(6, 6), layout="constrained")[1] if ax is None else ax
        _above(ax, scan, legend)
        return ax
    if ax is None:
        ax = plt.subplots(1, 2, figsize=(12, 6), layout="constrained")[1]
    if np.size(ax) != 2:
        raise ValueError("plot ax: expected a pair of axes for a 3-D geometry, or None")
    _above(ax[0], scan, legend)
    _aside(ax[1], scan)
    return ax


class _Scan:
    """Where things are, (…, 3) as (x, y, z) [mm]."""

    def __init__(self, geometry: Geometry, view: int):
        self.geometry, self.view = geometry, view
        self.frames = geometry.frames() if isinstance(geometry, VolumeGeometry) else _frames(geometry)
        self.grid = (
            geometry.detector_grid if isinstance(geometry, VolumeGeometry) else (1, geometry.out_shape[1])
        )
        extent = geometry.extent  # type: ignore[attr-defined]
        self.box = np.array([extent[-1], extent[-2], extent[0] if len(extent) == 3 else 0.0]) / 2
        if self.frames.parallel:  # beside the object, whose middle the detector passes in the vectors
            ahead = 1.3 * np.linalg.norm(self.box[:2])
            away = self.frames.source
            centre = (
                self.frames.centre - (self.frames.centre * away).sum(1, keepdims=True) * away + ahead * away
            )
            f = self.frames
            self.frames = Frames(True, away, centre, f.u, f.v)

    @property
    def detector(self) -> Array:
        """Outline of the view's detector, rows of pixels' centres, (rows, columns, 3)."""
        rows, columns = self.grid
        f, k = self.frames, slice(self.view, self.view + 1)
        one = Frames(f.parallel, f.source[k], f.centre[k], f.u[k], f.v[k], f.radius)
        return one.pixels(rows, columns)[0, np.unique([0, rows - 1])]

    @property
    def beam(self) -> Array:
        """The outermost rays, (n, 2, 3) from the source's side to the detector."""
        ends = self.detector[:, [0, -1]].reshape(-1, 3)
        if self.frames.parallel:
            back = 2 * 1.3 * np.linalg.norm(self.box[:2]) * self.frames.source[self.view]
            return np.stack([ends - back, ends], 1)
        return np.stack([np.broadcast_to(self.frames.source[self.view], ends.shape), ends], 1)

    @property
    def forward(self) -> Array:
        """Level unit vector along the view's central ray, (2,)."""
        f = self.frames
        along = f.source[self.view] if f.parallel else f.centre[self.view] - f.source[self.view]
        level = along[:2]
        length = np.linalg.norm(level)
        return level / length if length else np.array([1.0, 0.0])

    @property
    def radius(self) -> float:
        """Of the circle about the axis that every view sees whole [mm], 0 where one misses the axis."""
        f, edges = self.frames, []
        pixels = f.pixels(1, self.grid[1])[:, 0]
        for edge in (pixels[:, 0], pixels[:, -1]):
            away = (f.source if f.parallel else edge - f.source)[:, :2]
            away = away / np.linalg.norm(away, axis=1, keepdims=True)
            edges.append(edge[:, 0] * away[:, 1] - edge[:, 1] * away[:, 0])
        low, high = np.minimum(*edges), np.maximum(*edges)
        return float(max(min(high.min(), -low.max()), 0.0))


def _frames(geometry: PlanarGeometry | Geometry) -> Frames:
    """Of a 2-D scan: a detector of one row in the plane z = 0."""
    assert isinstance(geometry, PlanarGeometry)
    shape, h = (1, *geometry.image_shape), geometry.pixel_size
    offset = (0.0, float(getattr(geometry, "offset", 0.0)))
    if isinstance(geometry, FanBeam):
        return ConeBeam(
            shape,
            h,
            geometry.angles,
            (1, geometry.n_bins),
            geometry.bin_size,
            geometry.source_to_centre,
            geometry.source_to_detector,
            geometry.detector,
            offset,
        ).frames()
    return ParallelBeam3D(shape, h, geometry.angles, (1, geometry.n_bins), geometry.bin_size, offset).frames()


def _above(ax: Any, scan: _Scan, legend: bool) -> None:
    from matplotlib.patches import Circle, Rectangle

    x, y, _ = scan.box
    ax.add_patch(Rectangle((-x, -y), 2 * x, 2 * y, fill=False, edgecolor=OBJECT, label=_object(scan)))
    if scan.radius:
        label = f"seen by every view, ⌀ {2 * scan.radius:.0f} mm"
        ax.add_patch(Circle((0, 0), scan.radius, fill=False, edgecolor=FIELD, linestyle="--", label=label))
    _draw(ax, scan, lambda p: (p[..., 0], p[..., 1]))
    ax.plot(0, 0, "+", color=OBJECT)
    ax.set(xlabel="x [mm]", ylabel="y [mm]", aspect="equal", title=_title(scan))
    if legend:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False, fontsize="small")


def _aside(ax: Any, scan: _Scan) -> None:
    from matplotlib.patches import Rectangle

    forward = scan.forward
    width = float(np.abs(forward) @ scan.box[:2])
    z = scan.box[2]
    ax.add_patch(Rectangle((-width, -z), 2 * width, 2 * z, fill=False, edgecolor=OBJECT))
    _draw(ax, scan, lambda p: (p[..., :2] @ forward, p[..., 2]))
    ax.axvline(0, color=OBJECT, linewidth=0.5, linestyle=":")
    ax.set(xlabel="along the central ray [mm]", ylabel="z [mm]", aspect="equal", title="from the side")


def _draw(ax: Any, scan: _Scan, project: Any) -> None:
    f = scan.frames
    if not f.parallel:
        path = f.source
        closed = np.concatenate([path, path[:1]]) if _is_closed(path) else path
        ax.plot(*project(closed), color=SOURCE, linewidth=0.8, label="path of the source")
        ax.plot(*project(f.source[scan.view]), "o", color=SOURCE, markersize=4)
    for k, ray in enumerate(scan.beam):
        ax.plot(*project(ray), color=BEAM, linewidth=0.8, label=None if k else "outermost rays")
    rows = scan.detector
    outline = np.concatenate([rows[0], rows[-1][::-1], rows[0][:1]])
    count = " × ".join(map(str, scan.geometry.out_shape[1:]))
    ax.plot(*project(outline), color=DETECTOR, linewidth=2.5, label=f"detector, {count}")
    if rows.shape[1] == 1:
        ax.plot(*project(rows[:, 0]), "s", color=DETECTOR)


def _is_closed(path: Array) -> bool:
    """Whether the last step back to the first is as any other."""
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    gap = np.linalg.norm(path[-1] - path[0])
    climb, left = np.abs(np.diff(path[:, 2])), abs(path[-1, 2] - path[0, 2])
    return bool(len(steps) and gap <= 1.5 * steps.max() and left <= 1.5 * climb.max() + 1e-9)


def _object(scan: _Scan) -> str:
    shape = " × ".join(map(str, scan.geometry.in_shape))
    extent = " × ".join(f"{e:.0f}" for e in scan.geometry.extent)  # type: ignore[attr-defined]
    return f"{'image' if len(scan.geometry.in_shape) == 2 else 'volume'}, {shape}, {extent} mm"


def _title(scan: _Scan) -> str:
    g = scan.geometry
    kind = type(g).__name__
    if isinstance(g, FanBeam | ConeBeam):
        kind += f", {g.detector}"
    return f"{kind}, {g.views} views; view {scan.view}"
