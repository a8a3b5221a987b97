"""A discriminator that learns while an image is reconstructed: good images against iterates, now and past."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Discrimination:
    """D ← Adam on ½[mean (D(good) − 1)² + mean D(iterate)²], half the iterates from a pool of past ones.

    Mao et al., ICCV 2017 (least-squares GAN), with the pool of Shrivastava et al., CVPR 2017. All draws come
    from `seed`.

    network : (n, ny, nx) -> verdicts (n, …), 1 for good images
    good : images (n, ny, nx)
    rate, beta1 : of Adam
    patch, batch, augment : side of the pieces shown (None: whole images), how many, mirrored or not
    pool : past iterates kept
    noise, jitter : standard deviation of noise on images and on labels
    """

    def __init__(
        self,
        network: nn.Module,
        good: Tensor,
        rate: float = 1e-4,
        beta1: float = 0.1,
        patch: int | None = None,
        batch: int = 4,
        augment: bool = True,
        pool: int = 200,
        noise: float = 0.0,
        jitter: float = 0.0,
        seed: int = 0,
    ):
        self.network, self.good = network.requires_grad_(False), good
        self.patch, self.batch, self.augment, self.size = patch, batch, augment, pool
        self.noise, self.jitter = noise, jitter
        self.pool: list[Tensor] = []
        self.shown = 0
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=rate, betas=(beta1, 0.999))

    def learn(self, iterates: Sequence[Tensor]) -> tuple[float, float]:
        """One step against these images (ny, nx); the loss before it, and mean D(good) − mean D(iterates)."""
        good = pieces(self.good, self.batch, self.patch, self.augment, self.generator)
        shown = pieces(self._reminded(iterates), self.batch, self.patch, self.augment, self.generator)
        self.network.requires_grad_(True)
        yes, no = self.network(self._noisy(good)), self.network(self._noisy(shown))
        loss = least_squares(yes, 1.0 + self._label()) + least_squares(no, 0.0 + self._label())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.network.requires_grad_(False)
        return float(loss.detach()), float((yes.mean() - no.mean()).detach())

    def _reminded(self, iterates: Sequence[Tensor]) -> Tensor:
        """As many images as a batch has, in turn: every second one, on average, is a past iterate."""
        chosen = []
        for k in range(self.batch):
            image = iterates[(self.shown + k) % len(iterates)]
            past = len(self.pool) > 0 and self._uniform() < 0.5
            chosen.append(self.pool[int(self._uniform() * len(self.pool))] if past else image)
        self.shown += self.batch
        for image in iterates:
            if len(self.pool) < self.size:
                self.pool.append(image.clone())
            elif self.size:
                self.pool[int(self._uniform() * self.size)] = image.clone()
        return torch.stack(chosen)

    def _uniform(self) -> float:
        return float(torch.rand((), generator=self.generator))

    def _label(self) -> float:
        return self.jitter * float(torch.randn((), generator=self.generator)) if self.jitter else 0.0

    def _noisy(self, x: Tensor) -> Tensor:
        if not self.noise:
            return x
        return x + self.noise * torch.randn(x.shape, generator=self.generator, dtype=x.dtype).to(x.device)


def least_squares(verdicts: Tensor, label: float) -> Tensor:
    """½ mean (D − label)², a number."""
    return 0.5 * (verdicts - label).square().mean()


def pieces(images: Tensor, n: int, patch: int | None, augment: bool, generator: torch.Generator) -> Tensor:
    """n images (n, side, side), or whole, at random out of (m, ny, nx), mirrored at random."""
    ny, nx = images.shape[-2:]
    height, width = (ny, nx) if patch is None else (patch, patch)
    found = []
    # as many as are asked for: all of them before any comes twice
    order = torch.cat([torch.randperm(len(images), generator=generator) for _ in range(-(-n // len(images)))])
    for index in order[:n]:
        top, left, mirror = (
            int(torch.randint(high, (), generator=generator))
            for high in (ny - height + 1, nx - width + 1, 4 if augment else 1)
        )
        piece = images[index, top : top + height, left : left + width]
        found.append(piece.flip([axis for axis in (0, 1) if mirror >> axis & 1]) if mirror else piece)
    return torch.stack(found)
