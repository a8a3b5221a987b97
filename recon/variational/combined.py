"""Any priors, and several at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from operators.simple import Identity
from operators.tensors import inner, norm, spread
from priors import TV, Functional, HuberTV, WaveletL1
from priors.base import Composed, Scaled, Step, Sum

from ..fidelity import Likelihood
from ..problem import Problem
from ..solvers import Iterate, nmapg, pdhg
from .base import Variational, Weight, is_scan


class VariationalReconstruction(Variational):
    """min_x d(A x) + λ Σᵢ Eᵢ(x), x ≥ 0: priors of your own choice, learned ones among them.

        VariationalReconstruction([TV(A.in_shape), 0.5 * WaveletL1(A.in_shape)], weight=20.0)
        VariationalReconstruction(TV(A.in_shape) + 0.5 * ConvexRidge(), weight=20.0)

    As Lustig, Donoho, Pauly, Magn. Reson. Med. 58 (2007) combine total variation and wavelets.

    priors  a functional or several, of images of A.in_shape, each with its own factor; a sum is taken apart
    degree  p with Eᵢ(c x) = |c|^p Eᵢ(x) for every i, for `CentreScaled`; None: it has none
    solver  "pdhg", where every Eᵢ has a prox or is an f @ A that has; "nmapg", where some have only
            a gradient (networks): these and d go by gradients with backtracking, the others by their common
            prox, from an inner `pdhg`; None: as said
    and the parameters of `Variational`
    """

    def __init__(
        self,
        priors: Functional | Sequence[Functional],
        weight: Weight = None,
        iterations: int = 300,
        tolerance: float = 1e-3,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        degree: int | None = None,
        upper: float | None = None,
        solver: Literal["pdhg", "nmapg"] | None = None,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, upper)
        if solver not in (None, "pdhg", "nmapg"):
            raise ValueError(
                f"VariationalReconstruction solver: expected 'pdhg', 'nmapg' or None, got {solver!r}"
            )
        several = isinstance(priors, Iterable) and not isinstance(priors, Functional)
        chosen: list[Any] = list(priors) if several else [priors]  # type: ignore[arg-type]
        if not chosen or not all(isinstance(prior, Functional) for prior in chosen):
            hint = "; of a method its `prior`" if any(hasattr(p, "prior") for p in chosen) else ""
            raise ValueError(f"VariationalReconstruction priors: expected functionals, got {priors!r}{hint}")
        chosen = [part for prior in chosen for part in summands(prior)]
        by_gradient = [repr(prior) for prior in chosen if not splits(prior)]
        if solver == "pdhg" and by_gradient:
            raise ValueError(
                f"VariationalReconstruction solver='pdhg': no prox for {', '.join(by_gradient)}; use 'nmapg'"
            )
        self.solver = solver or ("nmapg" if by_gradient else "pdhg")
        self.priors = nn.ModuleList(chosen)
        self.degree = degree  # type: ignore[misc]

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        shape = problem.A.in_shape
        smooth: Functional = d @ problem.A
        terms: list[Composed] = []
        for prior in self.priors:
            if not isinstance(prior, Functional) or prior.ndim != len(shape):
                raise ValueError(
                    f"VariationalReconstruction priors: expected functionals of {shape}, got {prior!r}"
                )
            with torch.no_grad():
                told = tuple(prior(x).shape)
            if told != problem.batch:
                raise ValueError(
                    f"VariationalReconstruction priors: expected one value per image, {problem.batch}, of "
                    f"{prior!r}, got {told}: sum over the image's own axes"
                )
            weighted = weight * prior
            if splits(prior):
                terms.append(
                    weighted if isinstance(weighted, Composed) else Composed(weighted, Identity(shape))
                )
            else:
                smooth = smooth + weighted
        constraint = self.constraint(problem, x)
        if self.solver == "pdhg":
            return pdhg([d @ problem.A, *terms], constraint, x, circulant=is_scan(problem))
        x = x if constraint is None else constraint.prox(x, 1.0)
        return nmapg(smooth, CommonProx(terms, constraint) if terms else constraint, x)

    @classmethod
    def examples(cls) -> list[VariationalReconstruction]:
        """Two priors, for images of 8 × 8, the second time one of them by its gradient."""
        return [
            cls([TV((8, 8)), 0.5 * WaveletL1((8, 8), "haar", 1)], 5.0, 30),
            cls(WaveletL1((8, 8), "haar", 1) + _OnlyGradient(HuberTV((8, 8), delta=0.1)), 5.0, 30),
        ]


class _OnlyGradient(Functional):
    """f without its prox, as networks are."""

    def __init__(self, f: Functional):
        super().__init__()
        self.f, self.ndim = f, f.ndim

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x)

    def grad(self, x: Tensor) -> Tensor:
        return self.f.grad(x)


class CommonProx(Functional):
    """Σ fᵢ(Aᵢ x) + g(x), with the prox of all of it together: z = prox_g(x − Σ Aᵢ* pᵢ), p from the dual.

        p ← prox_{σ(s fᵢ)*}(q + σ Aᵢ z(q)),  q = p + β (p − p before)

    Accelerated projected gradients on the dual (Beck, Teboulle, IEEE Trans. Image Process. 18 (2009)), begun
    anew where p turns back (O'Donoghue, Candès 2015), until z changes by no more than `tolerance`, relative.
    p is kept for the next call: a solver asks for the prox of much the same image again and again.

    terms  composed functionals fᵢ @ Aᵢ
    g      bounds, or None
    """

    def __init__(
        self, terms: Sequence[Composed], g: Functional | None, tolerance: float = 1e-7, iterations: int = 500
    ):
        super().__init__()
        self.terms = nn.ModuleList(terms)
        self.g, self.ndim, self.tolerance, self.iterations = g, terms[0].ndim, tolerance, iterations
        self.sigma = 1 / max(sum(term.A.norm() ** 2 for term in terms), 1e-30)
        self.duals: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        value = torch.stack([term(x) for term in self.terms]).sum(0)
        return value if self.g is None else value + self.g(x)

    @torch.no_grad()
    def prox(self, x: Tensor, step: Step) -> Tensor:
        terms = [term for term in self.terms if isinstance(term, Composed)]
        duals = [torch.zeros_like(term.A(x)) for term in terms]
        if [d.shape for d in duals] == [d.shape for d in self.duals]:
            duals = self.duals
        n, ahead = self.ndim, duals
        z, t = self._primal(x, terms, duals), torch.ones(x.shape[: x.ndim - self.ndim]).to(x.real)
        done = torch.zeros_like(t, dtype=torch.bool)
        for _ in range(self.iterations):
            at = self._primal(x, terms, ahead)
            moved = [
                (step * term.f).prox_conj(q + self.sigma * term.A(at), self.sigma)
                for term, q in zip(terms, ahead, strict=True)
            ]
            back = sum(
                inner(q - p, p - old, term.f.ndim)
                for term, q, p, old in zip(terms, ahead, moved, duals, strict=True)
            )
            t = torch.where(torch.as_tensor(back > 0), torch.ones_like(t), t)
            later = (1 + (1 + 4 * t.square()).sqrt()) / 2
            ahead = [
                p + spread((t - 1) / later, term.f.ndim) * (p - old)
                for term, p, old in zip(terms, moved, duals, strict=True)
            ]
            # an image that is done keeps its own, whatever its neighbours still need
            duals = [
                torch.where(torch.as_tensor(spread(done, term.f.ndim)), old, p)
                for term, p, old in zip(terms, moved, duals, strict=True)
            ]
            t, new = later, self._primal(x, terms, duals)
            done, z = done | (norm(new - z, n) <= self.tolerance * norm(new, n)), new
            if bool(done.all()):
                break
        self.duals = duals
        return z

    def _primal(self, x: Tensor, terms: Sequence[Composed], duals: Sequence[Tensor]) -> Tensor:
        for term, p in zip(terms, duals, strict=True):
            x = x - term.A.adjoint(p)
        return x if self.g is None else self.g.prox(x, 1.0)


def summands(f: Functional) -> list[Functional]:
    """f as a list of what it is a (weighted) sum of; (f @ A) @ B is f @ (A @ B)."""
    if isinstance(f, Sum):
        return summands(f.f) + summands(f.g)
    if isinstance(f, Scaled) and isinstance(f.f, Sum | Composed):
        return [f.scale * part for part in summands(f.f)]
    if isinstance(f, Composed):
        parts = summands(f.f)
        if len(parts) > 1 or isinstance(parts[0], Composed):
            return [Composed(p.f, p.A @ f.A) if isinstance(p, Composed) else p @ f.A for p in parts]
    return [f]


def splits(f: Functional) -> bool:
    """Whether pdhg can take f, a summand: it has a prox, or is an f @ A whose f has one."""
    inner: Functional = f.f if isinstance(f, Composed) else f
    while isinstance(inner, Scaled):
        inner = inner.f
    return type(inner).prox is not Functional.prox
