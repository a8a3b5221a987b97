"""Methods: problem in, image out, learned or not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Protocol, Self

import torch
from torch import Tensor, nn

from .problem import Problem


class PairedData(Protocol):
    """Problems with their truths, for supervised training."""

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Problem, Tensor]]:
        """One pass over the training images in random order: batched y, one shared A; truth (batch, ny, nx)."""

    @property
    def train(self) -> Any: ...

    @property
    def validation(self) -> Any: ...


class Reconstructor(nn.Module, ABC):
    """x = method(problem): (*batch, *A.in_shape).

    `data_kind` says what `fit` learns from: None (nothing to learn), "paired" or "unpaired".
    """

    data_kind: ClassVar[Literal["paired", "unpaired"] | None] = None

    @abstractmethod
    def forward(self, problem: Problem) -> Tensor:
        """The image, (*batch, *A.in_shape)."""

    def fit(self, data: Any) -> Self:
        """Learn from data; a method with nothing to learn returns itself."""
        return self
