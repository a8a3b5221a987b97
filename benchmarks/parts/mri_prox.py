"""Proximal steps of TV and wavelets: the fused kernels against plain torch, deepinv and PyWavelets.

"plain torch" is what a competent user writes: out of place, every line a formula, lengths as sums of squares
instead of `vector_norm` along a slow axis. "plain torch, in place" is the same tuned by hand, without what
temporaries can be spared. Filters by the faster of two ways, shifted sums and a strided convolution.
Candidates take turns, so that a busy spell slows all of them. The error is relative to the same in double
precision. deepinv's TV is another algorithm, of as many iterations, and its wavelets have other edges: no
error is given.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from operators import Wavelet
from operators.wavelet import _analyse, _synthesise, scaling_filter
from priors import TV, WaveletL1

Call = Callable[[], Any]
ITERATIONS, STEP, WAVELET, LEVELS = 20, 0.3, "db4", 4


def rows(quick: bool) -> list[dict[str, Any]]:
    """See mri_operators.py."""
    side, batch, turns = (128, 2, 3) if quick else (512, 8, 9)
    found = []
    for dtype in (torch.float32, torch.complex64):
        case = f"{batch} × {side}², {str(dtype).removeprefix('torch.')}"
        for what, (calls, reference) in candidates(side, batch, dtype).items():
            times = medians(calls, turns, 0.5 if quick else 8.0)
            for who, call in calls.items():
                other = call is None or "(other" in who
                error = None if other else difference(call(), reference)  # type: ignore[misc]
                found.append(
                    {
                        "section": "proximal steps",
                        "case": case,
                        "what": what,
                        "who": who,
                        "ms": times[who],
                        "error": error,
                    }
                )
    return found


def medians(calls: dict[str, Call | None], turns: int, patience: float) -> dict[str, float | None]:
    """Milliseconds of every call, after one that is not measured; None for a peer that is absent.

    They take `turns` turns, or fewer once `patience` seconds are over, two at least.
    """
    times: dict[str, list[float]] = {who: [] for who in calls}
    for call in calls.values():
        if call is not None:
            call()
    begin = time.perf_counter()
    for turn in range(turns):
        if turn > 1 and time.perf_counter() - begin > patience:
            break
        for who, call in calls.items():
            if call is not None:
                start = time.perf_counter()
                call()
                times[who].append(1e3 * (time.perf_counter() - start))
    return {who: statistics.median(found) if found else None for who, found in times.items()}


def difference(got: Tensor, reference: Tensor) -> float:
    got = torch.as_tensor(got).reshape(reference.shape)
    return float((got - reference).abs().square().sum().sqrt() / reference.abs().square().sum().sqrt())


def candidates(side: int, batch: int, dtype: torch.dtype) -> dict[str, tuple[dict[str, Call | None], Tensor]]:
    """For every step: what everybody calls, and the right result."""
    generator = torch.Generator().manual_seed(0)
    shape, double = (side, side), torch.complex128 if dtype.is_complex else torch.float64
    x = torch.randn(batch, *shape, generator=generator, dtype=dtype)
    p = torch.randn(batch, 2, *shape, generator=generator, dtype=dtype)
    tv = STEP * TV(shape)
    W, l1 = Wavelet(shape, WAVELET, LEVELS), WaveletL1(shape, WAVELET, LEVELS)
    c = W(x)
    high = x.to(double), p.to(double)
    options = {"iterations": ITERATIONS, "tolerance": 0.0}
    step = l1.prox(high[0], STEP)
    return {
        "TV dual step": (
            {
                "ours": lambda: tv.dual_step(p, x, 0.25),
                "plain torch": lambda: dual_step(p, x, 0.25, STEP),
                "plain torch, in place": lambda: dual_step_in_place(p, x, 0.25, STEP),
            },
            dual_step(high[1], high[0], 0.25, STEP),
        ),
        f"TV prox, {ITERATIONS} iterations": (
            {
                "ours": lambda: tv.prox(x, 1.0, **options),
                "plain torch": lambda: denoised(x, STEP, ITERATIONS, dual_step, backwards),
                "plain torch, in place": lambda: denoised(
                    x, STEP, ITERATIONS, dual_step_in_place, backwards_in_place
                ),
                "deepinv (other algorithm)": deepinv_tv(x),
            },
            denoised(high[0], STEP, ITERATIONS, dual_step, backwards),
        ),
        "wavelet W": (
            {
                "ours": lambda: W(x),
                "plain torch, shifted sums": lambda: analyse_by_sums(W, x),
                "plain torch, convolutions": lambda: analyse(x, LEVELS),
                "PyWavelets": pywt_transform(x),
            },
            W(high[0]),
        ),
        "wavelet W*": (
            {
                "ours": lambda: W.adjoint(c),
                "plain torch, shifted sums": lambda: synthesise_by_sums(W, c),
                "plain torch, convolutions": lambda: synthesise(c, LEVELS),
            },
            W.adjoint(c.to(double)),
        ),
        "wavelet prox": (
            {
                "ours": lambda: l1.prox(x, STEP),
                "plain torch, shifted sums": lambda: shrunk(x, lambda z: analyse_by_sums(W, z),
                                                            lambda z: synthesise_by_sums(W, z)),
                "plain torch, convolutions": lambda: shrunk(x, lambda z: analyse(z, LEVELS),
                                                            lambda z: synthesise(z, LEVELS)),
                "PyWavelets": pywt_prox(x),
                "deepinv (other edges)": deepinv_wavelet(x),
            },
            step,
        ),
    }  # fmt: skip


def dual_step(p: Tensor, x: Tensor, sigma: float, radius: float) -> Tensor:
    down = torch.diff(x, dim=1, append=x[:, -1:])
    right = torch.diff(x, dim=2, append=x[:, :, -1:])
    q = p + sigma * torch.stack((down, right), 1)
    squares = (q * q.conj()).real if q.is_complex() else q * q
    return q * (radius / squares.sum(1, keepdim=True).sqrt().clamp(min=radius))


def backwards(p: Tensor) -> Tensor:
    """Minus the divergence; what p says beyond the far edges is zero."""
    down, right = p[:, 0, :-1], p[:, 1, :, :-1]
    return F.pad(down, (0, 0, 1, 0)) - F.pad(down, (0, 0, 0, 1)) + F.pad(right, (1, 0)) - F.pad(right, (0, 1))


def power(q: Tensor) -> Tensor:
    """Σ_d |q_d|²"""
    if q.is_complex():
        parts = torch.view_as_real(q)
        return parts[:, 0].square().add_(parts[:, 1].square()).sum(-1)
    return q[:, 0].square().addcmul_(q[:, 1], q[:, 1])


def dual_step_in_place(p: Tensor, x: Tensor, sigma: float, radius: float) -> Tensor:
    q = p.clone()
    q[:, 0, :-1].add_(x[:, 1:] - x[:, :-1], alpha=sigma)
    q[:, 1, :, :-1].add_(x[:, :, 1:] - x[:, :, :-1], alpha=sigma)
    factor = power(q).sqrt_().clamp_(min=radius).reciprocal_().mul_(radius)
    return q.mul_(factor[:, None])


def backwards_in_place(p: Tensor) -> Tensor:
    z = torch.zeros_like(p[:, 0])
    z[:, :-1].sub_(p[:, 0, :-1])
    z[:, 1:].add_(p[:, 0, :-1])
    z[:, :, :-1].sub_(p[:, 1, :, :-1])
    z[:, :, 1:].add_(p[:, 1, :, :-1])
    return z


def denoised(
    x: Tensor,
    weight: float,
    iterations: int,
    dual_step: Callable[..., Tensor],
    backwards: Callable[[Tensor], Tensor],
) -> Tensor:
    """Fast gradient projection with the restart of TV.prox, and without its certificate."""
    mean = x.mean((-2, -1), keepdim=True)
    noisy = x - mean
    p = q = x.new_zeros(len(x), 2, *x.shape[1:])
    t = torch.ones(len(x), dtype=x.real.dtype)
    for _ in range(iterations):
        old = p
        p = dual_step(q, noisy - backwards(q), 1 / 8, weight)
        move = p - old
        back = ((q - p).conj() * move).real if x.is_complex() else (q - p) * move
        before = torch.where(back.sum((1, 2, 3)) > 0, 1.0, t)
        t = (1 + torch.sqrt(1 + 4 * before * before)) / 2
        q = p + ((before - 1) / t)[:, None, None, None] * move
    return noisy - backwards(p) + mean


def filters(x: Tensor) -> Tensor:
    h = scaling_filter(WAVELET)
    g = [(-1) ** j * value for j, value in enumerate(reversed(h))]
    return torch.tensor([h, g], dtype=x.dtype)


def analyse(x: Tensor, levels: int) -> Tensor:
    """Separable strided convolutions, real and imaginary part as two images."""
    if x.is_complex():
        parts = analyse(torch.view_as_real(x).movedim(-1, 0).flatten(0, 1), levels)
        return torch.complex(*parts.unflatten(0, (2, -1)))
    y, f = torch.empty_like(x), filters(x)
    pad = f.shape[1] // 2 - 1
    low = x
    for _ in range(levels):
        n, m = low.shape[-2:]
        z = F.conv2d(
            F.pad(low[:, None], (0, 0, pad, pad), mode="circular"), f[:, None, :, None], stride=(2, 1)
        )
        z = F.pad(z.flatten(0, 1)[:, None], (pad, pad, 0, 0), mode="circular")
        z = F.conv2d(z, f[:, None, None, :], stride=(1, 2)).unflatten(0, (-1, 2))
        y[:, : n // 2, m // 2 : m], y[:, n // 2 : n, : m // 2] = z[:, 0, 1], z[:, 1, 0]
        y[:, n // 2 : n, m // 2 : m], low = z[:, 1, 1], z[:, 0, 0]
    y[:, : low.shape[-2], : low.shape[-1]] = low
    return y


def synthesise(y: Tensor, levels: int) -> Tensor:
    if y.is_complex():
        parts = synthesise(torch.view_as_real(y).movedim(-1, 0).flatten(0, 1), levels)
        return torch.complex(*parts.unflatten(0, (2, -1)))
    f, pad = filters(y), filters(y).shape[1] // 2 - 1
    low = y[:, : y.shape[-2] >> levels, : y.shape[-1] >> levels]
    for _ in range(levels):
        n, m = low.shape[-2:]
        rows = [low, y[:, :n, m : 2 * m], y[:, n : 2 * n, :m], y[:, n : 2 * n, m : 2 * m]]
        z = torch.stack([torch.stack(rows[:2], 1), torch.stack(rows[2:], 1)], 1).flatten(0, 1)
        z = wrapped(F.conv_transpose2d(z, f[:, None, None, :], stride=(1, 2)), -1, pad)
        z = z.squeeze(1).unflatten(0, (-1, 2))
        low = wrapped(F.conv_transpose2d(z, f[:, None, :, None], stride=(2, 1)), -2, pad).squeeze(1)
    return low


def wrapped(z: Tensor, axis: int, pad: int) -> Tensor:
    """What hangs over both ends comes back at the other."""
    n = z.shape[axis] - 2 * pad
    if pad > n:
        folded = z.new_zeros([n if k == z.ndim + axis else size for k, size in enumerate(z.shape)])
        index = (torch.arange(z.shape[axis]) - pad) % n
        return folded.index_add_(z.ndim + axis, index, z)
    middle = z.narrow(axis, pad, n).clone()
    middle.narrow(axis, n - pad, pad).add_(z.narrow(axis, 0, pad))
    middle.narrow(axis, 0, pad).add_(z.narrow(axis, n + pad, pad))
    return middle


def analyse_by_sums(W: Wavelet, x: Tensor) -> Tensor:
    """The library's own form for tensors that the kernels do not take."""
    y = x.clone()
    for n, m in W.sides[:-1]:
        block = y[:, :n, :m]
        for axis in (1, 2):
            block.copy_(_analyse(block, axis, scaling_filter(WAVELET)))
    return y


def synthesise_by_sums(W: Wavelet, y: Tensor) -> Tensor:
    x = y.clone()
    for n, m in reversed(W.sides[:-1]):
        block = x[:, :n, :m]
        for axis in (1, 2):
            block.copy_(_synthesise(block, axis, scaling_filter(WAVELET)))
    return x


def shrunk(x: Tensor, there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Tensor:
    c = there(x)
    n, m = (side >> LEVELS for side in x.shape[-2:])
    coarse = c[:, :n, :m].clone()
    length = c.abs()
    c = c * (length - STEP).clamp_(min=0).div_(length.clamp_(min=1e-30))
    c[:, :n, :m] = coarse
    return back(c)


def pywt_transform(x: Tensor) -> Call | None:
    try:
        import pywt
    except ImportError:
        return None
    images = x.numpy()

    def transform() -> Tensor:
        parts = pywt.wavedec2(images, WAVELET, "periodization", LEVELS, axes=(-2, -1))
        return torch.from_numpy(pywt.coeffs_to_array(parts, axes=(-2, -1))[0])

    return transform


def pywt_prox(x: Tensor) -> Call | None:
    try:
        import pywt
    except ImportError:
        return None
    images = x.numpy()

    def prox() -> Tensor:
        coarse, *details = pywt.wavedec2(images, WAVELET, "periodization", LEVELS, axes=(-2, -1))
        soft = [tuple(pywt.threshold(d, STEP, "soft") for d in level) for level in details]
        return torch.from_numpy(pywt.waverec2([coarse, *soft], WAVELET, "periodization", axes=(-2, -1)))

    return prox


def channels(x: Tensor) -> Tensor:
    return torch.view_as_real(x).movedim(-1, 1).contiguous() if x.is_complex() else x[:, None]


def deepinv_tv(x: Tensor) -> Call | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from deepinv.models import TVDenoiser
        except ImportError:
            return None
    images = channels(x)
    return lambda: TVDenoiser(n_it_max=ITERATIONS, crit=0.0)(images, ths=STEP)


def deepinv_wavelet(x: Tensor) -> Call | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from deepinv.models import WaveletDenoiser

            denoiser = WaveletDenoiser(level=LEVELS, wv=WAVELET, non_linearity="soft")
        except ImportError:
            return None
    images = channels(x)
    return lambda: denoiser(images, STEP)
