"""Purely learned methods: every network and GAN of `recon.baselines` by its name, and classical ones."""

from __future__ import annotations

from ...base import METHODS as ALL
from ...baselines.bm3d import BM3D
from ...baselines.filters import Bilateral, GaussianFilter
from ...baselines.knn import AnchoredRegression, PatchNearestNeighbours
from ...learned import Learned
from ..method import Log, Method

METHODS = {
    name: Method(method, pretrained=True)
    for name, method in ALL.items()
    if issubclass(method, Learned) and ".baselines." in method.__module__
} | {
    "gaussian-filter": Method(GaussianFilter, space={"fwhm": Log(0.5, 8.0)}),
    "bilateral": Method(Bilateral, space={"width": Log(0.5, 5.0), "strength": Log(0.5, 10.0)}),
    "patch-nearest-neighbours": Method(PatchNearestNeighbours),
    "anchored-regression": Method(AnchoredRegression),
    "bm3d": Method(BM3D, space={"strength": Log(0.3, 3.0)}),
}
