"""Non-uniform FFT by cuFINUFFT on CUDA tensors, without a copy; one plan per call direction and batch size.

Shih, Wright, Andén, Blaschke, Barnett, IPDPSW 2021. Written from its documentation; the project's tests run
it where a CUDA device is (marker `cuda`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .nufft_finufft import Plans, attainable


def forward(x: Tensor, points: Tensor, tolerance: float, plans: Plans) -> Tensor:
    """y_j = Σ_r x(r) exp(−i k_j·r); (batch, *spatial) -> (batch, samples), complex, contiguous."""
    y = x.new_empty(len(x), len(points))
    _execute(2, x, y, points, tuple(x.shape[1:]), tolerance, plans)
    return y


def adjoint(y: Tensor, points: Tensor, spatial: tuple[int, ...], tolerance: float, plans: Plans) -> Tensor:
    """x(r) = Σ_j y_j exp(i k_j·r); (batch, samples) -> (batch, *spatial), complex, contiguous."""
    x = y.new_empty(len(y), *spatial)
    _execute(1, y, x, points, spatial, tolerance, plans)
    return x


def _execute(
    kind: int,
    given: Tensor,
    out: Tensor,
    points: Tensor,
    spatial: tuple[int, ...],
    tolerance: float,
    plans: Plans,
) -> None:
    single, batch = given.dtype == torch.complex64, len(given)
    stream = torch.cuda.current_stream(given.device).cuda_stream

    def make() -> tuple[Any, list[Tensor]]:
        import cufinufft

        eps = attainable(tolerance, single, len(spatial))
        options = {"upsampfac": 2.0, "gpu_device_id": given.device.index or 0, "gpu_stream": stream}
        name = "complex64" if single else "complex128"
        plan = cufinufft.Plan(kind, spatial, batch, eps, -1 if kind == 2 else 1, name, **options)
        real = given.real.dtype
        axes = [k.contiguous() for k in points.detach().to(given.device, real).T]
        plan.setpts(*axes)
        return plan, axes  # the plan points into the coordinates

    with plans.borrow((kind, single, batch, given.device, stream), make) as (plan, _):
        source, target = given.detach(), out
        plan.execute(source[0] if batch == 1 else source, out=target[0] if batch == 1 else target)
