"""Where learned methods go wrong, measured: lesions, hidden codes, worst cases, unsuitable inputs, leaks.

Every tool takes any method, a callable problem -> image.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .functions import as_function as as_function
    from .functions import differentiable as differentiable
    from .functions import linearised as linearised
    from .hallucination import LesionCases as LesionCases
    from .hallucination import ShareResult as ShareResult
    from .hallucination import false_insertion as false_insertion
    from .hallucination import lesion_cases as lesion_cases
    from .hallucination import lesion_scores as lesion_scores
    from .hallucination import lesion_survival as lesion_survival
    from .hallucination import matched_filter as matched_filter
    from .hallucination import measure as measure
    from .hallucination import vary_lesion_share as vary_lesion_share
    from .instability import Perturbation as Perturbation
    from .instability import stability_curve as stability_curve
    from .instability import worst_case as worst_case
    from .instability import worst_image as worst_image
    from .lesions import Discs as Discs
    from .lesions import Letters as Letters
    from .lesions import TwoDomains as TwoDomains
    from .lesions import lesion_data as lesion_data
    from .lesions import with_lesions as with_lesions
    from .rates import Rate as Rate
    from .rates import conformal_threshold as conformal_threshold
    from .rates import p_values as p_values
    from .rates import rate as rate
    from .steganography import CycleJump as CycleJump
    from .steganography import as_map as as_map
    from .steganography import dct_quantised as dct_quantised
    from .steganography import hidden_code as hidden_code
    from .steganography import noisy as noisy
    from .steganography import quantised as quantised

_EXPORTS = {
    "CycleJump": "steganography",
    "Discs": "lesions",
    "LesionCases": "hallucination",
    "Letters": "lesions",
    "Perturbation": "instability",
    "Rate": "rates",
    "ShareResult": "hallucination",
    "TwoDomains": "lesions",
    "as_function": "functions",
    "as_map": "steganography",
    "conformal_threshold": "rates",
    "dct_quantised": "steganography",
    "differentiable": "functions",
    "false_insertion": "hallucination",
    "hidden_code": "steganography",
    "lesion_cases": "hallucination",
    "lesion_data": "lesions",
    "lesion_scores": "hallucination",
    "lesion_survival": "hallucination",
    "linearised": "functions",
    "matched_filter": "hallucination",
    "measure": "hallucination",
    "noisy": "steganography",
    "p_values": "rates",
    "quantised": "steganography",
    "rate": "rates",
    "stability_curve": "instability",
    "vary_lesion_share": "hallucination",
    "with_lesions": "lesions",
    "worst_case": "instability",
    "worst_image": "instability",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
