"""The parts of the numba projector: which rays share lanes, padding, passes, threads."""

import math

import numpy as np
import pytest
import torch

from operators import FanBeam, ParallelBeam
from operators.backends import joseph, pool, sparse
from operators.backends.lanes import by_image, by_symmetry
from operators.backends.rays import ray_table

TURN = [2 * math.pi * k / 16 for k in range(16)]
HALF = [math.pi * k / 10 for k in range(10)]
FAN = {"bin_size": 2.2, "source_to_centre": 40.0, "source_to_detector": 80.0}

# geometry, lanes that one image fills, groups of views
DEALINGS = [
    (ParallelBeam((12, 12), 1.0, HALF, 17, 1.0), 8, 3),  # 0° and 90°; 18° 72° 108° 162°; 36° 54° 126° 144°
    (ParallelBeam((12, 12), 1.0, TURN, 18, 1.0), 8, 4),  # every line twice
    (ParallelBeam((12, 12), 1.0, TURN, 18, 1.0, offset=0.3), 4, 4),
    (ParallelBeam((12, 9), 1.0, HALF, 17, 1.0), 4, 6),
    (FanBeam((12, 12), 1.0, TURN, 17, **FAN), 8, 3),
    (FanBeam((12, 12), 1.0, TURN, 18, **FAN, detector="arc"), 8, 3),
    (FanBeam((12, 12), 1.0, TURN, 18, **FAN, detector="arc", offset=0.55), 4, 4),
    (FanBeam((12, 9), 1.0, TURN, 18, **FAN), 4, 5),
    (FanBeam((12, 12), 1.0, [0.1, 1.3, 1.3, 5.0, -2.0], 18, **FAN), 8, 5),
    (FanBeam((1, 7), 1.0, TURN, 18, **FAN), 4, 5),
    (FanBeam((9, 1), 1.0, [0.0], 1, **FAN), 4, 1),
]


@pytest.mark.parametrize(("geometry", "symmetries", "groups"), DEALINGS)
def test_every_ray_is_dealt_once(geometry, symmetries, groups):
    for lanes in (by_image(geometry), by_symmetry(geometry)):
        seen = np.zeros(geometry.views * geometry.n_bins, int)
        for base, step, count in zip(
            lanes.base.ravel(), lanes.step.ravel(), lanes.count.ravel(), strict=True
        ):
            seen[base + step * np.arange(count)] += 1
        assert (seen == 1).all()
    assert by_image(geometry).symmetries == 1
    assert (by_symmetry(geometry).symmetries, len(by_symmetry(geometry).leader)) == (symmetries, groups)


def test_uniform_angles_are_recognised_however_they_are_computed():
    n = 180
    ways = [
        [2 * math.pi * k / n for k in range(n)],
        np.linspace(0, 2 * np.pi, n, endpoint=False),
        np.deg2rad(np.arange(n) * 2.0),
        torch.arange(n, dtype=torch.float64) * (2 * math.pi / n),
        np.arange(n) * (2 * np.pi / n) - np.pi,
    ]
    for angles in ways:
        lanes = by_symmetry(FanBeam((12, 12), 1.0, angles, 17, **FAN))
        assert (lanes.symmetries, len(lanes.leader)) == (8, 23)  # 22 orbits of eight views, one of four


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize(("geometry", "symmetries", "groups"), DEALINGS)
def test_every_batch_size_equals_the_matrix(geometry, symmetries, groups, dtype):
    matrix = torch.from_numpy(sparse.matrix(geometry).toarray())
    generator = torch.Generator().manual_seed(0)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for batch in (1, 2, 3, 8, 9, 17):
        x = torch.randn(batch, *geometry.image_shape, dtype=dtype, generator=generator)
        y = torch.randn(batch, *geometry.sinogram_shape, dtype=dtype, generator=generator)
        Ax = (x.double().flatten(1) @ matrix.T).reshape(y.shape)
        Aty = (y.double().flatten(1) @ matrix).reshape(x.shape)
        assert (joseph.project(x, geometry) - Ax).abs().max() <= tolerance * Ax.abs().max()
        assert (joseph.backproject(y, geometry) - Aty).abs().max() <= tolerance * Aty.abs().max()


@pytest.mark.parametrize("batch", (1, 3, 9))
@pytest.mark.parametrize("angles", (TURN, [0.1, 0.2, 4.0]))
def test_threads_do_not_change_a_bit(monkeypatch, angles, batch):
    monkeypatch.setattr(joseph, "_SERIAL", 0)
    geometry = FanBeam((40, 40), 1.0, angles, 70, 2.0, 70.0, 140.0)
    x = torch.randn(batch, 40, 40, generator=torch.Generator().manual_seed(0))
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(joseph, "available", lambda threads=threads: threads)
        y = joseph.project(x, geometry)
        results.append((y, joseph.backproject(y, geometry)))
    for y, back in results[1:]:
        assert torch.equal(y, results[0][0])
        assert torch.equal(back, results[0][1])


def test_nothing_lingers_in_the_work_space():
    geometry = FanBeam((20, 20), 1.0, TURN, 35, 2.0, 70.0, 140.0)
    x = torch.randn(1, 20, 20, generator=torch.Generator().manual_seed(0))
    expected = joseph.project(x, geometry), joseph.backproject(joseph.project(x, geometry), geometry)
    joseph.project(torch.full((9, 20, 20), torch.nan), geometry)
    joseph.backproject(torch.full((9, *geometry.sinogram_shape), torch.inf), geometry)
    y = joseph.project(x, geometry)
    assert torch.equal(y, expected[0])
    assert torch.equal(joseph.backproject(y, geometry), expected[1])


def test_lines_met_are_those_where_the_ray_meets_pixels():
    geometry = FanBeam((9, 14), 1.0, [*TURN, 0.3], 40, 1.5, 40.0, 80.0, offset=0.2)
    table = ray_table(geometry)
    line = np.arange(14)
    position = table.start[..., None] + table.slope[..., None] * line
    ny, nx = geometry.image_shape
    lines, width = np.where(table.transposed, nx, ny), np.where(table.transposed, ny, nx)
    meets = (position > -1) & (position < width[..., None]) & (line < lines[..., None])
    found = (line >= table.first[..., None]) & (line < table.last[..., None])
    assert (meets == found).all()
    assert (np.abs(table.slope) <= 1 + 1e-12).all()


def test_share_does_everything_once_and_reports_errors():
    done = []
    pool.share(done.append, 100, 3)
    assert sorted(done) == list(range(100))

    def fail(k):
        if k == 5:
            raise RuntimeError("piece 5")

    for threads in (1, 2):
        with pytest.raises(RuntimeError, match="piece 5"):
            pool.share(fail, 10, threads)
    pool.share(done.append, 0, 2)
    assert len(done) == 100
