"""Training of a diffusion prior: denoising, at all noise levels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from operators.tensors import spread
from priors.diffusion import DiffusionPrior

from ..denoising import CleanImages, DenoisingConfig, Source, _clean, _train
from ..training import Progress


@dataclass(frozen=True)
class DiffusionConfig(DenoisingConfig):
    """Karras et al. 2022: ln σ normal, every σ given the same say, EMA of the weights.

    centre, width    mean and standard deviation of ln(σ/size); theirs ln σ ~ N(−1.2, 1.2²) at a size of 0.5
    lowest, highest  σ is kept between them, in parts of the width of the data range
    """

    learning_rate: float = 1e-3
    average: float | None = 0.999
    centre: float = -0.5
    width: float = 1.2
    lowest: float = 0.001
    highest: float = 80.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.width > 0:
            raise ValueError(f"DiffusionConfig width: expected a positive number, got {self.width}")


def train_diffusion(
    prior: DiffusionPrior,
    images: Source | CleanImages,
    config: DiffusionConfig | None = None,
    *,
    checkpoint: str | Path | None = None,
    minutes: float | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> Progress:
    """Lower E (σ² + s²)/(σ s)² mean |D(clean + σn, σ) − clean|², s the prior's size, over its weights.

    With the weight the loss is 1 at every σ for a network that says 0: no level outweighs another (Karras et
    al. 2022, eq. 8). Kept with `recon.denoising.save_prior`, read with `load_prior`.

    images   see `recon.denoising.CleanImages`; in the prior's data range
    config   how; the score is minus that loss on the validation images, at 16 levels evenly over the middle
             95 % of the training's
    and the keywords of `recon.training.train`
    """
    chosen, clean = config or DiffusionConfig(), _clean(images)
    size = prior.size

    def weighted(x: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        unit = 2**0.5 if x.is_complex() else 1.0
        noise = unit * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        error = (prior(x + spread(sigma, x.ndim - 1) * noise, sigma) - x).abs().square()
        # two real numbers a pixel have two errors
        mean = error.flatten(1).mean(1) / unit**2
        return ((sigma.square() + size**2) / (sigma * size).square() * mean).mean()

    def levels(z: Tensor, x: Tensor) -> Tensor:
        sigma = (chosen.centre + chosen.width * z).exp() * size
        return sigma.clamp(chosen.lowest * prior.width, chosen.highest * prior.width).to(x.real.dtype)

    def loss(_: Any, x: Tensor, generator: torch.Generator) -> Tensor:
        z = torch.randn(len(x), generator=generator, dtype=torch.float64)
        return weighted(x, levels(z, x), generator)

    def score() -> float:
        generator = torch.Generator().manual_seed(chosen.seed)
        x = clean.validation
        values = [
            weighted(x, levels(z.expand(len(x)), x), generator)
            for z in torch.linspace(-2, 2, 16, dtype=torch.float64)
        ]
        return -float(torch.stack(values).mean())

    return _train(prior, loss, clean, chosen, score, checkpoint, minutes, callback)
