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
    # of every phase, h and g take turns: what averages and details at i, i − 1, … meet
    taps = np.stack([h, mirror(h)], 1).reshape(-1, 2, 2).transpose(1, 0, 2).reshape(2, -1).astype(x.dtype)
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
        rest = length % 4
        if rest:
            i = (2 * k + 1 - length // 2) % even
            _combine(x[b, i], x[b, (i + 1) % even], taps[0, 0], taps[0, 1], True, a)
            _combine(x[b, i], x[b, (i + 1) % even], taps[1, 0], taps[1, 1], True, d)
        for j in range(rest, length, 4):
            i = (2 * k + j + 1 - length // 2) % even
            x0, x1, x2, x3 = x[b, i], x[b, (i + 1) % even], x[b, (i + 2) % even], x[b, (i + 3) % even]
            _four(x0, x1, x2, x3, taps[0], j, j == 0, a)
            _four(x0, x1, x2, x3, taps[1], j, j == 0, d)
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
def _four(x0: Array, x1: Array, x2: Array, x3: Array, f: Array, j: int, new: bool, out: Array) -> None:
    """Add Σ f[j + k] xₖ, or begin with it."""
    f0, f1, f2, f3 = f[j], f[j + 1], f[j + 2], f[j + 3]
    if new:
        for i in range(len(out)):
            out[i] = f0 * x0[i] + f1 * x1[i] + f2 * x2[i] + f3 * x3[i]
    else:
        for i in range(len(out)):
            out[i] += f0 * x0[i] + f1 * x1[i] + f2 * x2[i] + f3 * x3[i]


@row
def _filter(line: Array, phases: Array, taps: Array, width: int, a: Array, d: Array) -> None:
    """a[k] = Σⱼ h[j] line[2k + j + 1 − L/2], d with g."""
    length, half = taps.shape[1], len(d) // width
    start, more = 1 - length // 2, length // 2 - 1
    _split(line, phases, start, half, more, width)
    n, rest = half * width, length % 4
    for out, f in ((a[:n], 0), (d, 1)):
        if rest:
            _combine(phases[0, :n], phases[1, :n], taps[f, 0], taps[f, 1], True, out)
        for j in range(rest, length, 4):
            at = j // 2 * width
            x0, x1 = phases[0, at : at + n], phases[1, at : at + n]
            x2, x3 = phases[0, at + width : at + width + n], phases[1, at + width : at + width + n]
            _four(x0, x1, x2, x3, taps[f], j, j == 0, out)
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
            line, f, rest = lines[phase], taps[phase], length % 4
            if rest:
                one, two, ahead = low[b, i], y[b, i, kept:numbers], y[b, pairs + i]
                _combine(one, ahead[:kept], f[0], f[1], True, line[:kept])
                _combine(two, ahead[kept:numbers], f[0], f[1], True, line[kept:])
            for j in range(rest, length, 4):
                k, m = (i - j // 2) % half, (i - j // 2 - 1) % half
                d0, d1 = y[b, pairs + k], y[b, pairs + m]
                _four(low[b, k], d0[:kept], low[b, m], d1[:kept], f, j, j == 0, line[:kept])
                a0, a1 = y[b, k, kept:numbers], y[b, m, kept:numbers]
                _four(a0, d0[kept:numbers], a1, d1[kept:numbers], f, j, j == 0, line[kept:])
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
        n, rest = half * width, length % 4
        for phase in range(2):
            out, f = phases[phase, :n], taps[phase]
            if rest:
                at = more * width
                _combine(parts[0, at : at + n], parts[1, at : at + n], f[0], f[1], True, out)
            for j in range(rest, length, 4):
                at = (more - j // 2) * width
                a0, d0 = parts[0, at : at + n], parts[1, at : at + n]
                a1, d1 = parts[0, at - width : at - width + n], parts[1, at - width : at - width + n]
                _four(a0, d0, a1, d1, f, j, j == 0, out)
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
