"""Training of denoisers and convex critics on images alone: no scanner, no pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from operators.tensors import spread
from priors import ConvexRegulariser
from priors.denoiser import Denoiser
from priors.projection import LearnedProjection

from .adversarial import critic_loss
from .checkpoints import beside, read_tensors, write_tensors
from .data.sets import UnpairedData
from .training import Progress, TrainingConfig, train, within

Source = Tensor | Callable[[Sequence[int]], Tensor]
Module = TypeVar("Module", bound=nn.Module)
TRAIN, VALIDATION = 2**31, 0


class CleanImages:
    """Images to learn from, in the unit the prior is to work in: size 1 for networks.

    source   images (n, ny, nx), the last eighth of which is kept for validation; or seeds -> images, as
             `recon.data.small.dival_images(64)`, of which every batch is new
    patch    learn from random squares of this side, turned and mirrored; None: from whole images
    """

    def __init__(self, source: Source, patch: int | None = None, validation_size: int = 8):
        if isinstance(source, Tensor) and (source.ndim != 3 or len(source) < 2):
            raise ValueError(
                f"CleanImages source: expected at least 2 images (n, ny, nx), got {tuple(source.shape)}"
            )
        self.source, self.patch = source, patch
        if isinstance(source, Tensor):
            kept = max(1, len(source) // 8)
            self.images, self.validation = source[:-kept], source[-kept:]
        else:
            self.validation = source(range(VALIDATION, VALIDATION + validation_size))
        if patch is not None and not 1 <= patch <= min(self.validation.shape[-2:]):
            raise ValueError(
                f"CleanImages patch: expected at most {min(self.validation.shape[-2:])}, got {patch}"
            )

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[None, Tensor]]:
        """Endless (None, images), decided by the generator alone."""
        while True:
            if isinstance(self.source, Tensor):
                images = self.images[torch.randint(len(self.images), (size,), generator=generator)]
            else:
                images = self.source(torch.randint(TRAIN, 2**32, (size,), generator=generator).tolist())
            yield None, self._patches(images, generator)

    def _patches(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if self.patch is None:
            return images
        p, (ny, nx) = self.patch, images.shape[-2:]
        found = []
        for image in images:
            top = int(torch.randint(ny - p + 1, (), generator=generator))
            left = int(torch.randint(nx - p + 1, (), generator=generator))
            turns = int(torch.randint(8, (), generator=generator))
            square = image[top : top + p, left : left + p].rot90(turns % 4)
            found.append(square.flip(-1) if turns >= 4 else square)
        return torch.stack(found)


@dataclass(frozen=True)
class DenoisingConfig(TrainingConfig):
    """Zhang et al. 2022 and Hurault et al. 2022 train so, for longer: Adam 1e-4, σ uniform in 0 … 50/255.

    lowest, highest   σ of the training noise, uniform per image, unit of the images
    """

    steps: int = 100_000
    batch_size: int = 16
    learning_rate: float = 1e-4
    beta2: float = 0.999
    lowest: float = 1 / 255
    highest: float = 50 / 255

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.lowest <= self.highest:
            raise ValueError(
                f"DenoisingConfig lowest, highest: expected 0 < lowest ≤ highest, "
                f"got {self.lowest}, {self.highest}"
            )


@dataclass(frozen=True)
class ConvexConfig(DenoisingConfig):
    """Mukherjee et al. 2020: Adam 2e-5 (0.5, 0.99), gradient penalty 5.

    penalty   weight of the gradient penalty
    """

    learning_rate: float = 2e-5
    beta1: float = 0.5
    beta2: float = 0.99
    penalty: float = 5.0
    schedule: Any = field(default="constant")


def noisy(x: Tensor, low: float, high: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """x + σn and σ, uniform per image; re and im of complex images have σ each."""
    sigma = low + (high - low) * torch.rand(len(x), generator=generator, dtype=torch.float64)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    unit = 2**0.5 if x.is_complex() else 1.0
    sigma = sigma.to(x.real)
    return x + unit * spread(sigma, x.ndim - 1) * noise, sigma


def train_denoiser(
    denoiser: Denoiser,
    images: Source | CleanImages,
    config: DenoisingConfig | None = None,
    *,
    checkpoint: str | Path | None = None,
    minutes: float | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> Progress:
    """Lower E mean |D(x + σn, σ) − x|² over the weights of `denoiser`; resumed from `checkpoint`.

    images   see `CleanImages`; of size 1 for a denoiser of data range (0, 1)
    config   how; the score is the PSNR [dB] at a range of 1 and the middle σ
    and the keywords of `recon.training.train`
    """
    chosen, clean = config or DenoisingConfig(), _clean(images)

    def loss(_: Any, x: Tensor, generator: torch.Generator) -> Tensor:
        y, sigma = noisy(x, chosen.lowest, chosen.highest, generator)
        return (denoiser(y, sigma) - x).abs().square().mean()

    def score() -> float:
        middle = (chosen.lowest + chosen.highest) / 2
        x = clean.validation
        y, sigma = noisy(x, middle, middle, torch.Generator().manual_seed(chosen.seed))
        error = (denoiser(y, sigma) - x).abs().square().mean()
        return float(-10 * error.log10())

    return _train(denoiser, loss, clean, chosen, score, checkpoint, minutes, callback)


def train_convex(
    prior: ConvexRegulariser,
    images: Source | CleanImages,
    config: ConvexConfig | None = None,
    *,
    checkpoint: str | Path | None = None,
    minutes: float | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> Progress:
    """Lower E Ψ(clean) − E Ψ(noisy) + penalty · E(‖∇Ψ(mix)‖ − 1)₊²: a convex critic of noise.

    As Mukherjee et al. 2020 between clean images and naive reconstructions; here between clean and noisy
    images. Convexity is in the form of the network and cannot be lost. The score is the share of validation
    images with Ψ(clean) < Ψ(noisy).
    """
    chosen, clean = config or ConvexConfig(), _clean(images)

    def loss(_: Any, x: Tensor, generator: torch.Generator) -> Tensor:
        y, _sigma = noisy(x.flip(0), chosen.lowest, chosen.highest, generator)
        return critic_loss(prior, x, y, chosen.penalty, generator)

    def score() -> float:
        x = clean.validation
        y, _sigma = noisy(x, chosen.highest, chosen.highest, torch.Generator().manual_seed(chosen.seed))
        return float((prior(x) < prior(y)).float().mean())

    return _train(prior, loss, clean, chosen, score, checkpoint, minutes, callback)


def train_projection(
    projection: LearnedProjection,
    images: Source | CleanImages,
    config: DenoisingConfig | None = None,
    *,
    checkpoint: str | Path | None = None,
    minutes: float | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> Progress:
    """Lower E mean |P(spoiled(x)) − x|² + 0.01 E mean |P(x) − x|²: clean images stay, others come back.

    Chang et al. 2017, without their adversarial terms. The score is the PSNR [dB] at a range of 1.
    """
    chosen, clean = config or DenoisingConfig(highest=0.5), _clean(images)

    def loss(_: Any, x: Tensor, generator: torch.Generator) -> Tensor:
        level = torch.ones(len(x), dtype=x.real.dtype, device=x.device)
        back = (projection(spoiled(x, chosen.highest, generator), level) - x).abs().square().mean()
        return back + 0.01 * (projection(x, level) - x).abs().square().mean()

    def score() -> float:
        y = spoiled(clean.validation, chosen.highest, torch.Generator().manual_seed(chosen.seed))
        return float(-10 * (projection(y, 1.0) - clean.validation).abs().square().mean().log10())

    return _train(projection, loss, clean, chosen, score, checkpoint, minutes, callback)


def spoiled(x: Tensor, highest: float, generator: torch.Generator) -> Tensor:
    """x + noise whose σ varies smoothly over the image, up to `highest`; of three in ten a block is lost."""
    n, ny, nx = x.shape
    coarse = torch.rand(n, 1, 4, 4, generator=generator, dtype=x.real.dtype)
    smooth = nn.functional.interpolate(coarse, (ny, nx), mode="bilinear", align_corners=True)
    level = highest * smooth[:, 0]
    unit = 2**0.5 if x.is_complex() else 1.0
    y = x + (unit * level * torch.randn(x.shape, generator=generator, dtype=x.dtype)).to(x.device)
    for image in y:
        if float(torch.rand((), generator=generator)) < 0.3:
            side = max(1, min(ny, nx) // 4)
            top = int(torch.randint(ny - side + 1, (), generator=generator))
            left = int(torch.randint(nx - side + 1, (), generator=generator))
            image[top : top + side, left : left + side] = 0
    return y


def _clean(images: Source | CleanImages) -> CleanImages:
    return images if isinstance(images, CleanImages) else CleanImages(images)


def _train(
    module: nn.Module,
    loss: Callable[[Any, Tensor, torch.Generator], Tensor],
    clean: CleanImages,
    config: DenoisingConfig,
    score: Callable[[], float],
    checkpoint: str | Path | None,
    minutes: float | None,
    callback: Callable[[Progress], None] | None,
) -> Progress:
    within(f"{type(module).__name__} weights", sum(p.numel() for p in module.parameters()), 1, 10**10)
    # a training set of images only: the loop asks for batches and nothing else
    data = cast(UnpairedData, clean)
    return train(
        module, loss, data, config,
        score=score, minutes=minutes, checkpoint=checkpoint, callback=callback,
    )  # fmt: skip


def save_prior(module: nn.Module, path: str | Path, **about: Any) -> Path:
    """Write the weights of a denoiser or regulariser, with what made them, to `path`.safetensors."""
    file = beside(path, ".safetensors")
    write_tensors(file, module.state_dict(), {"prior": type(module).__name__, "about": about})
    return file


def load_prior(module: Module, path: str | Path) -> Module:
    """The weights that `save_prior` wrote, into a module constructed alike; returns it, ready for use."""
    file = beside(path, ".safetensors")
    if not file.exists():
        raise ValueError(f"load_prior path: there is no {file}; train with train_denoiser and save_prior")
    tensors, header = read_tensors(file)
    if header.get("prior") != type(module).__name__:
        raise ValueError(f"{file}: weights of {header.get('prior')!r}, not of {type(module).__name__}")
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{file}: weights of another configuration ({error})") from None
    return module.requires_grad_(False).eval()
