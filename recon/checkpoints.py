"""Weights on disk: safetensors with a JSON card beside them. No pickles, nothing half written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .base import Reconstructor
    from .learned import Learned, TrainedFor

FORMAT = 1
KEYS = {"format", "method", "version", "config", "trained_for", "training", "scores", "licence", "weights"}
ZOO = Path(__file__).parent / "zoo"


def save(
    method: Reconstructor, path: str | Path, *, half: bool = False, scores: Mapping[str, float] | None = None
) -> Path:
    """Write `path`.safetensors and `path`.json, each whole or not at all; the card carries the weights' hash.

    half : store weights in float16, those that fit into it; loaded, all are float32
    scores : on the validation images, by name with unit; written on the card
    """
    _learned(type(method))
    learned = cast("Learned", method)
    if learned.trained_for is None:
        raise ValueError(f"{type(method).__name__}.save: nothing learned yet: call fit(data) first")
    weights = {k: _stored(v, half) for k, v in method.state_dict().items()}
    bad = [k for k, v in weights.items() if not bool(torch.isfinite(v).all())]
    if bad:
        raise ValueError(f"{type(method).__name__}.save: NaN or inf in {bad[0]}; nothing is written")
    file, content = beside(path, ".safetensors"), tensor_bytes(weights)
    card = {
        "format": FORMAT,
        "method": method.name,
        "version": _version(),
        "config": asdict(learned.config),
        "trained_for": asdict(learned.trained_for),
        "training": dict(learned.record),
        "scores": dict(scores or {}),
        "licence": "BSD-3-Clause",
        "weights": {
            "sha256": hashlib.sha256(content).hexdigest(),
            "dtype": "float16" if half else str(next(method.parameters()).dtype).removeprefix("torch."),
            "parameters": sum(p.numel() for p in method.parameters()),
        },
    }
    text = json.dumps(card, indent=2) + "\n"
    write_files({file: content, beside(path, ".json"): text.encode()})
    return file


def load(cls: type[Reconstructor], path: str | Path) -> Reconstructor:
    """The method written by `save`; ValueError if the file is not one, or is of another method than `cls`."""
    from .base import METHODS

    file, about = beside(path, ".safetensors"), beside(path, ".json")
    for part in (file, about):
        if not part.exists():
            raise FileNotFoundError(
                f"{cls.__name__}.load: there is no {part}; weights are a .safetensors file and its "
                ".json card, both as `save` wrote them"
            )
    card = read_card(about)
    mine = card["method"] == getattr(cls, "name", None)  # a method of the user's own is in no package of ours
    if not mine and card["method"] not in METHODS:
        raise ValueError(f"{file.stem}: there is no method {card['method']!r} in this version")
    learned = _learned(cls if mine else METHODS[card["method"]])
    if not issubclass(learned, cls):
        raise ValueError(f"{file.stem} holds {learned.__name__}, not {cls.__name__}: {learned.__name__}.load")
    if hashlib.sha256(file.read_bytes()).hexdigest() != _entry(card, "weights").get("sha256"):
        raise ValueError(f"{file}: the weights are not those of their card; one of the two is damaged")
    tensors, _ = read_tensors(file)
    method = learned(_config(learned, card["config"]))
    with torch.device("meta"):
        method.build(_trained_for(card["trained_for"]))
    built = method.state_dict()
    _check_shapes(file, built, tensors)
    # laid out in memory as the network wants it, which the file does not tell
    there = {k: torch.empty_like(built[k], dtype=torch.float32, device="cpu") for k in tensors}
    method.load_state_dict({k: there[k].copy_(v) for k, v in tensors.items()}, assign=True)
    method.record = _entry(card, "training")
    method.requires_grad_(False).eval()
    return method


def pretrained(cls: type[Reconstructor], problem: str) -> Reconstructor:
    """The shipped weights of `cls` for a built-in problem, by name as "ellipses-small"."""
    name = _learned(cls).name
    if problem not in (have := shipped(name)):
        raise ValueError(
            f"{cls.__name__}.pretrained({problem!r}): no such weights are shipped; there are "
            f"{', '.join(map(repr, have)) or 'none'} for it. Train your own: {cls.__name__}().fit(data), or "
            f"`recon train {name}`, whose folder `recon compare --weights` takes; or --train-minutes there"
        )
    return load(cls, ZOO / f"{name}-{problem}")


def shipped(method: str) -> list[str]:
    """The problems that weights are shipped for of the method with this name."""
    files = sorted(ZOO.glob(f"{method}-*.json")) if method else []
    mine = [f for f in files if json.loads(f.read_text(encoding="utf-8"))["method"] == method]
    return [f.stem.removeprefix(f"{method}-") for f in mine]


def load_method(weights: str | Path) -> Learned:
    """The method in a file of weights, or shipped under that name, as "METHOD-PROBLEM"."""
    from .learned import Learned

    stem = beside(weights, "")
    if not beside(stem, ".safetensors").exists() and Path(weights).name == str(weights):
        shipped = ZOO / stem.name
        if beside(shipped, ".safetensors").exists():
            stem = shipped
    return cast("Learned", load(cast(Any, Learned), stem))


def read_card(path: Path) -> dict[str, Any]:
    """The JSON card at `path`, with every key there and none unknown."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError, too
        raise ValueError(f"{path}: not a readable JSON card ({error})") from None
    _check_keys(str(path), card, KEYS)
    if card["format"] != FORMAT or isinstance(card["format"], bool):
        raise ValueError(f"{path}: format {card['format']!r}, this version reads {FORMAT}")
    if not isinstance(card["method"], str):
        raise ValueError(f"{path}: expected the name of a method, got {card['method']!r}")
    return card


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any] | None = None
) -> bytes:
    """Write tensors and a JSON header to one safetensors file, whole or not at all; returns its content."""
    content = tensor_bytes(tensors, header)
    write_bytes(path, content)
    return content


def tensor_bytes(tensors: Mapping[str, Tensor], header: Mapping[str, Any] | None = None) -> bytes:
    """Tensors and a JSON header as the content of a safetensors file."""
    from safetensors.torch import save as to_bytes

    contiguous = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    return to_bytes(contiguous, {"json": json.dumps(header or {})})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file by `write_tensors`; ValueError if it is damaged or something else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (no iterator)
            header = json.loads((file.metadata() or {}).get("json", "{}"))
    except (SafetensorError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: its header is not a JSON object")
    bad = [k for k, v in tensors.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if bad:
        raise ValueError(f"{path}: NaN or inf in {bad[0]}")
    return tensors, header


def fingerprint(text: str) -> str:
    """Sixteen hexadecimal digits that tell one geometry from another."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Sixteen hexadecimal digits that tell these tensors, to float32, from others."""
    single = (
        v.detach().cpu().to(torch.complex64 if v.is_complex() else torch.float32) for v in tensors.values()
    )
    return hashlib.sha256(b"".join(v.contiguous().numpy().tobytes() for v in single)).hexdigest()[:16]


def beside(path: str | Path, suffix: str) -> Path:
    """The file of a pair of weights and card with this suffix; `path` names either, or both without one."""
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".safetensors", ".json") else path
    return stem.with_name(stem.name + suffix)  # "run-0.1" has a point, and no suffix


def _learned(cls: type[Reconstructor]) -> type[Learned]:
    from .learned import Learned

    if not issubclass(cls, Learned):
        raise ValueError(
            f"{cls.__name__} has nothing learned to save or load: construct it from its arguments"
        )
    return cls


def _config(cls: Any, values: Any) -> Any:
    _check_fields(f"{cls.__name__} config", values, cls.Config)
    try:
        return cls.Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{cls.__name__} config: {error}") from None


def _trained_for(values: Any) -> TrainedFor:
    from .learned import TrainedFor

    _check_fields("card trained_for", values, TrainedFor)
    return TrainedFor(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})  # type: ignore[arg-type]


def _entry(card: Mapping[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(card[key], dict):
        raise ValueError(f"card {key}: expected an object, got {card[key]!r}")
    return card[key]


def _check_keys(what: str, values: Any, wanted: set[str]) -> None:
    if not isinstance(values, dict):
        raise ValueError(f"{what}: expected a JSON object, got {type(values).__name__}")
    if set(values) != wanted:
        missing, unknown = sorted(wanted - set(values)), sorted(set(values) - wanted)
        raise ValueError(f"{what}: missing {missing}, unknown {unknown}")


def _check_fields(what: str, values: Any, cls: Any) -> None:
    """No unknown field, and none missing but those with a default: older cards lack what came later."""
    names = {f.name for f in fields(cls)}
    later = {f.name for f in fields(cls) if f.default is not MISSING}
    _check_keys(what, values, names - (later - set(values)) if isinstance(values, dict) else names)


def _check_shapes(file: Path, wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    if set(wanted) != set(got):
        missing, unknown = sorted(set(wanted) - set(got)), sorted(set(got) - set(wanted))
        raise ValueError(f"{file}: missing weights {missing[:3]}, unknown weights {unknown[:3]}")
    for key, tensor in wanted.items():
        if not got[key].is_floating_point():
            raise ValueError(f"{file}: {key} should hold floating-point numbers, holds {got[key].dtype}")
        if tensor.shape != got[key].shape:
            raise ValueError(
                f"{file}: {key} should have shape {tuple(tensor.shape)}, has {tuple(got[key].shape)}"
            )


def _stored(tensor: Tensor, half: bool) -> Tensor:
    # a single number costs nothing and may need its digits, and a large one does not fit
    fits = half and tensor.numel() > 64 and bool(tensor.abs().amax() <= torch.finfo(torch.half).max)
    return tensor.half() if fits else tensor


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("hybrid-recon")
    except PackageNotFoundError:
        return "unknown"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole, or leave what was there; OSError says which file and that."""
    write_files({path: content})


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together, none before all are on the disk under another name.

    OSError says which could not be written, and that what was there is whole.
    """
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in contents}
    path = Path()
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary[path].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path in contents:
            temporary[path].replace(path)
    except OSError as error:
        left = "what was there before is whole" if path.exists() else "nothing is there now"
        raise OSError(
            error.errno, f"{path} could not be written ({error.strerror or error}); {left}"
        ) from error
    finally:
        for rest in temporary.values():
            with suppress(OSError):
                rest.unlink(missing_ok=True)
