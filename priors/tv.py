"""Total variation, exact and smoothed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from operators.gradient import Gradient
from operators.tensors import inner, real_dtype, spread, squared_norm, total

from .backends.tv import divergence, fits
from .backends.tv import dual_step as fused_step
from .base import Composed, Functional, Scaled, Step
from .norms import L1, L21, HuberL21


class _Variation(Composed):
    """weight · h² · f(∇x), f a sum over pixels: what TV and HuberTV share."""

    weight: Step

    def __init__(self, f: L1 | L21, shape: Sequence[int], pixel_size: float, weight: Step):
        if not 0 < pixel_size < math.inf:
            raise ValueError(
                f"{type(self).__name__} pixel_size: expected a positive length, got {pixel_size}"
            )
        ny, nx = shape
        super().__init__(weight * pixel_size**2 * f, _Gradient((ny, nx), spacing=pixel_size))
        self.shape, self.pixel_size, self.pixelwise = (ny, nx), pixel_size, f
        if isinstance(weight, Tensor) and weight.ndim:
            self.register_buffer("weight", weight)
        else:
            self.weight = float(weight)

    def _weighted(self, weight: Step) -> Self:
        raise NotImplementedError

    def __rmul__(self, scale: Step) -> Self:
        return self._weighted(scale * self.weight)

    def prox(self, x: Tensor, step: Step, iterations: int = 2000, tolerance: float = 1e-3) -> Tensor:
        """argmin_z ½‖z − x‖² + step·f(z), denoising, by fast gradient projection on the dual.

        Beck and Teboulle, IEEE Trans. Image Process. 18 (2009), with O'Donoghue and Candès' restart. Every
        image stops by itself, as soon as its duality gap, looked at every tenth iteration, proves
        ‖z − z*‖ ≤ tolerance·‖x − mean(x)‖; that is the accuracy, unless `iterations` ran out or rounding
        hides the gap (below a tolerance of about 3e-4 in float32, 1e-8 in float64). Nothing is remembered
        from one call to the next; differentiable in x, by unrolling.

        x    : (*batch, ny, nx)
        step : > 0, a float or one per image (*batch,)
        """
        batch = x.shape[: x.ndim - 2]
        weight = torch.as_tensor(step * self.weight, dtype=real_dtype(x), device=x.device)
        weight = weight.expand(batch).reshape(-1)
        mean = x.mean((-2, -1), keepdim=True)
        noisy = (x - mean).reshape(-1, *self.shape)
        rounding = 2 * torch.finfo(weight.dtype).eps * weight * self.pixel_size * total(noisy.abs(), 2)
        allowed = (0.5 * tolerance**2 * squared_norm(noisy, 2) + rounding).detach()
        result: list[Tensor] = []
        order: list[Tensor] = []
        images = torch.arange(len(noisy), device=x.device)
        p = q = noisy.new_zeros(len(noisy), 2, *self.shape)
        sigma, t, k = self.pixel_size**2 / 8, torch.ones_like(weight), 0
        while len(images):
            k, t_old, p_old = k + 1, t, p
            p = self._dual_step(q, noisy - self.A.adjoint(q), sigma, weight)
            move = p - p_old
            t_old = torch.where(inner(q - p, move, 3) > 0, 1.0, t)
            t = (1 + torch.sqrt(1 + 4 * t_old * t_old)) / 2
            q = p + spread((t_old - 1) / t, 3) * move
            if k % 10 and k < iterations:
                continue
            z = noisy - self.A.adjoint(p)
            f, slope = Scaled(weight * self.pixel_size**2, self.pixelwise), self.A(z)
            gap = f(slope) + f.conjugate(p) - inner(p, slope, 3)
            done = (gap.detach() <= allowed) | (k >= iterations)
            if bool(done.any()):
                result.append(z[done])
                order.append(images[done])
                state = (images, noisy, weight, allowed, p, q, t)
                images, noisy, weight, allowed, p, q, t = (v[~done] for v in state)
        if not result:
            return x.clone()
        return torch.cat(result)[torch.cat(order).argsort()].reshape(x.shape) + mean

    def dual_step(self, p: Tensor, x_bar: Tensor, sigma: Step) -> Tensor:
        """Prox of σf* at p + σ∇x̄, fused where it can be: real float32 or float64 on the CPU.

        p     : (*batch, 2, ny, nx)
        x_bar : (*batch, ny, nx)
        sigma : a float or one per image (*batch,)
        """
        return self._dual_step(p, x_bar, sigma, self.weight)

    def _dual_step(self, p: Tensor, x_bar: Tensor, sigma: Step, weight: Step) -> Tensor:
        if not fits(p, x_bar, sigma, weight):
            f = Scaled(weight * self.pixel_size**2, self.pixelwise)
            return f.prox_conj(p + spread(sigma, 3) * self.A(x_bar), sigma)
        batch = torch.broadcast_shapes(p.shape[:-3], x_bar.shape[:-2])
        count = math.prod(batch)

        def each(value: Step) -> Tensor:
            return torch.as_tensor(value, dtype=p.dtype).expand(batch).reshape(count).contiguous()

        radius = weight * self.pixel_size**2
        return fused_step(
            p.expand(*batch, 2, *self.shape).reshape(count, 2, *self.shape),
            x_bar.expand(*batch, *self.shape).reshape(count, *self.shape),
            sigma=each(sigma / self.pixel_size),
            radius=each(radius),
            slack=each(1 + sigma * self.pixelwise.delta / radius),
            isotropic=isinstance(self.pixelwise, L21),
        ).reshape(*batch, 2, *self.shape)


class _Gradient(Gradient):
    """Gradient, its adjoint by the kernel that reads p once."""

    def _adjoint(self, y: Tensor) -> Tensor:
        return divergence(y, 1 / self.spacing) if fits(y) else super()._adjoint(y)


class TV(_Variation):
    """E(x) = weight · ∫ |∇x| = weight · h² Σ |∇x|, in the unit of x times mm.

    Rudin, Osher, Fatemi, Physica D 60 (1992). Forward differences, no flux through the border; |·| is the
    Euclidean length of the gradient (isotropic) or the sum of its two moduli (anisotropic), joint over real
    and imaginary part. The same edge has the same value at every pixel size.

    shape      : (ny, nx)
    pixel_size : h [mm]
    isotropic  : Euclidean length, or sum of moduli
    weight     : > 0, a float or one per image (*batch,); 2 * tv is a TV of twice the weight
    """

    def __init__(
        self, shape: Sequence[int], pixel_size: float = 1.0, isotropic: bool = True, weight: Step = 1.0
    ):
        super().__init__(L21() if isotropic else L1(ndim=3), shape, pixel_size, weight)
        self.isotropic = isotropic

    def grad(self, x: Tensor) -> Tensor:
        raise NotImplementedError(
            "TV has no gradient where the image is flat: use its prox (fista) or pdhg, or HuberTV, its "
            "smooth relative; for training, differentiate the value itself"
        )

    def _weighted(self, weight: Step) -> TV:
        return TV(self.shape, self.pixel_size, self.isotropic, weight)

    def __repr__(self) -> str:
        options = f"pixel_size={self.pixel_size}, isotropic={self.isotropic}, weight={self.weight}"
        return f"TV({self.shape}, {options})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [
            (cls((5, 4)), (5, 4)),
            (cls((4, 7), pixel_size=0.5, isotropic=False), (4, 7)),
            (cls((1, 6), pixel_size=2.0, weight=0.3), (1, 6)),
            (cls((3, 1)), (3, 1)),
        ]


class HuberTV(_Variation):
    """E(x) = weight · ∫ h_δ(|∇x|) = weight · h² Σ h_δ(|∇x|),  h_δ(t) = t²/(2δ) for t ≤ δ, t − δ/2 above.

    Smooth total variation: TV as δ → 0, quadratic for slopes below δ, which it does not turn into stairs.

    shape      : (ny, nx)
    pixel_size : h [mm]
    delta      : the slope where linear growth begins, > 0 [unit of x per mm]
    weight     : > 0, a float or one per image (*batch,)
    """

    def __init__(self, shape: Sequence[int], pixel_size: float = 1.0, delta: float = 1.0, weight: Step = 1.0):
        super().__init__(HuberL21(delta), shape, pixel_size, weight)
        self.delta = delta

    def _weighted(self, weight: Step) -> HuberTV:
        return HuberTV(self.shape, self.pixel_size, self.delta, weight)

    def __repr__(self) -> str:
        return (
            f"HuberTV({self.shape}, pixel_size={self.pixel_size}, delta={self.delta}, weight={self.weight})"
        )

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [
            (cls((5, 4), delta=0.3), (5, 4)),
            (cls((4, 7), pixel_size=0.5, delta=1.0), (4, 7)),
            (cls((1, 6), delta=0.1, weight=0.3), (1, 6)),
        ]
