"""Two players: what a discriminator's scores are worth to it and to a generator, and gradient penalties."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from .base import Example, Loss, Reduction, pair, real_images


class AdversarialMode(nn.Module):
    """generator(scores_fake), discriminator(scores_real, scores_fake): scalars, both to be lowered.

    Scores are what D says, logits (n, 1, …), never after a sigmoid. Every score of a map counts alike: the
    value of an image is the mean over its map.

    scale : factor of the discriminator's loss; ½ in pix2pix and CycleGAN
    """

    name: ClassVar[str]

    def __init__(self, scale: float = 1.0):
        super().__init__()
        if not 0 < scale < math.inf:
            raise ValueError(f"{type(self).__name__} scale: expected a positive number, got {scale!r}")
        self.scale = scale

    def generator(self, scores_fake: Tensor) -> Tensor:
        """What the generator lowers."""
        _scores(self, scores_fake)
        return self.fooled(scores_fake).mean()

    def discriminator(
        self, scores_real: Tensor, scores_fake: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """What the discriminator lowers; `generator` draws where something is random."""
        _scores(self, scores_real, scores_fake)
        return self.scale * (
            self.real(scores_real, generator).mean() + self.fake(scores_fake, generator).mean()
        )

    @abstractmethod
    def fooled(self, scores: Tensor) -> Tensor:
        """The generator's loss, one value a score."""

    @abstractmethod
    def real(self, scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The discriminator's loss on what is real, one value a score."""

    @abstractmethod
    def fake(self, scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The discriminator's loss on what is not, one value a score."""


class GAN(AdversarialMode):
    """D: −log σ(D(real)) − log(1 − σ(D(fake))),  G: −log σ(D(fake)). Goodfellow et al., NeurIPS 2014.

    saturating : G lowers log(1 − σ(D(fake))), the min–max game itself, whose gradient dies where D wins
    label : of what is real for D; below 1 it is smoothed
    """

    name = "gan"

    def __init__(self, scale: float = 1.0, saturating: bool = False, label: float = 1.0):
        super().__init__(scale)
        if not 0 < label <= 1:
            raise ValueError(f"GAN label: expected a number in (0, 1], got {label!r}")
        self.saturating, self.label = saturating, label

    def fooled(self, scores: Tensor) -> Tensor:
        return -softplus(scores) if self.saturating else softplus(-scores)

    def real(self, scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.label * softplus(-scores) + (1 - self.label) * softplus(scores)

    def fake(self, scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return softplus(scores)


class LSGAN(AdversarialMode):
    """D: (D(real) − 1 − σξ)² + (D(fake) − σξ')²,  G: (D(fake) − 1)². Mao et al., ICCV 2017.

    jitter : σ of the labels' noise, ξ ~ N(0, 1) for every score; 0.2 in Kaji's codes
    """

    name = "lsgan"

    def __init__(self, scale: float = 1.0, jitter: float = 0.0):
        super().__init__(scale)
        if not 0 <= jitter < math.inf:
            raise ValueError(f"LSGAN jitter: expected a number ≥ 0, got {jitter!r}")
        self.jitter = jitter

    def fooled(self, scores: Tensor) -> Tensor:
        return (scores - 1).square()

    def real(self, scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return (scores - 1 - self._noise(scores, generator)).square()

    def fake(self, scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return (scores - self._noise(scores, generator)).square()

    def _noise(self, scores: Tensor, generator: torch.Generator | None) -> Tensor | float:
        if not self.jitter:
            return 0.0
        if generator is None:
            raise ValueError(
                "LSGAN jitter: give discriminator(…, generator=torch.Generator().manual_seed(…))"
            )
        drawn = torch.randn(scores.shape, generator=generator, device=generator.device)
        return self.jitter * drawn.to(scores)


class WGAN(AdversarialMode):
    """D: D(fake) − D(real) + drift·D(real)²,  G: −D(fake). Arjovsky, Chintala, Bottou, ICML 2017.

    D must be Lipschitz: add `gradient_penalty`, or keep its weights small after its every step, by
    `clip_weights(D, c)` or `recon.train_players.Player.bound`.

    drift : of the critic's values towards 0; 1e-3 in progressive growing (Karras et al. 2018)
    """

    name = "wgan"

    def __init__(self, scale: float = 1.0, drift: float = 0.0):
        super().__init__(scale)
        if not 0 <= drift < math.inf:
            raise ValueError(f"WGAN drift: expected a number ≥ 0, got {drift!r}")
        self.drift = drift

    def fooled(self, scores: Tensor) -> Tensor:
        return -scores

    def real(self, scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.drift * scores.square() - scores

    def fake(self, scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return scores


class Hinge(AdversarialMode):
    """D: [1 − D(real)]₊ + [1 + D(fake)]₊,  G: −D(fake). Lim & Ye 2017; Miyato et al., ICLR 2018."""

    name = "hinge"

    def fooled(self, scores: Tensor) -> Tensor:
        return -scores

    def real(self, scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return relu(1 - scores)

    def fake(self, scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return relu(1 + scores)


class Energy(AdversarialMode):
    """D: E(real) + [m − E(fake)]₊,  G: E(fake). Zhao, Mathieu, LeCun, ICLR 2017.

    Scores are energies ≥ 0, low for what is real: the only mode in which they fall where others rise. An
    auto-encoder gives E(x) = mean (AE(x) − x)² per image.

    margin : m > 0, above which a fake is left alone
    """

    name = "energy"

    def __init__(self, scale: float = 1.0, margin: float = 1.0):
        super().__init__(scale)
        if not 0 < margin < math.inf:
            raise ValueError(f"Energy margin: expected a positive number, got {margin!r}")
        self.margin = margin

    def fooled(self, scores: Tensor) -> Tensor:
        return scores

    def real(self, scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return scores

    def fake(self, scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return relu(self.margin - scores)


ADVERSARIAL: dict[str, type[AdversarialMode]] = {
    mode.name: mode for mode in (GAN, LSGAN, WGAN, Hinge, Energy)
}


def adversarial_mode(mode: str, **options: Any) -> AdversarialMode:
    """The mode of this name: "gan", "lsgan", "wgan", "hinge" or "energy"."""
    if mode not in ADVERSARIAL:
        raise ValueError(f"adversarial_mode mode: expected one of {', '.join(ADVERSARIAL)}, got {mode!r}")
    return ADVERSARIAL[mode](**options)


class Mispair(Loss):
    """What D pays for a real pair that does not belong together: the mode's loss on a fake, mean over scores.

    Kaji's PairedImageTranslation; Reed et al., ICML 2016. x are D's scores of (a, b'), b' the truth of
    another image of the batch: `mispaired(b)`. For the discriminator's step.

    mode : of `ADVERSARIAL`
    """

    name = "mispair"
    compares = ("D(a, b')", "")
    needs_truth = False

    def __init__(self, mode: str = "lsgan", reduction: Reduction = "mean", **options: Any):
        super().__init__(reduction)
        self.mode = adversarial_mode(mode, **options)

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        return self.mode.scale * self.mode.fake(x).flatten(1).mean(1)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(cls(mode), pair(3, 1, 2, 4)[0], None, None) for mode in ADVERSARIAL]


def mispaired(images: Tensor) -> Tensor:
    """Every image replaced by its neighbour in the batch, so that none stays; at least two are needed."""
    if len(images) < 2:
        raise ValueError("mispaired: expected a batch of at least two images, got one; raise batch_size")
    return images.roll(1, 0)


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    generator: torch.Generator,
    weight: float = 10.0,
    *,
    one_sided: bool = False,
    target: float = 1.0,
    at: Literal["mix", "real", "fake"] = "mix",
    condition: Tensor | None = None,
) -> Tensor:
    """weight · mean (‖∇D(x̂)‖₂ − target)²,  x̂ = ε·real + (1 − ε)·fake, one ε ~ U(0, 1) for every sample.

    Gulrajani et al., NeurIPS 2017. The norm is over all values of a sample, not over its channels only. D of
    a sample is the mean over its map, as in the losses. D must not mix the samples of a batch (no batch
    normalisation), else its gradient by one of them has no meaning.

    critic : D
    real, fake : (n, channels, *spatial); detached here
    generator : draws ε
    one_sided : only slopes above the target count, [‖∇D‖ − target]₊² (Petzka et al., ICLR 2018)
    target : slope; 0 with at="real" is R1 without its ½ (Mescheder et al., ICML 2018)
    at : where the slope is taken
    condition : what D sees beside the image, as further channels; not differentiated
    """
    if real.shape != fake.shape:
        raise ValueError(
            f"gradient_penalty: expected real and fake of equal shape, got {tuple(real.shape)} and "
            f"{tuple(fake.shape)}"
        )
    if at not in ("mix", "real", "fake"):
        raise ValueError(f"gradient_penalty at: expected 'mix', 'real' or 'fake', got {at!r}")
    real, fake = real.detach(), fake.detach()
    mixed = {"real": real, "fake": fake}.get(at)
    if mixed is None:
        epsilon = torch.rand(len(real), *[1] * (real.ndim - 1), generator=generator, device=generator.device)
        epsilon = epsilon.to(real)
        mixed = epsilon * real + (1 - epsilon) * fake
    # also where the caller has turned gradients off, as in a validation
    with torch.enable_grad():
        mixed = mixed.clone().requires_grad_(True)
        scores = critic(mixed if condition is None else torch.cat([mixed, condition.detach()], 1))
        values = scores.reshape(len(mixed), -1).mean(1).sum()
        (slope,) = torch.autograd.grad(values, mixed, create_graph=True)
        squares = slope.flatten(1).square().sum(1)
        # a root has no gradient at 0
        length = squares if target == 0 else (squares + torch.finfo(squares.dtype).tiny).sqrt()
        excess = length if target == 0 else (length - target).square()
        if one_sided and target > 0:
            excess = relu(length - target).square()
        return weight * excess.mean()


@torch.no_grad()
def clip_weights(critic: nn.Module | Iterable[Tensor], bound: float = 0.01) -> None:
    """Every weight into [−bound, bound], in place; the WGAN paper's 0.01, SegAN's 0.05."""
    if not 0 < bound < math.inf:
        raise ValueError(f"clip_weights bound: expected a positive number, got {bound!r}")
    for weight in critic.parameters() if isinstance(critic, nn.Module) else critic:
        weight.clamp_(-bound, bound)


def _scores(mode: AdversarialMode, *scores: Tensor) -> None:
    for values in scores:
        real_images(f"{type(mode).__name__} scores", values)
