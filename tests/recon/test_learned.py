import json
import math

import pytest
import torch

from operators import Gaussian, NonUniformFourier, ParallelBeam, XRay
from recon import (
    AUTOMAP,
    METHODS,
    AdversarialRegularisation,
    FBPUNet,
    LearnedGradient,
    LearnedPrimalDual,
    Problem,
)
from recon.baselines.automap import AUTOMAPConfig
from recon.baselines.postprocess import FBPUNetConfig
from recon.checkpoints import read_tensors, write_tensors
from recon.data import PairedData, SimulatedPairs
from recon.data.sets import selected
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
        (lambda c: c.update(format=True), "format"),
        (lambda c: c.update(method=["learned-primal-dual"]), "name of a method"),
        (lambda c: c["config"].update(learning_rate=10**400), "learning_rate|float"),
        (lambda c: c["config"].update(shared="no"), "shared: expected True or False"),
        (lambda c: c["trained_for"].update(norm=True), "norm"),
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


def test_a_point_in_the_name_is_no_suffix(tmp_path):
    method, _ = fitted(LearnedPrimalDual)
    paths = [method.save(tmp_path / name) for name in ("run-0.1", "run-0.2")]
    assert [p.name for p in paths] == ["run-0.1.safetensors", "run-0.2.safetensors"]
    assert len(list(tmp_path.iterdir())) == 4
    for given in (tmp_path / "run-0.1", *paths, tmp_path / "run-0.2.json"):
        assert LearnedPrimalDual.load(given).config == method.config


def test_what_does_not_fit_into_half_precision_stays_single(tmp_path):
    method, _ = fitted(LearnedPrimalDual)
    large = next(p for p in method.parameters() if p.numel() > 64)
    with torch.no_grad():
        large.view(-1)[0] = 1e5
    method.save(tmp_path / "w", half=True)
    kept = dict(LearnedPrimalDual.load(tmp_path / "w").named_parameters())
    name = next(k for k, p in method.named_parameters() if p is large)
    assert torch.equal(kept[name], large)
    with torch.no_grad():
        large.view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match="NaN or inf"):
        method.save(tmp_path / "w")


def test_a_card_that_cannot_be_written_leaves_the_pair_before(tmp_path, monkeypatch):
    from pathlib import Path

    method, data = fitted(LearnedPrimalDual)
    method.save(tmp_path / "w")
    real = Path.open

    def full(self, *arguments, **keywords):
        if ".json." in self.name:
            raise OSError(28, "No space left on device")
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left"):
        type(method)(method.config, seed=1).fit(data).save(tmp_path / "w")
    monkeypatch.undo()
    assert LearnedPrimalDual.load(tmp_path / "w").config == method.config
    assert len(list(tmp_path.iterdir())) == 2


def test_a_black_validation_image_ends_no_training():
    data = boxes_data()
    problem, truth = data.validation
    whole = LearnedPrimalDual.examples()[0].fit(data)
    truth = truth.clone()
    truth[1] = 0
    told = whole.scores(PairedData(data.train, (problem, truth)))
    keep = torch.tensor([0, 2, 3])
    expected = whole.scores(PairedData(data.train, (selected(problem, keep), truth[keep])))
    assert told == pytest.approx(expected, rel=1e-6)
    assert whole.scores(PairedData(data.train, (problem, 0 * truth))) == {}


def test_validation_data_of_another_scanner_are_refused_before_training():
    data, steps = boxes_data(), []
    A = XRay(geometry(shift=0.1))
    other = Problem(A, data.validation[0].y, data.validation[0].noise)
    with pytest.raises(ValueError, match="of the same shapes"):
        LearnedPrimalDual.examples()[0].fit(
            PairedData(data.train, (other, data.validation[1])), callback=steps.append
        )
    assert not steps


def test_another_trajectory_of_the_same_shape_is_refused():
    generator = torch.Generator().manual_seed(0)

    def problem(reach):
        k = reach * (2 * torch.rand(150, 2, generator=generator) - 1)
        A = NonUniformFourier((12, 12), k)
        x = torch.rand(3, 12, 12, generator=generator).to(torch.complex64)
        return Problem(A, A(x), Gaussian(sigma=0.01, data_ndim=1)), x

    one, other = problem(3.0), problem(0.3)
    method = LearnedGradient(steps=2, batch_size=2, iterations=2).fit(PairedData(one, one))
    assert method(one[0]).isfinite().all()
    with pytest.raises(ValueError, match="trajectory"):
        method(other[0])


def test_a_checkpoint_of_another_scanner_is_refused(tmp_path):
    path, small = tmp_path / "run.safetensors", LearnedPrimalDual.examples()[0]
    small.fit(boxes_data(), checkpoint=path)
    turned = SimulatedPairs(
        geometry(shift=0.1), Gaussian(relative=0.05), boxes, validation_size=4, name="boxes"
    )
    with pytest.raises(ValueError, match="scanner hash"):
        LearnedPrimalDual.examples()[0].fit(turned, checkpoint=path)


def test_fine_tuning_goes_on_from_the_weights_there_are(tmp_path):
    method, data = fitted(LearnedPrimalDual)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    method.fine_tune(data, steps=1, learning_rate=1e-12)
    for k, v in method.state_dict().items():
        torch.testing.assert_close(v, before[k], rtol=0, atol=1e-9)
    assert method.config.steps == 1 and method.record["before"]["data"] == "boxes"
    # another scanner, whose data have another shape: a network of convolutions does not mind
    angles = [(k + 0.5) * math.pi / 9 for k in range(9)]
    other = SimulatedPairs(
        ParallelBeam((12, 12), 1.0, angles, 19, 1.0), Gaussian(relative=0.05), boxes, validation_size=4
    )
    tuned = method.fine_tune(other, steps=2)
    assert tuned.trained_for.out_shape == (9, 19) and tuned(other.validation[0]).shape == (4, 12, 12)
    tuned.save(tmp_path / "tuned")
    assert LearnedPrimalDual.load(tmp_path / "tuned").record["before"]["before"]["data"] == "boxes"
    with pytest.raises(ValueError, match="hidden cannot be changed"):
        method.fine_tune(data, hidden=7)
    with pytest.raises(ValueError, match="nothing learned yet"):
        LearnedPrimalDual().fine_tune(data)
    full, _ = fitted(AUTOMAP)
    before = full(data.validation[0])
    with pytest.raises(ValueError, match="fit it anew"):
        full.fine_tune(other, steps=1)
    assert torch.equal(full(data.validation[0]), before) and full.config == AUTOMAP.examples()[0].config


def test_the_configuration_of_another_method_is_refused():
    with pytest.raises(ValueError, match="expected LearnedPrimalDualConfig, got FBPUNetConfig"):
        LearnedPrimalDual(FBPUNetConfig())


def test_convolutions_meet_other_shapes_where_asked_to():
    method, data = fitted(LearnedPrimalDual)
    angles = [(k + 0.5) * math.pi / 9 for k in range(9)]
    other = XRay(ParallelBeam((14, 16), 1.0, angles, 23, 1.0))
    x = torch.rand(2, 14, 16, generator=torch.Generator().manual_seed(0)) * 0.02
    problem = Problem(other, other(x), Gaussian(sigma=1e-3))
    with pytest.raises(ValueError, match="any_geometry"):
        method(problem)
    method.any_geometry = True
    assert method(problem).shape == (2, 14, 16)
    # A and y are divided by the norm of this A: of the same geometry twice as large in unit the image halves
    twice = 2 * XRay(data.geometry)
    clear = data.validation[0]
    torch.testing.assert_close(
        method(Problem(twice, 2 * clear.y, clear.noise)), method(clear), rtol=1e-3, atol=1e-6
    )
    full, _ = fitted(AUTOMAP)
    full.any_geometry = True
    with pytest.raises(ValueError, match="its layers are for images"):
        full(problem)


def test_fitting_again_says_what_it_forgets():
    method, data = fitted(LearnedPrimalDual)
    with pytest.warns(UserWarning, match="fine_tune"):
        method.fit(data)


def test_what_is_shipped_is_told():
    with pytest.raises(ValueError, match="there are 'ellipses-dival', 'ellipses-small', 'head-lowdose'"):
        LearnedPrimalDual.pretrained()
    for name in ("../learned-gradient-ellipses-dival", "no-such"):
        with pytest.raises(ValueError, match="no such weights"):
            LearnedGradient.pretrained(name)


def test_methods_and_problems_are_told_apart_when_printed():
    from recon import FBP, TotalVariation

    assert repr(FBP("shepp-logan")) == "FBP(filter='shepp-logan')" and "weight=3.0" in repr(
        TotalVariation(3.0)
    )
    assert repr(LearnedPrimalDual(hidden=8)) == "LearnedPrimalDual(hidden=8)"
    A = XRay(geometry())
    text = repr(Problem(A, torch.zeros(2, 6, 17), Gaussian(sigma=1.0)))
    assert text == "Problem(XRay((12, 12) -> (6, 17)), y torch.float32 (2, 6, 17), Gaussian(sigma=1))"
