"""Denoisers: D(x, σ), the image without its noise, from networks, functionals or any function."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from operators.tensors import spread

from .base import Functional, Step
from .nonlocal_means import non_local_means

Parts = Literal["parts", "channels", "whole"]


class Denoiser(nn.Module, ABC):
    """D(x, σ) ≈ E[clean | x = clean + σ·n], n white Gaussian noise of variance 1.

    σ is the standard deviation of every real number, in the unit of the image; of a complex image that of its
    real and of its imaginary part (`operators.Gaussian(s)` with complex data has σ = s/√2). A subclass
    writes `denoise`, which sees (n, *shape) and σ of shape (n,).

        D(x, sigma)        x (*batch, *shape), σ > 0 a float or one per image (*batch,)
        D.at_scale(s)      x ↦ s·D(x/s, σ/s), for images of size s; a float or one per image

    ndim   dimensions of one image
    unit   whether D is made for images of size 1, as networks are, so that others are brought to it
    width  size of the images that D is made for as it is

    Raises ValueError where σ is not positive, and where D gives another shape, or NaN for finite images.
    """

    ndim: int = 2
    unit: bool = True
    width: float = 1.0

    @abstractmethod
    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D of x (n, *shape), σ (n,)."""

    def forward(self, x: Tensor, sigma: Step) -> Tensor:
        batch, shape = x.shape[: x.ndim - self.ndim], x.shape[x.ndim - self.ndim :]
        flat = x.reshape(-1, *shape) if x.numel() else x.new_zeros(0, *shape)
        level = per_image(f"{self!r} sigma", sigma, x, batch)
        if not len(flat):
            return x.clone()
        result = self.denoise(flat, level)
        if not isinstance(result, Tensor) or result.shape != flat.shape:
            got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(f"denoiser {self!r}: expected images {tuple(flat.shape)} back, got {got}")
        if not bool(torch.isfinite(result).all()) and bool(torch.isfinite(flat).all()):
            raise ValueError(
                f"denoiser {self!r}: NaN or inf for finite images of size {float(flat.abs().max()):.3g}, "
                f"σ {float(level.min()):.3g} … {float(level.max()):.3g}: is it made for this range?"
            )
        return result.reshape(x.shape).to(x.dtype)

    def at_scale(self, scale: Step) -> Denoiser:
        """x ↦ s·D(x/s, σ/s)."""
        return _AtScale(self, scale)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def per_image(name: str, sigma: Step, x: Tensor, batch: tuple[int, ...]) -> Tensor:
    """σ as one positive number for each of the flattened images, (n,)."""
    level = torch.as_tensor(sigma, dtype=x.real.dtype, device=x.device)
    if not bool((level > 0).all() & level.isfinite().all()):
        raise ValueError(f"{name}: expected positive numbers, got {sigma}")
    if level.ndim and tuple(level.shape) != tuple(batch):
        raise ValueError(f"{name}: expected one number or one per image {tuple(batch)}, got {level.shape}")
    return level.expand(batch).reshape(-1)


class _AtScale(Denoiser):
    scale: Tensor | float

    def __init__(self, denoiser: Denoiser, scale: Step):
        super().__init__()
        if not bool((torch.as_tensor(scale) > 0).all()):
            raise ValueError(f"denoiser scale: expected positive numbers, got {scale}")
        self.denoiser, self.ndim, self.unit = denoiser, denoiser.ndim, False
        if isinstance(scale, Tensor):
            self.register_buffer("scale", scale)
        else:
            self.scale = float(scale)

    def forward(self, x: Tensor, sigma: Step) -> Tensor:
        s = spread(self.scale, self.ndim)
        return s * self.denoiser(x / s, sigma / self.scale)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        raise NotImplementedError  # forward knows the batch that the scale is of

    def __repr__(self) -> str:
        return f"{self.denoiser!r} at scale {self.scale}"


class NetworkDenoiser(Denoiser):
    """D(x, σ) = w·N((x − low)/w, σ/w) + low,  w = high − low, with a network N.

    network        (n, channels, ny, nx), σ (n,) -> (n, channels, ny, nx), as `DnCNN`, `DRUNet`
    data_range     (low, high), the values of the image that N sees as 0 and 1; of others than (0, 1) nobody
                   scales the images once more, `unit` is False. Complex images are divided by w only,
                   whatever their phase
    complex_images "parts": N sees real and imaginary part as two images, each with σ; "channels": N has two
                   channels, real and imaginary part together
    """

    def __init__(
        self,
        network: nn.Module,
        data_range: tuple[float, float] = (0.0, 1.0),
        complex_images: Literal["parts", "channels"] = "parts",
    ):
        super().__init__()
        low, high = data_range
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"{type(self).__name__} data_range: expected low < high, got {data_range}")
        if complex_images not in ("parts", "channels"):
            raise ValueError(
                f"{type(self).__name__} complex_images: expected 'parts' or 'channels', "
                f"got {complex_images!r}"
            )
        channels = getattr(network, "channels", None)
        wanted = 2 if complex_images == "channels" else 1
        if isinstance(channels, int) and channels != wanted:
            raise ValueError(
                f"{type(self).__name__} network: expected {wanted} channels for complex_images="
                f"{complex_images!r}, got {channels}"
            )
        self.network, self.low, self.width = network, float(low), float(high - low)
        self.unit = (low, high) == (0.0, 1.0)
        self.complex_images = complex_images

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        sigma = sigma / self.width
        if not x.is_complex():
            if self.complex_images == "channels":
                raise ValueError(f"{self!r}: made for complex images in two channels, got {x.dtype}")
            return self._run((x[:, None] - self.low) / self.width, sigma)[:, 0] * self.width + self.low
        pairs = torch.stack([x.real, x.imag], 1) / self.width
        if self.complex_images == "channels":
            pairs = self._run(pairs, sigma)
        else:
            parts = self._run(pairs.flatten(0, 1)[:, None], sigma.repeat_interleave(2))
            pairs = parts.reshape(pairs.shape)
        return torch.complex(pairs[:, 0], pairs[:, 1]) * self.width

    def _run(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The network in the precision of its own weights."""
        like = next(self.network.parameters(), x)
        result = self.network(x.to(like.dtype), sigma.to(like.dtype))
        if result.shape != x.shape:
            raise ValueError(
                f"denoiser {self!r}: expected {tuple(x.shape)} from the network, got {tuple(result.shape)}"
            )
        return result.to(x.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.network).__name__})"


class FunctionDenoiser(Denoiser):
    """D(x, σ) = f(x, σ), any function of images.

    function       f(x (n, [1,] *shape), σ (n,)) -> like x
    channel        f expects a channel dimension, as most networks do
    complex_images "parts": f sees real and imaginary part as two images; "whole": f takes complex images
    unit           f is made for images in [0, 1]
    """

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        channel: bool = True,
        complex_images: Literal["parts", "whole"] = "parts",
        unit: bool = True,
        ndim: int = 2,
    ):
        super().__init__()
        if not callable(function):
            raise ValueError(f"FunctionDenoiser function: expected a function (x, sigma), got {function!r}")
        self.function, self.channel, self.complex_images = function, channel, complex_images
        self.unit, self.ndim = unit, ndim

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        if x.is_complex() and self.complex_images == "parts":
            both = self.denoise(torch.cat([x.real, x.imag]), torch.cat([sigma, sigma]))
            return torch.complex(*both.chunk(2))
        result = self.function(x[:, None] if self.channel else x, sigma)
        return result[:, 0] if self.channel and isinstance(result, Tensor) else result

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return f"FunctionDenoiser({name})"


class ProximalDenoiser(Denoiser):
    """D(x, σ) = prox_{σ²f}(x): what is most probable where −log p(clean) = f.

    With f = λ·TV or λ·WaveletL1 the classical denoisers; with it a plug-and-play method is the variational
    one. Not rescaled: f keeps its unit.
    """

    unit = False

    def __init__(self, f: Functional):
        super().__init__()
        self.f, self.ndim = f, f.ndim

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.f.prox(x, sigma.square())

    def __repr__(self) -> str:
        return f"ProximalDenoiser({self.f!r})"


class NonLocalMeansDenoiser(Denoiser):
    """D(x, σ) = `non_local_means`(x, σ); of complex images both parts alike.

    strength, patch_radius, search_radius   as there
    """

    unit = False

    def __init__(self, strength: float = 1.0, patch_radius: int = 2, search_radius: int = 5, ndim: int = 2):
        super().__init__()
        self.options, self.ndim = (strength, patch_radius, search_radius, ndim), ndim

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        if x.is_complex():
            return torch.complex(self.denoise(x.real, sigma), self.denoise(x.imag, sigma))
        return non_local_means(x, sigma, *self.options)


class VariationalDenoiser(Denoiser):
    """D(x, σ) ≈ argmin_z ½‖z − x‖² + σ²f(z), by `steps` accelerated gradient steps that autograd sees.

    How regularisers without a prox are trained to denoise (Goujon et al., IEEE Trans. Comput. Imaging 9
    (2023)). f needs a finite `lipschitz`.

    f      a smooth functional; where it has a parameter `noise`, that is not σ: σ enters as σ² only
    steps  z ← z − t∇, t = 1 / (1 + σ²·lipschitz), with Nesterov's momentum
    """

    def __init__(self, f: Functional, steps: int = 20):
        super().__init__()
        if steps < 1:
            raise ValueError(f"VariationalDenoiser steps: expected at least 1, got {steps}")
        self.f, self.steps, self.ndim = f, steps, f.ndim

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        slope = torch.as_tensor(self.f.lipschitz, dtype=sigma.dtype).detach()
        if not bool(slope.isfinite().all()):
            raise ValueError(
                f"VariationalDenoiser f: expected a finite lipschitz constant, got {slope} of {self.f!r}"
            )
        power = sigma.square()
        step = spread(1 / (1 + power * slope), self.ndim)
        if torch.is_grad_enabled() and any(p.requires_grad for p in self.f.parameters()):
            x = x if x.requires_grad else x.detach().requires_grad_()  # so that ∇f keeps its graph
        z, ahead, t = x, x, 1.0
        for _ in range(self.steps):
            old = z
            z = ahead - step * (ahead - x + spread(power, self.ndim) * self.f.grad(ahead))
            t_new = (1 + math.sqrt(1 + 4 * t * t)) / 2
            ahead, t = z + (t - 1) / t_new * (z - old), t_new
        return z

    def __repr__(self) -> str:
        return f"VariationalDenoiser({self.f!r}, steps={self.steps})"


def as_denoiser(thing: Denoiser | Functional | Callable[[Tensor, Tensor], Tensor]) -> Denoiser:
    """A denoiser from one, from a functional with a prox (prox_{σ²f}, also `from_deepinv_denoiser`), or from
    a function or network (n, 1, *shape), (n,) -> (n, 1, *shape) on images in [0, 1]; one that takes images
    alone is blind, and denoises as much as it was made for, whatever σ is.
    """
    if isinstance(thing, Denoiser):
        return thing
    if isinstance(thing, Functional):
        return ProximalDenoiser(thing)
    if isinstance(thing, nn.Module):
        return NetworkDenoiser(thing if _takes(thing.forward, 2) else _Blind(thing))
    if callable(thing):
        return FunctionDenoiser(thing if _takes(thing, 2) else _Blind(thing))
    raise ValueError(f"denoiser: expected a Denoiser, a functional or a function (x, sigma), got {thing!r}")


def _takes(function: Callable[..., object], count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # written in C, tells nothing
        return True
    return True


class _Blind(nn.Module):
    """A network that is told no σ."""

    def __init__(self, network: Callable[..., Tensor]):
        super().__init__()
        self.network, self.channels = network, getattr(network, "channels", None)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.network(x)
