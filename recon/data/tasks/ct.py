"""Low dose and few views in CT: from an object on a fine grid, with photons that are counted."""

from __future__ import annotations

import math

from torch import Tensor

from operators import FanBeam, LinearOperator, LowDose, NoiseModel, XRay, fbp, i0_for_sigma, sigma_hu_water
from operators.noise import Gaussian

from ..heads import MU_WATER
from ..simulation import simulate
from .pairs import TaskPairs
from .slices import Objects, shipped_heads

SOURCE_TO_CENTRE, SOURCE_TO_DETECTOR = 595.0, 1085.6  # [mm]


def task_geometry(size: int, field: float = 220.0, views: int = 180) -> FanBeam:
    """Fan beam over a full turn: size² pixels of field/size mm, 1.5·size bins on an arc over their circle.

    size : pixels a side; field : side of the square [mm]; views : angles 2πk/views
    """
    if not 0 < field / 2 < SOURCE_TO_CENTRE:
        raise ValueError(f"task_geometry field [mm]: expected below {2 * SOURCE_TO_CENTRE:g}, got {field}")
    bins = math.ceil(1.5 * size)
    half = math.asin(field / 2 / SOURCE_TO_CENTRE)
    return FanBeam(
        image_shape=(size, size),
        pixel_size=field / size,
        angles=tuple(2 * math.pi * k / views for k in range(views)),
        n_bins=bins,
        bin_size=SOURCE_TO_DETECTOR * 2 * half / (bins - 1),
        source_to_centre=SOURCE_TO_CENTRE,
        source_to_detector=SOURCE_TO_DETECTOR,
        detector="arc",
        offset=0.0,
    )


class LowDosePairs(TaskPairs):
    """From FBP of few photons to the object itself: y = fbp(p), x = mean over the pixels of the object.

    Attenuation [1/mm], 1000 (μ − μ_water)/μ_water is HU. Counts are Poisson(I₀ e^(−∫μ)) plus electronic
    noise; I₀ is such that FBP (Ram-Lak) of 20 cm of water has a noise of `sigma_water` HU in its middle. FBP
    is not cut at 0. The law of y says white noise of the size it has there; in truth it is coloured and
    follows the body.

    objects : seed -> attenuation on a grid finer than `size`, (n, n), over the field; None: `shipped_heads`
    size, field, views : of `task_geometry`
    sigma_water : [HU]; electronic_sigma : of a ray [counts]
    filter : of the FBP that makes y
    Others as in `TaskPairs`.
    """

    def __init__(
        self,
        objects: Objects | None = None,
        size: int = 64,
        field: float = 220.0,
        views: int = 180,
        sigma_water: float = 30.0,
        electronic_sigma: float = 3.0,
        filter: str = "ram-lak",
        mu_water: float = MU_WATER,
        validation_size: int = 8,
        test_size: int = 16,
        train_size: int | None = 256,
        name: str = "ldct-denoise",
    ):
        self.geometry = task_geometry(size, field, views)
        super().__init__((size, size), field / size, validation_size, test_size, train_size, name)
        self.objects = shipped_heads(4 * size, field, mu_water) if objects is None else objects
        self.filter, self.mu_water, self.sigma_water = filter, mu_water, float(sigma_water)
        self.xray = XRay(self.geometry)
        start = LowDose(i0=1.0, electronic_sigma=electronic_sigma)
        i0 = i0_for_sigma(self.geometry, self.sigma_water, start, mu_water=mu_water)
        self.noise: NoiseModel = LowDose(i0=i0, electronic_sigma=electronic_sigma)
        # the noise of y depends on the filter that makes it
        hu = sigma_hu_water(self.geometry, self.noise, filter=filter, mu_water=mu_water)
        self.law = Gaussian(sigma=hu * mu_water / 1000)

    def pair(self, seed: int) -> tuple[Tensor, Tensor, NoiseModel]:
        problem, x = simulate(self.objects(seed), self.geometry, self.noise, seed)
        return fbp(self.xray, problem.linear, self.filter), x, self.law


class SparseViewPairs(TaskPairs):
    """From the counts of few views to the object: A = XRay, y counts, x mean over the pixels [1/mm].

    Photons per ray are those of `LowDosePairs` at 180 views, so with fewer views the dose falls with them.

    views : of the scan, evenly over a full turn; odd numbers measure no ray twice
    sigma_water : noise of FBP in 20 cm of water from 180 views of such rays [HU]
    Others as in `LowDosePairs`.
    """

    def __init__(
        self,
        objects: Objects | None = None,
        size: int = 64,
        field: float = 220.0,
        views: int = 31,
        sigma_water: float = 5.0,
        electronic_sigma: float = 3.0,
        mu_water: float = MU_WATER,
        validation_size: int = 8,
        test_size: int = 16,
        train_size: int | None = 256,
        name: str = "sparse-view",
    ):
        self.geometry = task_geometry(size, field, views)
        super().__init__((size, size), field / size, validation_size, test_size, train_size, name)
        self.objects = shipped_heads(4 * size, field, mu_water) if objects is None else objects
        self.mu_water = mu_water
        start = LowDose(i0=1.0, electronic_sigma=electronic_sigma)
        i0 = i0_for_sigma(task_geometry(size, field), sigma_water, start, mu_water=mu_water)
        self.noise: NoiseModel = LowDose(i0=i0, electronic_sigma=electronic_sigma)

    def scanner(self) -> LinearOperator:
        return XRay(self.geometry)

    def pair(self, seed: int) -> tuple[Tensor, Tensor, NoiseModel]:
        problem, x = simulate(self.objects(seed), self.geometry, self.noise, seed)
        return problem.y, x, self.noise
