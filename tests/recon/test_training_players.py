"""Several players in the one training loop, on a toy whose steps can be written out."""

import threading
from dataclasses import replace

import pytest
import torch
from torch import nn

from recon.checkpoints import read_tensors, write_tensors
from recon.train_log import read_curve
from recon.train_players import MOST, Player
from recon.training import DivergedError, TrainingConfig, train


class Points:
    """Batches (None, x), x (size, 3) normal; remembers what was drawn."""

    def __init__(self):
        self.drawn = []

    def batches(self, size, generator):
        while True:
            self.drawn.append(torch.randn(size, 3, generator=generator).double())
            yield None, self.drawn[-1]


class Killed(Exception):
    pass


class Held(nn.Module):
    """Remembers the last batch it has seen, as an image pool does."""

    def __init__(self):
        super().__init__()
        self.register_buffer("last", torch.zeros(4, 1, dtype=torch.float64))
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, x):
        before = self.last.clone() if self.seen else x
        self.last.copy_(x.detach())
        self.seen += 1
        return before


def pair(seed=0, held=True):
    """G: x ↦ a number, D: a number ↦ a verdict, with a spectral norm, batch statistics and a memory."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = nn.utils.parametrizations.spectral_norm(nn.Linear(1, 4))
        parts = {
            "g": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)),
            "d": nn.Sequential(first, nn.Tanh(), nn.Linear(4, 1)),
        }
        if held:
            parts["held"] = Held()
        return nn.ModuleDict(parts).double()


def players(net, d_steps=2, g_steps=1, **options):
    def d_loss(problem, x, generator):
        noise = 0.1 * torch.randn(len(x), 1, generator=generator).double()
        fake = net["g"](x).detach()
        fake = net["held"](fake) if "held" in net else fake
        real = net["d"](x.sum(1, keepdim=True) + noise)
        return {"real": (real - 1).square().mean(), "fake": net["d"](fake).square().mean()}

    def g_loss(problem, x, generator):
        fake = net["g"](x)
        return {
            "adversarial": (net["d"](fake) - 1).square().mean(),
            "l1": (fake[:, 0] - x.sum(1)).abs().mean(),
        }

    return [
        Player("discriminator", net["d"], d_loss, d_steps, **options),
        Player("generator", net["g"], g_loss, g_steps),
    ]


def config(**changes):
    defaults = {"steps": 9, "batch_size": 4, "checkpoint_every": 4, "validate_every": 3, "clip": None}
    return TrainingConfig(**{**defaults, **changes})


def flat(net):
    return torch.cat([v.flatten().double() for v in net.state_dict().values()])


def killing(at):
    def kill(progress):
        if progress.step == at:
            raise Killed

    return kill


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_killed_and_resumed_equals_unbroken_to_the_bit(tmp_path, optimizer, fresh):
    chosen = config(schedule="linear", average=0.8, accumulate=2, reuse=2, clip=1.0)
    other = replace(chosen, optimizer=optimizer, learning_rate=3e-3, average=None, schedule="cosine")

    def run(net, **options):
        turns = players(net, config=other, fresh=fresh, bound=0.5)
        return train(net, turns, Points(), chosen, score=lambda: 1.0, **options)

    unbroken, broken, resumed, steps = pair(), pair(), pair(seed=1), []
    whole, path = run(unbroken), tmp_path / "run.checkpoint.safetensors"
    with pytest.raises(Killed):
        run(broken, checkpoint=path, callback=killing(7))
    after = run(resumed, checkpoint=path, callback=lambda p: steps.append(p.step))
    assert steps == list(range(5, 10))
    assert torch.equal(flat(resumed), flat(unbroken))
    assert int(resumed["held"].seen) == 9 * 2 * 2
    assert after.losses == whole.losses and after.terms == whole.terms


def test_each_player_lowers_its_own_weights_by_its_own_optimiser():
    """By hand: two numbers, each with a rate of its own; d makes two steps on what g was before."""
    net = nn.ParameterDict(
        {"d": torch.tensor([0.3], dtype=torch.float64), "g": torch.tensor([0.7], dtype=torch.float64)}
    )
    d, g = 0.3, 0.7
    part = lambda k: nn.ParameterList([net[k]])  # noqa: E731
    seen = []

    def loss(name, sign):
        def value(problem, x, generator):
            seen.append({k: p.requires_grad for k, p in net.items()})
            return sign * (net["d"] * net["g"]).sum() + 0.5 * net[name].square().sum()

        return value

    c = config(steps=3, optimizer="sgd", beta1=0.0, schedule="constant", learning_rate=0.1)
    turns = [
        Player("d", part("d"), loss("d", -1), 2, replace(c, learning_rate=0.2)),
        Player("g", part("g"), loss("g", 1)),
    ]
    progress = train(net, turns, Points(), c)
    for _ in range(3):
        for _ in range(2):
            d = d - 0.2 * (-g + d)
        g = g - 0.1 * (d + g)
    torch.testing.assert_close(net["d"].detach(), torch.tensor([d], dtype=torch.float64), rtol=1e-12, atol=0)
    torch.testing.assert_close(net["g"].detach(), torch.tensor([g], dtype=torch.float64), rtol=1e-12, atol=0)
    assert seen[:3] == [{"d": True, "g": False}] * 2 + [{"d": False, "g": True}]
    assert set(progress.terms) == {"d", "g"}


def test_who_draws_a_batch_and_when():
    def drawn(fresh, **options):
        data, net = Points(), pair()
        train(net, players(net, fresh=fresh, **options), data, config(steps=4))
        return data.drawn

    assert len(drawn(False)) == 4
    # two for the discriminator; its first is the cycle's own, which the generator comes back to
    assert len(drawn(True)) == 4 * 3
    assert len(torch.unique(torch.stack(drawn(True)).flatten(1), dim=0)) == 4 * 2
    assert all(torch.equal(a, b) for a, b in zip(drawn(False), drawn(True)[::3], strict=True))
    # and a cycle without fresh draws sees one batch however often its players step
    assert len(drawn(False, g_steps=3)) == 4


def test_a_warm_up_and_a_ratio_that_changes():
    net = pair(held=False)
    before, history = [p.clone() for p in net["g"].parameters()], []
    turns = players(net, lambda k: 3 if k == 0 else 1, lambda k: int(k >= 2))

    def look(progress):
        moved = any(not torch.equal(a, b) for a, b in zip(before, net["g"].parameters(), strict=True))
        history.append((progress.step, moved, sorted({k.split("/")[0] for k in progress.terms})))

    train(net, turns, Points(), config(steps=4), callback=look)
    assert [moved for _, moved, _ in history] == [False, False, True, True]
    assert history[1][2] == ["discriminator"] and history[2][2] == ["discriminator", "generator"]


def test_losses_by_player_are_in_the_curve(tmp_path):
    net = pair()
    progress = train(net, players(net), Points(), config(), checkpoint=tmp_path / "run.safetensors")
    rows = read_curve(tmp_path / "run.curve.csv")
    names = {"discriminator/real", "discriminator/fake", "generator/adversarial", "generator/l1"}
    assert {k.removeprefix("loss/") for k in rows[0] if k.startswith("loss/")} == names
    assert rows[0]["loss/generator/l1"] == pytest.approx(sum(progress.terms["generator/l1"][:3]) / 3)


@pytest.mark.parametrize("bound", [None, 0.01])
def test_weights_within_a_bound(bound):
    net = pair()
    train(net, players(net, bound=bound), Points(), config(learning_rate=0.1))
    largest = max(float(p.abs().max()) for p in net["d"].parameters())
    assert (largest <= 0.01) == (bound is not None)
    assert max(float(p.abs().max()) for p in net["g"].parameters()) > 0.01


def poisoned(net, player, term, at, gradient=False):
    turns = players(net)
    index = [t.name for t in turns].index(player)
    plain, calls = turns[index].loss, []

    def loss(problem, x, generator):
        terms = dict(plain(problem, x, generator))
        calls.append(0)
        if len(calls) >= at:
            bad = (0.0 * terms[term]).sqrt() * 0.0 if gradient else torch.nan
            terms[term] = terms[term] + bad
        return terms

    turns[index] = replace(turns[index], loss=loss)
    return turns


@pytest.mark.parametrize(
    ("player", "term", "gradient"),
    [("discriminator", "fake", False), ("generator", "l1", False), ("generator", "l1", True)],
)
def test_nan_names_term_and_player(tmp_path, player, term, gradient):
    path, net = tmp_path / "run.safetensors", pair(held=False)
    what = f"{'gradient of the ' if gradient else ''}loss term '{player}/{term}' is NaN"
    # discriminator: its 11th step is the first of cycle 6; generator: when the discriminator has moved on
    turns = poisoned(net, player, term, 11 if player == "discriminator" else 6, gradient)
    kept = 5 if player == "discriminator" else 4
    with pytest.raises(DivergedError, match=f"{what}.* at step 6 of 9.*weights of step {kept} are in"):
        train(net, turns, Points(), config(), checkpoint=path)
    assert read_tensors(path)[1]["step"] == kept
    good = pair(held=False)
    with pytest.raises(Killed):
        train(good, players(good), Points(), config(), callback=killing(kept))
    weights = zip(net.parameters(), good.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


def test_nan_within_a_cycle_and_no_checkpoint():
    net = pair(held=False)
    with pytest.raises(DivergedError, match="from the middle of that step; there is no checkpoint"):
        train(net, poisoned(net, "generator", "l1", 3), Points(), config())
    assert bool(torch.isfinite(flat(net)).all())


def test_players_that_cannot_be():
    net, c = pair(), config()
    one, two = players(net)
    cases = {
        "at least one": [],
        "different names": [one, replace(two, name="discriminator")],
        "every weight is one player's": [one, replace(two, module=net)],
        "a part of the network": [one, replace(two, module=nn.Linear(2, 2))],
        "steps: expected a whole number": [replace(one, steps=MOST + 1), two],
        f"at most {MOST} steps in a cycle": [replace(one, steps=1), replace(two, steps=MOST)],
    }
    for told, turns in cases.items():
        with pytest.raises(ValueError, match=told):
            train(net, turns, Points(), c)


def test_a_player_s_schedule_is_over_the_training_s_steps():
    """Whose own configuration names another number of steps learns alike."""
    found = []
    for steps in (9, 1000):
        net, own = pair(), config(schedule="cosine", learning_rate=1e-2, steps=steps)
        train(net, players(net, config=own), Points(), config())
        found.append(flat(net))
    assert torch.equal(*found)


def test_a_checkpoint_takes_back_the_first_step_of_a_player(tmp_path):
    """Gone to NaN after it: what is written again is the state before, without that player's moments."""
    path, net = tmp_path / "run.safetensors", pair(held=False)
    judge, maker = players(net, d_steps=lambda k: int(k >= 4))

    def spoilt(problem, x, generator):
        told = maker.loss(problem, x, generator)
        return {k: v / (0 if spoilt.calls >= 6 else 1) for k, v in told.items()}

    def counted(*args):
        spoilt.calls += 1
        return spoilt(*args)

    spoilt.calls = -1
    with pytest.raises(DivergedError, match="the weights of step 4"):
        train(net, [judge, replace(maker, loss=counted)], Points(), config(), checkpoint=path)
    held = {k for k in read_tensors(path)[0] if k.startswith("optimizer.")}
    assert held and not any(".d." in k for k in held)


def test_a_checkpoint_of_one_player_is_no_checkpoint_of_two(tmp_path):
    path, net = tmp_path / "run.safetensors", pair()
    with pytest.raises(Killed):
        train(net, players(net), Points(), config(), checkpoint=path, callback=killing(6))
    tensors, header = read_tensors(path)
    extra = {**tensors, "optimizer.exp_avg.stranger": torch.zeros(1)}
    write_tensors(path, extra, header)
    with pytest.raises(ValueError, match="checkpoint of another network"):
        train(net, players(net), Points(), config(), checkpoint=path)


class Threads:
    """What `Ranks` asks of a Lightning Fabric, by two threads."""

    def __init__(self, rank, meet, board):
        self.global_rank, self.world_size, self.device = rank, 2, torch.device("cpu")
        self.meet, self.board = meet, board

    def all_reduce(self, tensor, reduce_op):
        self.board[self.global_rank] = tensor
        self.meet.wait()
        total = self.board[0] + self.board[1]
        self.meet.wait()
        return total

    def barrier(self):
        self.meet.wait()


def test_two_processes_make_the_steps_of_one():
    def alike():
        """No batch statistics and no noise, which are a process's own."""
        net = pair(held=False)
        net["g"][1] = nn.Identity()
        d, g = players(net)
        quiet = lambda problem, x, generator: {  # noqa: E731
            "fake": net["d"](net["g"](x).detach()).square().mean(),
            "real": (net["d"](x.sum(1, keepdim=True)) - 1).square().mean(),
        }
        return net, [replace(d, loss=quiet), g]

    meet, board = threading.Barrier(2, timeout=60), [None, None]
    nets, threads = [alike() for _ in range(3)], []
    for rank in (0, 1):
        run = lambda k=rank: train(*nets[k], Points(), config(), fabric=Threads(k, meet, board))  # noqa: E731
        threads.append(threading.Thread(target=run))
        threads[-1].start()
    for thread in threads:
        thread.join()
    train(*nets[2], Points(), config())
    assert torch.equal(flat(nets[0][0]), flat(nets[1][0]))
    # the same sums in another order, in float64
    torch.testing.assert_close(flat(nets[0][0]), flat(nets[2][0]), rtol=1e-10, atol=1e-12)


def test_a_player_alone_with_several_steps_draws_anew_for_each():
    net, points = nn.Linear(3, 1).double(), Points()

    def loss(problem, x, generator):
        drawn.append(torch.rand(2, generator=generator))
        return net(x).square().mean()

    drawn = []
    train(
        net, [Player("alone", net, loss, steps=3, fresh=True)], points, TrainingConfig(steps=4, batch_size=2)
    )
    assert len(points.drawn) == len(drawn) == 12
    assert len({tuple(x.flatten().tolist()) for x in points.drawn}) == 12
    assert len({tuple(x.tolist()) for x in drawn}) == 12
