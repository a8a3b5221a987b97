import itertools
import math
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from operators import ConeBeam, FanBeam, ParallelBeam, XRay
from operators.backends import sparse
from operators.testing import check, mismatch

CPU_BACKENDS = ("auto", "numba", "sparse", "astra")
TURN = [2 * math.pi * k / 12 for k in range(12)]
HALF = [math.pi * k / 12 for k in range(12)]
SCATTERED = [0.1, 1.3, 2.9, -4.0, 7.5]


def xray(geometry, backend):
    if backend == "astra":
        pytest.importorskip("astra", reason="the ASTRA toolbox is an extra")
    return XRay(geometry, backend)


def random(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def columns(apply, shape):
    """The matrix of a linear map, one column for every entry of its input."""
    n = math.prod(shape)

    def of(dtype):
        return apply(torch.eye(n, dtype=dtype).reshape(n, *shape)).reshape(n, -1).T

    return of


def geometries(spacing):
    """Bins of `spacing` pixels at the rotation centre; symmetric and not, square and not."""
    n = math.ceil(15 / spacing)
    fan = {"bin_size": 2 * spacing, "source_to_centre": 25.0, "source_to_detector": 50.0}
    return [
        ParallelBeam((9, 9), 1.0, HALF, n, spacing),
        ParallelBeam((8, 11), 1.0, SCATTERED, n + 1, spacing, offset=0.4),
        ParallelBeam((10, 10), 1.0, TURN, n, spacing),
        FanBeam((9, 9), 1.0, TURN, n, **fan),
        FanBeam((9, 9), 1.0, TURN, n, **fan, detector="arc", offset=0.7),
        FanBeam((11, 8), 1.0, SCATTERED, n + 1, **fan, detector="arc"),
        FanBeam((10, 10), 1.0, TURN, n, **fan, detector="arc"),
    ]


SPACINGS = (0.3, 0.5, 1.0, 1.7, 3.0)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_adjoint_is_the_transpose_entry_by_entry(backend, spacing):
    for geometry in geometries(spacing):
        A = xray(geometry, backend)
        assert A.adjoint_is_exact
        forward, back = columns(A, A.in_shape), columns(A.adjoint, A.out_shape)
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
            if backend == "astra" and dtype == torch.float64:
                continue
            matrix = forward(dtype)
            assert (matrix - back(dtype).T).abs().max() <= tolerance * matrix.abs().max()


@pytest.mark.parametrize("spacing", SPACINGS)
def test_numba_equals_sparse(spacing):
    for geometry in geometries(spacing):
        # float32 positions carry 2⁻²⁴ of some ten pixels, and so do the interpolation weights
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-11)):
            ours, matrix = (
                columns(XRay(geometry, b), (geometry.image_shape))(dtype) for b in ("numba", "sparse")
            )
            assert (ours - matrix).abs().max() <= tolerance * matrix.abs().max()


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("backend", ("numba", "sparse"))
def test_parallel_matrix_equals_astra_linear(backend, spacing):
    astra = pytest.importorskip("astra", reason="the ASTRA toolbox is an extra")
    for geometry in geometries(spacing):
        if not isinstance(geometry, ParallelBeam) or geometry.offset:
            continue
        ny, nx = geometry.image_shape
        projections = astra.create_proj_geom("parallel", spacing, geometry.n_bins, np.array(geometry.angles))
        projector = astra.create_projector("linear", projections, astra.create_vol_geom(ny, nx))
        number = astra.projector.matrix(projector)
        theirs = astra.matrix.get(number).toarray()
        astra.matrix.delete(number)
        astra.projector.delete(projector)
        ours = columns(XRay(geometry, backend), (ny, nx))(torch.float64).numpy()
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("geometry", geometries(1.0)[:5], ids=range(5))
def test_astra_backend_keeps_the_promises_of_an_operator(geometry):
    assert check(xray(geometry, "astra"), dtypes=(torch.float32,)).adjoint <= 1


# (value, semi-axes, centre) in units of the half width of the image
SHAPES = ((1.0, (0.6, 0.35), (0.15, -0.1)), (0.7, (0.3, 0.3), (0.2, 0.1)))


def analytic_sinogram(geometry):
    """∫ of the ellipses along every ray: 2√((p·d)² − |d|²(|p|² − 1)) / |d|² in units of the semi-axes."""
    half = geometry.extent[1] / 2
    point, direction = geometry.rays()
    total = np.zeros(geometry.sinogram_shape)
    for value, axes, centre in SHAPES:
        p = (point / half - np.array(centre)) / np.array(axes)
        d = direction / np.array(axes)
        dd = (d * d).sum(-1)
        inside = (p * d).sum(-1) ** 2 - dd * ((p * p).sum(-1) - 1)
        total += value * half * 2 * np.sqrt(np.maximum(inside, 0)) / dd
    return torch.from_numpy(total)


def rasterised(n, oversampling=16):
    """The ellipses averaged over `oversampling`² points of every pixel."""
    t = (np.arange(n * oversampling) + 0.5) / (n * oversampling) * 2 - 1
    x, y = t[None, :], -t[:, None]
    fine = sum(
        value * (((x - cx) / ax) ** 2 + ((y - cy) / ay) ** 2 <= 1).astype(float)
        for value, (ax, ay), (cx, cy) in SHAPES
    )
    return torch.from_numpy(fine.reshape(n, oversampling, n, oversampling).mean((1, 3)))


def scanner(kind, n):
    h = 2 / n
    angles = [(math.pi if kind == "parallel" else 2 * math.pi) * k / n for k in range(n)]
    if kind == "parallel":
        return ParallelBeam((n, n), h, angles, 3 * n // 2, h)
    return FanBeam((n, n), h, angles, 3 * n // 2, 2 * h, 3.0, 6.0, detector=kind)


@pytest.mark.parametrize(
    ("backend", "kind"),
    [*itertools.product(("auto", "numba", "astra"), ("parallel", "flat", "arc")), ("sparse", "arc")],
)
def test_approaches_analytic_sinograms_in_first_order(backend, kind):
    sizes = (64, 128) if backend == "sparse" else (64, 128, 256)  # a larger matrix takes seconds to build
    errors = []
    for n in sizes:
        geometry = scanner(kind, n)
        truth = analytic_sinogram(geometry)
        sinogram = xray(geometry, backend)(rasterised(n).float()).double()
        errors.append(float((sinogram - truth).norm() / truth.norm()))
    assert all(error <= bound for error, bound in zip(errors, (0.03, 0.015, 0.008), strict=False))
    assert math.log2(errors[0] / errors[-1]) / (len(sizes) - 1) >= 0.9


@pytest.mark.parametrize("offset", (0.0, 4.0, -2.0))
@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_parallel_ray_sees_the_top_right_pixel_where_it_is(backend, offset):
    n, h = 16, 2.0
    x = torch.zeros(n, n)
    x[1, n - 3] = 1.0
    right, up = (n - 3 - (n - 1) / 2) * h, ((n - 1) / 2 - 1) * h
    geometry = ParallelBeam((n, n), h, [0.0, math.pi / 2], 24, h, offset=offset)
    y = xray(geometry, backend)(x)
    for view, u in enumerate((right, up)):
        expected = torch.zeros(24)
        expected[round((u - offset) / h + 23 / 2)] = h
        assert torch.allclose(y[view], expected, atol=1e-5)


@pytest.mark.parametrize("offset", (0.0, 7.0))
@pytest.mark.parametrize("detector", ("flat", "arc"))
@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_fan_ray_sees_the_top_right_pixel_where_it_is(backend, detector, offset):
    n, h, source, far = 16, 2.0, 60.0, 120.0
    x = torch.zeros(n, n)
    x[1, n - 3] = 1.0
    right, up = (n - 3 - (n - 1) / 2) * h, ((n - 1) / 2 - 1) * h
    geometry = FanBeam((n, n), h, [0.0, math.pi / 2], 400, 0.4, source, far, detector=detector, offset=offset)
    y = xray(geometry, backend)(x).double()
    # at 0° the source is below and u points right; at 90° it is on the right and u points up
    for view, gamma in enumerate((math.atan2(right, source + up), math.atan2(up, source - right))):
        u = far * (gamma if detector == "arc" else math.tan(gamma))
        centroid = float((y[view] * torch.from_numpy(geometry.bins())).sum() / y[view].sum())
        assert centroid == pytest.approx(u, abs=0.4)  # one bin; the footprint of a pixel is not symmetric


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_an_image_alone_equals_itself_in_any_batch(backend):
    for geometry in (geometries(1.0)[0], geometries(1.0)[1], geometries(1.0)[4]):
        A = xray(geometry, backend)
        x, y = random(11, *A.in_shape), random(11, *A.out_shape)
        for batch in (1, 2, 7, 8, 9):
            assert torch.allclose(A(x[:batch])[-1], A(x[batch - 1]), atol=1e-5)
            assert torch.allclose(A.adjoint(y[:batch])[-1], A.adjoint(y[batch - 1]), atol=1e-5)
        assert A(x.reshape(11, 1, *A.in_shape)).shape == (11, 1, *A.out_shape)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_empty_batch_non_contiguous_and_read_only(backend):
    A = xray(FanBeam((9, 9), 1.0, TURN, 13, 2.0, 20.0, 40.0), backend)
    x = random(3, 9, 9)
    assert A(x[:0]).shape == (0, 12, 13)
    assert A.adjoint(A(x)[:0]).shape == (0, 9, 9)
    strided = random(9, 9, 3).permute(2, 1, 0)
    assert torch.equal(A(strided), A(strided.contiguous()))
    assert torch.equal(A(torch.view_as_complex(random(9, 9, 2)).conj().imag), -A(random(9, 9, 2)[..., 1]))
    locked = x.numpy().copy()
    locked.setflags(write=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        read_only = torch.from_numpy(locked)
    assert torch.equal(A(read_only), A(x))
    assert np.array_equal(locked, x.numpy())


@pytest.mark.parametrize("angles", (list, np.asarray, torch.tensor))
def test_angles_as_list_array_or_tensor(angles):
    geometry = ParallelBeam((9, 9), 1.0, angles(HALF), 13, 1.0)
    as_float32 = np.float32 if angles is torch.tensor else float
    assert geometry == ParallelBeam((9, 9), 1.0, [float(as_float32(a)) for a in HALF], 13, 1.0)
    assert XRay(geometry)(random(9, 9)).shape == (12, 13)


def test_auto_takes_a_matrix_only_where_it_is_small():
    def chosen(n, views, angles=None):
        angles = angles or [math.pi * k / views for k in range(views)]
        return XRay(ParallelBeam((n, n), 1.0, angles, 3 * n // 2, 1.0))._on_cpu()

    assert chosen(16, 12) == "sparse"
    assert chosen(64, 30) == "numba"  # uniform angles share lanes
    assert chosen(48, 20, [0.01 * k * k for k in range(20)]) == "sparse"  # these do not
    assert chosen(64, 60, [0.01 * k * k for k in range(60)]) == "numba"


def test_subset_is_the_views_of_the_whole():
    A = XRay(FanBeam((9, 9), 1.0, TURN, 13, 2.0, 20.0, 40.0), "numba")
    x = random(9, 9, dtype=torch.float64)
    for views in (slice(1, None, 3), [5, 0, 7]):
        assert torch.allclose(A.subset(views)(x), A(x)[views], rtol=0, atol=1e-12)
    assert A.subset([0]).backend == "numba"


def test_derivatives_are_exact():
    A = XRay(ParallelBeam((4, 5), 1.0, SCATTERED, 6, 1.2), "numba")
    x = random(2, 4, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(A, (x,))
    assert torch.autograd.gradgradcheck(A, (x,))


def test_norm_is_the_largest_singular_value():
    geometry = geometries(1.0)[4]
    largest = torch.linalg.matrix_norm(columns(XRay(geometry), (9, 9))(torch.float64), 2)
    assert XRay(geometry).norm() == pytest.approx(float(largest), rel=1e-3)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_three_threads_at_once(backend):
    A = xray(FanBeam((48, 48), 1.0, TURN, 80, 2.0, 80.0, 160.0), backend)
    images = [random(6, 48, 48, seed=k) for k in range(3)]
    expected = [(A(x), A.adjoint(A(x))) for x in images]
    found = [[] for _ in images]

    def work(k):
        for _ in range(5):
            found[k].append((A(images[k]), A.adjoint(expected[k][0])))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pair, results in zip(expected, found, strict=True):
        assert len(results) == 5
        assert all(torch.equal(a, b) for result in results for a, b in zip(pair, result, strict=True))


@pytest.mark.parametrize("method", ("fork", "spawn"))
@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_in_dataloader_workers(backend, method):
    if method == "spawn" and backend != "numba":
        pytest.skip("a spawned worker is a new process for every backend alike")
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    A = xray(FanBeam((48, 48), 1.0, TURN, 80, 2.0, 80.0, 160.0), backend)
    images = [random(2, 48, 48, seed=k) for k in range(3)]
    expected = [A(x) for x in images]  # so that this process has its threads before the fork
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*")
        loader = DataLoader(
            images, batch_size=None, collate_fn=A, num_workers=1, multiprocessing_context=method, timeout=120
        )
        found = list(loader)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True))


KERNELS_USED = """
import torch
from operators import ParallelBeam, XRay
from operators.backends import joseph_kernels as kernels
A = XRay(ParallelBeam((9, 9), 1.0, [0.1, 0.2], 11, 1.0), "numba")
A.adjoint(A(torch.ones(9, 9)))
stats = [getattr(kernels, name).stats for name in ("pack", "project", "spread", "scatter", "collect")]
print([sum(s.cache_hits.values()) for s in stats], [sum(s.cache_misses.values()) for s in stats])
"""


def test_first_call_compiles_once_and_is_kept_on_disk(tmp_path):
    def run():
        root = Path(__file__).parents[2]
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", KERNELS_USED]
        return subprocess.run(
            command, env=environment, cwd=root, capture_output=True, text=True, check=True
        ).stdout

    assert run().strip() == "[0, 0, 0, 0, 0] [1, 1, 1, 1, 1]"
    assert list(tmp_path.rglob("*.nbc"))
    assert run().strip() == "[1, 1, 1, 1, 1] [0, 0, 0, 0, 0]"


CONE = ConeBeam((3, 4, 4), 1.0, HALF, (4, 6), 1.5, 20.0, 30.0)


def test_refuses_what_it_cannot_do():
    geometry = ParallelBeam((9, 9), 1.0, HALF, 13, 1.0)
    x = random(9, 9)
    with pytest.raises(ValueError, match=r"'auto', 'numba', .*, got 'nubma'; did you mean 'numba'"):
        XRay(geometry, "nubma")
    with pytest.raises(
        ValueError, match="'tomosipo' cannot do ParallelBeam, expected one of 'auto', 'numba'"
    ):
        XRay(geometry, "tomosipo")
    with pytest.raises(ValueError, match="'sparse' cannot do ConeBeam, expected one of 'auto', 'numba'"):
        XRay(CONE, "sparse")
    for backend in ("astra", "tomosipo"):
        with pytest.raises(ValueError, match=f"'{backend}' has volumes on CUDA only, got a tensor on cpu"):
            XRay(CONE, backend)(random(3, 4, 4))
    with pytest.raises(ValueError, match="'triton' runs on CUDA, got a tensor on cpu"):
        XRay(CONE, "triton")(random(3, 4, 4))
    with pytest.raises(ValueError, match="expected a geometry of this package"):
        XRay((9, 9))
    for backend in CPU_BACKENDS:
        A = xray(geometry, backend)
        with pytest.raises(ValueError, match=r"got torch.complex64: project x.real and x.imag"):
            A(x.to(torch.complex64))
        with pytest.raises(ValueError, match=r"got torch.float16: use x.float"):
            A.adjoint(A(x).half())
        with pytest.raises(ValueError, match=r"expects shape \(\*batch, 9, 9\), got \(9, 8\)"):
            A(x[:, :8])
        with pytest.raises(ValueError, match=r"got torch\.int64"):
            A(x.long())


def test_astra_refuses_float64():
    A = xray(ParallelBeam((9, 9), 1.0, HALF, 13, 1.0), "astra")
    with pytest.raises(ValueError, match=r"computes in float32, got torch\.float64"):
        A(random(9, 9, dtype=torch.float64))


def test_sparse_states_its_limit_before_it_builds(monkeypatch):
    geometry = ParallelBeam((31, 33), 1.0, [0.3, 0.7], 47, 1.0)
    needed = sparse.nbytes(geometry, torch.float32)
    matrix = sparse.matrix(geometry, np.float32)
    held = 2 * (matrix.data.nbytes + matrix.indices.nbytes) + matrix.indptr.nbytes
    assert held <= needed <= 1.3 * held
    monkeypatch.setattr(sparse, "LIMIT", needed - 1)
    monkeypatch.setattr(sparse, "matrix", lambda *_: pytest.fail("built in spite of the limit"))
    with pytest.raises(ValueError, match="use backend='numba'"):
        XRay(geometry, "sparse")(torch.ones(31, 33))


def test_sparse_forgets_the_least_recently_used(monkeypatch):
    monkeypatch.setattr(sparse, "_remembered", type(sparse._remembered)())
    small = [XRay(ParallelBeam((9, 9), 1.0, [k / 7], 13, 1.0), "sparse") for k in range(4)]
    monkeypatch.setattr(sparse, "LIMIT", 3 * sparse.nbytes(small[0].geometry, torch.float32) + 200)
    for A in small:
        A(torch.ones(9, 9))
    kept = [geometry for geometry, _, _ in sparse._remembered]
    assert small[0].geometry not in kept
    assert small[3].geometry in kept


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ("auto", "sparse", "astra"))
def test_on_cuda_equals_cpu(backend):
    for geometry in geometries(1.0)[:4]:
        A = xray(geometry, backend)
        x, y = random(3, *A.in_shape), random(3, *A.out_shape)
        tolerance = 1e-5 if A.adjoint_is_exact else 5e-2  # the textures of CUDA interpolate with 8 bits
        reference = XRay(geometry, "numba")
        for found, expected in ((A(x.cuda()), reference(x)), (A.adjoint(y.cuda()), reference.adjoint(y))):
            assert (found.cpu() - expected).norm() <= tolerance * expected.norm()


def test_mismatch_tells_a_transpose_from_a_good_guess():
    A = XRay(FanBeam((9, 9), 1.0, TURN, 12, 3.4, 20.0, 40.0))
    assert mismatch(A, torch.float64) < 1e-15
    assert mismatch(A) < 1e-6

    class Shifted(XRay):
        def _adjoint(self, y):
            return super()._adjoint(y.roll(1, -1))

    assert mismatch(Shifted(A.geometry)) > 1e-3
