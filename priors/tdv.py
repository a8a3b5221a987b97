"""Total deep variation: a deep, multi-scale energy."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .base import Functional, same_precision
from .networks.seeds import seeded
from .networks.tdv import TotalDeepVariationNetwork, log_cosh, student_t

POTENTIALS = {"student-t": student_t, "log-cosh": log_cosh, "linear": lambda t: t}


class TotalDeepVariation(Functional):
    """R(x) = s² Σ_pixels ψ((w* N(K x/s))), N a multi-scale network, K filters of mean zero.

    Kobler, Effland, Kunisch, Pock, CVPR 2020 (TDV): 32 features, three U-Nets of three scales, ψ linear. Here
    ψ is by default a potential ≥ 0, so that R ≥ 0 and there is something to minimise to the end. Smooth, not
    convex, no known Lipschitz constant: minimise by `nmapg`. R(x + c) = R(x) for every number c, R(0) = 0.
    Complex images: real and imaginary part alike, and added.

    features, scales, blocks   of the network
    potential                  ψ: "student-t" log(1 + 9t²)/18, "log-cosh", or "linear", as the paper
    scale                      size s of an image, in its unit; a float
    """

    def __init__(
        self,
        features: int = 32,
        scales: int = 3,
        blocks: int = 3,
        potential: Literal["student-t", "log-cosh", "linear"] = "student-t",
        scale: float = 1.0,
    ):
        super().__init__()
        if potential not in POTENTIALS:
            raise ValueError(
                f"TotalDeepVariation potential: expected one of {', '.join(POTENTIALS)}, got {potential!r}"
            )
        if not scale > 0:
            raise ValueError(f"TotalDeepVariation scale: expected a positive number, got {scale}")
        self.network = TotalDeepVariationNetwork(features, scales, blocks)
        self.potential, self.scale = potential, float(scale)

    def forward(self, x: Tensor) -> Tensor:
        same_precision(self, x)
        batch = x.shape[:-2]
        u = x.reshape(-1, *x.shape[-2:]) / self.scale
        parts = torch.stack([u.real, u.imag], 1) if u.is_complex() else u[:, None]
        energy = POTENTIALS[self.potential](self.network(parts.flatten(0, 1)[:, None]))
        return self.scale**2 * energy.sum((-2, -1)).unflatten(0, parts.shape[:2]).sum(1).reshape(batch)

    def __repr__(self) -> str:
        return f"TotalDeepVariation({self.network.last.numel()} features, scale={self.scale})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        with seeded(0):
            return [
                (cls(3, 3, 2), (6, 9)),
                (cls(2, 2, 1, "log-cosh", scale=0.5), (5, 5)),
                (cls(2, 1, 1, "linear"), (4, 3)),
            ]
