"""The engine of the deep image prior: an image made by a network, an objective, the descent of weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from operators import LinearOperator
from priors import TV, Functional, HuberTV, SquaredL2

from .dip_stopping import Watch, informative, numbers
from .problem import Problem
from .variational.base import spacing

Precision = Literal["float32", "bfloat16"]
JUMP = math.sqrt(10)
"""An objective this many times that at the last safe weights is a jump: 5 dB, as Ulyanov's code has it."""
SAFE_EVERY = 50
"""Iterations between one set of safe weights and the next."""
RETURNS = 10
"""So many returns to them in a row, and none went anywhere: there is no step small enough."""


@dataclass(frozen=True)
class Settings:
    """How the weights descend.

    iterations, learning_rate : of Adam
    schedule : "cosine" to zero over the iterations, or "constant"
    clip : bound of the gradient's norm over all weights; None for none
    amsgrad : Adam's step never grows with the gradient's average (Reddi 2018)
    jitter : σ of the noise added to z anew at every iteration
    smooth : decay of the exponential average of images, 0 for none
    backtrack : go back to the last safe weights and their Adam, with half the step from there on, when the
        objective jumps or is NaN
    seed : of the jitter
    """

    iterations: int = 500
    learning_rate: float = 2e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: float | None = 1.0
    amsgrad: bool = False
    jitter: float = 0.0
    smooth: float = 0.0
    backtrack: bool = False
    seed: int = 0

    def rate(self, k: int) -> float:
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * k / self.iterations))


class Generated(nn.Module):
    """x = scale · f_w(z), or low + (high − low) · sigmoid(f_w(z)): one image, *shape, made by a network.

    network : real planes (planes, channels, …) -> (planes, 1 or 2, ny, nx); slices and frames are planes
    z : its input, (planes, channels, …)
    shape, is_complex : of the image; real and imaginary part are two channels
    scale : unit of the image
    bounds : (low, high) of x, or None
    nonnegative : x = max(x, 0), for real images
    precision : "bfloat16" computes the network in it; its weights and the image stay what they are
    """

    def __init__(
        self,
        network: nn.Module,
        z: Tensor,
        shape: tuple[int, ...],
        is_complex: bool,
        scale: Tensor | float = 1.0,
        bounds: tuple[float, float] | None = None,
        nonnegative: bool = False,
        precision: Precision = "float32",
    ):
        super().__init__()
        self.precision = precision
        self.network, self.z, self.shape, self.is_complex = network, z, shape, is_complex
        self.scale, self.bounds = scale, bounds
        self.nonnegative = nonnegative and not is_complex and bounds is None

    def forward(self, noise: Tensor | float = 0.0) -> Tensor:
        with torch.autocast(self.z.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            out = self.network(self.z + noise).to(self.z)
        if out.shape[1] != 1 + self.is_complex or math.prod(out.shape) != out.shape[1] * math.prod(
            self.shape
        ):
            raise ValueError(
                f"DeepImagePrior network: expected ({len(self.z)}, {1 + self.is_complex}, "
                f"{', '.join(map(str, self.shape[-2:]))}) out of it, got {tuple(out.shape)}"
            )
        if self.bounds is not None:
            low, high = self.bounds
            return (low + (high - low) * torch.sigmoid(out)).reshape(self.shape)
        if self.is_complex:
            return self.scale * torch.complex(out[:, 0], out[:, 1]).reshape(self.shape)
        x = self.scale * out.reshape(self.shape)
        return _NonNegative.apply(x) if self.nonnegative else x


class Objective:
    """(d(A x) + γ TV(x) + E(x)) / unit, of one image.

    A, d : forward model, and the likelihood in its range
    terms : of x, by name
    unit : what all is divided by
    keep : the data to fit, bool; None: all
    data : in the range of A, in the place of what is not kept
    """

    def __init__(
        self,
        A: LinearOperator,
        d: Functional,
        terms: dict[str, Functional],
        unit: float,
        data: Tensor,
        keep: Tensor | None = None,
    ):
        self.A, self.d, self.terms, self.unit, self.data, self.keep = A, d, terms, unit, data, keep

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Value, z = A x, and the parts of the value by name."""
        z = self.A(x)
        # a datum that is not kept adds a constant, and no gradient
        seen = z if self.keep is None else torch.where(self.keep, z, self.data)
        parts = {"data term": self.d(seen) / self.unit}
        parts |= {name: f(x) / self.unit for name, f in self.terms.items()}
        return torch.stack(list(parts.values())).sum(), z, parts

    def value(self, x: Tensor) -> float:
        """On all data, kept or not."""
        with torch.no_grad():
            return float(Objective(self.A, self.d, self.terms, self.unit, self.data)(x)[0])


def objective_of(
    problem: Problem,
    d: Functional,
    image: Tensor,
    weight: float | None,
    balance: float,
    kind: str,
    tv: str,
    prior: Functional | None = None,
    keep: Tensor | None = None,
) -> Objective:
    """The objective of one image's problem, by the keywords of `DeepImagePrior`.

    d : its likelihood
    image : about as bright as the solution; sets what is left open
    """
    data = problem.linear.detach()
    useful, squares = informative(problem, d), kind == "mean-square"
    unit = 1.0 if squares else float(numbers(problem, d))
    if squares:
        d = SquaredL2(data, 2 * useful.to(data.real) / int(useful.sum()), d.ndim)
    terms: dict[str, Functional] = {}
    if weight != 0:
        h = (1.0,) * image.ndim if squares else spacing(problem)
        f: HuberTV | TV = TV(image.shape, h, isotropic=tv == "isotropic")
        if tv == "huber":
            f = HuberTV(image.shape, h, delta=1e-3 * max(float(image.abs().max()), 1e-30) / max(h))
        if weight is None:
            weight = balance * (unit / 2) / max(float(f(image)), 1e-30)
        terms["total variation"] = weight * f
    if prior is not None:
        terms["prior"] = prior
    return Objective(problem.A, d, terms, unit, data, keep)


@torch.enable_grad()
def descend(
    generated: Generated,
    objective: Objective,
    settings: Settings,
    watch: Watch | None = None,
    report: Callable[[int, float], None] | None = None,
) -> Tensor:
    """The image found by Adam on the weights, *shape.

    It is the one `watch` keeps; else, with `smooth`, the last average; else that of the lowest objective.

    report : given (iterations made, objective), also before the first
    """
    s, weights = settings, list(generated.network.parameters())
    optimizer = torch.optim.Adam(weights, lr=s.learning_rate, amsgrad=s.amsgrad)
    generator = torch.Generator().manual_seed(s.seed)
    best, lowest = generated().detach(), math.inf
    average: tuple[Tensor, Tensor] | None = None
    safe, safe_value = _copied(generated.network, optimizer), math.inf
    shrink, returns, returned = 1.0, 0, False
    for k in range(s.iterations + 1):
        x = generated(_noise(generated.z, s.jitter, generator))
        value, z, parts = objective(x)
        number = float(value.detach())
        jumped = s.backtrack and not number <= safe_value + (JUMP - 1) * abs(safe_value)
        if jumped and returns < RETURNS:
            _restore(safe, generated.network, optimizer)
            shrink, returns, returned = shrink / 2, returns + 1, True
            if report:
                report(k, number)
            continue
        if jumped or not math.isfinite(number):
            bad = ", ".join(name for name, part in parts.items() if not bool(torch.isfinite(part)))
            lost = f"the {bad} is NaN or inf" if bad else f"the objective jumps to {number:.3g}"
            tried = f" after {RETURNS} returns to safe weights" if jumped else ""
            advice = "set clip" if jumped else "set clip, or backtrack=True"
            raise ValueError(f"DeepImagePrior: {lost} at iteration {k}{tried}; lower learning_rate, {advice}")
        # the value right after a return is that of the safe weights: nothing new
        returns, returned = returns if returned else 0, False
        if s.backtrack and k % SAFE_EVERY == 0:
            safe, safe_value = _copied(generated.network, optimizer), number
        if number < lowest:
            best, lowest = x.detach(), number
        average = _averaged(average, x.detach(), z.detach(), s.smooth)
        if report:
            report(k, number)
        # the last image is looked at, too, and goes nowhere from there
        if (watch and watch.done(k, *average)) or k == s.iterations:
            break
        for group in optimizer.param_groups:
            group["lr"] = shrink * s.rate(k)
        optimizer.zero_grad()
        value.backward()
        if s.clip is not None:
            nn.utils.clip_grad_norm_(weights, s.clip)
        optimizer.step()
    if watch and watch.image is not None:
        return watch.image
    return average[0] if s.smooth and average is not None else best


@torch.enable_grad()
def approach(
    generated: Generated, image: Tensor, iterations: int, learning_rate: float, tolerance: float
) -> float:
    """Fit the network to an image: least mean |x − image|², by Adam at a constant rate; the best stay.

    Ends at ‖x − image‖ ≤ tolerance ‖image‖, or after the iterations. Returns ‖x − image‖ / ‖image‖.
    """
    weights = list(generated.network.parameters())
    optimizer = torch.optim.Adam(weights, lr=learning_rate)
    size = float(image.abs().square().mean().clamp(min=1e-30))
    lowest, best = math.inf, _copied(generated.network)
    for k in range(iterations + 1):
        error = (generated() - image).abs().square().mean() / size
        number = float(error.detach())
        if number < lowest:
            lowest, best = number, _copied(generated.network)
        if k == iterations or lowest <= tolerance**2:
            break
        optimizer.zero_grad()
        error.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    _restore(best, generated.network)
    return math.sqrt(lowest)


def _noise(z: Tensor, sigma: float, generator: torch.Generator) -> Tensor | float:
    if not sigma:
        return 0.0
    return sigma * torch.randn(z.shape, generator=generator, dtype=z.dtype).to(z.device)


def _averaged(old: tuple[Tensor, Tensor] | None, x: Tensor, z: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """Averages of x and of A x, which is A of the first."""
    if old is None or not decay:
        return x, z
    return decay * old[0] + (1 - decay) * x, decay * old[1] + (1 - decay) * z


def _copied(*parts: nn.Module | torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [copy.deepcopy(part.state_dict()) for part in parts]


def _restore(states: list[dict[str, Any]], *parts: nn.Module | torch.optim.Optimizer) -> None:
    for state, part in zip(states, parts, strict=True):
        part.load_state_dict(copy.deepcopy(state))  # an optimiser would go on in the copy itself


class _NonNegative(torch.autograd.Function):
    """max(x, 0), where a pixel below zero feels only what would raise it: none can die, none drifts away."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.where((x > 0) | (grad < 0), grad, 0.0)
