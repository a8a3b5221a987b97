"""Deep image prior: an untrained network, fitted to one image's data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from operators import LinearOperator
from priors import HuberTV
from priors.networks.seeds import seeded
from priors.networks.unet import Norm, UNet

from .base import Reconstructor
from .problem import Problem
from .solvers import cgls, run
from .training import within


class DeepImagePrior(Reconstructor):
    """min_w ½ Σ (A f_w(z) − y)²/σ² + γ·TV(f_w(z)),  x = f_w(z): a U-Net made for this image alone.

    Ulyanov, Vedaldi, Lempitsky, CVPR 2018; with total variation Baguer, Leuschner, Schmidt, Inverse Problems
    36 (2020). Adam on the weights w; returned is the image of lowest objective. Every image of a batch gets a
    network of its own, made from the same seed, so its result is the same alone. Nothing is fitted
    beforehand; nothing but this problem's data is used.

    The papers' z is noise, which takes some ten thousand iterations; by default ours is a rough image, five
    steps of CGLS, and f adds to it: that takes hundreds. For theirs: z="noise",
    norm="group", skips=(4, 4), learning_rate=5e-3.

    weight : γ of TV [1 / (unit of x · mm)], as in `TotalVariation`; 0 for the bare prior; None: such that
        γ·TV of the rough image is `balance` times half the number of data
    iterations, learning_rate : of Adam, whose rate falls to zero as a cosine
    channels, skips : of the U-Net, finest scale first, and joined across (None: all); fewer fit noise later
    norm : of the U-Net: "none", "group" or "instance"
    z : "data" or "noise", N(0, 0.01)
    discrepancy : stop at ‖(A x − y)/σ‖² ≤ discrepancy · number of data, None never; 1 is Morozov's principle
    nonnegative : x = max(f, 0)
    seed : of weights and noise
    callback : given (image, iteration, objective / number of data)
    """

    def __init__(
        self,
        weight: float | None = None,
        iterations: int = 500,
        learning_rate: float = 2e-3,
        channels: Sequence[int] = (32, 64, 64),
        skips: Sequence[int] | None = None,
        norm: Norm = "none",
        z: Literal["data", "noise"] = "data",
        balance: float = 1.5,
        discrepancy: float | None = None,
        nonnegative: bool = True,
        seed: int = 0,
        callback: Callable[[int, int, float], None] | None = None,
    ):
        super().__init__()
        within("DeepImagePrior iterations", iterations, 1, 10**9)
        if weight is not None and not 0 <= weight < math.inf:
            raise ValueError(f"DeepImagePrior weight: expected at least 0 or None, got {weight!r}")
        if z not in ("data", "noise"):
            raise ValueError(f"DeepImagePrior z: expected 'data' or 'noise', got {z!r}")
        self.weight, self.iterations, self.learning_rate = weight, iterations, learning_rate
        self.channels, self.skips, self.norm, self.z = tuple(channels), skips, norm, z
        self.balance, self.discrepancy, self.nonnegative = balance, discrepancy, nonnegative
        self.seed, self.callback = seed, callback

    def forward(self, problem: Problem) -> Tensor:
        A = problem.A
        if problem.y.is_complex() or len(A.in_shape) != 2:
            raise ValueError(
                f"DeepImagePrior: expected real data of 2-D images, got {problem.y.dtype} of {A.in_shape}"
            )
        y = problem.linear.detach().reshape(-1, *A.out_shape)
        variance = problem.variance.to(y).expand_as(problem.y).reshape(-1, *A.out_shape)
        images = [self._one(i, A, y[i], variance[i]) for i in range(len(y))]
        x = torch.stack(images) if images else y.new_zeros(0, *A.in_shape)
        return x.reshape(*problem.batch, *A.in_shape)

    @torch.enable_grad()
    def _one(self, index: int, A: LinearOperator, y: Tensor, variance: Tensor) -> Tensor:
        """One image, (ny, nx), from its linear data and their variance, (*A.out_shape)."""
        rough = run(cgls(A, y, y.new_zeros(A.in_shape)), 5)
        scale = rough.abs().max().clamp(min=1e-30)
        tv = HuberTV(A.in_shape, pixel_size(A), delta=1e-3 * float(scale) / pixel_size(A))
        weight = self._weight(tv, rough, y.numel())
        network, z = self._network(rough / scale)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        best, lowest = torch.zeros_like(rough), math.inf
        for k in range(self.iterations):
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * _rate(k / self.iterations)
            x = scale * network(z)[0, 0]
            if self.nonnegative:
                x = _NonNegative.apply(x)
            misfit = ((A(x) - y).square() / variance).sum()
            objective = (misfit / 2 + weight * tv(x)) / y.numel()
            value = float(objective.detach())
            if value < lowest:
                best, lowest = x.detach(), value
            if self.callback:
                self.callback(index, k, value)
            if self.discrepancy is not None and float(misfit.detach()) <= self.discrepancy * y.numel():
                return x.detach()
            optimizer.zero_grad()
            objective.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        return best

    def _weight(self, tv: HuberTV, rough: Tensor, n: int) -> float:
        if self.weight is not None:
            return self.weight
        return self.balance * (n / 2) / max(float(tv(rough)), 1e-30)

    def _network(self, rough: Tensor) -> tuple[UNet, Tensor]:
        with seeded(self.seed):
            network = UNet(1, 1, self.channels, self.skips, self.norm, residual=self.z == "data")
            noise = 0.1 * torch.randn(1, 1, *rough.shape)
        return network.to(rough), noise.to(rough) if self.z == "noise" else rough[None, None]

    @classmethod
    def examples(cls) -> list[DeepImagePrior]:
        return [cls(iterations=3, channels=(4, 4), skips=(2,)), cls(0.0, 3, channels=(4,), z="noise")]


class _NonNegative(torch.autograd.Function):
    """max(x, 0), where a pixel below zero feels only what would raise it: none can die, none drifts away."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.where((x > 0) | (grad < 0), grad, 0.0)


def pixel_size(A: LinearOperator) -> float:
    """Pixel size [mm] of the image of A; 1 where A does not say."""
    return float(getattr(getattr(A, "geometry", None), "pixel_size", 1.0))


def _rate(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))
