"""Statistical reconstruction with a learned dictionary of patches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from operators.tensors import norm, spread
from priors import Functional, PatchDictionary, SquaredL2
from priors.dictionary import cosines, learn_dictionary

from .checkpoints import beside, read_tensors, write_tensors
from .data.sets import PairedData, UnpairedData
from .fidelity import Likelihood
from .nonlocal_means import FBPNonLocalMeans, deviation
from .problem import Problem
from .solvers import Iterate, os_sqs
from .solvers.iterate import Callback, relative
from .subsets import interleaved, subset_of
from .variational.base import Solution, Variational, Weight
from .variational.markov import spacing
from .variational.ordered_subsets import restricted


class DictionaryReconstruction(Variational):
    """min_{x,α} d(A x) + ½λ v (s/p)² Σ ‖P x − mean − D α‖², ‖α‖₀ ≤ sparsity, 0 ≤ x ≤ upper.

    Xu et al., IEEE Trans. Med. Imaging 31 (2012), D learned beforehand; `priors.PatchDictionary`.
    Codes by orthogonal matching pursuit and a few passes of ordered subsets take turns. Not convex: it ends
    where both stand still, from an FBP. D is given, learned by `fit` from images, or of the very image as in
    DictionaryReconstruction(learn_dictionary(FBP()(problem)))(problem).

    dictionary   D, (p², atoms), as of `priors.dictionary.learn_dictionary`; None until `fit`
    residual     a patch has enough atoms when the root mean square of what is left is this part of σ, the
                 median deviation of the FBP's noise in the image
    sparsity     atoms a patch, at most
    stride       s, every s-th patch along both axes
    subsets, passes   of views, and how many passes between two codings; `iterations` counts codings
    atoms, size, learn_sparsity, samples, seed   of what `fit` learns, see `learn_dictionary`; p = size
    and the parameters of `Variational`
    """

    name = "dictionary"
    data_kind = "unpaired"
    default_likelihood: ClassVar[Likelihood] = "weighted"
    dictionary: Tensor | None

    def __init__(
        self,
        dictionary: Tensor | None = None,
        weight: Weight = None,
        iterations: int = 20,
        tolerance: float = 1e-4,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        residual: float = 0.5,
        sparsity: int = 8,
        stride: int = 2,
        subsets: int = 8,
        passes: int = 2,
        atoms: int = 256,
        size: int = 8,
        learn_sparsity: int = 4,
        samples: int = 20_000,
        seed: int = 0,
        upper: float | None = None,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, upper)
        if residual < 0 or subsets < 1 or passes < 1:
            raise ValueError(
                "DictionaryReconstruction residual, subsets, passes: expected at least 0, 1 and 1, got "
                f"{residual}, {subsets}, {passes}"
            )
        self.residual, self.sparsity, self.stride = residual, sparsity, stride
        self.subsets, self.passes = subsets, passes
        self.atoms, self.size, self.learn_sparsity = atoms, size, learn_sparsity
        self.samples, self.seed = samples, seed
        self.register_buffer("dictionary", dictionary)
        if dictionary is not None:
            PatchDictionary(dictionary, sparsity, stride=stride)  # a wrong one is an error here already

    def fit(self, data: PairedData | UnpairedData, images: int = 32) -> Self:
        """Learn the dictionary from this many images of `data`; their projections are not looked at."""
        _, truth = next(data.batches(images, torch.Generator().manual_seed(self.seed)))
        return self.learn(truth)

    def learn(self, images: Tensor) -> Self:
        """Learn the dictionary from these images, (n, ny, nx); their unit does not matter."""
        options = (self.atoms, self.size, self.learn_sparsity)
        self.dictionary = learn_dictionary(images, *options, samples=self.samples, seed=self.seed)
        return self

    def solve(self, problem: Problem, callback: Callback | None = None) -> Solution:
        if self.dictionary is None:
            raise ValueError(
                "DictionaryReconstruction: no dictionary: call fit(data) or learn(images), or give one"
            )
        if len(problem.A.in_shape) != 2:
            raise ValueError(f"DictionaryReconstruction: expected 2-D images, got {problem.A.in_shape}")
        return super().solve(problem, callback)

    def prior(self, problem: Problem) -> PatchDictionary:
        """E of one problem; every image has the pursuit's tolerance in its own σ."""
        noise = deviation(FBPNonLocalMeans().noise(problem, 4), 2)
        enough = self.residual * noise.flatten(-2).median(-1).values
        D = self.dictionary
        assert D is not None
        return PatchDictionary(D.to(noise), self.sparsity, enough, self.stride, math.prod(spacing(problem)))

    def pull(self, problem: Problem, x: Tensor) -> Tensor:
        slope = norm(self.prior(problem).grad(x), 2) / math.sqrt(math.prod(problem.A.in_shape))
        return torch.where(slope > 0, slope, 1.0)

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        A, prior, bounds = problem.A, self.prior(problem), self.bounds(x)
        views = interleaved(A.out_shape[0], self.subsets)
        terms = [restricted(d, part) @ subset_of(A, part) for part in views]
        yield Iterate(x, torch.full(problem.batch, torch.inf, dtype=x.dtype, device=x.device))
        while True:
            target, count = prior.surrogate(x)
            codes = SquaredL2(target, spread(weight, 2) * count)
            found = os_sqs(terms, codes, x, *bounds, halve=0)
            old, x = x, next(itertools.islice(found, self.passes, None)).x
            yield Iterate(x, relative(norm(x - old, 2), norm(x, 2)))

    def save(
        self, path: str | Path, *, half: bool = False, scores: Mapping[str, float] | None = None
    ) -> Path:
        """Write dictionary and settings to one safetensors file."""
        if self.dictionary is None:
            raise ValueError("DictionaryReconstruction.save: nothing learned yet: call fit(data) first")
        settings = {name: getattr(self, name) for name in _SETTINGS}
        if not isinstance(self.weight, float | int | str | None):
            raise ValueError(
                f"DictionaryReconstruction.save: expected a weight of one number or name, got {self.weight!r}"
            )
        file = beside(path, ".safetensors")
        D = self.dictionary.half() if half else self.dictionary
        header = {"method": self.name, "settings": settings, "scores": dict(scores or {})}
        write_tensors(file, {"dictionary": D}, header)
        return file

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The method that `save` wrote."""
        file = beside(path, ".safetensors")
        tensors, header = read_tensors(file)
        settings: Any = header.get("settings")
        if header.get("method") != cls.name or not isinstance(settings, dict):
            raise ValueError(f"{file}: expected a file by {cls.__name__}.save")
        if set(tensors) != {"dictionary"} or set(settings) != set(_SETTINGS):
            raise ValueError(f"{file}: expected a dictionary and {', '.join(_SETTINGS)}, got {header}")
        return cls(tensors["dictionary"].float(), **settings)

    @classmethod
    def examples(cls) -> list[DictionaryReconstruction]:
        """Given cosines, a weight chosen and given."""
        D = cosines(4, 6)
        return [
            cls(D, iterations=4, subsets=2, passes=1, sparsity=3),
            cls(D, 5.0, iterations=4, subsets=3, upper=1.0),
        ]


_SETTINGS = (
    "weight", "iterations", "tolerance", "positive", "likelihood", "residual", "sparsity", "stride",
    "subsets", "passes", "atoms", "size", "learn_sparsity", "samples", "seed", "upper",
)  # fmt: skip
