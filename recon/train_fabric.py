"""Training on several devices and nodes: who computes which images, and how gradients come together.

Every rank draws the same batch and computes the loss of its share of it; gradients, weighted by the shares,
are summed before the optimiser's step. Where the loss is a mean over the batch, that is the step of one
process, up to rounding. Draws within a loss have a seed of their own on every rank.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from operators import LinearOperator

from .data.sets import PairedData, UnpairedData, selected
from .problem import Problem


def launched() -> Any:
    """A Lightning Fabric over the processes that torchrun or SLURM started, or over this one and its GPU.

    ImportError if Lightning is not installed.
    """
    try:
        from lightning.fabric import Fabric
    except ImportError as error:
        raise ImportError(
            "training on several devices needs Lightning Fabric: pip install 'hybrid-recon[train]'"
        ) from error
    devices, nodes = layout(os.environ)
    fabric = Fabric(
        accelerator="auto",
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
    )
    fabric.launch()
    return fabric


def layout(environment: Mapping[str, str]) -> tuple[int, int]:
    """(devices a node, nodes), as torchrun or SLURM says in the environment; (1, 1) without them."""
    if "LOCAL_WORLD_SIZE" in environment:
        local, world = int(environment["LOCAL_WORLD_SIZE"]), int(environment["WORLD_SIZE"])
    elif "SLURM_PROCID" in environment:
        nodes = int(environment.get("SLURM_NNODES", "1"))
        world = int(environment.get("SLURM_NTASKS", "1"))
        local = world // nodes
    else:
        return 1, 1
    if local < 1 or world % local:
        raise ValueError(f"train: expected as many processes on every node, got {world} by {local} a node")
    return local, world // local


class Ranks:
    """One process among those that train together; alone if there is no Fabric.

    fabric : Lightning's, launched; anything with its `global_rank`, `world_size`, `device`, `all_reduce`
        and `barrier`
    """

    def __init__(self, fabric: Any = None):
        self.fabric = fabric
        self.rank: int = fabric.global_rank if fabric else 0
        self.size: int = fabric.world_size if fabric else 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and reports."""
        return self.rank == 0

    def share(self, problem: Problem, images: Tensor) -> tuple[Problem, Tensor, float]:
        """The part of a batch that is this rank's, and which part of the whole it is."""
        if self.size == 1:
            return problem, images, 1.0
        n = len(images)
        if n < self.size:
            raise ValueError(f"train batch_size: expected at least one image a rank, {self.size}; got {n}")
        index = torch.arange(n, device=images.device).tensor_split(self.size)[self.rank]
        # a training set of images alone has no problem
        return selected(problem, index) if problem else problem, images[index], len(index) / n

    def sum(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Numbers by name, summed over the ranks."""
        stacked = torch.stack([v.double() for v in values.values()])
        if self.size > 1:
            stacked = self.fabric.all_reduce(stacked, reduce_op="sum")
        return dict(zip(values, stacked.tolist(), strict=True))

    def sum_gradients(self, weights: Sequence[Tensor]) -> None:
        """Every weight's gradient summed over the ranks, all of them in one message."""
        if self.size == 1:
            return
        gradients = [cast(Tensor, w.grad) for w in weights]
        flat = [(torch.view_as_real(g) if g.is_complex() else g).flatten() for g in gradients]
        summed = self.fabric.all_reduce(torch.cat(flat), reduce_op="sum")
        for gradient, part, values in zip(
            gradients, flat, summed.split([f.numel() for f in flat]), strict=True
        ):
            values = values.to(part.dtype)
            gradient.copy_(
                torch.view_as_complex(values.reshape(*gradient.shape, 2))
                if gradient.is_complex()
                else values.reshape(gradient.shape)
            )

    def agree(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """The first rank's clock, and whether anyone was asked to stop: all must leave at one step."""
        if self.size == 1:
            return seconds, stop
        told = torch.tensor([seconds if self.first else 0.0, float(stop)], dtype=torch.float64)
        told = self.fabric.all_reduce(told.to(self.fabric.device), reduce_op="sum")
        return float(told[0]), bool(told[1] > 0)

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            self.fabric.barrier()


class OnDevice:
    """Training data whose batches and validation images are moved to a device; all else is the data's."""

    def __init__(self, data: PairedData | UnpairedData, device: torch.device):
        self._data, self._device = data, device
        self._moved: tuple[LinearOperator | None, LinearOperator | None] = None, None

    @cached_property
    def validation(self) -> tuple[Problem, Tensor]:
        return self._there(self._data.validation)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Problem, Tensor]]:
        for pair in self._data.batches(size, generator):
            yield self._there(pair)

    def _there(self, pair: tuple[Problem, Tensor]) -> tuple[Problem, Tensor]:
        problem, images = pair
        if images.device == self._device:
            return pair
        # a copy, made once: the data go on drawing with their own
        if self._moved[0] is not problem.A:
            self._moved = problem.A, deepcopy(problem.A).to(self._device)
        A = cast(LinearOperator, self._moved[1])
        noise = deepcopy(problem.noise).to(self._device)
        return Problem(A, problem.y.to(self._device), noise), images.to(self._device)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)
