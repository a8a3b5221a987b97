"""Distances pixel by pixel, and the roles they play in translation."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from .base import Example, Loss, Reduction, pair, per_image


class Lp(Loss):
    """mean |x − truth|^p.

    p : ≥ 1; large errors count the more, the larger it is
    pool : side of the squares averaged before they are compared [pixels]; 1: none (Kaji's option for L1, L2)
    """

    name = "lp"
    takes_mask = True

    def __init__(self, p: float = 1.5, pool: int = 1, reduction: Reduction = "mean"):
        super().__init__(reduction)
        if not 1 <= p < math.inf:
            raise ValueError(f"{type(self).__name__} p: expected at least 1, got {p!r}")
        if not isinstance(pool, int) or pool < 1:
            raise ValueError(f"{type(self).__name__} pool: expected a whole number ≥ 1, got {pool!r}")
        self.p, self.pool = float(p), pool

    def check(self, x: Tensor, truth: Any, mask: Tensor | None) -> None:
        super().check(x, truth, mask)
        who = type(self).__name__
        if self.pool > 1 and mask is not None:
            raise ValueError(f"{who} mask: not together with pool, whose squares are in it and out of it")
        if self.pool > 1 and (x.ndim not in (3, 4, 5) or min(x.shape[2:]) < self.pool):
            raise ValueError(f"{who} pool: {self.pool} does not fit into an image {tuple(x.shape)}")

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        return per_image(powered(_pooled(x - truth, self.pool), self.p), mask)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(cls(), *pair(3, 1, 5, 4)),
            Example(cls(p=3.0, pool=2), *pair(2, 2, 4, 5, 3)),
        ]


class L1(Lp):
    """mean |x − truth|."""

    name = "l1"

    def __init__(self, pool: int = 1, reduction: Reduction = "mean"):
        super().__init__(1.0, pool, reduction)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(cls(), *pair(3, 1, 5, 4)), Example(cls(pool=2), *pair(2, 1, 5, 4))]


class L2(Lp):
    """mean (x − truth)²."""

    name = "l2"

    def __init__(self, pool: int = 1, reduction: Reduction = "mean"):
        super().__init__(2.0, pool, reduction)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(cls(), *pair(3, 1, 5, 4)), Example(cls(pool=2), *pair(2, 1, 5, 4))]


class Huber(Loss):
    """mean h(x − truth),  h(d) = d²/2 for |d| ≤ δ, δ(|d| − δ/2) above. Huber, Ann. Math. Stat. 35 (1964).

    delta : δ > 0, where growth becomes linear [unit of x]
    """

    name = "huber"
    takes_mask = True

    def __init__(self, delta: float = 0.1, reduction: Reduction = "mean"):
        super().__init__(reduction)
        if not 0 < delta < math.inf:
            raise ValueError(f"Huber delta: expected a positive number, got {delta!r}")
        self.delta = delta

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        return per_image(functional.huber_loss(x, truth, reduction="none", delta=self.delta), mask)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(cls(), *pair(3, 1, 5, 4)), Example(cls(delta=0.5), *pair(2, 2, 3, 4, 2))]


class NMSE(Loss):
    """‖x − truth‖² / ‖truth‖², or its root, as the pixel term of DAGAN (Yang et al., TMI 37, 2018, and code).

    root : take the root; its gradient at x = truth counts as 0
    """

    name = "nmse"
    takes_mask = True

    def __init__(self, root: bool = False, reduction: Reduction = "mean"):
        super().__init__(reduction)
        self.root = root

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        error, energy = per_image((x - truth).square(), mask), per_image(truth.square(), mask)
        if not bool((energy > 0).all()):
            raise ValueError("NMSE truth: zero everywhere (in the mask); there is nothing to divide by")
        ratio = error / energy
        return safe_root(ratio) if self.root else ratio

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(cls(), *pair(3, 1, 5, 4)), Example(cls(root=True), *pair(2, 2, 3, 4, 2))]


class _Comparison(Lp):
    """A pixel loss whose name says what is compared; p is 1 or what the caller gives."""

    def __init__(self, p: float = 1.0, pool: int = 1, reduction: Reduction = "mean"):
        super().__init__(p, pool, reduction)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(cls(), *pair(3, 1, 5, 4)), Example(cls(p=2), *pair(2, 1, 3, 4))]


class Cycle(_Comparison):
    """mean |F(G(a)) − a|^p: there and back. Zhu et al., ICCV 2017, p = 1; DiscoGAN (Kim et al. 2017) p = 2.

    One object, with its own p and weight, for each direction.
    """

    name = "cycle"
    compares = ("F(G(a))", "a")


class Identity(_Comparison):
    """mean |G(b) − b|^p: what is already in the target domain stays. Zhu et al. 2017; Kang et al. 2019."""

    name = "identity"
    compares = ("G(b)", "b")


class Domain(_Comparison):
    """mean |G(b) − b|^p, by the name it has in Kaji's UnpairedImageTranslation (weight 0.1 there)."""

    name = "domain"
    compares = ("G(b)", "b")


class SelfRegularisation(_Comparison):
    """mean |G(a) − a|^p: the output stays near the input. SimGAN, Shrivastava et al., CVPR 2017."""

    name = "self-regularisation"
    compares = ("G(a)", "a")


class Idempotence(_Comparison):
    """mean |G(G(a)) − G(a)|^p: twice is once. Kaji's UnpairedImageTranslation."""

    name = "idempotence"
    compares = ("G(G(a))", "G(a)")


class Air(Loss):
    """mean |x − truth| where exactly one of the two is air, 0 elsewhere, over all pixels.

        mean 1[(x < τ) ≠ (truth < τ)] · |x − truth|

    Kaji's UnpairedImageTranslation, Kida et al., Med. Phys. 47 (2020). The masks are not differentiated.

    threshold : τ, in the unit of the images; −0.997 there, on a window to [−1, 1]
    """

    name = "air"
    compares: ClassVar[tuple[str, str]] = ("G(a)", "a")
    takes_mask = True

    def __init__(self, threshold: float = -0.997, reduction: Reduction = "mean"):
        super().__init__(reduction)
        self.threshold = threshold

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        differ = (x < self.threshold) ^ (truth < self.threshold)
        return per_image(differ * (x - truth).abs(), mask)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(cls(threshold=0.0), *pair(3, 1, 5, 4)), Example(cls(-0.2), *pair(2, 1, 3, 4, 2))]


class LatentL2(Loss):
    """mean z²: codes stay near 0. Kaji's latent loss; UNIT's code, which calls it KL."""

    name = "latent-l2"
    compares = ("z", "")
    needs_truth = False

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        return per_image(x.square())

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(cls(), pair(3, 4, 2, 2)[0], None, None), Example(cls(), pair(3, 7)[0], None, None)]


class LatentKL(Loss):
    """mean ½(μ² + σ² − 1 − log σ²), per dimension: KL of N(μ, σ²) from N(0, 1). Kingma & Welling, ICLR 2014.

    Called with (μ, log σ²); without log σ² the posterior is N(μ, 1), as in UNIT, and the value ½ mean μ².
    """

    name = "latent-kl"
    compares = ("μ", "log σ²")
    needs_truth = False

    def check(self, x: Tensor, truth: Any, mask: Tensor | None) -> None:
        super().check(x, truth, mask)
        if truth is not None:
            self.check_truth(x, truth)

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        spread = 0.0 if truth is None else truth.exp() - 1 - truth
        return per_image(0.5 * (x.square() + spread))

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(cls(), *pair(3, 4, 2, 2), None), Example(cls(), pair(3, 7)[0], None, None)]


def powered(difference: Tensor, p: float) -> Tensor:
    """|d|^p."""
    return difference.abs() if p == 1 else difference.square() if p == 2 else difference.abs().pow(p)


def safe_root(x: Tensor) -> Tensor:
    """√x with gradient 0 where x = 0."""
    some = x > 0
    return some * (x * some + ~some).sqrt()


def _pooled(x: Tensor, size: int) -> Tensor:
    if size == 1:
        return x
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[x.ndim - 3]
    return pool(x, size)
