"""Pictures: images at a stated window, difference maps on a stated scale, charts."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .files import replaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]

GREY = "#7d8590"  # legible on white and on black
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#8c6bb1",
    "#a0672d",
    "#6b8e23",
    "#c0392b",
)
STYLES = ("-", "--", ":")  # curves may lie on one another
_BLUE, _WHITE, _RED = np.array([33, 102, 172]), np.array([247, 247, 247]), np.array([178, 24, 43])


def in_unit(image: Array, unit: str, mu_water: float | None) -> Array:
    """The image in the unit of a window: HU = 1000 (μ − μ_water)/μ_water, or as it is."""
    if unit == "HU" and mu_water is not None:
        return 1000 * (image - mu_water) / mu_water
    return np.asarray(image)


def grey(image: Array, low: float, high: float) -> Image.Image:
    """Low is black, high is white; magnitude of complex images."""
    values = np.abs(image) if np.iscomplexobj(image) else image
    level = np.clip((values - low) / (high - low), 0, 1)
    return Image.fromarray(np.round(255 * level).astype(np.uint8))


def diverging(difference: Array, scale: float) -> Image.Image:
    """−scale is blue, 0 is white, +scale is red."""
    values = np.abs(difference) if np.iscomplexobj(difference) else difference
    t = np.clip(values / scale, -1, 1)[..., None]
    colour = np.where(t < 0, _WHITE + (_WHITE - _BLUE) * t, _WHITE + (_RED - _WHITE) * t)
    return Image.fromarray(np.round(colour).astype(np.uint8))


def shared_scale(differences: Sequence[Array], most: float) -> float:
    """The median over methods of the 99th percentile of |difference|, to one digit, at most `most`."""
    tops = [float(np.percentile(np.abs(difference), 99)) for difference in differences]
    top = float(np.median(tops)) if tops else 0.0
    if not 0 < top < most:
        return most
    unit = 10 ** math.floor(math.log10(top))
    return min(most, float(f"{math.ceil(top / unit - 1e-9) * unit:.1g}"))


def crop(image: Array, zoom: Sequence[int]) -> Array:
    """Part of an image, zoom = (row, column, height, width)."""
    row, column, height, width = zoom
    return image[row : row + height, column : column + width]


def default_zoom(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """The middle third."""
    ny, nx = shape
    return ny // 3, nx // 3, max(1, ny // 3), max(1, nx // 3)


def data_uri(image: Image.Image) -> str:
    """A picture as the address of itself."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return uri_of(buffer.getvalue())


def uri_of(png: bytes) -> str:
    """PNG bytes as the address of themselves."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def colour_of(name: str, names: Sequence[str]) -> str:
    """The colour of a method, the same in every chart of a problem."""
    return COLOURS[list(names).index(name) % len(COLOURS)]


def strip_chart(values: Mapping[str, Sequence[float]], label: str) -> bytes:
    """One dot per image and method, a bar at the mean."""
    figure, axes = _axes(7.2, 0.34 * len(values) + 0.75)
    names = list(values)
    for k, name in enumerate(names):
        dots = np.asarray(values[name])
        offset = 0.22 * np.linspace(-1, 1, len(dots)) if len(dots) > 1 else np.zeros(len(dots))
        axes.scatter(dots, k + offset, s=13, color=colour_of(name, names), alpha=0.65, linewidths=0)
        if len(dots):
            axes.plot([dots.mean()] * 2, [k - 0.36, k + 0.36], color=colour_of(name, names), linewidth=2)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(label)
    axes.grid(axis="x", color=GREY, alpha=0.2, linewidth=0.6)
    return _png(figure)


def curve_chart(curves: Mapping[str, Sequence[float | None]], label: str, names: Sequence[str]) -> bytes:
    """Values by iteration, logarithmic where all are positive."""
    figure, axes = _axes(5.2, 2.9)
    positive = True
    for k, (name, values) in enumerate(curves.items()):
        points = [(i, v) for i, v in enumerate(values) if v is not None and math.isfinite(v)]
        if len(points) < 2:
            continue
        x, y = zip(*points, strict=True)
        positive &= min(y) > 0
        style = STYLES[k % len(STYLES)]
        axes.plot(x, y, style, label=name, color=colour_of(name, names), linewidth=1.6)
    if positive:
        axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_xlabel("iteration")
    axes.set_ylabel(label)
    axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    axes.legend(frameon=False, labelcolor=GREY, fontsize=8)
    return _png(figure)


def write_panel(path: Path, columns: Sequence[tuple[str, Sequence[Image.Image]]], title: str) -> None:
    """A figure on white: one column per method, images of one kind in a row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = max(len(images) for _, images in columns)
    figure = Figure(figsize=(1.75 * len(columns), 1.75 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for j, (name, images) in enumerate(columns):
        grid[0, j].set_title(name, fontsize=8)
        for i in range(rows):
            grid[i, j].axis("off")
            if i < len(images):
                grid[i, j].imshow(images[i], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    figure.suptitle(title, fontsize=8)
    with replaced(path) as beside:
        figure.savefig(beside, dpi=150, format="png")


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    axes.tick_params(colors=GREY, labelsize=8, length=3)
    axes.xaxis.label.set(color=GREY, fontsize=9)
    axes.yaxis.label.set(color=GREY, fontsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)
        spine.set_alpha(0.5)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=180, transparent=True)
    return buffer.getvalue()
