"""What a training of two players remembers beside weights: past images, and how often D was right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

RECENT = 100
"""Steps of the discriminator over which its accuracy is taken."""


class Pool(nn.Module):
    """Past images, each of which is shown once more: with probability ½ one of them for one of now.

    Shrivastava et al., CVPR 2017, as CycleGAN uses it (Zhu et al., ICCV 2017): until it is full every image
    is kept and shown; then with probability ½ an image is shown and forgotten, else a past one is shown in
    its place and it takes that one's. Buffers hold it, so that a training goes on with it as it was.

    size : how many; 0 shows every image as it is
    shape : of an image, channels first
    """

    images: Tensor
    filled: Tensor

    def __init__(self, size: int, shape: Sequence[int]):
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.tensor(0))

    @torch.no_grad()
    def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Images (n, *shape) to show for x; draws on the CPU from `generator`."""
        if not self.size:
            return x
        shown = []
        for image in x.detach():
            filled = int(self.filled)
            if filled < self.size:
                self.images[filled] = image
                self.filled += 1
                shown.append(image)
                continue
            past = bool(torch.rand((), generator=generator) < 0.5)
            place = int(torch.randint(self.size, (), generator=generator))
            shown.append(self.images[place].clone() if past else image)
            if past:
                self.images[place] = image
        return torch.stack(shown)


class Watch(nn.Module):
    """Which part of its verdicts a discriminator got right, over its last steps.

    Wasserstein critics have no right and wrong: the share is then that of real images above the fakes' mean.
    """

    right: Tensor
    seen: Tensor

    def __init__(self, mode: str, margin: float = 1.0, recent: int = RECENT):
        super().__init__()
        self.mode, self.margin = mode, margin
        self.register_buffer("right", torch.zeros(recent))
        self.register_buffer("seen", torch.tensor(0))

    @torch.no_grad()
    def see(self, real: Tensor, fake: Tensor) -> None:
        """Remember one step's scores."""
        # an energy is low for what is real
        sign = -1 if self.mode == "energy" else 1
        middle = {"lsgan": 0.5, "energy": self.margin / 2}.get(self.mode, 0.0)
        threshold = fake.mean() if self.mode == "wgan" else middle
        yes, no = sign * (real - threshold) > 0, sign * (fake - threshold) <= 0
        share = yes.float().mean() if self.mode == "wgan" else (yes.float().mean() + no.float().mean()) / 2
        self.right[int(self.seen) % len(self.right)] = share
        self.seen += 1

    @property
    def accuracy(self) -> float | None:
        """Mean share of right verdicts over the last steps; None before there was one."""
        n = min(int(self.seen), len(self.right))
        return float(self.right[:n].mean()) if n else None
