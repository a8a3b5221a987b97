"""Settings of training: rates, and what is refused."""

import math

import pytest

from recon.train_config import TrainingConfig, rate


def test_rates_are_those_of_the_schedules():
    def rates(**changes):
        c = TrainingConfig(steps=10, learning_rate=2.0, **changes)
        return [rate(c, k, k) for k in range(10)]

    assert rates(schedule="constant", warmup=4) == [0.5, 1.0, 1.5] + 7 * [2.0]
    # where time runs out first, the schedule hurries and the warm-up does not
    c = TrainingConfig(steps=10, learning_rate=2.0, schedule="linear", warmup=4)
    assert rate(c, 7.5, 1) == 2.0 * 0.5 * 0.5
    assert rates(schedule="linear") == pytest.approx(5 * [2.0] + [2.0, 1.6, 1.2, 0.8, 0.4], rel=1e-12)
    assert rates(schedule="step", milestones=(3, 7), decay=0.5) == 3 * [2.0] + 4 * [1.0] + 3 * [0.5]
    assert rates(schedule="inverse", inverse_steps=2)[:5] == [2.0, 2 / 1.5, 1.0, 2 / 2.5, 2 / 3]
    expected = [1 + math.cos(math.pi * k / 10) for k in range(10)]
    assert rates(schedule="cosine") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "changes",
    [
        {"accumulate": 0},
        {"warmup": -1},
        {"milestones": (3, 2)},
        {"milestones": [3]},
        {"schedule": "step", "milestones": ()},
        {"decay": 0.0},
        {"inverse_steps": 0},
        {"weight_decay": -1.0},
        {"weight_decay": math.nan},
        {"precision": "float16"},
        {"schedule": "triangular"},
        {"learning_rate": "fast"},
        {"clip": 0},
        {"seed": -1},
    ],
)
def test_wrong_settings_are_refused(changes):
    with pytest.raises(ValueError, match=list(changes)[-1]):
        TrainingConfig(**changes)
