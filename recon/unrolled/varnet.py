"""End-to-end variational network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from operators import LinearOperator, Sense
from operators.tensors import spread
from priors.networks.channels import Standardised, on_planes, real_channels, unet_widths
from priors.networks.unet import UNet

from ..data.sets import PairedData, UnpairedData
from ..learned import TrainedFor
from ..metrics import psnr, ssim
from ..metrics.fidelity import magnitude
from ..training import within
from .base import Start, Unrolled, UnrolledConfig, at_least, first_image, one_of, unscaled
from .sensitivity import Encoding, Sensitivities


@dataclass(frozen=True)
class VarNetConfig(UnrolledConfig):
    """Sriram et al. 2020: twelve cascades, U-Nets of 18 channels and five scales, 1 − SSIM, batches of 1.

    base, depth : channels of the finest scale, doubled at each of `depth` scales
    norm : of the U-Net
    form : "image" iterates on the image, for any operator; "kspace" on the k-space of all coils, for `Sense`
    step : first η of every cascade
    measure : "ssim" of magnitudes, range the truth's maximum, as in the paper; or "mse", which sees the phase
    start : the image to begin with in the "image" form
    maps : "given" by `A`; or "learned", as in the paper: a network finds them in the calibration region, and
        those of `A` are not looked at. Their phase is then that of the image, so that magnitudes are compared
    map_base, map_depth, calibration : of that network, and the side of the region at most
    """

    cascades: int = 12
    base: int = 18
    depth: int = 5
    norm: Literal["none", "group", "instance", "batch"] = "instance"
    form: Literal["image", "kspace"] = "image"
    step: float = 1.0
    measure: Literal["ssim", "mse"] = "ssim"
    start: Start = "auto"
    maps: Literal["given", "learned"] = "given"
    map_base: int = 8
    map_depth: int = 5
    calibration: int = 32
    batch_size: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        within("VarNet cascades", self.cascades, 1, 1000)
        within("VarNet base", self.base, 1, 10_000)
        within("VarNet depth", self.depth, 1, 12)
        at_least("VarNet step", self.step, 0.0)
        one_of("VarNet norm", self.norm, ("none", "group", "instance", "batch"))
        one_of("VarNet form", self.form, ("image", "kspace"))
        one_of("VarNet measure", self.measure, ("ssim", "mse"))
        one_of("VarNet maps", self.maps, ("given", "learned"))
        within("VarNet map_base", self.map_base, 1, 10_000)
        within("VarNet map_depth", self.map_depth, 1, 12)
        within("VarNet calibration", self.calibration, 1, 10_000)


class VarNet(Unrolled):
    """x ← x − η A*(A x − y) − net(x), or in k-space k ← k − η M(M k − y) − E net(E*k), E = F S; x = E*k.

    Sriram et al., MICCAI 2020 (end-to-end variational network); every cascade has its own η and U-Net, which
    sees standardised planes. Coil maps are those of `A`, or learned (`Sensitivities`), one set for every
    image. The U-Net is that of `priors.networks.unet` (strided down, bilinear up), so weights are not
    interchangeable.
    """

    name: ClassVar[str] = "varnet"
    Config = VarNetConfig

    def layers(self, scanner: TrainedFor) -> None:
        c = self.config
        for name, depth in (("depth", c.depth), ("map_depth", c.map_depth if c.maps == "learned" else 1)):
            coarse = math.prod(math.ceil(n / 2 ** (depth - 1)) for n in scanner.in_shape[-2:])
            if c.norm == "instance" and coarse < 2:
                raise ValueError(
                    f"VarNet {name}: {depth} scales leave one pixel of images {scanner.in_shape}, too few "
                    f"for instance normalisation; lower {name} or choose norm='group'"
                )
        channels = real_channels(1, scanner.complex)
        self.refine = nn.ModuleList(
            Standardised(UNet(channels, channels, unet_widths(c.base, c.depth), norm=c.norm))
            for _ in range(c.cascades)
        )
        self.steps = nn.Parameter(torch.full((c.cascades,), float(c.step)))
        if c.maps == "learned":
            self.sensitivities = Sensitivities(c.map_base, c.map_depth, c.norm, c.calibration)

    def iterate(self, A: LinearOperator, y: Tensor) -> Tensor:
        (c, inner), config = unscaled(A), self.config
        if config.form == "image" and config.maps == "given":
            return self._on_images(A, y)
        if not isinstance(inner, Sense):
            what = "form='kspace'" if config.form == "kspace" else "maps='learned'"
            raise ValueError(f"VarNet {what}: needs Sense, got {inner!r}; use form='image' with maps='given'")
        y = y / c
        if config.maps == "learned":
            coded = Encoding(inner, self.sensitivities(inner, y))
            if config.form == "image":
                return self._on_images(coded, y)
            return self._in_kspace(coded.expand, coded.reduce, coded.mask.to(y.real), y)
        E = Sense(torch.ones_like(inner.mask), inner.maps, inner.in_shape, inner.ndim)
        return self._in_kspace(E, E.adjoint, inner._over_coils(inner.mask).to(y.real), y)

    def _on_images(self, A: LinearOperator | Encoding, y: Tensor) -> Tensor:
        def cascade(net: nn.Module, step: Tensor, x: Tensor) -> Tensor:
            return x - step * A.adjoint(A(x) - y) - on_planes(net, x[:, None])[:, 0]

        x = first_image(cast(LinearOperator, A), y, self.config.start)
        for net, step in zip(self.refine, self.steps, strict=True):
            x = self.again(cascade, net, step, x)
        return x

    def _in_kspace(
        self, expand: Callable[[Tensor], Tensor], reduce: Callable[[Tensor], Tensor], mask: Tensor, y: Tensor
    ) -> Tensor:
        def cascade(net: nn.Module, step: Tensor, k: Tensor) -> Tensor:
            refined = expand(on_planes(net, reduce(k)[:, None])[:, 0])
            return k - step * mask * (mask * k - y) - refined

        k = y
        for net, step in zip(self.refine, self.steps, strict=True):
            k = self.again(cascade, net, step, k)
        return reduce(k)

    def distance(self, x: Tensor, truth: Tensor) -> Tensor:
        """1 − SSIM of magnitudes, or mean |x − truth|², by the configuration."""
        if self.config.measure == "mse":
            blind = self.config.maps == "learned"
            return super().distance(magnitude(x), magnitude(truth)) if blind else super().distance(x, truth)
        peak = magnitude(truth).flatten(1).amax(1).clamp_min(1e-6)
        peak = torch.as_tensor(spread(peak, truth.ndim - 3)).expand(truth.shape[:-2])
        return 1 - ssim(magnitude(x), magnitude(truth), data_range=peak).mean()

    def scores(self, data: PairedData | UnpairedData) -> dict[str, float]:
        """As of every method; with learned maps PSNR, too, is of magnitudes, range the truth's maximum."""
        found = super().scores(data)
        if self.config.maps == "learned":
            problem, truth = data.validation
            x, truth = magnitude(self(problem)), magnitude(truth)
            peak = spread(truth.flatten(1).amax(1), truth.ndim - 3)
            value = psnr(x, truth, data_range=torch.as_tensor(peak).expand(truth.shape[:-2]))
            found["psnr_db_range_truth"] = float(value.mean())
        return found

    @classmethod
    def examples(cls) -> list[VarNet]:
        small = {"cascades": 2, "base": 4, "depth": 2, "steps": 2, "batch_size": 2}
        return [cls(**small), cls(**small, norm="group", measure="mse", checkpoint=True, normalise="data")]
