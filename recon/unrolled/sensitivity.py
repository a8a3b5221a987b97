"""Coil maps that a network finds in the calibration region, and the encoding they make."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from operators import Fourier, Sense
from operators.tensors import spread
from priors.networks.channels import Standardised, on_planes, unet_widths
from priors.networks.unet import Norm, UNet

from ..learned import squared
from ..scaling import calibration_block


class Sensitivities(nn.Module):
    """S_c = I_c / √Σ|I|²,   I_c = net(F* M₀ y_c): maps from the fully sampled middle of k-space.

    Sriram et al., MICCAI 2020. One U-Net for all coils, which sees standardised planes. It begins as the
    identity, so that the first maps are the classical ones of low resolution. Σ|S|² = 1 where there is any
    signal, else S = 0. The phase of S is that of the middle of k-space: images come out without it.

    base, depth, norm : of the U-Net
    side : of the calibration region used, at most
    """

    def __init__(self, base: int = 8, depth: int = 5, norm: Norm = "instance", side: int = 32):
        super().__init__()
        self.side = side
        self.network = Standardised(UNet(2, 2, unet_widths(base, depth), norm=norm, residual=True))

    def forward(self, A: Sense, y: Tensor) -> Tensor:
        """Maps (n, coils, *spatial) of k-space y (n, *A.out_shape); frames share theirs."""
        middle = y
        for axis, (size, first) in enumerate(zip(*calibration_block(A, self.side), strict=True)):
            inside = torch.zeros(y.shape[axis - A.ndim], dtype=y.dtype, device=y.device)
            inside[first : first + size] = 1
            middle = middle * inside.reshape(-1, *(1,) * (A.ndim - 1 - axis))
        frames = y.ndim - A.ndim - 2
        if frames:
            middle = middle.mean(tuple(range(1, 1 + frames)))
        images = Fourier(tuple(middle.shape[1:]), A.ndim).adjoint(middle)
        images = on_planes(self.network, images[:, None])[:, 0]
        power = squared(images).sum(-A.ndim - 1, keepdim=True)
        # far below any signal: there is none
        floor = 1e-12 * power.flatten(1).amax(1) + torch.finfo(power.dtype).tiny
        seen = power > spread(floor, power.ndim - 1)
        return torch.where(seen, images / torch.where(seen, power, 1).sqrt(), 0)


class Encoding:
    """A x = M F S x for maps S of every image: what `Sense` is for maps that a batch shares.

    A     the Sense whose mask counts; its maps do not
    maps  (n, coils, *spatial)
    """

    def __init__(self, A: Sense, maps: Tensor):
        self.in_shape, self.out_shape = A.in_shape, A.out_shape
        frames = len(A.in_shape) - A.ndim
        self.coil_axis = -A.ndim - 1
        self.mask = A._over_coils(A.mask).to(maps.real.dtype)
        self.maps = maps.reshape(len(maps), *(1,) * frames, *maps.shape[1:])
        self.fourier = Fourier(A.out_shape, A.ndim)

    def expand(self, x: Tensor) -> Tensor:
        """F S x, k-space of all coils, sampled or not."""
        return self.fourier(self.maps * x.unsqueeze(self.coil_axis))

    def reduce(self, k: Tensor) -> Tensor:
        """S* F* k, images."""
        return (self.maps.conj() * self.fourier.adjoint(k)).sum(self.coil_axis)

    def __call__(self, x: Tensor) -> Tensor:
        return self.mask * self.expand(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.reduce(self.mask * y)
