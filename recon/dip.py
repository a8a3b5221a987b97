"""Deep image prior: an untrained network, fitted to one image's data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from operators import LinearOperator, Mask
from operators.emission import Emission
from priors import Functional
from priors.networks.channels import real_channels, to_planes
from priors.networks.conv_decoder import ConvDecoder
from priors.networks.hourglass import Hourglass
from priors.networks.seeds import seeded
from priors.networks.unet import Norm, UNet

from .base import Reconstructor
from .dip_fit import Generated, Objective, Precision, Settings, approach, descend, objective_of
from .dip_presets import PRESETS
from .dip_stopping import Stopping, rule
from .fidelity import LIKELIHOODS, Likelihood
from .problem import Problem
from .solvers import cgls, run
from .training import within

Make = Callable[[int, int, tuple[int, int]], nn.Module]
"""(channels in, channels out, (ny, nx)) -> network of planes."""

WIDTHS = {"unet": (32, 64, 64), "hourglass": (128,) * 5, "conv-decoder": (256,) * 7}


class DeepImagePrior(Reconstructor):
    """min_w d(A f_w(z)) + γ TV(f_w(z)) + E(f_w(z)),  x = f_w(z): a network made for this image alone.

    Ulyanov, Vedaldi, Lempitsky, CVPR 2018; with total variation Baguer, Leuschner, Schmidt, Inverse Problems
    36 (2020). Adam on the weights w. Every image of a batch gets a network of its own, made from the same
    seed, so its result is the same alone; nothing but this problem's data is used. Real and complex (two
    channels) images; the network is one of planes: slices and frames go through it side by side.

    The papers' z is noise, which takes some ten thousand iterations; by default ours is a rough image, five
    steps of CGLS, and f adds to it: that takes hundreds. Theirs are `DeepImagePrior.preset("baguer")` and
    others. Run long enough any of them fits the noise: γ, or a rule `stop`, prevents that.

    What is returned: the image that `stop` chooses; without a rule, or if it finds none, the average with
    `smooth`, else that of lowest objective.

    Time and memory: a forward and a backward pass of the network and of A an iteration, one image after the
    other; memory that of one network's pass. On one core the default takes about 0.04 s an iteration at 64²,
    the papers' five scales of 128 channels about 0.45 s at 128², the arithmetic of their convolutions, and a
    third of it in bfloat16.

    weight : γ of TV [1 / (unit of x · mm)], as in `TotalVariation`; 0 for the bare prior; None: such that
        γ·TV of the rough image is `balance` times half the number of data
    iterations, learning_rate : of Adam
    channels, skips : widths of the network's scales, finest first, and joined across; None: 32, 64, 64 and
        all of it for "unet", five times 128 and none for "hourglass", 256 in seven layers for "conv-decoder";
        fewer skips fit noise later
    norm : of the U-Net: "none", "group" or "instance"
    z : "data", "noise", N(0, 0.01), or "uniform" from 0 to 0.1; None: "data" for "unet", else "noise"
    network : "unet", "hourglass", "conv-decoder", or (channels in, out, (ny, nx)) -> network of planes
    likelihood : d: "weighted" least squares of the linear data, "matching", the noise model's own for raw
        data (Poisson counts), others as in `Variational`, or a function of the problem
    objective : "likelihood" as above; "mean-square" is mean |A x − y|² + γ Σ |∂x| + E, of pixels not mm, with
        the papers' γ (`recon.dip_presets.likelihood_weight` converts it)
    tv : "huber", nearly isotropic and smooth, "isotropic" or "anisotropic"
    prior : E, any functional of one image with its weight in it, as 0.3 * WaveletL1(…)
    stop : "held-out", "variance", "discrepancy", a rule of `recon.dip_stopping`, or None
    start : another method, whose image is z (of "data") and the first f_w(z): the network is fitted to it
        until ‖x − x₀‖ ≤ start_tolerance ‖x₀‖, at most start_iterations, before it meets the data. It sees
        all data, so that those which "held-out" keeps from the fit have had their say there
    restarts, combine : fits from other seeds, and of them the image of lowest objective, or their "mean"
    schedule, clip, amsgrad, jitter, smooth, backtrack : see `recon.dip_fit.Settings`
    bounds : (low, high) of x through a sigmoid, or None
    nonnegative : x = max(f, 0); complex images are free
    z_channels : of noise; None: as many as the image has
    padding : of the hourglass
    precision : "bfloat16" computes the network in it, several times faster where the processor can; weights,
        A and the objective stay what they are
    seed : of weights, noise and jitter
    callback : given (image, iterations made, objective / number of data), also before the first
    """

    def __init__(
        self,
        weight: float | None = None,
        iterations: int = 500,
        learning_rate: float = 2e-3,
        channels: Sequence[int] | None = None,
        skips: Sequence[int] | None = None,
        norm: Norm = "none",
        z: Literal["data", "noise", "uniform"] | None = None,
        balance: float = 1.5,
        *,
        network: Literal["unet", "hourglass", "conv-decoder"] | Make = "unet",
        likelihood: Likelihood | Callable[[Problem], Functional] = "weighted",
        objective: Literal["likelihood", "mean-square"] = "likelihood",
        tv: Literal["huber", "isotropic", "anisotropic"] = "huber",
        prior: Functional | None = None,
        stop: Literal["held-out", "variance", "discrepancy"] | Stopping | None = None,
        start: Reconstructor | None = None,
        start_iterations: int = 2000,
        start_learning_rate: float = 1e-3,
        start_tolerance: float = 0.01,
        restarts: int = 1,
        combine: Literal["lowest", "mean"] = "lowest",
        schedule: Literal["cosine", "constant"] = "cosine",
        clip: float | None = 1.0,
        amsgrad: bool = False,
        jitter: float = 0.0,
        smooth: float = 0.0,
        backtrack: bool = False,
        bounds: tuple[float, float] | None = None,
        nonnegative: bool = True,
        z_channels: int | None = None,
        padding: Literal["zeros", "reflect"] = "zeros",
        precision: Precision = "float32",
        seed: int = 0,
        callback: Callable[[int, int, float], None] | None = None,
    ):
        super().__init__()
        # with an image to begin with there is a result before the first iteration
        within("DeepImagePrior iterations", iterations, 0 if start else 1, 10**9)
        within("DeepImagePrior restarts", restarts, 1, 10**6)
        within("DeepImagePrior start_iterations", start_iterations, 0, 10**9)
        if weight is not None and not 0 <= weight < math.inf:
            raise ValueError(f"DeepImagePrior weight: expected at least 0 or None, got {weight!r}")
        if weight is None and objective == "mean-square":
            raise ValueError("DeepImagePrior weight: expected a number for objective 'mean-square', got None")
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"DeepImagePrior bounds: expected low < high, got {bounds!r}")
        if not 0 <= smooth < 1:
            raise ValueError(f"DeepImagePrior smooth: expected from 0 to below 1, got {smooth!r}")
        for name, value, allowed in (
            ("network", network, WIDTHS),
            ("z", z, (None, "data", "noise", "uniform")),
            ("likelihood", likelihood, LIKELIHOODS),
            ("objective", objective, ("likelihood", "mean-square")),
            ("tv", tv, ("huber", "isotropic", "anisotropic")),
            ("combine", combine, ("lowest", "mean")),
            ("schedule", schedule, ("cosine", "constant")),
            ("precision", precision, ("float32", "bfloat16")),
        ):
            if not callable(value) and value not in allowed:
                raise ValueError(f"DeepImagePrior {name}: expected one of {list(allowed)}, got {value!r}")
        if network == "conv-decoder" and z == "data":
            raise ValueError("DeepImagePrior z: the conv-decoder grows an image from 'noise' or 'uniform'")
        self.weight, self.balance, self.objective, self.tv = weight, balance, objective, tv
        self.prior, self.likelihood, self.stop = prior, likelihood, rule(stop)
        self.network, self.skips, self.norm, self.padding = network, skips, norm, padding
        self.channels = None if channels is None else tuple(channels)
        self.z, self.z_channels = z or ("data" if network == "unet" else "noise"), z_channels
        self.start, self.start_iterations = start, start_iterations
        self.start_learning_rate, self.start_tolerance = start_learning_rate, start_tolerance
        self.restarts, self.combine, self.callback = restarts, combine, callback
        self.bounds, self.nonnegative, self.precision = bounds, nonnegative, precision
        self.settings = Settings(
            iterations, learning_rate, schedule, clip, amsgrad, jitter, smooth, backtrack, seed
        )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> DeepImagePrior:
        """As published: "ulyanov", "baguer", "baguer-bare" or "baguer-start", see `recon.dip_presets`."""
        if name not in PRESETS:
            raise ValueError(f"DeepImagePrior.preset: expected one of {list(PRESETS)}, got {name!r}")
        if name == "baguer-start" and changes.get("start") is None:
            raise ValueError("DeepImagePrior.preset 'baguer-start': give start=, the method to begin with")
        return cls(**{**PRESETS[name], **changes})

    @torch.inference_mode(False)
    def forward(self, problem: Problem) -> Tensor:
        A = problem.A
        if len(A.in_shape) < 2:
            raise ValueError(f"DeepImagePrior: expected images or volumes, got images of shape {A.in_shape}")
        y = problem.y.detach().clone().reshape(-1, *A.out_shape)  # data of inference mode have no gradients
        images = [self._one(i, Problem(A, y[i], problem.noise.select(i))) for i in range(len(y))]
        x = torch.stack(images) if images else problem.linear.new_zeros(0, *A.in_shape)
        return x.reshape(*problem.batch, *A.in_shape)

    def _one(self, index: int, problem: Problem) -> Tensor:
        """One image, (*A.in_shape)."""
        watch, d = None, self._likelihood(problem)
        if self.stop is not None:
            watch = self.stop.begin(problem, d)
        keep = None if watch is None else watch.keep
        with torch.no_grad():
            rough = first_image(problem, keep)
            if self.bounds is not None and rough.is_complex():
                raise ValueError(
                    "DeepImagePrior bounds: order needs real numbers, the image is complex; give bounds=None"
                )
            begin = rough if self.start is None else self.start(problem).detach()
        objective = self._objective(problem, d, rough, keep)
        found = []
        for k in range(self.restarts):
            if k and self.stop is not None:
                watch = self.stop.begin(problem, d)
            settings = replace(self.settings, seed=self.settings.seed + k)
            generated = self._generated(begin, settings.seed)
            if self.start is not None:
                rates = self.start_iterations, self.start_learning_rate, self.start_tolerance
                approach(generated, begin, *rates)
            found.append(descend(generated, objective, settings, watch, self._report(index)))
        if self.combine == "mean":
            return torch.stack(found).mean(0)
        return found[0] if len(found) == 1 else min(found, key=objective.value)

    def _report(self, index: int) -> Callable[[int, float], None] | None:
        callback = self.callback
        return None if callback is None else lambda k, value: callback(index, k, value)

    def _likelihood(self, problem: Problem) -> Functional:
        return (
            self.likelihood(problem) if callable(self.likelihood) else LIKELIHOODS[self.likelihood](problem)
        )

    def _objective(self, problem: Problem, d: Functional, rough: Tensor, keep: Tensor | None) -> Objective:
        return objective_of(
            problem, d, rough, self.weight, self.balance, self.objective, self.tv, self.prior, keep
        )

    def _generated(self, begin: Tensor, seed: int) -> Generated:
        shape, is_complex = tuple(begin.shape), begin.is_complex()
        scale = 1.0 if self.bounds else begin.abs().max().clamp(min=1e-30)
        planes = to_planes((begin / scale)[None, None])
        outside = real_channels(1, is_complex)
        inside = outside if self.z == "data" or self.z_channels is None else self.z_channels
        with seeded(seed):
            network = self._network(inside, outside, (shape[-2], shape[-1]))
            size = (len(planes), inside, *planes.shape[-2:])
            if isinstance(network, ConvDecoder):
                size = (len(planes), network.channels, *network.start)
            noise = 0.1 * (torch.rand(size) if self.z == "uniform" else torch.randn(size))
        z = planes if self.z == "data" else noise.to(planes)
        if isinstance(network, Hourglass | ConvDecoder):
            # faster for one image; for a batch, which normalises in groups, it would be slower
            network.to(memory_format=torch.channels_last)
        args = scale, self.bounds, self.nonnegative, self.precision
        return Generated(network.to(planes), z, shape, is_complex, *args)

    def _network(self, inside: int, outside: int, shape: tuple[int, int]) -> nn.Module:
        if callable(self.network):
            return self.network(inside, outside, shape)
        channels = WIDTHS[self.network] if self.channels is None else self.channels
        if self.network == "unet":
            return UNet(inside, outside, channels, self.skips, self.norm, residual=self.z == "data")
        if self.network == "hourglass":
            return Hourglass(inside, outside, channels, self.skips, self.padding)
        if len(set(channels)) > 1:
            raise ValueError(f"DeepImagePrior channels: the conv-decoder has one width, got {channels}")
        start = (min(4, shape[0]), min(4, shape[1]))
        return ConvDecoder(shape, outside, channels[0], len(channels), start)

    @classmethod
    def examples(cls) -> list[DeepImagePrior]:
        return [
            cls(iterations=3, channels=(4, 4), skips=(2,)),
            cls(0.0, 3, channels=(4,), z="noise"),
            cls(0.0, 3, channels=(4, 4), network="hourglass", stop="held-out", smooth=0.5),
            cls(iterations=3, channels=(4, 4, 4), network="conv-decoder", backtrack=True, restarts=2),
        ]


def first_image(problem: Problem, keep: Tensor | None = None) -> Tensor:
    """Five steps of CGLS from zero, on the data to `keep`, bool; None: all."""
    A: LinearOperator = problem.A
    y = problem.linear
    if isinstance(A, Emission):
        y = A.corrected(y)
        A = A.xray
    if keep is not None:
        A, y = Mask(keep, A.out_shape) @ A, keep * y
    return run(cgls(A, y, torch.zeros_like(A.adjoint(y))), 5)
