"""What an adversarial method is made of: generator × discriminator × weighted losses × schedule."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import nn

import priors.networks

from ...losses import ADVERSARIAL, LOSSES
from ...training import TrainingConfig, within
from ..postprocess import PostProcessingConfig

Options = Mapping[str, Any]


@dataclass(frozen=True)
class GANConfig(PostProcessingConfig):
    """The parts of an adversarial method, by name, and how the two players take turns.

    generator, generator_options : a class of `priors.networks`, and its settings other than the channels
    discriminator, discriminator_options : likewise; None: nobody judges, the losses alone are lowered
    conditional : the discriminator sees the image the generator was given, too, as further channels
    mode, mode_options : of `recon.losses.ADVERSARIAL`, "gan", "lsgan", "wgan", "hinge", "energy"
    adversarial : weight of the generator's adversarial term
    losses : (name, weight) or (name, weight, options) of `recon.losses.LOSSES`, of the generator; those that
        look into a discriminator look into this one, and its margin ("feature-margin") is its loss, too
    features : the network in which perceptual losses compare, see
        `recon.losses.features.feature_network`; one of your own: `GAN.inject`
    penalty : weight of the gradient penalty (WGAN-GP)
    bound : the discriminator's weights are kept in [−bound, bound] (WGAN); None: they are not
    mispair : weight of real pairs that do not belong together, as fakes
    label_jitter : standard deviation of noise on the labels of "lsgan"
    pool : past results kept, half of which the discriminator is shown (Shrivastava et al. 2017); 0: none
    d_steps, g_steps : of the discriminator, then of the generator, in a step of training
    fresh : every one of them draws its own batch
    d_warmup : first steps of training in which the discriminator learns alone
    pretrain, pretrain_loss : first steps in which the generator learns alone, by this loss
    d_learning_rate : of the discriminator; None: that of the generator
    span : range of images that the networks see: a tanh gives (−1, 1), HU as [0, 1] is (0, 1)
    window : image values [their unit] that `span` stands for; None: the range of the training images and a
        tenth of it more on both sides, from 0 where they begin there. Values beyond are not cut off before
        the network; what share of the truths it cannot give is on the record
    complex : "channels", real and imaginary part side by side; or "magnitude": a network of magnitudes, whose
        results keep the phase of x₀
    noise_at_test : leave out what dropout leaves out, drawn from `seed`, when reconstructing, too (pix2pix)
    """

    generator: str = "UNetGenerator"
    generator_options: Options = field(default_factory=dict)
    discriminator: str | None = "PatchDiscriminator"
    discriminator_options: Options = field(default_factory=dict)
    conditional: bool = True
    mode: str = "gan"
    mode_options: Options = field(default_factory=dict)
    adversarial: float = 1.0
    losses: tuple[Any, ...] = ()
    features: str = "auto"
    penalty: float = 0.0
    bound: float | None = None
    mispair: float = 0.0
    label_jitter: float = 0.0
    pool: int = 0
    d_steps: int = 1
    g_steps: int = 1
    fresh: bool = False
    d_warmup: int = 0
    pretrain: int = 0
    pretrain_loss: str = "l2"
    d_learning_rate: float | None = None
    span: tuple[float, float] = (-1.0, 1.0)
    window: tuple[float, float] | None = None
    complex: Literal["channels", "magnitude"] = "channels"
    noise_at_test: bool = False
    # how pix2pix and most after it are trained
    batch_size: int = 1
    steps: int = 100_000
    learning_rate: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    schedule: Literal["cosine", "constant", "step", "inverse", "linear"] = "linear"
    clip: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__.removesuffix("Config")
        # JSON gives lists for tuples, and a loaded configuration must equal the saved one
        for key in ("generator_options", "discriminator_options", "mode_options", "losses"):
            object.__setattr__(self, key, _settled(getattr(self, key)))
        for key in ("generator", "discriminator"):
            value = getattr(self, key)
            if not (value is None and key == "discriminator"):
                network_class(f"{name} {key}", value)
        if self.mode not in ADVERSARIAL:
            raise ValueError(f"{name} mode: expected one of {', '.join(ADVERSARIAL)}, got {self.mode!r}")
        for loss in self.losses:
            if not isinstance(loss, tuple) or len(loss) not in (2, 3):
                raise ValueError(f"{name} losses: expected (name, weight) or with options, got {loss!r}")
            if loss[0] not in LOSSES:
                raise ValueError(f"{name} losses: there is no {loss[0]!r}; there are {', '.join(LOSSES)}")
            _nonnegative(f"{name} losses, weight of {loss[0]}", loss[1])
        if self.pretrain_loss not in LOSSES:
            raise ValueError(f"{name} pretrain_loss: there is no {self.pretrain_loss!r}")
        for key in ("adversarial", "penalty", "mispair", "label_jitter"):
            _nonnegative(f"{name} {key}", getattr(self, key))
        if self.label_jitter and self.mode != "lsgan":
            raise ValueError(f"{name} label_jitter: labels are numbers with mode 'lsgan', got {self.mode!r}")
        for key in ("bound", "d_learning_rate"):
            if getattr(self, key) is not None and not 0 < getattr(self, key) < math.inf:
                raise ValueError(f"{name} {key}: expected a positive number, got {getattr(self, key)!r}")
        for key in ("d_steps", "g_steps"):
            within(f"{name} {key}", getattr(self, key), 1, 500)
        for key in ("pool", "d_warmup", "pretrain"):
            within(f"{name} {key}", getattr(self, key), 0, 1_000_000)
        for key in ("span", "window"):
            pair = getattr(self, key)
            if pair is not None and not (len(pair) == 2 and -math.inf < pair[0] < pair[1] < math.inf):
                raise ValueError(f"{name} {key}: expected (lowest, highest), rising, got {pair!r}")
        if self.complex not in ("channels", "magnitude"):
            raise ValueError(f"{name} complex: expected 'channels' or 'magnitude', got {self.complex!r}")
        if self.mispair and (self.batch_size < 2 or not self.conditional):
            raise ValueError(f"{name} mispair: needs batch_size ≥ 2 and a conditional discriminator")
        if not (self.discriminator and self.adversarial) and not any(loss[1] for loss in self.losses):
            raise ValueError(f"{name} losses: nothing to lower without a discriminator and without losses")

    @property
    def opponent(self) -> TrainingConfig:
        """How the discriminator is trained: as the generator, with its own rate, and not averaged."""
        return replace(self, learning_rate=self.d_learning_rate or self.learning_rate, average=None)


def network_class(what: str, name: str) -> type[nn.Module]:
    """The class of `priors.networks` of that name."""
    found = getattr(priors.networks, name, None) if name in priors.networks.__all__ else None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(
            f"{what}: expected a network of priors.networks ({', '.join(priors.networks.__all__)}), "
            f"got {name!r}"
        )
    return found


def network(
    what: str,
    name: str,
    options: Options,
    inside: int,
    outside: int | None,
    dim: int,
    shape: Sequence[int],
) -> nn.Module:
    """The network of that name for so many channels, with `dim` and `shape` where it asks for them.

    outside : None for a discriminator, whose channels are those it sees
    """
    cls = network_class(what, name)
    asked = inspect.signature(cls).parameters
    known: dict[str, Any] = {}
    if "in_channels" in asked:
        known["in_channels"] = inside
        if "out_channels" in asked and outside is not None:
            known["out_channels"] = outside
    elif isinstance(getattr(asked.get("channels"), "default", None), int):
        if outside is not None and inside != outside:
            raise ValueError(f"{what}: {name} gives as many channels as it gets, not {outside} of {inside}")
        known["channels"] = inside
    known |= {key: value for key, value in {"dim": dim, "shape": tuple(shape)}.items() if key in asked}
    unknown = sorted(set(options) - set(asked))
    if unknown:
        raise ValueError(f"{what}_options: {name} has no {', '.join(unknown)}; there are {', '.join(asked)}")
    return cls(**{**known, **options})


def _settled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _settled(v) for k, v in value.items()}
    return tuple(_settled(v) for v in value) if isinstance(value, list | tuple) else value


def _nonnegative(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{what}: expected a number from 0, got {value!r}")
