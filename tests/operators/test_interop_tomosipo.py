"""tomosipo is not on PyPI: a stand-in of the few names used plays its part, and itself where it is there."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from operators import ConeBeam, FanBeam, ParallelBeam3D
from operators.interop import (
    from_scipy,
    from_tomosipo,
    from_tomosipo_geometry,
    to_astra,
    to_tomosipo_geometry,
)
from operators.interop import tomosipo as adapter
from operators.interop.astra import projections_for_astra, volume_for_astra
from operators.testing import check

SOLID = ((4, 6, 7), (2.0, 0.7, 0.7), (0.1, 1.0, 2.5, -4.0), (3, 5), (1.0964, 1.0239))
GEOMETRIES = [
    ParallelBeam3D(*SOLID),
    ConeBeam(*SOLID, 541.0, 949.075),
]
BY_VECTORS = [
    ParallelBeam3D(*SOLID, offset=(0.5, 0.25)),
    ConeBeam(*SOLID, 40.0, 70.0, offset=(0.5, 0.25), pitch=4.0, start=-1.0),
]


@pytest.fixture(params=["stand-in", "tomosipo"])
def tomosipo(request, monkeypatch):
    if request.param == "stand-in":
        stand_in = SimpleNamespace(from_astra=lambda d: SimpleNamespace(to_astra=lambda: d))
        monkeypatch.setattr(adapter, "toolbox", lambda: stand_in)
    elif importlib.util.find_spec("tomosipo") is None:
        pytest.skip("tomosipo is not installed")


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: type(g).__name__)
def test_there_and_back_is_the_same_value(tomosipo, geometry):
    assert from_tomosipo_geometry(*to_tomosipo_geometry(geometry)) == geometry


@pytest.mark.parametrize("geometry", BY_VECTORS, ids=lambda g: type(g).__name__)
def test_offsets_and_helices_keep_their_rays(tomosipo, geometry):
    found = from_tomosipo_geometry(*to_tomosipo_geometry(geometry))
    np.testing.assert_allclose(found.rays()[0], geometry.rays()[0], atol=1e-12)
    np.testing.assert_allclose(found.rays()[1], geometry.rays()[1], atol=1e-12)


@pytest.mark.parametrize(
    "geometry",
    [FanBeam((6, 6), 1.0, (0.0,), 5, 1.0, 20.0, 30.0), ConeBeam(*SOLID, 40.0, 70.0, "arc")],
    ids=["2-D", "arc"],
)
def test_what_tomosipo_lacks_is_an_error(geometry):
    with pytest.raises(ValueError, match="3-D scan with a flat detector"):
        to_tomosipo_geometry(geometry)


class StandIn:
    """What ts.operator gives, with a random matrix for ASTRA's projector."""

    def __init__(self, geometry):
        projections, volume = to_astra(geometry)
        self.astra_compat_vg = SimpleNamespace(to_astra=lambda: volume)
        self.astra_compat_pg = SimpleNamespace(to_astra=lambda: projections)
        rows, columns = (int(np.prod(shape)) for shape in (geometry.out_shape, geometry.in_shape))
        matrix = np.random.default_rng(0).normal(size=(rows, columns))
        self.A = from_scipy(matrix, geometry.in_shape, geometry.out_shape)
        self.T = lambda y: volume_for_astra(self.A.adjoint(projections_for_astra(y)))

    def __call__(self, x):
        return projections_for_astra(self.A(volume_for_astra(x)))


@pytest.mark.parametrize("geometry", [*GEOMETRIES, BY_VECTORS[1]], ids=["parallel", "cone", "helix"])
def test_an_operator_keeps_our_layout(geometry):
    operator = StandIn(geometry)
    A = from_tomosipo(operator)
    assert (A.in_shape, A.out_shape) == (geometry.in_shape, geometry.out_shape)
    assert not A.adjoint_is_exact and A.geometry.volume_shape == geometry.volume_shape
    x = torch.randn(2, *A.in_shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(A(x), operator.A(x))
    check(A, dtypes=(torch.float32,))
    with pytest.raises(ValueError, match=r"computes in float32, got torch\.float64"):
        A(x.double())


def test_a_missing_tomosipo_says_how_to_get_it():
    if importlib.util.find_spec("tomosipo") is not None:
        pytest.skip("tomosipo is installed")
    with pytest.raises(ImportError, match=r"github\.com/cicwi/tomosipo"):
        to_tomosipo_geometry(GEOMETRIES[0])
