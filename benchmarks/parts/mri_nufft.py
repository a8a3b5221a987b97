"""NUFFT, radial, complex64: A and A* against a bare FINUFFT plan and the other libraries, at 1 and 8 coils.

    python benchmarks/parts/mri_nufft.py [--quick]    # prints; benchmarks/mri_operators.py writes the results

Candidates take turns, so that a busy spell slows all of them. The bare plan is made once and writes into an
array that is there; asked for 1e-3 it errs by 1.5e-3, where ours keeps what it was asked for, and asked for
half of that it does the same work as ours. The error is relative to FINUFFT in complex128 at 1e-12; others
scale differently, so each is compared up to one factor, ours as it is. Plans and pytorch-finufft may use
`torch.get_num_threads()` threads, the others take their own defaults. Coordinates rounded to single precision
leave 1e-5 at this size, whatever is asked for.
"""

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from operators import NonUniformFourier, radial

Call = Callable[[], Any]
Pair = tuple[Call, Call]


def rows(quick: bool) -> list[dict[str, Any]]:
    """See mri_operators.py."""
    n, spokes, readout = (64, 30, 128) if quick else (256, 200, 512)
    found = []
    for coils in (1, 8):
        case = f"{n}², {spokes} × {readout}, {coils} coil{'s' * (coils > 1)}"
        k = radial(spokes, readout).flatten(0, 1)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(coils, n, n, generator=generator, dtype=torch.complex64)
        y = torch.randn(coils, len(k), generator=generator, dtype=torch.complex64)
        right = NonUniformFourier((coils, n, n), k, 1e-12)
        wanted = right(x.to(torch.complex128)), right.adjoint(y.to(torch.complex128))
        for tolerance, peers in PEERS.items():
            pairs = candidates(k, x, y, tolerance, peers)
            for side, what in enumerate(("A", "A*")):
                times = medians({who: pair[side] for who, pair in pairs.items() if pair}, 3 if quick else 15)
                for who, pair in pairs.items():
                    error = difference(pair[side](), wanted[side], who == "ours") if pair else None
                    row = {"section": "NUFFT", "case": case, "what": f"{what} at {tolerance:g}", "who": who}
                    found.append(row | {"ms": times.get(who), "error": error})
        found += normal_rows(k, x, case, right, 3 if quick else 15)
    return found


def normal_rows(
    k: Tensor, x: Tensor, case: str, right: NonUniformFourier, turns: int
) -> list[dict[str, Any]]:
    """A*A: by the convolution, and by the two transforms it stands for."""
    A = NonUniformFourier(tuple(x.shape), k, 1e-3)
    gram, wanted = A.gram, right.adjoint(right(x.to(torch.complex128)))
    calls: dict[str, Call] = {
        "ours, Toeplitz": lambda: gram(x),
        "ours, A then A*, 1e-3": lambda: A.adjoint(A(x)),
    }
    times = medians(calls, turns)
    row = {"section": "NUFFT", "case": case, "what": "A*A"}
    return [
        row | {"who": who, "ms": times[who], "error": difference(call(), wanted, True)}
        for who, call in calls.items()
    ]


def candidates(
    k: Tensor, x: Tensor, y: Tensor, tolerance: float, peers: tuple[Callable[..., Pair], ...]
) -> dict[str, Pair | None]:
    """A and A* of everybody; None for a peer that is absent."""
    A = NonUniformFourier(tuple(x.shape), k, tolerance)
    found: dict[str, Pair | None] = {"ours": (lambda: A(x), lambda: A.adjoint(y))}
    for asked in (tolerance, tolerance / 2):
        found[f"bare finufft plan, asked for {asked:g}"] = quiet(bare_plan, k, x, y, asked)
    return found | {peer.__name__: quiet(peer, k, x, y) for peer in peers}


def quiet(make: Callable[..., Pair], *arguments: Any) -> Pair | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pair = make(*arguments)
            for call in pair:
                call()
            return pair
    except ImportError:
        return None


def bare_plan(k: Tensor, x: Tensor, y: Tensor, tolerance: float) -> Pair:
    import finufft

    coils, *shape = x.shape
    axes = [np.ascontiguousarray(c, np.float32) for c in k.numpy().T]
    plans = {}
    for kind in (1, 2):
        plans[kind] = finufft.Plan(
            kind,
            tuple(shape),
            coils,
            tolerance,
            1 if kind == 1 else -1,
            "complex64",
            nthreads=torch.get_num_threads(),
        )
        plans[kind].setpts(*axes)
    image, data = (z.numpy()[0] if coils == 1 else z.numpy() for z in (x, y))
    out_data, out_image = np.empty_like(data), np.empty_like(image)
    return lambda: plans[2].execute(image, out=out_data), lambda: plans[1].execute(data, out=out_image)


def torchkbnufft(k: Tensor, x: Tensor, y: Tensor) -> Pair:
    from torchkbnufft import KbNufft, KbNufftAdjoint

    size, omega = tuple(x.shape[1:]), k.T.float().contiguous()
    A, back = KbNufft(im_size=size), KbNufftAdjoint(im_size=size)
    return lambda: A(x[None], omega), lambda: back(y[None], omega)


def sigpy(k: Tensor, x: Tensor, y: Tensor) -> Pair:
    from sigpy import nufft, nufft_adjoint

    coord = (k * torch.tensor(x.shape[1:]) / (2 * math.pi)).numpy().astype(np.float32)
    image, data, shape = x.numpy(), y.numpy(), tuple(x.shape)
    return lambda: nufft(image, coord), lambda: nufft_adjoint(data, coord, shape)


def mri_nufft(k: Tensor, x: Tensor, y: Tensor) -> Pair:
    from mrinufft import get_operator

    A = get_operator("finufft")(
        k.numpy().astype(np.float32), tuple(x.shape[1:]), density=False, n_coils=len(x), squeeze_dims=True
    )
    image, data = (z.numpy()[0] if len(x) == 1 else z.numpy() for z in (x, y))
    return lambda: A.op(image), lambda: A.adj_op(data)


def mrpro(k: Tensor, x: Tensor, y: Tensor) -> Pair:
    from mrpro.data import KTrajectory, SpatialDimension
    from mrpro.operators import NonUniformFastFourierOp

    matrix = SpatialDimension(1, *x.shape[1:])
    ky, kx = (k * torch.tensor(x.shape[1:]) / (2 * math.pi)).float().T[:, None, None, None, None]
    A = NonUniformFastFourierOp(("y", "x"), matrix, matrix, KTrajectory(torch.zeros_like(ky), ky, kx))
    image, data = x[None, :, None], y[None, :, None, None]
    return lambda: A(image), lambda: A.adjoint(data)


def pytorch_finufft(k: Tensor, x: Tensor, y: Tensor) -> Pair:
    from pytorch_finufft.functional import finufft_type1, finufft_type2

    points, shape = k.T.float().contiguous(), tuple(x.shape[1:])
    options = {"eps": 1e-3, "modeord": 0, "nthreads": torch.get_num_threads()}
    return (
        lambda: finufft_type2(points, x, isign=-1, **options),
        lambda: finufft_type1(points, y, shape, isign=1, **options),
    )


# at what they do by default, where that is nearest
PEERS: dict[float, tuple[Callable[..., Pair], ...]] = {
    1e-3: (torchkbnufft, sigpy, pytorch_finufft),
    1e-6: (mri_nufft, mrpro),
}


def medians(calls: dict[str, Call], turns: int) -> dict[str, float]:
    """Milliseconds of every call; of two in a turn the second, on caches that the first has filled."""
    times: dict[str, list[float]] = {who: [] for who in calls}
    for _ in range(turns):
        for who, call in calls.items():
            call()
            start = time.perf_counter()
            call()
            times[who].append(1e3 * (time.perf_counter() - start))
    return {who: statistics.median(found) for who, found in times.items()}


def difference(got: Any, wanted: Tensor, as_it_is: bool) -> float:
    """‖got − wanted‖ / ‖wanted‖, as it is or up to the factor that fits best."""
    got = torch.as_tensor(got[0] if isinstance(got, tuple) else got).reshape(wanted.shape).to(wanted.dtype)
    if not as_it_is:
        got = got * torch.vdot(got.flatten(), wanted.flatten()) / got.norm() ** 2
    return float((got - wanted).norm() / wanted.norm())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    for row in rows(parser.parse_args().quick):
        ms, error = ("–" if row[key] is None else f"{row[key]:.3g}" for key in ("ms", "error"))
        print(f"{row['case']:28s} {row['what']:14s} {row['who']:36s} {ms:>8s} ms   error {error}")


if __name__ == "__main__":
    main()
