"""Whether a cycle G, F hides its input in what nobody sees of G(x)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from operators import Gaussian, Identity
from operators.noise_model import draw_images
from operators.tensors import norm

from ..problem import Problem

Map = Callable[[Tensor], Tensor]

# ITU-T T.81 (1992), table K.1: quantisation of luminance at quality 50
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


@dataclass(frozen=True)
class CycleJump:
    """What a small change of G(x) does to F(G(x)); root mean squares over pixels, one per image, (n,) each.

    perturbation : of what is changed, ‖δ‖
    before, after : cycle errors ‖F(G(x)) − x‖ and ‖F(G(x) + δ) − x‖
    change : ‖F(G(x) + δ) − F(G(x))‖
    """

    perturbation: Tensor
    before: Tensor
    after: Tensor
    change: Tensor

    @property
    def amplification(self) -> Tensor:
        """Change / perturbation: about F's slope for an honest map, 1/ε if x hides at height ε."""
        return self.change / self.perturbation

    @property
    def jump(self) -> Tensor:
        """(after − before) / perturbation: what the cycle loses for what was changed."""
        return (self.after - self.before) / self.perturbation


@torch.no_grad()
def hidden_code(
    G: Map, F: Map, x: Tensor, perturbations: Mapping[str, Map] | None = None, ndim: int = 2
) -> dict[str, CycleJump]:
    """F(G(x) + δ) against F(G(x)), for changes δ that no reader would notice.

    Chu, Zhmoginov, Sandler, CycleGAN, a Master of Steganography, NIPS workshop 2017: a cycle loss is also
    met by a G that writes x into G(x) at a height below what is seen, and an F that reads it. Then a change
    of that height destroys the cycle.

    G, F : images -> images; of a method `as_map(method, shape)`
    x : (n, *shape), ndim dimensions in shape
    perturbations : name -> a map that changes G(x) a little; `usual(G(x))` by default

    Returns a `CycleJump` for each. A change of exactly zero, as 8-bit values of an 8-bit image, gives NaN.
    """
    there = G(x)
    back = F(there)
    pixels = math.sqrt(math.prod(x.shape[x.ndim - ndim :]))

    def size(a: Tensor) -> Tensor:
        return norm(a.double(), ndim) / pixels

    found = {}
    for name, change in (perturbations or usual(there, ndim)).items():
        changed = change(there)
        again = F(changed)
        found[name] = CycleJump(size(changed - there), size(back - x), size(again - x), size(again - back))
    return found


def usual(image: Tensor, ndim: int = 2) -> dict[str, Map]:
    """Noise of 1 % of the range, 256 grey levels, and, of images (ny, nx), DCT at quality 75."""
    low, high = float(image.min()), float(image.max())
    if not high > low:
        raise ValueError("usual image: expected more than one value, got a constant")
    found: dict[str, Map] = {
        "noise of 1 %": lambda x: noisy(x, 0.01 * (high - low), ndim=ndim),
        "8 bit": lambda x: quantised(x, low, high),
    }
    if ndim == 2:
        found["DCT quality 75"] = lambda x: dct_quantised(x, low, high, 75)
    return found


def noisy(x: Tensor, sigma: float, seed: int = 0, ndim: int = 2) -> Tensor:
    """x + N(0, σ²), each image with its own seed."""

    def draw(_: int, image: Tensor, generator: torch.Generator) -> Tensor:
        return image + sigma * torch.randn(image.shape, generator=generator, dtype=image.dtype)

    return draw_images(x, ndim, seed, draw)


def quantised(x: Tensor, low: float, high: float, levels: int = 256) -> Tensor:
    """The nearest of `levels` values from low to high; what lies beyond is clipped, as a file would."""
    _check_window(low, high)
    if levels < 2:
        raise ValueError(f"quantised levels: expected at least 2, got {levels}")
    step = (high - low) / (levels - 1)
    return low + step * ((x - low) / step).round().clamp(0, levels - 1)


def dct_quantised(x: Tensor, low: float, high: float, quality: int = 75) -> Tensor:
    """What JPEG does to a grey image: 8 × 8 cosine transforms, their coefficients rounded, back to 8 bit.

    Table K.1 of ITU-T T.81, scaled to `quality` as the Independent JPEG Group's library does. Sides that are
    no multiple of 8 are continued by their last pixel.

    x : (*batch, ny, nx); low and high become the grey levels 0 and 255
    quality : 1 to 100
    """
    _check_window(low, high)
    if not 1 <= quality <= 100:
        raise ValueError(f"dct_quantised quality: expected 1 to 100, got {quality}")
    if x.ndim < 2 or x.is_complex():
        raise ValueError(f"dct_quantised x: expected real (*batch, ny, nx), got {x.dtype} {tuple(x.shape)}")
    ny, nx = x.shape[-2:]
    grey = ((x.double() - low) / (high - low) * 255).round().clamp(0, 255) - 128
    rows = torch.arange(-(-ny // 8) * 8, device=x.device).clamp(max=ny - 1)
    columns = torch.arange(-(-nx // 8) * 8, device=x.device).clamp(max=nx - 1)
    blocks = grey[..., rows[:, None], columns].unflatten(-2, (-1, 8)).unflatten(-1, (-1, 8)).transpose(-3, -2)
    C, table = _cosines().to(x.device), _table(quality).to(x.device)
    coefficients = (C @ blocks @ C.T / table).round() * table
    back = (C.T @ coefficients @ C).transpose(-3, -2).flatten(-2).flatten(-3, -2)
    whole = (back[..., :ny, :nx] + 128).round().clamp(0, 255)
    return (low + whole / 255 * (high - low)).to(x.dtype)


def as_map(method: Callable[[Problem], Tensor], shape: tuple[int, ...], sigma: float = 1.0) -> Map:
    """A translator as a map of images: its problem is `Identity(shape)` with noise of σ, which it may use."""
    A, noise = Identity(shape), Gaussian(sigma=sigma, data_ndim=len(shape))
    return lambda x: method(Problem(A, x, noise))


def _cosines() -> Tensor:
    """The orthonormal DCT-II of 8 samples."""
    k = torch.arange(8, dtype=torch.float64)
    C = torch.cos(math.pi / 8 * k[:, None] * (k + 0.5)) / 2
    C[0] /= math.sqrt(2)
    return C


def _table(quality: int) -> Tensor:
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = torch.tensor(_LUMINANCE, dtype=torch.float64)
    return ((steps * scale + 50) / 100).floor().clamp(1, 255)


def _check_window(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        raise ValueError(f"window: expected low < high, got {low!r} and {high!r}")
