import json
import math

import pytest
import torch

from operators import Gaussian, ParallelBeam, XRay
from recon import AUTOMAP, METHODS, AdversarialRegularisation, FBPUNet, LearnedPrimalDual, Problem
from recon.baselines.automap import AUTOMAPConfig
from recon.baselines.postprocess import FBPUNetConfig
from recon.checkpoints import read_tensors, write_tensors
from recon.data import SimulatedPairs
from recon.unrolled.primal_dual import LearnedPrimalDualConfig

LEARNED = [LearnedPrimalDual, FBPUNet, AUTOMAP, AdversarialRegularisation]


def geometry(size=(12, 12), views=6, shift=0.0):
    angles = [(k + 0.5) * math.pi / views + shift for k in range(views)]
    return ParallelBeam(size, 1.0, angles, 17, 1.0)


def boxes(seeds):
    images = torch.zeros(len(seeds), 24, 24)
    for image, seed in zip(images, seeds, strict=True):
        g = torch.Generator().manual_seed(seed)
        top, left = (int(k) for k in torch.randint(2, 12, (2,), generator=g))
        image[top : top + 8, left : left + 9] = 0.02 * (0.5 + torch.rand((), generator=g))
    return images


def boxes_data():
    return SimulatedPairs(geometry(), Gaussian(relative=0.05), boxes, validation_size=4, name="boxes")


def fitted(cls, index=0):
    data = boxes_data()
    method = cls.examples()[index]
    return method.fit(data if method.data_kind == "paired" else data.unpaired()), data


@pytest.fixture(params=LEARNED, ids=lambda c: c.name)
def method_and_data(request):
    return fitted(request.param)


def test_names_and_the_papers_values():
    for name, cls in {
        "learned-primal-dual": LearnedPrimalDual,
        "fbp-unet": FBPUNet,
        "automap": AUTOMAP,
        "adversarial-regularisation": AdversarialRegularisation,
    }.items():
        assert METHODS[name] is cls
    c = LearnedPrimalDualConfig()
    assert (c.iterations, c.channels, c.hidden, c.batch_size, c.reuse) == (10, 5, 32, 5, 10)
    assert (c.learning_rate, c.beta2, c.clip, c.schedule) == (1e-3, 0.99, 1.0, "cosine")
    assert AUTOMAPConfig().rank is None and AUTOMAPConfig().learning_rate == 2e-5
    assert (FBPUNetConfig().base, FBPUNetConfig().norm, FBPUNetConfig().filter) == (64, "none", "hann")


def test_shapes_batches_and_independence(method_and_data):
    method, data = method_and_data
    problem, truth = data.validation
    x = method(problem)
    assert x.shape == truth.shape and not x.requires_grad and not method.training
    for i in (0, 3):
        alone = Problem(problem.A, problem.y[i], problem.noise.select(i))
        torch.testing.assert_close(method(alone), x[i], rtol=1e-5, atol=1e-7)
    two = Problem(problem.A, problem.y.reshape(2, 2, *problem.A.out_shape), Gaussian(sigma=0.01))
    torch.testing.assert_close(method(two).flatten(0, 1), x, rtol=1e-5, atol=1e-7)
    empty = Problem(problem.A, problem.y[:0], Gaussian(sigma=0.01))
    assert method(empty).shape == (0, 12, 12)


def test_bright_neighbours_change_nothing(method_and_data):
    method, data = method_and_data
    y = data.validation[0].y
    noise = Gaussian(sigma=0.01)
    a = method(Problem(data.A, y[:2], noise))[0]
    b = method(Problem(data.A, torch.stack([y[0], 1000 * y[1]]), noise))[0]
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_the_unit_of_the_image_does_not_matter():
    """Everything a thousand times as bright is reconstructed a thousand times as bright."""
    data = boxes_data()
    bright = SimulatedPairs(data.geometry, data.noise, lambda s: 1000 * boxes(s), validation_size=4)
    for cls in (LearnedPrimalDual, FBPUNet, AUTOMAP):
        a, b = (cls.examples()[0].fit(d) for d in (data, bright))
        torch.testing.assert_close(
            1000 * a(data.validation[0]), b(bright.validation[0]), rtol=1e-3, atol=1e-2
        )


def test_gradient_with_respect_to_the_data():
    method, data = fitted(LearnedPrimalDual)
    method = method.double()
    y = data.validation[0].y[0].double()
    noise = Gaussian(sigma=0.01)
    function = lambda v: method(Problem(data.A, v.view(data.A.out_shape), noise)).sum()  # noqa: E731
    z = y.flatten().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(z), z)
    h = torch.randn(z.shape, generator=torch.Generator().manual_seed(0), dtype=z.dtype)
    # so small a step that no rectifier changes side
    numeric = (function(y.flatten() + 1e-7 * h) - function(y.flatten() - 1e-7 * h)) / 2e-7
    torch.testing.assert_close(gradient @ h, numeric, rtol=1e-5, atol=1e-9)


def test_untrained_and_wrong_problems_are_refused(method_and_data):
    method, data = method_and_data
    problem = data.validation[0]
    with pytest.raises(ValueError, match="not trained"):
        type(method)()(problem)
    with pytest.raises(ValueError, match="nothing learned yet"):
        type(method)().save("nowhere")
    other = XRay(geometry(size=(11, 12)))
    with pytest.raises(ValueError, match="trained for images"):
        method(Problem(other, problem.y, problem.noise))
    turned = XRay(geometry(shift=0.01))
    with pytest.raises(ValueError, match="any_geometry"):
        method(Problem(turned, problem.y, problem.noise))
    method.any_geometry = True
    assert method(Problem(turned, problem.y, problem.noise)).shape == (4, 12, 12)


def test_unknown_configuration_is_refused():
    with pytest.raises(ValueError, match="colour"):
        LearnedPrimalDual(colour="red")


@pytest.mark.parametrize("half", [False, True])
def test_saved_and_loaded(method_and_data, tmp_path, half):
    method, data = method_and_data
    problem = data.validation[0]
    path = method.save(tmp_path / "weights", half=half, scores={"psnr_db": 20.0})
    loaded = type(method).load(tmp_path / "weights")
    assert path.name == "weights.safetensors" and type(loaded) is type(method)
    assert loaded.config == method.config and loaded.record == method.record
    assert all(p.dtype == torch.float32 for p in loaded.parameters()) and not loaded.training
    # half precision has 11 bits
    tolerance = (
        {"rtol": 2e-2, "atol": 2e-3 * float(method(problem).abs().max())} if half else {"rtol": 0, "atol": 0}
    )
    torch.testing.assert_close(loaded(problem), method(problem), **tolerance)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["method"] == method.name and card["trained_for"]["in_shape"] == [12, 12]
    assert card["licence"] == "BSD-3-Clause" and card["scores"] == {"psnr_db": 20.0}
    assert card["training"]["data"] == "boxes" and card["training"]["seed"] == 0
    assert len(card["trained_for"]["hash"]) == 16


@pytest.fixture
def saved(tmp_path):
    method, _ = fitted(LearnedPrimalDual)
    return method.save(tmp_path / "lpd")


def edit(path, change):
    card = json.loads(path.with_suffix(".json").read_text())
    change(card)
    path.with_suffix(".json").write_text(json.dumps(card))


def repack(path, change):
    """Change the weights and give the card their hash, as somebody would who means harm."""
    import hashlib

    tensors, _ = read_tensors(path)
    change(tensors)
    content = write_tensors(path, tensors)
    edit(path, lambda c: c["weights"].update(sha256=hashlib.sha256(content).hexdigest()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(extra=1), "unknown .'extra'"),
        (lambda c: c.pop("licence"), "missing .'licence'"),
        (lambda c: c["config"].update(colour="red"), "colour"),
        (lambda c: c["config"].update(hidden="many"), "hidden"),
        (lambda c: c["config"].update(hidden=10**12), "hidden"),
        (lambda c: c["config"].update(iterations=10**12), "iterations"),
        (lambda c: c["config"].update(iterations=3), "missing weights"),
        (lambda c: c["config"].update(hidden=5), "should have shape"),
        (lambda c: c["trained_for"].update(in_shape="everything"), "in_shape"),
        (lambda c: c["trained_for"].pop("norm"), "norm"),
        (lambda c: c["trained_for"].update(norm="nan"), "norm"),
        (lambda c: c.update(method="no-such"), "no-such"),
        (lambda c: c.update(method="deep-image-prior"), "nothing learned"),
        (lambda c: c.update(format=99), "format"),
        (lambda c: c.update(weights=[]), "weights"),
        (lambda c: c["weights"].update(sha256="0" * 64), "damaged"),
    ],
)
def test_hostile_cards_are_refused(saved, change, message):
    edit(saved, change)
    with pytest.raises(ValueError, match=message):
        LearnedPrimalDual.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(next(iter(t))), "missing weights"),
        (lambda t: t.update(extra=torch.zeros(2)), "unknown weights"),
        (lambda t: t.update({next(iter(t)): torch.zeros(3)}), "should have shape"),
        (lambda t: t[next(iter(t))].fill_(torch.nan), "NaN"),
        (lambda t: t.update({k: v.long() for k, v in t.items()}), "floating-point"),
    ],
)
def test_hostile_weights_are_refused(saved, change, message):
    repack(saved, change)
    with pytest.raises(ValueError, match=message):
        LearnedPrimalDual.load(saved)


def test_damaged_files_are_refused(saved):
    whole = saved.read_bytes()
    for content in (whole[:-5], whole[:4], b"", b"\x80\x04pickle", whole[:100] + b"x" + whole[101:]):
        saved.write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged|safetensors"):
            LearnedPrimalDual.load(saved)
    saved.write_bytes(whole)
    assert LearnedPrimalDual.load(saved).trained_for is not None
    for text in ("", "[1]", "{", '"card"', "[" * 100_000):
        saved.with_suffix(".json").write_text(text)
        with pytest.raises(ValueError, match="JSON"):
            LearnedPrimalDual.load(saved)
    with pytest.raises(FileNotFoundError):
        LearnedPrimalDual.load(saved.with_name("nothing"))


class MyOwnUNet(FBPUNet):
    """What a user writes in a script: in no package of ours."""


def test_a_method_of_ones_own_is_saved_and_loaded(tmp_path):
    method, data = fitted(MyOwnUNet)
    method.save(tmp_path / "own")
    again = MyOwnUNet.load(tmp_path / "own")
    assert type(again) is MyOwnUNet
    assert torch.equal(again(data.validation[0]), method(data.validation[0]))
    with pytest.raises(ValueError, match="no method 'my-own-unet'"):
        FBPUNet.load(tmp_path / "own")


def test_loading_another_method_is_refused(saved):
    with pytest.raises(ValueError, match=r"LearnedPrimalDual\.load"):
        FBPUNet.load(saved)


def test_methods_without_weights_have_nothing_to_save():
    from recon import DeepImagePrior

    with pytest.raises(ValueError, match="nothing learned"):
        DeepImagePrior().save("x")
    with pytest.raises(ValueError, match="nothing learned"):
        DeepImagePrior.pretrained("ellipses-small")
