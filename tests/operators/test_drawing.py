"""What a drawing of a geometry shows is where the geometry has it."""

import math

import numpy as np
import pytest

from operators import ConeBeam, FanBeam, ParallelBeam, ParallelBeam3D, presets
from operators.corrections import tilted

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from operators.drawing import plot  # noqa: E402

TURN = [2 * math.pi * k / 24 for k in range(24)]
CONE = ConeBeam((16, 32, 32), 2.0, TURN, (9, 31), 3.0, 200.0, 320.0)
GEOMETRIES = [
    ParallelBeam((32, 32), 1.0, TURN[:12], 47, 1.0, offset=3.0),
    FanBeam((32, 32), 2.0, TURN, 41, 3.0, 200.0, 320.0, offset=-6.0),
    presets.ge_lightspeed((32, 32), views=24),
    ParallelBeam3D((16, 32, 32), 1.0, TURN, (9, 47), 1.0),
    CONE,
    ConeBeam((16, 32, 32), 2.0, TURN, (9, 31), 3.0, 200.0, 320.0, "arc", pitch=30.0),
    tilted(CONE, 0.1, 0.2),
]


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def line(ax, start):
    return next(a for a in ax.get_lines() if a.get_label().startswith(start)).get_xydata()


def shown(geometry, view=0):
    axes = plot(geometry, view=view)
    return axes if isinstance(axes, np.ndarray) else [axes]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: type(g).__name__)
def test_it_is_to_scale_and_ends_at_the_outermost_rays(geometry):
    axes = shown(geometry, view=5)
    assert all(ax.get_aspect() == 1.0 for ax in axes)
    points, directions = geometry.rays()
    edges = [(5, 0), (5, -1)] if points.ndim == 3 else [(5, 0, 0), (5, 0, -1), (5, -1, 0), (5, -1, -1)]
    drawn = line(axes[0], "detector")
    for edge in edges:
        p, d = points[edge][:2], directions[edge][:2] / np.linalg.norm(directions[edge][:2])
        apart = (drawn - p) @ np.array([-d[1], d[0]])
        assert np.abs(apart).min() < 1e-9  # one drawn end lies on the ray


@pytest.mark.parametrize("geometry", [g for g in GEOMETRIES if "Parallel" not in type(g).__name__])
def test_the_source_is_on_its_path(geometry):
    points = geometry.rays()[0].reshape(24, -1, len(geometry.in_shape))[:, 0]
    np.testing.assert_allclose(line(shown(geometry)[0], "path")[:24], points[:, :2], atol=1e-9)


def test_the_circle_is_the_field_of_view():
    ax = plot(presets.ge_lightspeed((32, 32), views=24))
    (circle,) = [p for p in ax.patches if isinstance(p, matplotlib.patches.Circle)]
    # the drawing takes the bins' centres, the field of view their outer edges
    assert 2 * circle.radius == pytest.approx(presets.ge_lightspeed.field_of_view, abs=2 * 1.0239)


def test_a_helix_climbs_from_the_side():
    above, aside = plot(GEOMETRIES[5])
    path = line(aside, "path")
    np.testing.assert_allclose(path[:, 1], GEOMETRIES[5].heights(), atol=1e-9)
    assert len(line(above, "path")) == 24  # not closed
    assert len(line(plot(CONE)[0], "path")) == 25


def test_axes_may_be_given():
    _, axes = matplotlib.pyplot.subplots(1, 2)
    assert plot(CONE, axes, legend=False) is axes
    assert axes[0].get_legend() is None
    _, ax = matplotlib.pyplot.subplots()
    assert plot(GEOMETRIES[0], ax) is ax
    with pytest.raises(ValueError, match="a pair of axes"):
        plot(CONE, ax)


def test_bad_input():
    with pytest.raises(ValueError, match="one of the 24 views, got 24"):
        plot(CONE, view=24)
    with pytest.raises(ValueError, match="got str"):
        plot("cone")
