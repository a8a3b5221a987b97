"""A task: pairs of problem and truth, and how an image is judged."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ..problem import Problem
from .describe import fingerprint
from .discovery import check_name, existing_file, is_path, load_module, python_files, unknown

Split = Literal["validation", "test"]
Pair = tuple[Problem, Tensor]

FOLDER = Path(__file__).parent / "problems"


@dataclass(frozen=True)
class Window:
    """Grey values of a figure: `low` is black, `high` is white; in HU where `unit` says so."""

    name: str
    low: float
    high: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.low:g} to {self.high:g} {self.unit}".strip()


@dataclass(frozen=True, eq=False)
class Task:
    """What every method is asked to do, and how the images are judged.

    Parameters
    ----------
    name : as on the command line, [a-z0-9-]+
    pairs : pairs("validation" | "test") yields (problem, truth), single images, the same at every call
    metrics : keys of `recon.metrics.METRICS`; methods are tuned for the first
    data_range : range of the truth that PSNR and SSIM refer to [unit of the image]
    windows : grey windows of the figures; the first one is also that of the difference maps; none: 0 to
        data_range
    configuration : everything that decides the data (geometry, noise, where images come from, seeds);
        hashed, and printed in the report
    mask : truth -> where HU errors are taken; None: everywhere
    view : what of an image is judged and shown, as torch.abs for complex images; None: the image itself
    mu_water : attenuation of water [1/mm] where values are attenuation, else None
    pixel_size : [mm]
    data : data("paired" | "unpaired") -> training data for `fit`; None: nothing can be trained here
    methods : names of the methods it is usually run with
    counts : number of images of each split for methods too slow for all of them
    zoom : (row, column, height, width) of the enlarged inset
    notes : what a reader must know: dose, where images come from; text, or a function that computes it
    """

    name: str
    pairs: Callable[[str], Iterable[Pair]]
    metrics: Sequence[str]
    data_range: float
    windows: Sequence[Window] = ()
    configuration: Mapping[str, Any] = None  # type: ignore[assignment] # to be given, as a message says
    mask: Callable[[Tensor], Tensor] | None = None
    view: Callable[[Tensor], Tensor] | None = None
    mu_water: float | None = None
    pixel_size: float = 1.0
    data: Callable[[str], Any] | None = None
    methods: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    zoom: tuple[int, int, int, int] | None = None
    title: str = ""
    notes: Mapping[str, str | Callable[[], str]] = field(default_factory=dict)
    _kept: dict[str, list[Pair]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_name("problem", self.name)
        if not self.metrics:
            raise ValueError(
                f"Task {self.name} metrics: expected at least one, methods are tuned for the first"
            )
        if self.configuration is None:
            raise ValueError(
                f"Task {self.name} configuration: expected what decides the data, as {{'seed': 0}}; rows "
                "that are there are kept as long as it is the same"
            )
        if not self.windows:
            object.__setattr__(self, "windows", (Window("all", 0.0, self.data_range),))

    @cached_property
    def hash(self) -> str:
        """Digest of all that decides the data and the scores: tuned parameters and rows belong to it."""
        judged = {
            "configuration": self.configuration,
            "metrics": list(self.metrics),
            "data_range": self.data_range,
            "mu_water": self.mu_water,
            "pixel_size": self.pixel_size,
        }
        return fingerprint(judged if self.view is None else judged | {"view": self.view.__name__})

    def seen(self, image: Tensor) -> Tensor:
        """What of an image is judged and shown."""
        return image if self.view is None else self.view(image)

    def images(self, split: Split, count: int | None = None) -> list[Pair]:
        """The first `count` pairs of a split, checked to be single images, made once."""
        if split not in self._kept:
            self._kept[split] = self._checked(split)
        return self._kept[split][:count]

    def _checked(self, split: Split) -> list[Pair]:
        pairs = list(self.pairs(split))
        for one, truth in pairs:
            if one.batch or tuple(truth.shape) != one.A.in_shape:
                raise ValueError(
                    f"problem {self.name}: expected single images {one.A.in_shape}, got data batch "
                    f"{one.batch} and truth {tuple(truth.shape)}"
                )
        if not pairs:
            raise ValueError(f"problem {self.name}: pairs({split!r}) yields nothing")
        return pairs


def task_names() -> dict[str, Path]:
    """The built-in problems: name -> file, `head_lowdose.py` is `head-lowdose`."""
    return {path.stem.replace("_", "-"): path for path in python_files(FOLDER)}


def problem(name: str, data: Path | None = None) -> Task:
    """A built-in problem by its name, or the one in a file, whose `task()` returns a Task.

    data : a folder of scans, for problems whose `task(data)` takes one; their Task is then named otherwise
    """
    path = task_file(name)
    make = getattr(load_module(path), "task", None)
    if not callable(make):
        raise ValueError(f"problem file {path}: expected a function task() -> Task")
    if data is None:
        found = make()
    elif "data" in inspect.signature(make).parameters:
        found = make(data=data)
    else:
        raise ValueError(f"problem {name}: takes no folder of scans; leave out --data")
    if not isinstance(found, Task):
        raise ValueError(
            f"problem file {path}: expected a function task() -> Task, got {type(found).__name__}"
        )
    return found


def task_file(name: str) -> Path:
    """Where a problem is written; ValueError with a suggestion if nowhere."""
    if is_path(name):
        return existing_file("problem", name)
    known = task_names()
    if name not in known:
        raise unknown("problem", name, known)
    return known[name]
