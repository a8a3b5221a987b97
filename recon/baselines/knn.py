"""Patches learned by heart: nearest neighbours, and anchored regression, from before networks."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..base import Reconstructor
from ..checkpoints import beside, read_tensors, write_tensors
from ..data.sets import PairedData, UnpairedData
from ..problem import Problem
from .filters import mirrored
from .postprocess import to_channels
from .postprocess_resolution import fine_start

TABLE = 2**24
"""Numbers in the largest table made at once"""


class PatchRegression(Reconstructor):
    """x = mean over patches that cover a pixel of m + g(p − m), p the patch of x₀, m its mean.

    x₀ is `direct`'s, or the enlarged image of super-resolution. A subclass learns g from training pairs, of
    which `fit` draws some patches. Complex images are two real ones. Brightness is left as it is.

    images, samples  training pairs, and patches drawn from them
    size, target  sides of p and of what g says of its middle [pixels], both odd
    filter, frequency_scaling  of the filtered back projection, where there is one
    seed  of the draw
    """

    data_kind = "paired"
    settings: ClassVar[tuple[str, ...]] = (
        "images", "samples", "size", "target", "filter", "frequency_scaling", "seed",
    )  # fmt: skip
    tables: ClassVar[tuple[str, ...]]
    """Buffers that `fit` fills"""

    def __init__(
        self,
        images: int = 32,
        samples: int = 20_000,
        size: int = 7,
        target: int = 3,
        filter: str = "hann",
        frequency_scaling: float = 1.0,
        seed: int = 0,
    ):
        super().__init__()
        name = type(self).__name__
        if size % 2 == 0 or target % 2 == 0 or not 1 <= target <= size:
            raise ValueError(f"{name} size, target: expected odd, target ≤ size, got {size} and {target}")
        if images < 1 or samples < 1:
            raise ValueError(f"{name} images, samples: expected 1 or more, got {images} and {samples}")
        self.images, self.samples, self.size, self.target, self.seed = images, samples, size, target, seed
        self.filter, self.frequency_scaling = filter, frequency_scaling
        for table in self.tables:
            self.register_buffer(table, None)

    @abstractmethod
    def learn(self, patches: Tensor, targets: Tensor) -> None:
        """Fill the tables from patches (n, size²) and what belongs to them (n, target²), means taken off."""

    @abstractmethod
    def predict(self, patches: Tensor) -> Tensor:
        """g: (n, size²) -> (n, target²)."""

    @torch.no_grad()
    def fit(self, data: PairedData | UnpairedData) -> Self:
        """Learn g from the patches of some training pairs."""
        if not isinstance(data, PairedData):
            raise ValueError(f"{type(self).__name__}.fit data: expected pairs, got {type(data).__name__}")
        generator = torch.Generator().manual_seed(self.seed)
        problem, truth = next(data.batches(self.images, generator))
        planes, truths = (self._planes(x, problem) for x in (self.first(problem), truth))
        pixels = math.prod(planes.shape[-2:])
        drawn = torch.randperm(len(planes) * pixels, generator=generator)[: self.samples]
        chosen, order = drawn.sort()
        patches, targets = [], []
        # plane by plane: all patches of all of them take size² as much memory as the images
        for k in range(len(planes)):
            at = (chosen[chosen // pixels == k] - k * pixels).to(planes.device)
            mine, means = self._patches(planes[k : k + 1])
            wide = mirrored(truths[k : k + 1, 0], self.target // 2)[:, None]
            theirs = F.unfold(wide, self.target)[0].T
            patches.append(mine[at])
            targets.append(theirs[at] - means[at])
        # in the order in which they were drawn: anchors begin at the first
        back = order.argsort().to(planes.device)
        self.learn(torch.cat(patches)[back], torch.cat(targets)[back])
        return self

    @torch.no_grad()
    def forward(self, problem: Problem) -> Tensor:
        if getattr(self, self.tables[0]) is None:
            raise ValueError(f"{type(self).__name__}: not trained: call fit(data)")
        x = self.first(problem)
        if x.numel() == 0:
            return x
        planes = self._planes(x, problem)
        patches, means = self._patches(planes)
        step = max(1, TABLE // self.width)
        found = torch.cat([self.predict(some) for some in patches.split(step)]) + means
        columns = found.unflatten(0, (len(planes), -1)).movedim(1, 2)
        # every pixel is in fewer targets at the border
        shape, reach = planes.shape[-2:], self.target // 2
        top = F.fold(columns, shape, self.target, padding=reach)
        bottom = F.fold(torch.ones_like(columns[:1]), shape, self.target, padding=reach)
        z = (top / bottom)[:, 0]
        if x.is_complex():
            real, imaginary = z.unflatten(0, (-1, 2)).unbind(1)
            z = torch.complex(real.contiguous(), imaginary.contiguous())
        return z.reshape(x.shape)

    def first(self, problem: Problem) -> Tensor:
        """x₀."""
        return fine_start(problem.A, problem.linear, self.filter, self.frequency_scaling)

    @property
    def width(self) -> int:
        """Numbers that `predict` makes of one patch."""
        return max(self.samples, self.size**2)

    def _planes(self, x: Tensor, problem: Problem) -> Tensor:
        if len(problem.A.in_shape) < 2:
            raise ValueError(f"{type(self).__name__}: expected images of two axes, got {problem.A.in_shape}")
        return to_channels(x.reshape(-1, *problem.A.in_shape)).flatten(0, 1)[:, None]

    def _patches(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """All patches (n, size²) without their means, and these (n, 1)."""
        wide = mirrored(planes[:, 0], self.size // 2)[:, None]
        patches = F.unfold(wide, self.size).movedim(1, 2).flatten(0, 1)
        means = patches.mean(1, keepdim=True)
        return patches - means, means

    def save(
        self, path: str | Path, *, half: bool = False, scores: Mapping[str, float] | None = None
    ) -> Path:
        """Write what was learned, and the settings, to one safetensors file."""
        if getattr(self, self.tables[0]) is None:
            raise ValueError(f"{type(self).__name__}.save: nothing learned yet: call fit(data) first")
        file = beside(path, ".safetensors")
        tensors = {k: v.half() if half and v.is_floating_point() else v for k, v in self.state_dict().items()}
        settings = {name: getattr(self, name) for name in self.settings}
        write_tensors(
            file, tensors, {"method": self.name, "settings": settings, "scores": dict(scores or {})}
        )
        return file

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The method that `save` wrote."""
        file = beside(path, ".safetensors")
        tensors, header = read_tensors(file)
        settings: Any = header.get("settings")
        if header.get("method") != cls.name or not isinstance(settings, dict):
            raise ValueError(f"{file}: expected a file by {cls.__name__}.save")
        if set(tensors) != set(cls.tables) or set(settings) != set(cls.settings):
            raise ValueError(f"{file}: expected {', '.join(cls.tables)} and {', '.join(cls.settings)}")
        method = cls(**settings)
        for name, value in tensors.items():
            setattr(method, name, value.float() if value.dtype == torch.half else value)
        return method


class PatchNearestNeighbours(PatchRegression):
    """g(p) = Σ_i w_i t_i / Σ_i w_i over the k nearest of the stored patches p_i, w_i = exp(−|p − p_i|²/d²).

    d is the distance of the k-th. Chang, Yeung, Xiong, CVPR 2004, in the simplest form: an image is made of
    pieces of training images and cannot show what these do not.

    neighbours  k
    and the settings of `PatchRegression`
    """

    name = "patch-nearest-neighbours"
    settings = ("neighbours", *PatchRegression.settings)
    tables = ("patches", "targets")
    patches: Tensor
    targets: Tensor

    def __init__(self, neighbours: int = 16, **settings: Any):
        super().__init__(**settings)
        if neighbours < 1:
            raise ValueError(f"PatchNearestNeighbours neighbours: expected 1 or more, got {neighbours}")
        self.neighbours = neighbours

    def learn(self, patches: Tensor, targets: Tensor) -> None:
        """Keep them."""
        self.patches, self.targets = patches, targets

    def predict(self, patches: Tensor) -> Tensor:
        k = min(self.neighbours, len(self.patches))
        stored = self.patches.to(patches)
        near = torch.cdist(patches, stored).topk(k, dim=1, largest=False)
        least = torch.finfo(patches.dtype).tiny ** 0.5
        w = (-(near.values / near.values[:, -1:].clamp_min(least)).square()).exp()[..., None]
        return (w * self.targets.to(patches)[near.indices]).sum(1) / w.sum(1)

    @classmethod
    def examples(cls) -> list[PatchNearestNeighbours]:
        """Few patches."""
        return [cls(4, images=2, samples=50, size=5)]


class AnchoredRegression(PatchRegression):
    """g(p) = P_k p,  P_k = T_k (F_kᵀF_k + λ)⁻¹ F_kᵀ of the patches nearest to anchor a_k, k = argmax |a_kᵀp|.

    Timofte, De Smet, Van Gool, ICCV 2013 and ACCV 2014 (A+): one ridge regression for every anchor, so that
    an image costs a look-up and a product for each pixel. Anchors are found by k-means of the directions of
    patches, without regard to sign; theirs are the atoms of a dictionary.

    anchors, neighbours  how many, and the patches from which one regression is learned
    ridge  λ, in parts of the mean of |p|²
    and the settings of `PatchRegression`
    """

    settings = ("anchors", "neighbours", "ridge", *PatchRegression.settings)
    tables = ("directions", "maps")
    directions: Tensor
    maps: Tensor

    def __init__(self, anchors: int = 64, neighbours: int = 1024, ridge: float = 0.1, **settings: Any):
        super().__init__(**settings)
        if anchors < 1 or neighbours < 1:
            raise ValueError(
                f"AnchoredRegression anchors, neighbours: expected 1 or more, got {anchors}, {neighbours}"
            )
        if not 0 < ridge < math.inf:
            raise ValueError(f"AnchoredRegression ridge: expected a positive number, got {ridge!r}")
        self.anchors, self.neighbours, self.ridge = anchors, neighbours, ridge

    @property
    def width(self) -> int:
        return max(self.anchors, self.size**2 * self.target**2)

    def learn(self, patches: Tensor, targets: Tensor) -> None:
        """Anchors, then a regression for each."""
        length = patches.norm(dim=1, keepdim=True)
        # flat patches have no direction
        seen = patches[length[:, 0] > 0.1 * length.mean()]
        seen = seen / seen.norm(dim=1, keepdim=True) if len(seen) else torch.ones_like(patches[:1])
        a = seen[: self.anchors]
        for _ in range(10):
            found = seen @ a.T
            nearest = found.abs().argmax(1)
            signed = seen * found.gather(1, nearest[:, None]).sign()
            sums = torch.zeros_like(a).index_add_(0, nearest, signed)
            size = sums.norm(dim=1, keepdim=True)
            a = torch.where(size > 0, sums / size.where(size > 0, torch.ones_like(size)), a)
        close = (patches / length.where(length > 0, torch.ones_like(length))) @ a.T
        k = min(self.neighbours, len(patches))
        chosen = close.abs().topk(k, dim=0).indices.T  # (anchors, k)
        f, t = patches[chosen], targets[chosen]
        gram = f.mT @ f / k
        weight = self.ridge * gram.diagonal(dim1=-2, dim2=-1).mean(-1)
        # flat patches alone: nothing to be learned of them
        weight = weight.where(weight > 0, torch.ones_like(weight))
        eye = torch.eye(f.shape[-1]).to(f)
        self.directions = a
        self.maps = torch.linalg.solve(gram + weight[:, None, None] * eye, f.mT @ t / k).mT.contiguous()

    def predict(self, patches: Tensor) -> Tensor:
        k = (patches @ self.directions.to(patches).T).abs().argmax(1)
        return (self.maps.to(patches)[k] @ patches[..., None])[..., 0]

    @classmethod
    def examples(cls) -> list[AnchoredRegression]:
        """Few anchors."""
        return [cls(4, 30, images=2, samples=100, size=5)]
