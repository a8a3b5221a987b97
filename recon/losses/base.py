"""What every loss shares: shapes, masks, reduction."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

Reduction = Literal["mean", "sum", "none"]


class Example(NamedTuple):
    """A loss, what it is called with, and its value where x is the truth (None: nothing known)."""

    loss: Loss
    x: Tensor
    truth: Any
    at_truth: float | None = 0.0


class Loss(nn.Module):
    """loss(x, truth) = mean over the batch of one value per image, a scalar to be lowered.

    x, truth : (n, channels, *spatial), real, of equal shape; never broadcast against each other
    mask : bool, or weights ≥ 0, broadcast to x: the value of an image is Σ m v / Σ m; 0 where Σ m = 0
    reduction : "mean" or "sum" over the batch, or "none": one value per image (n,)

    A subclass writes `each`; the class attributes say how it is called:

    name : in `LOSSES`
    compares : what a trainer gives as x and truth, G : A → B, F : B → A, a ∈ A, b ∈ B
    needs_truth : False where truth is not looked at and may be left out
    takes_mask : whether a mask has a meaning
    held : attributes that are networks used, but no part of the loss: not its parameters, not saved with it
    """

    name: ClassVar[str]
    compares: ClassVar[tuple[str, str]] = ("G(a)", "b")
    needs_truth: ClassVar[bool] = True
    takes_mask: ClassVar[bool] = False
    held: ClassVar[tuple[str, ...]] = ()

    def __init__(self, reduction: Reduction = "mean"):
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(
                f"{type(self).__name__} reduction: expected 'mean', 'sum' or 'none', got {reduction!r}"
            )
        self.reduction = reduction

    def __setattr__(self, name: str, value: Any) -> None:
        # a module would else become a submodule
        if name in self.held:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @abstractmethod
    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        """One value per image (n,)."""

    def forward(self, x: Tensor, truth: Any = None, mask: Tensor | None = None) -> Tensor:
        self.check(x, truth, mask)
        return self.reduced(self.each(x, truth, mask))

    def reduced(self, values: Tensor) -> Tensor:
        """One value per image, as the reduction has it."""
        if self.reduction == "none":
            return values
        return values.mean() if self.reduction == "mean" else values.sum()

    def check(self, x: Tensor, truth: Any, mask: Tensor | None) -> None:
        """ValueError for what cannot be compared."""
        who = type(self).__name__
        real_images(f"{who} x", x)
        if self.needs_truth:
            self.check_truth(x, truth)
        if mask is not None and not self.takes_mask:
            raise ValueError(f"{who} mask: this loss has no value per pixel that could be masked")
        if mask is not None:
            check_mask(f"{who} mask", mask, x)

    def check_truth(self, x: Tensor, truth: Any) -> None:
        """By default a truth is an image like x."""
        who = type(self).__name__
        if truth is None:
            raise ValueError(f"{who} truth: expected {self.compares[1]}, an image like x, got None")
        real_images(f"{who} truth", truth)
        if x.shape != truth.shape:
            raise ValueError(
                f"{who}: expected x and truth of equal shape (n, channels, *spatial), got {tuple(x.shape)} "
                f"and {tuple(truth.shape)}"
            )

    @classmethod
    def examples(cls) -> list[Example]:
        """Small ones, in float64, for the contract test."""
        raise NotImplementedError


class Weighted(nn.Module):
    """Σ weight_k · loss_k(x, truth): regularisers summed, by the names of `LOSSES`.

    weights : by name, each > 0; options by keyword `Weighted({"lp": 1.0}, lp={"p": 1.5})`, where "-" is "_"
    """

    def __init__(self, weights: Mapping[str, float], **options: Mapping[str, Any]):
        from .registry import LOSSES

        super().__init__()
        if not weights:
            raise ValueError("Weighted weights: expected at least one loss by name")
        for name, weight in weights.items():
            if name not in LOSSES:
                raise ValueError(
                    f"Weighted weights: there is no loss {name!r}; there are {', '.join(LOSSES)}"
                )
            if not 0 < weight < math.inf:
                raise ValueError(f"Weighted weights: expected a positive number for {name}, got {weight!r}")
        unused = set(options) - {name.replace("-", "_") for name in weights}
        if unused:
            raise ValueError(f"Weighted options: {', '.join(sorted(unused))} is no loss of {list(weights)}")
        self.weights = dict(weights)
        self.losses = nn.ModuleDict(
            {name: LOSSES[name](**options.get(name.replace("-", "_"), {})) for name in weights}
        )

    def terms(self, x: Tensor, truth: Any = None) -> dict[str, Tensor]:
        """Weighted losses by name."""
        return {name: weight * self.losses[name](x, truth) for name, weight in self.weights.items()}

    def forward(self, x: Tensor, truth: Any = None) -> Tensor:
        return torch.stack(list(self.terms(x, truth).values())).sum(0)


def per_image(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over all but the first dimension: Σ m v / Σ m, 0 where Σ m = 0. (n, …) -> (n,)."""
    if mask is None:
        return values.flatten(1).mean(1)
    weight = mask.to(values).expand(values.shape).flatten(1)
    total = weight.sum(1)
    inside = (weight * values.flatten(1)).sum(1)
    return torch.where(total > 0, inside / torch.where(total > 0, total, 1.0), 0.0)


def real_images(what: str, x: Any) -> None:
    """ValueError unless x is a real floating-point tensor with batch and channels, and not empty."""
    if not isinstance(x, Tensor):
        raise ValueError(f"{what}: expected a torch.Tensor, got {type(x).__name__}")
    if x.is_complex():
        raise ValueError(f"{what}: expected real images, got {x.dtype}; give both parts as channels")
    if not x.is_floating_point():
        raise ValueError(f"{what}: expected floating-point images, got {x.dtype}")
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"{what}: expected shape (n, channels, *spatial), not empty, got {tuple(x.shape)}")


def check_mask(what: str, mask: Tensor, x: Tensor) -> None:
    """ValueError unless mask broadcasts to x, by all of its dimensions or the spatial ones alone."""
    spatial = x.ndim - 2
    try:
        fits = mask.expand(x.shape).shape == x.shape and (mask.ndim == x.ndim or mask.ndim <= spatial)
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{what}: expected (n, 1, *spatial) or (*spatial) for images {tuple(x.shape)}, "
            f"got {tuple(mask.shape)}"
        )
    if mask.is_complex() or (mask.dtype != torch.bool and bool((mask < 0).any())):
        raise ValueError(f"{what}: expected bool or weights ≥ 0")


def pair(*shape: int, seed: int = 0, spread: float = 0.3) -> tuple[Tensor, Tensor]:
    """An image and a truth in [−1, 1] for `examples`, alike and in float64."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(shape, generator=generator, dtype=torch.float64) * 1.2 - 0.6
    return truth + spread * torch.randn(shape, generator=generator, dtype=torch.float64).clamp(
        -1.3, 1.3
    ), truth
