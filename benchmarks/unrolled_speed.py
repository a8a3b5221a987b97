"""How long a training step of the learned primal–dual method takes with us, with deepinv, ODL and ASTRA.

    python benchmarks/unrolled_speed.py            # 128², 30 views, batch 8; writes results/unrolled_speed.*
    python benchmarks/unrolled_speed.py --quick    # 32², seconds, nothing written

Ten iterations with five channels and nets of 32 (Adler and Öktem 2018) in float32 on the CPU; a step is
forward, backward and Adam on eight images. All in one run, turn by turn, medians over the rounds. "deepinv"
is its example of this method with the adjoint where the example has `A_dagger`, which since 0.3.7 is a
least-squares solve in every iteration ("as written": one inference, no training). ODL is
`odl.contrib.torch.OperatorModule` around its ray transform on ASTRA's CPU; ASTRA is an autograd function that
keeps the projector, as careful users write it. A peer that is not installed is a dash.
"""

import argparse
import csv
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from operators import Gaussian, LinearOperator, ParallelBeam, XRay
from recon import LearnedPrimalDual, Problem
from recon.data.dival import dival_geometry
from recon.data.sets import PairedData
from recon.data.small import dival_images, ellipses_small_geometry

RESULTS = Path(__file__).parent / "results"
OURS, DEEPINV, EXAMPLE, ODL, ASTRA = (
    "ours",
    "deepinv",
    "deepinv, its example as written",
    "ODL, ASTRA on the CPU",
    "ASTRA on the CPU, autograd function",
)
Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Size:
    geometry: ParallelBeam
    batch: int
    iterations: int
    hidden: int


class Timed(LinearOperator):
    """A, and how long its forward and adjoint took."""

    def __init__(self, A: XRay):
        super().__init__()
        self.A, self.geometry, self.seconds = A, A.geometry, 0.0
        self.in_shape, self.out_shape = A.in_shape, A.out_shape

    def _timed(self, work: Map, x: Tensor) -> Tensor:
        started = time.perf_counter()
        result = work(x)
        self.seconds += time.perf_counter() - started
        return result

    def _forward(self, x: Tensor) -> Tensor:
        return self._timed(self.A._forward, x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._timed(self.A._adjoint, y)


@dataclass
class Contender:
    """A network with its data: `infer()` reconstructs the batch, `loss()` is its squared error.

    inference_only : once, without training
    operator : whose seconds are kept as well
    """

    network: nn.Module
    infer: Callable[[], Tensor]
    loss: Callable[[], Tensor]
    inference_only: bool = False
    operator: Timed | None = None
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.network.train().requires_grad_(True)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4)

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimizer.step()

    def time(self, what: str, work: Callable[[], object]) -> None:
        before = self.operator.seconds if self.operator else 0.0
        started = time.perf_counter()
        work()
        self.seconds[what].append(time.perf_counter() - started)
        if self.operator:
            self.seconds[f"A and A* in {what}"].append(self.operator.seconds - before)

    def measure(self) -> None:
        with torch.no_grad():
            self.time("inference", self.infer)
        if not self.inference_only:
            self.time("step", self.step)


class PlainPrimalDual(nn.Module):
    """Learned primal–dual as users of ODL and ASTRA write it, A and A* given as functions."""

    def __init__(self, A: Map, back: Map, iterations: int, hidden: int, channels: int = 5):
        super().__init__()
        self.A, self.back, self.channels = A, back, channels

        def net(inside: int) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(inside, hidden, 3, padding=1),
                nn.PReLU(hidden),
                nn.Conv2d(hidden, hidden, 3, padding=1),
                nn.PReLU(hidden),
                nn.Conv2d(hidden, channels, 3, padding=1),
            )

        self.dual = nn.ModuleList(net(channels + 2) for _ in range(iterations))
        self.primal = nn.ModuleList(net(channels + 1) for _ in range(iterations))

    def forward(self, y: Tensor, shape: tuple[int, int]) -> Tensor:
        h = y.new_zeros(len(y), self.channels, *y.shape[-2:])
        f = y.new_zeros(len(y), self.channels, *shape)
        for dual, primal in zip(self.dual, self.primal, strict=True):
            h = h + dual(torch.cat([h, self.A(f[:, 1:2]), y], 1))
            f = f + primal(torch.cat([f, self.back(h[:, 0:1])], 1))
        return f[:, 0:1]


def plain(A: Map, back: Map, size: Size, truth: Tensor) -> Contender:
    """A and `back` are of norm about 1, on (batch, 1, ·, ·)."""
    x = truth[:, None]
    network = PlainPrimalDual(A, back, size.iterations, size.hidden)
    with torch.no_grad():
        y = A(x)

    def infer() -> Tensor:
        return network(y, size.geometry.image_shape)

    return Contender(network, infer, lambda: (infer() - x).square().mean())


def ours(size: Size, truth: Tensor) -> Contender:
    """The public class: built by one step of `fit`, trained by its own loss."""
    A = Timed(XRay(size.geometry))
    problem = Problem(A, A(truth), Gaussian(sigma=0.1))
    method = LearnedPrimalDual(
        iterations=size.iterations, hidden=size.hidden, steps=1, batch_size=size.batch, reuse=1
    )
    method.fit(PairedData((problem, truth), (problem, truth)))
    generator = torch.Generator().manual_seed(0)
    return Contender(
        method, lambda: method(problem), lambda: method.loss(problem, truth, generator), operator=A
    )


def with_deepinv(size: Size, truth: Tensor, as_written: bool) -> Contender:
    import deepinv
    from deepinv.models import PDNet_DualBlock, PDNet_PrimalBlock
    from deepinv.optim import DataFidelity, Prior
    from deepinv.optim.optim_iterators import CPIteration, fStep, gStep
    from deepinv.unfolded import unfolded_builder

    class DualStep(fStep):
        def forward(self, u, w, fidelity, y, *_):
            return fidelity.net(u, w[:, 1:2], y)

    class PrimalStep(gStep):
        def forward(self, x, w, prior, *_):
            return prior.net(x, w[:, 0:1])

    class Iteration(CPIteration):
        def __init__(self):
            super().__init__()
            self.f_step, self.g_step = DualStep(), PrimalStep()

    def holding(kind: type, net: nn.Module) -> nn.Module:
        term = kind()
        term.net = net
        return term

    n = size.geometry.image_shape[0]
    angles = torch.tensor(size.geometry.angles).rad2deg().float()
    physics = deepinv.physics.Tomography(angles=angles, img_width=n, circle=False, normalize=True)
    back = physics.A_dagger if as_written else physics.A_adjoint
    x = truth[:, None]

    def start(y, physics):
        x0 = physics.A_dagger(y) if as_written else torch.zeros_like(x)
        x0 = x0.repeat(1, 5, 1, 1)
        return {"est": (x0, x0, torch.zeros_like(y).repeat(1, 5, 1, 1))}

    layers = range(size.iterations)
    network = unfolded_builder(
        iteration=Iteration(),
        params_algo={"K": physics.A, "K_adjoint": back, "beta": 0.0},
        data_fidelity=[holding(DataFidelity, PDNet_DualBlock(nf=size.hidden)) for _ in layers],
        prior=[holding(Prior, PDNet_PrimalBlock(nf=size.hidden)) for _ in layers],
        max_iter=size.iterations,
        custom_init=start,
        get_output=lambda found: found["est"][0][:, 1:2],
    )
    with torch.no_grad():
        y = physics.A(x)
    return Contender(
        network,
        lambda: network(y, physics),
        lambda: (network(y, physics) - x).square().mean(),
        inference_only=as_written,
    )


def with_odl(size: Size, truth: Tensor) -> Contender:
    printing = np.get_printoptions()
    import odl
    from odl.contrib.torch import OperatorModule

    from operators.interop.odl_geometry import to_odl_geometry

    np.set_printoptions(**printing)
    grid, scan = to_odl_geometry(size.geometry)
    space = odl.uniform_discr_frompartition(grid, dtype="float32")
    ray = odl.applications.tomo.RayTransform(space, scan, impl="astra_cpu")
    ray = (1 / XRay(size.geometry).norm()) * ray
    return plain(OperatorModule(ray), OperatorModule(ray.adjoint), size, truth)


def with_astra(size: Size, truth: Tensor) -> Contender:
    import astra

    geometry = size.geometry
    h, n = geometry.pixel_size, geometry.image_shape[0]
    projections = astra.create_proj_geom(
        "parallel", geometry.bin_size / h, geometry.n_bins, np.array(geometry.angles)
    )
    number = astra.create_projector("linear", projections, astra.create_vol_geom(n, n))
    scale = h / XRay(geometry).norm()

    def each(x: Tensor, shape: tuple[int, ...], call: Callable) -> Tensor:
        out = x.new_empty(len(x), 1, *shape)
        planes = x.detach().contiguous().numpy()
        for k in range(len(x)):
            call(number, planes[k, 0], out=out[k, 0].numpy())
        return out.mul_(scale)

    def A(x: Tensor) -> Tensor:
        return each(x, geometry.sinogram_shape, astra.projector.direct_FP)

    def back(y: Tensor) -> Tensor:
        return each(y, geometry.image_shape, astra.projector.direct_BP)

    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return A(x)

        @staticmethod
        def backward(ctx, g):
            return back(g)

    class Back(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return back(y)

        @staticmethod
        def backward(ctx, g):
            return A(g)

    return plain(Forward.apply, Back.apply, size, truth)


PEERS: dict[str, Callable[[Size, Tensor], Contender]] = {
    DEEPINV: lambda size, truth: with_deepinv(size, truth, as_written=False),
    ODL: with_odl,
    ASTRA: with_astra,
    EXAMPLE: lambda size, truth: with_deepinv(size, truth, as_written=True),
}


def contenders(size: Size, truth: Tensor) -> dict[str, Contender | None]:
    found: dict[str, Contender | None] = {OURS: ours(size, truth)}
    for name, make in PEERS.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[name] = make(size, truth)
        except ImportError as error:
            print(f"{name}: –, {error}")
            found[name] = None
    return found


def measured(found: dict[str, Contender | None], rounds: int) -> None:
    """Turn by turn, after a round that is not measured."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in range(-1, rounds):
            for one in found.values():
                if one is None or (one.inference_only and k != 0):
                    continue
                one.measure()
                if k < 0:  # compiled, allocated
                    one.seconds.clear()
            print(f"round {k + 1} of {rounds}", flush=True)


def table(found: dict[str, Contender | None], size: Size, rounds: int) -> list[str]:
    middle = {
        name: {what: statistics.median(times) for what, times in one.seconds.items()}
        for name, one in found.items()
        if one is not None
    }
    mine = middle[OURS]
    n, geometry = size.geometry.image_shape[0], size.geometry
    lines = [
        f"Learned primal–dual, {size.iterations} iterations, {n}², {geometry.views} views × "
        f"{geometry.n_bins} bins, batch {size.batch}; {torch.get_num_threads()} thread(s), median of "
        f"{rounds} rounds.",
        versions(),
        "",
        "| | parameters | training step [s] | ours is faster by | inference [s] | ours is faster by |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    for name, one in found.items():
        if one is None:
            lines.append(f"| {name} | – | – | – | – | – |")
            continue
        times = [
            f"{middle[name][w]:.3f} | {middle[name][w] / mine[w]:.2f}×" if w in middle[name] else "– | –"
            for w in ("step", "inference")
        ]
        numbers = sum(p.numel() for p in one.network.parameters() if p.requires_grad)
        lines.append(f"| {name} | {numbers} | {times[0]} | {times[1]} |")
    share = {what: mine[f"A and A* in {what}"] / mine[what] for what in ("step", "inference")}
    lines += [
        "",
        f"A and A* take {100 * share['step']:.1f} % of our training step (target: below 10 %, "
        f"{'met' if share['step'] < 0.1 else 'missed'}) and {100 * share['inference']:.1f} % of inference.",
    ]
    for name in (DEEPINV, ODL, ASTRA):
        if name in middle:
            gain = middle[name]["step"] / mine["step"]
            lines.append(
                f"Training against {name}: {gain:.2f}×, target ≥ 1.5× {'met' if gain >= 1.5 else 'missed'}."
            )
    return lines


def versions() -> str:
    found = []
    for name in ("torch", "numba", "deepinv", "odl", "astra-toolbox"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} –")
    return ", ".join(found) + "."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    rounds = 2 if args.quick else args.rounds
    size = Size(ellipses_small_geometry(32, 12), 2, 3, 8) if args.quick else Size(dival_geometry(), 8, 10, 32)
    truth = dival_images(size.geometry.image_shape[0])(range(size.batch))
    found = contenders(size, truth)
    measured(found, rounds)
    lines = table(found, size, rounds)
    print("\n".join(lines))
    if args.quick:
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "unrolled_speed.md").write_text("\n".join(lines) + "\n")
    with (RESULTS / "unrolled_speed.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["contender", "what", "round", "seconds"])
        for name, one in found.items():
            for what, times in (one.seconds if one else {}).items():
                writer.writerows([name, what, k, f"{t:.5f}"] for k, t in enumerate(times))


if __name__ == "__main__":
    main()
