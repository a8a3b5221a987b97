"""The prior image: closed forms of the shift, and E at the places where it is known."""

import pytest
import torch

from priors import L21, TV, PriorImageTV, Shifted, SquaredL2


def image(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_shifted_square_is_the_targeted_one():
    target, x = image(5, 4), image(3, 5, 4, seed=1)
    f, g = Shifted(SquaredL2(weight=2.0), target), SquaredL2(target, 2.0)
    for call in (
        lambda h: h(x),
        lambda h: h.grad(x),
        lambda h: h.prox(x, 0.3),
        lambda h: h.prox_conj(x, 0.3),
        lambda h: h.conjugate(x),
    ):
        torch.testing.assert_close(call(f), call(g), rtol=1e-12, atol=1e-12)
    assert f.lipschitz == g.lipschitz


def test_the_terms_add_up():
    x_p, x = image(5, 4), image(3, 5, 4, seed=1)
    for alpha, count in ((0.0, 1), (0.3, 2), (1.0, 1)):
        f = PriorImageTV(x_p, 0.5, alpha)
        assert len(f.terms) == count
        torch.testing.assert_close(sum(t(x) for t in f.terms), f(x), rtol=1e-12, atol=0)


def test_ends_of_alpha():
    x_p, x = image(5, 4), image(5, 4, seed=1)
    tv = TV((5, 4), 0.5)
    assert float(PriorImageTV(x_p, 0.5, 1.0)(x_p)) == 0.0
    torch.testing.assert_close(PriorImageTV(x_p, 0.5, 0.0)(x), tv(x))
    torch.testing.assert_close(PriorImageTV(x_p, 0.5, 1.0)(x), tv(x - x_p))


def test_one_prior_image_for_each():
    x_p, x = image(2, 5, 4), image(2, 5, 4, seed=1)
    together = PriorImageTV(x_p)(x)
    for i in range(2):
        torch.testing.assert_close(PriorImageTV(x_p[i])(x[i]), together[i])


def test_a_flat_target_changes_nothing():
    x = image(2, 5, 4)
    f, g = Shifted(L21(), torch.zeros(2, 5, 4, dtype=torch.float64)), L21()
    assert torch.equal(f.prox(x, 0.4), g.prox(x, 0.4))


def test_bad_input():
    with pytest.raises(ValueError, match="alpha"):
        PriorImageTV(image(4, 4), alpha=1.2)
    with pytest.raises(ValueError, match="prior_image"):
        PriorImageTV(image(4))
    with pytest.raises(NotImplementedError, match="no gradient"):
        PriorImageTV(image(4, 4)).grad(image(4, 4))
