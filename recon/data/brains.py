"""Synthetic brains: nested ellipses of tissues, seen through any pulse sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ellipses import Ellipse, Ellipses
from .motion import moved_ellipses
from .mr_contrast import CONTRASTS, TISSUES, Sequence, Tissue, random_sequence

Array = NDArray[np.float64]
FIELD = 220.0  # [mm], a square that every brain fits into


@dataclass(frozen=True)
class Region:
    """An ellipse of one tissue that lies wholly within one of another (`within`, an index, −1 for air)."""

    tissue: str
    shape: Ellipse
    within: int


@dataclass(frozen=True)
class Brain:
    """Synthetic anatomy: regions nested in one another, so every point has one tissue.

    regions : each after the one it lies in; two in the same one do not meet
    tissues : proton density and relaxation of this head
    """

    regions: tuple[Region, ...]
    tissues: dict[str, Tissue]

    def image(self, sequence: Sequence) -> Ellipses:
        """The object as the sequence shows it, in units of the proton density of water."""
        return self.painted({name: sequence.signal(tissue) for name, tissue in self.tissues.items()})

    def painted(self, values: dict[str, float]) -> Ellipses:
        """The object with a value per tissue: an ellipse carries its tissue minus the one it lies in."""
        below = [values[r.tissue] for r in self.regions]
        return Ellipses(
            Ellipse(
                values[r.tissue] - (below[r.within] if r.within >= 0 else values["air"]),
                r.shape.semi_axes,
                r.shape.centre,
                r.shape.angle,
            )
            for r in self.regions
        )


def random_brain(seed: int, contrast: str | None = None) -> Ellipses:
    """A synthetic transaxial brain as an MR sequence shows it, anterior at the top; in a field of 220 mm.

    Anatomy of `random_anatomy(seed)`, TE and TR around `typical_sequence(contrast)`.

    contrast : "t1", "t2", "pd", "flair" or "t2-star"; None draws one
    """
    random = np.random.default_rng([seed, 1])
    drawn = CONTRASTS[int(random.integers(len(CONTRASTS)))]
    return random_anatomy(seed).image(random_sequence(contrast or drawn, random))


def random_anatomy(seed: int) -> Brain:
    """Scalp, muscle, skull, CSF, cortex, two white hemispheres, ventricles, nuclei, furrows, lesions.

    Relaxation times are BrainWeb's at 1.5 T, 6 % up or down, proton density 2 %; about 150 × 190 mm, turned
    up to 0.2 rad and shifted up to 5 mm. Synthetic: shapes are ellipses, tissues uniform.
    """
    draw = _Draw(np.random.default_rng([seed, 0]))
    draw.head()
    for side in (-1, 1):
        draw.hemisphere(side)
    draw.furrows()
    draw.lesions()
    random = draw.random
    angle, shift = random.uniform(-0.2, 0.2), random.uniform(-5, 5, 2)
    shapes = moved_ellipses(Ellipses(r.shape for r in draw.regions), (shift[0], shift[1]), angle)
    regions = tuple(Region(r.tissue, shape, r.within) for r, shape in zip(draw.regions, shapes, strict=True))
    return Brain(regions, {name: tissue.varied(random, 0.06) for name, tissue in TISSUES.items()})


class _Draw:
    """Regions drawn one after another; `put` keeps only what lies within its parent and meets no sibling."""

    def __init__(self, random: np.random.Generator):
        self.random = random
        self.regions: list[Region] = []

    def put(
        self,
        tissue: str,
        within: int,
        semi_axes: tuple[float, float],
        centre: tuple[float, float],
        angle: float,
    ) -> int:
        """Number of the new region, −1 if it does not fit."""
        shape = Ellipse(1.0, semi_axes, centre, angle)
        outline = _outline(shape)
        if within >= 0 and float(_level(self.regions[within].shape, outline).max()) > 1:
            return -1
        for r in self.regions:
            if r.within == within and (
                float(_level(r.shape, outline).min()) < 1 or float(_level(shape, _outline(r.shape)).min()) < 1
            ):
                return -1
        self.regions.append(Region(tissue, shape, within))
        return len(self.regions) - 1

    def within(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def head(self) -> None:
        width, height = self.within(70, 78), self.within(88, 97)
        inset, parent = 0.0, -1
        layers = [("fat", 0.0), ("muscle", self.within(2, 5)), ("bone", self.within(2, 3))]
        layers += [("csf", self.within(4, 7)), ("grey", self.within(1.5, 3.5))]
        for tissue, thickness in layers:
            inset += thickness
            parent = self.put(tissue, parent, (width - inset, height - inset), (0.0, 0.0), 0.0)
        self.cortex, self.axes = parent, (width - inset, height - inset)

    def hemisphere(self, side: int) -> None:
        """White matter with a ventricle, deep nuclei, and folds of cortex that reach in from its rim."""
        a, b = self.axes
        semi = self.within(0.40, 0.43) * a, self.within(0.68, 0.76) * b
        x, y = side * self.within(0.46, 0.48) * a, self.within(-0.02, 0.02) * b
        white = self.put("white", self.cortex, semi, (x, y), 0.0)
        if white < 0:
            white = self.put("white", self.cortex, (0.36 * a, 0.6 * b), (side * 0.45 * a, 0.0), 0.0)
        inner = x - side * semi[0]
        ventricle = self.within(3, 6.5), self.within(14, 24)
        place = inner + side * (ventricle[0] + self.within(5, 8)), y + self.within(0, 8)
        self.put("csf", white, ventricle, place, side * self.within(0.0, 0.15))
        for size, depth, up in ((6.0, 0.55, 12.0), (8.0, 0.55, -14.0)):
            nucleus = size * self.within(0.7, 1.0), size * self.within(1.0, 1.5)
            spot = inner + side * 2 * semi[0] * depth, y + up + self.within(-4, 4)
            self.put("grey", white, nucleus, spot, side * self.within(-0.4, 0.4))
        for t in np.linspace(-1.1, 1.1, 7):
            angle = t + self.within(-0.1, 0.1)
            rim = np.array([side * semi[0] * math.cos(angle), semi[1] * math.sin(angle)])
            # pointing inwards from the rim, its outer end 1 mm from it
            length, thick = self.within(5, 9), self.within(1.8, 3.0)
            lean = math.atan2(rim[1] / semi[1] ** 2, rim[0] / semi[0] ** 2)
            middle = rim - (length + 1) * np.array([math.cos(lean), math.sin(lean)])
            spot = float(x + middle[0]), float(y + middle[1])
            fold = self.put("grey", white, (length, thick), spot, lean)
            if fold >= 0 and self.random.random() < 0.7:
                self.put("csf", fold, (0.7 * length, self.within(0.4, 0.7)), spot, lean)

    def furrows(self) -> None:
        """CSF between the hemispheres, and slits of it that open the cortex from outside."""
        a, b = self.axes
        for end in (-1, 1):
            long = self.within(0.14, 0.2) * b
            self.put("csf", self.cortex, (self.within(0.5, 1.0), long), (0.0, end * (b - long - 1)), 0.0)
        for t in np.linspace(0, 2 * math.pi, 22)[:-1]:
            angle = t + self.within(-0.1, 0.1)
            rim = np.array([a * math.cos(angle), b * math.sin(angle)])
            lean = math.atan2(rim[1] / b**2, rim[0] / a**2)
            length = self.within(2, 6)
            middle = rim - (length + 1) * np.array([math.cos(lean), math.sin(lean)])
            spot = float(middle[0]), float(middle[1])
            self.put("csf", self.cortex, (length, self.within(0.4, 0.9)), spot, lean)

    def lesions(self) -> None:
        white = [i for i, r in enumerate(self.regions) if r.tissue == "white"]
        for _ in range(int(self.random.integers(0, 5))):
            parent = int(self.random.choice(white))
            e, radius = self.regions[parent].shape, math.sqrt(self.random.random())
            turn = self.within(0, 2 * math.pi)
            spot = (
                e.centre[0] + 0.8 * radius * e.semi_axes[0] * math.cos(turn),
                e.centre[1] + 0.8 * radius * e.semi_axes[1] * math.sin(turn),
            )
            self.put(
                "lesion", parent, (self.within(1.5, 4), self.within(1.5, 4)), spot, self.within(0, math.pi)
            )


def _outline(e: Ellipse, margin: float = 0.3) -> Array:
    """Points around an ellipse grown by `margin` [mm], (72, 2)."""
    t = np.arange(72) * (2 * math.pi / 72)
    u, v = (e.semi_axes[0] + margin) * np.cos(t), (e.semi_axes[1] + margin) * np.sin(t)
    c, s = math.cos(e.angle), math.sin(e.angle)
    return np.stack([e.centre[0] + c * u - s * v, e.centre[1] + s * u + c * v], -1)


def _level(e: Ellipse, points: Array) -> Array:
    """(ξ/a)² + (η/b)²: below 1 inside."""
    d = points - np.array(e.centre)
    c, s = math.cos(e.angle), math.sin(e.angle)
    along, across = c * d[:, 0] + s * d[:, 1], c * d[:, 1] - s * d[:, 0]
    return np.asarray((along / e.semi_axes[0]) ** 2 + (across / e.semi_axes[1]) ** 2)
