"""Any priors, and several at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from operators.simple import Identity
from priors import TV, Functional, WaveletL1
from priors.base import Composed

from ..fidelity import Likelihood
from ..problem import Problem
from ..solvers import Iterate, pdhg
from .base import Variational, Weight, is_scan


class VariationalReconstruction(Variational):
    """min_x d(A x) + λ Σᵢ Eᵢ(x), x ≥ 0: priors of your own choice, by `pdhg`.

        VariationalReconstruction([TV(A.in_shape), 0.5 * WaveletL1(A.in_shape)], weight=20.0)

    As Lustig, Donoho, Pauly, Magn. Reson. Med. 58 (2007) combine total variation and wavelets.

    priors  a functional or several, of images of A.in_shape, each with its own factor: written as f @ A, or
            with a prox
    degree  p with Eᵢ(c x) = |c|^p Eᵢ(x) for every i, for `CentreScaled`; None: it has none
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
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, upper)
        chosen = [priors] if isinstance(priors, Functional) else list(priors)
        if not chosen or not all(isinstance(prior, Functional) for prior in chosen):
            raise ValueError(f"VariationalReconstruction priors: expected functionals, got {priors!r}")
        self.priors = nn.ModuleList(chosen)
        self.degree = degree  # type: ignore[misc]

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        shape = problem.A.in_shape
        terms: list[Functional] = [d @ problem.A]
        for prior in self.priors:
            if not isinstance(prior, Functional) or prior.ndim != len(shape):
                raise ValueError(
                    f"VariationalReconstruction priors: expected functionals of {shape}, got {prior!r}"
                )
            weighted = weight * prior
            terms.append(weighted if isinstance(weighted, Composed) else weighted @ Identity(shape))
        return pdhg(terms, self.constraint(problem, x), x, circulant=is_scan(problem))

    @classmethod
    def examples(cls) -> list[VariationalReconstruction]:
        """Two priors, for images of 8 × 8."""
        return [cls([TV((8, 8)), 0.5 * WaveletL1((8, 8), "haar", 1)], 5.0, 30)]
