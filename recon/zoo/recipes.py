"""How the shipped weights were trained: a configuration for every method and problem, small enough to ship.

Weights come from `recon.training.train_method(method, problem, out)` on one core and from these
alone: neither a clock nor a random number enters.
"""

from __future__ import annotations

from typing import Any

# as many steps as an hour or two of one core allow, in bfloat16 where the processor has it
_SOON: dict[str, Any] = {
    "average": 0.995,
    "precision": "bfloat16",
    "validate_every": 250,
    "checkpoint_every": 100,
}

_LOCAL: dict[str, Any] = {
    "channels": (16, 16, 16),
    "detail": 0.1,
    "filter": "ram-lak",
    "start_steps": 2,
    "optimizer": "adam",
    "learning_rate": 3e-3,
    "beta1": 0.5,
    "beta2": 0.9,
    "schedule": "cosine",
}

RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "ellipses-dival": {
        "learned-primal-dual": {"hidden": 32, "batch_size": 1, "reuse": 1, "steps": 12_000, **_SOON},
        "learned-gradient": {"batch_size": 1, "steps": 15_000, **_SOON},
        "fbp-unet": {"base": 32, "depth": 4, "batch_size": 4, "steps": 3000, **_SOON},
        "local-adversarial-regularisation": {
            **_LOCAL,
            "batch_size": 8,
            "steps": 1500,
            "iterations": 100,
            "validate_every": 250,
            "checkpoint_every": 100,
        },
        "gradient-step-prior": {
            "layers": (16, 32, 64),
            "batch_size": 4,
            "steps": 1500,
            "learning_rate": 1e-3,
            "fit_images": 2,
            "fit_solves": 10,
            "iterations": 100,
            **_SOON,
        },
    },
    "head-lowdose": {
        "learned-primal-dual": {
            "iterations": 6,
            "hidden": 32,
            "batch_size": 1,
            "reuse": 1,
            "steps": 2000,
            **_SOON,
            "average": 0.99,
        },
        "fbp-unet": {
            "base": 24,
            "depth": 4,
            "batch_size": 1,
            "steps": 2400,
            **_SOON,
            "average": 0.99,
        },
        "learned-gradient": {"batch_size": 1, "steps": 1600, **_SOON, "average": 0.99},
        "local-adversarial-regularisation": {
            **_LOCAL,
            "batch_size": 2,
            "steps": 500,
            "iterations": 100,
            "validate_every": 500,
            "checkpoint_every": 100,
        },
        "gradient-step-prior": {
            "layers": (16, 32, 64),
            "batch_size": 1,
            "steps": 600,
            "learning_rate": 1e-3,
            "fit_images": 2,
            "fit_solves": 10,
            "iterations": 100,
            **_SOON,
            "average": 0.99,
            "validate_every": 600,
        },
    },
    "mri-4x": {
        "modl": {
            "hidden": 32,
            "iterations": 6,
            "norm": "none",
            "normalise": "data",
            "batch_size": 1,
            "reuse": 4,
            "steps": 2400,
            **_SOON,
        },
    },
    "ellipses-small": {
        "learned-primal-dual": {
            "hidden": 32,
            "batch_size": 2,
            "reuse": 1,
            "steps": 9000,
            "validate_every": 500,
            "checkpoint_every": 100,
            "learning_rate": 2e-3,
            "average": 0.995,
        },
        "fbp-unet": {
            "base": 24,
            "depth": 4,
            "batch_size": 4,
            "steps": 3000,
            "average": 0.995,
            "validate_every": 500,
            "checkpoint_every": 100,
        },
        "automap": {
            "rank": 128,
            "features": 16,
            "optimizer": "adam",
            "learning_rate": 1e-3,
            "beta2": 0.99,
            "batch_size": 16,
            "reuse": 2,
            "steps": 2500,
            "validate_every": 500,
            "checkpoint_every": 100,
        },
        "adversarial-regularisation": {
            "channels": (16, 32, 32, 64),
            "strides": (1, 2, 1, 2),
            "width": None,
            "iterations": 10,
            "optimizer": "adam",
            "learning_rate": 1e-3,
            "beta1": 0.5,
            "beta2": 0.9,
            "schedule": "cosine",
            "batch_size": 8,
            "steps": 700,
            "validate_every": 250,
            "checkpoint_every": 100,
        },
    },
}

NOT_SHIPPED: dict[str, dict[str, dict[str, Any]]] = {
    "ellipses-small": {
        "learned-gradient": {
            "optimizer": "adam",
            "batch_size": 4,
            "steps": 9000,
            "average": 0.995,
            "checkpoint_every": 100,
        },
        "learned-pdhg": {"batch_size": 4, "steps": 9000, "average": 0.995, "checkpoint_every": 100},
        "ista-net": {
            "features": 16,
            "learning_rate": 1e-3,
            "batch_size": 4,
            "steps": 6000,
            "average": 0.995,
            "checkpoint_every": 100,
        },
        "modl": {
            "hidden": 32,
            "iterations": 6,
            "norm": "none",
            "batch_size": 4,
            "steps": 6000,
            "average": 0.995,
            "checkpoint_every": 100,
        },
        "variational-network": {
            "filters": 16,
            "size": 7,
            "batch_size": 4,
            "steps": 6000,
            "average": 0.995,
            "checkpoint_every": 100,
        },
        "it-net": {
            "base": 16,
            "depth": 4,
            "learning_rate": 1e-3,
            "batch_size": 4,
            "steps": 6000,
            "average": 0.995,
            "checkpoint_every": 100,
        },
    },
    "synthetic-mri": {
        "varnet": {
            "cascades": 6,
            "base": 12,
            "depth": 4,
            "measure": "mse",
            "normalise": "data",
            "batch_size": 4,
            "steps": 6000,
            "average": 0.995,
            "checkpoint_every": 100,
        },
        "modl": {
            "hidden": 32,
            "iterations": 6,
            "norm": "none",
            "normalise": "data",
            "batch_size": 4,
            "steps": 6000,
            "average": 0.995,
            "checkpoint_every": 100,
        },
    },
}
"""Where to begin on two cores; chosen by size, not tuned, and no weights of them are shipped."""


def recipe(problem: str, method: str) -> dict[str, Any]:
    """Changes to the method's default configuration for this problem; none where nothing is stated."""
    every = NOT_SHIPPED.get(problem, {}) | RECIPES.get(problem, {})
    return dict(every.get(method, {}))
