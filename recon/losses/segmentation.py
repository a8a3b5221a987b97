"""Losses of label maps: Dice, cross entropy, focal, and shape consistency through a segmentor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid, one_hot

from .base import Example, Loss, Reduction, pair, per_image


class _Labels(Loss):
    """x: logits (n, classes, *spatial), of one class against all else where there is one channel.

    truth: classes as integers (n, *spatial) or (n, 1, *spatial), or shares of classes like x (one-hot).
    class_weight : one per class, None for equal ones
    """

    compares: ClassVar[tuple[str, str]] = ("logits", "labels")

    def __init__(self, class_weight: Sequence[float] | None = None, reduction: Reduction = "mean"):
        super().__init__(reduction)
        if class_weight is not None and (not any(class_weight) or min(class_weight) < 0):
            raise ValueError(
                f"{type(self).__name__} class_weight: expected numbers ≥ 0, not all 0, got "
                f"{list(class_weight)}"
            )
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float64)
        self.register_buffer("class_weight", weight, persistent=False)

    class_weight: Tensor | None

    def check(self, x: Tensor, truth: Any, mask: Tensor | None) -> None:
        super().check(x, truth, mask)
        if mask is not None and mask.ndim == x.ndim and mask.shape[1] != 1:
            raise ValueError(
                f"{type(self).__name__} mask: expected (n, 1, *spatial), one for all classes, got "
                f"{tuple(mask.shape)}"
            )

    def check_truth(self, x: Tensor, truth: Any) -> None:
        who = type(self).__name__
        if not isinstance(truth, Tensor):
            raise ValueError(f"{who} truth: expected labels as a torch.Tensor, got {type(truth).__name__}")
        n, classes, *spatial = x.shape
        if truth.is_floating_point():
            if truth.shape != x.shape:
                raise ValueError(
                    f"{who} truth: expected shares of classes {tuple(x.shape)}, got {tuple(truth.shape)}"
                )
        elif tuple(truth.shape) not in ((n, *spatial), (n, 1, *spatial)):
            raise ValueError(f"{who} truth: expected labels {(n, *spatial)}, got {tuple(truth.shape)}")
        elif int(truth.min()) < 0 or int(truth.max()) >= max(classes, 2):
            raise ValueError(
                f"{who} truth: expected labels from 0 to {max(classes, 2) - 1}, got {int(truth.min())} to "
                f"{int(truth.max())}"
            )
        if self.class_weight is not None and len(self.class_weight) != max(classes, 2):
            raise ValueError(f"{who} class_weight: expected {max(classes, 2)}, got {len(self.class_weight)}")

    def shares(self, x: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """log p and shares, both (n, classes ≥ 2, *spatial)."""
        if not truth.is_floating_point():
            labels = truth.reshape(len(x), *x.shape[2:]).long()
            shares = one_hot(labels, max(x.shape[1], 2)).movedim(-1, 1).to(x)
        else:
            shares = torch.cat([1 - truth, truth], 1) if x.shape[1] == 1 else truth
        if x.shape[1] == 1:
            return torch.cat([logsigmoid(-x), logsigmoid(x)], 1), shares
        return log_softmax(x, 1), shares

    def weights(self, like: Tensor) -> Tensor:
        """Of the classes, to multiply (n, classes, *spatial)."""
        classes, axes = like.shape[1], like.ndim - 2
        given = self.class_weight
        weight = like.new_ones(classes) if given is None else given.to(like)
        return weight.reshape(-1, *[1] * axes)


class CrossEntropy(_Labels):
    """−Σ w_c t_c log p_c / Σ w_c t_c, both sums over classes and pixels; p = softmax(x)."""

    name = "cross-entropy"
    takes_mask = True
    gamma = 0.0

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        log_p, shares = self.shares(x, truth)
        weighted = self.weights(log_p) * shares
        value = -log_p if not self.gamma else -log_p * (1 - log_p.exp()).clamp(min=0) ** self.gamma
        total = per_image(weighted.sum(1, keepdim=True), mask)
        value = per_image((weighted * value).sum(1, keepdim=True), mask)
        # an image of classes without weight says nothing
        return torch.where(total > 0, value / torch.where(total > 0, total, 1.0), 0.0)

    @classmethod
    def examples(cls) -> list[Example]:
        return _examples(cls)


class Focal(CrossEntropy):
    """−Σ w_c t_c (1 − p_c)^γ log p_c / Σ w_c t_c: what is easy counts less. Lin et al., ICCV 2017.

    gamma : γ ≥ 0; 0 is cross entropy
    """

    name = "focal"

    def __init__(
        self,
        gamma: float = 2.0,
        class_weight: Sequence[float] | None = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(class_weight, reduction)
        if not 0 <= gamma < math.inf:
            raise ValueError(f"Focal gamma: expected a number ≥ 0, got {gamma!r}")
        self.gamma = gamma


class Dice(_Labels):
    """1 − Σ_c w_c (2 Σ p_c t_c + ε) / (Σ p_c^q + Σ t_c^q + ε) / Σ w_c, p = softmax(x).

    The inner sums are over pixels. A class of which neither has any counts 1, a perfect one, by ε. q = 1;
    Milletari et al., 3DV 2016: q = 2.

    background : count class 0, too
    squared : q = 2
    epsilon : ε > 0 [pixels]
    probabilities : x holds p itself, not logits
    """

    name = "dice"
    takes_mask = True

    def __init__(
        self,
        background: bool = True,
        squared: bool = False,
        epsilon: float = 1e-5,
        probabilities: bool = False,
        class_weight: Sequence[float] | None = None,
        reduction: Reduction = "mean",
    ):
        super().__init__(class_weight, reduction)
        if not 0 < epsilon < math.inf:
            raise ValueError(f"Dice epsilon: expected a positive number, got {epsilon!r}")
        self.background, self.squared, self.epsilon = background, squared, epsilon
        self.probabilities = probabilities

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        log_p, t = self.shares(x, truth)
        p = torch.cat([1 - x, x], 1) if x.shape[1] == 1 else x
        p = p if self.probabilities else log_p.exp()
        m = torch.ones_like(p[:, :1]) if mask is None else mask.to(p).expand(len(p), 1, *p.shape[2:])
        pixels = tuple(range(2, p.ndim))
        power = 2 if self.squared else 1
        both, size = (m * p * t).sum(pixels), (m * (p**power + t**power)).sum(pixels)
        overlap = (2 * both + self.epsilon) / (size + self.epsilon)
        weight = self.weights(overlap)
        if not self.background:
            weight = weight * (torch.arange(overlap.shape[1], device=x.device) > 0)
        return 1 - (weight * overlap).sum(1) / weight.sum()

    @classmethod
    def examples(cls) -> list[Example]:
        volume = Example(cls(background=False, squared=True), *_labelled((2, 3, 4, 3, 2)), None)
        return [*_examples(cls), volume]


class Shape(Loss):
    """CE(S(G(a)), labels of a): a translated image must segment as its source. Zhang, Yang, Zheng, CVPR 2018.

    S is not part of the loss: its weights are neither trained nor saved with it, but gradients pass through.

    segmentor : S, images -> logits (n, classes, *spatial); given later, `loss.segmentor = S`, where it is
        trained alongside
    loss : on label maps
    """

    name = "shape"
    compares = ("G(a)", "labels of a")
    takes_mask = True
    held = ("segmentor",)
    segmentor: nn.Module | None

    def __init__(
        self,
        segmentor: nn.Module | None = None,
        loss: Literal["cross-entropy", "focal", "dice"] = "cross-entropy",
        reduction: Reduction = "mean",
    ):
        super().__init__(reduction)
        kinds = {"cross-entropy": CrossEntropy, "focal": Focal, "dice": Dice}
        if loss not in kinds:
            raise ValueError(f"Shape loss: expected one of {', '.join(kinds)}, got {loss!r}")
        self.loss: Loss = kinds[loss](reduction="none")
        self.segmentor = segmentor

    def check_truth(self, x: Tensor, truth: Any) -> None:
        if self.segmentor is None:
            raise ValueError("Shape: no segmentor yet; give Shape(segmentor) or set loss.segmentor")

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        assert self.segmentor is not None
        return self.loss(self.segmentor(x), truth, mask)

    @classmethod
    def examples(cls) -> list[Example]:
        x, labels = pair(3, 1, 4, 5)[0], _labelled((3, 3, 4, 5))[1]
        return [Example(cls(_Steps(), kind), x, labels, None) for kind in ("cross-entropy", "dice")]


class _Steps(nn.Module):
    """A segmentor by thresholds, for the examples."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([-3 * x, 1 - x.square(), 3 * x], 1)


def _labelled(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    n, classes, *spatial = shape
    labels = torch.randint(max(classes, 2), (n, *spatial), generator=generator)
    return torch.randn(shape, generator=generator, dtype=torch.float64), labels


def _examples(cls: Any) -> list[Example]:
    x, labels = _labelled((3, 3, 4, 5))
    binary, truth = _labelled((2, 1, 4, 3))
    weighted = cls(class_weight=[0.2, 1.0, 3.0])
    shares = one_hot(labels, 3).movedim(-1, 1).double()
    return [
        Example(cls(), x, labels[:, None], None),
        Example(weighted, x, shares, None),
        Example(cls(), binary, truth, None),
    ]
