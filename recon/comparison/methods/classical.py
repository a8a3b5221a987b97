"""Direct, algebraic and variational methods."""

from __future__ import annotations

from ...direct import FBP
from ...iterative import CGLS, SIRT
from ...variational import PWLSTotalVariation, TotalVariation
from ..method import Choice, Integer, Linear, Log, Method

FILTERS = ("ram-lak", "shepp-logan", "cosine", "hamming", "hann")

METHODS = {
    "fbp": Method(
        FBP,
        space={
            "filter": Choice(*FILTERS),
            "frequency_scaling": Linear(0.3, 1.0, limits=(0.05, 1.0)),
        },
    ),
    "cgls": Method(CGLS, space={"iterations": Integer(2, 50, most=200)}),
    "sirt": Method(SIRT, space={"iterations": Integer(5, 200, most=200)}),
    "total-variation": Method(TotalVariation, space={"weight": Log(1e-1, 1e4)}),
    "pwls-total-variation": Method(PWLSTotalVariation, space={"weight": Log(1e-1, 1e4)}),
}
