"""What every functional promises, as one function: `check(f, shape)`."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from operators.simple import Identity
from operators.tensors import inner, norm, spread, squared_norm

from .base import Composed, Functional, Step

EXACT = 1e-9  # closed forms in float64: rounding of sums of some hundred terms, with three digits to spare
ITERATED = 1e-6  # a prox that iterates is asked for 1e-7
SINGLE = 1e-4  # float32 against float64, closed forms
SINGLE_ITERATED = 5e-3  # a prox that iterates is asked for 1e-3, all that float32 allows


def check(
    f: Functional,
    shape: Sequence[int],
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64),
    complex_input: bool = False,
    seed: int = 0,
) -> None:
    """Check that f keeps the promises of `Functional`; what f does not have (prox, conjugate) is not asked.

    Value per image for any batch, gradient against differences and autograd, Lipschitz constant; prox against
    50 perturbations, against an independent minimiser and by Fenchel's equality; firm nonexpansiveness,
    Moreau, scaling, one step per image; Fenchel–Young; sums, multiples, compositions, fused dual steps;
    no memory from call to call, arguments untouched, an image the same alone and beside a brighter one;
    dtype and, in float32, the values of float64.

    f             a functional on any device; it is copied, in the precision that is checked
    shape         of one small image, len(shape) == f.ndim
    dtypes        float64 runs the laws, float32 compares with it
    complex_input also try complex images
    seed          of the random images

    Raises AssertionError that says which promise is broken and by how much.
    """
    _claim(f, f.ndim == len(shape), f"ndim is {f.ndim}, but one image has shape {tuple(shape)}")
    for is_complex in (False, True) if complex_input else (False,):
        exact = _Case.of(f, shape, torch.float64, is_complex, seed)
        if torch.float64 in dtypes:
            for law in LAWS:
                law(exact)
        if torch.float32 in dtypes:
            _float32(exact, _Case.of(f, shape, torch.float32, is_complex, seed))


@dataclass(frozen=True)
class _Case:
    """A functional, six random images (two of them faint, two bright) and a step for each."""

    f: Functional
    shape: tuple[int, ...]
    x: Tensor
    steps: Tensor

    @classmethod
    def of(
        cls, f: Functional, shape: Sequence[int], dtype: torch.dtype, is_complex: bool, seed: int
    ) -> _Case:
        like = next((t for t in (*f.parameters(), *f.buffers())), torch.empty(0))
        generator = torch.Generator().manual_seed(seed)
        kind = torch.complex128 if is_complex else torch.float64
        x = torch.randn(6, *shape, generator=generator, dtype=kind)
        x = x * spread(torch.tensor([1.0, 0.1, 1.0, 5.0, 0.3, 3.0], dtype=torch.float64), len(shape))
        steps = torch.tensor([0.5, 0.3, 1.0, 2.0, 0.05, 0.7], dtype=torch.float64)
        kind = dtype.to_complex() if is_complex else dtype
        return cls(_cast(f, dtype), tuple(shape), x.to(like.device, kind), steps.to(like.device, dtype))

    @property
    def iterates(self) -> bool:
        return "tolerance" in inspect.signature(self.f.prox).parameters

    @property
    def prox_tolerance(self) -> float:
        return ITERATED if self.iterates else EXACT

    def prox(self, x: Tensor, step: Step, f: Functional | None = None) -> Tensor:
        double = x.real.dtype == torch.float64
        options = {"tolerance": 1e-7 if double else 1e-3, "iterations": 100_000} if self.iterates else {}
        return (f or self.f).prox(x, step, **options)

    @cached_property
    def has_prox(self) -> bool:
        return _try(lambda: self.f.prox(self.x[:1], 1.0)) is not None

    @cached_property
    def has_grad(self) -> bool:
        return _try(lambda: self.f.grad(self.x[:1])) is not None

    @cached_property
    def has_conjugate(self) -> bool:
        return _try(lambda: self.f.conjugate(self.x[:1])) is not None


def _values(c: _Case) -> None:
    for batch in ((), (6,), (2, 3), (0,)):
        x = c.x[: math.prod(batch)].reshape(*batch, *c.shape)
        value = c.f(x)
        text = f"one real value per image: expected {batch} for images {tuple(x.shape)}"
        _claim(
            c.f, tuple(value.shape) == batch and value.dtype == torch.float64, f"{text}, got {value.shape}"
        )
        for name, result in (
            ("grad", c.has_grad and c.f.grad(x)),
            ("prox", c.has_prox and c.f.prox(x, 0.5)),
        ):
            if isinstance(result, Tensor):
                same = result.shape == x.shape and result.dtype == x.dtype
                _claim(
                    c.f, same, f"{name} of {tuple(x.shape)} {x.dtype} is {tuple(result.shape)} {result.dtype}"
                )


def _alone_and_together(c: _Case) -> None:
    calls: dict[str, Callable[[Tensor], Tensor]] = {"value": c.f}
    if c.has_grad:
        calls["grad"] = c.f.grad
    if c.has_prox:
        calls["prox"] = lambda x: c.f.prox(x, 0.5)
    for name, call in calls.items():
        x = c.x[:1].clone()
        call(x)
        _claim(c.f, torch.equal(x, c.x[:1]), f"{name} changed its argument")
        alone = call(x[0])
        call(100 * c.x[3])
        _close(c.f, f"{name}: memory of an earlier call", call(x[0]), alone, 0.0)
        together = call(torch.cat([x, 100 * c.x[3:4] + 10]))[0]
        _close(c.f, f"{name} of an image alone and beside a brighter one", together, alone, 1e-12)


def _gradient(c: _Case) -> None:
    if not c.has_grad:
        return
    g = c.f.grad(c.x)
    z = c.x.clone().requires_grad_()
    value = c.f(z).sum()
    if value.requires_grad:
        _close(c.f, "grad and autograd", g, torch.autograd.grad(value, z)[0], EXACT)
    h, eps = c.x.flip(0) / norm(c.x, c.f.ndim).mean(), 1e-5
    difference = (c.f(c.x + eps * h) - c.f(c.x - eps * h)) / (2 * eps)
    # the error of central differences is eps² f''' + 1e-16 |f| / eps, both below 1e-7 at the images used
    _close(c.f, "grad and finite differences", inner(g, h, c.f.ndim), difference, 1e-6)
    slope = torch.as_tensor(c.f.lipschitz)
    bound = (1.02**2 * slope * norm(c.x - c.x.flip(0), c.f.ndim)) + EXACT
    _claim(
        c.f, bool((norm(g - g.flip(0), c.f.ndim) <= bound).all()), f"grad is steeper than lipschitz, {slope}"
    )


def _prox_is_best(c: _Case) -> None:
    if not c.has_prox:
        return
    z, n = c.prox(c.x, c.steps), c.f.ndim

    def excess(v: Tensor) -> Tensor:
        """φ(v) − φ(z) − ½‖v − z‖² ≥ 0 for every v if and only if z minimises φ, 1-strongly convex."""
        return objective(v) - objective(z) - 0.5 * squared_norm(v - z, n)

    def objective(v: Tensor) -> Tensor:
        return 0.5 * squared_norm(v - c.x, n) + c.steps * c.f(v)

    _claim(
        c.f, bool(c.f(z).isfinite().all()), "prox is outside the domain of f: its value there is not finite"
    )
    allowed = c.prox_tolerance * (1 + squared_norm(c.x, n))
    generator = torch.Generator().manual_seed(1)
    for k in range(50):
        v = torch.randn(c.x.shape, generator=generator, dtype=c.x.dtype).to(c.x.device)
        v = z + 10.0 ** -(k % 4) * v * spread(norm(c.x, n) / norm(v, n), n)
        _no_better(c, excess(v), allowed, f"perturbation {k}")
    for name, v in (("the argument", c.x), ("zero", 0 * c.x), ("its half", z / 2)):
        _no_better(c, excess(v), allowed, name)
    found = _minimise(objective, c.x)
    if found is not None:
        _no_better(c, excess(found), allowed, "an independent minimiser")


def _no_better(c: _Case, excess: Tensor, allowed: Tensor, name: str) -> None:
    worst = float((excess + allowed).min())
    _claim(c.f, worst >= 0, f"prox is not the minimiser: {name} shows an objective lower by {-worst:.3g}")


def _minimise(objective: Callable[[Tensor], Tensor], x: Tensor) -> Tensor | None:
    """Adam with a falling step, 300 iterations; None if the objective says nothing about its slope."""
    v = x.clone().requires_grad_()
    start = objective(v).sum()
    if not bool(start.isfinite()) or not start.requires_grad:
        return None
    optimiser = torch.optim.Adam([v], lr=0.1)
    for k in range(300):
        optimiser.param_groups[0]["lr"] = 0.1 * 10 ** (-3 * k / 300)
        optimiser.zero_grad()
        objective(v).sum().backward()
        optimiser.step()
    return v.detach()


def _prox_laws(c: _Case) -> None:
    if not c.has_prox:
        return
    z, n, tolerance = c.prox(c.x, c.steps), c.f.ndim, c.prox_tolerance
    each = torch.stack([c.prox(x, float(s)) for x, s in zip(c.x, c.steps, strict=True)])
    _close(c.f, "prox with a step per image", z, each, tolerance)
    _close(
        c.f,
        "prox of 2·f and prox with twice the step",
        c.prox(c.x, 0.3, 2 * c.f),
        c.prox(c.x, 0.6),
        tolerance,
    )
    weighted = c.prox(c.x, 0.5, c.steps * c.f)
    _close(c.f, "prox of f with one weight per image", weighted, c.prox(c.x, 0.5 * c.steps), tolerance)
    z, other = c.prox(c.x, 0.7), c.prox(c.x.flip(0), 0.7)
    firm = inner(z - other, c.x - c.x.flip(0), n) - squared_norm(z - other, n)
    _claim(
        c.f,
        bool((firm >= -tolerance * squared_norm(c.x - c.x.flip(0), n)).all()),
        "prox is not firmly nonexpansive",
    )
    if type(c.f).prox_conj is not Functional.prox_conj:
        for g in (c.f, 2 * c.f, c.steps * c.f):
            s = spread(c.steps, n)
            moreau = g.prox(c.x, c.steps) + s * g.prox_conj(c.x / s, 1 / c.steps)
            _close(g, "Moreau: prox(x, s) + s·prox_conj(x/s, 1/s) and x", moreau, c.x, tolerance)


def _fenchel(c: _Case) -> None:
    if not c.has_conjugate:
        return
    n = c.f.ndim
    pairs = []
    if c.has_prox:
        z = c.prox(c.x, c.steps)
        pairs.append(("prox", z, (c.x - z) / spread(c.steps, n)))
    if c.has_grad:
        pairs.append(("grad", c.x, c.f.grad(c.x)))
    for name, x, p in pairs:
        scale = 1 + norm(x, n) * norm(p, n)
        both = (c.f(x) + c.f.conjugate(p)) / scale
        _close(c.f, f"Fenchel: f(x) + f*(p) and ⟨x, p⟩ at the {name}", both, inner(x, p, n) / scale, 1e-8)
        for k in range(1, len(x)):
            gap = (c.f(x) + c.f.conjugate(p.roll(k, 0)) - inner(x, p.roll(k, 0), n)) / scale.max() ** 2
            _claim(
                c.f, bool((gap >= -1e-8).all()), f"Fenchel–Young: f(x) + f*(p) < ⟨x, p⟩ by {-gap.min():.3g}"
            )
        weighted = c.steps * c.f.conjugate(p / spread(c.steps, n))
        _close(c.f, "conjugate of f with one weight per image", (c.steps * c.f).conjugate(p), weighted, EXACT)


def _algebra(c: _Case) -> None:
    x = c.prox(c.x, 1.0) if c.has_prox else c.x  # in the domain of f
    value, half = c.f(x), 0.5 * Identity(c.shape).to(x.device)
    _close(c.f, "(2·f)(x) and 2·f(x)", (2 * c.f)(x), 2 * value, EXACT)
    _close(c.f, "(f + f)(x) and 2·f(x)", (c.f + c.f)(x), 2 * value, EXACT)
    _close(c.f, "one weight per image", (c.steps * c.f)(x), c.steps * value, EXACT)
    _close(c.f, "(f @ A)(x) and f(A x)", (c.f @ half)(x), c.f(x / 2), EXACT)
    if c.has_grad:
        g = c.f.grad(x)
        _close(c.f, "∇(2·f + f)", (2 * c.f + c.f).grad(x), 3 * g, EXACT)
        _close(c.f, "∇(f @ A) and A*∇f(A x)", (c.f @ half).grad(x), c.f.grad(x / 2) / 2, EXACT)


def _dual_step(c: _Case) -> None:
    if not isinstance(c.f, Composed):
        return
    p = 2 * c.f.A(c.x.flip(0))
    for f in (c.f, 2 * c.f, c.steps * c.f):
        if isinstance(f, Composed):
            for sigma in (0.3, c.steps):
                plain = Composed.dual_step(f, p, c.x, sigma)
                _close(f, "fused and plain dual step", f.dual_step(p, c.x, sigma), plain, 1e-12)


LAWS = (
    _values,
    _alone_and_together,
    _gradient,
    _prox_is_best,
    _prox_laws,
    _fenchel,
    _algebra,
    _dual_step,
)


def _float32(exact: _Case, single: _Case) -> None:
    """The results of float64, in float32."""
    calls: dict[str, Callable[[_Case], Tensor]] = {"value": lambda c: c.f(c.x)}
    if exact.has_grad:
        calls["grad"] = lambda c: c.f.grad(c.x)
    if exact.has_prox:
        calls["prox"] = lambda c: c.prox(c.x, c.steps)
    for name, call in calls.items():
        result, wanted = call(single), call(exact)
        kind = torch.complex64 if wanted.is_complex() else torch.float32
        _claim(
            single.f, result.dtype == kind, f"{name} of {single.x.dtype} is {result.dtype}, expected {kind}"
        )
        tolerance = SINGLE_ITERATED if name == "prox" and exact.iterates else SINGLE
        _close(single.f, f"{name} in float32 and in float64", result.to(wanted.dtype), wanted, tolerance)


def _cast(f: Functional, dtype: torch.dtype) -> Functional:
    """A copy whose real tensors have this precision and whose complex ones the matching one."""

    def cast(t: Tensor) -> Tensor:
        if t.is_complex():
            return t.to(dtype.to_complex())
        return t.to(dtype) if t.is_floating_point() else t

    return copy.deepcopy(f)._apply(cast)


def _try(call: Callable[[], Tensor]) -> Tensor | None:
    try:
        return call()
    except NotImplementedError:
        return None


def _claim(f: Functional, holds: bool, text: str) -> None:
    if not holds:
        raise AssertionError(f"{f!r}: {text}")


def _close(f: Functional, what: str, got: Tensor, wanted: Tensor, tolerance: float) -> None:
    """|got − wanted| ≤ tolerance·max(1, |wanted|), the largest of an image; both inf is close."""
    got, wanted = got.detach(), wanted.detach()
    error = torch.where(got == wanted, 0, (got - wanted).abs())
    allowed = tolerance * max(1.0, float(torch.where(wanted.isfinite(), wanted.abs(), 0).max()))
    worst = float(error.max())
    _claim(f, worst <= allowed, f"{what} differ by {worst:.3g}, {allowed:.3g} allowed")
