"""Direct methods: filtered back projection, and the adjoint."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.backprojection import fbp, ramp
from operators.tensors import spread, squared_norm

from .base import Reconstructor
from .problem import Problem


class FBP(Reconstructor):
    """x = max(0, Σ_v Δ_v W(v, x) (h ∗ [w · y_v])(s(v, x))): filtered back projection of the post-log data.

    For parallel and fan beams; of volumes the method of Feldkamp, Davis and Kress, and for helices fans
    rebinned slice by slice. See `operators.fbp` for what it does at uneven angles, on short scans and on
    limited-angle ones, and `operators.fdk` and `operators.helical_fbp` for volumes, and `FDK`.

    Parameters
    ----------
    filter : "ram-lak", "shepp-logan", "cosine", "hamming" or "hann"
    frequency_scaling : cut-off as a fraction of the Nyquist frequency, in (0, 1]
    short_scan : fan and cone: True Parker weights, False every ray measured twice, None as the angles say
    positive : set negative attenuation to zero, as every other CT method does by default

    Raises
    ------
    ValueError : an operator without the geometry of a scanner, an unknown filter
    """

    def __init__(
        self,
        filter: str = "hann",
        frequency_scaling: float = 1.0,
        short_scan: bool | None = None,
        positive: bool = True,
    ):
        super().__init__()
        self.filter, self.frequency_scaling = filter, frequency_scaling
        self.short_scan, self.positive = short_scan, positive
        # a wrong filter is an error here already, not at the first problem
        ramp(1, 1.0, filter, frequency_scaling)

    def forward(self, problem: Problem) -> Tensor:
        x = fbp(problem.A, problem.linear, self.filter, self.frequency_scaling, self.short_scan)
        return x.clamp_min(0) if self.positive else x

    @classmethod
    def examples(cls) -> list[FBP]:
        """Default, sharp, and smooth with negative values kept."""
        return [cls(), cls("ram-lak"), cls("cosine", frequency_scaling=0.6, positive=False)]


class FDK(FBP):
    """x = max(0, FDK of the post-log data): `FBP` by the name it has for cone beams (see `operators.fdk`)."""

    @classmethod
    def examples(cls) -> list[FBP]:
        """As it comes."""
        return [cls()]


class Adjoint(Reconstructor):
    """x = c A*y, c = ‖A*y‖² / ‖A A*y‖²: the multiple of A*y that fits the data best, argmin_c ‖A(c A*y) − y‖.

    For every linear operator; zero-filled reconstruction in MRI, back projection in CT.

    Parameters
    ----------
    scaled : False leaves c = 1
    """

    def __init__(self, scaled: bool = True):
        super().__init__()
        self.scaled = scaled

    def forward(self, problem: Problem) -> Tensor:
        A = problem.A
        x = A.adjoint(problem.linear)
        if not self.scaled:
            return x
        ndim = len(A.in_shape)
        energy, fitted = squared_norm(x, ndim), squared_norm(A(x), len(A.out_shape))
        c = torch.where(fitted > 0, energy / fitted.where(fitted > 0, torch.ones_like(fitted)), 0)
        return spread(c, ndim) * x

    @classmethod
    def examples(cls) -> list[Adjoint]:
        """Scaled and not."""
        return [cls(), cls(scaled=False)]
