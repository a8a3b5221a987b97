"""Tables and the figure of benchmarks/honesty.py, from its rows."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def share(r: dict[str, Any] | None) -> str:
    if r is None:
        return "–"
    low, high = r["interval"]
    return f"{r['share']:.0%} ({low:.0%}–{high:.0%})"


def details(rows: Rows) -> list[str]:
    cells = [
        [
            f"{r['contrast']:g}",
            r["method"],
            share(r["survival"]),
            share(r["insertion"]),
            f"{r['response']:.2f}",
        ]
        for r in rows
    ]
    return [
        "## Letters, which no training image has",
        "",
        "Kept: at least half of the contrast is left, by a matched filter; invented: as much appears where "
        "none was. Response: what the letter changes, 1 is its contrast. 95 % intervals (Wilson).",
        "",
        *table(["contrast", "method", "kept", "invented", "mean response"], cells),
    ]


def worst(rows: Rows) -> list[str]:
    cells = [
        [f"{r['radius']:g}", r["method"], *(f"{r[k]:.3f}" for k in
         ("change", "noise_change", "error", "attacked_error", "noise_error"))] for r in rows
    ]  # fmt: skip
    return [
        "## Worst changes of the data under one norm",
        "",
        "‖e‖ = radius · ‖y‖, the worse of the power method and projected Adam, from each method's own "
        "gradient: lower bounds. Change: ‖f(y + e) − f(y)‖/‖f(y)‖; errors relative to the truth.",
        "",
        *table(["radius", "method", "change", "by noise", "error", "attacked", "with noise"], cells),
    ]


def views(rows: Rows) -> list[str]:
    counts = list(rows[0]["nrmse"])
    cells = []
    for r in rows:
        values = [f"{v:.3f}" if isinstance(v, float) else "refuses" for v in r["nrmse"].values()]
        cells.append([r["method"], *values, ", ".join(map(str, r["harmed"])) or "none"])
    head = ["method", *(f"{c} views" for c in counts), "harmed by"]
    return ["## More views", "", "‖x − t‖/‖t‖; networks are trained for 30.", "", *table(head, cells)]


def data(rows: Rows) -> list[str]:
    keys = ("reduced_chi2", "worst_chi2", "data_residual", "nrmse", "visible_error", "invisible_error")
    cells = [[r["method"], *(f"{r[k]:.3f}" for k in keys), f"{r['denies']:.0%}"] for r in rows]
    head = ["method", "χ²", "worst χ²", "‖Ax−y‖/‖y‖", "error", "that data show", "that they do not", "denies"]
    return [
        "## Do images explain their data?",
        "",
        "Denies: share of images with χ² five standard deviations above 1.",
        "",
        *table(head, cells),
    ]


def unsuitable(rows: Rows) -> list[str]:
    shifts = [k for k in rows[0] if k not in ("features", "false_alarms")]
    cells = [
        [r["features"], share(r["false_alarms"]),
         *(f"{r[s]['auc']:.2f}, {r[s]['flagged']['share']:.0%}" for s in shifts)] for r in rows
    ]  # fmt: skip
    return [
        "## Data unlike the training's",
        "",
        "Mahalanobis distance, threshold conformal at 5 %. AUC against the usual, share flagged.",
        "",
        *table(["features", "false alarms", *shifts], cells),
    ]


def membership(rows: Rows) -> list[str]:
    cells = [
        [r["method"], r["images"], f"{r['auc']:.2f} ({r['interval'][0]:.2f}–{r['interval'][1]:.2f})",
         f"{r['train_loss']:.4f}", f"{r['fresh_loss']:.4f}"] for r in rows
    ]  # fmt: skip
    head = ["method", "images", "AUC of the attack", "loss on them", "on fresh ones"]
    return ["## Can training images be told?", "", *table(head, cells)]


def ensemble(rows: Rows) -> list[str]:
    cells = [[r["data"], share(r["flagged"])] for r in rows if "data" in r]
    (last,) = (r for r in rows if "data" not in r)
    return [
        "## Disagreement of three small networks",
        "",
        *table(["data", "flagged"], cells),
        f"Rank correlation of disagreement and error: {last['rank_correlation_with_error']:.2f}.",
        "",
    ]


def cohen(rows: Rows) -> list[str]:
    cells = []
    for r in rows:
        told = "–" if r["share"] is None else f"{r['share']:g}"
        scores = [f"{r['kept']:.2f}", f"{r['inserted']:.2f}"]
        result = [share(r["survival"]), share(r["insertion"]), *scores]
        result = [r["error"], "", "", ""] if r["error"] else result
        cells.append([r["lesion"], r["method"], told, *result])
    head = ["lesion", "method", "share with lesions", "survival", "insertion", "mean score with", "without"]
    return [
        "## Cohen's experiment: lesions in the training data",
        "",
        "Cohen, Luck, Honari, MICCAI 2018. Every case is a body whose data plainly show the lesion, or its "
        "lack; only the share of bodies with lesions among the images learned from differs. Score: the "
        "lesion's contrast that stands in the image; survival and insertion: half of it or more. Bright "
        "lesions are beyond the range of all truths without one, to which a generator's tanh is scaled: it "
        "has not seen such values and cannot give all of them. Dark ones are within.",
        "",
        *table(head, cells),
    ]


SECTIONS = {
    "details": details,
    "worst": worst,
    "views": views,
    "data": data,
    "unsuitable": unsuitable,
    "membership": membership,
    "ensemble": ensemble,
    "cohen": cohen,
}


def report(found: dict[str, Any]) -> str:
    lines = ["# How far learned methods can be trusted, on `ellipses-small`", ""]
    for name, section in SECTIONS.items():
        if name in found:
            lines += section(found[name])
    took = ", ".join(f"{k} {v:.0f} s" for k, v in found["seconds"].items())
    return "\n".join([*lines, f"Made by `benchmarks/honesty.py` ({took})."]) + "\n"


def figure(found: dict[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(1, 4, figsize=(17, 4), layout="constrained")
    for axis, part, x, y, title in (
        (axes[0], "details", "contrast", "response", "contrast of a letter that is left"),
        (axes[1], "worst", "radius", "attacked_error", "error under attack (dashed: noise)"),
    ):
        rows = found.get(part, [])
        for k, name in enumerate(dict.fromkeys(r["method"] for r in rows)):
            mine = [r for r in rows if r["method"] == name]
            axis.plot([r[x] for r in mine], [r[y] for r in mine], f"C{k}o-", label=name)
            if part == "worst":
                axis.plot([r[x] for r in mine], [r["noise_error"] for r in mine], f"C{k}--")
        axis.set(xlabel=x, title=title, ylim=(0, None))
        axis.legend(fontsize=7)
    for k, r in enumerate(found.get("views", [])):
        points = [(int(c), v) for c, v in r["nrmse"].items() if isinstance(v, float)]
        axes[2].plot(*zip(*points, strict=True), f"C{k}o-", label=r["method"])
    axes[2].set(xlabel="views (trained for 30)", title="error", ylim=(0, None))
    rows = [r for r in found.get("cohen", []) if r["share"] is not None and not r["error"]]
    for k, name in enumerate(dict.fromkeys(r["method"] for r in rows)):
        for kind, line in (("bright", "o-"), ("dark", "s--")):
            points = [(r["share"], r["kept"]) for r in rows if (r["method"], r["lesion"]) == (name, kind)]
            if points:
                axes[3].plot(*zip(*points, strict=True), f"C{k}{line}", label=f"{name}, {kind} lesion")
    axes[3].set(xlabel="share of training images with lesions", title="share of a lesion's contrast kept")
    axes[3].set_ylim(0, None)
    for axis in axes[2:]:
        if axis.lines:
            axis.legend(fontsize=7)
    drawn.savefig(path, dpi=110)
