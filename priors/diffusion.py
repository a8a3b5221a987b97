"""Diffusion priors: denoisers for any amount of noise, whose scores know how likely an image is.

A denoiser D that is right at every σ is a prior: by Tweedie's formula ∇log p_σ(x) = (D(x, σ) − x)/σ², p_σ the
law of clean + σ·n. All of `priors.denoiser` may serve where they are good over the range that a sampler asks
for, and a `DiffusionPrior` may serve where a denoiser is wanted, as in plug and play.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from operators.tensors import spread

from .base import Step
from .denoiser import Denoiser, NetworkDenoiser
from .networks.score import ScoreUNet
from .networks.seeds import seeded


class Preconditioned(nn.Module):
    """D(x, σ) = c_skip x + c_out F(c_in x, ln(σ)/4),  with s = size:

        c_in = 1/√(σ² + s²),  c_skip = s²/(σ² + s²),  c_out = σ s/√(σ² + s²)

    Karras, Aittala, Aila, Laine, NeurIPS 2022, table 1: what F sees and what it has to say has size 1 at
    every σ.

    network   F(x (n, channels, ny, nx), c (n,)) -> like x
    size      s > 0, root of the mean square of clean images
    """

    def __init__(self, network: nn.Module, size: float):
        super().__init__()
        if not size > 0:
            raise ValueError(f"Preconditioned size: expected a positive number, got {size}")
        self.network, self.size = network, float(size)
        self.channels = getattr(network, "channels", None)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        level = sigma[:, None, None, None]
        whole = (level.square() + self.size**2).sqrt()
        change = self.network(x / whole, sigma.log() / 4)
        return (self.size / whole) ** 2 * x + (level * self.size / whole) * change


class DiffusionPrior(NetworkDenoiser):
    """A denoiser for σ from next to nothing to far above the image: the prior of a diffusion model.

    Variance exploding, x_σ = clean + σ·n, in the parametrisation of Karras et al. 2022 (`Preconditioned`); a
    variance-preserving sampler is the same after division of its images by √ᾱ. Trained by
    `recon.diffusion.train_diffusion`.

    size            root of the mean square of clean images within the data range (0, 1)
    widths, blocks, embedding   of the `ScoreUNet`
    seed            of its first weights
    data_range, complex_images  as in `NetworkDenoiser`
    """

    def __init__(
        self,
        size: float = 0.5,
        widths: Sequence[int] = (24, 48, 72),
        blocks: int = 1,
        embedding: int = 64,
        seed: int = 0,
        data_range: tuple[float, float] = (0.0, 1.0),
        complex_images: Literal["parts", "channels"] = "parts",
    ):
        channels = 2 if complex_images == "channels" else 1
        with seeded(seed):
            network = ScoreUNet(channels, widths, blocks, embedding)
        super().__init__(Preconditioned(network, size), data_range, complex_images)
        self.size = float(size) * self.width

    def __repr__(self) -> str:
        return f"DiffusionPrior(size={self.size:g})"


class WienerDenoiser(Denoiser):
    """D(x, σ) = μ + F* S/(S + σ²) F (x − μ): exact for stationary Gaussian images, x ~ N(μ, F* S F).

    The linear denoiser of Wiener (1949), and the one diffusion prior whose posterior is known in closed form:
    what a sampler does can be checked against it.

    mean       μ, a number or an image (*shape), unit of the image
    spectrum   S ≥ 0, (*shape), variance of every coefficient of the orthonormal Fourier transform, zero
               frequency first; of a complex image that of each of its real and its imaginary part. Even,
               S(k) = S(−k), for real images
    """

    unit = False
    mean: Tensor
    spectrum: Tensor

    def __init__(self, mean: float | Tensor, spectrum: Tensor):
        super().__init__()
        if not isinstance(spectrum, Tensor) or spectrum.ndim < 1 or not bool((spectrum >= 0).all()):
            raise ValueError("WienerDenoiser spectrum: expected a tensor of numbers ≥ 0, one per frequency")
        self.ndim = spectrum.ndim
        self.register_buffer("mean", torch.as_tensor(mean, dtype=spectrum.dtype))
        self.register_buffer("spectrum", spectrum)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        if x.shape[1:] != self.spectrum.shape:
            raise ValueError(
                f"{self!r}: made for images {tuple(self.spectrum.shape)}, got {tuple(x.shape[1:])}"
            )
        axes = tuple(range(1, x.ndim))
        power = self.spectrum.to(x.real.dtype)
        mean = self.mean.to(x.real.dtype)
        kept = power / (power + spread(sigma.square(), self.ndim))
        found = torch.fft.ifftn(kept * torch.fft.fftn(x - mean, dim=axes), dim=axes)
        return mean + (found if x.is_complex() else found.real)

    def __repr__(self) -> str:
        return f"WienerDenoiser({tuple(self.spectrum.shape)})"


def score(denoiser: Denoiser, x: Tensor, sigma: Step) -> Tensor:
    """∇log p_σ(x) = (D(x, σ) − x)/σ² (Tweedie; Robbins 1956), x (*batch, *shape), σ a number or per image.

    p_σ is the law of clean images plus noise of σ in every real number.
    """
    level = torch.as_tensor(sigma, dtype=x.real.dtype, device=x.device)
    return (denoiser(x, sigma) - x) / spread(level.square(), denoiser.ndim)
