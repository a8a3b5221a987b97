"""One level of an orthonormal periodic wavelet transform, and back, in one pass over memory (numba).

Images are (images, ny, numbers of a line), complex ones as pairs of numbers; `width` is 2 then. Lines are
combined first, into two lines of scratch that stay in the first cache, and filtered along themselves after.
An odd side leaves its last sample to the next level, as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .fused import Array, row, share_rows


def analyse(
    x: Array, y: Array, low: Array, h: Sequence[float], width: int, threshold: Array | None = None
) -> None:
    """x (n, ny, numbers) -> low, the averages, and the rest of y, the details; those shrunk if asked to.

    y         : (n, at least ny, …), its corner of the size of x is written, but for the averages
    low       : (n, ⌈ny/2⌉, ⌈nx/2⌉·width)
    threshold : (n,): soft thresholding of the details, of moduli if width is 2
    """
    taps = np.array([h, mirror(h)], dtype=x.dtype)
    shrink = threshold is not None
    limit = threshold if threshold is not None else np.zeros(len(x), x.dtype)
    pairs = (x.shape[1] + 1) // 2
    share_rows(_analyse, len(x) * pairs, x.size, x, y, low, taps, width, limit, shrink)


def synthesise(y: Array, low: Array, x: Array, h: Sequence[float], width: int) -> None:
    """The inverse of `analyse`: averages from low, details from y, into x."""
    taps = np.array([h, mirror(h)], dtype=x.dtype)
    pairs = (x.shape[1] + 1) // 2
    share_rows(_synthesise, len(x) * pairs, x.size, y, low, x, taps, width)


def mirror(h: Sequence[float]) -> list[float]:
    """The wavelet filter of a scaling filter."""
    return [(-1) ** j * value for j, value in enumerate(reversed(h))]


@row
def _analyse(
    first: int,
    last: int,
    x: Array,
    y: Array,
    low: Array,
    taps: Array,
    width: int,
    threshold: Array,
    shrink: bool,
) -> None:
    ny, numbers = x.shape[1:]
    pairs, even, length = (ny + 1) // 2, ny // 2 * 2, taps.shape[1]
    kept = low.shape[2]
    a, d = np.empty(numbers, x.dtype), np.empty(numbers, x.dtype)
    phases = np.empty((2, (numbers // width // 2 + length // 2) * width), x.dtype)
    for n in range(first, last):
        b, k = n // pairs, n % pairs
        if 2 * k == even:  # an odd side's last line
            a[:] = x[b, ny - 1]
            _filter(a, phases, taps, width, low[b, k], y[b, k, kept:numbers])
            if shrink:
                _soft(y[b, k, kept:numbers], threshold[b], width)
            continue
        for j in range(0, length, 2):
            i = (2 * k + j + 1 - length // 2) % even
            one, two = x[b, i], x[b, (i + 1) % even]
            _combine(one, two, taps[0, j], taps[0, j + 1], j == 0, a)
            _combine(one, two, taps[1, j], taps[1, j + 1], j == 0, d)
        _filter(a, phases, taps, width, low[b, k], y[b, k, kept:numbers])
        detail = y[b, pairs + k]
        _filter(d, phases, taps, width, detail[:kept], detail[kept:numbers])
        if shrink:
            _soft(y[b, k, kept:numbers], threshold[b], width)
            _soft(detail[:numbers], threshold[b], width)


@row
def _combine(one: Array, two: Array, f: float, g: float, new: bool, out: Array) -> None:
    if new:
        for i in range(len(out)):
            out[i] = f * one[i] + g * two[i]
    else:
        for i in range(len(out)):
            out[i] += f * one[i] + g * two[i]


@row
def _filter(line: Array, phases: Array, taps: Array, width: int, a: Array, d: Array) -> None:
    """a[k] = Σⱼ h[j] line[2k + j + 1 − L/2], d with g."""
    length, half = taps.shape[1], len(d) // width
    start, more = 1 - length // 2, length // 2 - 1
    _split(line, phases, start, half, more, width)
    for out, f in ((a, 0), (d, 1)):
        for j in range(0, length, 2):
            at = j // 2 * width
            one, two = phases[0, at : at + half * width], phases[1, at : at + half * width]
            _combine(one, two, taps[f, j], taps[f, j + 1], j == 0, out[: half * width])
    if len(a) > len(d):
        for c in range(width):
            a[half * width + c] = line[2 * half * width + c]


@row
def _split(line: Array, phases: Array, start: int, half: int, more: int, width: int) -> None:
    """Every other sample from start, and from start + 1, continued periodically: half + more of each."""
    if not half:
        return
    odd = start % 2  # the first phase takes the odd samples
    before = (odd - start) // 2, (1 - odd - start - 1) // 2
    one = phases[0, before[0] * width : (before[0] + half) * width]
    two = phases[1, before[1] * width : (before[1] + half) * width]
    if odd:
        _deal(line, two, one, width)
    else:
        _deal(line, one, two, width)
    _continue(phases[0], before[0], half, more, width)
    _continue(phases[1], before[1], half, more, width)


@row
def _deal(line: Array, even: Array, odd: Array, width: int) -> None:
    if width == 1:
        for k in range(len(even)):
            even[k] = line[2 * k]
            odd[k] = line[2 * k + 1]
    else:
        for k in range(len(even) // 2):
            even[2 * k] = line[4 * k]
            even[2 * k + 1] = line[4 * k + 1]
            odd[2 * k] = line[4 * k + 2]
            odd[2 * k + 1] = line[4 * k + 3]


@row
def _gather(even: Array, odd: Array, line: Array, width: int) -> None:
    if width == 1:
        for k in range(len(even)):
            line[2 * k] = even[k]
            line[2 * k + 1] = odd[k]
    else:
        for k in range(len(even) // 2):
            line[4 * k] = even[2 * k]
            line[4 * k + 1] = even[2 * k + 1]
            line[4 * k + 2] = odd[2 * k]
            line[4 * k + 3] = odd[2 * k + 1]


@row
def _continue(samples: Array, before: int, half: int, more: int, width: int) -> None:
    """`half` samples from the one at `before`, periodically continued to half + more."""
    for k in range(before):
        i = before + (k - before) % half
        for c in range(width):
            samples[k * width + c] = samples[i * width + c]
    for k in range(before + half, half + more):
        i = before + (k - before) % half
        for c in range(width):
            samples[k * width + c] = samples[i * width + c]


@row
def _soft(line: Array, threshold: float, width: int) -> None:
    if width == 1:
        for i in range(len(line)):
            line[i] -= min(max(line[i], -threshold), threshold)
    else:
        for k in range(len(line) // 2):
            u, v = line[2 * k], line[2 * k + 1]
            f = max(np.sqrt(u * u + v * v) - threshold, 0 * u) / max(np.sqrt(u * u + v * v), threshold)
            line[2 * k], line[2 * k + 1] = f * u, f * v


@row
def _synthesise(first: int, last: int, y: Array, low: Array, x: Array, taps: Array, width: int) -> None:
    ny, numbers = x.shape[1:]
    pairs, half, length = (ny + 1) // 2, ny // 2, taps.shape[1]
    kept = low.shape[2]
    lines = np.empty((2, numbers), x.dtype)
    parts = np.empty((2, (numbers // width // 2 + length // 2) * width), x.dtype)
    phases = np.empty((2, (numbers // width // 2 + length // 2) * width), x.dtype)
    for n in range(first, last):
        b, i = n // pairs, n % pairs
        if i == half:  # an odd side's last line
            lines[0, :kept] = low[b, i]
            lines[0, kept:] = y[b, i, kept:numbers]
            _merge(lines[0], parts, phases, taps, width, x[b, ny - 1])
            continue
        for phase in range(2):
            line = lines[phase]
            for j in range(length // 2):
                k = (i - j) % half
                f, g = taps[0, 2 * j + phase], taps[1, 2 * j + phase]
                _combine(low[b, k], y[b, pairs + k, :kept], f, g, j == 0, line[:kept])
                _combine(y[b, k, kept:numbers], y[b, pairs + k, kept:numbers], f, g, j == 0, line[kept:])
            target = (2 * i + phase + 1 - length // 2) % (2 * half)
            _merge(line, parts, phases, taps, width, x[b, target])


@row
def _merge(line: Array, parts: Array, phases: Array, taps: Array, width: int, x: Array) -> None:
    """x[2i + phase + 1 − L/2] = Σⱼ h[2j + phase] a[i − j] + g[2j + phase] d[i − j]."""
    length, samples = taps.shape[1], len(x) // width
    half, more, start = samples // 2, length // 2 - 1, 1 - length // 2
    if half:
        kept, at = (samples - half) * width, more * width
        parts[0, at : at + half * width] = line[: half * width]
        parts[1, at : at + half * width] = line[kept:]
        _continue(parts[0], more, half, more, width)
        _continue(parts[1], more, half, more, width)
        for phase in range(2):
            for j in range(length // 2):
                at = (more - j) * width
                one, two = parts[0, at : at + half * width], parts[1, at : at + half * width]
                f, g = taps[0, 2 * j + phase], taps[1, 2 * j + phase]
                _combine(one, two, f, g, j == 0, phases[phase, : half * width])
            _continue(phases[phase], 0, half, more + 1, width)
        odd = start % 2
        before = (odd - start) // 2, (1 - odd - start - 1) // 2
        one = phases[0, before[0] * width : (before[0] + half) * width]
        two = phases[1, before[1] * width : (before[1] + half) * width]
        if odd:
            _gather(two, one, x, width)
        else:
            _gather(one, two, x, width)
    if samples > 2 * half:
        for c in range(width):
            x[2 * half * width + c] = line[half * width + c]
