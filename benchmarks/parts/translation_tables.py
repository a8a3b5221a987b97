"""The tables, the sentences and the figure of translation.py, from its rows."""

import math
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Rows = list[dict[str, Any]]
DASH = "–"
COMPARED = (
    ("psnr_db", "dB PSNR", "{:+.2f}"),
    ("ssim", "SSIM", "{:+.4f}"),
    ("bias_hu_body", "HU bias", "{:+.1f}"),
    ("nps_distance_db", "dB NPS distance", "{:+.1f}"),
)


def by_method(rows: Rows) -> dict[str, dict[str, Any]]:
    """Means and spreads over the seeds of every method, failures counted."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        entry = found.setdefault(
            row["title"], {"kind": row["kind"], "runs": 0, "failures": [], "missing": False, "all": {}}
        )
        entry["missing"] = entry["missing"] or row.get("missing", False)
        if row.get("missing"):
            continue
        entry["runs"] += 1
        if "error" in row:
            entry["failures"].append({"seed": row["seed"], "error": row["error"]})
            continue
        for key in ("parameters", "images_per_second", "minutes", "steps"):
            entry["all"].setdefault(key, []).append(row[key])
        for key, value in row["scores"].items():
            entry["all"].setdefault(key, []).append(value)
    for entry in found.values():
        entry["mean"] = {k: _mean(v) for k, v in entry["all"].items()}
        entry["spread"] = {k: _spread(v) for k, v in entry["all"].items()}
    return found


def _kept(values: list[float | None]) -> list[float]:
    return [v for v in values if v is not None and math.isfinite(v)]


def _mean(values: list[float | None]) -> float:
    return statistics.fmean(_kept(values)) if _kept(values) else math.nan


def _spread(values: list[float | None]) -> float | None:
    return statistics.stdev(_kept(values)) if len(_kept(values)) > 1 else None


def table(rows: Rows, columns: dict[str, tuple[str, str]]) -> list[str]:
    """A Markdown table, a line a method; columns: key -> (title, format)."""
    lines = [
        "| method | " + " | ".join(title for title, _ in columns.values()) + " | failed |",
        "|:--|" + "--:|" * (len(columns) + 1),
    ]
    for title, entry in by_method(rows).items():
        cells = [_cell(entry, key, form) for key, (_, form) in columns.items()]
        failed = DASH if entry["missing"] else f"{len(entry['failures'])} of {entry['runs']}"
        lines.append(f"| {title} | " + " | ".join(cells) + f" | {failed} |")
    return lines


def _cell(entry: dict[str, Any], key: str, form: str) -> str:
    value = entry["mean"].get(key, math.nan)
    if not math.isfinite(value):
        return DASH
    spread = entry["spread"].get(key)
    alone = not spread or key in ("parameters", "images_per_second", "steps")
    return form.format(value) if alone else f"{form.format(value)} ± {form.replace('+', '').format(spread)}"


def expectation(rows: Rows) -> list[str]:
    """Whether RED-CNN leads in PSNR, and whether adversarial methods are nearer in texture, on these rows."""
    learned = {t: e for t, e in by_method(rows).items() if e["kind"] in ("pixel", "adversarial") and e["all"]}
    lines = []
    if "RED-CNN" in learned and len(learned) > 1:
        order = sorted(learned, key=lambda t: -learned[t]["mean"]["psnr_db"])
        place = order.index("RED-CNN") + 1
        gap = learned[order[0]]["mean"]["psnr_db"] - learned["RED-CNN"]["mean"]["psnr_db"]
        ahead = "holds" if place == 1 else f"does not hold: {order[0]} is {gap:.2f} dB ahead"
        lines.append(
            f"RED-CNN ahead in PSNR: {ahead}; RED-CNN is number {place} of {len(order)} that learned."
        )
    else:
        lines.append("RED-CNN ahead in PSNR: cannot be said, RED-CNN or a rival is missing.")
    pixel, against = (
        [e["mean"]["nps_distance_db"] for e in learned.values() if e["kind"] == kind]
        for kind in ("pixel", "adversarial")
    )
    pixel, against = ([v for v in part if math.isfinite(v)] for part in (pixel, against))
    if pixel and against:
        a, b = statistics.median(against), statistics.median(pixel)
        nearer = sum(v < min(pixel) for v in against)
        lines.append(
            f"Adversarial ones nearer in texture: {'holds' if a < b else 'does not hold'}; median NPS "
            f"distance {a:.1f} dB against {b:.1f} dB of those trained by pixels, and {nearer} of "
            f"{len(against)} are nearer than every one of these."
        )
    else:
        lines.append("Adversarial ones nearer in texture: cannot be said, one of the two kinds is missing.")
    return lines


def unpaired(rows: Rows) -> list[str]:
    """CycleGAN against its input."""
    entries = by_method(rows)
    start, cycle = entries.get("FBP (input)"), entries.get("CycleGAN, unpaired")
    if not start or not cycle or not cycle["all"]:
        return ["CycleGAN against its input: cannot be said, it is missing or every seed failed."]
    parts = []
    for key, unit, form in COMPARED:
        parts.append(f"{form.format(cycle['mean'][key] - start['mean'][key])} {unit}")
    return [f"CycleGAN, unpaired, against its input (FBP): {', '.join(parts)}."]


def figure(path: Path, images: dict[str, Tensor], truth: Tensor, window: tuple[float, float]) -> None:
    """The first test image by every method that has one."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = {**images, "truth": truth}
    wide = min(5, len(shown))
    rows = math.ceil(len(shown) / wide)
    fig, axes = plt.subplots(rows, wide, figsize=(2.3 * wide, 2.5 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, image) in zip(axes.flat, shown.items(), strict=False):
        axis.imshow(torch.as_tensor(image).cpu(), cmap="gray", vmin=window[0], vmax=window[1])
        axis.set_title(title, fontsize=8)
    fig.tight_layout()
    fig.savefig(path, dpi=110)
    plt.close(fig)
