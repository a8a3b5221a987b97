"""Noise models: from clean data to what a scanner records, and back to the range of A."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class NoiseModel(nn.Module, ABC):
    """The law of raw data y given clean data A x.

    noise(clean, seed=0)    raw data, drawn on the CPU, one seed per image
    noise.linearise(y)      data in the range of A, from raw data
    noise.variance(y)       variance of the linearised data, from raw data
    noise.average(clean)    what one bin of several sub-bins (last dimension) would see
    noise.at(clean)         this model with every open parameter fixed for these clean data
    noise.check(y)          ValueError if y cannot be raw data of this model
    """

    data_ndim = 2

    @abstractmethod
    def draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Raw data of one image; `clean` is (*data shape), on the CPU."""

    def forward(self, clean: Tensor, seed: int | Sequence[int] = 0) -> Tensor:
        raise NotImplementedError

    def linearise(self, y: Tensor) -> Tensor:
        return y

    @abstractmethod
    def variance(self, y: Tensor) -> Tensor:
        """Variance of `linearise(y)`, shape of y."""

    def average(self, clean: Tensor) -> Tensor:
        return clean.mean(-1)

    def at(self, clean: Tensor) -> NoiseModel:
        return self

    def check(self, y: Tensor) -> None:
        """Raise ValueError if y cannot be raw data of this model."""
