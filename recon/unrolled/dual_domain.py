"""Dual-domain network: learned corrections of the data and of the image, with an inverse of A between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from operators import LinearOperator, Sense, fbp
from operators.tensors import spread
from priors.networks.channels import on_planes, real_channels, unet_widths
from priors.networks.unet import UNet

from ..learned import TrainedFor, squared
from ..problem import Problem
from ..training import within
from .base import Unrolled, UnrolledConfig, at_least, data_axes, has_fbp, one_of, unscaled
from .implicit import cg_solve


@dataclass(frozen=True)
class DualDomainConfig(UnrolledConfig):
    """Two U-Nets, as in DuDoNet (Lin et al. 2019); the widths are a choice, not the paper's.

    rounds : data network, inverse and image network, so many times, with weights of their own
    data_base, image_base, depth : channels of the finest scale, doubled at each of `depth` scales
    norm : of the U-Nets
    filter : of the filtered back projection
    cg_iterations, damping : of A⁺ = (A*A + damping)⁻¹ A* where there is no direct inverse, at ‖A‖ = 1
    data_weight : of the loss's mean |u − A truth|² at ‖A‖ = 1, over all rounds
    inverse_weight : of the loss's mean |B u − truth|², over all rounds
    """

    rounds: int = 1
    data_base: int = 16
    image_base: int = 32
    depth: int = 4
    norm: Literal["none", "group", "instance", "batch"] = "none"
    filter: str = "hann"
    cg_iterations: int = 10
    damping: float = 1e-2
    data_weight: float = 1.0
    inverse_weight: float = 1.0
    batch_size: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        name = "DualDomain"
        within(f"{name} rounds", self.rounds, 1, 100)
        for field in ("data_base", "image_base"):
            within(f"{name} {field}", getattr(self, field), 1, 10_000)
        within(f"{name} depth", self.depth, 1, 12)
        within(f"{name} cg_iterations", self.cg_iterations, 1, 100_000)
        one_of(f"{name} norm", self.norm, ("none", "group", "instance", "batch"))
        at_least(f"{name} damping", self.damping, 1e-12)
        at_least(f"{name} data_weight", self.data_weight, 0.0)
        at_least(f"{name} inverse_weight", self.inverse_weight, 0.0)


class DualDomain(Unrolled):
    """u = v + h(v, y),   x̄ = B u,   x ← x̄ + g(x̄, B y),   then v = A x: correct data, invert, correct.

    Lin et al., CVPR 2019 (DuDoNet), and, alternating and for MRI, Eo et al., Magn. Reson. Med. 80 (2018)
    (KIKI-net). v begins as y. B is filtered back projection for `XRay` in the plane; for `Sense` k-space of
    all coils back to the image, Σ S̄ F* u / Σ|S|², where measured samples of u are put back first; else the
    damped pseudo-inverse A⁺. All are differentiable, and A and B of one round are those of the problem. The
    loss is mean |x − truth|² + data_weight |u − A truth|² + inverse_weight |B u − truth|². Starts as B y.
    """

    Config = DualDomainConfig

    def layers(self, scanner: TrainedFor) -> None:
        c = self.config
        one, two = real_channels(1, scanner.complex), real_channels(2, scanner.complex)

        def net(base: int) -> nn.Module:
            network = UNet(two, one, unet_widths(base, c.depth), norm=c.norm)
            nn.init.zeros_(network.last.weight)
            return network

        self.data_nets = nn.ModuleList(net(c.data_base) for _ in range(c.rounds))
        self.image_nets = nn.ModuleList(net(c.image_base) for _ in range(c.rounds))

    def iterate(self, A: LinearOperator, y: Tensor) -> Tensor:
        return self.rounds(A, y)[-1][2]

    def rounds(self, A: LinearOperator, y: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(u, B u, x) of every round."""
        E = Domain(A, self.config.filter, self.config.cg_iterations, self.config.damping)
        y = E.plain(y)
        first = E.inverse(y)

        def once(data_net: nn.Module, image_net: nn.Module, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            u = E.measured(v + on_planes(data_net, torch.stack([v, y], 1), E.axes)[:, 0], y)
            back = E.inverse(u)
            return u, back, back + on_planes(image_net, torch.stack([back, first], 1))[:, 0]

        found, v = [], y
        for data_net, image_net in zip(self.data_nets, self.image_nets, strict=True):
            found.append(self.again(once, data_net, image_net, v))
            v = E.full(found[-1][2])
        return found

    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Tensor:
        c = self.config
        y, scale = self.inside(problem)
        norm = self.scanner(problem).norm
        A, truth = (1 / norm) * problem.A, images / spread(scale, len(problem.A.in_shape))
        found = self.rounds(A, y / norm)
        clean = Domain(A, c.filter, c.cg_iterations, c.damping).full(truth)
        loss = self.distance(found[-1][2], truth)
        for u, back, _ in found:
            loss = loss + c.data_weight * squared(u - clean).mean()
            loss = loss + c.inverse_weight * squared(back - truth).mean()
        return loss

    @classmethod
    def examples(cls) -> list[DualDomain]:
        small = {"data_base": 4, "image_base": 4, "depth": 2, "steps": 2, "batch_size": 2}
        return [cls(**small), cls(**small, rounds=2, norm="group", checkpoint=True, normalise="data")]


class Domain:
    """Data that a network may complete, and the way from there to images and back.

    A  operator of norm 1; for `Sense` the data are k-space without mask
    """

    def __init__(self, A: LinearOperator, filter: str, iterations: int, damping: float):
        self.A, self.axes = A, data_axes(A)
        self.filter, self.iterations, self.damping = filter, iterations, damping
        self.scale, self.inner = unscaled(A)
        if isinstance(self.inner, Sense):
            S = self.inner
            self.encode = Sense(torch.ones_like(S.mask), S.maps, S.in_shape, S.ndim)
            self.sampled = S.sampled
            weight = S._over_coils(S.mask)
            self.weight = torch.where(self.sampled, weight, 1)
            self.power = None if S.maps is None else squared(S.maps).sum(0)

    def full(self, x: Tensor) -> Tensor:
        """A x, also where nothing was measured."""
        return self.scale * self.encode(x) if isinstance(self.inner, Sense) else self.A(x)

    def measured(self, u: Tensor, y: Tensor) -> Tensor:
        """u with what was measured of k-space put back; other data as they are, for these are noisy rays."""
        return torch.where(self.sampled, y, u) if isinstance(self.inner, Sense) else u

    def plain(self, y: Tensor) -> Tensor:
        """y without the weights that a mask other than 0 and 1 gives its samples."""
        return y / self.weight.to(y.real.dtype) if isinstance(self.inner, Sense) else y

    def inverse(self, u: Tensor) -> Tensor:
        """B u."""
        if isinstance(self.inner, Sense):
            x = self.encode.adjoint(u) / self.scale
            if self.power is None:
                return x
            power = self.power.to(x.real.dtype)
            return torch.where(power > 0, x / torch.where(power > 0, power, 1), 0)
        if has_fbp(self.A):
            return fbp(self.inner, u, filter=self.filter) / self.scale
        weight = torch.tensor(self.damping, dtype=u.real.dtype, device=u.device)
        return cg_solve(self.A.gram, self.A.adjoint(u), weight, self.iterations)
