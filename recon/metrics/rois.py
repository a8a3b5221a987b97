"""Regions of interest: squares cut out of images at places in mm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def cut(image: Tensor, centres: Sequence[tuple[float, float]], size: int, pixel_size: float) -> Tensor:
    """Squares around the pixels nearest to `centres`: (*batch, ny, nx) -> (*batch, n, size, size).

    image : (*batch, ny, nx), real
    centres : (x, y) from the middle of the image, y upwards as in `Ellipse` [mm]
    size : side of a square [pixels]; of an even one the centre is the pixel after the middle
    pixel_size : [mm]

    Raises ValueError for a square that leaves the image.
    """
    image = real_images("cut image", image)
    positive("cut pixel_size [mm]", pixel_size)
    ny, nx = image.shape[-2:]
    if size < 1 or not centres:
        raise ValueError(f"cut: expected a size of at least 1 and some centres, got {size}, {centres}")
    squares = []
    for x, y in centres:
        # half a pixel goes up, not to the even neighbour, so that neighbours stay apart
        row = math.floor((ny - 1) / 2 - y / pixel_size + 0.5) - size // 2
        column = math.floor((nx - 1) / 2 + x / pixel_size + 0.5) - size // 2
        if min(row, column) < 0 or row + size > ny or column + size > nx:
            raise ValueError(
                f"cut centres: a square of {size} pixels at ({x:g}, {y:g}) mm leaves the image of "
                f"{ny} × {nx} pixels of {pixel_size:g} mm; move it or make it smaller"
            )
        squares.append(image[..., row : row + size, column : column + size])
    return torch.stack(squares, -3)


def distances(shape: Sequence[int], pixel_size: float, centre: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Distance of every pixel from `centre` (x, y), y upwards from the middle [mm]: (ny, nx), float64."""
    ny, nx = shape
    y = ((ny - 1) / 2 - torch.arange(ny, dtype=torch.float64)) * pixel_size - centre[1]
    x = (torch.arange(nx, dtype=torch.float64) - (nx - 1) / 2) * pixel_size - centre[0]
    return torch.hypot(y[:, None], x[None])


def radial_frequency(shape: Sequence[int], pixel_size: float) -> Tensor:
    """|f| on the grid of the centred FFT [1/mm]: (ny, nx), float64."""
    fy, fx = (torch.fft.fftshift(torch.fft.fftfreq(n, pixel_size, dtype=torch.float64)) for n in shape)
    return torch.hypot(fy[:, None], fx[None])


def real_images(name: str, image: Tensor, least: int = 2) -> Tensor:
    """`image` in float64, or ValueError: not real, not finite, or fewer than `least` dimensions."""
    if not isinstance(image, Tensor) or not image.is_floating_point():
        got = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"{name}: expected a real floating-point tensor, got {got}")
    if image.ndim < least or 0 in image.shape:
        wanted = "(*batch, ny, nx)" if least == 2 else "(n, ny, nx)"
        raise ValueError(f"{name}: expected {wanted}, none of them empty, got {tuple(image.shape)}")
    bad = int((~torch.isfinite(image)).sum())
    if bad:
        raise ValueError(f"{name}: expected finite values, got {bad} NaN or inf of {image.numel()}")
    return image.detach().double()


def positive(name: str, value: float) -> float:
    """`value`, or ValueError unless it is a positive finite number."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: expected a positive finite number, got {value!r}")
    return float(value)
