"""Non-local means after filtered back projection."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from operators import fbp
from operators.tensors import total
from priors.base import Step
from priors.nonlocal_means import non_local_means

from .direct import FBP
from .problem import Problem
from .selection import least

Denoise = Callable[[Tensor, Step], Tensor]
"""(image, strength) -> image"""


class FBPNonLocalMeans(FBP):
    """x = NLM(fbp(y)), with the noise of every pixel known from that of the rays.

    Li et al., Med. Phys. 41 (2014): the width of the similarities follows σ(pixel), which is that of FBPs of
    noise with the variances of the rays, averaged over a neighbourhood.

    strength       h/σ > 0, a number or one per image; None: where Stein's estimate of the mean squared error
                   of the image is least, for noise as correlated as that of FBP
    patch_radius, search_radius   as in `priors.nonlocal_means.non_local_means`
    filter, frequency_scaling, short_scan, positive   as in `FBP`
    """

    name = "fbp-nonlocal-means"

    def __init__(
        self,
        strength: Step | None = None,
        patch_radius: int = 2,
        search_radius: int = 5,
        filter: str = "ram-lak",
        frequency_scaling: float = 1.0,
        short_scan: bool | None = None,
        positive: bool = True,
    ):
        super().__init__(filter, frequency_scaling, short_scan, positive)
        if strength is not None and not bool(torch.as_tensor(strength > 0).all()):
            raise ValueError(f"FBPNonLocalMeans strength: expected a positive number or None, got {strength}")
        if patch_radius < 0 or search_radius < 1:
            raise ValueError(
                f"FBPNonLocalMeans patch_radius, search_radius: expected at least 0 and 1, "
                f"got {patch_radius} and {search_radius}"
            )
        self.strength, self.patch_radius, self.search_radius = strength, patch_radius, search_radius

    @torch.no_grad()
    def forward(self, problem: Problem) -> Tensor:
        x = self._fbp(problem, problem.linear)
        n = len(problem.A.in_shape)
        noise = self.noise(problem, 5)
        sigma = deviation(noise[1:], n)

        def denoise(image: Tensor, strength: Step) -> Tensor:
            return non_local_means(image, sigma, strength, self.patch_radius, self.search_radius, n)

        if self.strength is not None:
            z = denoise(x, self.strength)
        else:
            z = self._least_risk(x, noise[0], denoise, n)
        return z.clamp_min(0) if self.positive else z

    def _least_risk(self, x: Tensor, noise: Tensor, denoise: Denoise, n: int) -> Tensor:
        """‖D(x) − x‖² + 2⟨e, D(x + εe) − D(x)⟩/ε is Stein's estimate for noise e like that in x."""
        epsilon = 0.1

        def evaluate(strength: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
            z = denoise(x, strength)
            answer = (denoise(x + epsilon * noise, strength) - z) / epsilon
            return total((z - x).square() + 2 * noise * answer, n), z

        ones = torch.ones(x.shape[: x.ndim - n], dtype=x.dtype, device=x.device)
        return least(evaluate, 0.5 * ones, x, solves=7, factor=2.0, reach=16.0)[1]

    def noise(self, problem: Problem, draws: int) -> Tensor:
        """FBPs of noise, (draws, *batch, *A.in_shape), the same for one image as in a batch."""
        generator = torch.Generator().manual_seed(0)
        shape = (draws, *(1,) * len(problem.batch), *problem.A.out_shape)
        e = torch.randn(shape, generator=generator, dtype=torch.float64).to(problem.linear)
        return self._fbp(problem, e * problem.variance.sqrt())

    def _fbp(self, problem: Problem, y: Tensor) -> Tensor:
        return fbp(problem.A, y, self.filter, self.frequency_scaling, self.short_scan)

    @classmethod
    def examples(cls) -> list[FBP]:
        """Strength chosen, and given."""
        return [cls(search_radius=2), cls(0.7, patch_radius=1, search_radius=2, filter="hann")]


def deviation(noise: Tensor, ndim: int, radius: int = 4) -> Tensor:
    """Standard deviation of every pixel over the draws, (draws, *batch, *shape), and its neighbours."""
    shape = noise.shape[noise.ndim - ndim :]
    power = noise.square().mean(0).reshape(-1, 1, *shape)
    pool = F.avg_pool2d if ndim == 2 else F.avg_pool3d
    power = pool(power, 2 * radius + 1, 1, radius, count_include_pad=False)
    # rays without noise: not quite 0, so that patches can be compared
    root = power.sqrt().reshape(noise.shape[1:])
    return root.clamp_min(torch.finfo(noise.dtype).tiny ** 0.25)
