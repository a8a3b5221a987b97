"""Gridding: the direct reconstruction of non-uniform k-space."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from operators.density import pipe_menon, voronoi

from .base import Reconstructor
from .mri import ZeroFilled
from .problem import Problem


class Gridding(Reconstructor):
    """x = A*W y / Σ_c |S_c|², W the area of k-space that each sample stands for, found from the trajectory.

    O'Sullivan, IEEE Trans. Med. Imaging 4 (1985); Jackson, Meyer, Nishimura, Macovski, IEEE Trans. Med. Imaging
    10 (1991). What FBP is in CT: fast, linear, streaks where spokes are few. `ZeroFilled` with this density.

    density  "voronoi", the cells of the samples, or "pipe-menon", by fixed-point iteration

    Raises ValueError for an operator without a trajectory of its own.
    """

    def __init__(self, density: Literal["voronoi", "pipe-menon"] = "voronoi"):
        super().__init__()
        if density not in ("voronoi", "pipe-menon"):
            raise ValueError(f"Gridding density: expected 'voronoi' or 'pipe-menon', got {density!r}")
        self.density = density

    @torch.no_grad()
    def forward(self, problem: Problem) -> Tensor:
        A = problem.A
        k = getattr(A, "trajectory", None)
        if not isinstance(k, Tensor) or getattr(A, "frames", False):
            raise ValueError(
                f"Gridding: expected a non-uniform problem of one trajectory, got {A!r}; on a Cartesian grid "
                "ZeroFilled needs no density"
            )
        find = voronoi if self.density == "voronoi" else pipe_menon
        return ZeroFilled(find(k.detach(), A.in_shape))(problem)

    @classmethod
    def examples(cls) -> list[Gridding]:
        """Both densities."""
        return [cls(), cls("pipe-menon")]
