"""Our own projection files: raw data, geometry and noise model, an exact round trip; no pickles."""

from __future__ import annotations

import inspect
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

import operators
from operators import NoiseModel, XRay
from operators.geometry import Geometry

from ..checkpoints import read_tensors, write_bytes, write_tensors
from ..problem import Problem

FORMAT = 1
KEYS = {"format", "geometry", "noise", "about"}


def save_projections(problem: Problem, path: str | Path, about: Mapping[str, Any] | None = None) -> Path:
    """Write a scan: y, the geometry of its X-ray transform and the noise model with its per-ray values.

    problem : of an `XRay`; y of any batch
    path : .safetensors, or .npz for other programs: arrays "y" and "noise.…", and the rest as JSON in "json"
    about : anything JSON can hold, given back by `about_projections`

    The file appears whole or not at all; `load_projections` gives back equal geometry, noise and data (of a
    polyenergetic beam, to rounding).
    """
    path = Path(path)
    if not isinstance(problem.A, XRay):
        raise ValueError(
            f"save_projections: expected a problem of an XRay, got one of {type(problem.A).__name__}"
        )
    tensors, noise = _noise_out(problem.noise)
    header = {
        "format": FORMAT,
        "geometry": geometry_to_dict(problem.A.geometry),
        "noise": noise,
        "about": dict(about or {}),
    }
    tensors["y"] = problem.y
    if path.suffix == ".npz":
        arrays = {k: v.detach().cpu().numpy() for k, v in tensors.items()}
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, json=np.array(json.dumps(header)), **arrays)
        write_bytes(path, content.getvalue())
    elif path.suffix == ".safetensors":
        write_tensors(path, tensors, header)
    else:
        raise ValueError(f"save_projections path: expected .safetensors or .npz, got {path.name}")
    return path


def load_projections(path: str | Path, backend: str = "auto") -> Problem:
    """The scan that `save_projections` wrote.

    backend : of the `XRay`

    Raises ValueError, naming the file, where it is damaged, of another format, without geometry, or refers to
    a geometry or noise model that this version does not know.
    """
    path = Path(path)
    tensors, header = _read(path)
    try:
        geometry = geometry_from_dict(header["geometry"])
        noise = _noise_in(header["noise"], tensors)
        return Problem(XRay(geometry, backend), tensors["y"], noise)
    except (KeyError, TypeError, ValueError) as error:
        text = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: {text}") from error


def about_projections(path: str | Path) -> dict[str, Any]:
    """What was said about the scan when it was saved."""
    return cast("dict[str, Any]", _read(Path(path))[1]["about"])


def geometry_to_dict(geometry: Geometry) -> dict[str, Any]:
    """{"class": name, field: value, …}, for JSON; `geometry_from_dict` gives back an equal geometry."""
    return _described(geometry)


def geometry_from_dict(values: Mapping[str, Any]) -> Geometry:
    """The geometry that `geometry_to_dict` described."""
    return cast(Geometry, _made(values, Geometry, "geometry"))


def _described(value: Any) -> dict[str, Any]:
    return {"class": type(value).__name__} | {f.name: getattr(value, f.name) for f in fields(value)}


def _made(values: Any, base: type, what: str) -> Any:
    """A frozen dataclass of `operators` from its fields."""
    cls = _known(values, base, what)
    names = {f.name for f in fields(cls)}
    given = {k: v for k, v in values.items() if k != "class"}
    if set(given) - names:
        raise ValueError(f"{cls.__name__} has no {sorted(set(given) - names)}; it has {sorted(names)}")
    return cls(**given)


def _noise_out(noise: NoiseModel) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Constructor arguments: tensors apart, the rest for JSON."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {"class": type(noise).__name__}
    for name in inspect.signature(type(noise)).parameters:
        value = getattr(noise, name)
        if isinstance(value, Tensor):
            tensors[f"noise.{name}"] = value
        else:
            values[name] = _described(value) if is_dataclass(value) else value
    if type(noise).__name__ not in operators.__all__:
        raise ValueError(f"save_projections: the noise model {type(noise).__name__} is not one of operators")
    return tensors, values


def _noise_in(values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> NoiseModel:
    cls = _known(values, NoiseModel, "noise model")
    given = {k: v for k, v in values.items() if k != "class"}
    given = {k: _made(v, object, k) if isinstance(v, dict) else v for k, v in given.items()}
    given |= {k.removeprefix("noise."): v for k, v in tensors.items() if k.startswith("noise.")}
    unknown = set(given) - set(inspect.signature(cls).parameters)
    if unknown:
        raise ValueError(f"{cls.__name__} has no {sorted(unknown)}")
    return cast(NoiseModel, cls(**given))


def _known(values: Any, base: type, what: str) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f"its {what} is {values!r}, expected a JSON object")
    name = values.get("class")
    cls = getattr(operators, name, None) if isinstance(name, str) and name in operators.__all__ else None
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ValueError(f"no {what} {name!r} in this version")
    return cls


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    tensors, header = _read_npz(path) if path.suffix == ".npz" else read_tensors(path)
    if not {"geometry", "noise"} <= set(header) or "y" not in tensors:
        raise ValueError(
            f"{path}: projections without geometry: expected a file of save_projections (arrays y and "
            f"noise.…, and JSON with {', '.join(sorted(KEYS))}), found arrays {sorted(tensors)}"
        )
    if set(header) != KEYS or header["format"] != FORMAT or not isinstance(header["about"], dict):
        raise ValueError(f"{path}: format {header.get('format')!r}, this version reads {FORMAT}")
    return tensors, header


def _read_npz(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        # numpy leaves a file open that it cannot read
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(str(arrays.pop("json"))) if "json" in arrays else {}
        tensors = {k: torch.from_numpy(v) for k, v in arrays.items()}
    except (
        OSError, EOFError, KeyError, TypeError, ValueError, MemoryError, RecursionError, zipfile.BadZipFile,
        NotImplementedError, AttributeError,
    ) as error:  # fmt: skip
        raise ValueError(f"{path}: not a whole .npz file of numbers ({error})") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: its header is not a JSON object")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{path}: NaN or inf in {name}")
    return tensors, header
