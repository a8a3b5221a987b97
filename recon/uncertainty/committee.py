"""Many networks instead of one: deep ensembles, and dropout kept on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from operators.noise import image_seeds
from priors.networks.dropout import dropping, layers

from ..base import Reconstructor
from ..data.sets import PairedData, UnpairedData
from ..learned import Learned
from ..problem import Problem
from .base import Prediction, Probabilistic, mixture, prediction


class DeepEnsemble(Probabilistic):
    """Mean and spread of methods that differ in their seed: spread² = E σ² + Var μ.

    Lakshminarayanan, Pritzel, Blundell, NeurIPS 2017. σ is what each member says of itself (a
    `HeteroscedasticUNet`), 0 for others. The members agree where all are wrong alike: the raw spread is
    mostly too small, see `Conformal`.

    methods  at least 2, trained alike with different seeds; or any others
    """

    def __init__(self, methods: Sequence[Reconstructor]):
        super().__init__()
        methods = list(methods)
        if len(methods) < 2 or not all(isinstance(m, Reconstructor) for m in methods):
            raise ValueError(f"DeepEnsemble methods: expected at least 2 methods, got {methods!r}")
        if len({id(m) for m in methods}) < len(methods):
            raise ValueError("DeepEnsemble methods: the same method twice; train each with a seed of its own")
        self.methods = nn.ModuleList(methods)

    @classmethod
    def trained(
        cls,
        method: type[Learned],
        data: PairedData | UnpairedData,
        seeds: Iterable[int] = range(4),
        *,
        checkpoint: str | Path | None = None,
        **changes: Any,
    ) -> DeepEnsemble:
        """An ensemble of `method(seed=s, **changes).fit(data)`; each resumed from `checkpoint`-s if there."""
        seeds, members = list(seeds), []
        if len(set(seeds)) < max(len(seeds), 2):
            raise ValueError(f"DeepEnsemble.trained seeds: expected at least 2, all different, got {seeds}")
        for seed in seeds:
            path = Path(checkpoint) if checkpoint else None
            own = path.with_name(f"{path.stem}-{seed}.safetensors") if path else None
            members.append(method(seed=seed, **changes).fit(data, checkpoint=own))
        return cls(members)

    def predict(self, problem: Problem) -> Prediction:
        return mixture(prediction(m, problem) for m in self._members())

    def _members(self) -> Iterator[Reconstructor]:
        for m in self.methods:
            assert isinstance(m, Reconstructor)
            yield m

    @classmethod
    def examples(cls) -> list[DeepEnsemble]:
        from ..direct import FBP

        return [cls([FBP(filter="hann"), FBP(filter="cosine")])]


class MCDropout(Probabilistic):
    """Mean and spread of a network with its dropout on: spread² = E σ² + Var μ over `samples` masks.

    Gal and Ghahramani, ICML 2016. Sample k leaves out the same channels for every image: one network each.

    method   a trained method with dropout, as `FBPUNet(dropout=0.2)`
    samples  masks, at least 2
    seed     of the masks
    """

    def __init__(self, method: Reconstructor, samples: int = 16, seed: int = 0):
        super().__init__()
        if not isinstance(method, Reconstructor):
            raise ValueError(f"MCDropout method: expected a method, got {method!r}")
        if samples < 2:
            raise ValueError(f"MCDropout samples: expected at least 2, got {samples}")
        self.method, self.samples, self.seed = method, samples, seed

    @torch.no_grad()
    def predict(self, problem: Problem) -> Prediction:
        if isinstance(self.method, Learned):
            self.method.scanner(problem)  # before training there are no layers
        if not layers(self.method):
            raise ValueError(
                f"MCDropout method: {type(self.method).__name__} has no dropout; train it with dropout=0.2, "
                "say, or use DeepEnsemble"
            )
        return mixture(self._each(problem))

    def _each(self, problem: Problem) -> Iterator[Prediction]:
        for seed in image_seeds(self.seed, self.samples):
            with dropping(self.method, torch.Generator().manual_seed(seed), shared=True):
                yield prediction(self.method, problem)

    def forward(self, problem: Problem) -> Tensor:
        return self.predict(problem).mean

    @classmethod
    def examples(cls) -> list[MCDropout]:
        from ..baselines.postprocess import FBPUNet

        return [cls(FBPUNet(base=4, depth=2, dropout=0.2, steps=2, batch_size=2), 2)]
