"""Total variation, exact and smoothed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from operators.backends.fused import fits
from operators.gradient import Gradient, spacings
from operators.tensors import inner, real_dtype, spread, squared_norm, total

from .backends.tv import divergence, turn
from .backends.tv import dual_step as fused_step
from .backends.tv_prox import Dual
from .base import Composed, Functional, Scaled, Step
from .norms import L1, L21, HuberL21, Parts


class _Variation(Composed):
    """weight · cell · f(∇x), f a sum over pixels, cell their area or volume: what TV and HuberTV share."""

    weight: Step

    def __init__(
        self,
        f: L1 | L21,
        shape: Sequence[int],
        pixel_size: float | Sequence[float],
        weight: Step,
        boundary: str,
        joint: bool,
    ):
        shape, name = tuple(shape), type(self).__name__
        if len(shape) not in (2, 3):
            raise ValueError(f"{name} shape: expected (ny, nx) or (nz, ny, nx), got {shape}")
        spacing = spacings(f"{name} pixel_size", pixel_size, len(shape))
        self._spacing, self._cell = spacing, math.prod(spacing)
        self._delta, self._isotropic = f.delta, isinstance(f, L21)
        pixelwise = f if joint else Parts(f)
        super().__init__(weight * self._cell * pixelwise, _Gradient(shape, spacing, boundary))
        self.shape, self.pixel_size, self.pixelwise = shape, pixel_size, pixelwise
        self.boundary, self.joint = boundary, joint
        self._step = 1 / (4 * sum(h**-2 for h in spacing))  # 1/‖∇‖² at most
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

        x    : (*batch, ny, nx) or (*batch, nz, ny, nx)
        step : > 0, a float or one per image (*batch,)
        """
        n = len(self.shape)
        batch, image = x.shape[: x.ndim - n], tuple(range(-n, 0))
        weight = torch.as_tensor(step * self.weight, dtype=real_dtype(x), device=x.device)
        weight = weight.expand(batch).reshape(-1)
        # what a gradient does not see stays as it is
        mean = x.new_zeros(()) if self.boundary == "zero" else x.mean(image, keepdim=True)
        if n == 2 and self._isotropic and x.numel() and fits(x, weight):
            return self._fused_prox(x, mean, weight, iterations, tolerance)
        noisy = (x - mean).reshape(-1, *self.shape)
        edge = self._cell ** (1 - 1 / n)
        rounding = 2 * torch.finfo(weight.dtype).eps * weight * edge * total(noisy.abs(), n)
        allowed = (0.5 * tolerance**2 * squared_norm(noisy, n) + rounding).detach()
        result: list[Tensor] = []
        order: list[Tensor] = []
        images = torch.arange(len(noisy), device=x.device)
        p = q = noisy.new_zeros(len(noisy), n, *self.shape)
        sigma, t, k = self._step, torch.ones_like(weight), 0
        while len(images):
            k, t_old, p_old = k + 1, t, p
            p = self._dual_step(q, noisy - self.A.adjoint(q), sigma, weight)
            fast = fits(q, p, p_old)
            back = turn(q, p, p_old) if fast else inner(q - p, p - p_old, n + 1)
            t_old = torch.where(back > 0, 1.0, t)
            t = (1 + torch.sqrt(1 + 4 * t_old * t_old)) / 2
            q = _beyond(p_old, p, 1 + (t_old - 1) / t, n + 1, q if fast else None)
            if k % 10 and k < iterations:
                continue
            z = noisy - self.A.adjoint(p)
            radius, slope = weight * self._cell, self.A(z)
            conjugate = 0.5 * self._delta / radius * squared_norm(p, n + 1)  # p is inside its domain
            gap = radius * self.pixelwise(slope) + conjugate - inner(p, slope, n + 1)
            done = (gap.detach() <= allowed) | (k >= iterations)
            if bool(done.any()):
                result.append(z[done])
                order.append(images[done])
                state = (images, noisy, weight, allowed, p, q, t)
                images, noisy, weight, allowed, p, q, t = (v[~done] for v in state)
        if not result:
            return x.clone()
        return torch.cat(result)[torch.cat(order).argsort()].reshape(x.shape) + mean

    def _fused_prox(
        self, x: Tensor, mean: Tensor, weight: Tensor, iterations: int, tolerance: float
    ) -> Tensor:
        """The same, one pass over memory per iteration."""
        radius = (weight * self._cell).contiguous()
        dual = Dual(
            x.reshape(-1, *self.shape), mean.expand(*x.shape[:-2], 1, 1).reshape(-1),
            radius, 1 + self._step * self._delta / radius,
            self._step, self._spacing, self.boundary, self.joint, self._delta,
        )  # fmt: skip
        lengths, squares = dual.size()
        rounding = 2 * torch.finfo(weight.dtype).eps * weight * math.sqrt(self._cell) * lengths
        allowed = 0.5 * tolerance**2 * squares + rounding
        images, k = torch.arange(len(weight)), 0
        while len(images):
            times = max(min(10, iterations - k), 1)
            dual.iterate(images, times)
            k += times
            slopes, products, squares = dual.gap(images)
            r = radius[images]
            gap = r * slopes - products + 0.5 * self._delta / r * squares
            images = images[(gap > allowed[images]) & (k < iterations)]
        return dual.clean.reshape(x.shape)

    def dual_step(self, p: Tensor, x_bar: Tensor, sigma: Step) -> Tensor:
        """Prox of σf* at p + σ∇x̄, fused where it can be: on the CPU, where nothing is differentiated.

        p     : (*batch, 2, ny, nx) or (*batch, 3, nz, ny, nx)
        x_bar : (*batch, ny, nx) or (*batch, nz, ny, nx)
        sigma : a float or one per image (*batch,)
        """
        return self._dual_step(p, x_bar, sigma, self.weight)

    def _dual_step(self, p: Tensor, x_bar: Tensor, sigma: Step, weight: Step) -> Tensor:
        n = len(self.shape)
        if not fits(p, x_bar, sigma, weight) or p.is_complex() != x_bar.is_complex():
            f = Scaled(weight * self._cell, self.pixelwise)
            return f.prox_conj(p + spread(sigma, n + 1) * self.A(x_bar), sigma)
        batch = torch.broadcast_shapes(p.shape[: -n - 1], x_bar.shape[:-n])
        count = math.prod(batch)

        def each(value: Step) -> Tensor:
            return torch.as_tensor(value, dtype=real_dtype(p)).expand(batch).reshape(count).contiguous()

        radius = weight * self._cell
        flat_p = p.expand(*batch, n, *self.shape).reshape(count, n, *self.shape)
        flat_x = x_bar.expand(*batch, *self.shape).reshape(count, *self.shape)
        disc = each(radius), each(1 + sigma * self._delta / radius)
        result = fused_step(
            flat_p, flat_x, each(sigma), *disc,
            self._spacing, self.boundary, self._isotropic, self.joint,
        )  # fmt: skip
        return result.reshape(*batch, n, *self.shape)

    def _options(self) -> str:
        """What says which of the functionals called total variation this one is."""
        return f"boundary={self.boundary!r}, joint={self.joint}, weight={self.weight}"


def _beyond(old: Tensor, new: Tensor, times: Tensor, ndim: int, out: Tensor | None) -> Tensor:
    """old + times · (new − old), times one per image; into `out`, which may be `old`."""
    weight = times.reshape(-1, *(1,) * ndim)
    if not new.is_complex():
        return torch.lerp(old, new, weight, out=out)
    parts = None if out is None else torch.view_as_real(out)
    moved = torch.lerp(torch.view_as_real(old), torch.view_as_real(new), weight.unsqueeze(-1), out=parts)
    return torch.view_as_complex(moved)


class _Gradient(Gradient):
    """Gradient, its adjoint by the kernel that reads p once."""

    def _adjoint(self, y: Tensor) -> Tensor:
        return divergence(y, self.spacing, self.boundary) if fits(y) else super()._adjoint(y)


class TV(_Variation):
    """E(x) = weight · ∫ |∇x| = weight · h² Σ |∇x|, in the unit of x times mm; of a volume times mm².

    Rudin, Osher, Fatemi, Physica D 60 (1992). Forward differences; by default no flux through the border,
    and |·| the Euclidean length of the gradient, joint over real and imaginary part: turning the phase of an
    image leaves its TV. The same edge has the same value at every pixel size. At pixel_size=1 it is that of

        isotropic  boundary    joint
        True       "neumann"   True    this library
        True       "neumann"   False   deepinv (its channels are real and imaginary part)
        True       "periodic"  True    BART (pics -R T; differences along the axes of the flag)
        False      "periodic"  True    sigpy
        False      "zero"      False   MRpro

    shape      : (ny, nx) or (nz, ny, nx)
    pixel_size : h [mm], or one for every axis, (dz, dy, dx); their product stands for h²
    isotropic  : Euclidean length, or the sum of the moduli of the partial derivatives
    weight     : > 0, a float or one per image (*batch,); 2 * tv is a TV of twice the weight
    boundary   : what lies beyond the far edge, as in operators.Gradient: "neumann", "periodic" or "zero"
    joint      : modulus of complex numbers, or the TV of the real plus that of the imaginary part
    """

    def __init__(
        self,
        shape: Sequence[int],
        pixel_size: float | Sequence[float] = 1.0,
        isotropic: bool = True,
        weight: Step = 1.0,
        boundary: str = "neumann",
        joint: bool = True,
    ):
        n = len(shape)
        f = L21(-n - 1, n + 1) if isotropic else L1(ndim=n + 1)
        super().__init__(f, shape, pixel_size, weight, boundary, joint)
        self.isotropic = isotropic

    def grad(self, x: Tensor) -> Tensor:
        raise NotImplementedError(
            "TV has no gradient where the image is flat: use its prox (fista) or pdhg, or HuberTV, its "
            "smooth relative; for training, differentiate the value itself"
        )

    def _weighted(self, weight: Step) -> TV:
        return TV(self.shape, self.pixel_size, self.isotropic, weight, self.boundary, self.joint)

    def __repr__(self) -> str:
        options = f"pixel_size={self.pixel_size}, isotropic={self.isotropic}, {self._options()}"
        return f"TV({self.shape}, {options})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [
            (cls((5, 4)), (5, 4)),
            (cls((4, 7), pixel_size=0.5, isotropic=False), (4, 7)),
            (cls((1, 6), pixel_size=2.0, weight=0.3), (1, 6)),
            (cls((3, 1)), (3, 1)),
            (cls((2, 3, 2), pixel_size=(2.0, 0.5, 1.0)), (2, 3, 2)),
            (cls((2, 2, 3), isotropic=False, weight=0.4), (2, 2, 3)),
            (cls((4, 3), isotropic=False, boundary="periodic"), (4, 3)),
            (cls((3, 5), (0.5, 2.0), boundary="zero", joint=False), (3, 5)),
        ]


class HuberTV(_Variation):
    """E(x) = weight · ∫ h_δ(|∇x|) = weight · h² Σ h_δ(|∇x|),  h_δ(t) = t²/(2δ) for t ≤ δ, t − δ/2 above.

    Smooth total variation: TV as δ → 0, quadratic for slopes below δ, which it does not turn into stairs.

    shape      : (ny, nx) or (nz, ny, nx)
    pixel_size : h [mm], or one for every axis, (dz, dy, dx); their product stands for h²
    delta      : the slope where linear growth begins, > 0 [unit of x per mm]
    weight     : > 0, a float or one per image (*batch,)
    boundary, joint : as in TV
    """

    def __init__(
        self,
        shape: Sequence[int],
        pixel_size: float | Sequence[float] = 1.0,
        delta: float = 1.0,
        weight: Step = 1.0,
        boundary: str = "neumann",
        joint: bool = True,
    ):
        n = len(shape)
        super().__init__(HuberL21(delta, -n - 1, n + 1), shape, pixel_size, weight, boundary, joint)
        self.delta = delta

    def _weighted(self, weight: Step) -> HuberTV:
        return HuberTV(self.shape, self.pixel_size, self.delta, weight, self.boundary, self.joint)

    def __repr__(self) -> str:
        options = f"pixel_size={self.pixel_size}, delta={self.delta}, {self._options()}"
        return f"HuberTV({self.shape}, {options})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [
            (cls((5, 4), delta=0.3), (5, 4)),
            (cls((4, 7), pixel_size=0.5, delta=1.0), (4, 7)),
            (cls((1, 6), delta=0.1, weight=0.3), (1, 6)),
            (cls((3, 4, 2), pixel_size=(2.0, 0.5, 1.0), delta=0.3), (3, 4, 2)),
            (cls((3, 4), delta=0.3, boundary="periodic", joint=False), (3, 4)),
        ]
