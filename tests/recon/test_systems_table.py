"""The table of names in the literature names only what is there."""

import re
from pathlib import Path

import operators
import priors.networks
import recon
import recon.data
import recon.data.tasks
import recon.data.translation
import recon.honesty
import recon.metrics
from recon.comparison.task import problem
from recon.losses import LOSSES

TABLE = Path(recon.__file__).parent / "baselines" / "SYSTEMS.md"
MODULES = (
    recon, recon.data, recon.data.tasks, recon.data.translation, recon.honesty, recon.metrics, operators,
    priors.networks,
)  # fmt: skip
OTHER = {
    "generator",
    "stack",
    "inject",
    "priors.projection",
    "recon.metrics",
    "recon.losses.LOSSES",
    "PRIVACY.md",
}


def test_every_name_is_there():
    rows = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    names = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert len(rows) > 60 and len(names) > 100
    unknown = []
    for name in sorted(names - OTHER):
        if name.startswith("recon "):
            continue
        if name in recon.METHODS or name in LOSSES or any(hasattr(m, name) for m in MODULES):
            continue
        try:
            problem(name)
        except (KeyError, ValueError):
            unknown.append(name)
    assert not unknown
    marks = {row.rsplit("|", 2)[1].strip() for row in rows}
    assert marks <= {"=", "≈", "—", ""}
