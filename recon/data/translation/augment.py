"""Augmentation that turns input and target alike: flips, shifts, rotations, scales; noise on the input."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """x ↦ x(R⁻¹(· − t)/s), one draw for all slices of input and target; then input + noise.

    Drawn uniformly, in the plane of the slices, by the given generator and nothing else. Outside the image
    its edge goes on. Whole pixels are moved and flips made without interpolation; bilinear where images are
    turned or scaled.

    flip : turn left and right round with probability ½; flip_rows likewise up and down
    translate : up to so many pixels each way (whole pixels)
    rotate : up to so many degrees each way
    scale : by 1 − scale to 1 + scale
    noise : σ of Gaussian noise on the input, in the unit that data come in (of a window: of [−1, 1])
    """

    flip: bool = False
    translate: int = 0
    rotate: float = 0.0
    scale: float = 0.0
    noise: float = 0.0
    flip_rows: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.translate, bool) or not isinstance(self.translate, int) or self.translate < 0:
            raise ValueError(f"Augmentation translate: expected whole pixels from 0, got {self.translate!r}")
        for name, most in (("rotate", 180.0), ("scale", 0.9), ("noise", math.inf)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not (0 <= value <= most and math.isfinite(value)):
                raise ValueError(f"Augmentation {name}: expected a number from 0 to {most:g}, got {value!r}")

    def __call__(
        self, image: Tensor, target: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Input and target (…, ny, nx) of one size after one draw; a target of None stays None.

        Every call draws equally often, whatever is switched on, so that settings do not shift what follows.
        """
        across, down, right, lower, angle, size = torch.rand(6, generator=generator).tolist()
        seed = int(torch.randint(2**62, (), generator=generator))
        shift = tuple(math.floor(u * (2 * self.translate + 1)) - self.translate for u in (lower, right))
        turn = math.radians(self.rotate) * (2 * angle - 1)
        zoom = 1 + self.scale * (2 * size - 1)
        flips = [
            axis for axis, on in ((-1, self.flip and across < 0.5), (-2, self.flip_rows and down < 0.5)) if on
        ]

        def moved(x: Tensor) -> Tensor:
            x = x.flip(flips) if flips else x
            x = _shifted(x, shift) if any(shift) else x
            return _turned(x, turn, zoom) if turn or zoom != 1 else x

        image, target = moved(image), None if target is None else moved(target)
        if self.noise:
            draws = torch.Generator().manual_seed(seed)
            image = image + self.noise * torch.randn(image.shape, generator=draws).to(image)
        return image, target


def _shifted(x: Tensor, shift: tuple[int, ...]) -> Tensor:
    """x[i − dy, j − dx], the edge repeated."""
    for axis, d in zip((-2, -1), shift, strict=True):
        index = (torch.arange(x.shape[axis], device=x.device) - d).clamp(0, x.shape[axis] - 1)
        x = x.index_select(axis, index)
    return x


def _turned(x: Tensor, angle: float, zoom: float) -> Tensor:
    """Turned about the middle by `angle` [rad] and made `zoom` times larger, bilinear."""
    ny, nx = x.shape[-2:]
    c, s = math.cos(angle) / zoom, math.sin(angle) / zoom
    # grid_sample counts in halves of each side
    matrix = torch.tensor([[c, -s * ny / nx, 0.0], [s * nx / ny, c, 0.0]], dtype=x.dtype, device=x.device)
    planes = x.reshape(1, -1, ny, nx)
    grid = functional.affine_grid(matrix[None], list(planes.shape), align_corners=False)
    moved = functional.grid_sample(planes, grid, "bilinear", "border", align_corners=False)
    return moved.reshape(x.shape)
