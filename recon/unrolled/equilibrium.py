"""Deep equilibrium: the fixed point of one learned iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from operators import LinearOperator
from operators.tensors import norm, spread
from priors.networks.channels import Convolutions, on_planes, real_channels

from ..learned import TrainedFor
from ..problem import Problem
from ..training import within
from .base import Start, Unrolled, UnrolledConfig, at_least, first_image, one_of
from .implicit import fixed_point


@dataclass(frozen=True)
class DeepEquilibriumConfig(UnrolledConfig):
    """Gilton, Ongie, Willett 2021: the fixed point by Anderson acceleration of the last five iterates.

    layers, hidden, norm : of the net
    step : first η, learned
    keep : first θ, learned between 0 and 1
    iterations, tolerance : of the fixed point, and of the equation for its gradient
    """

    layers: int = 5
    hidden: int = 64
    norm: Literal["none", "group", "instance"] = "none"
    step: float = 1.0
    keep: float = 0.9
    iterations: int = 50
    tolerance: float = 1e-4
    memory: int = 5
    start: Start = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        within("DeepEquilibrium layers", self.layers, 2, 100)
        within("DeepEquilibrium hidden", self.hidden, 1, 10_000)
        within("DeepEquilibrium iterations", self.iterations, 1, 100_000)
        within("DeepEquilibrium memory", self.memory, 1, 100)
        at_least("DeepEquilibrium step", self.step, 0.0)
        at_least("DeepEquilibrium tolerance", self.tolerance, 0.0)
        if not 0 < self.keep < 1:
            raise ValueError(f"DeepEquilibrium keep: expected a number between 0 and 1, got {self.keep}")
        one_of("DeepEquilibrium norm", self.norm, ("none", "group", "instance"))


class DeepEquilibrium(Unrolled):
    """x = θ v + net(v),   v = x − η A*(A x − y): a learned iteration run until it stands still.

    Gilton, Ongie, Willett, IEEE Trans. Comput. Imaging 7 (2021). The gradient is that of the fixed point
    (implicit), so that memory is that of one iteration. A fixed point is found where the iteration contracts,
    which training does not guarantee: `equilibrium` measures how far it stands still and how it contracts.
    """

    Config = DeepEquilibriumConfig

    def layers(self, scanner: TrainedFor) -> None:
        c = self.config
        channels = real_channels(1, scanner.complex)
        self.net = Convolutions(channels, channels, c.hidden, c.layers, "leaky", c.norm, last=0.1)
        self.step = nn.Parameter(torch.tensor(float(c.step)))
        self.logit = nn.Parameter(torch.logit(torch.tensor(float(c.keep))))

    def once(self, A: LinearOperator, y: Tensor, x: Tensor) -> Tensor:
        """One iteration."""
        v = x - self.step * A.adjoint(A(x) - y)
        return self.logit.sigmoid() * v + on_planes(self.net, v[:, None])[:, 0]

    def iterate(self, A: LinearOperator, y: Tensor) -> Tensor:
        c = self.config
        with torch.no_grad():
            x, _ = self._solve(A, y)
        x = self.once(A, y, x)  # carries the gradient to weights and data, where one is asked for
        if not x.requires_grad:
            return x
        at = x.detach().requires_grad_()
        after = self.once(A, y.detach(), at)

        def whole(g: Tensor) -> Tensor:
            """U = g + (∂f/∂x)* u."""

            def back(u: Tensor) -> Tensor:
                return g + torch.autograd.grad(after, at, u, retain_graph=True)[0]

            return fixed_point(back, g, c.iterations, c.tolerance, c.memory)[0]

        x.register_hook(whole)
        return x

    @torch.no_grad()
    def equilibrium(self, problem: Problem, iterations: int = 30) -> tuple[Tensor, Tensor]:
        """Per image: ‖f(x) − x‖ / ‖f(x)‖ at the result, and the spectral norm of ∂f/∂x there (contracts < 1).

        The norm is from power iteration: it is approached from below. Returns two tensors (n,).
        """
        y, _ = self.inside(problem)
        size = self.scanner(problem).norm
        A, y = (1 / size) * problem.A, y / size
        x, residual = self._solve(A, y)
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        n = x.ndim - 1
        value = torch.zeros_like(residual)
        for _ in range(iterations):
            v = v / spread(norm(v, n), n)
            with torch.enable_grad():
                w = torch.func.jvp(lambda x: self.once(A, y, x), (x,), (v,))[1].detach()
                at = x.detach().requires_grad_()
                v = torch.autograd.grad(self.once(A, y, at), at, w)[0]
            value = norm(v, n).sqrt()
        return residual, value

    def _solve(self, A: LinearOperator, y: Tensor) -> tuple[Tensor, Tensor]:
        c = self.config
        x = first_image(A, y, c.start)
        return fixed_point(lambda x: self.once(A, y, x), x, c.iterations, c.tolerance, c.memory)

    @classmethod
    def examples(cls) -> list[DeepEquilibrium]:
        small = {"layers": 2, "hidden": 4, "steps": 2, "batch_size": 2, "iterations": 8}
        return [cls(**small), cls(**small, norm="group", start="adjoint", normalise="data")]
