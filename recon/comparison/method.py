"""A method of the comparison: how it is built, and where its parameters are searched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from ..base import Reconstructor
from ..checkpoints import ZOO
from ..zoo.recipes import recipe
from .describe import describe, source_digest
from .discovery import check_name, existing_file, is_path, load_module, python_files, unknown
from .ranges import Choice as Choice
from .ranges import Integer as Integer
from .ranges import Linear as Linear
from .ranges import Log as Log
from .ranges import Range as Range

FOLDER = Path(__file__).parent / "methods"


@dataclass(frozen=True)
class Method:
    """method.build(problem, weight=0.3) -> Reconstructor.

    Parameters
    ----------
    make : the class, or a function of the same keywords
    space : parameters that are tuned, and where they are searched
    fixed : the other parameters, when not the defaults of the class
    pretrained : weights are those shipped for the problem (`make.pretrained(name)`)
    """

    make: Callable[..., Reconstructor]
    space: Mapping[str, Range] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False

    def __post_init__(self) -> None:
        twice = sorted(set(self.space) & set(self.fixed))
        if twice:
            raise ValueError(f"Method {self.title}: {', '.join(twice)} both searched (space) and fixed")

    @property
    def title(self) -> str:
        return getattr(self.make, "__name__", repr(self.make))

    def build(
        self, problem: str, weights: Path | None = None, untrained: bool = False, **parameters: Any
    ) -> Reconstructor:
        """The method itself, for `fit` or for use; only shipped weights depend on the problem's name.

        weights : a file to load instead of what is shipped
        untrained : by the recipe for the problem, if there is one, to be trained
        """
        settings = {**self.fixed, **parameters}
        if untrained and self.pretrained:
            return self.make(**{**recipe(problem, getattr(self.make, "name", "")), **settings})
        if not self.pretrained:
            return self.make(**settings)
        make: Any = self.make
        method: Reconstructor = make.pretrained(problem) if weights is None else make.load(weights)
        _set_after_training(method, settings)
        return method

    def shipped(self, problem: str) -> bool:
        """Whether there are weights for the problem."""
        return self.pretrained and (ZOO / f"{getattr(self.make, 'name', '')}-{problem}.safetensors").exists()

    def describe(self) -> dict[str, Any]:
        return {
            "make": self.title,
            "space": describe(self.space),
            "fixed": describe(self.fixed),
            "pretrained": self.pretrained,
        }

    def source(self) -> str:
        """Digest of the file the method is written in."""
        return source_digest(self.make)


def method_names() -> dict[str, Path]:
    """The built-in methods: name -> file."""
    return {name: path for path in python_files(FOLDER) for name in _methods_of(path)}


def load_methods(names: Sequence[str]) -> dict[str, Method]:
    """Methods by name; a path to a file stands for every method of its METHODS."""
    chosen: dict[str, Method] = {}
    for name in names:
        if is_path(name):
            chosen |= _methods_of(existing_file("method", name))
            continue
        known = method_names()
        if name not in known:
            raise unknown("method", name, known)
        chosen[name] = _methods_of(known[name])[name]
    return chosen


def _methods_of(path: Path) -> dict[str, Method]:
    methods = getattr(load_module(path), "METHODS", None)
    if not isinstance(methods, Mapping):
        raise ValueError(f"method file {path}: expected METHODS = {{'name': Method(...)}}")
    for name, method in methods.items():
        check_name("method", name)
        if not isinstance(method, Method):
            raise ValueError(f"method file {path}: {name!r} is {type(method).__name__}, expected a Method")
    return dict(methods)


def _set_after_training(method: Any, settings: Mapping[str, Any]) -> None:
    """Change settings of a trained method: its configuration, and a buffer of the same name if it has one."""
    config = getattr(method, "config", None)
    known = {f.name for f in fields(config)} if is_dataclass(config) else set()
    unknown_names = sorted(set(settings) - known)
    if unknown_names:
        raise ValueError(
            f"{type(method).__name__} has no setting {unknown_names[0]!r}; it has {sorted(known)}"
        )
    if settings:
        method.config = replace(config, **settings)  # type: ignore[type-var]
    buffers = dict(method.named_buffers(recurse=False))
    for name in settings.keys() & buffers.keys():
        buffers[name].fill_(settings[name])
