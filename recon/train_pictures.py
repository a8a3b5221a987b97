"""What a method makes of the first validation images while it learns, as pictures."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .checkpoints import write_bytes
from .data.sets import PairedData, UnpairedData, selected
from .train_log import Progress

if TYPE_CHECKING:
    from .learned import Learned

COLUMNS = ("result", "truth", "error")


class Pictures:
    """A callback that draws results, truths and errors of validation images at every row of the curve.

    Grey from the least to the greatest value of the truth, errors ± a quarter of that; the middle slice of
    volumes and series, the magnitude of complex images. Weights are those of the step, not averaged.

    folder : gets step-000250.png …
    method, data : what is trained, on what
    count : of images
    """

    def __init__(self, folder: str | Path, method: Learned, data: PairedData | UnpairedData, count: int = 4):
        try:
            import matplotlib  # noqa: F401 (said now, not after the first hour)
        except ImportError as error:
            raise ImportError(
                "matplotlib is not installed: pip install 'hybrid-recon[report]', or train without pictures"
            ) from error
        self.folder, self.method, self.data, self.count = Path(folder), method, data, count
        self._last = 0

    def __call__(self, progress: Progress) -> None:
        """Draw, if this step has been validated."""
        if progress.curve and progress.curve[-1]["step"] == progress.step != self._last:
            self._last = progress.step
            try:
                write_bytes(self.folder / f"step-{progress.step:06d}.png", self.drawn())
            except OSError as error:
                warnings.warn(f"train: no picture: {error}; training goes on", RuntimeWarning, stacklevel=2)

    @torch.no_grad()
    def drawn(self) -> bytes:
        """A PNG, a row an image."""
        from matplotlib.figure import Figure

        problem, truth = self.data.validation
        few = torch.arange(min(self.count, len(truth)))
        learning = self.method.training
        result = self.method.eval()(selected(problem, few))
        self.method.train(learning)
        figure = Figure(figsize=(2.6 * len(COLUMNS), 2.6 * len(few)), layout="constrained")
        axes = figure.subplots(len(few), len(COLUMNS), squeeze=False)
        for row, x, t in zip(axes, map(plane, result), map(plane, truth[few]), strict=True):
            # without partners there is no truth, only NaN
            known = t if bool(torch.isfinite(t).all()) else x
            low, high = float(known.min()), float(known.max())
            reach = (high - low) / 4 or 1.0
            for axis, image, limits in zip(
                row, (x, t, x - t), ((low, high), (low, high), (-reach, reach)), strict=True
            ):
                axis.imshow(image.numpy(), cmap="gray", vmin=limits[0], vmax=limits[1])
                axis.set(xticks=[], yticks=[])
        for axis, title in zip(axes[0], COLUMNS, strict=True):
            axis.set_title(title)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=80)
        return file.getvalue()


def plane(image: Tensor) -> Tensor:
    """(…, ny, nx) as one real image: the middle of every axis before, the magnitude of complex numbers."""
    while image.ndim > 2:
        image = image[len(image) // 2]
    return (image.abs() if image.is_complex() else image).detach().cpu().float()
