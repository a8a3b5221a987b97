"""A trained translation applied to slices of any size: windows, stacks and patches taken from its card."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from operators import Identity

from ...checkpoints import fingerprint
from ...checkpoints import load_method as load_method
from ...learned import Learned
from ...problem import Problem
from ..dicom import CT_AIR
from .images import Windows, windows
from .patches import as_problem, patchwise, stackwise
from .window import Window


@dataclass(frozen=True)
class Applied:
    """What came out, and what the windows cut off.

    values : (nz, ny, nx), in the unit of the target
    clipped : part of the input's values outside its window, 0 to 1
    outside : part of the output's values outside the target's window (they are kept)
    cut : part of them that the file could not hold, as grey values beyond 8 bits
    """

    values: Tensor
    clipped: float
    outside: float
    cut: float = 0.0


class Translation:
    """values (nz, ny, nx) -> values: window, network over slices, stacks or patches, window back.

    method : trained on images (A = identity), as by `recon train --paired` or `--unpaired`
    window : for both sides, or (of the input, of the target); None: that of the training, if it had one
    patch : size of the patches; None: the whole image where it has the trained shape, else patches of the
        trained shape; "whole": every image or volume at once. Another size than the trained one is for
        networks that take any, as convolutional ones
    overlap : of the patches, at least; None: a quarter
    air : give −1000 HU to what comes out at the low end of the target's window or below
    batch_size : images or patches at once
    """

    def __init__(
        self,
        method: Learned,
        window: Windows = None,
        patch: tuple[int, ...] | Literal["whole"] | None = None,
        overlap: int | None = None,
        air: bool = False,
        batch_size: int = 4,
    ):
        scanner = method.trained_for
        if scanner is None:
            raise ValueError(f"{type(method).__name__}: not trained: load its weights first")
        if scanner.in_shape != scanner.out_shape or not scanner.operator.startswith("Identity"):
            raise ValueError(
                f"{type(method).__name__}: trained for {scanner.operator[:120]}, not for images: translation "
                "takes methods trained by `recon train --paired` or `--unpaired`"
            )
        self.method, self.shape, self.batch_size = method, scanner.in_shape, batch_size
        told = method.record.get("images")
        self.about: dict[str, Any] = told if isinstance(told, dict) else {}
        self.window = windows(window) if window is not None else _trained_windows(self.about)
        stack = self.about.get("stack", 1)
        # other methods of three dimensions see volumes, or patches of them
        self.stack = stack if isinstance(stack, int) and stack > 1 and len(self.shape) == 3 else 1
        if len(self.shape) not in (2, 3):
            raise ValueError(f"translation: expected a method of slices or volumes, trained for {self.shape}")
        if patch is not None and patch != "whole":
            good = len(patch) == len(self.shape) and all(isinstance(n, int) and n > 0 for n in patch)
            if self.stack > 1 or not good:
                raise ValueError(
                    f"translation patch: expected {len(self.shape)} positive numbers, as of the trained "
                    f"images {self.shape}, of a method that is not of stacks; got {patch!r}"
                )
        if overlap is not None and patch == "whole":
            raise ValueError("translation overlap: a whole image has no patches to overlap")
        if air and (self.window[1] is None or self.window[1].unit != "HU"):
            raise ValueError(
                "translation air: expected a window of the target in HU, whose low end becomes air"
            )
        self.patch, self.overlap, self.air = patch, overlap, air

    @property
    def target_unit(self) -> str:
        """Of the values that come out, "" where it is unknown."""
        if self.window[1] is not None:
            return self.window[1].unit
        return "HU" if self.modalities(1) == ["CT"] else ""

    @property
    def source_unit(self) -> str:
        """That the input must have, "" where any will do."""
        if self.window[0] is not None:
            return self.window[0].unit
        return "HU" if self.modalities(0) == ["CT"] else ""

    def modalities(self, side: int) -> list[str]:
        """Of the training images, of the input (0) or the target (1), as their DICOM files said."""
        told = self.about.get("modalities")
        return list(told[side]) if isinstance(told, list) and len(told) == 2 else []

    @torch.no_grad()
    def __call__(self, values: Tensor) -> Applied:
        """One image or volume, as slices (nz, ny, nx), in the unit of the input."""
        if values.ndim != 3:
            raise ValueError(f"translation: expected slices (nz, ny, nx), got {tuple(values.shape)}")
        source, target = self.window
        x = self._inside(values if source is None else source(values))
        if not bool(torch.isfinite(x).all()):
            raise ValueError("translation: the network gave NaN or inf")
        clipped = 0.0 if source is None else source.clipped(values)
        if target is None:
            return Applied(x, clipped, 0.0)
        out = target.back(x)
        outside = target.clipped(out)
        return Applied(out.masked_fill(x <= -1, CT_AIR) if self.air else out, clipped, outside)

    def _inside(self, x: Tensor) -> Tensor:
        n, inside = self.batch_size, tuple(x.shape)
        if self.stack > 1:
            shape = (self.stack, *inside[1:])
            if shape != self.shape and self.patch != "whole":
                raise ValueError(
                    f"translation: trained for slices {self.shape[1:]}, got {inside[1:]}; a convolutional "
                    "network takes them with patch='whole'"
                )
            return stackwise(self._of(shape), x, self.stack, n)
        # slices are a batch to a method of two dimensions
        seen = inside[-len(self.shape) :]
        if self.patch == "whole" or (self.patch is None and seen == self.shape):
            method = self._of(seen)
            if len(seen) == 3:
                return method(as_problem(x, seen))
            return torch.cat([method(as_problem(part, seen)) for part in x.split(n)])
        patch = self.shape if self.patch is None else tuple(self.patch)
        return patchwise(self._of(patch), x, patch, self.overlap, n)

    def _of(self, shape: tuple[int, ...]) -> Callable[[Problem], Tensor]:
        """The method for images of that shape: itself, or what its network makes of another size."""
        if shape == self.shape:
            return self.method
        words = repr(Identity(shape))
        other = copy(self.method)
        assert other.trained_for is not None
        other.trained_for = replace(
            other.trained_for, in_shape=shape, out_shape=shape, operator=words, hash=fingerprint(words)
        )

        def applied(problem: Problem) -> Tensor:
            try:
                return other(problem)
            except RuntimeError as error:
                raise ValueError(
                    f"{type(other).__name__}: trained for {self.shape}, its network takes no images {shape}; "
                    f"leave out patch ({' '.join(str(error).split())[:200]})"
                ) from error

        return applied


def _trained_windows(about: dict[str, Any]) -> tuple[Window | None, Window | None]:
    told = about.get("windows")
    if told is None:
        return None, None
    try:
        first, second = (None if w is None else Window(w["low"], w["high"], w["unit"]) for w in told)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"the card's windows make no sense: {told!r}") from error
    return first, second
