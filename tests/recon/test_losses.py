"""The contract, on every example of every loss."""

import copy

import pytest
import torch

from recon.losses import LOSSES, Loss, Weighted

EXAMPLES = [
    pytest.param(*example, id=f"{name}-{k}")
    for name, cls in LOSSES.items()
    for k, example in enumerate(cls.examples())
]
KNOWN = [example for example in EXAMPLES if example.values[3] is not None]
every = pytest.mark.parametrize(("loss", "x", "truth", "at_truth"), EXAMPLES)
known = pytest.mark.parametrize(("loss", "x", "truth", "at_truth"), KNOWN)


def part(value, chosen):
    return value[chosen] if isinstance(value, torch.Tensor) else value


def told(value, dtype):
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.to(dtype)
    return value


def values(loss, x, truth):
    loss = copy.copy(loss)
    loss.reduction = "none"
    return loss(x, truth)


def test_every_loss_has_its_name_and_examples():
    for name, cls in LOSSES.items():
        assert issubclass(cls, Loss) and cls.name == name and cls.examples() and len(cls.compares) == 2
        assert (cls.__doc__ or "").strip()


@every
def test_it_is_a_finite_mean_of_one_value_per_image(loss, x, truth, at_truth):
    found = loss(x, truth)
    assert found.shape == () and found.dtype == x.dtype and bool(torch.isfinite(found))
    each = values(loss, x, truth)
    assert each.shape == (len(x),) and len(x) > 1
    # a sum in another order
    torch.testing.assert_close(found, each.mean(), rtol=1e-12, atol=1e-15)
    summed = copy.copy(loss)
    summed.reduction = "sum"
    torch.testing.assert_close(summed(x, truth), each.sum(), rtol=1e-12, atol=1e-15)


@every
def test_an_image_does_not_depend_on_its_batch(loss, x, truth, at_truth):
    together = values(loss, x, truth)
    alone = [values(loss, x[k : k + 1], part(truth, slice(k, k + 1)))[0] for k in range(len(x))]
    # convolutions of one or of several images add in another order
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-9, atol=1e-12)


@known
def test_its_value_at_the_truth(loss, x, truth, at_truth):
    same = x if truth is None else truth
    here = values(loss, same, same)
    torch.testing.assert_close(here, torch.full_like(here, at_truth), rtol=0, atol=1e-7)
    # and nothing near is lower
    assert bool((values(loss, x, truth) > here).all())


@every
def test_its_gradient_is_that_of_finite_differences(loss, x, truth, at_truth):
    x = x.clone().requires_grad_(True)
    # all of the examples are smooth at their x; float64 leaves 1e-6 of an error of step 1e-6
    # along one random direction of all pixels
    assert torch.autograd.gradcheck(lambda v: loss(v, truth), (x,), atol=1e-6, rtol=1e-4, fast_mode=True)
    (slope,) = torch.autograd.grad(loss(x, truth), x)
    assert bool((slope.flatten(1).abs().amax(1) > 0).all())


@known
def test_gradients_are_finite_at_the_truth(loss, x, truth, at_truth):
    x = (x if truth is None else truth).clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(loss(x, truth), x)
    assert bool(torch.isfinite(slope).all())


@every
def test_float32_is_near_float64(loss, x, truth, at_truth):
    single = copy.deepcopy(loss).float()(x.float(), told(truth, torch.float32))
    assert single.dtype == torch.float32
    # sums of at most a few thousand terms of size 1
    torch.testing.assert_close(single.double(), loss(x, truth), rtol=2e-4, atol=1e-6)


@every
def test_masks_count_or_are_refused(loss, x, truth, at_truth):
    mask = torch.zeros(len(x), 1, *x.shape[2:], dtype=torch.bool)
    mask[..., : max(x.shape[-1] // 2, 1)] = True
    if not loss.takes_mask:
        with pytest.raises(ValueError, match="mask"):
            loss(x, truth, mask)
        return
    if getattr(loss, "pool", 1) > 1:
        with pytest.raises(ValueError, match="pool"):
            loss(x, truth, mask)
        return
    found = loss(x, truth, mask)
    outside = torch.where(mask, x, x + 0.3)
    torch.testing.assert_close(loss(outside, truth, mask), found, rtol=1e-12, atol=0)
    # the ε of Dice is in pixels, and weights of 2 are twice as many
    near = 1e-5 if "dice" in (loss.name, getattr(getattr(loss, "loss", None), "name", "")) else 1e-12
    torch.testing.assert_close(loss(x, truth, 2.0 * mask), found, rtol=near, atol=0)
    torch.testing.assert_close(loss(x, truth, torch.ones_like(mask)), loss(x, truth), rtol=1e-12, atol=0)


def test_an_empty_mask_is_zero_and_has_no_slope():
    x = torch.ones(2, 1, 3, 3, requires_grad=True)
    mask = torch.tensor([1.0, 0.0])[:, None, None, None]
    loss = LOSSES["l2"](reduction="none")(x, torch.zeros(2, 1, 3, 3), mask)
    assert loss.tolist() == [1.0, 0.0]
    (slope,) = torch.autograd.grad(loss.sum(), x)
    assert bool((slope[0] > 0).all()) and not slope[1].any()


def test_a_weighted_sum():
    x, truth = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    both = Weighted({"l1": 10.0, "lp": 0.5}, lp={"p": 3.0})
    terms = both.terms(x, truth)
    assert list(terms) == ["l1", "lp"]
    expected = 10 * (x - truth).abs().mean() + 0.5 * (x - truth).abs().pow(3).mean()
    torch.testing.assert_close(both(x, truth), expected)
    torch.testing.assert_close(sum(terms.values()), expected)


IMAGE = torch.zeros(2, 1, 4, 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: LOSSES["l1"]()(IMAGE, IMAGE[:1]), "equal shape"),
        (lambda: LOSSES["l1"]()(IMAGE, None), "truth: expected b"),
        (lambda: LOSSES["l1"]()(IMAGE * 1j, IMAGE), "real"),
        (lambda: LOSSES["l1"]()(IMAGE.int(), IMAGE.int()), "floating-point"),
        (lambda: LOSSES["l1"]()(IMAGE[:0], IMAGE[:0]), "not empty"),
        (lambda: LOSSES["l1"]()(IMAGE.numpy(), IMAGE), "ndarray"),
        (lambda: LOSSES["l1"](reduction="max"), "reduction"),
        (lambda: LOSSES["l1"](pool=0), "pool"),
        (lambda: LOSSES["l1"](pool=5)(IMAGE, IMAGE), "does not fit"),
        (lambda: LOSSES["l1"]()(IMAGE, IMAGE, torch.ones(2, 4, 4)), "mask: expected"),
        (lambda: LOSSES["l1"]()(IMAGE, IMAGE, -torch.ones(4, 4)), "weights ≥ 0"),
        (lambda: LOSSES["lp"](p=0.5), "p: expected"),
        (lambda: LOSSES["huber"](delta=0.0), "delta"),
        (lambda: LOSSES["nmse"]()(IMAGE, IMAGE), "zero everywhere"),
        (lambda: LOSSES["mispair"](mode="gun"), "one of gan, lsgan"),
        (lambda: Weighted({}), "at least one"),
        (lambda: Weighted({"l1": -1.0}), "positive"),
        (lambda: Weighted({"l3": 1.0}), "no loss 'l3'"),
        (lambda: Weighted({"l1": 1.0}, l2={}), "l2 is no loss"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_every_loss_is_in_the_table():
    import recon.losses

    table = recon.losses.__doc__
    rows = {name.strip() for line in table.splitlines() for name in line[4:28].split(",")}
    assert set(LOSSES) | set(recon.losses.ADVERSARIAL) <= rows | {r.split(" ")[0] for r in rows}
    assert all(hasattr(recon.losses, name) for name in recon.losses.__all__)
