"""How an image becomes data: forward operators, geometries, noise."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import LinearOperator as LinearOperator
    from .base import Operator as Operator
    from .geometry import FanBeam as FanBeam
    from .geometry import ParallelBeam as ParallelBeam
    from .xray import XRay as XRay

_EXPORTS = {
    "FanBeam": "geometry",
    "LinearOperator": "base",
    "Operator": "base",
    "ParallelBeam": "geometry",
    "XRay": "xray",
}

__all__ = sorted(_EXPORTS)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
