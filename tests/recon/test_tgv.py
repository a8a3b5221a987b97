"""Total generalised variation: affine pieces cost nothing, stairs are not made, TV is above it."""

import math

import pytest
import torch

from operators import Gaussian, Identity, ParallelBeam, ParallelBeam3D, XRay
from operators.strain import Slope, Strain
from recon import Problem, TotalGeneralisedVariation, TotalVariation


def ramp(n: int = 16) -> torch.Tensor:
    """A ramp on the left, a plateau on the right."""
    column = torch.arange(n, dtype=torch.float64)
    return (
        torch.where(column < n / 2, column / n, torch.tensor(0.2, dtype=torch.float64)).expand(n, n).clone()
    )


def noisy(sigma: float = 0.05) -> Problem:
    x = ramp()
    generator = torch.Generator().manual_seed(0)
    y = x + sigma * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return Problem(Identity(tuple(x.shape)), y, Gaussian(sigma))


@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_affine_images_with_their_slope_cost_nothing(shape):
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape), indexing="ij")
    slopes = [0.3, -0.7, 1.1][: len(shape)]
    x = 2 + sum(s * a for s, a in zip(slopes, axes, strict=True))
    together = torch.stack([x, *(torch.full_like(x, s) for s in slopes)])
    assert float(Slope(shape)(together).abs().max()) < 1e-13
    assert float(Strain(shape)(together).abs().max()) == 0


def test_strain_is_the_symmetric_part():
    """w = (0, y): ½(∂_x w_y + ∂_y w_x) = ½ off the diagonal, of which √2 times is stored."""
    y, _ = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    E = Strain((5, 6))(torch.stack([torch.zeros(5, 6), torch.zeros(5, 6), y]))
    assert float(E[:2].abs().max()) == 0
    torch.testing.assert_close(E[2, :-1, :-1], torch.full((4, 5), math.sqrt(0.5)))


def test_a_ramp_has_no_stairs():
    """TV flattens parts of the noisy ramp; TGV keeps its slope and is nearer to the truth."""
    problem, truth = noisy(), ramp()
    tv = TotalVariation(weight=60.0, iterations=600, tolerance=1e-4, positive=False).solve(problem)
    tgv = TotalGeneralisedVariation(60.0, 800, 1e-4, positive=False, beta=2.0).solve(problem)

    def flat(x: torch.Tensor) -> float:
        return float((x[:, 1:7].diff(dim=1).abs() < 0.2 / 16).double().mean())

    assert flat(tv.x) > 3 * flat(tgv.x)
    assert float((tgv.x - truth).norm()) < 0.8 * float((tv.x - truth).norm())
    # w = 0 is allowed, and then it is TV
    assert tv.objective is not None and tgv.objective is not None
    assert float(tgv.objective) < float(tv.objective)


def test_as_a_ct_method_without_the_truth():
    A = XRay(ParallelBeam((16, 16), 1.0, [math.pi * k / 12 for k in range(12)], 25, 1.0))
    truth = ramp(16).float() * 0.02
    y = A(truth)
    generator = torch.Generator().manual_seed(1)
    sigma = 0.02
    problem = Problem(A, y + sigma * torch.randn(y.shape, generator=generator), Gaussian(sigma))
    found = TotalGeneralisedVariation().solve(problem)
    assert found.criterion == "discrepancy"
    assert float(found.x.min()) >= 0
    # χ²/m of the image is what the principle asks for, to the accuracy of its search
    assert float(((A(found.x) - problem.y) / sigma).square().mean()) == pytest.approx(1, abs=0.1)


def test_bad_beta():
    with pytest.raises(ValueError, match=r"beta \[mm\]: expected a positive number, got 0"):
        TotalGeneralisedVariation(beta=0)


def cube(size: float) -> Problem:
    """A noisy ramp on voxels of `size` mm."""
    A = XRay(ParallelBeam3D((4, 6, 6), size, (0.0, 0.5, 1.0, 1.6, 2.1, 2.7), (4, 9), size))
    x = torch.arange(6, dtype=torch.float64).expand(A.in_shape) * 0.02
    generator = torch.Generator().manual_seed(2)
    y = A(x) + 0.05 * size * torch.randn(A.out_shape, generator=generator, dtype=torch.float64)
    return Problem(A, y, Gaussian(0.05 * size, data_ndim=3))


def test_the_weight_keeps_its_meaning_over_voxel_sizes():
    """Twice as large, line integrals and noise as well: TV's integral is 4 times, the strain's twice."""
    options = {"iterations": 1500, "tolerance": 1e-7, "positive": False}
    small = TotalGeneralisedVariation(8.0, beta=1.5, **options)(cube(1.0))
    large = TotalGeneralisedVariation(2.0, beta=3.0, **options)(cube(2.0))
    torch.testing.assert_close(small, large, rtol=0, atol=1e-4)
