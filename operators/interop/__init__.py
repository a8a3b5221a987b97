"""Geometries and operators of other toolboxes, to and fro; theirs are imported when they are used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .astra import from_astra as from_astra
    from .astra import to_astra as to_astra
    from .deepinv import from_deepinv as from_deepinv
    from .deepinv import to_deepinv as to_deepinv
    from .deepinv_mri import sense_from_deepinv as sense_from_deepinv
    from .odl import from_odl as from_odl
    from .odl import to_odl as to_odl
    from .odl_geometry import from_odl_geometry as from_odl_geometry
    from .odl_geometry import to_odl_geometry as to_odl_geometry
    from .scipy import from_scipy as from_scipy
    from .scipy import to_scipy as to_scipy
    from .tomosipo import from_tomosipo as from_tomosipo
    from .tomosipo import from_tomosipo_geometry as from_tomosipo_geometry
    from .tomosipo import to_tomosipo_geometry as to_tomosipo_geometry

_EXPORTS = {
    "from_astra": "astra",
    "from_deepinv": "deepinv",
    "from_odl": "odl",
    "from_odl_geometry": "odl_geometry",
    "from_scipy": "scipy",
    "from_tomosipo": "tomosipo",
    "from_tomosipo_geometry": "tomosipo",
    "sense_from_deepinv": "deepinv_mri",
    "to_astra": "astra",
    "to_deepinv": "deepinv",
    "to_odl": "odl",
    "to_odl_geometry": "odl_geometry",
    "to_scipy": "scipy",
    "to_tomosipo_geometry": "tomosipo",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
