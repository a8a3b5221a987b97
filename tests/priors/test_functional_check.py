"""`check` notices what it is there to notice."""

import math

import pytest
import torch

from priors import L1, L21, TV, Functional, Huber, NonNegative, SquaredL2
from priors.testing import check


class WrongThreshold(L1):
    def prox(self, x, step):
        return super().prox(x, 0.9 * step)

    def conjugate(self, y):
        raise NotImplementedError


class WrongGradient(Huber):
    def grad(self, x):
        return 1.001 * super().grad(x)


class WrongConjugate(SquaredL2):
    def conjugate(self, y):
        return 1.01 * super().conjugate(y)


class WrongLipschitz(SquaredL2):
    lipschitz = 0.5


class WrongProxConj(L1):
    def prox_conj(self, y, step):
        return y.clamp(-0.99, 0.99)


class SumsTheBatch(SquaredL2):
    def forward(self, x):
        return super().forward(x).sum()


class NormalisesTheBatch(SquaredL2):
    def forward(self, x):
        return super().forward(x / (x.abs().sum() + 1))

    grad = Functional.grad


class Remembers(SquaredL2):
    last = 0.0

    def prox(self, x, step):
        z = super().prox(x, step) + 1e-3 * self.last
        self.last = float(x.abs().sum())
        return z


class WritesOnItsArgument(SquaredL2):
    def grad(self, x):
        return x.mul_(1.5)


class ReturnsDouble(SquaredL2):
    def forward(self, x):
        return super().forward(x).double()


class LeavesTheSet(NonNegative):
    def prox(self, x, step):
        return x.clamp(min=-1e-4)


class WrongFusedStep(TV):
    def dual_step(self, p, x_bar, sigma):
        return super().dual_step(p, x_bar, 1.001 * sigma)


@pytest.mark.parametrize(
    ("f", "shape", "text"),
    [
        (WrongThreshold(), (3, 4), "not the minimiser"),
        (WrongGradient(0.5), (3, 4), "grad and autograd"),
        (WrongConjugate(), (3, 4), "Fenchel"),
        (WrongLipschitz(), (3, 4), "lipschitz"),
        (WrongProxConj(), (3, 4), "Moreau"),
        (SumsTheBatch(), (3, 4), "one real value per image"),
        (NormalisesTheBatch(), (3, 4), "beside a brighter one"),
        (Remembers(), (3, 4), "memory"),
        (WritesOnItsArgument(), (3, 4), "changed its argument"),
        (ReturnsDouble(), (3, 4), "expected torch.float32"),
        (LeavesTheSet(), (3, 4), "not finite"),
        (WrongFusedStep((3, 4)), (3, 4), "fused and plain"),
        (L21(), (3, 4), "ndim"),
    ],
)
def test_a_wrong_functional_is_found(f, shape, text):
    with pytest.raises(AssertionError, match=text):
        check(f, shape)


def test_per_image_weights_and_open_boxes_pass():
    check(2.5 * SquaredL2(0.2), (3, 4), complex_input=True)
    assert math.isinf(float(NonNegative()(-torch.ones(1, 1))))
