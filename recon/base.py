"""Methods: problem in, image out, learned or not."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

from torch import Tensor, nn

from . import checkpoints
from .problem import Problem

PLAIN = (str, int, float, tuple)


class Reconstructor(nn.Module, ABC):
    """x = method(problem), (*batch, *A.in_shape); learned or not, it is used the same way.

    `data_kind` says what `fit` learns from: None (nothing to learn), "paired", "unpaired" or "measurements".
    `name` is its name in `METHODS` and on the command line; made from the class name when not stated.
    """

    name: ClassVar[str]
    data_kind: ClassVar[Literal["paired", "unpaired", "measurements"] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = _kebab(cls.__name__)

    @abstractmethod
    def forward(self, problem: Problem) -> Tensor:
        """The image, (*batch, *A.in_shape)."""

    def fit(self, data: Any) -> Self:
        """Learn from `data` (see `data_kind`); a method with nothing to learn returns itself."""
        return self

    def save(
        self, path: str | Path, *, half: bool = False, scores: Mapping[str, float] | None = None
    ) -> Path:
        """Write what was learned to `path`.safetensors and `path`.json; `half` stores float16."""
        return checkpoints.save(self, path, half=half, scores=scores)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The method that `save` wrote to `path`."""
        return cast(Self, checkpoints.load(cls, path))

    @classmethod
    def pretrained(cls, problem: str = "") -> Self:
        """The method with the shipped weights for a built-in problem, as "ellipses-small"."""
        return cast(Self, checkpoints.pretrained(cls, problem))

    def extra_repr(self) -> str:
        """The arguments that are not the defaults, where they are numbers and words."""
        known = inspect.signature(type(self).__init__).parameters.values()
        given = {p.name: (getattr(self, p.name, p.default), p.default) for p in known if p.name != "self"}
        plain = {k: v for k, (v, default) in given.items() if isinstance(v, PLAIN) and v != default}
        return ", ".join(f"{k}={v!r}" for k, v in plain.items())


class _Methods(Mapping[str, type[Reconstructor]]):
    """Every method by name; the modules are imported, and searched, at the first look."""

    _found: dict[str, type[Reconstructor]] | None = None

    def _all(self) -> dict[str, type[Reconstructor]]:
        if self._found is None:
            package = importlib.import_module(__package__)
            for module in pkgutil.walk_packages(package.__path__, f"{__package__}."):
                if module.name.split(".")[1] not in (
                    "cli",
                    "comparison",
                    "data",
                    "zoo",
                    "metrics",
                    "interop",
                ):
                    importlib.import_module(module.name)
            every = _subclasses(Reconstructor)  # type: ignore[type-abstract]
            ours = [c for c in every if c.__module__.startswith(f"{__package__}.")]
            self._found = {c.name: c for c in ours if not c.__abstractmethods__}
        return self._found

    def __getitem__(self, name: str) -> type[Reconstructor]:
        methods = self._all()
        if name not in methods:
            near = get_close_matches(name, methods, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(methods))}"
            raise KeyError(f"no method {name!r}: {hint}")
        return methods[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._all()))

    def __len__(self) -> int:
        return len(self._all())


METHODS = _Methods()


def _subclasses(cls: type[Reconstructor]) -> Iterator[type[Reconstructor]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _kebab(name: str) -> str:
    """TotalVariation -> total-variation, PWLSTotalVariation -> pwls-total-variation, FBPUNet -> fbp-unet."""
    name = name.replace("UNet", "Unet")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()
