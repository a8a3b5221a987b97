"""Dropout whose draws are given, not taken from everybody's generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """h·m/(1 − p), m = 0 with probability p for a whole channel, else 1; only inside `dropping`, else h.

    Srivastava et al., J. Mach. Learn. Res. 15 (2014); channels as a whole as in Tompson et al., CVPR 2015,
    since neighbouring pixels say the same. Neither `train` nor `eval` changes it.

    p       0 ≤ p < 1
    whole   channels as a whole; False for every value by itself, as in pix2pix

    h (n, channels, …) -> like h
    """

    def __init__(self, p: float = 0.1, whole: bool = True):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"Dropout p: expected a number from 0 to below 1, got {p}")
        self.p, self.whole = p, whole
        self.generator: torch.Generator | None = None
        self.shared = False

    def forward(self, h: Tensor) -> Tensor:
        if self.generator is None or self.p == 0:
            return h
        count = 1 if self.shared else len(h)
        drawn = (1,) * (h.ndim - 2) if self.whole else h.shape[2:]
        kept = torch.rand(count, h.shape[1], *drawn, generator=self.generator, dtype=torch.float64) >= self.p
        return h * (kept.to(h) / (1 - self.p))


def layers(network: nn.Module) -> list[Dropout]:
    """The layers of a network that can leave out something."""
    return [m for m in network.modules() if isinstance(m, Dropout) and m.p > 0]


@contextmanager
def dropping(network: nn.Module, generator: torch.Generator, shared: bool = False) -> Iterator[None]:
    """Inside, `network` leaves out channels, drawn from `generator` (on the CPU).

    shared  every image of a batch the same ones: then the batch goes through one network
    """
    found = layers(network)
    for layer in found:
        layer.generator, layer.shared = generator, shared
    try:
        yield
    finally:
        for layer in found:
            layer.generator, layer.shared = None, False
