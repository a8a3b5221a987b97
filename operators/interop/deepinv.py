"""Physics of deepinv (Tachella et al., arXiv 2505.20160), to and fro."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ..base import LinearOperator
from .foreign import Foreign


@cache
def toolbox() -> Any:
    """The module `deepinv`; ImportError with what to do if it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import deepinv
    except ImportError:
        raise ImportError("deepinv is not installed: pip install 'hybrid-recon[deepinv]'") from None
    return deepinv


def to_deepinv(A: LinearOperator, noise_model: Any = None, channels: int = 1, **options: Any) -> Any:
    """A as a deepinv LinearPhysics: images (B, C, *in_shape), data (B, C, *out_shape), every channel by A.

    Where A makes complex data, images and data have two real channels, C = 2, real and imaginary part.
    Exact adjoint if A's is; gradients of any order.

    noise_model  a deepinv noise model; none by default
    channels     C of a real A
    options      of LinearPhysics: max_iter, tol, solver…
    """
    with torch.no_grad():
        is_complex = A(torch.zeros(A.in_shape)).is_complex()
    return _physics_class()(A, noise_model, 2 if is_complex else channels, is_complex, **options)


def from_deepinv(
    physics: Any,
    shape: tuple[int, ...] | None = None,
    is_complex: bool | None = None,
    dtype: torch.dtype = torch.float32,
) -> Foreign:
    """A deepinv LinearPhysics, without its noise, as our operator.

    One channel is left out on both sides: images are (*batch, *shape[1:]). With `is_complex`, the two
    channels of images and data are real and imaginary part. Otherwise images are (*batch, *shape).

    physics     immutable while it is used; `sense_from_deepinv` makes a faster operator of MRI
    shape       (C, H, W) or (C, D, H, W) of one image; physics.img_size by default
    is_complex  two channels are a complex one; by default in MRI, with one coil or several
    dtype       a precision that the physics computes in, to find out the shape of the data
    """
    mri = isinstance(physics, toolbox().utils.mixins.MRIMixin)
    is_complex = mri if is_complex is None else is_complex
    shape = tuple(shape or getattr(physics, "img_size", None) or ())
    if mri and len(shape) == (3 if getattr(physics, "three_d", False) else 2):
        shape = (2, *shape)  # several coils: deepinv leaves the channels out
    if not shape:
        raise ValueError("from_deepinv shape: the physics does not know its img_size; give (C, H, W)")
    if not is_complex and len(shape) < 3 and hasattr(physics, "radon"):
        raise ValueError(f"from_deepinv shape: expected (C, H, W), as {(1, *shape)}, got {shape}")
    if is_complex and shape[0] != 2:
        raise ValueError(f"from_deepinv shape: expected two channels for complex images, got {shape}")
    held = next((t for t in (*physics.parameters(), *physics.buffers())), torch.empty(0))
    with torch.no_grad():
        y = physics.A(torch.zeros(1, *shape, dtype=dtype, device=held.device))
    if not isinstance(y, Tensor):
        raise ValueError(f"from_deepinv: expected one tensor of data, got {type(y).__name__}; give its parts")
    out_shape = tuple(y.shape[1:])
    if is_complex:
        pair = _Physics(physics, "complex", "complex")
        return Foreign(pair, shape[1:], out_shape[1:])
    inner = "single" if shape[0] == 1 else "plain"
    outer = "single" if out_shape[0] == 1 and len(out_shape) > 1 else "plain"
    single = {"single": slice(1, None), "plain": slice(None)}
    return Foreign(_Physics(physics, inner, outer), shape[single[inner]], out_shape[single[outer]])


class _Physics(nn.Module):
    """A deepinv physics on batches of ours; how images and data hold their channels."""

    def __init__(self, physics: Any, images: str, data: str):
        super().__init__()
        self.physics, self.images, self.data = physics, images, data

    def forward(self, x: Tensor) -> Tensor:
        return _without_channels(self.physics.A(_with_channels(x, self.images)), self.data)

    def adjoint(self, y: Tensor) -> Tensor:
        return _without_channels(self.physics.A_adjoint(_with_channels(y, self.data)), self.images)


def _with_channels(x: Tensor, kind: str) -> Tensor:
    if kind == "complex":
        return torch.stack([x.real, x.imag if x.is_complex() else torch.zeros_like(x)], 1)
    return x[:, None] if kind == "single" else x


def _without_channels(x: Tensor, kind: str) -> Tensor:
    if kind == "complex":
        return torch.complex(x[:, 0], x[:, 1])
    return x[:, 0] if kind == "single" else x


@cache
def _physics_class() -> Any:
    """The class of our operators in deepinv, made when deepinv is there to inherit from."""
    deepinv = toolbox()

    class Ours(deepinv.physics.LinearPhysics):  # type: ignore[name-defined, misc]
        """y = A x for every channel; every keyword of a call is ignored, A never changes."""

        def __init__(
            self, A: LinearOperator, noise_model: Any, channels: int, is_complex: bool, **options: Any
        ):
            super().__init__(
                img_size=(channels, *A.in_shape),
                noise_model=noise_model or deepinv.physics.ZeroNoise(),
                **options,
            )
            self.operator, self.kind = A, "complex" if is_complex else "plain"

        def A(self, x: Tensor, **_: Any) -> Tensor:
            return _with_channels(self.operator(_without_channels(x, self.kind)), self.kind)

        def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
            return _with_channels(self.operator.adjoint(_without_channels(y, self.kind)), self.kind)

        def A_adjoint_A(self, x: Tensor, **_: Any) -> Tensor:
            return _with_channels(self.operator.gram(_without_channels(x, self.kind)), self.kind)

    return Ours
