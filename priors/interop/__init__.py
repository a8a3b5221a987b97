"""Priors, denoisers and likelihoods of other toolboxes as functionals, for every solver here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .deepinv import from_deepinv_denoiser as from_deepinv_denoiser
    from .deepinv import from_deepinv_fidelity as from_deepinv_fidelity
    from .deepinv import from_deepinv_prior as from_deepinv_prior

_EXPORTS = {
    "from_deepinv_denoiser": "deepinv",
    "from_deepinv_fidelity": "deepinv",
    "from_deepinv_prior": "deepinv",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
