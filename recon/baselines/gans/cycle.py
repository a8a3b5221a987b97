"""Two generators that undo each other, taught by two discriminators: translation without pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from priors.networks.dropout import dropping
from priors.networks.seeds import seeded

from ...data.sets import PairedData, SimulatedPairs, UnpairedData
from ...learned import TrainedFor
from ...losses import LOSSES
from ...training import Player, TrainingConfig
from .base import GAN, Criterion
from .config import GANConfig, Options, _nonnegative, _settled

Images = Mapping[str, Callable[[], Tensor | None]]


@dataclass(frozen=True)
class UnpairedConfig(GANConfig):
    """A `GANConfig` whose images have no partners: the discriminator sees images alone.

    losses : as there. What a loss would compare with the truth is compared with the input: there is no truth
    """

    conditional: bool = False
    pool: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__.removesuffix("Config")
        if self.conditional:
            raise ValueError(f"{name} conditional: images have no partners here; expected False, got True")
        if self.discriminator is None:
            raise ValueError(f"{name} discriminator: expected a network, got None")
        if self.stack != 1:
            raise ValueError(f"{name} stack: expected 1, both domains look alike to it; got {self.stack}")


@dataclass(frozen=True)
class CycleGANConfig(UnpairedConfig):
    """Zhu et al. 2017: residual generators, 70 × 70 patches, least squares, a pool of 50 past results.

    losses : of both directions; "cycle" is λ, "identity" ½ λ there. Others in use, by their names in
        `recon.losses.LOSSES`: "gradient-consistency" (Hiasa et al. 2018), "air" (Kida et al. 2020), "domain",
        "idempotence", "tv" and "self-regularisation" (Kaji's code), "shape" (Zhang et al. 2018, see
        `CycleGAN.segmentors`)
    back_losses : of the direction from images to x₀; None: the same
    matching : weight of the squared distance between the batch means of the discriminator's hidden layers
        (feature matching: Salimans et al. 2016, DiscoGAN)
    """

    generator: str = "ResNetGenerator"
    mode: str = "lsgan"
    mode_options: Options = field(default_factory=lambda: {"scale": 0.5})
    losses: tuple[Any, ...] = (("cycle", 10.0), ("identity", 5.0))
    back_losses: tuple[Any, ...] | None = None
    matching: float = 0.0
    steps: int = 200_000

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__.removesuffix("Config")
        object.__setattr__(self, "back_losses", _settled(self.back_losses))
        for loss in self.back_losses or ():
            if not isinstance(loss, tuple) or len(loss) not in (2, 3) or loss[0] not in LOSSES:
                raise ValueError(
                    f"{name} back_losses: expected (name, weight) or with options, of LOSSES, got {loss!r}"
                )
            _nonnegative(f"{name} back_losses, weight of {loss[0]}", loss[1])
        _nonnegative(f"{name} matching", self.matching)
        if self.pretrain:
            raise ValueError(f"{name} pretrain: nothing to learn alone by; expected 0, got {self.pretrain}")


class Unpaired(GAN):
    """What methods without pairs share."""

    data_kind = "unpaired"  # type: ignore[assignment]
    Config: ClassVar[type[TrainingConfig]] = UnpairedConfig

    def before_fit(self, data: PairedData | UnpairedData) -> None:
        """No training without an image on each side."""
        pairs = data.pairs if isinstance(data, UnpairedData) else data
        endless = isinstance(pairs, SimulatedPairs) and pairs.train_size is None
        if not endless and len(data.train[1]) < 1:
            raise ValueError(
                f"{type(self).__name__}.fit data: expected at least two training images, one for each side, "
                f"got {len(pairs.train[1])}"
            )


class CycleGAN(Unpaired):
    """x = G(x₀);  G makes true images of direct reconstructions, F the reverse, and F(G(a)) = a.

        D_B:  mode(D_B(b), D_B(G(a)))                      D_A likewise, with F(b)
        G:    mode(D_B(G(a))) + λ |F(G(a)) − a| + ½ λ |G(b) − b| + …
        F:    likewise, a and b exchanged

    Zhu, Park, Isola, Efros, ICCV 2017; a are x₀ = direct(A, y), b images of others. Nothing ties G(a) to the
    data: what is not in the images of the other side may vanish, what is in them may be invented (Cohen et
    al. 2018), and G may hide a in noise that only F sees (Chu et al. 2017). Some seeds fail altogether.

    segmentors : (S of x₀, S of images), modules (n, channels, *plane) -> logits (n, classes, *plane) of the
        networks' numbers, for the loss "shape": G(a) must segment by the second as a does by the first. Set
        them before `fit`; they are not trained here
    """

    Config: ClassVar[type[TrainingConfig]] = CycleGANConfig
    small: ClassVar[dict[str, Any]] = {
        "generator_options": {"base": 2, "blocks": 1, "downs": 1},
        "discriminator_options": {"base": 2, "layers": 1},
        "pool": 3,
    }
    segmentors: tuple[nn.Module, nn.Module] | None = None

    def build(self, scanner: TrainedFor) -> None:
        super().build(scanner)
        with seeded(self.config.seed + 1):
            self.back = self.make(*reversed(self.channels))

    def returned(self, u: Tensor) -> Tensor:
        """F of planes in `span`."""
        return self.back(u).to(u.dtype)

    def reverse(self, images: Tensor) -> Tensor:
        """F(b): images (*batch, *shape) as if they were direct reconstructions, in the unit of those."""
        if self.trained_for is None:
            raise ValueError(f"{type(self).__name__}.reverse: nothing learned yet: call fit(data) first")
        shape = self.trained_for.in_shape
        if tuple(images.shape[-len(shape) :]) != shape:
            raise ValueError(
                f"{type(self).__name__}.reverse images: (…, *{shape}) expected, got {tuple(images.shape)}"
            )
        x = images.reshape(-1, *shape) / self.trained_for.image_scale
        x = self.outward(self.returned(self.inward(x)), x, 0) * self.trained_for.image_scale
        return x.reshape(images.shape)

    def opposition(self) -> dict[str, nn.Module]:
        """A discriminator, its pool and its watch, for each direction."""
        return {way: nn.ModuleDict(super(CycleGAN, self).opposition()) for way in ("there", "back")}

    def players(self) -> Sequence[Player]:
        """Both discriminators, then both generators."""
        self.prepare()
        c, both = self.config, nn.ModuleList([self.network, self.back])
        judges = Player(
            "discriminators", self.opponent, self.d_loss, self.d_times, c.opponent, c.fresh, c.bound
        )
        return [judges, Player("generators", both, self.loss, self.g_times, fresh=c.fresh)]

    def prepare(self) -> None:
        super().prepare()
        c = self.config
        self.criteria = self._criteria(c.losses, 1)
        self.back_criteria = self._criteria(c.losses if c.back_losses is None else c.back_losses, 0)

    def _criteria(self, losses: Sequence[Any], side: int) -> list[Criterion]:
        """Those of a direction; "shape" gets the segmentor of the side that it leads to."""
        found = []
        for name, weight, *options in losses:
            given = dict(options[0]) if options else {}
            if name == "shape":
                given["segmentor"] = self._segmentor(side)
            if weight:
                found.append(self.criterion(name, weight, given))
        return found

    def d_loss(self, problem: Any, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """What the discriminators lower."""
        a, b = self.pair(problem, images, generator)
        with torch.no_grad(), dropping(self, generator):
            fakes = self.fakes(a, b, generator)
        terms = dict[str, Tensor]()
        for way, real, fake in (("there", b, fakes[0]), ("back", a, fakes[1])):
            found = self.against(self.opponent[way], real, fake, generator)  # type: ignore[arg-type]
            terms |= {f"{way} {name}": value for name, value in found.items()}
        return terms

    def fakes(self, a: Tensor, b: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """G(a) and F(b), to be shown to the discriminators."""
        return self.generated(a), self.returned(b)

    def loss(self, problem: Any, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """What the generators lower, in both directions."""
        a, b = self.pair(problem, images, generator)
        with dropping(self, generator):
            forth = self.one_way(a, b, self.generated, self.returned, "there", self.criteria)
            back = self.one_way(b, a, self.returned, self.generated, "back", self.back_criteria)
        return {f"there {k}": v for k, v in forth.items()} | {f"back {k}": v for k, v in back.items()}

    def one_way(
        self,
        a: Tensor,
        b: Tensor,
        G: Callable[[Tensor], Tensor],
        F: Callable[[Tensor], Tensor],
        way: str,
        criteria: list[Criterion],
    ) -> dict[str, Tensor]:
        """The losses of a → G(a) → F(G(a)), where b are images of the side that G leads to."""
        fake = G(a)
        images: dict[str, Callable[[], Tensor | None]] = {
            "F(G(a))": lambda: F(fake),
            "G(b)": lambda: G(b),
            "G(G(a))": lambda: G(fake),
            "labels of a": lambda: self._labels(a, way),
        }
        return self.deceiving(fake, b, way) | weighted(criteria, fake, a, b, images)

    def deceiving(self, fake: Tensor, real: Tensor, way: str) -> dict[str, Tensor]:
        """The adversarial term of one direction, and feature matching."""
        c, judge = self.config, self.opponent[way]["discriminator"]  # type: ignore[index]
        terms = dict[str, Tensor]()
        if c.adversarial:
            terms["adversarial"] = c.adversarial * self.mode.generator(self.verdict(judge, fake))
        if c.matching:
            layers = zip(judge.features(fake), judge.features(real), strict=True)
            apart = [(mine.mean(0) - theirs.mean(0)).square().mean() for mine, theirs in layers]
            terms["matching"] = c.matching * torch.stack(apart).sum()
        return terms

    @torch.no_grad()
    def _labels(self, a: Tensor, way: str) -> Tensor:
        logits = self._segmentor(0 if way == "there" else 1)(a)
        return logits.argmax(1) if logits.shape[1] > 1 else (logits > 0).long()

    def _segmentor(self, side: int) -> nn.Module:
        if self.segmentors is None:
            raise ValueError(
                f"{type(self).__name__} losses: 'shape' needs segmentors; set method.segmentors = "
                "(of direct reconstructions, of images) before fit"
            )
        segmentor = self.segmentors[side]
        return segmentor.to(self.windows.device, self.windows.dtype).eval().requires_grad_(False)


def weighted(
    criteria: Sequence[Criterion], fake: Tensor, a: Tensor, b: Tensor, more: Images
) -> dict[str, Tensor]:
    """weight · loss by name; what is compared with the truth of a pair is compared with a."""
    images: dict[str, Callable[[], Tensor | None]] = {k: cache(v) for k, v in more.items()}
    images |= {"G(a)": lambda: fake, "a": lambda: a, "b": lambda: b, "": lambda: None}
    terms = dict[str, Tensor]()
    for name, weight, loss in criteria:
        one, two = loss.compares
        two = "a" if (one, two) == ("G(a)", "b") else two
        if one not in images or two not in images:
            raise ValueError(
                f"losses: {name} compares {one} and {two}; there are {', '.join(filter(None, images))}"
            )
        key = name
        while key in terms:
            key += "'"
        terms[key] = weight * loss(images[one](), images[two]())
    return terms
