"""The methods every MR reconstruction is compared with: zero-filled, root sum of squares, CG-SENSE."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from operators import (
    Fourier,
    LinearOperator,
    NonUniformFourier,
    NonUniformSense,
    Sense,
    root_sum_of_squares,
)
from operators.density import density_compensated_adjoint, pipe_menon, voronoi

from .base import Reconstructor
from .fidelity import Likelihood
from .problem import Problem
from .variational import Tikhonov
from .variational.base import Weight, start

DENSITIES = {"voronoi": voronoi, "pipe-menon": pipe_menon}


class ZeroFilled(Reconstructor):
    """x = A*W y / Σ_c |S_c|²: k-space as it is, nothing where nothing was measured, coils combined.

    Roemer et al., Magn. Reson. Med. 16 (1990), for coils whose noise is white; the division, where any coil
    sees something, is 1 for normalised maps. Linear in y.

    density  W, the area of k-space each sample stands for, which gridding of radial and spiral k-space needs:
             "voronoi" or "pipe-menon" (`operators.density`, from the trajectory), or such weights, real, in
             the shape of the samples; None: "voronoi" for operators with a trajectory, 1 on a grid
    """

    density: Tensor | None

    def __init__(self, density: Tensor | Literal["voronoi", "pipe-menon"] | None = None):
        super().__init__()
        if isinstance(density, Tensor) and (density.is_complex() or not bool((density >= 0).all())):
            raise ValueError(f"ZeroFilled density: expected real numbers ≥ 0, got {density.dtype}")
        if isinstance(density, str) and density not in DENSITIES:
            raise ValueError(f"ZeroFilled density: expected one of {list(DENSITIES)}, got {density!r}")
        self.register_buffer("density", density if isinstance(density, Tensor) else None)
        self.compensation = density if isinstance(density, str) else None

    @torch.no_grad()
    def forward(self, problem: Problem) -> Tensor:
        A, y = problem.A, problem.linear
        weights = self._weights(A)
        x = A.adjoint(y) if weights is None else density_compensated_adjoint(A, y, weights.to(y.device))
        maps = getattr(A, "maps", None)
        if not isinstance(maps, Tensor):
            return x
        power = maps.abs().square().sum(0).to(x.real)
        return torch.where(power > 0, x / torch.where(power > 0, power, 1.0), 0.0)

    def _weights(self, A: LinearOperator) -> Tensor | None:
        trajectory = getattr(A, "trajectory", None)
        if self.density is not None or (trajectory is None and self.compensation is None):
            return self.density
        if not isinstance(A, NonUniformFourier | NonUniformSense) or not isinstance(trajectory, Tensor):
            raise ValueError(f"ZeroFilled density={self.compensation!r}: expected a trajectory, got {A!r}")
        spatial = A.in_shape[-trajectory.shape[-1] :]
        make = DENSITIES[self.compensation or "voronoi"]
        if not isinstance(A, NonUniformSense) or A.in_shape == spatial:
            return make(trajectory, spatial)
        frames = torch.stack([make(path, spatial) for path in trajectory])
        return frames.unsqueeze(1).expand(A.out_shape)  # every frame its own, for all coils

    @classmethod
    def examples(cls) -> list[ZeroFilled]:
        """As it is."""
        return [cls()]


class RootSumOfSquares(Reconstructor):
    """|x| = (Σ_c |F*y_c|²)^½ / (Σ_c |S_c|²)^½, the magnitude of all coils together.

    Roemer et al., Magn. Reson. Med. 16 (1990). Equal to |x| where all of k-space was measured; noise makes it
    positive on air. The division is 1 for normalised maps, and keeps the units of x for those of whitened
    coils; where no coil sees anything it is by the mean elsewhere. Real. For `Sense` problems.
    """

    @torch.no_grad()
    def forward(self, problem: Problem) -> Tensor:
        A, y = problem.A, problem.linear
        if not isinstance(A, Sense):
            raise ValueError(f"RootSumOfSquares: expected a Sense problem, k-space on a grid, got {A!r}")
        images = Fourier(A.out_shape, A.ndim).adjoint(y).abs()
        if A.maps is None:
            return images
        size = root_sum_of_squares(A.maps.detach(), A.ndim)
        size = torch.where(size > 0, size, size[size > 0].mean())
        return root_sum_of_squares(images, A.ndim) / size.to(images)


class CGSENSE(Tikhonov):
    """min_x ½‖(A x − y)/σ‖² + ½λ∫|x|², by conjugate gradients on the normal equations.

    Pruessmann, Weiger, Börnert, Boesiger, Magn. Reson. Med. 46 (2001): `Tikhonov` of |x|² under the name it
    has in MRI. One A*A an iteration, which for non-uniform k-space is a Toeplitz product without a transform.

    weight      λ; None: by the discrepancy, or another rule of `Variational`. 0: none, and then `iterations`
                regularise, from zero, as in the paper (`CGLS` stops such a run by the noise)
    iterations  at most so many
    tolerance   of the residual of the normal equations, relative
    likelihood  as in `Variational`
    """

    name = "cg-sense"

    def __init__(
        self,
        weight: Weight = None,
        iterations: int = 100,
        tolerance: float = 1e-6,
        likelihood: Likelihood | None = None,
    ):
        free = isinstance(weight, int | float) and weight == 0
        super().__init__(None if free else weight, iterations, tolerance, False, likelihood, "identity")
        if free:
            self.weight = 0.0

    def initial(self, problem: Problem) -> Tensor:
        # without λ the number of iterations is the regularisation, and none may be hidden
        return _zero(problem.A, problem.linear) if self.weight == 0.0 else start(problem)

    @classmethod
    def examples(cls) -> list[Tikhonov]:
        """λ by the discrepancy, given, and none."""
        return [cls(iterations=30), cls(0.5, 30), cls(0, 8)]


def _zero(A: LinearOperator, y: Tensor) -> Tensor:
    batch = y.shape[: y.ndim - len(A.out_shape)]
    return y.new_zeros(*batch, *A.in_shape)
