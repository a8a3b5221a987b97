"""`recon train` and its seeds: what is trained, told, kept and summed up."""

import json
import math
import shlex
import statistics

import pytest
import torch
from click.testing import CliRunner

from operators import Gaussian, ParallelBeam
from recon import LearnedPrimalDual
from recon.cli import main
from recon.data import SimulatedPairs
from recon.train_log import read_curve
from recon.training import train_method, train_seeds

TINY = {"iterations": 1, "hidden": 3, "steps": 4, "batch_size": 2, "reuse": 1, "validate_every": 2}


def geometry():
    angles = [(k + 0.5) * math.pi / 6 for k in range(6)]
    return ParallelBeam((12, 12), 1.0, angles, 17, 1.0)


def boxes(seeds):
    images = torch.zeros(len(seeds), 24, 24)
    for image, seed in zip(images, seeds, strict=True):
        g = torch.Generator().manual_seed(seed)
        top, left = (int(k) for k in torch.randint(2, 12, (2,), generator=g))
        image[top : top + 8, left : left + 9] = 0.5 + torch.rand((), generator=g)
    return images


def data(train_size=None):
    noise = Gaussian(relative=0.05)
    return SimulatedPairs(geometry(), noise, boxes, validation_size=3, train_size=train_size, name="boxes")


PROBLEM = """
import sys
sys.path.insert(0, {folder!r})
from test_training_seeds import data
from recon.comparison import Task, Window

def task():
    return Task(
        name="boxes", pairs=lambda split: [], metrics=["psnr_db"], data_range=1.0,
        windows=[Window("all", 0, 1)], configuration={{}}, data=lambda kind: data(),
    )
"""


@pytest.fixture
def problem(tmp_path):
    from pathlib import Path

    file = tmp_path / "boxes.py"
    file.write_text(PROBLEM.format(folder=str(Path(__file__).parent)))
    return file


def call(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def settings(**changes):
    return [word for k, v in {**TINY, **changes}.items() for word in ("--set", f"{k}={v}")]


def test_the_card_says_what_was_learned_from_and_repeats_it(tmp_path, problem):
    out = tmp_path / "w"
    done = call(
        "learned-primal-dual", "--problem", problem, "--out", out, "--full", *settings(), "--set", "seed=3"
    )
    assert done.exit_code == 0, done.output
    file = out / "learned-primal-dual-boxes.safetensors"
    assert done.stdout.strip() == f"weights: {file}"
    card = json.loads(file.with_suffix(".json").read_text())
    told = card["training"]
    assert told["images"] == {"training": "a new one every time", "seeds": "from 2147483648", "validation": 3}
    assert (told["seed"], told["steps"], told["data"], told["torch"]) == (3, 4, "boxes", torch.__version__)
    assert told["threads"] == torch.get_num_threads() and told["seconds"] >= 0 and card["licence"]
    assert [row["step"] for row in read_curve(out / "learned-primal-dual-boxes.curve.csv")] == [2, 4]
    words = shlex.split(told["command"])
    assert words[:5] == ["recon", "train", "learned-primal-dual", "--problem", str(problem)]
    again = call(*words[2:], "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_few_images_are_counted_on_the_card(tmp_path):
    method = train_method("learned-primal-dual", data(train_size=5), tmp_path / "few", **TINY)
    assert method.record["images"]["training"] == 5
    assert method.record["images"]["seeds"] == "2147483648 to 2147483652"
    assert method.fabric is None


def test_failed_seeds_are_told_and_the_others_trained(tmp_path, problem, monkeypatch):
    plain = LearnedPrimalDual.loss

    def loss(self, problem, images, generator):
        bad = math.nan if self.config.seed == 1 else 0.0
        return {
            "image": plain(self, problem, images, generator),
            "extra": torch.tensor(bad, requires_grad=True),
        }

    monkeypatch.setattr(LearnedPrimalDual, "loss", loss)
    arguments = ["learned-primal-dual", "--problem", problem, "--out", tmp_path / "w", *settings()]
    done = call(*arguments, "--seeds", "0,1,2")
    assert done.exit_code == 1 and "1 of 3 seeds failed" in done.output and "Traceback" not in done.output
    stem = tmp_path / "w" / "learned-primal-dual-boxes"
    summary = json.loads(stem.with_name(f"{stem.name}.seeds.json").read_text())
    (failure,) = summary["failures"]
    assert failure["seed"] == 1 and "'extra' is NaN" in failure["error"] and "step 1 of 4" in failure["error"]
    assert set(summary["scores"]) == {"0", "2"}
    key = "psnr_db_range_truth"
    values = [summary["scores"][k][key] for k in ("0", "2")]
    assert summary["mean"][key] == pytest.approx(statistics.fmean(values))
    assert summary["spread"][key] == pytest.approx(statistics.stdev(values)) and values[0] != values[1]
    assert f"{key}: {summary['mean'][key]:.4g} ± {summary['spread'][key]:.2g}" in done.stdout
    assert summary["command"].endswith("--seeds 0,1,2")
    curve = read_curve(stem.with_name(f"{stem.name}-seed0.curve.csv"))
    assert curve[0]["loss/image"] == curve[0]["loss"] and curve[0]["loss/extra"] == 0

    # the seeds that are done are not done again, and the failed one gets another chance
    monkeypatch.setattr(LearnedPrimalDual, "loss", plain)
    trained = []
    fit = LearnedPrimalDual.fit
    monkeypatch.setattr(
        LearnedPrimalDual,
        "fit",
        lambda self, *a, **k: (trained.append(self.config.seed), fit(self, *a, **k))[1],
    )
    done = call(*arguments, "--seeds", "0,1,2")
    assert done.exit_code == 0 and trained == [1], done.output
    # other settings are another training
    done = call(*arguments[:-2], "--set", "validate_every=3", "--seeds", "0")
    assert done.exit_code == 0 and trained == [1, 0], done.output
    # nor are they left out when all is to be done anew
    done = call(*arguments[:-2], "--set", "validate_every=3", "--seeds", "0", "--fresh")
    assert done.exit_code == 0 and trained == [1, 0, 0], done.output


def test_a_full_disk_is_no_seeds_fault(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.warns(RuntimeWarning, match="no c"), pytest.raises(OSError, match="No space left"):
        train_seeds("learned-primal-dual", data(), tmp_path / "w", [0, 1], **TINY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["learned-primal-duel"], "did you mean 'learned-primal-dual'"),
        (["learned-primal-dual", "--set", "colour=red"], "no such setting colour"),
        (["learned-primal-dual", "--set", "hidden"], "expected KEY=VALUE"),
        (["learned-primal-dual", "--set", "hidden=many"], "hidden"),
        (["learned-primal-dual", "--steps", "3", "--set", "steps=4"], "steps is set twice"),
        (["learned-primal-dual", "--set", "learning_rate=-1"], "learning_rate"),
        (["learned-primal-dual", "--set", "schedule=triangle"], "expected one of cosine"),
        (["learned-primal-dual", "--seeds", "0,one"], "expected different whole numbers"),
        (["learned-primal-dual", "--seeds", "1,1"], "expected different whole numbers"),
        (["learned-primal-dual", "--steps", "0"], "--steps"),
        (["fbp"], "nothing to learn"),
    ],
)
def test_what_is_asked_wrongly_is_told(tmp_path, problem, arguments, message):
    done = call(*arguments, "--problem", problem, "--out", tmp_path / "w")
    assert done.exit_code == 2 and message in done.output and "Traceback" not in done.output


def test_unknown_problems_and_places_are_told(tmp_path, problem):
    done = call("learned-primal-dual", "--problem", "elipses-small", "--out", tmp_path)
    assert done.exit_code == 2 and "did you mean 'ellipses-small'" in done.output
    done = call("learned-primal-dual", "--problem", problem, "--out", problem / "below")
    assert done.exit_code == 2 and "cannot write" in done.output


def test_fresh_forgets_the_checkpoint(tmp_path, problem):
    stale = tmp_path / "learned-primal-dual-boxes.checkpoint.safetensors"
    arguments = ["learned-primal-dual", "--problem", problem, "--out", tmp_path, *settings()]
    stale.write_bytes(b"not a checkpoint")
    done = call(*arguments)
    assert done.exit_code == 1 and "not a whole safetensors file" in done.output
    assert call(*arguments, "--fresh").exit_code == 0 and not stale.exists()


def test_fresh_forgets_nothing_of_other_trainings(tmp_path, problem):
    stem = "learned-primal-dual-boxes"
    mine = [tmp_path / f"{stem}{end}.checkpoint.safetensors" for end in ("", "-seed0", "-seed12")]
    others = [
        tmp_path / f"{stem}{end}.checkpoint.safetensors" for end in ("-large", "2", "-seed", "-large-seed0")
    ]
    for path in (*mine, *others):
        path.write_bytes(b"not a checkpoint")
    arguments = ["learned-primal-dual", "--problem", problem, "--out", tmp_path, *settings()]
    assert call(*arguments, "--fresh").exit_code == 0
    assert not any(path.exists() for path in mine) and all(path.exists() for path in others)


def test_seeds_that_cannot_be():
    for seeds in ([], [1, 1]):
        with pytest.raises(ValueError, match="seeds"):
            train_seeds("learned-primal-dual", data(), "nowhere", seeds)
    with pytest.raises(ValueError, match="no `seed` besides"):
        train_seeds("learned-primal-dual", data(), "nowhere", [0], seed=1)


def test_pictures_while_it_learns(tmp_path, problem):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    arguments = ["learned-primal-dual", "--problem", problem, *settings(), "--full"]
    done = call(*arguments, "--out", tmp_path / "w", "--pictures", tmp_path / "p")
    assert done.exit_code == 0, done.output
    drawn = sorted((tmp_path / "p" / "learned-primal-dual-boxes").iterdir())
    assert [f.name for f in drawn] == ["step-000002.png", "step-000004.png"]
    with image.open(drawn[1]) as picture:
        assert picture.width > 400 and len(picture.convert("L").getcolors(10**6)) > 50
    assert drawn[0].read_bytes() != drawn[1].read_bytes()
    # looking changes nothing
    assert call(*arguments, "--out", tmp_path / "blind").exit_code == 0
    name = "learned-primal-dual-boxes.safetensors"
    assert (tmp_path / "w" / name).read_bytes() == (tmp_path / "blind" / name).read_bytes()


def test_pictures_of_volumes_and_complex_images_are_planes():
    from recon.train_pictures import plane

    volume = torch.arange(24.0).reshape(3, 2, 4)
    assert torch.equal(plane(volume), volume[1])
    assert torch.equal(plane(torch.tensor([[3 + 4j]])), torch.tensor([[5.0]]))


def test_weights_to_go_on_from(tmp_path, problem):
    first, second = tmp_path / "a", tmp_path / "b"
    name = "learned-primal-dual-boxes"
    assert call("learned-primal-dual", "--problem", problem, "--out", first, *settings()).exit_code == 0
    weights = first / f"{name}.safetensors"
    line = ("learned-primal-dual", "--problem", problem, "--from", weights, "--out", second)
    done = call(*line, "--steps", 2, "--set", "learning_rate=1e-12", "--full")
    assert done.exit_code == 0, done.output
    old, new = LearnedPrimalDual.load(weights), LearnedPrimalDual.load(second / name)
    assert new.config.steps == 2 and new.config.hidden == TINY["hidden"]
    for a, b in zip(old.parameters(), new.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
    card = json.loads((second / f"{name}.json").read_text())["training"]
    assert f"--from {weights}" in card["command"] and card["before"]["steps"] == TINY["steps"]
    done = call(*line, "--set", "hidden=5")
    assert done.exit_code != 0 and "hidden cannot be changed" in done.output
    done = call("fbp-unet", *line[1:])
    assert done.exit_code != 0 and "expected weights of fbp-unet" in done.output


def test_seeds_there_are_of_the_same_images_or_trained_again(tmp_path):
    said = []
    for images in (4, 4, 5):
        train_seeds("learned-primal-dual", data(images), tmp_path / "lpd", [0], **TINY, callback=said.append)
        said.append("|")
    trained = [k for k, mark in enumerate(said) if mark == "|"]
    assert [b - a - 1 for a, b in zip([-1, *trained], trained, strict=False)] == [4, 0, 4]


def test_text_that_is_no_truth_value_is_refused(tmp_path, problem):
    line = ("learned-primal-dual", "--problem", problem, "--out", tmp_path, *settings(iterations=2))
    done = call(*line, "--set", "shared=False")
    assert done.exit_code == 0, done.output
    assert LearnedPrimalDual.load(tmp_path / "learned-primal-dual-boxes").config.shared is False
    done = call(*line, "--set", "shared=no")
    assert done.exit_code != 0 and "shared: expected True or False, got 'no'" in done.output


def test_pictures_on_a_full_disk_end_no_training(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recon.train_pictures.write_bytes", full)
    with pytest.warns(RuntimeWarning, match="no picture"):
        train_method("learned-primal-dual", data(4), tmp_path / "lpd", pictures=tmp_path / "p", **TINY)
    assert (tmp_path / "lpd.safetensors").exists()
