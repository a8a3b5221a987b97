"""Methods one after the other: each sees the image of the one before as its data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from operators import Gaussian, Identity

from .base import Reconstructor
from .data.sets import Pair, PairedData, selected
from .problem import Problem


class Chain(Reconstructor):
    """x = f_K(… f₂(f₁(A, y))): a post-processing network after any method, or cascades of networks.

    Total variation, then a U-Net; a regression network, then a GAN (two stages as Ben-Cohen et al. 2019 use
    them); the same network again (cascades). Every method after the first gets a problem with A = `Identity`
    and the image as its data, whose noise is unknown (σ = 1): post-processing and translation, which do not
    look at the noise.

    methods : at least two; those that are trained already stay as they are, see `fit`
    """

    data_kind = "paired"

    def __init__(self, methods: Sequence[Reconstructor]):
        super().__init__()
        methods = list(methods)
        if len(methods) < 2 or not all(isinstance(m, Reconstructor) for m in methods):
            raise ValueError(f"Chain methods: expected at least 2 methods, got {methods!r}")
        if len({id(m) for m in methods}) < len(methods):
            raise ValueError("Chain methods: the same method twice; make one for each stage")
        self.methods = nn.ModuleList(methods)

    def forward(self, problem: Problem) -> Tensor:
        *others, last = self._methods()
        for method in others:
            problem = _seen(method, problem)
        return last(problem)

    def fit(self, data: PairedData, **keywords: Any) -> Self:
        """Train the methods that have learned nothing yet, in order, each on what those before it make.

        keywords : of `Learned.fit`, for each of them (`minutes`, `callback`); a `checkpoint` can be of one
            only, and is refused where two have to learn: fit them apart, on `ChainedPairs`
        """
        learners = [m for m in self._methods() if m.data_kind and not getattr(m, "trained_for", None)]
        if len(learners) > 1 and keywords.get("checkpoint"):
            raise ValueError(
                f"Chain.fit checkpoint: {len(learners)} methods have to learn; fit each on ChainedPairs"
            )
        for method in self._methods():
            if method in learners:
                method.eval().fit(data.of_kind(method.data_kind), **keywords)
            data = ChainedPairs(data, method.eval())
        return self

    def save(self, path: Any, **keywords: Any) -> Any:
        raise ValueError("Chain.save: save each of its methods, and make the chain of what they load")

    def _methods(self) -> Iterator[Reconstructor]:
        for m in self.methods:
            assert isinstance(m, Reconstructor)
            yield m

    @classmethod
    def examples(cls) -> list[Chain]:
        from .direct import FBP
        from .iterative import CGLS

        return [cls([FBP(), CGLS()])]


class ChainedPairs(PairedData):
    """Pairs (f(A, y), x) of pairs (y, x): to learn what f leaves to be done.

    Finite training sets go through f once, endless ones batch by batch.

    pairs : whatever f is made for
    method : f, as it is
    """

    def __init__(self, pairs: PairedData, method: Reconstructor):
        if not isinstance(pairs, PairedData):
            raise ValueError(f"ChainedPairs pairs: expected PairedData, got {type(pairs).__name__}")
        self.pairs, self.method = pairs, method
        self.name = f"{pairs.name} after {method.name}"
        self.endless = getattr(pairs, "train_size", 0) is None
        self.made: dict[str, Pair] = {}
        for key in ("train_size", "seeds", "about"):
            if hasattr(pairs, key):
                setattr(self, key, getattr(pairs, key))

    @property
    def train(self) -> Pair:
        return self._whole("train")

    @property
    def validation(self) -> Pair:
        return self._whole("validation")

    @torch.no_grad()
    def batches(self, size: int, generator: torch.Generator) -> Iterator[Pair]:
        if self.endless:
            for problem, truth in self.pairs.batches(size, generator):
                yield _seen(self.method, problem), truth
        yield from super().batches(size, generator)

    @torch.no_grad()
    def _whole(self, part: str, at_once: int = 8) -> Pair:
        if part not in self.made:
            problem, truth = getattr(self.pairs, part)
            pieces = torch.arange(len(truth)).split(at_once)
            y = torch.cat([_seen(self.method, selected(problem, i)).y for i in pieces])
            self.made[part] = _problem(y, problem.A.in_shape), truth
        return self.made[part]


def _seen(method: Reconstructor, problem: Problem) -> Problem:
    """The image that `method` makes, as data."""
    return _problem(method(problem), problem.A.in_shape)


def _problem(image: Tensor, shape: tuple[int, ...]) -> Problem:
    return Problem(Identity(shape), image, Gaussian(sigma=1.0, data_ndim=len(shape)))
