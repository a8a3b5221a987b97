"""Where learned methods go wrong, measured: lesions, hidden codes, worst cases, unsuitable inputs, leaks.

Every tool takes any method, a callable problem -> image.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data_check import DataCheck as DataCheck
    from .data_check import ErrorSplit as ErrorSplit
    from .data_check import check_data as check_data
    from .data_check import check_row as check_row
    from .data_check import chi2_interval as chi2_interval
    from .data_check import split_error as split_error
    from .disagreement import Disagreement as Disagreement
    from .failures import CaseReport as CaseReport
    from .failures import Runs as Runs
    from .failures import failure_report as failure_report
    from .failures import read_runs as read_runs
    from .failures import success_table as success_table
    from .failures import write_report as write_report
    from .functions import as_function as as_function
    from .functions import differentiable as differentiable
    from .functions import linearised as linearised
    from .hallucination import LesionCases as LesionCases
    from .hallucination import ShareResult as ShareResult
    from .hallucination import false_insertion as false_insertion
    from .hallucination import lesion_cases as lesion_cases
    from .hallucination import lesion_response as lesion_response
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
    from .membership import MembershipGap as MembershipGap
    from .membership import membership_gap as membership_gap
    from .metal_task import metal_scan as metal_scan
    from .rates import Rate as Rate
    from .rates import conformal_threshold as conformal_threshold
    from .rates import p_values as p_values
    from .rates import rate as rate
    from .samples import SamplesResult as SamplesResult
    from .samples import harmed as harmed
    from .samples import more_samples as more_samples
    from .samples import rescanned as rescanned
    from .steganography import CycleJump as CycleJump
    from .steganography import as_map as as_map
    from .steganography import dct_quantised as dct_quantised
    from .steganography import hidden_code as hidden_code
    from .steganography import noisy as noisy
    from .steganography import quantised as quantised
    from .triads import ReaderScores as ReaderScores
    from .triads import StudyResult as StudyResult
    from .triads import cohens_kappa as cohens_kappa
    from .triads import evaluate_scores as evaluate_scores
    from .triads import export_triads as export_triads
    from .unsuitable import OutOfDistribution as OutOfDistribution
    from .unsuitable import input_statistics as input_statistics
    from .unsuitable import layer_features as layer_features
    from .unsuitable import on_data as on_data
    from .unsuitable import on_image as on_image

_EXPORTS = {
    "CaseReport": "failures",
    "CycleJump": "steganography",
    "DataCheck": "data_check",
    "Disagreement": "disagreement",
    "Discs": "lesions",
    "ErrorSplit": "data_check",
    "LesionCases": "hallucination",
    "Letters": "lesions",
    "MembershipGap": "membership",
    "OutOfDistribution": "unsuitable",
    "Perturbation": "instability",
    "Rate": "rates",
    "ReaderScores": "triads",
    "Runs": "failures",
    "SamplesResult": "samples",
    "ShareResult": "hallucination",
    "StudyResult": "triads",
    "TwoDomains": "lesions",
    "as_function": "functions",
    "as_map": "steganography",
    "check_data": "data_check",
    "check_row": "data_check",
    "chi2_interval": "data_check",
    "cohens_kappa": "triads",
    "conformal_threshold": "rates",
    "dct_quantised": "steganography",
    "differentiable": "functions",
    "evaluate_scores": "triads",
    "export_triads": "triads",
    "failure_report": "failures",
    "false_insertion": "hallucination",
    "harmed": "samples",
    "hidden_code": "steganography",
    "input_statistics": "unsuitable",
    "layer_features": "unsuitable",
    "lesion_cases": "hallucination",
    "lesion_data": "lesions",
    "lesion_response": "hallucination",
    "lesion_scores": "hallucination",
    "lesion_survival": "hallucination",
    "linearised": "functions",
    "matched_filter": "hallucination",
    "measure": "hallucination",
    "membership_gap": "membership",
    "metal_scan": "metal_task",
    "more_samples": "samples",
    "noisy": "steganography",
    "on_data": "unsuitable",
    "on_image": "unsuitable",
    "p_values": "rates",
    "quantised": "steganography",
    "rate": "rates",
    "read_runs": "failures",
    "rescanned": "samples",
    "split_error": "data_check",
    "stability_curve": "instability",
    "success_table": "failures",
    "vary_lesion_share": "hallucination",
    "with_lesions": "lesions",
    "worst_case": "instability",
    "worst_image": "instability",
    "write_report": "failures",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
