"""The pixel-driven kernels: against the formula, against each other, in threads and in forked workers."""

import math
import multiprocessing
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from operators import FanBeam, ParallelBeam
from operators.backends import pixel
from operators.backprojection import PixelBackprojection

ANGLES = [0.3 + 0.7 * k for k in range(7)]
GEOMETRIES = {
    "parallel": ParallelBeam((5, 8), 1.3, ANGLES, 9, 1.1, 0.4),
    "flat": FanBeam((7, 6), 1.3, ANGLES, 9, 1.7, 20.0, 37.0, "flat", -0.6),
    "arc": FanBeam((6, 7), 1.3, ANGLES, 10, 1.7, 20.0, 37.0, "arc", 0.3),
    "wide arc": FanBeam((20, 20), 1.0, ANGLES, 51, 0.9, 14.3, 20.0, "arc", 0.0),
}


def matrix(f, shape, dtype=torch.float64):
    n = math.prod(shape)
    return f(torch.eye(n, dtype=dtype).reshape(n, *shape)).reshape(n, -1)


def by_formula(g):
    """Σ over views as written in the module, one pixel at a time, (sinogram, pixels)."""
    B = np.zeros((*g.sinogram_shape, *g.image_shape))
    ny, nx = g.image_shape
    for v, theta in enumerate(g.angles):
        u, w = np.array([math.cos(theta), math.sin(theta)]), np.array([-math.sin(theta), math.cos(theta)])
        for j in range(ny):
            for i in range(nx):
                x = np.array([(i - (nx - 1) / 2), (ny - 1) / 2 - j]) * g.pixel_size
                if isinstance(g, ParallelBeam):
                    position, weight = x @ u, 1.0
                else:
                    t, depth = x @ u, g.source_to_centre + x @ w
                    if g.detector == "flat":
                        position = g.source_to_detector * t / depth
                        weight = (g.source_to_centre / depth) ** 2
                    else:
                        position = g.source_to_detector * math.atan2(t, depth)
                        weight = g.source_to_centre**2 / (depth**2 + t**2)
                s = (position - g.bins()[0]) / g.bin_size
                k = math.floor(s)
                for bin, part in ((k, 1 - (s - k)), (k + 1, s - k)):
                    if 0 <= bin < g.n_bins:
                        B[v, bin, j, i] += weight * part
    return torch.from_numpy(B.reshape(math.prod(g.sinogram_shape), ny * nx))


@pytest.mark.parametrize("name", GEOMETRIES)
def test_back_projection_is_its_formula_and_has_its_transpose(name):
    g = GEOMETRIES[name]
    expected = by_formula(g)
    B = matrix(lambda q: pixel.backproject(q, g), g.sinogram_shape)
    transposed = matrix(lambda x: pixel.project(x, g), g.image_shape)
    torch.testing.assert_close(B, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(transposed.T, B, rtol=0, atol=1e-13 * float(B.max()))
    single = matrix(lambda q: pixel.backproject(q, g), g.sinogram_shape, torch.float32)
    back = matrix(lambda x: pixel.project(x, g), g.image_shape, torch.float32)
    # positions of up to 50 bins in float32
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=3e-5 * float(B.max()))
    torch.testing.assert_close(back.T, single, rtol=0, atol=1e-6 * float(B.max()))


@pytest.mark.parametrize("name", GEOMETRIES)
def test_plain_torch_is_the_same_map(name):
    g = GEOMETRIES[name]
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(3, *g.sinogram_shape, dtype=torch.float64, generator=generator)
    x = torch.randn(3, *g.image_shape, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(pixel.backproject_torch(q, g), pixel.backproject(q, g), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(pixel.project_torch(x, g), pixel.project(x, g), rtol=1e-12, atol=1e-12)


@pytest.mark.cuda
@pytest.mark.parametrize("name", GEOMETRIES)
def test_cuda_is_the_same_map(name):
    g = GEOMETRIES[name]
    q = torch.randn(3, *g.sinogram_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pixel.backproject(q.cuda(), g).cpu(), pixel.backproject(q, g))


def test_arc_tangent():
    for length in (0.5, 1.0, 30.0):
        x = np.linspace(-length, length, 1001)
        out = np.empty_like(x)
        pixel._atan(x, out)
        np.testing.assert_allclose(out, np.arctan(x), rtol=0, atol=5e-16)


def test_one_thread_and_several_give_the_same(monkeypatch):
    g = replace(GEOMETRIES["arc"], image_shape=(37, 7), pixel_size=0.4)
    q = torch.randn(2, *g.sinogram_shape, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(pixel, "SERIAL", 0)
    monkeypatch.setattr(pixel, "available", lambda: 3)
    expected = pixel.backproject(q, g), pixel.project(pixel.backproject(q, g), g)
    monkeypatch.setattr(pixel, "available", lambda: 1)
    x = pixel.backproject(q, g)
    torch.testing.assert_close(x, expected[0], rtol=0, atol=0)
    torch.testing.assert_close(pixel.project(x, g), expected[1], rtol=0, atol=0)


def test_three_threads(monkeypatch):
    monkeypatch.setattr(pixel, "SERIAL", 0)
    g = GEOMETRIES["flat"]
    q = torch.randn(20, *g.sinogram_shape, generator=torch.Generator().manual_seed(0))
    expected, results = pixel.backproject(q, g), {}

    def work(k):
        results[k] = torch.stack([pixel.backproject(q, g) for _ in range(20)])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for k in range(3):
        torch.testing.assert_close(results[k], expected.expand(20, -1, -1, -1), rtol=0, atol=0)


def _work(queue, q, g):
    queue.put(pixel.backproject(torch.from_numpy(q), g).numpy())


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_child(monkeypatch):
    monkeypatch.setattr(pixel, "SERIAL", 0)
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork on this system")
    g = GEOMETRIES["parallel"]
    q = torch.randn(2, *g.sinogram_shape, generator=torch.Generator().manual_seed(0))
    expected = pixel.backproject(q, g).numpy()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_work, args=(queue, q.numpy(), g))
    child.start()
    result = queue.get(timeout=60)
    child.join(timeout=60)
    assert child.exitcode == 0
    np.testing.assert_array_equal(result, expected)


def test_other_dtypes_are_errors():
    B = PixelBackprojection(GEOMETRIES["parallel"])
    with pytest.raises(ValueError, match=r"float32 or float64, got torch\.complex64"):
        B(torch.zeros(B.in_shape, dtype=torch.complex64))
