"""AUTOMAP: full layers from all data to all pixels, then convolutions."""

from __future__ import annotations

import math

from torch import Tensor, nn


class Automap(nn.Module):
    """y -> full, tanh -> full -> (ny, nx) -> 5×5, ReLU -> 5×5, ReLU -> transposed 7×7.

    Zhu, Liu, Rosen, Rosen, Nature 555 (2018). The scanner's geometry is learned, not given. The full layers
    have n_data·hidden + hidden·ny·nx weights; with `rank` each is the product of two of that rank.

    Parameters
    ----------
    n_data : numbers in one image's data (real and imaginary parts count twice)
    shape : (ny, nx) of the image
    hidden : width of the first full layer; None for ny·nx, as in the paper
    features : width of the convolutions
    rank : of the full layers; None for full rank, as in the paper
    channels : 2 for real and imaginary part of a complex image, for each of which the paper has a network

    y : (batch, n_data) -> image (batch, ny, nx), of several channels (batch, channels, ny, nx), and the last
    features (batch, features, ny, nx), whose L1 norm the paper penalises
    """

    def __init__(
        self,
        n_data: int,
        shape: tuple[int, int],
        hidden: int | None = None,
        features: int = 64,
        rank: int | None = None,
        channels: int = 1,
    ):
        super().__init__()
        self.shape = (channels, *shape)
        hidden = hidden or math.prod(shape)
        self.full = nn.Sequential(
            *_full(n_data, hidden, rank), nn.Tanh(), *_full(hidden, math.prod(self.shape), rank)
        )
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, features, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(features, features, 5, padding=2),
            nn.ReLU(),
        )
        self.last = nn.ConvTranspose2d(features, channels, 7, padding=3)

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        x = self.full(y).unflatten(-1, self.shape)
        features = self.convolutions(x)
        image = self.last(features)
        return image[:, 0] if len(image[0]) == 1 else image, features


def weights(n_data: int, pixels: int, hidden: int, rank: int | None, channels: int = 1) -> int:
    """Numbers in the full layers, which are nearly all of the network: known before anything is made."""
    outside = channels * pixels
    if rank is None:
        return n_data * hidden + hidden * outside + hidden + outside
    return rank * (n_data + 2 * hidden + outside) + hidden + outside


class AUTOMAP(Automap):
    """The paper's: k-space of an n × n image, so many full-width layers, to the image.

    Its two full layers have 3 n⁴ weights together for 2 n² numbers in: 0.8 billion at n = 128.

    shape : (ny, nx) of the image
    n_data : numbers in one image's data; None for 2 ny nx, a full complex k-space

    y : (n, n_data) -> (n, 1, ny, nx)
    """

    def __init__(
        self,
        shape: tuple[int, int] = (128, 128),
        n_data: int | None = None,
        hidden: int | None = None,
        features: int = 64,
        rank: int | None = None,
    ):
        super().__init__(n_data or 2 * math.prod(shape), shape, hidden, features, rank)

    def forward(self, y: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(y)[0][:, None]


def _full(inside: int, outside: int, rank: int | None) -> list[nn.Module]:
    if rank is None:
        return [nn.Linear(inside, outside)]
    return [nn.Linear(inside, rank, bias=False), nn.Linear(rank, outside)]
