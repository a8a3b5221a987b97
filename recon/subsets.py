"""Subsets of views: which, their operators and their data."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

import torch
from torch import Tensor

from operators import LinearOperator

from .solvers import view_order


def interleaved(views: int, subsets: int) -> list[list[int]]:
    """At most `subsets` subsets, each of every `subsets`-th view, in golden-ratio order."""
    count = min(subsets, views)
    return [list(range(k, views, count)) for k in view_order(count)]


def subset_of(A: LinearOperator, views: list[int]) -> LinearOperator:
    """The operator of some of the views; ValueError if A has none."""
    subset: Callable[[list[int]], LinearOperator] | None = getattr(A, "subset", None)
    if subset is None:
        raise ValueError(
            f"ordered subsets need an operator with views, A.subset(views); {A!r} has none: use a method "
            "without subsets, as SIRT, MLEM or HuberTotalVariation"
        )
    return subset(views)


@overload
def views_of(value: Tensor, views: list[int], ndim: int) -> Tensor: ...


@overload
def views_of(value: Tensor | float, views: list[int], ndim: int) -> Tensor | float: ...


def views_of(value: Tensor | float, views: list[int], ndim: int) -> Tensor | float:
    """The part of data, or of a value that broadcasts to them, that belongs to these views.

    ndim  dimensions of the data of one image; views are the first of them
    """
    if not isinstance(value, Tensor) or value.ndim < ndim or value.shape[-ndim] == 1:
        return value
    return value.index_select(-ndim, torch.as_tensor(views, device=value.device))
