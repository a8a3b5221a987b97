"""Training data from the options of `recon train`: --paired, --unpaired, --listed and --data KEY=VALUE."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from .augment import Augmentation
from .paired import PairedImages
from .unpaired import UnpairedImages
from .window import Window

TURNS = [f.name for f in fields(Augmentation)]


def images_from(
    kind: Literal["paired", "unpaired"], inputs: Path, targets: Path, given: Mapping[str, Any]
) -> PairedImages | UnpairedImages:
    """Pairs or unpaired images of two folders.

    Of folders trainA and trainB, testA and testB beside them are validated on, unless `validation` says else.

    given : settings of `PairedImages.folders` or `UnpairedImages.folders`, with window, and window_to where
        the target has its own, as texts "LOW,HIGH[,UNIT]"; those of `Augmentation` by their names
    """
    cls = PairedImages if kind == "paired" else UnpairedImages
    settings = _settings(cls, cls.folders, given)
    settings["validation"] = _validation(inputs, targets, settings.get("validation"))
    settings.setdefault("name", named(inputs, targets))
    return cls.folders(inputs, targets, **settings)


def images_listed(table: Path, given: Mapping[str, Any]) -> PairedImages:
    """Pairs of a list file; validated on `validation`, a share of them or another list.

    given : settings of `PairedImages.listed`, and the others as for folders
    """
    settings = _settings(PairedImages, PairedImages.listed, given)
    held = settings.pop("validation", 0.2)
    held = Path(held) if isinstance(held, str) else float(held)
    settings.setdefault("name", re.sub(r"[^a-z0-9]+", "-", table.stem.lower()).strip("-"))
    return PairedImages.listed(table, held, **settings)


def _settings(cls: type, made_by: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as `made_by` takes them, of texts and numbers."""
    settings = dict(given)
    known = {
        *inspect.signature(made_by).parameters,
        *inspect.signature(cls).parameters,
        "window_to",
        *TURNS,
    }
    known -= {"inputs", "targets", "table", "files", "settings", "augmentation", "roots", "root", "memory"}
    wrong = sorted(set(settings) - known)
    if wrong:
        raise ValueError(f"--data {wrong[0]}: no such setting; there are {', '.join(sorted(known))}")
    turns = {name: settings.pop(name) for name in TURNS if name in settings}
    if turns:
        settings["augmentation"] = Augmentation(**turns)
    first, second = settings.pop("window", None), settings.pop("window_to", None)
    if second is not None and first is None:
        raise ValueError("--data window_to: expected a window of the input, too")
    if first is not None:
        settings["window"] = _window(first), _window(first if second is None else second)
    for key in ("crop", "between"):
        if isinstance(settings.get(key), list):
            settings[key] = tuple(settings[key])
    return settings


def named(inputs: Path, targets: Path) -> str:
    """A name as those of problems: ct-to-mr of folders CT and MR."""
    text = f"{inputs.resolve().name} to {targets.resolve().name}".lower()
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def _validation(inputs: Path, targets: Path, given: Any) -> Any:
    if isinstance(given, list | tuple):
        if len(given) != 2:
            raise ValueError(f"--data validation: expected a share, or two folders, got {given!r}")
        return Path(given[0]), Path(given[1])
    if isinstance(given, str):
        return Path(given)
    if given is not None:
        return float(given)
    tests = []
    for folder in (inputs, targets):
        if not re.fullmatch("train[AB]", folder.name):
            return 0.2
        tests.append(folder.with_name(folder.name.replace("train", "test")))
    return tuple(tests) if all(t.is_dir() for t in tests) else 0.2


def _window(value: Any) -> Window:
    if isinstance(value, list | tuple):
        value = ",".join(str(v) for v in value)
    if not isinstance(value, str):
        raise ValueError(f"--data window: expected LOW,HIGH or LOW,HIGH,UNIT, got {value!r}")
    return Window.parse(value)
