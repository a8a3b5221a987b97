"""Slices of checked files, kept in memory as far as they fit, read again where not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .pictures import Picture, read_picture
from .slices import Place
from .spacing import to_spacing
from .window import Window


class Store:
    """Files, read and checked once; their slices in a window.

    window : brings values to [−1, 1], or None for values as they are
    unit : "HU" refuses what is none; of the window if there is one
    spacing : resample slices to pixels of so many mm, or None
    memory : bytes of pixels kept
    """

    def __init__(
        self, window: Window | None = None, unit: str = "", spacing: float | None = None, memory: int = 2**31
    ):
        self.window, self.unit = window, window.unit if window else unit
        self.spacing, self.memory = spacing, memory
        self.counts: dict[Path, int] = {}
        self.shapes: dict[Path, tuple[int, int]] = {}
        self.modalities: dict[str, Path] = {}
        self.clipped: dict[Path, float] = {}
        self._kept: dict[Path, Tensor] = {}
        self._free = memory
        self._last: tuple[Path, Tensor] | None = None

    def count(self, path: Path) -> int:
        """How many slices the file has; it is read and checked at the first look."""
        if path not in self.counts:
            self._values(path)
        return self.counts[path]

    def slices(self, places: Sequence[Place]) -> Tensor:
        """(n, ny, nx), in the window if there is one."""
        values = torch.stack([self._values(path)[k] for path, k in places])
        return values if self.window is None else self.window(values)

    def share_clipped(self) -> float:
        """Mean over the files of the part of their values outside the window."""
        return sum(self.clipped.values()) / max(len(self.clipped), 1)

    def _values(self, path: Path) -> Tensor:
        if path in self._kept:
            return self._kept[path]
        if self._last is not None and self._last[0] == path:
            return self._last[1]
        picture = self._checked(read_picture(path).expect(self.unit))
        values = picture.values
        size = values.numel() * values.element_size()
        if size <= self._free:
            self._kept[path] = values
            self._free -= size
        else:
            self._last = path, values
        return values

    def _checked(self, picture: Picture) -> Picture:
        path = picture.path
        if picture.modality:
            self.modalities.setdefault(picture.modality, path)
            if len(self.modalities) > 1:
                told = " and ".join(f"{m} ({p})" for m, p in self.modalities.items())
                raise ValueError(f"one side of the images must be of one modality, got {told}")
        if self.spacing is not None:
            picture = to_spacing(picture, self.spacing)
        if self.window is not None:
            self.clipped[path] = self.window.clipped(picture.values)
        self.counts[path] = len(picture.values)
        ny, nx = picture.values.shape[-2:]
        self.shapes[path] = ny, nx
        return picture
