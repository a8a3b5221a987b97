"""The polyenergetic forward model: an image of attenuation, two materials, one signal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import LinearOperator, Operator
from .beam import Beam
from .geometry import FanBeam, ParallelBeam
from .materials import check_ramp, split_materials, split_slopes
from .simple import Identity
from .tensors import real_dtype
from .xray import XRay


class Polyenergetic(Operator):
    """P(x) = −ln Σ_k w_k exp(−Σ_m μ_m(E_k) A s_m(x)), a scan with a tube's spectrum after the logarithm.

    x is attenuation at the beam's reference energy [1/mm]; `split_materials` makes of it the densities s_m of
    water and bone, which A projects together (Elbakri and Fessler, IEEE Trans. Med. Imaging 21 (2002)). With
    one material s₁ = x / μ₁(reference).

    A     XRay, or any linear operator that integrates along rays; every geometry
    beam  spectrum and materials: water, or water and bone, in this order
    ramp  between which HU bone rises from nothing to everything, see `split_materials`
    """

    def __init__(self, A: LinearOperator, beam: Beam, ramp: Sequence[float] = (100.0, 1500.0)):
        super().__init__()
        if not isinstance(A, LinearOperator):
            raise ValueError(f"Polyenergetic A: expected a linear operator, as XRay, got {type(A).__name__}")
        if len(beam.materials) not in (1, 2):
            raise ValueError(
                f"Polyenergetic beam: expected 1 or 2 materials, got {', '.join(beam.materials)}"
            )
        self.A, self.beam, self.ramp = A, beam, check_ramp(ramp)
        self.in_shape, self.out_shape = A.in_shape, A.out_shape

    def densities(self, x: Tensor) -> Tensor:
        """s_m(x), each material's share of every pixel, (materials, *x.shape)."""
        if len(self.beam.materials) == 1:
            return x[None] / self.beam.mu_reference[0]
        water, bone = self.beam.mu_reference
        return torch.stack(split_materials(x, water, bone, self.ramp))

    def paths(self, x: Tensor) -> Tensor:
        """A s_m(x), each material's length on every ray [mm], (materials, *batch, *out_shape)."""
        return self.A(self.densities(x))

    def _forward(self, x: Tensor) -> Tensor:
        return self.beam.log_signal(self.paths(x))

    @torch.no_grad()
    def derivative(self, x: Tensor) -> LinearOperator:
        """P'(x) h = Σ_m (∂p/∂L_m) · A(s_m'(x) h), for one image x of shape `in_shape`."""
        if tuple(x.shape) != self.in_shape:
            raise ValueError(
                f"derivative of {self!r} expects one image of shape {self.in_shape}, got {tuple(x.shape)}"
            )
        if len(self.beam.materials) == 1:
            pixels = torch.full_like(x, 1 / self.beam.mu_reference[0])[None]
        else:
            water, bone = self.beam.mu_reference
            pixels = torch.stack(split_slopes(x, water, bone, self.ramp))
        return WeightedProjections(self.A, pixels, self.beam.slopes(self.paths(x)))

    @classmethod
    def examples(cls) -> list[Polyenergetic]:
        """Made-up attenuations of the right size, so that no tables are needed."""
        beam = Beam(
            energies=(40.0, 60.0, 80.0, 110.0),
            quanta=(0.2, 0.4, 0.3, 0.1),
            gain=(40.0, 60.0, 80.0, 110.0),
            mu=((0.027, 0.021, 0.018, 0.016), (0.12, 0.06, 0.043, 0.034)),
            mu_reference=(0.021, 0.06),
            reference=60.0,
            materials=("water", "bone"),
        )
        one = Beam(beam.energies, beam.quanta, (1.0,) * 4, beam.mu[:1], (0.02,), 64.0, ("water",))
        angles = (0.1, 1.3, 2.9, -4.0)
        return [
            cls(XRay(ParallelBeam((6, 5), 3.0, angles, 9, 2.5)), beam, ramp=(-900.0, 60000.0)),
            cls(XRay(FanBeam((5, 6), 3.0, angles, 8, 4.5, 40.0, 70.0, "arc")), one),
            cls(Identity((3, 4)), beam, ramp=(-900.0, 60000.0)),
        ]


class WeightedProjections(LinearOperator):
    """(W h)ᵢ = Σ_m rᵢₘ (A (sₘ h))ᵢ: projections of several weighted images, weighted and added.

    A       any linear operator
    pixels  sₘ, (materials, *A.in_shape)
    rays    rₘ, (materials, *A.out_shape)
    """

    pixels: Tensor
    rays: Tensor

    def __init__(self, A: LinearOperator, pixels: Tensor, rays: Tensor):
        super().__init__()
        if tuple(pixels.shape[1:]) != A.in_shape or tuple(rays.shape) != (len(pixels), *A.out_shape):
            raise ValueError(
                f"WeightedProjections: expected pixels (m, *{A.in_shape}) and rays (m, *{A.out_shape}), "
                f"got {tuple(pixels.shape)} and {tuple(rays.shape)}"
            )
        self.A, self.in_shape, self.out_shape = A, A.in_shape, A.out_shape
        self.register_buffer("pixels", pixels)
        self.register_buffer("rays", rays)

    def _forward(self, x: Tensor) -> Tensor:
        dtype = real_dtype(x)
        projections = self.A(self.pixels.to(dtype)[:, None] * x)
        return (self.rays.to(dtype)[:, None] * projections).sum(0)

    def _adjoint(self, y: Tensor) -> Tensor:
        dtype = real_dtype(y)
        back = self.A.adjoint(self.rays.to(dtype)[:, None] * y)
        return (self.pixels.to(dtype)[:, None] * back).sum(0)

    @classmethod
    def examples(cls) -> list[WeightedProjections]:
        generator = torch.Generator().manual_seed(0)
        A = XRay(ParallelBeam((5, 4), 1.0, (0.0, 0.7, 2.0), 7, 1.1))

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        return [
            cls(A, random(2, *A.in_shape), random(2, *A.out_shape)),
            cls(Identity((3, 4)), random(3, 3, 4), random(3, 3, 4)),
        ]
