"""Norms, and their smooth relatives."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from operators.tensors import inner, spread, squared_norm, total

from .base import Functional, Step

SLACK = 1e-6
"""A point this far (relatively) outside the domain of a conjugate still counts as inside: rounding."""


class _Targeted(Functional):
    """A functional of x − target."""

    target: Tensor | float

    def __init__(self, target: Tensor | float, ndim: int):
        super().__init__()
        self.ndim = ndim
        self.hold("target", target)

    def hold(self, name: str, value: Tensor | float) -> None:
        """A tensor becomes a buffer, a number stays one (and takes on the dtype of any image)."""
        if isinstance(value, Tensor):
            self.register_buffer(
                name, value if value.is_floating_point() or value.is_complex() else value.float()
            )
        else:
            setattr(self, name, float(value) if not isinstance(value, complex) else value)

    @property
    def centred(self) -> bool:
        return not isinstance(self.target, Tensor) and self.target == 0

    def residual(self, x: Tensor) -> Tensor:
        return x if self.centred else x - self.target

    def shifted(self, r: Tensor) -> Tensor:
        return r if self.centred else r + self.target

    def pairing(self, y: Tensor) -> Tensor | float:
        """Re⟨y, target⟩, what the target adds to a conjugate."""
        if self.centred:
            return 0.0
        target = self.target if isinstance(self.target, Tensor) else torch.full_like(y, self.target)
        return inner(y, target.expand(torch.broadcast_shapes(y.shape, target.shape)), self.ndim)

    def __repr__(self) -> str:
        shown = f"tensor{tuple(self.target.shape)}" if isinstance(self.target, Tensor) else self.target
        return f"{type(self).__name__}(target={shown}, ndim={self.ndim})"


class SquaredL2(_Targeted):
    """½ Σᵢ weightᵢ |xᵢ − targetᵢ|²

    target : number or tensor that broadcasts against x
    weight : number or real tensor ≥ 0 that broadcasts against x (1/σ² of Gaussian noise)
    ndim   : dimensions of one image

    Conjugate Re⟨y, target⟩ + ½ Σ |yᵢ|²/weightᵢ; inf where a weight is 0 and |yᵢ| > 1e-6·max|y|.
    """

    weight: Tensor | float

    def __init__(self, target: Tensor | float = 0.0, weight: Tensor | float = 1.0, ndim: int = 2):
        super().__init__(target, ndim)
        if not bool(torch.as_tensor(weight >= 0).all()):
            raise ValueError("SquaredL2 weight: expected numbers ≥ 0, got a negative one or NaN")
        self.hold("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        r = self.residual(x)
        if not isinstance(self.weight, Tensor):
            return 0.5 * self.weight * squared_norm(r, self.ndim)
        return 0.5 * total(self.weight * _power(r), self.ndim)

    def grad(self, x: Tensor) -> Tensor:
        return self.weight * self.residual(x)

    def prox(self, x: Tensor, step: Step) -> Tensor:
        w = spread(step, self.ndim) * self.weight
        return self.shifted(self.residual(x) / (1 + w))

    def prox_conj(self, y: Tensor, step: Step) -> Tensor:
        s = spread(step, self.ndim)
        y = y if self.centred else y - s * self.target
        return y * (self.weight / (self.weight + s))

    def conjugate(self, y: Tensor) -> Tensor:
        weight = torch.as_tensor(self.weight, dtype=y.real.dtype, device=y.device)
        power = _power(y)
        largest = SLACK**2 * power.amax(tuple(range(-self.ndim, 0)), keepdim=True)
        free = torch.where(power <= largest, 0.0, math.inf)
        terms = torch.where(weight > 0, power / torch.where(weight > 0, weight, 1), free)
        return self.pairing(y) + 0.5 * total(terms, self.ndim)

    @property
    def lipschitz(self) -> Step:
        w = self.weight
        if isinstance(w, Tensor) and w.ndim > self.ndim:
            return w.flatten(-self.ndim).amax(-1) if self.ndim else w  # of each image its own
        return float(torch.as_tensor(w).max())

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        ramp = torch.linspace(0.5, 2.0, 15).reshape(3, 5)
        return [
            (cls(), (3, 5)),
            (cls(target=0.3, weight=2.0, ndim=1), (7,)),
            (cls(target=ramp, weight=ramp.flip(1)), (3, 5)),
            (cls(target=ramp, weight=ramp > 1), (3, 5)),
        ]


class _Lengths(_Targeted):
    """Σ h_δ(length of x − target), where `length` gathers entries into groups.

    h_δ(t) = t²/(2δ) for t ≤ δ, t − δ/2 above; h₀(t) = t. With r = x − target and s = step,

        prox       r (1 − s / max(|r|, δ + s)) + target
        prox_conj  q / max(1 + sδ, |q|),  q = y − s·target
        conjugate  Re⟨y, target⟩ + δ/2 ‖y‖² where every length is ≤ 1 + 1e-6, else inf
    """

    def __init__(self, target: Tensor | float, delta: float, ndim: int):
        super().__init__(target, ndim)
        if delta < 0 or not math.isfinite(delta):
            raise ValueError(f"{type(self).__name__} delta: expected a positive number, got {delta}")
        self.delta = delta

    def length(self, r: Tensor) -> Tensor:
        """Length of every group, of a shape that broadcasts against r and sums over `ndim` dimensions."""
        return r.abs()

    def forward(self, x: Tensor) -> Tensor:
        t = self.length(self.residual(x))
        if self.delta:
            t = torch.where(t <= self.delta, t * t / (2 * self.delta), t - self.delta / 2)
        return total(t, self.ndim)

    def grad(self, x: Tensor) -> Tensor:
        if not self.delta:
            raise NotImplementedError(
                f"{self!r} is not differentiable: use its prox (fista, pdhg, admm), or the Huber relative"
            )
        r = self.residual(x)
        return r / self.length(r).clamp(min=self.delta)

    def prox(self, x: Tensor, step: Step) -> Tensor:
        r, s = self.residual(x), spread(step, self.ndim)
        return self.shifted(r * (1 - s / _at_least(self.length(r), self.delta + s)))

    def prox_conj(self, y: Tensor, step: Step) -> Tensor:
        s = spread(step, self.ndim)
        q = y if self.centred else y - s * self.target
        return q / _at_least(self.length(q), 1 + self.delta * s)

    def conjugate(self, y: Tensor) -> Tensor:
        inside = (self.length(y) <= 1 + SLACK).flatten(-self.ndim).all(-1)
        value = self.pairing(y) + 0.5 * self.delta * squared_norm(y, self.ndim)
        return torch.where(inside, value, math.inf)

    @property
    def lipschitz(self) -> float:
        return 1 / self.delta if self.delta else math.inf


class L1(_Lengths):
    """Σᵢ |xᵢ − targetᵢ|, the modulus if complex; prox is soft thresholding.

    target : number or tensor that broadcasts against x
    ndim   : dimensions of one image
    """

    def __init__(self, target: Tensor | float = 0.0, ndim: int = 2):
        super().__init__(target, 0.0, ndim)

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [
            (cls(), (3, 5)),
            (cls(target=torch.linspace(-1, 1, 7), ndim=1), (7,)),
            (cls(ndim=3), (2, 3, 4)),
        ]


class L2(_Lengths):
    """‖x − target‖₂, not squared; prox shrinks the whole image towards the target.

    target : number or tensor that broadcasts against x
    ndim   : dimensions of one image
    """

    def __init__(self, target: Tensor | float = 0.0, ndim: int = 2):
        super().__init__(target, 0.0, ndim)

    def length(self, r: Tensor) -> Tensor:
        return torch.linalg.vector_norm(r, dim=tuple(range(-self.ndim, 0)), keepdim=True)

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [(cls(), (3, 5)), (cls(target=0.5, ndim=1), (7,))]


class L21(_Lengths):
    """Σ over pixels of the Euclidean length along `dim`, √(Σ_d |x_d|²); joint over re/im if complex.

    L21() @ Gradient(shape) is isotropic total variation (Rudin, Osher, Fatemi, Physica D 60 (1992)).

    dim  : the dimension of the vectors, negative, within the last `ndim`
    ndim : dimensions of one image, (2, ny, nx) by default
    """

    def __init__(self, dim: int = -3, ndim: int = 3):
        super().__init__(0.0, 0.0, ndim)
        self.dim = _inside(self, dim, ndim)

    def length(self, r: Tensor) -> Tensor:
        return euclidean(r, self.dim)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dim={self.dim}, ndim={self.ndim})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [(cls(), (2, 3, 5)), (cls(dim=-1, ndim=2), (4, 3)), (cls(), (2, 1, 1))]


class Huber(_Lengths):
    """Σᵢ h_δ(|xᵢ − targetᵢ|),  h_δ(t) = t²/(2δ) for t ≤ δ, t − δ/2 above (Huber, Ann. Math. Stat. 1964).

    delta  : where the square ends, > 0, unit of x
    target : number or tensor that broadcasts against x
    ndim   : dimensions of one image
    """

    def __init__(self, delta: float, target: Tensor | float = 0.0, ndim: int = 2):
        _positive(self, delta)
        super().__init__(target, delta, ndim)

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [(cls(0.4), (3, 5)), (cls(1.5, target=torch.linspace(-1, 1, 7), ndim=1), (7,))]


class HuberL21(L21):
    """Σ over pixels of h_δ(Euclidean length along `dim`), h_δ as in `Huber`.

    delta : where the square ends, > 0, unit of x
    dim   : the dimension of the vectors, negative, within the last `ndim`
    ndim  : dimensions of one image
    """

    def __init__(self, delta: float, dim: int = -3, ndim: int = 3):
        _positive(self, delta)
        super().__init__(dim, ndim)
        self.delta = delta

    def __repr__(self) -> str:
        return f"HuberL21({self.delta}, dim={self.dim}, ndim={self.ndim})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [(cls(0.4), (2, 3, 5)), (cls(1.5, dim=-1, ndim=2), (4, 3))]


class Parts(Functional):
    """f(Re x) + f(Im x): real and imaginary part each by itself; f(x) where x is real.

    The value depends on the phase of x, which is arbitrary in MRI; it is what several toolboxes do.

    f : a functional of real images
    """

    def __init__(self, f: Functional):
        super().__init__()
        self.f, self.ndim = f, f.ndim

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x.real) + self.f(x.imag) if x.is_complex() else self.f(x)

    def grad(self, x: Tensor) -> Tensor:
        return torch.complex(self.f.grad(x.real), self.f.grad(x.imag)) if x.is_complex() else self.f.grad(x)

    def prox(self, x: Tensor, step: Step) -> Tensor:
        if not x.is_complex():
            return self.f.prox(x, step)
        return torch.complex(self.f.prox(x.real, step), self.f.prox(x.imag, step))

    def prox_conj(self, y: Tensor, step: Step) -> Tensor:
        if not y.is_complex():
            return self.f.prox_conj(y, step)
        return torch.complex(self.f.prox_conj(y.real, step), self.f.prox_conj(y.imag, step))

    def conjugate(self, y: Tensor) -> Tensor:
        return self.f.conjugate(y.real) + self.f.conjugate(y.imag) if y.is_complex() else self.f.conjugate(y)

    @property
    def lipschitz(self) -> Step:
        return self.f.lipschitz

    def __repr__(self) -> str:
        return f"Parts({self.f!r})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [(cls(L1()), (3, 5)), (cls(HuberL21(0.4)), (2, 3, 4))]


def _power(x: Tensor) -> Tensor:
    """|xᵢ|²"""
    return x.real.square() + x.imag.square() if x.is_complex() else x * x


def euclidean(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """√(Σ |x|²) over `dim`, which stays with size 1; its derivative at 0 is 0.

    Twenty times faster than `vector_norm` along any but the last axis.
    """
    square = _power(x).sum(dim, keepdim=True)
    return torch.where(square > 0, square.clamp(min=torch.finfo(square.dtype).tiny).sqrt(), square)


def _at_least(length: Tensor, bound: Tensor | float) -> Tensor:
    """max(length, bound), never 0."""
    tiny = torch.finfo(length.dtype).tiny
    if isinstance(bound, Tensor):
        return torch.maximum(length, bound.to(length.dtype).clamp(min=tiny))
    return length.clamp(min=max(bound, tiny))


def _positive(f: Functional, delta: float) -> None:
    if not (0 < delta < math.inf):
        raise ValueError(f"{type(f).__name__} delta: expected a positive number, got {delta}")


def _inside(f: Functional, dim: int, ndim: int) -> int:
    if not -ndim <= dim < 0:
        raise ValueError(f"{type(f).__name__} dim: expected a negative dimension ≥ {-ndim}, got {dim}")
    return dim
