"""SENSE: A, A* and A*A in complex64 against sigpy, MRpro, deepinv and the bare FFT of the coil images.

Candidates take turns, so that a busy spell slows all of them. The error is relative to the formula in
complex128 with fftshift. MRpro and deepinv run on a batch of one, sigpy on numpy arrays; all of them mask.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from operators import Sense

Call = Callable[[], Any]
TURN = 3  # calls in a row


def rows(quick: bool) -> list[dict[str, Any]]:
    """See mri_operators.py."""
    cases = (
        {"4 × 64², lines": (4, 64, 64)}
        if quick
        else {
            "15 × 320², lines": (15, 320, 320),
            "15 × 320², points": (15, 320, 320),
            "8 × 96³": (8, 96, 96, 96),
        }
    )
    found = []
    for case, shape in cases.items():
        steps = candidates(shape, "lines" in case)
        for what, (calls, reference) in steps.items():
            times = medians(calls, 3 if quick or len(shape) > 3 else 15)
            for who, call in calls.items():
                error = None if who.startswith("bare") or call is None else difference(call(), reference)
                found.append(
                    {
                        "section": "SENSE",
                        "case": case,
                        "what": what,
                        "who": who,
                        "ms": times[who],
                        "error": error,
                    }
                )
    return found


def medians(calls: dict[str, Call | None], turns: int) -> dict[str, float | None]:
    """Milliseconds of every call, after one that is not measured; None for a peer that is absent."""
    times: dict[str, list[float]] = {who: [] for who in calls}
    for turn in range(turns + 1):
        for who, call in calls.items():
            for _ in range(TURN if call and turn else bool(call)):
                start = time.perf_counter()
                call()  # type: ignore[misc]
                if turn:
                    times[who].append(1e3 * (time.perf_counter() - start))
    return {who: statistics.median(found) if found else None for who, found in times.items()}


def difference(got: Any, reference: Tensor) -> float:
    got = got[0] if isinstance(got, tuple) else got
    got = torch.as_tensor(got)
    if not got.is_complex():  # deepinv's two channels
        got = torch.complex(got[:, 0], got[:, 1])
    got = got.reshape(reference.shape)
    return float((got - reference).norm() / reference.norm())


def candidates(shape: tuple[int, ...], lines: bool) -> dict[str, tuple[dict[str, Call | None], Tensor]]:
    """For A, A* and A*A: what everybody calls, and the right result."""
    generator = torch.Generator().manual_seed(0)
    spatial, dims = shape[1:], tuple(range(1 - len(shape), 0))
    maps, x, y = (torch.randn(s, generator=generator, dtype=torch.complex64) for s in (shape, spatial, shape))
    maps /= maps.abs().square().sum(0).sqrt()
    mask = torch.rand(spatial[-1:] if lines else spatial, generator=generator) < 0.25
    mask = mask.expand(spatial).contiguous()

    def forward(z: Tensor) -> Tensor:
        k = torch.fft.fftn(torch.fft.ifftshift(maps.to(z.dtype) * z, dim=dims), dim=dims, norm="ortho")
        return mask * torch.fft.fftshift(k, dim=dims)

    def adjoint(k: Tensor) -> Tensor:
        z = torch.fft.ifftn(torch.fft.ifftshift(mask * k, dim=dims), dim=dims, norm="ortho")
        return (maps.conj().to(k.dtype) * torch.fft.fftshift(z, dim=dims)).sum(0)

    A, double = Sense(mask, maps), torch.complex128
    bare = {
        "A": lambda: torch.fft.fftn(y, dim=dims),
        "A*": lambda: torch.fft.ifftn(y, dim=dims),
        "A*A": lambda: torch.fft.ifftn(torch.fft.fftn(y, dim=dims), dim=dims),
    }
    ours = {"A": lambda: A(x), "A*": lambda: A.adjoint(y), "A*A": lambda: gram(x)}
    gram = A.gram
    plain = {"A": lambda: forward(x), "A*": lambda: adjoint(y), "A*A": lambda: adjoint(forward(x))}
    right = {
        "A": forward(x.to(double)),
        "A*": adjoint(y.to(double)),
        "A*A": adjoint(forward(x.to(double))),
    }
    peers = {peer.__name__: peer(mask, maps, x, y) for peer in (sigpy, mrpro, deepinv)}
    return {
        what: (
            {
                "ours": ours[what],
                "bare torch.fft": bare[what],
                "plain torch with fftshift": plain[what],
                **{name: calls.get(what) for name, calls in peers.items()},
            },
            right[what],
        )
        for what in ours
    }


def sigpy(mask: Tensor, maps: Tensor, x: Tensor, y: Tensor) -> dict[str, Call]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from sigpy.mri.linop import Sense as Theirs
    except ImportError:
        return {}
    A = Theirs(maps.numpy(), weights=mask.float().numpy())
    image, data = x.numpy(), y.numpy()
    adjoint, normal = A.H, A.N
    return {"A": lambda: A(image), "A*": lambda: adjoint(data), "A*A": lambda: normal(image)}


def mrpro(mask: Tensor, maps: Tensor, x: Tensor, y: Tensor) -> dict[str, Call]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mrpro.operators import CartesianMaskingOp, FastFourierOp, SensitivityOp
    except ImportError:
        return {}
    dim = tuple(range(-x.ndim, 0))
    five = (1,) * (3 - x.ndim)  # other, coils, z, y, x
    csm = maps.reshape(1, len(maps), *five, *x.shape)
    selected = CartesianMaskingOp(mask.reshape(1, 1, *five, *x.shape))
    A = selected @ FastFourierOp(dim=dim) @ SensitivityOp(csm)
    image, data, gram = x.reshape(1, 1, *five, *x.shape), y.reshape(csm.shape), A.gram
    return {"A": lambda: A(image), "A*": lambda: A.adjoint(data), "A*A": lambda: gram(image)}


def deepinv(mask: Tensor, maps: Tensor, x: Tensor, y: Tensor) -> dict[str, Call]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from deepinv.physics import MultiCoilMRI
    except ImportError:
        return {}
    A = MultiCoilMRI(mask.float(), maps[None], img_size=x.shape, three_d=x.ndim == 3)
    image, data = (torch.stack([z.real, z.imag])[None] for z in (x, y))
    return {
        "A": lambda: A.A(image),
        "A*": lambda: A.A_adjoint(data),
        "A*A": lambda: A.A_adjoint_A(image),
    }
