"""iRadonMap: learned filter, learned back projection along the rays, then a network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from operators import FanBeam, LinearOperator
from operators.backends import pixel
from operators.backprojection import geometry_of, ramp, redundancy
from operators.geometry import ParallelBeam
from priors.networks.iradonmap import IRadonMap as Network
from priors.networks.seeds import seeded

from ..data.sets import PairedData, UnpairedData
from ..learned import Learned, TrainedFor
from ..training import TrainingConfig, within


@dataclass(frozen=True)
class IRadonMapConfig(TrainingConfig):
    """He, Wang, Ma 2020. Batches of 64 as DIVal; its rate of 1e-2 is lowered to 1e-3, for we begin at FBP.

    features, blocks : width and number of the residual blocks behind the back projection
    filter, frequency_scaling : of the filtered back projection that training begins from
    """

    features: int = 64
    blocks: int = 16
    filter: str = "hann"
    frequency_scaling: float = 1.0
    batch_size: int = 64
    steps: int = 20_000

    def __post_init__(self) -> None:
        super().__post_init__()
        ramp(1, 1.0, self.filter, self.frequency_scaling)  # says what is wrong with them
        within("IRadonMap features", self.features, 1, 10_000)
        within("IRadonMap blocks", self.blocks, 0, 1000)


class IRadonMap(Learned):
    """x = r(z),  z_p = b_p + Σ_v w_vp (F y_v)(s_vp): what of FBP is numbers is learned, the rays are given.

    He, Wang, Ma, IEEE Trans. Med. Imaging 39 (2020): AUTOMAP confined to the trace of every pixel in the
    sinogram. F and w begin as those of filtered back projection, so that it starts as FBP (of an image that
    the detector sees whole); in a fan the cosines and the weights of a short scan are given. Of parallel and
    fan beams. views·ny·nx weights.
    """

    name = "iradonmap"
    data_kind = "paired"
    tier = "B"
    Config = IRadonMapConfig
    _geometry: ParallelBeam | FanBeam | None = None

    def before_fit(self, data: PairedData | UnpairedData) -> None:
        """Where training begins."""
        self._geometry = geometry_of(data.A)

    def build(self, scanner: TrainedFor) -> None:
        c = self.config
        if len(scanner.in_shape) != 2 or len(scanner.out_shape) != 2 or scanner.complex:
            raise ValueError(
                "IRadonMap.fit data: expected real images (ny, nx) and sinograms, got "
                f"{scanner.in_shape} and {scanner.out_shape}"
            )
        (ny, nx), (views, bins) = scanner.in_shape, scanner.out_shape
        with seeded(c.seed):
            self.network = Network(views, bins, (ny, nx), c.features, c.blocks)
        if self._geometry is not None:
            with torch.no_grad():
                weight, kernel = beginning(self._geometry, c.filter, c.frequency_scaling)
                self.network.traces.copy_(weight)
                self.network.filter.weight.copy_(kernel)
        self.trained_for = scanner

    def apply_to(self, A: LinearOperator, y: Tensor) -> Tensor:
        weight, s = _rays(geometry_of(A))
        return cast(Tensor, self.network(y * weight.to(y), s.to(y)))

    @classmethod
    def examples(cls) -> list[Any]:
        return [cls(features=4, blocks=1, steps=2, batch_size=2)]


def beginning(
    geometry: ParallelBeam | FanBeam, filter: str, frequency_scaling: float
) -> tuple[Tensor, Tensor]:
    """Weights Δ_v W(v, x) (views, ny·nx) and filter (bins, bins) of FBP, in units of a bin."""
    tau, alpha = _bin(geometry)
    response = ramp(geometry.n_bins, tau, filter, frequency_scaling, alpha)
    kernel = tau * np.fft.irfft(response)
    at = np.arange(geometry.n_bins)
    weight = redundancy(geometry)[0][:, None] * _seen(geometry)[1]
    return torch.as_tensor(weight), torch.as_tensor(kernel[at[:, None] - at])


@lru_cache(maxsize=8)
def _rays(geometry: ParallelBeam | FanBeam) -> tuple[Tensor, Tensor]:
    """What data are multiplied by (views, bins) [1/mm], and where pixels are seen (views, ny·nx) [bins]."""
    weight = redundancy(geometry)[1] / _bin(geometry)[0]
    if isinstance(geometry, FanBeam):
        weight = weight * np.cos(geometry.fan_angles())
    return torch.as_tensor(weight), torch.as_tensor(_seen(geometry)[0])


def _bin(geometry: ParallelBeam | FanBeam) -> tuple[float, float]:
    """Size of a bin at the centre [mm], and its angle [rad] where bins are so spaced."""
    if not isinstance(geometry, FanBeam):
        return geometry.bin_size, 0.0
    arc = geometry.bin_size / geometry.source_to_detector if geometry.detector == "arc" else 0.0
    return geometry.bin_size * geometry.source_to_centre / geometry.source_to_detector, arc


def _seen(geometry: ParallelBeam | FanBeam) -> tuple[Any, Any]:
    """s and W of every view and pixel: the formulas of `operators.backends.pixel`."""
    kind, table = pixel.table(geometry)
    ny, nx = geometry.image_shape
    row, column = (k.ravel() for k in np.mgrid[:ny, :nx])
    part = [table[:, k, None] for k in range(8)]
    t = part[0] + part[1] * row + part[2] * column
    depth = part[3] + part[4] * row + part[5] * column
    if kind == pixel.PARALLEL:
        return part[6] + t, np.ones_like(t)
    if kind == pixel.FLAT:
        return part[6] + part[7] * t / depth, 1 / depth**2
    return part[6] + part[7] * np.arctan(t / depth), 1 / (depth**2 + t**2)
