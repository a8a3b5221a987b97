"""What the report says of one problem: tables as text, pictures as data URIs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .digestion import Results
from .panels import (
    Array,
    crop,
    curve_chart,
    data_uri,
    default_zoom,
    diverging,
    grey,
    in_unit,
    shared_scale,
    strip_chart,
    uri_of,
    write_panel,
)
from .rows import columns, metrics_of
from .scores import better, decimals, label

CURVES = {"gap": "gap / objective", "residual": "residual"}


def problem_section(results: Results, name: str) -> dict[str, Any]:
    """Context of the template for one problem; its panel is written beside."""
    about = results.problems[name]
    methods = results.methods(name)
    metrics = metrics_of(results.of(name)) or about["metrics"]
    return {
        "about": about,
        "metrics": [
            {
                "key": m,
                "label": label(m),
                "decimals": decimals(m),
                "better": "higher" if better(m) > 0 else "lower",
            }
            for m in metrics
        ],
        "methods": [_method(results, name, method, metrics) for method in methods],
        "best": _best(results, name, methods, metrics),
        "reference": results.reference(name),
        "notes": _notes(results, name, methods, metrics[0]),
        "strip": uri_of(
            strip_chart(
                {
                    m: [r.scores[metrics[0]] for r in results.of(name, m) if metrics[0] in r.scores]
                    for m in methods
                },
                label(metrics[0]),
            )
        ),
        "curves": _curves(results, name, methods),
        "pictures": _pictures(results, name, methods, metrics[0]),
        "tuning": [
            {"method": m, **results.groups[name, m]["tuning"]}
            for m in methods
            if results.groups.get((name, m), {}).get("tuning")
        ],
        "columns": columns(metrics),
        "rows": [row.flat(metrics) for row in results.of(name)],
        "configuration": shortened(about["configuration"]),
    }


def _method(results: Results, problem: str, method: str, metrics: Sequence[str]) -> dict[str, Any]:
    group = results.groups.get((problem, method), {})
    return {
        "name": method,
        "group": group,
        "costs": results.costs(problem, method),
        "summaries": {m: results.summary(problem, method, m) for m in metrics},
        "differences": {m: results.difference(problem, method, m) for m in metrics},
        "settings": shortened(group.get("settings", {}).get("fixed", {})),
        "parameters": ", ".join(f"{k} = {number(v)}" for k, v in group.get("parameters", {}).items()),
    }


def _notes(results: Results, problem: str, methods: Sequence[str], metric: str) -> list[str]:
    """What n allows to say, once for all methods it holds for."""
    said: dict[str, list[str]] = {}
    for method in methods:
        said.setdefault(results.summary(problem, method, metric).note, []).append(method)
    if len(said) == 1:
        return list(said)
    return [f"{', '.join(names)}: {note}" for note, names in said.items()]


def _best(results: Results, problem: str, methods: Sequence[str], metrics: Sequence[str]) -> dict[str, str]:
    """The best mean of each metric, among methods that have the most images."""
    chosen = {}
    for metric in metrics:
        table = {m: results.summary(problem, m, metric) for m in methods}
        most = max(s.n for s in table.values())
        whole = {m: s.mean for m, s in table.items() if s.n == most and s.mean is not None}
        if whole:
            chosen[metric] = max(whole, key=lambda m: better(metric) * whole[m])
    return chosen


def _curves(results: Results, problem: str, methods: Sequence[str]) -> list[dict[str, str]]:
    charts = []
    for key, title in CURVES.items():
        found = {
            m: _relative(history, key)
            for m in methods
            if (history := results.groups.get((problem, m), {}).get("history", {})).get(key)
        }
        drawable = {m: v for m, v in found.items() if sum(isinstance(x, float | int) for x in v) > 1}
        if drawable:
            charts.append({"title": title, "uri": uri_of(curve_chart(drawable, title, methods))})
    return charts


def _relative(history: Mapping[str, Sequence[float | None]], key: str) -> list[float | None]:
    """The gap as a share of the last objective; the residual as it is."""
    last = next((v for v in reversed(history.get("objective", [])) if v), 1.0) if key == "gap" else 1.0
    return [None if v is None else v / abs(last) for v in history[key]]


def _pictures(results: Results, problem: str, methods: Sequence[str], metric: str) -> list[dict[str, Any]]:
    """Truth first, then every method; the same windows and the same difference scale for all."""
    about = results.problems[problem]
    windows = about["windows"]
    shown = []
    for rule, image in results.shown(problem):
        truth = results.truth(problem, image)
        zoom = about["zoom"] or default_zoom(truth.shape)
        found = {m: x for m in methods if (x := results.image(problem, m, image)) is not None}
        unit = windows[0]["unit"]
        differences = {m: _unit(x, about, unit) - _unit(truth, about, unit) for m, x in found.items()}
        scale = shared_scale(list(differences.values()), (windows[0]["high"] - windows[0]["low"]) / 2)
        tiles = [_tile("truth", truth, None, about, zoom, scale)]
        tiles += [_tile(m, x, differences[m], about, zoom, scale) for m, x in found.items()]
        scores = {r.method: r.scores.get(metric) for r in results.of(problem) if r.image == image}
        for tile in tiles:
            tile["score"] = f"{scores[tile['name']]:.4g}" if scores.get(tile["name"]) is not None else ""
        shown.append(
            {
                "rule": rule,
                "noun": results.noun(problem),
                "image": image,
                "scale": scale,
                "unit": unit,
                "tiles": tiles,
            }
        )
    if shown:
        first = shown[0]
        title = (
            f"{problem}, image {first['image']}; {_words(windows[0])}; "
            f"differences ±{first['scale']:g} {first['unit']}"
        )
        path = results.folder / "panels" / f"{problem}.png"
        write_panel(path, [(tile["name"], tile["images"]) for tile in first["tiles"]], title)
    for one in shown:
        for tile in one["tiles"]:
            tile["images"] = [data_uri(picture) for picture in tile.pop("images")]
    return shown


def _tile(
    name: str,
    image: Array,
    difference: Array | None,
    about: Mapping[str, Any],
    zoom: Sequence[int],
    scale: float,
) -> dict[str, Any]:
    """Pictures of one image: every window, the zoom at the first, the difference from the truth."""
    first, *others = about["windows"]

    def at(window: Mapping[str, Any], picture: Array) -> Any:
        return grey(_unit(picture, about, window["unit"]), window["low"], window["high"])

    images = [at(first, image), at(first, crop(image, zoom))]
    kinds = [_words(first), f"zoom, {_words(first)}"]
    if difference is not None:
        images.append(diverging(difference, scale))
        kinds.append("difference")
    for window in others:
        images.insert(len(images) - (difference is not None), at(window, image))
        kinds.insert(len(kinds) - (difference is not None), _words(window))
    return {"name": name, "images": images, "kinds": kinds, "small": min(image.shape) < 160}


def _unit(image: Array, about: Mapping[str, Any], unit: str) -> Array:
    return in_unit(image, unit, about["mu_water"])


def _words(window: Mapping[str, Any]) -> str:
    return f"{window['name']} {window['low']:g} to {window['high']:g} {window['unit']}".strip()


def number(value: Any) -> str:
    """Numbers in four digits, text as it is, the rest as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return json.dumps(value, ensure_ascii=False)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def shortened(value: Any) -> Any:
    """The same description with long lists cut in the middle."""
    if isinstance(value, Mapping):
        return {key: shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        if len(value) > 6:
            return f"{number(value[0])}, {number(value[1])}, … , {number(value[-1])} ({len(value)} values)"
        return [shortened(item) for item in value]
    return value
