import json
import math

import pytest
import torch

from operators import Gaussian, ParallelBeam, XRay, fbp
from recon import AUTOMAP, AdversarialRegularisation, FBPUNet, LearnedPrimalDual, Problem
from recon.checkpoints import read_tensors, write_tensors
from recon.data import PairedData, SimulatedPairs, UnpairedData
from recon.data.small import ellipses_small
from recon.learned import described
from recon.training import TrainingConfig, train, train_method


def geometry(size=16, views=8):
    angles = [(k + 0.5) * math.pi / views for k in range(views)]
    return ParallelBeam((size, size), 1.0, angles, size + 7, 1.0)


def squares(seeds):
    """One square per image, 32², side 8 to 15, height ½ to 1."""
    images = torch.zeros(len(seeds), 32, 32)
    for image, seed in zip(images, seeds, strict=True):
        g = torch.Generator().manual_seed(seed)
        side, top, left = (int(torch.randint(a, b, (), generator=g)) for a, b in ((8, 16), (2, 14), (2, 14)))
        image[top : top + side, left : left + side] = 0.5 + 0.5 * float(torch.rand((), generator=g))
    return images


def squares_data(**options):
    options = {"validation_size": 6, "test_size": 2, "name": "squares", **options}
    return SimulatedPairs(geometry(), Gaussian(relative=0.05), squares, **options)


def small(**changes):
    return LearnedPrimalDual(
        **{
            "iterations": 2,
            "hidden": 6,
            "steps": 8,
            "batch_size": 2,
            "reuse": 2,
            "checkpoint_every": 4,
            **changes,
        }
    )


def weights(method):
    return torch.cat([p.flatten() for p in method.parameters()])


def first(data, seed=0, size=3):
    return next(data.batches(size, torch.Generator().manual_seed(seed)))


def test_simulated_pairs_are_decided_by_the_generator():
    data = squares_data()
    (a, x), (b, z), (c, w) = first(data), first(data), first(data, seed=1)
    assert a.y.shape == (3, 8, 23) and x.shape == (3, 16, 16)
    assert torch.equal(a.y, b.y) and torch.equal(x, z) and not torch.equal(x, w)
    assert a.A is c.A is data.A
    # a different image, and different noise, for every member of a batch
    assert not torch.equal(x[0], x[1]) and not torch.equal((a.y - data.A(x))[0], (a.y - data.A(x))[1])


def test_simulated_pairs_are_fine_simulations_of_the_truth():
    data = squares_data()
    problem, truth = data.pairs(range(5, 9))
    fine = squares(range(5, 9))
    torch.testing.assert_close(truth, torch.nn.functional.avg_pool2d(fine, 2))
    clean = XRay(data.geometry.refined((32, 32), 2))(fine).unflatten(-1, (-1, 2)).mean(-1)
    sigma = 0.05 * clean.abs().flatten(1).mean(1)
    noise = (problem.y - clean) / sigma.view(-1, 1, 1)
    # 4·8·23 = 736 draws: mean within 4/√736, variance within 4·√(2/736)
    assert abs(noise.mean()) < 0.15 and abs(noise.var() - 1) < 0.21
    # the likelihood sees the σ that was drawn with
    torch.testing.assert_close(problem.variance[:, 0, 0], sigma**2)


def test_no_training_image_is_a_validation_or_test_image():
    data = squares_data()
    seen = []
    data.images = lambda seeds: (seen.append(list(seeds)), squares(seeds))[1]
    first(data), data.validation, data.test, first(data.unpaired()), data.train
    train_seeds, validation, test, unpaired, fixed = map(set, seen)
    kept = validation | test
    assert len(kept) == 8 and not kept & (train_seeds | unpaired | fixed)


def test_unpaired_data_do_not_belong_together():
    data = squares_data(train_size=8)
    (all_problem, truth), (problem, images) = data.train, first(data.unpaired(), size=4)
    problem_of = {int((all_problem.y == y).flatten(1).all(1).int().argmax()) for y in problem.y}
    image_of = {int((truth == x).flatten(1).all(1).int().argmax()) for x in images}
    assert problem_of == {0, 1, 2, 3} and image_of == {4, 5, 6, 7}


def test_endless_unpaired_data_are_fresh_images_for_both():
    data = squares_data()
    problem, images = first(data.unpaired(), size=4)
    paired_problem, truth = first(data, size=8)
    assert torch.equal(problem.y, paired_problem.y[:4]) and torch.equal(images, truth[4:])
    assert len(torch.unique(truth, dim=0)) == 8


def test_few_training_images_come_again():
    data = squares_data(train_size=4)
    truths = torch.cat([first(data, seed)[1] for seed in range(6)])
    assert len(torch.unique(truths, dim=0)) <= 4


def test_paired_data_held_in_memory():
    problem, truth = squares_data().pairs(range(6))
    data = PairedData((problem, truth), (problem, truth), name="mine")
    batch, x = first(data, size=2)
    assert batch.y.shape == (2, 8, 23)
    chosen = [int(k) for k in (truth[None] == x[:, None]).flatten(2).all(-1).int().argmax(1)]
    torch.testing.assert_close(batch.variance, problem.variance[chosen])
    with pytest.raises(ValueError, match="truth"):
        PairedData((problem, truth[:2]), (problem, truth))


def test_ellipses_small_is_the_problem_it_says():
    data = ellipses_small()
    problem, truth = data.pairs([3, 4])
    assert truth.shape == (2, 64, 64) and problem.y.shape == (2, 30, 93)
    assert truth.min() == 0 and 0.9 < truth.max() <= 1
    assert data.geometry.angles[0] == math.pi / 60
    assert data.geometry.n_bins * data.geometry.bin_size == pytest.approx(64 * math.sqrt(2))


def test_training_is_repeatable_and_leaves_the_global_generator():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    data = squares_data()
    a, b, c = small().fit(data), small().fit(data), small(seed=1).fit(data)
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(weights(a), weights(b)) and not torch.equal(weights(a), weights(c))


class Killed(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_killed_and_resumed_gives_the_weights_of_an_unbroken_run(tmp_path, optimizer):
    data = squares_data()
    method = {"average": 0.9, "optimizer": optimizer, "reuse": 3, "validate_every": 3}
    unbroken = small(**method).fit(data)

    def kill(progress):
        if progress.step == 6:
            raise Killed

    path = tmp_path / "run.safetensors"
    with pytest.raises(Killed):
        small(**method).fit(data, checkpoint=path, callback=kill)
    seen = []
    resumed = small(**method).fit(data, checkpoint=path, callback=lambda p: seen.append(p.step))
    assert seen == [5, 6, 7, 8]
    assert torch.equal(weights(resumed), weights(unbroken))
    assert resumed.record["validation"] == unbroken.record["validation"]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["run.curve.csv", "run.safetensors"]


def test_checkpoint_of_another_configuration_is_refused(tmp_path):
    data, path = squares_data(), tmp_path / "run.safetensors"
    small().fit(data, checkpoint=path)
    with pytest.raises(ValueError, match="another configuration"):
        small(learning_rate=0.1).fit(data, checkpoint=path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="safetensors"):
        small().fit(data, checkpoint=path)


def test_checkpoint_survives_a_failed_write(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    write_tensors(path, {"a": torch.ones(3)}, {"step": 1})

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_tensors(path, {"a": torch.zeros(3)})
    tensors, header = read_tensors(path)
    assert torch.equal(tensors["a"], torch.ones(3)) and header == {"step": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_learning_lowers_the_validation_error_and_beats_fbp():
    data = squares_data()
    problem, truth = data.validation
    method = small(iterations=3, hidden=8, steps=150, batch_size=4, reuse=1, learning_rate=5e-3)
    method.fit(data)
    error = [(x - truth).square().mean() for x in (method(problem), fbp(data.A, problem.linear, "hann"))]
    assert error[0] < 0.7 * error[1]
    history = small(steps=1).fit(data).record["validation"]
    assert method.record["validation"] > history + 3


def test_unet_learns_beyond_its_fbp():
    data = squares_data()
    before = FBPUNet(base=6, depth=2, steps=1, learning_rate=1e-12).fit(data).scores(data)
    after = FBPUNet(base=6, depth=2, steps=80, learning_rate=3e-3).fit(data).scores(data)
    assert after["psnr_db_range_truth"] > before["psnr_db_range_truth"] + 2
    assert after["ssim_range_truth"] > before["ssim_range_truth"]


def test_minutes_bound_the_time():
    method = small(steps=10**6).fit(squares_data(), minutes=0.01)
    assert 0 < method.record["steps"] < 10**5 and method.record["seconds"] < 5


def test_schedule_ends_at_zero_and_gradients_are_clipped():
    network = torch.nn.Linear(1, 1, bias=False)
    steps = []
    network.register_forward_pre_hook(lambda *_: steps.append(float(network.weight.detach())))
    config = TrainingConfig(steps=50, optimizer="rmsprop", beta2=0.0, learning_rate=0.1, clip=1e-3)
    loss = lambda problem, images, generator: 1e6 * network(torch.ones(1)).sum()  # noqa: E731
    train(network, loss, squares_data(), config)
    moves = -torch.tensor(steps).diff()
    # RMSProp without memory moves by the rate itself, whatever the gradient's size
    rate = 0.05 * (1 + torch.cos(torch.pi * torch.arange(49) / 50))
    torch.testing.assert_close(moves, rate, rtol=1e-3, atol=1e-5)


def test_nan_loss_is_said():
    network = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match="NaN"):
        train(
            network, lambda *_: network(torch.full((1,), torch.nan)).sum(), squares_data(), TrainingConfig()
        )


@pytest.mark.parametrize(
    "changes",
    [{"steps": 0}, {"learning_rate": -1.0}, {"beta1": 1.0}, {"optimizer": "lion"}, {"batch_size": 2.5}],
)
def test_wrong_configurations_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        TrainingConfig(**changes)


def test_fit_wants_its_kind_of_data():
    data = squares_data()
    with pytest.raises(ValueError, match="unpaired"):
        AdversarialRegularisation().fit(data)
    with pytest.raises(ValueError, match="PairedData"):
        small().fit(UnpairedData(data))


def test_train_method_saves_and_cleans_up(tmp_path):
    out = tmp_path / "mine"
    method = train_method(
        "learned-primal-dual", squares_data(), out, iterations=1, hidden=4, steps=3, reuse=1, half=False
    )
    card = json.loads((tmp_path / "mine.json").read_text())
    names = sorted(f.name for f in tmp_path.iterdir())
    assert names == ["mine.curve.csv", "mine.json", "mine.safetensors"]
    assert card["training"]["data"] == "squares" and card["training"]["steps"] == 3
    assert card["scores"].keys() == {"psnr_db_range_truth", "ssim_range_truth"}
    problem, _ = squares_data().validation
    assert torch.equal(LearnedPrimalDual.load(out)(problem), method(problem))
    for arguments, message in ((("fbp", "ellipses-small"), "fbp"), (("automap", "nothing"), "nothing")):
        with pytest.raises(ValueError, match=message):
            train_method(*arguments, out)


@pytest.mark.parametrize("cls", [LearnedPrimalDual, FBPUNet, AUTOMAP, AdversarialRegularisation])
def test_training_in_float64(cls):
    problem, truth = squares_data().pairs(range(6))
    pair = Problem(problem.A, problem.y.double(), problem.noise), truth.double()
    data = PairedData(pair, pair)
    method = cls.examples()[0].fit(data if cls.data_kind == "paired" else data.unpaired())
    assert all(p.dtype == torch.float64 for p in method.parameters())
    assert method(pair[0]).dtype == torch.float64 and method(problem).dtype == torch.float32


def test_a_problem_in_float64_is_answered_in_float64():
    data = squares_data()
    method = small().fit(data)
    problem, _ = data.validation
    double = Problem(problem.A, problem.y.double(), Gaussian(sigma=0.1))
    assert method(double).dtype == torch.float64
    torch.testing.assert_close(method(double).float(), method(problem), rtol=1e-5, atol=1e-5)


def test_images_of_ones_own_are_split_and_made_noisy_anew():
    fine = squares(range(20))
    data = SimulatedPairs.from_images(
        geometry(), Gaussian(relative=0.05), fine, validation=0.1, test=0.2, name="mine"
    )
    small = torch.nn.functional.avg_pool2d(fine, 2)
    torch.testing.assert_close(data.train[1], small[:14])
    torch.testing.assert_close(data.validation[1], small[14:16])
    torch.testing.assert_close(data.test[1], small[16:])
    seen, noises = set(), []
    for problem, truth in [first(data, seed, 14) for seed in range(2)]:
        numbers = [int((small == x).flatten(1).all(1).nonzero()) for x in truth]
        seen |= set(numbers)
        order = torch.tensor(numbers).argsort()
        noises.append((problem.y - data.A(truth))[order])
    assert seen == set(range(14)) and not torch.equal(*noises)
    assert torch.equal(first(data, 3)[0].y, first(data, 3)[0].y)
    card = described(data)
    assert (card["training"], card["validation"], card["noise"]) == (14, 2, "new in every batch")
    for wrong in (fine[:1], fine[0], fine.numpy(), fine.long()):
        with pytest.raises(ValueError, match="from_images"):
            SimulatedPairs.from_images(geometry(), Gaussian(relative=0.05), wrong)
    problem, images = first(data.unpaired(), size=7)
    assert all((small[7:14] == x).flatten(1).all(1).any() for x in images)
