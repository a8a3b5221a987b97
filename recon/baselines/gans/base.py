"""A generator after a direct reconstruction, taught by a discriminator and by losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from operators.tensors import spread
from priors.networks.dropout import dropping
from priors.networks.seeds import seeded

from ...data.sets import PairedData, UnpairedData
from ...losses import LOSSES, Loss, adversarial_mode, gradient_penalty, mispaired
from ...losses.discriminated import DiscriminatorFeatures, FeatureMargin, LocalSlope, Sharpness
from ...losses.perceptual import FeatureLoss
from ...problem import Problem
from ...training import Player, TrainingConfig
from .config import GANConfig, network
from .pool import Pool, Watch
from .windows import Windowed

WON = 0.99
"""A discriminator that is right more often than this gives the generator nothing to follow."""

COLLAPSED = 0.01
"""Results that differ from each other by less than this part of what truths differ are all one image."""


class GAN(Windowed):
    """x = G(x₀), x₀ = direct(A, y): D learns to tell G(x₀) from truths, and G to deceive it and to be near.

        D:  mode(D(truth, x₀), D(G(x₀), x₀)) + penalty
        G:  adversarial · mode(D(G(x₀), x₀)) + Σ weight · loss(G(x₀), truth)

    Goodfellow et al., NeurIPS 2014; conditional: Mirza, Osindero 2014. Generator, discriminator, losses and
    schedule are those of the configuration; presets are configurations. Networks see images in `span`, which
    stands for the window; complex images are two channels, or magnitudes. After `fit` the record says
    whether D won or the results collapsed. What is saved is the generator; `opponent` of the last training
    stays in `retired`.
    """

    Config: ClassVar[type[TrainingConfig]] = GANConfig
    tier = "B"
    small: ClassVar[dict[str, Any]] = {
        "generator_options": {"base": 4, "depth": 2, "norm": "instance"},
        "discriminator_options": {"base": 4, "layers": 1},
    }
    """Changes that make an example of a preset."""
    opponent: nn.ModuleDict
    injected: Mapping[str, nn.Module] = MappingProxyType({})

    def make(self, inside: int, outside: int) -> nn.Module:
        c = self.config
        # its plane is not known here, and no generator is made for one shape
        return network("GAN generator", c.generator, c.generator_options, inside, outside, c.dim, ())

    def corrected(self, x: Tensor) -> Tensor:
        c, u = self.config, self.inward(x, 0)
        if not c.noise_at_test:
            return self.outward(self.generated(u), x)
        # the same draw for every image: what happens to one does not depend on its place in a batch
        with dropping(self.network, torch.Generator().manual_seed(c.seed), shared=True):
            return self.outward(self.generated(u), x)

    def generated(self, u: Tensor) -> Tensor:
        """G of planes in `span`."""
        return self.network(u).to(u.dtype)

    # training

    def inject(self, **networks: nn.Module) -> Self:
        """Learn with these frozen networks, of which nothing is saved.

        features : for perceptual losses, (n, 1 or 3, ny, nx) in [−1, 1] -> list of features
        sharpness : S of the loss "sharpness", (n, channels, *plane) -> map; else it is |∇x|²
        """
        unknown = set(networks) - {"features", "sharpness"}
        if unknown:
            raise ValueError(f"GAN.inject: expected features or sharpness, got {', '.join(sorted(unknown))}")
        self.injected = {**self.injected, **networks}
        return self

    def fit(self, data: PairedData | UnpairedData, **keywords: Any) -> Self:
        """Learn from `data`; see `recon.training.train` for the keywords."""
        try:
            return super().fit(data, **keywords)
        finally:
            self.__dict__["retired"] = self._modules.pop("opponent", None)

    def opposition(self) -> dict[str, nn.Module]:
        """What is there while training only: the discriminator, its pool, its watch."""
        c, shape = self.config, self.plane
        if c.discriminator is None:
            return {}
        inside, outside = self.channels
        sees = outside + (inside if c.conditional else 0)
        judge = network(
            "GAN discriminator", c.discriminator, c.discriminator_options, sees,
            sees if c.mode == "energy" else None, c.dim, shape,
        )  # fmt: skip
        try:
            with torch.no_grad():
                judge.eval()(torch.zeros(1, sees, *shape))
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"GAN discriminator: {c.discriminator} cannot judge pieces of {shape}: {error}; set a larger "
                "patch or fewer layers"
            ) from None
        margin = float(c.mode_options.get("margin", 1.0))
        return {
            "discriminator": judge.train(),
            "pool": Pool(c.pool, (sees, *shape)),
            "watch": Watch(c.mode, margin),
        }

    def players(self) -> Sequence[Player]:
        """The discriminator, then the generator; sets up what only training needs."""
        self.prepare()
        c, found = self.config, list[Player]()
        if c.discriminator is not None:
            judge = self.opponent["discriminator"]
            found.append(
                Player("discriminator", judge, self.d_loss, self.d_times, c.opponent, c.fresh, c.bound)
            )
        return [*found, Player("generator", self.network, self.loss, self.g_times, fresh=c.fresh)]

    def prepare(self) -> None:
        """Make the opponent and the losses, beside the generator."""
        like, c = self.windows, self.config
        with seeded(c.seed):
            self.opponent = nn.ModuleDict(self.opposition())
        self.opponent.to(like.device, like.dtype)
        jitter = {"jitter": c.label_jitter} if c.label_jitter else {}
        self.mode = adversarial_mode(c.mode, **{**jitter, **c.mode_options})
        # a list: what is not learned is no part of the weights
        self.criteria = [self.criterion(*loss) for loss in c.losses if loss[1]]
        self.pretrained_by = self.criterion(c.pretrain_loss, 1.0) if c.pretrain else None
        self.pretraining = False

    def criterion(self, name: str, weight: float, options: Mapping[str, Any] | None = None) -> Criterion:
        """A loss of the registry, on the device and in the precision of the weights."""
        cls, chosen = LOSSES[name], dict(options or {})
        if issubclass(cls, FeatureLoss):
            network = self.injected.get("features", self.config.features)
            named = isinstance(network, str)
            layers = {} if named else {"layers": None}  # a network that was given has its own
            chosen = {"network": network, "window": self.config.span, **chosen, **layers}
        if issubclass(cls, Sharpness):
            chosen = {"network": self.injected.get("sharpness") or LocalSlope(), **chosen}
        loss = cls(**chosen).to(self.windows.device, self.windows.dtype)
        for network in (getattr(loss, key) for key in loss.held):
            if isinstance(network, nn.Module):
                network.to(self.windows.device, self.windows.dtype).eval().requires_grad_(False)
        if isinstance(loss, DiscriminatorFeatures):
            if "discriminator" not in self.opponent:
                raise ValueError(f"GAN losses: {name} looks into a discriminator, and there is none")
            loss.discriminator = cast(Any, self.opponent["discriminator"])
        return name, weight, loss.eval().requires_grad_(False)

    def d_times(self, cycle: int) -> int:
        """Steps of the discriminator in this step of training."""
        return 0 if cycle < self.config.pretrain else self.config.d_steps

    def g_times(self, cycle: int) -> int:
        """Steps of the generator; told to `loss` is whether it still learns alone."""
        c = self.config
        self.pretraining = cycle < c.pretrain
        warming = c.pretrain <= cycle < c.pretrain + c.d_warmup
        return 0 if warming and c.discriminator is not None else c.g_steps

    def d_loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """What the discriminator lowers."""
        u, truth = self.pair(problem, images, generator)
        with torch.no_grad(), dropping(self.network, generator):
            fake = self.generated(u)
        terms = self.against(self.opponent, self.shown(truth, u), self.shown(fake, u), generator)
        return terms | self.extras(u, truth, fake, generator)

    def against(
        self, parts: nn.ModuleDict, real: Tensor, fake: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """A discriminator's loss on what is real and what is not, and the gradient penalty, by name.

        parts : "discriminator", its "pool" and its "watch"
        """
        c, judge = self.config, parts["discriminator"]
        fake = parts["pool"](fake, generator)
        yes, no = self.verdict(judge, real), self.verdict(judge, fake)
        parts["watch"].see(yes, no)  # type: ignore[operator]
        terms = {
            "real": self.mode.scale * self.mode.real(yes, generator).mean(),
            "fake": self.mode.scale * self.mode.fake(no, generator).mean(),
        }
        if c.penalty:
            steep = lambda x: self.verdict(judge, x)  # noqa: E731
            terms["penalty"] = gradient_penalty(steep, real, fake, generator, c.penalty)
        return terms

    def extras(self, u: Tensor, truth: Tensor, fake: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """What else the discriminator lowers: wrong pairs, and the margin of hidden distances."""
        c, judge, terms = self.config, self.opponent["discriminator"], dict[str, Tensor]()
        if c.mispair:
            wrong = self.verdict(judge, self.shown(mispaired(truth), u))
            terms["mispair"] = c.mispair * self.mode.scale * self.mode.fake(wrong, generator).mean()
        for name, weight, loss in self.criteria:
            if isinstance(loss, FeatureMargin):
                terms[name] = weight * loss.discriminated(fake, truth, u if c.conditional else None)
        return terms

    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """What the generator lowers."""
        u, truth = self.pair(problem, images, generator)
        with dropping(self.network, generator):
            fake = self.generated(u)
            return self.g_terms(u, truth, fake)

    def g_terms(self, u: Tensor, truth: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """The generator's losses by name, of what it made of u."""
        c = self.config
        if self.pretraining and self.pretrained_by:
            name, _, loss = self.pretrained_by
            return {f"pretraining {name}": loss(fake, truth)}
        terms = dict[str, Tensor]()
        if c.discriminator is not None and c.adversarial:
            scores = self.verdict(self.opponent["discriminator"], self.shown(fake, u))
            terms["adversarial"] = c.adversarial * self.mode.generator(scores)
        images = {"G(a)": lambda: fake, "a": lambda: u, "b": lambda: truth, "": lambda: None}
        images |= {"G(b)": lambda: self.generated(truth), "G(G(a))": lambda: self.generated(fake)}
        return terms | self.lowered(images, u)

    def lowered(
        self, images: Mapping[str, Callable[[], Tensor | None]], condition: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The weighted losses of the configuration, by name; each takes the two images that it compares.

        condition : of the discriminator, for those that look into it
        """
        terms = dict[str, Tensor]()
        for name, weight, loss in self.criteria:
            one, two = loss.compares
            if one not in images or two not in images:
                raise ValueError(
                    f"GAN losses: {name} compares {one} and {two}; here are {', '.join(filter(None, images))}"
                )
            key = name
            while key in terms:
                key += "'"
            looks = isinstance(loss, DiscriminatorFeatures) and self.config.conditional
            terms[key] = weight * loss(
                images[one](),
                images[two](),
                **({"condition": condition} if looks and condition is not None else {}),
            )
        return terms

    def pair(self, problem: Problem, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """x₀ and truth, or pieces of them, as planes in `span`."""
        with torch.no_grad():
            y, scale = self.inside(problem)
            truth = images / spread(scale, len(problem.A.in_shape))
            x = self.first(problem.A, y)
            truth = truth.to(x.dtype) if x.is_complex() else truth
            x, truth = self.pieces(x, truth, generator)
            return self.inward(x, 0), self.inward(truth)

    def shown(self, x: Tensor, condition: Tensor) -> Tensor:
        """What the discriminator sees."""
        return torch.cat([x, condition], 1) if self.config.conditional else x

    def verdict(self, judge: nn.Module, x: Tensor) -> Tensor:
        """Scores (n, 1, …); with mode "energy" the judge is an autoencoder, and they are what it misses."""
        scores = judge(x).to(x.dtype)
        if self.config.mode == "energy":
            return (scores - x).square().flatten(1).mean(1, keepdim=True)
        return scores

    def after_fit(self, data: PairedData | UnpairedData) -> None:
        """Put on record the window, and what went wrong."""
        super().after_fit(data)
        assert self.trained_for is not None
        problem, truth = data.validation
        windows = (self.windows * self.trained_for.image_scale).tolist()
        low, high = windows[1]
        values = self.seen(truth)
        self.record["window of x₀"], self.record["window"] = windows
        # truths of images without partners are NaN
        known = values[torch.isfinite(values)]
        self.record["truths outside the window"] = (
            float(((known < low) | (known > high)).float().mean()) if known.numel() else None
        )
        seen = {str(getattr(x.network, "name", type(x.network).__name__)) for x in self._feature_losses()}
        if seen:
            self.record["features"] = ", ".join(sorted(seen))
        warnings = []
        for name, watch in _watches(self.opponent):
            accuracy = watch.accuracy
            self.record[f"accuracy of {name}"] = accuracy
            if accuracy is not None and accuracy > WON and self.config.mode != "wgan":
                warnings.append(
                    f"the {name} won: right in {100 * accuracy:.1f} % of its last verdicts, so that its "
                    "gradient tells the generator nothing; set a lower d_learning_rate or more g_steps"
                )
        if len(truth) > 1:
            mine, theirs = (float(self.seen(x).std(0).mean()) for x in (self(problem), truth))
            if mine < COLLAPSED * theirs:
                warnings.append(
                    f"collapsed: the results for the validation data differ by {mine / theirs:.4f} of what "
                    "their truths do; try another seed, or other weights of the losses"
                )
        if warnings:
            self.record["warning"] = "; ".join(warnings)

    def _feature_losses(self) -> list[FeatureLoss]:
        return [loss for _, _, loss in self.criteria if isinstance(loss, FeatureLoss)]

    @classmethod
    def examples(cls) -> list[Any]:
        return [cls(**cls.small, steps=2, batch_size=2)]


Criterion = tuple[str, float, Loss]


def _watches(opponent: nn.Module) -> list[tuple[str, Watch]]:
    """The watches in it, each with the name of the discriminator that it watches."""
    found = [(k, m) for k, m in opponent.named_modules() if isinstance(m, Watch)]
    return [(f"discriminator {k.split('.')[0]}" if "." in k else "discriminator", m) for k, m in found]
