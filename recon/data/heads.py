"""Random heads: skull, ears, brain, ventricles, sinus and petrous bones with the values of CT.

After the FORBILD head phantom (Lauritsch & Bruder, 1998), in two dimensions and with everything varied.
Piecewise constant; the slow variation of the brain is a few wide ellipses of ±2 HU. `head_slices` has clutter
too, air, fat, soft tissue and bone of any size strewn over the field, so that a network cannot count on
anatomy, and the blur and the grain of a scanner's images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numba import njit
from scipy.ndimage import gaussian_filter
from torch import Tensor

from operators import Gaussian, NoiseModel
from operators.geometry import PlanarGeometry

from ..problem import Problem
from .ellipses import Ellipse, Ellipses
from .sets import Pair, SimulatedPairs
from .simulation import simulate_ellipses

MU_WATER = 0.0206  # [1/mm] at 60 keV


def random_head(seed: int, mu_water: float = MU_WATER) -> Ellipses:
    """A transaxial head, anterior at the top (+y), attenuation [1/mm]; it fits into a field of 220 mm.

        μ = μ_water (1 + HU/1000)

    Scalp −20…30 HU, compact bone 900…1500, diploë 400…800, grey matter 30…36, white matter 4…8 less, both
    slowly varied by a few HU, liquor 5…12, air −1000; two to five lesions of ±4…20 HU and 2…6 mm. About
    150 × 190 mm, turned by up to 10° and shifted by up to 4 mm.

    seed : one head a seed
    mu_water : attenuation of water [1/mm]
    """
    head = _Head(np.random.default_rng(seed), mu_water)
    head.skull()
    head.brain()
    head.lesions()
    if head.random.random() < 0.6:
        head.sinus()
    if head.random.random() < 0.5:
        head.petrous_bones()
    return head.placed()


def cluttered_head(seed: int, mu_water: float = MU_WATER) -> Ellipses:
    """`random_head(seed)` with up to 80 ellipses of another tissue strewn over its field of 220 mm.

    Their longer semi-axes measure 1 to 25 mm, small ones are the most, at most four times as long as wide;
    solid or a shell, they bring what lies at their middle to air, lung or foam, fat, soft tissue or bone, as
    far as nothing falls below air or rises above 2500 HU.

    seed : one head and its clutter a seed
    mu_water : attenuation of water [1/mm]
    """
    random, head = np.random.default_rng([seed, 1]), random_head(seed, mu_water)
    return head + _clutter(head, int(random.integers(0, 81)), random, mu_water)


def head_slices(
    seeds: Sequence[int],
    size: int = 512,
    field: float = 220.0,
    mu_water: float = MU_WATER,
    clutter: bool = True,
    kernel: tuple[float, float] = (0.2, 1.0),
    grain: tuple[float, float] = (0.0, 12.0),
) -> Tensor:
    """Cluttered heads as slices of some scanner show them: blurred and grainy, (len(seeds), size, size).

    Each has its Gaussian kernel, and noise through that kernel, the less the less tissue attenuates.
    Attenuation [1/mm], float32.

    seeds : one slice a seed
    size, field : pixels and millimetres [mm] of a side
    mu_water : attenuation of water [1/mm]
    clutter : heads of `cluttered_head`, or of `random_head`
    kernel : least and largest σ of the kernel [mm]
    grain : least and largest standard deviation of the noise in water [HU]
    """
    draw = cluttered_head if clutter else random_head
    slices = []
    for seed in seeds:
        random = np.random.default_rng([seed, 2])
        sigma, noise = random.uniform(*kernel) * size / field, random.uniform(*grain) * mu_water / 1000
        sharp = draw(seed, mu_water).rasterise((size, size), field / size, 2).numpy().astype(np.float32)
        image = gaussian_filter(sharp, sigma)
        waves = gaussian_filter(random.standard_normal(image.shape, np.float32), sigma)
        image += noise / waves.std() * waves * np.minimum(image / mu_water, 1)
        slices.append(torch.from_numpy(np.maximum(image, 0)))
    return torch.stack(slices)


class HeadPairs(SimulatedPairs):
    """Pairs (y, x) of random heads, from exact line integrals: every seed is a head and its noise.

    geometry, noise : of the scanner
    mu_water : attenuation of water [1/mm]
    oversampling : rays per detector bin
    validation_size, test_size, train_size : as in `SimulatedPairs`
    """

    def __init__(
        self,
        geometry: PlanarGeometry,
        noise: NoiseModel,
        mu_water: float = MU_WATER,
        oversampling: int = 4,
        validation_size: int = 8,
        test_size: int = 16,
        train_size: int | None = None,
        name: str = "heads",
    ):
        self.geometry, self.noise, self.mu_water, self.oversampling = geometry, noise, mu_water, oversampling
        self.validation_size, self.test_size, self.train_size = validation_size, test_size, train_size
        self.name = name

    @torch.no_grad()
    def pairs(self, seeds: Sequence[int]) -> Pair:
        """(problem, truth) of the heads of these seeds."""
        found = [
            simulate_ellipses(
                random_head(seed, self.mu_water), self.geometry, self.noise, seed, self.oversampling
            )
            for seed in seeds
        ]
        truth, law = torch.stack([x for _, x in found]), found[0][0].noise
        if isinstance(law, Gaussian) and cast(Gaussian, self.noise).relative is not None:
            # σ follows the data, so every head has its own
            law = Gaussian(sigma=[float(cast(Gaussian, p.noise).sigma or 0) for p, _ in found])
        return Problem(self.A, torch.stack([p.y for p, _ in found]), law), truth


class _Head:
    """Ellipses drawn one after another; `add` takes what a region measures and what lay there before."""

    def __init__(self, random: np.random.Generator, mu_water: float):
        self.random, self.mu_water = random, mu_water
        self.ellipses: list[Ellipse] = []
        self.width, self.height = random.uniform(72, 79), random.uniform(90, 98)
        self.brain_hu = random.uniform(30, 36)

    def add(
        self,
        hu: float,
        over: float,
        semi_axes: tuple[float, float],
        centre: tuple[float, float] = (0.0, 0.0),
        angle: float = 0.0,
    ) -> None:
        self.ellipses.append(Ellipse(self.mu_water * (hu - over) / 1000, semi_axes, centre, angle))

    def within(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def skull(self) -> None:
        compact, scalp, thickness = self.within(900, 1500), self.within(-20, 30), self.within(4, 7)
        layers = [
            (scalp, 0.0),
            (compact, thickness),
            (self.within(400, 800), thickness + self.within(1.5, 2.5)),
            (compact, thickness + self.within(4, 6)),
            (self.within(5, 12), thickness + self.within(7, 8.5)),
        ]
        below = -1000.0
        for hu, inset in layers:
            self.add(hu, below, (self.width - inset, self.height - inset))
            below = hu
        self.inner, self.liquor, self.compact = layers[-1][1], below, compact
        for side in (-1, 1):
            ear, y = (self.within(2, 3.5), self.within(10, 15)), -self.within(5, 20)
            x = self.width * math.sqrt(1 - (y / self.height) ** 2) + ear[0]
            self.add(scalp, -1000, ear, (side * x, y), side * self.within(0, 0.2))

    def brain(self) -> None:
        inset = self.inner + self.within(1, 3)
        self.axes = self.width - inset, self.height - inset
        self.add(self.brain_hu, self.liquor, self.axes)
        for side in (-1, 1):
            white = self.axes[0] * self.within(0.3, 0.38), self.axes[1] * self.within(0.6, 0.72)
            lean = side * self.within(-0.1, 0.1)
            self.add(-self.within(4, 8), 0, white, (side * self.axes[0] * self.within(0.42, 0.48), 0.0), lean)
            ventricle = self.within(4, 9), self.within(18, 32)
            place = side * self.within(11, 16), self.within(-8, 12)
            self.add(self.liquor, self.brain_hu, ventricle, place, side * self.within(0.1, 0.4))
            nucleus = side * self.within(20, 28), self.within(-8, 8)
            self.add(self.within(3, 6), 0, (self.within(6, 9), self.within(9, 14)), nucleus, side * -0.3)
        self.add(self.within(10, 25), 0, (self.within(0.6, 1.0), self.axes[1] * 0.96))
        self.add(self.liquor, self.brain_hu, (self.within(1.5, 3), self.within(6, 12)), (0.0, -12.0))
        for _ in range(6):
            size = self.within(20, 45), self.within(20, 45)
            self.add(self.within(-2, 2), 0, size, self.inside(0.3), self.within(0, math.pi))

    def lesions(self) -> None:
        for _ in range(self.random.integers(2, 6)):
            contrast = self.within(4, 20) * self.random.choice([-1.0, 1.0])
            size = self.within(2, 6), self.within(2, 6)
            self.add(contrast, 0, size, self.inside(0.75), self.within(0, math.pi))
        if self.random.random() < 0.4:
            self.add(self.within(80, 200), 0, (1.5, self.within(1.0, 2.0)), self.inside(0.4))

    def sinus(self) -> None:
        """Air cells of the frontal bone, with their own bone behind them."""
        bone = self.within(14, 20), self.within(6, 8)
        y = self.height - self.inner - bone[1]
        self.add(self.compact, self.brain_hu, bone, (0.0, y))
        for side in (-1, 1):
            size = self.within(3, 4.5), self.within(1.5, 2.2)
            self.add(-1000, self.compact, size, (side * self.within(5.5, 7), y + self.within(-0.5, 0.5)))

    def petrous_bones(self) -> None:
        """Dense bone left and right behind the middle, with mastoid air cells."""
        for side in (-1, 1):
            x, y = side * self.axes[0] * self.within(0.6, 0.68), -self.within(18, 30)
            bone = self.within(16, 20), self.within(5, 8)
            angle = side * self.within(0.3, 0.6)
            dense = self.within(1100, 1700)
            self.add(dense, self.brain_hu, bone, (x, y), angle)
            # four millimetres apart, so that no two cells overlap and none leaves the bone
            for place in range(-10, 11, 4):
                along, across = place + self.within(-0.5, 0.5), self.within(-1, 1)
                spot = x + along * math.cos(angle), y + along * math.sin(angle) + across
                self.add(self.within(-950, -300), dense, (self.within(0.8, 1.4), self.within(0.8, 1.4)), spot)

    def inside(self, share: float) -> tuple[float, float]:
        """A point in the middle `share` of the brain."""
        radius, angle = share * math.sqrt(self.random.random()), self.within(0, 2 * math.pi)
        return radius * self.axes[0] * math.cos(angle), radius * self.axes[1] * math.sin(angle)

    def placed(self) -> Ellipses:
        turn, shift = self.within(-0.17, 0.17), (self.within(-4, 4), self.within(-4, 4))
        c, s = math.cos(turn), math.sin(turn)
        return Ellipses(
            Ellipse(
                e.value,
                e.semi_axes,
                (c * e.centre[0] - s * e.centre[1] + shift[0], s * e.centre[0] + c * e.centre[1] + shift[1]),
                e.angle + turn,
            )
            for e in self.ellipses
        )


TISSUES = ((-1000.0, -1000.0), (-950.0, -300.0), (-120.0, -60.0), (0.0, 90.0), (150.0, 1800.0))
"""Low and high [HU] of air, lung or foam, fat, soft tissue and bone."""


def _clutter(head: Ellipses, count: int, random: np.random.Generator, mu_water: float) -> Ellipses:
    """`count` ellipses or shells of two, fewer where there is no room."""
    # of what is found anywhere in a pixel of 1 mm, as [HU]
    low, high = np.full((220, 220), -1000.0), np.full((220, 220), -1000.0)

    def fitted(
        hu: float, semi_axes: tuple[float, float], centre: tuple[float, float], angle: float
    ) -> Ellipse:
        there = 1000 / mu_water * sum(e.value for e in known if _inside(e, centre)) - 1000
        touched = _reach(*semi_axes, *centre, angle, len(low)) > 0
        # what is there is within both limits, though its bounds may not be
        least, most = min(-1000 - low[touched].min(), 0), max(2500 - high[touched].max(), 0)
        contrast = min(max(hu - there, least), most)
        return Ellipse(mu_water * contrast / 1000, semi_axes, centre, angle)

    def add(ellipse: Ellipse) -> None:
        known.append(ellipse)
        reach = _reach(*ellipse.semi_axes, *ellipse.centre, ellipse.angle, len(low))
        hu, (touching, covering) = 1000 * ellipse.value / mu_water, (reach > 0, reach > 1)
        low[touching if hu < 0 else covering] += hu
        high[covering if hu < 0 else touching] += hu

    known: list[Ellipse] = []
    for ellipse in head:
        add(ellipse)
    for _ in range(count):
        long = math.exp(random.uniform(math.log(1), math.log(25)))
        wide = max(long * random.uniform(0.25, 1), 0.8)
        radius, turn = (108 - long) * math.sqrt(random.random()), random.uniform(0, 2 * math.pi)
        place = (radius * math.cos(turn), radius * math.sin(turn)), random.uniform(0, math.pi)
        tissue, shell = TISSUES[random.integers(len(TISSUES))], random.random() < 0.4
        outer = fitted(random.uniform(*tissue), (long, wide), *place)
        if abs(outer.value) < 0.002 * mu_water:  # what lies there leaves no room
            continue
        add(outer)
        if shell and wide > 4:
            wall = random.uniform(2, wide / 2)
            add(Ellipse(-outer.value, (long - wall, wide - wall), *place))
    return Ellipses(known[len(head) :])


def _inside(ellipse: Ellipse, point: tuple[float, float]) -> bool:
    c, s = math.cos(ellipse.angle), math.sin(ellipse.angle)
    x, y = point[0] - ellipse.centre[0], point[1] - ellipse.centre[1]
    return bool(
        ((c * x + s * y) / ellipse.semi_axes[0]) ** 2 + ((c * y - s * x) / ellipse.semi_axes[1]) ** 2 <= 1
    )


@njit(cache=True, nogil=True)
def _reach(a: float, b: float, x0: float, y0: float, angle: float, side: int) -> np.ndarray:
    """Of every pixel of 1 mm: 2 where the ellipse covers it, 1 where it may touch it, 0 elsewhere.

    A pixel reaches 0.71 mm from its middle, and an ellipse at most four times as long as wide is nowhere
    nearer than 0.8 mm to the one with semi-axes 1 mm longer.
    """
    found, c, s = np.zeros((side, side), np.int8), np.cos(angle), np.sin(angle)
    for i in range(side):
        for j in range(side):
            x, y = j - (side - 1) / 2 - x0, (side - 1) / 2 - i - y0
            if ((c * x + s * y) / (a + 1)) ** 2 + ((c * y - s * x) / (b + 1)) ** 2 > 1:
                continue
            corners = 0
            for h in (-0.5, 0.5):
                for v in (-0.5, 0.5):
                    along, across = c * (x + h) + s * (y + v), c * (y + v) - s * (x + h)
                    corners += (along / a) ** 2 + (across / b) ** 2 <= 1
            found[i, j] = 2 if corners == 4 else 1
    return found
