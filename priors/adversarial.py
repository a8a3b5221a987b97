"""A critic as a regulariser."""

from __future__ import annotations

from torch import Tensor, nn

from .base import Functional, same_precision
from .networks.critic import Critic, LocalCritic
from .networks.seeds import seeded


class AdversarialRegulariser(Functional):
    """E(x) = s·Ψ(x / s): a critic Ψ that is low on true images and high on naive reconstructions.

    Lunz, Öktem, Schönlieb, NeurIPS 2018. Trained so that ‖∇Ψ‖ ≤ 1, E too has a gradient of at most about
    norm 1, whatever the unit of the image. Not convex and not bounded from below: minimise with it a fixed
    number of steps only. Trained by `recon.AdversarialRegularisation`.

    critic : (n, ny, nx) -> (n,); a `Critic` of whole images, a `LocalCritic` of patches, or any other
    scale  : size s of an image, in its unit

    x : (*batch, ny, nx) -> (*batch,)
    """

    def __init__(self, critic: nn.Module, scale: float = 1.0):
        super().__init__()
        if not scale > 0:
            raise ValueError(f"AdversarialRegulariser scale: expected a positive number, got {scale}")
        self.critic, self.scale = critic, float(scale)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_complex():
            raise ValueError(f"{type(self).__name__} expects a real image, got {x.dtype}")
        same_precision(self, x)
        batch = x.shape[:-2]
        images = x.reshape(-1, *x.shape[-2:]) / self.scale
        return self.scale * self.critic(images).reshape(batch)

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        with seeded(0):
            return [
                (cls(Critic((9, 12), (4, 8), (1, 2), 8)), (9, 12)),
                (cls(Critic((8, 8), (4,), (2,), 4), scale=0.02), (8, 8)),
                (cls(LocalCritic((4, 3)), scale=0.5), (9, 8)),
            ]
