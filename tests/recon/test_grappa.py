"""GRAPPA: exact where neighbours explain k-space, close for smooth maps, and clear about other masks."""

import pytest
import torch

from operators import Gaussian, Identity, Poisson, Sense, birdcage, g_factor
from operators.coils import to_images, to_kspace
from recon import CGLS, GRAPPA, METHODS, Problem, pseudo_replica
from recon.grappa import fill

DOUBLE = torch.complex128


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def lines(n, R, centre, offset=0):
    m = torch.zeros(n, dtype=torch.bool)
    m[offset::R] = True
    m[n // 2 - centre // 2 : n // 2 - centre // 2 + centre] = True
    return m


def head(shape):
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape), indexing="ij")
    inside = (x / 0.7) ** 2 + (y / 0.85) ** 2 < 1
    size = inside * (1 + 0.5 * torch.cos(7 * x) * torch.sin(9 * y + 1))
    return size * torch.exp(1j * (1.5 * x + y * y - 0.7))


def problem(mask, shape=(64, 60), sigma=1e-6, coils=8, seed=0, images=1):
    A = Sense(mask, birdcage(coils, shape, dtype=DOUBLE))
    x = torch.stack([head(shape) * (1 + k) for k in range(images)])
    x = x[0] if images == 1 else x
    noise = Gaussian(sigma, data_ndim=3, mask=A.sampled)
    return Problem(A, noise(A(x), seed=seed), noise), x


def error(x, truth):
    return float((x - truth).norm() / truth.norm())


@pytest.mark.parametrize("R", [2, 3])
@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("offset", [0, 1])
def test_exact_where_sensitivities_are_a_few_harmonics(R, axis, offset):
    """S_c = Σ_m a_cm e^{2πi m x/n}: y_c(k) = Σ_m a_cm f(k − m), so R coils of one line tell R lines."""
    n, other = 40, 14
    f = torch.zeros(other, n, dtype=DOUBLE)
    f[:, 5:-5] = random(other, n - 10)  # nothing at the border, which a DFT would join
    y = torch.einsum("cm,myx->cyx", random(R, R, seed=1), torch.stack([f.roll(m, -1) for m in range(R)]))
    mask = lines(n, R, 16, offset).expand(other, n)
    if axis == -2:
        y, mask = y.mT.contiguous(), mask.T
    filled = fill(y * mask, mask, regularisation=1e-13)
    # the kernel is not unique here; regularisation of 1e-13 picks one and leaves about its root
    assert float((filled - y).abs().max()) < 1e-6
    assert error(y * mask, y) > 0.3


def test_filled_point_by_point_is_the_same():
    """The kernels again, as loops over points."""
    y, mask = random(2, 11, 13), lines(13, 2, 7)
    done = fill(y * mask, mask, kernel=(3, 2), regularisation=1e-3)
    deltas = [(a, b) for a in (-1, 0, 1) for b in (-1, 1)]
    box = [k for k in range(13) if all(bool(mask[j]) for j in range(min(k, 6), max(k, 6) + 1))]
    rows, targets = [], []
    for ky in range(1, 10):
        for kx in box[1:-1]:
            rows.append([y[c, ky + a, kx + b] for a, b in deltas for c in range(2)])
            targets.append([y[c, ky, kx] for c in range(2)])
    S, T = torch.tensor(rows, dtype=DOUBLE), torch.tensor(targets, dtype=DOUBLE)
    gram = S.mH @ S
    shift = 1e-3 * gram.diagonal().real.mean() * torch.eye(12)
    weights = torch.linalg.solve(gram + shift, S.mH @ T)
    padded = torch.nn.functional.pad(y * mask, (1, 1, 1, 1))
    for ky in range(11):
        for kx in range(13):
            found = done[:, ky, kx]
            if mask[kx]:
                assert torch.equal(found, y[:, ky, kx])
                continue
            near = torch.stack([padded[c, ky + a + 1, kx + b + 1] for a, b in deltas for c in range(2)])
            torch.testing.assert_close(found, near @ weights)


MASKS = {
    "kx, R=2": lines(60, 2, 20, 1),
    "kx, R=3": lines(60, 3, 20, 2),
    "ky, R=3": lines(64, 3, 20)[:, None],
    "2 x 2": (lines(64, 2, 0, 1)[:, None] & lines(60, 2, 0)),
    "shifted 2 x 2": (torch.arange(64)[:, None] + torch.arange(60)) % 2 == 0,
}
for _name in ("2 x 2", "shifted 2 x 2"):
    MASKS[_name][22:42, 20:40] = True


@pytest.mark.parametrize("name", MASKS)
def test_approaches_smooth_maps(name):
    p, x = problem(MASKS[name])
    full = to_kspace(p.A.maps * x, (-2, -1))
    # beyond the border k-space is 0, while the DFT of a sharp object goes on: its rim is another matter
    inner = (slice(None), slice(6, -6), slice(6, -6))
    for regularisation, allowed in ((1e-4, 0.2), (1e-6, 0.03), (1e-8, 0.006)):
        filled = fill(p.y, p.A.sampled, regularisation=regularisation)
        assert error(filled[inner], full[inner]) < allowed * error(p.y[inner], full[inner])
    assert error(GRAPPA(combine="sense")(p), x) < 0.03
    image = GRAPPA()(p)
    assert not image.is_complex()
    assert error(image, x.abs()) < 0.03
    sampled = p.A.sampled.expand(p.y.shape)
    assert torch.equal(filled[sampled], p.y[sampled])


@pytest.mark.parametrize("axis", [-3, -2])
def test_volumes_of_a_few_harmonics_are_exact(axis):
    f = torch.zeros(24, 7, 6, dtype=DOUBLE)
    f[4:-4] = random(16, 7, 6)
    y = torch.einsum("cm,mzyx->czyx", random(2, 2, seed=1), torch.stack([f, f.roll(1, 0)]))
    mask = lines(24, 2, 12)[:, None, None]
    y, mask = y.transpose(1, axis), mask.transpose(0, axis)
    filled = fill(y * mask, mask, kernel=(3, 4), regularisation=1e-13, ndim=3)
    assert float((filled - y).abs().max()) < 1e-6  # as above
    shape = tuple(y.shape[1:])
    A = Sense(mask.expand(shape), birdcage(2, shape, dtype=DOUBLE))
    p = Problem(A, y * mask, Gaussian(0.01, data_ndim=4, mask=A.sampled))
    wanted = torch.linalg.vector_norm(to_images(y, (-3, -2, -1)), dim=0)
    assert float((GRAPPA((3, 4), regularisation=1e-13)(p) - wanted).abs().max()) < 1e-6


def test_batches_frames_and_precision():
    p, _ = problem(MASKS["kx, R=2"], images=2, sigma=0.01)
    one = GRAPPA()
    both = one(p)
    for k in range(2):
        torch.testing.assert_close(one(Problem(p.A, p.y[k], p.noise)), both[k])
    single = Problem(p.A, p.y.to(torch.complex64), p.noise)
    assert one(single).dtype == torch.float32
    torch.testing.assert_close(one(single), both.float(), atol=1e-3, rtol=0)
    masks = torch.stack([lines(60, 2, 20, 0), lines(60, 2, 20, 1)])[:, None]
    A = Sense(masks, p.A.maps)
    x = head((64, 60))
    y = A(torch.stack([x, x]))
    frames = one(Problem(A, y, Gaussian(0.01, data_ndim=4)))
    for t in range(2):
        still = Problem(Sense(masks[t], p.A.maps), y[t], Gaussian(0.01, data_ndim=3))
        torch.testing.assert_close(frames[t], one(still))


def test_the_scale_does_not_depend_on_that_of_the_maps_or_the_mask():
    p, x = problem(MASKS["kx, R=2"])
    maps = p.A.maps * (2 + torch.arange(64.0).double()[:, None] / 64)
    maps[:, :2] = 0
    A = Sense(3 * MASKS["kx, R=2"], maps)
    for combine, truth in (("rss", x.abs()), ("sense", x)):
        found = GRAPPA(combine=combine)(Problem(A, A(x), Gaussian(0.1, data_ndim=3)))
        assert error(found, truth) < 0.05
        assert not (found[:2] != 0).any()


def test_all_sampled_is_left_alone():
    y = random(3, 8, 9)
    assert torch.equal(fill(y), y)


def test_noise_is_amplified_as_much_as_weights_say_and_errors_fall_with_it():
    errors = []
    for sigma in (0.04, 0.02, 0.01):
        p, x = problem(MASKS["kx, R=2"], sigma=sigma)
        errors.append(error(GRAPPA(combine="sense")(p), x))
    assert errors == sorted(errors, reverse=True)
    full, x = problem(torch.ones(60), sigma=0.04)
    # half the data, so √2 of the noise at least, and no more than twice that at R = 2 with eight coils
    assert (
        error(GRAPPA(combine="sense")(full), x)
        < errors[0]
        < 2 * 2**0.5 * error(GRAPPA(combine="sense")(full), x)
    )


def test_pseudo_replicas_agree_with_the_closed_form():
    """Least squares run to its end has variance (A*A)⁻¹ σ², of which the g-factor knows the diagonal."""
    shape, sigma, K = (12, 12), 0.3, 15
    A = Sense(lines(12, 2, 0), birdcage(6, shape, dtype=DOUBLE))
    noise = Gaussian(sigma, data_ndim=3, mask=A.sampled)
    p = Problem(A, noise(A(head(shape))).expand(20, 6, 12, 12), noise)
    std = pseudo_replica(CGLS(60), p, replicas=K).square().mean(0).sqrt()
    wanted = sigma * g_factor(A) * A.acceleration**0.5 / A.maps.abs().square().sum(0).sqrt()
    # one pixel: (4 · 20 K)^−½ = 2.9 %, of 144 the worst by 4.5 of these; their mean by far less
    assert float((std / wanted - 1).abs().max()) < 0.14
    assert float((std / wanted).mean()) == pytest.approx(1, abs=0.01)


def test_is_a_method():
    assert METHODS["grappa"] is GRAPPA
    p, _ = problem(MASKS["kx, R=2"])
    for method in GRAPPA.examples():
        assert method(p).shape == (64, 60)


RANDOM = torch.rand(60, generator=torch.Generator().manual_seed(0)) < 0.5
RANDOM[20:40] = True
Y = random(3, 20, 21)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GRAPPA()(problem(RANDOM)[0]), "GRAPPA needs regular sampling"),
        (lambda: fill(Y * lines(21, 2, 0), lines(21, 2, 0)), "smaller than the kernel"),
        (lambda: fill(Y * lines(21, 2, 0, 1), lines(21, 2, 0, 1)), "middle of k-space is not sampled"),
        (
            lambda: fill(Y * lines(21, 30, 9, 20), lines(21, 30, 9, 20) & (torch.arange(21) < 15)),
            "regular sampling",
        ),
        (lambda: fill(Y * lines(21, 2, 11), lines(21, 2, 11), calibration=15), "not fully sampled"),
        (lambda: fill(Y * lines(21, 2, 11), lines(21, 2, 11), calibration=22), "sides between"),
        (lambda: fill(Y * 0, lines(21, 2, 9)), "zero everywhere"),
        (lambda: fill(Y.real, lines(21, 2, 9)), "complex"),
        (
            lambda: fill(Y * lines(21, 2, 9), lines(21, 2, 9), (5, 2), (6, 9), regularisation=0),
            "can not determine",
        ),
        (lambda: GRAPPA(kernel=(5, 0)), "kernel"),
        (lambda: GRAPPA(regularisation=-1.0), "regularisation"),
        (lambda: GRAPPA(combine="sum"), "rss"),
        (
            lambda: GRAPPA()(Problem(Sense(torch.ones(4, 4)), random(4, 4), Gaussian(1.0))),
            "Sense with maps",
        ),
        (lambda: pseudo_replica(CGLS(1), problem(RANDOM)[0], 1), "at least 2"),
        (lambda: pseudo_replica(CGLS(1), Problem(Identity((3, 3)), torch.ones(3, 3), Poisson())), "Gaussian"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
