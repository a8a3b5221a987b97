"""What a joint reconstruction is made of: its data terms, and its unknowns with their optimiser."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from operators import LinearOperator
from priors import Functional, HuberTV
from priors.networks.autoencoder import Decoder, Encoder
from priors.networks.seeds import seeded

from .discriminator import pieces
from .fidelity import LIKELIHOODS, count
from .problem import Problem
from .subsets import interleaved, subset_of
from .variational.base import spacing
from .variational.ordered_subsets import restricted

if TYPE_CHECKING:
    from .joint import JointConfig


class Data:
    """Data and TV terms of images of size 1, per datum; data of one subset, times their number."""

    def __init__(self, problem: Problem, config: JointConfig, scale: float):
        A, d = problem.A, LIKELIHOODS[config.likelihood](problem)
        self.config, self.scale = config, scale
        self.count = max(float(count(d, problem.linear)), 1.0)
        self.terms = subset_terms(d, A, config.subsets)
        size = spacing(problem)
        self.tv = HuberTV(A.in_shape, size, delta=1e-3 * scale / max(size))

    def __call__(self, k: int, x: Tensor | None, f: Tensor | None) -> dict[str, Tensor]:
        c, parts = self.config, {}
        term = self.terms[k % len(self.terms)]
        for kind, v in (("seed", x), ("network", f)):
            if v is None:
                continue
            if getattr(c, f"data_{kind}"):
                value = term(self.scale * v) * len(self.terms)
                parts[f"data_{kind}"] = getattr(c, f"data_{kind}") / self.count * value
            if getattr(c, f"tv_{kind}"):
                parts[f"tv_{kind}"] = getattr(c, f"tv_{kind}") / self.count * self.tv(self.scale * v)
        return parts


def subset_terms(d: Functional, A: LinearOperator, subsets: int) -> list[Functional]:
    """d @ A as a sum over subsets of the views, in golden-ratio order."""
    if subsets == 1:
        return [d @ A]
    return [restricted(d, views) @ subset_of(A, views) for views in interleaved(A.out_shape[0], subsets)]


class Unknowns:
    """Seed, latent and autoencoder, in images of size 1, with their optimisers."""

    def __init__(self, config: JointConfig, first: Tensor, planning: Tensor | None):
        self.config, self.planning, c = config, planning, config
        self.shape = (first.shape[0], first.shape[1])
        self.generator = torch.Generator().manual_seed(c.seed + 1)
        self.seed = first.clone().requires_grad_(c.seed_rate > 0) if c.image != "decoder" else None
        self.encoder = self.decoder = self.latent = None
        groups: list[dict[str, Any]] = []
        if c.image != "free":
            with seeded(c.seed):
                self.encoder = Encoder(c.channels, c.strides).to(first)
                self.decoder = Decoder(c.channels, c.strides).to(first)
            networks = [*self.encoder.parameters(), *self.decoder.parameters()]
            self._warm_up(networks, first)
            groups.append({"params": networks, "lr": c.network_rate})
        if c.image == "decoder":
            assert self.encoder is not None
            self.latent = self.encoder(first[None, None]).detach().requires_grad_()
            groups.append({"params": [self.latent], "lr": c.seed_rate})
        elif c.seed_rate > 0:
            assert self.seed is not None
            groups.append({"params": [self.seed], "lr": c.seed_rate})
        if not groups:
            raise ValueError("JointReconstruction seed_rate: expected above 0, as nothing else is unknown")
        self.optimizer = torch.optim.Adam(groups, betas=(c.beta1, 0.999))
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def images(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """x, f and z, those there are."""
        if self.encoder is None or self.decoder is None:
            return self.seed, None, None
        z = self.latent if self.seed is None else self.encoder(self.seed[None, None])
        assert z is not None
        return self.seed, self.decoder(z, self.shape)[0, 0], z

    def random(self) -> Tensor:
        """dec of a latent drawn from N(0, 1)."""
        assert self.decoder is not None and self.encoder is not None
        size = (1, self.config.channels[-1], *self.encoder.shape(self.shape))
        like = next(self.decoder.parameters())
        z = torch.randn(size, generator=self.generator, dtype=like.dtype).to(like.device)
        return self.decoder(z, self.shape)[0, 0]

    def autoencoding(self) -> dict[str, Tensor]:
        """How well the autoencoder returns planning images, and their features."""
        c, parts = self.config, {}
        if self.encoder is None or self.decoder is None or not (c.autoencode or c.autoencode_latent):
            return {}
        assert self.planning is not None
        p = pieces(self.planning, c.batch, None, c.augment, self.generator)
        h = self.encoder(p[:, None])
        back = self.decoder(h, (p.shape[-2], p.shape[-1]))
        if c.autoencode:
            parts["autoencode"] = c.autoencode * (back[:, 0] - p).square().mean()
        if c.autoencode_latent:
            parts["autoencode_latent"] = c.autoencode_latent * (self.encoder(back) - h).square().mean()
        return parts

    def rate(self, spent: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = 0.5 * (1 + math.cos(math.pi * spent)) * rate

    def step(self, total: Tensor) -> None:
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        if self.config.nonnegative and self.seed is not None:
            with torch.no_grad():
                self.seed.clamp_(min=0)

    def _warm_up(self, networks: list[nn.Parameter], first: Tensor) -> None:
        assert self.encoder is not None and self.decoder is not None
        c = self.config
        images = first[None] if self.planning is None else self.planning
        optimizer = torch.optim.Adam(networks, lr=1e-3)
        for _ in range(c.warm_up):
            p = pieces(images, c.batch, None, c.augment, self.generator)[:, None]
            loss = (self.decoder(self.encoder(p), (p.shape[-2], p.shape[-1])) - p).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
