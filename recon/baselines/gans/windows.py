"""Images as generators see them: in the range of a tanh, real or as channels or magnitudes."""

from __future__ import annotations

from abc import ABC
from dataclasses import replace

import torch
from torch import Tensor

from ...learned import TrainedFor
from ...problem import Problem
from ..postprocess import PostProcessing, from_channels, to_channels


class Windowed(PostProcessing, ABC):
    """A network whose images are in `config.span`, which stands for a window of values; undone at its output.

    There are two windows, of x₀ and of images, as a rule the same. x₀ is in another unit (a translation) and
    has a window of its own range where a tenth of its values are further from the window than half its width,
    or all together fill less than a tenth of it.
    """

    windows: Tensor
    _found: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 1.0), (0.0, 1.0))

    def build(self, scanner: TrainedFor) -> None:
        magnitude = scanner.complex and self.config.complex == "magnitude"
        super().build(replace(scanner, complex=False) if magnitude else scanner)
        # of x₀ and of images, over the image scale
        self.register_buffer("windows", torch.tensor(self._found))
        self.trained_for = scanner

    def scanner_of(self, problem: Problem, images: Tensor) -> TrainedFor:
        """Also finds the windows."""
        scanner = super().scanner_of(problem, images)
        scale, c = scanner.image_scale, self.config
        given = c.window and (c.window[0] / scale, c.window[1] / scale)
        with torch.no_grad():
            truths = self.seen(images / scale)
            x = self.seen(self.first(problem.A, problem.linear / scale))
        output = given or _range(truths, images.is_complex() and c.complex == "channels")
        half = 0.5 * (output[1] - output[0])
        far = float(((x < output[0] - half) | (x > output[1] + half)).float().mean())
        near = far < 0.1 and float(x.max() - x.min()) >= 0.2 * half
        self._found = (output if near else _range(x, images.is_complex() and c.complex == "channels"), output)
        return scanner

    # between images and what networks see

    def seen(self, x: Tensor) -> Tensor:
        """The numbers of images that a network sees: magnitudes, or real and imaginary part."""
        if x.is_complex():
            return x.abs() if self.config.complex == "magnitude" else torch.view_as_real(x)
        return x

    def inward(self, x: Tensor, which: int = 1) -> Tensor:
        """Images (n, …, *plane) over the image scale as (m, channels, *plane) in `span`.

        which : 0 for x₀, with its neighbouring slices; 1 for images
        """
        c = self.config
        x = x.abs() if x.is_complex() and c.complex == "magnitude" else x
        planes = to_channels(x, c.dim, c.stack if which == 0 else 1)
        (low, high), (a, b) = self.windows[which], c.span
        return (planes - low) * ((b - a) / (high - low)) + a

    def outward(self, planes: Tensor, like: Tensor, which: int = 1, times: int = 1) -> Tensor:
        """Back to images of the shape of `like`, whose phase magnitudes get; or `times` as wide.

        which : 0 if they are images as x₀, 1 if as truths
        """
        c = self.config
        (low, high), (a, b) = self.windows[which], c.span
        planes = (planes - a) * ((high - low) / (b - a)) + low
        if like.is_complex() and c.complex == "magnitude":
            size = like.abs()
            phase = torch.where(size > 0, like / torch.where(size > 0, size, 1.0), 1.0)
            return from_channels(planes, size, c.dim) * phase
        return from_channels(planes, like, c.dim, times)

    # what it was trained for

    @property
    def channels(self) -> tuple[int, int]:
        """Of a plane that the generator sees, and of one that it gives."""
        assert self.trained_for is not None
        parts = 2 if self.trained_for.complex and self.config.complex == "channels" else 1
        return parts * self.config.stack, parts

    @property
    def plane(self) -> tuple[int, ...]:
        """Shape of the planes that are trained on."""
        assert self.trained_for is not None
        c, sides = self.config, self.trained_for.in_shape[-self.config.dim :]
        return tuple(min(n, c.patch) for n in sides) if c.patch else sides


def _range(x: Tensor, symmetric: bool) -> tuple[float, float]:
    """From the lowest to the highest value and a tenth more, not over 0 where none is; or ± the largest."""
    low, high = float(x.min()), float(x.max())
    if symmetric:
        high = 1.1 * max(-low, high)
        return -high, high
    more = 0.1 * (high - low) or 1.0
    return (low - more if low < 0 else max(low - more, 0.0)), high + more
