import math
from dataclasses import replace

import numpy as np
import pytest

from operators import ConeBeam, FanBeam, presets
from operators.presets import PRESETS, scanner

NUMBERS = {  # knowledge/protocols.md 2.5, whose sources presets.py names
    "ge": (541.0, 949.075, 888, 1.0239, 984),
    "siemens": (595.0, 1085.6, 736, 1.2858, 1152),
    "xcist": (540.0, 950.0, 900, 1.0, 1000),
    "lion": (575.0, 1050.0, 900, 1.0, 360),
    "2detect": (431.02, 529.0, 956, 0.1496, 3600),
    "obi": (1000.0, 1500.0, 1024, 0.388, 650),
}


@pytest.mark.parametrize("name", PRESETS)
def test_the_numbers(name):
    g = scanner(name)((64, 64))
    assert isinstance(g, FanBeam)
    found = (g.source_to_centre, g.source_to_detector, g.n_bins, g.bin_size, g.views)
    assert found == NUMBERS[name]


def test_offsets_are_a_quarter_and_five_quarters_of_a_channel():
    assert presets.ge_lightspeed((8, 8)).offset == pytest.approx(1.25 * 1.0239)
    assert presets.xcist((8, 8)).offset == 0.25
    assert presets.siemens_definition((8, 8)).offset == 0.0


def test_only_what_is_typical_says_so():
    assert [name for name, s in PRESETS.items() if s.typical] == ["obi"]
    assert all(s.source for s in PRESETS.values())


@pytest.mark.parametrize("name", PRESETS)
def test_the_field_of_view_is_what_every_view_sees(name):
    """The outermost bins' edges, projected back: the rays nearest the centre touch the circle."""
    s = scanner(name)
    g = s((32, 32), views=7)
    assert g.pixel_size * 32 == pytest.approx(s.field_of_view)
    edges = replace(g, n_bins=2, bin_size=g.n_bins * g.bin_size)  # two rays, through the outer edges
    points, directions = edges.rays()
    distance = np.abs(points[..., 0] * directions[..., 1] - points[..., 1] * directions[..., 0])
    assert s.field_of_view / 2 == pytest.approx(distance.min())


@pytest.mark.parametrize("name", PRESETS)
def test_the_middle_of_its_cone_is_its_fan(name):
    s = scanner(name)
    fan, cone = s((6, 6), views=5), s((3, 6, 6), views=5, rows=1)
    assert isinstance(cone, ConeBeam) and cone.detector == fan.detector
    np.testing.assert_allclose(cone.rays()[1][:, 0, :, :2], fan.rays()[1], atol=1e-13)


def test_angles_and_sizes_are_the_callers():
    g = presets.siemens_definition((40, 50), pixel_size=0.7, views=90)
    assert (g.image_shape, g.pixel_size, g.views) == ((40, 50), 0.7, 90)
    np.testing.assert_allclose(np.diff(g.angles), math.pi / 45)


def test_a_helix_passes_the_middle_halfway():
    g = presets.ge_lightspeed((10, 64, 64), views=8, pitch=20.0, turns=3)
    assert g.views == 24 and g.detector_shape == (64, 888)
    assert g.heights()[12] == pytest.approx(0.0)
    assert g.heights()[8] - g.heights()[0] == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: scanner("simens"), "expected one of '2detect', .*did you mean 'siemens'"),
        (lambda: presets.xcist((8,)), r"expected \(ny, nx\) or \(nz, ny, nx\)"),
        (lambda: presets.xcist((8, 8), rows=4), "describe a volume"),
        (lambda: presets.xcist((8, 8, 8), rows=17), "at most its 16, got 17"),
        (lambda: presets.xcist((8, 8), views=0), "XCIST views: expected a whole number"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(ValueError, match=words):
        make()
