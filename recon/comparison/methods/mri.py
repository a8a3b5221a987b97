"""Methods of MRI; total variation is that of all modalities, of "total-variation"."""

from __future__ import annotations

from ...grappa import GRAPPA
from ...mri import CGSENSE, RootSumOfSquares, ZeroFilled
from ...scaling import CentreScaled
from ...variational import TotalVariation, WaveletReconstruction
from ..method import Integer, Log, Method


def tv_centre_scaled(value: float = 0.01) -> TotalVariation:
    """Total variation whose λ is `value` times the scale of k-space, for data of unknown noise."""
    return TotalVariation(CentreScaled(value), algorithm="admm")


def wavelet_centre_scaled(value: float = 0.01) -> WaveletReconstruction:
    """Wavelet L1, likewise."""
    return WaveletReconstruction(CentreScaled(value))


METHODS = {
    "zero-filled": Method(ZeroFilled),
    "rss": Method(RootSumOfSquares),
    "cg-sense": Method(CGSENSE, space={"weight": Log(1e-3, 1e4)}),
    "cg-sense-stopped": Method(CGSENSE, space={"iterations": Integer(2, 50, most=200)}, fixed={"weight": 0}),
    "grappa": Method(GRAPPA, space={"regularisation": Log(1e-6, 1e-1)}),
    "wavelet-l1": Method(WaveletReconstruction, space={"weight": Log(1e-1, 1e4)}),
    "total-variation-admm": Method(
        TotalVariation, space={"weight": Log(1e-1, 1e4)}, fixed={"algorithm": "admm"}
    ),
    "tv-centre-scaled": Method(tv_centre_scaled, space={"value": Log(3e-4, 1e-1)}),
    "wavelet-l1-centre-scaled": Method(wavelet_centre_scaled, space={"value": Log(3e-4, 1e-1)}),
}
