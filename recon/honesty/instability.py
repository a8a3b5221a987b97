"""The small change of the data that changes the image most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from operators.noise_model import draw_images
from operators.tensors import norm, spread, squared_norm

from ..problem import Problem
from .functions import DataMap, as_function

Method = Callable[[Problem], Tensor]
Attack = Literal["padam", "power", "noise"]


@dataclass(frozen=True)
class Perturbation:
    """What an attack found; one value per image where nothing else is said, (*batch,).

    data : the perturbation e of the data, (*batch, *A.out_shape)
    image : f(y + e), and clean : f(y), (*batch, *A.in_shape)
    size : ‖e‖
    change : ‖f(y + e) − f(y)‖
    cause : r with e = A r, (*batch, *A.in_shape), of an attack in the image, else None
    history : change after every iteration, (iterations, *batch)
    """

    data: Tensor
    image: Tensor
    clean: Tensor
    size: Tensor
    change: Tensor
    history: Tensor
    cause: Tensor | None = None

    @property
    def amplification(self) -> Tensor:
        """Change / size [unit of the image over unit of the data]; of a linear f at most its norm."""
        return self.change / self.size


def worst_case(
    method: Method,
    problem: Problem,
    radius: float,
    attack: Attack = "power",
    iterations: int = 50,
    step: float | None = None,
    seed: int = 0,
) -> Perturbation:
    """argmax ‖f(y + e) − f(y)‖ over ‖e‖ ≤ radius·‖y‖, approximately: a lower bound of the worst case.

    "padam"  projected Adam from a random point (Genzel, Macdonald, März, IEEE Trans. Pattern Anal. Mach.
             Intell. 45 (2023)): steps of `step` (radius·‖y‖/√N by default, falling to a hundredth), then onto
             the ball. Adam's direction is not the gradient, the projection is Euclidean: it settles near
             e ∝ sign g instead of e ∝ g, and stays some per cent below the worst case of a linear f
    "power"  e ← radius·‖y‖ g/‖g‖, g = J(e)ᵀ(f(y + e) − f(y)): for a linear f the power iteration for its
             largest singular vector, whatever the scale; else Frank and Wolfe's step of length one
    "noise"  white noise of the same norm, best of `iterations` draws: what an attack must beat

    method : any; one that autograd cannot go through is refused, but by "noise". Of a variational method the
        solver is unrolled, see `recon.honesty.as_function`
    problem : its data in the range of A, see `linearised`; images of a batch are attacked each by itself
    radius : η, a fraction of ‖y‖
    """
    f = as_function(method, problem)
    if not radius > 0 or iterations < 1:
        raise ValueError(
            f"worst_case: expected radius > 0 and iterations ≥ 1, got {radius!r} and {iterations}"
        )
    y, m = problem.y, len(problem.A.out_shape)
    bound = radius * norm(y, m)
    if attack not in ("padam", "power", "noise"):
        raise ValueError(f"worst_case attack: expected 'padam', 'power' or 'noise', got {attack!r}")
    with torch.no_grad():
        clean = f(y)
    best = _Best(clean, y, len(problem.A.in_shape), m)
    e = _on_sphere(_noise(y, m, seed), bound, m)
    adam = _Adam()
    # an entry of a perturbation on the sphere has this root mean square
    length = bound / y[(0,) * (y.ndim - m)].numel() ** 0.5 if step is None else torch.full_like(bound, step)
    for k in range(iterations):
        if attack == "noise":
            with torch.no_grad():
                best.see(e, f(y + e))
            e = _on_sphere(_noise(y, m, seed + k + 1), bound, m)
            continue
        x, g = _gradient(f, y, e, clean, len(problem.A.in_shape))
        best.see(e, x)
        if attack == "power":
            e = _on_sphere(g, bound, m)
        else:
            shrink = 0.01 ** (k / max(1, iterations - 1))
            e = _onto_ball(e + spread(shrink * length, m) * adam.direction(g), bound, m)
    if attack != "noise":
        with torch.no_grad():
            best.see(e, f(y + e))
    return best.result()


def worst_image(
    method: Method,
    problem: Problem,
    weight: float = 0.1,
    iterations: int = 24,
    step: float = 1e-3,
    momentum: float = 0.9,
    start: float = 1e-5,
    seed: int = 0,
) -> Perturbation:
    """argmax ½‖f(y + A r) − f(y)‖² − ½λ‖r‖² over images r, by gradient ascent with momentum.

    Antun, Renna, Poon, Adcock, Hansen, PNAS 117 (2020): the perturbation is one that an object could have. It
    grows with the iterations; `history` and `size` say how far it went. With λ below the squared norm of
    f ∘ A there is no maximum, only an end.

    weight : λ
    step, momentum : v ← momentum·v + step·gradient, r ← r + v
    start : r₀ ~ start·U(0, 1)
    Other arguments as in `worst_case`. The paper's for images of about 1.
    """
    f = as_function(method, problem)
    if iterations < 1 or not step > 0 or not 0 <= momentum < 1 or not start > 0 or weight < 0:
        raise ValueError(
            "worst_image: expected iterations ≥ 1, step > 0, 0 ≤ momentum < 1, start > 0 and weight ≥ 0, got "
            f"{iterations}, {step}, {momentum}, {start}, {weight}"
        )
    A, y = problem.A, problem.y
    n, m = len(A.in_shape), len(A.out_shape)
    with torch.no_grad():
        clean = f(y)
    r = draw_images(
        torch.zeros_like(clean),
        n,
        seed,
        lambda _, x, g: x + start * torch.rand(x.shape, generator=g, dtype=x.real.dtype),
    )
    v, best = torch.zeros_like(r), _Best(clean, y, n, m)
    for _ in range(iterations):
        _, g = _gradient(lambda e: f(y + A(e)), torch.zeros_like(r), r, clean, n)
        v = momentum * v + step * (g - weight * r)
        r = r + v
        with torch.no_grad():
            e = A(r)
            # the last is wanted, not the largest change: the penalty has a say
            best.see(e, f(y + e), r, always=True)
    return best.result()


def stability_curve(
    methods: Mapping[str, Method],
    problem: Problem,
    truth: Tensor,
    radii: Iterable[float],
    attacks: Sequence[Attack] = ("power", "padam"),
    iterations: int = 50,
    seed: int = 0,
) -> list[dict[str, float | str]]:
    """What the worst perturbation found, and noise of the same norm, do to each method: rows for a table.

    The norms are equal for all methods, so their rows can be compared; each method gets its own worst case,
    of each image the worst that any of `attacks` found.

    Returns for each radius and method the means over the images of: ‖f(y + e) − f(y)‖/‖f(y)‖ under attack
    ("change") and under noise ("noise_change"), ‖f − truth‖/‖truth‖ without, under attack and under noise
    ("error", "attacked_error", "noise_error").
    """
    n = len(problem.A.in_shape)
    rows: list[dict[str, float | str]] = []
    size = norm(truth, n)

    def off(x: Tensor, to: Tensor) -> float:
        return float((norm(x - to, n) / norm(to, n)).mean())

    for radius in radii:
        for name, method in methods.items():
            found = [worst_case(method, problem, radius, a, iterations, seed=seed) for a in attacks]
            image = _worst(found, n)
            noise = worst_case(method, problem, radius, "noise", 1, seed=seed)
            rows.append(
                {
                    "radius": radius,
                    "method": name,
                    "change": off(image, noise.clean),
                    "noise_change": off(noise.image, noise.clean),
                    "error": float((norm(noise.clean - truth, n) / size).mean()),
                    "attacked_error": off(image, truth),
                    "noise_error": off(noise.image, truth),
                }
            )
    return rows


def _worst(found: Sequence[Perturbation], n: int) -> Tensor:
    """Of several attacks the image with the greatest change, each of the batch by itself."""
    image, change = found[0].image, found[0].change
    for one in found[1:]:
        new = one.change > change
        image = torch.where(torch.as_tensor(spread(new, n)), one.image, image)
        change = torch.where(new, one.change, change)
    return image


class _Best:
    """The perturbation of each image with the greatest change so far."""

    def __init__(self, clean: Tensor, y: Tensor, n: int, m: int):
        self.clean, self.n, self.m = clean, n, m
        self.data, self.image = torch.zeros_like(y), clean
        self.change = norm(torch.zeros_like(clean), n)
        self.cause: Tensor | None = None
        self.history: list[Tensor] = []

    def see(self, e: Tensor, x: Tensor, cause: Tensor | None = None, always: bool = False) -> None:
        change = norm(x - self.clean, self.n)
        if not bool(torch.isfinite(change).all()):
            raise FloatingPointError(
                "the attack reached an image that is not finite: a smaller radius or step"
            )
        new = torch.ones_like(change, dtype=torch.bool) if always else change > self.change
        self.history.append(change)
        self.change = torch.where(new, change, self.change)
        self.data = torch.where(torch.as_tensor(spread(new, self.m)), e, self.data)
        self.image = torch.where(torch.as_tensor(spread(new, self.n)), x, self.image)
        self.cause = cause

    def result(self) -> Perturbation:
        size = norm(self.data, self.m)
        history = torch.stack(self.history)
        return Perturbation(self.data, self.image, self.clean, size, self.change, history, self.cause)


class _Adam:
    """The direction of Kingma and Ba, ICLR 2015, with its defaults, real and imaginary parts apart."""

    def __init__(self) -> None:
        self.k = 0
        self.mean = self.square = torch.zeros(())

    def direction(self, g: Tensor) -> Tensor:
        real = torch.view_as_real(g) if g.is_complex() else g
        self.k += 1
        self.mean = 0.9 * self.mean + 0.1 * real
        self.square = 0.999 * self.square + 0.001 * real.square()
        mean, square = self.mean / (1 - 0.9**self.k), self.square / (1 - 0.999**self.k)
        # relative, so that the scale of the objective does not matter
        tiny = 1e-8 * square.max().sqrt() + torch.finfo(real.dtype).tiny
        d = mean / (square.sqrt() + tiny)
        return torch.view_as_complex(d.contiguous()) if g.is_complex() else d


def _gradient(f: DataMap, y: Tensor, e: Tensor, clean: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """f(y + e), and the gradient of ½‖f(y + e) − clean‖² over e."""
    e = e.detach().requires_grad_(True)
    with torch.enable_grad():
        x = f(y + e)
        if not x.requires_grad:
            raise ValueError(
                "attack: autograd does not go through this method (it detaches its data, or runs under "
                "torch.no_grad); use attack='noise', or attack a differentiable one and apply its "
                "perturbation to this"
            )
        (g,) = torch.autograd.grad(squared_norm(x - clean, n).sum() / 2, e)
    return x.detach(), g


def _noise(y: Tensor, m: int, seed: int) -> Tensor:
    zero = torch.zeros_like(y)
    return draw_images(zero, m, seed, lambda _, x, g: torch.randn(x.shape, generator=g, dtype=x.dtype))


def _on_sphere(e: Tensor, bound: Tensor, m: int) -> Tensor:
    size = norm(e, m)
    return e * spread(torch.where(size > 0, bound / size.where(size > 0, torch.ones_like(size)), 0.0), m)


def _onto_ball(e: Tensor, bound: Tensor, m: int) -> Tensor:
    size = norm(e, m)
    return e * spread(torch.where(size > bound, bound / size.where(size > 0, torch.ones_like(size)), 1.0), m)
