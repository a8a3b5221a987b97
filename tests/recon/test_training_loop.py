"""The loop on a toy: a line through points, so that every law can be written out."""

import errno
import json
import math
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn

from operators import ParallelBeam, XRay
from recon.checkpoints import read_tensors, write_tensors
from recon.train_config import OPTIMIZERS, SCHEDULES, TrainingConfig, differences
from recon.train_log import TensorBoard, curve_path, read_curve
from recon.training import DivergedError, _generator, train


class Points:
    """Batches (None, x), x (size, 3) normal."""

    def batches(self, size, generator):
        while True:
            yield None, torch.randn(size, 3, generator=generator)


class Killed(Exception):
    pass


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))


def loss_of(net):
    """Two named terms, one with a draw of its own."""

    def loss(problem, x, generator):
        noise = 0.1 * torch.randn(x.shape, generator=generator)
        error = net(x + noise)[:, 0] - x.sum(1)
        return {"fit": error.square().mean(), "size": 1e-3 * net[0].weight.square().sum()}

    return loss


def config(**changes):
    return TrainingConfig(
        **{"steps": 11, "batch_size": 4, "checkpoint_every": 4, "validate_every": 3, **changes}
    )


def flat(net):
    return torch.cat([v.flatten().double() for v in net.state_dict().values()])


def killing(at):
    def kill(progress):
        if progress.step == at:
            raise Killed

    return kill


SCHEDULE = {"step": {"milestones": (2, 5, 7)}, "inverse": {"inverse_steps": 3}}
OPTIMIZER = {"adamw": {"weight_decay": 0.1}, "sgd": {"weight_decay": 0.01, "learning_rate": 0.02}}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_killed_and_resumed_equals_unbroken_to_the_bit(tmp_path, optimizer, schedule):
    chosen = config(
        optimizer=optimizer, schedule=schedule, warmup=6, average=0.8, accumulate=2, reuse=3,
        **SCHEDULE.get(schedule, {}), **OPTIMIZER.get(optimizer, {}),
    )  # fmt: skip
    unbroken, broken = network(), network()
    whole = train(unbroken, loss_of(unbroken), Points(), chosen, score=lambda: 1.0)
    path = tmp_path / "run.checkpoint.safetensors"
    with pytest.raises(Killed):
        train(broken, loss_of(broken), Points(), chosen, checkpoint=path, callback=killing(7))
    resumed, steps = network(seed=1), []
    after = train(
        resumed, loss_of(resumed), Points(), chosen, score=lambda: 1.0, checkpoint=path,
        callback=lambda p: steps.append(p.step),
    )  # fmt: skip
    assert steps == list(range(5, 12))
    assert torch.equal(flat(resumed), flat(unbroken))
    assert after.losses == whole.losses and after.terms == whole.terms
    assert [row["loss"] for row in after.curve] == [row["loss"] for row in whole.curve]


def test_the_curve_lies_beside_the_weights_and_goes_on(tmp_path):
    path = tmp_path / "run.checkpoint.safetensors"
    scores = iter(range(100))
    for stop in (8, 10, 100):  # the second dies before it has written anything new
        net = network()
        with suppress(Killed):
            progress = train(
                net, loss_of(net), Points(), config(), score=lambda: next(scores), checkpoint=path,
                callback=killing(stop),
            )  # fmt: skip
    rows = read_curve(tmp_path / "run.curve.csv")
    assert [row["step"] for row in rows] == [3, 6, 9, 11] and rows == progress.curve
    assert rows[1]["loss"] == pytest.approx(sum(progress.losses[3:6]) / 3, rel=1e-12)
    assert rows[1]["loss/fit"] + rows[1]["loss/size"] == pytest.approx(rows[1]["loss"], rel=1e-12)
    assert [r["seconds"] for r in rows] == sorted(r["seconds"] for r in rows)
    # score 2 died with the second session, whose step 9 was done again
    assert [row["score"] for row in rows] == [0, 1, 3, 4]


def test_the_weights_of_the_best_score_are_kept(tmp_path):
    """Scores rise to step 6 and fall; one run unbroken, one killed after its best and resumed."""

    def scored(net, seen):
        values = iter((1.0, 3.0, 2.0, 0.5) if not seen else (2.0, 0.5))

        def score():
            seen.append(flat(net))
            return next(values, 3.0)

        return score

    kept = []
    for kill in (False, True):
        net, seen, path = network(), [], tmp_path / f"{kill}.checkpoint.safetensors"
        settings = {"checkpoint": path, "score": scored(net, seen)}
        if kill:
            with suppress(Killed):
                train(net, loss_of(net), Points(), config(choose="best"), callback=killing(8), **settings)
            best = seen[1]
            net = network()
            settings["score"] = scored(net, [None])
        progress = train(net, loss_of(net), Points(), config(choose="best"), **settings)
        best = best if kill else seen[1]
        assert progress.kept == 6
        assert torch.equal(flat(net), best)
        kept.append(flat(net))
    assert torch.equal(*kept)
    last = network()
    assert train(last, loss_of(last), Points(), config()).kept is None
    assert not torch.equal(flat(last), kept[0])


def test_accumulated_batches_make_the_step_of_their_mean():
    """By hand: w ← w − r·(v ← m v + mean of the two gradients + decay·w), the momentum of SGD."""
    net = nn.Linear(3, 1, bias=False).double()
    w = net.weight.detach().clone()[0]
    c = config(
        steps=4, accumulate=2, optimizer="sgd", beta1=0.5, learning_rate=0.1, schedule="constant", clip=None,
        weight_decay=0.01, average=0.5,
    )  # fmt: skip
    seen = []

    def loss(problem, x, generator):
        seen.append(x.double())
        return (net(x.double())[:, 0] - 1).square().mean()

    average, v = w.clone(), torch.zeros(3, dtype=torch.float64)
    train(net, loss, Points(), c)
    assert len(seen) == 8 and len(torch.unique(torch.stack(seen), dim=0)) == 8
    for a, b in zip(seen[::2], seen[1::2], strict=True):
        gradient = sum(2 * ((x @ w - 1)[:, None] * x).mean(0) for x in (a, b)) / 2 + 0.01 * w
        v = 0.5 * v + gradient
        w = w - 0.1 * v
        average = 0.5 * average + 0.5 * w
    torch.testing.assert_close(net.weight.detach()[0], average, rtol=1e-12, atol=1e-14)


def test_weight_decay_of_adamw_is_apart_from_the_gradient():
    net = nn.Linear(2, 1, bias=False)
    start = net.weight.detach().clone()
    c = config(optimizer="adamw", weight_decay=0.5, learning_rate=0.1, schedule="constant", clip=None)
    train(net, lambda *_: 0.0 * net.weight.sum(), Points(), c)
    torch.testing.assert_close(net.weight.detach(), start * (1 - 0.05) ** 11)


def poisoned(net, where, at):
    """The loss of `loss_of`, whose term `where` is NaN (or has a NaN gradient) from step `at` on."""
    plain, calls = loss_of(net), []

    def loss(problem, x, generator):
        terms = plain(problem, x, generator)
        calls.append(0)
        if len(calls) >= at:
            # √0 is 0 and its derivative is not
            bad = (0.0 * terms[where]).sqrt() * 0.0 if where == "size" else torch.nan
            terms[where] = terms[where] + bad
        return terms

    return loss


@pytest.mark.parametrize(
    ("where", "message"),
    [("fit", "loss term 'fit' is NaN"), ("size", "gradient of the loss term 'size' is NaN")],
)
def test_nan_stops_and_keeps_the_last_good_weights(tmp_path, where, message):
    path = tmp_path / "run.safetensors"
    net, good = network(), network()
    with pytest.raises(DivergedError, match=f"{message}.* step 6 of 11, seed 7; the weights of step 5"):
        train(net, poisoned(net, where, 6), Points(), config(average=0.5, seed=7), checkpoint=path)
    with pytest.raises(Killed):
        train(good, loss_of(good), Points(), config(seed=7), callback=killing(5))
    assert not net.training and all(p.grad is None and not p.requires_grad for p in net.parameters())
    assert bool(torch.isfinite(flat(net)).all())
    # healthy from there on: the checkpoint is of step 5 and of the averaged weights the network has
    tensors, header = read_tensors(path)
    assert header["step"] == 5 and len(tensors["losses"]) == 5
    for name, p in net.named_parameters():
        assert torch.equal(p, tensors[f"average.{name}"])
    for name, p in good.named_parameters():  # left by the exception with its weights of step 5
        assert torch.equal(p, tensors[f"network.{name}"])
    healed, unbroken = network(), network()
    train(healed, loss_of(healed), Points(), config(average=0.5, seed=7), checkpoint=path)
    train(unbroken, loss_of(unbroken), Points(), config(average=0.5, seed=7))
    # the failed step had run BatchNorm once on its batch before the loss was seen
    pairs = zip(healed.named_parameters(), unbroken.named_parameters(), strict=True)
    assert all(torch.equal(p, q) for (_, p), (_, q) in pairs)


def test_weights_that_overflow_come_back_from_the_checkpoint(tmp_path):
    net = nn.Linear(3, 1, bias=False)
    loss = lambda problem, x, generator: 1e15 * net(x).sum()  # noqa: E731
    huge = config(optimizer="sgd", learning_rate=1e30, schedule="constant", clip=None, beta1=0.0)
    with pytest.raises(DivergedError, match=r"step 2 of 11.*not finite either, and there is no checkpoint"):
        train(net, loss, Points(), huge)
    path = tmp_path / "run.safetensors"
    net = nn.Linear(3, 1, bias=False)
    seen = []

    def gentle(problem, x, generator):
        return 0.0 * net(x).sum() if len(seen) < 5 else loss(problem, x, generator)

    with pytest.raises(DivergedError, match=r"weights of step 4 are in the network and in"):
        train(net, gentle, Points(), huge, checkpoint=path, callback=seen.append)
    assert bool(torch.isfinite(net.weight).all()) and read_tensors(path)[1]["step"] == 4


def test_statistics_spoiled_by_a_bad_batch_come_back_from_the_checkpoint(tmp_path):
    path, net, steps = tmp_path / "run.safetensors", network(), []

    class Spoiled(Points):
        def batches(self, size, generator):
            for problem, x in super().batches(size, generator):
                yield problem, x * (torch.nan if len(steps) == 6 else 1.0)

    with pytest.raises(DivergedError, match=r"loss term 'fit'.* step 7 of 11.*weights of step 4 are in"):
        train(net, loss_of(net), Spoiled(), config(), checkpoint=path, callback=steps.append)
    assert bool(torch.isfinite(flat(net)).all()) and read_tensors(path)[1]["step"] == 4


def test_disk_full_leaves_the_last_checkpoint_and_training_goes_on(tmp_path, monkeypatch):
    path, net, plain = tmp_path / "run.safetensors", network(), network()
    train(plain, loss_of(plain), Points(), config())
    replace, full = Path.replace, []

    def fail(self, target):
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    def fill(progress):
        if progress.step == 5:
            full.append(True)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.warns(RuntimeWarning) as caught:
        train(net, loss_of(net), Points(), config(), checkpoint=path, callback=fill)
    told = [str(w.message) for w in caught]
    assert len(told) == 3 and all("No space left" in t and "is whole" in t for t in told)
    assert "no checkpoint of step 8" in told[0] and "step 11" in told[1] and "no curve" in told[2]
    assert torch.equal(flat(net), flat(plain))
    assert read_tensors(path)[1]["step"] == 4
    assert sorted(f.name for f in tmp_path.iterdir()) == ["run.curve.csv", "run.safetensors"]
    assert [row["step"] for row in read_curve(curve_path(path))] == [3]
    full.clear()
    again, steps = network(), []
    train(again, loss_of(again), Points(), config(), checkpoint=path, callback=lambda p: steps.append(p.step))
    assert steps[0] == 5 and torch.equal(flat(again), flat(plain))


def test_a_disk_that_fills_while_writing(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.ones(2)})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"a.safetensors could not be written \(No space.*is whole") as caught:
        write_tensors(path, {"a": torch.zeros(2)})
    assert caught.value.errno == errno.ENOSPC and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(OSError, match="nothing is there"):
        write_tensors(tmp_path / "b.safetensors", {"a": torch.zeros(2)})


def test_a_folder_that_cannot_be_written_is_told_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    net, steps = network(), []
    with pytest.raises(ValueError, match="cannot write"):
        train(
            net, loss_of(net), Points(), config(), checkpoint=tmp_path / "file" / "run", callback=steps.append
        )
    assert not steps


def test_leftovers_of_a_killed_write_are_removed(tmp_path):
    path, net = tmp_path / "run.safetensors", network()
    (tmp_path / ".run.safetensors.4711").write_bytes(b"half")
    train(net, loss_of(net), Points(), config(), checkpoint=path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["run.curve.csv", "run.safetensors"]


LATER = ("accumulate", "weight_decay", "warmup", "milestones", "decay", "inverse_steps", "precision")


def test_checkpoints_from_before_a_setting_go_on_if_it_has_its_default(tmp_path):
    path, net, plain = tmp_path / "run.safetensors", network(), network()
    train(plain, loss_of(plain), Points(), config())
    with pytest.raises(Killed):
        train(net, loss_of(net), Points(), config(), checkpoint=path, callback=killing(6))
    tensors, header = read_tensors(path)
    header["config"] = {k: v for k, v in header["config"].items() if k not in LATER}
    del header["curve"]
    old = {k: v for k, v in tensors.items() if not k.startswith("losses.")}
    write_tensors(path, old, header)
    with pytest.raises(ValueError, match=r"another configuration .warmup 0, not 2"):
        train(net, loss_of(net), Points(), config(warmup=2), checkpoint=path)
    resumed = network(seed=3)
    train(resumed, loss_of(resumed), Points(), config(), checkpoint=path)
    assert torch.equal(flat(resumed), flat(plain))
    assert differences(config(), {"colour": "red"})[0] == "no setting colour"


@pytest.mark.parametrize(
    "change",
    [
        lambda t, h: h.update(step=3),
        lambda t, h: h.update(step="many"),
        lambda t, h: h.update(scores=[1]),
        lambda t, h: h.update(seconds="long"),
        lambda t, h: h.update(curve=["row"]),
        lambda t, h: h.pop("step"),
        lambda t, h: h.pop("config"),
        lambda t, h: t.pop("losses"),
        lambda t, h: t.pop("network.0.weight"),
        lambda t, h: t.update({"optimizer.exp_avg.0.weight": torch.zeros(7)}),
        lambda t, h: t.update({"optimizer.exp_avg.9.weight": torch.zeros(7)}),
    ],
)
def test_hostile_checkpoints_are_refused(tmp_path, change):
    path, net = tmp_path / "run.safetensors", network()
    train(net, loss_of(net), Points(), config(), checkpoint=path)
    tensors, header = read_tensors(path)
    change(tensors, header)
    write_tensors(path, tensors, header)
    with pytest.raises(ValueError, match="checkpoint of"):
        train(network(), loss_of(net), Points(), config(), checkpoint=path)


def scan():
    angles = [(k + 0.5) * math.pi / 6 for k in range(6)]
    return XRay(ParallelBeam((8, 8), 1.0, angles, 13, 1.0))


def test_operators_stay_in_float32_under_bfloat16():
    A = scan()
    x = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    y = A(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x[0] @ x[0]).dtype == torch.bfloat16
        assert torch.equal(A(x), y) and torch.equal(A.adjoint(y), A.H(y))
        back, few = A.adjoint(y), A(x.bfloat16())
    assert torch.equal(back, A.adjoint(y))
    # what a network gives in few bits is taken in, and nothing more is lost
    assert few.dtype == torch.float32 and torch.equal(few, A(x.bfloat16().float()))


def test_networks_train_in_bfloat16_with_float32_weights():
    A, seen = scan(), []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Conv2d(1, 1, 3, padding=1)

    def loss(problem, x, generator):
        x = torch.rand(4, 1, 8, 8, generator=generator)
        z = net(x)
        y = A(z)
        seen.append((z.dtype, y.dtype))
        return (y - A(x)).square().mean()

    progress = train(net, loss, Points(), config(steps=40, precision="bfloat16", learning_rate=0.02))
    assert set(seen) == {(torch.bfloat16, torch.float32)}
    assert all(p.dtype == torch.float32 for p in net.parameters())
    assert progress.losses[-1] < 0.3 * progress.losses[0]


def test_a_loss_that_is_none():
    with pytest.raises(ValueError, match="train loss: expected a number"):
        train(network(), lambda *_: None, Points(), config())


def test_tensorboard_is_optional(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"hybrid-recon\[train\]"):
        TensorBoard(tmp_path)


def test_tensorboard_has_every_number(tmp_path):
    pytest.importorskip("tensorboard")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        board, net = TensorBoard(tmp_path), network()
        progress = train(net, loss_of(net), Points(), config(), score=lambda: 2.0, callback=board)
        board.close(progress)
        found = EventAccumulator(str(tmp_path))
        found.Reload()
    assert [e.step for e in found.Scalars("loss")] == list(range(1, 12))
    assert [e.value for e in found.Scalars("loss/fit")] == pytest.approx(progress.terms["fit"], rel=1e-6)
    assert [(e.step, e.value) for e in found.Scalars("validation")] == progress.scores


def test_cards_and_headers_are_json(tmp_path):
    path, net = tmp_path / "run.safetensors", network()
    train(net, loss_of(net), Points(), config(milestones=(2,)), checkpoint=path)
    assert json.loads(json.dumps(read_tensors(path)[1]))["config"]["milestones"] == [2]


def test_seeds_and_ranks_draw_different_numbers():
    def drawn(seed, rank=0):
        return [torch.rand(4, generator=_generator(seed, k, rank)) for k in range(3)]

    streams = [drawn(0), drawn(1), drawn(2), drawn(12345), drawn(0, 1), drawn(1, 1)]
    together = torch.stack([v for stream in streams for v in stream])
    assert len(torch.unique(together, dim=0)) == len(together)
    # weights were shipped that seed 0 made
    assert torch.equal(drawn(0)[2], torch.rand(4, generator=torch.Generator().manual_seed(2)))


def test_the_seed_decides_which_batches_are_drawn():
    seen = {}

    class Watched(Points):
        def __init__(self, seed):
            self.mine = seen.setdefault(seed, [])

        def batches(self, size, generator):
            for problem, x in super().batches(size, generator):
                self.mine.append(x)
                yield problem, x

    for seed in (0, 1):
        net = network()
        train(net, loss_of(net), Watched(seed), config(seed=seed, steps=3))
    assert not any(torch.equal(a, b) for a in seen[0] for b in seen[1])


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, Killed])
def test_a_training_that_is_left_leaves_a_network_to_be_used(interrupt):
    net, twin = network(), network()

    def leave(progress):
        if progress.step == 5:
            raise interrupt

    with pytest.raises(interrupt):
        train(net, loss_of(net), Points(), config(average=0.5), callback=leave)
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    with pytest.raises(interrupt):
        train(twin, loss_of(twin), Points(), config(), callback=leave)
    assert not torch.equal(flat(net), flat(twin))  # the averaged weights, not the last


def test_a_checkpoint_about_something_else_is_refused(tmp_path):
    path, net = tmp_path / "run.safetensors", network()
    about = {"data": "points", "scanner": {"hash": "abc", "image_scale": 0.5}}
    train(net, loss_of(net), Points(), config(), checkpoint=path, about=about)
    again = network()
    near = {"data": "points", "scanner": {"hash": "abc", "image_scale": 0.5 + 1e-6}}
    train(again, loss_of(again), Points(), config(), checkpoint=path, about=near)
    assert torch.equal(flat(again), flat(net))
    other = {"data": "points", "scanner": {"hash": "xyz", "image_scale": 0.5}}
    with pytest.raises(ValueError, match=r"something else \(scanner hash abc, not xyz\)"):
        train(again, loss_of(again), Points(), config(), checkpoint=path, about=other)


def test_a_network_that_is_not_finite_does_not_replace_the_checkpoint(tmp_path):
    path, net = tmp_path / "run.safetensors", network()
    net[1].register_buffer("watched", torch.zeros(()))

    def spoil(progress):
        if progress.step == 6:
            net[1].watched.fill_(torch.inf)

    with pytest.warns(RuntimeWarning, match="not finite"):
        train(net, loss_of(net), Points(), config(), checkpoint=path, callback=spoil)
    assert read_tensors(path)[1]["step"] == 4


def test_a_constant_term_beside_a_bad_gradient_is_no_other_error():
    net = network()

    def loss(problem, x, generator):  # the root has no slope at 0
        return {"constant": torch.ones(()), "steep": (net[0].weight * 0).square().sum().sqrt()}

    with pytest.raises(DivergedError, match="gradient of the loss term 'steep'"):
        train(net, loss, Points(), config())


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update({"average.0.weight": torch.zeros(1, 1)}),
        lambda t: t.pop("optimizer.exp_avg_sq.0.weight"),
    ],
)
def test_a_tampered_checkpoint_is_refused(tmp_path, change):
    path, net = tmp_path / "run.safetensors", network()
    train(net, loss_of(net), Points(), config(average=0.5), checkpoint=path)
    tensors, header = read_tensors(path)
    change(tensors)
    write_tensors(path, tensors, header)
    with pytest.raises(ValueError, match="another network"):
        train(network(), loss_of(net), Points(), config(average=0.5), checkpoint=path)


def test_no_time_at_all_is_refused():
    net = network()
    with pytest.raises(ValueError, match="minutes: expected a positive number"):
        train(net, loss_of(net), Points(), config(), minutes=0)
