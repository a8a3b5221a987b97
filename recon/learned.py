"""What every learned method shares: configuration, scaling, fitting, the scanner it was made for."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from textwrap import shorten
from typing import Any, ClassVar, Literal, Self, cast

import torch
from torch import Tensor

from operators import LinearOperator
from operators.tensors import real_dtype, spread

from .base import Reconstructor
from .checkpoints import digest, fingerprint
from .data.sets import TRAIN, Measurements, PairedData, UnpairedData
from .metrics import psnr, ssim
from .metrics.fidelity import magnitude
from .problem import Problem
from .train_fabric import OnDevice
from .train_players import Loss
from .trained_for import TrainedFor as TrainedFor
from .trained_for import scanner_of, words
from .training import Player, Progress, TrainingConfig, train


class Learned(Reconstructor):
    """A method with weights: x = scale · net(A / ‖A‖, y / (‖A‖ · scale)).

    Operator and image are brought to size 1, so that one configuration fits every scanner and unit. Layers
    are built by `fit`, or by `load`. A fitted method refuses data of other shapes and of another geometry,
    that is other angles, pixels or trajectories; of `Sense`, masks and coil maps may be others. With
    `any_geometry` it tries, networks of convolutions on other shapes, too.

    config : the method's frozen dataclass; single values may be given as keywords instead
    record : how it was trained: data, images, seed, steps, seconds
    fabric : a Lightning Fabric to train with, as `recon.train_fabric.launched()`; None: this process alone
    """

    Config: ClassVar[type[TrainingConfig]]
    tier: ClassVar[Literal["A", "B", "C"] | None] = None
    """A: validated against published or closed-form numbers; B: trains and is tested; C: adapter."""
    any_shape: ClassVar[bool] = False
    """Whether with `any_geometry` its layers may meet images and data of other shapes."""

    def __init__(self, config: Any = None, **changes: Any):
        super().__init__()
        unknown = set(changes) - {f.name for f in fields(self.Config)}
        if unknown:
            raise ValueError(
                f"{type(self).__name__}: no such setting {', '.join(sorted(unknown))}; there are "
                f"{', '.join(f.name for f in fields(self.Config))}"
            )
        if config is not None and not isinstance(config, self.Config):
            raise ValueError(
                f"{type(self).__name__} config: expected {self.Config.__name__}, got {type(config).__name__}"
            )
        self.config: Any = replace(config or self.Config(), **changes)
        self.trained_for: TrainedFor | None = None
        self.record: dict[str, Any] = {}
        self.any_geometry = False
        self._layers_of: tuple[Any, bool] = None, False
        self.fabric: Any = None

    def extra_repr(self) -> str:
        """The settings that are not the defaults."""
        usual = {f.name: f.default for f in fields(self.config)}
        changed = {k: v for k, default in usual.items() if (v := getattr(self.config, k)) != default}
        return ", ".join(f"{k}={v!r}" for k, v in changed.items())

    @abstractmethod
    def build(self, scanner: TrainedFor) -> None:
        """Make the layers, from the configuration's seed, and remember `scanner`."""

    @abstractmethod
    def apply_to(self, A: LinearOperator, y: Tensor) -> Tensor:
        """Images of size 1, (n, *A.in_shape), from linear data over the image scale (n, *A.out_shape)."""

    def loss(
        self, problem: Problem, images: Tensor, generator: torch.Generator
    ) -> Tensor | Mapping[str, Tensor]:
        """What `fit` lowers, a number or numbers by name; by default mean (x − truth)², at image scale 1."""
        scale = spread(self.scale(problem), len(problem.A.in_shape))
        return squared(self(problem) / scale - images / scale).mean()

    def players(self) -> Loss | Sequence[Player]:
        """What `train` lowers: one loss over all weights; or players, where parts have their own."""
        return self.loss

    def scale(self, problem: Problem) -> float | Tensor:
        """What images are divided by, a number or one per image: their size in the training data."""
        return self.scanner(problem).image_scale

    def score(self, data: PairedData | UnpairedData) -> float:
        """What tells on the validation images how training goes, higher is better; by default PSNR.

        NaN where their truths are unknown.
        """
        return self.scores(data).get("psnr_db_range_truth", math.nan)

    def scores(self, data: PairedData | UnpairedData) -> dict[str, float]:
        """Mean PSNR [dB] and SSIM over the validation images, data range max − min of each truth.

        Truths that are one number everywhere have no range and are left out. None at all where truths are
        NaN, that is unknown, as of unpaired images without any pair.
        """
        problem, truth = data.validation
        if bool(torch.isnan(truth).any()):
            return {}
        x = self(problem)
        size = magnitude(truth).flatten(1)
        # magnitudes of a complex image begin at 0
        span = size.amax(1) - (0.0 if truth.is_complex() else size.amin(1))
        told = span > 0
        if not bool(told.any()):
            return {}
        x, truth, span = x[told], truth[told], span[told]
        # slices and frames of one image share its range
        span = span.reshape(-1, *(1,) * (truth.ndim - 3)).expand(truth.shape[:-2])
        result = {"psnr_db_range_truth": float(psnr(x, truth, data_range=span).mean())}
        if min(truth.shape[-2:]) >= 7:
            value = ssim(magnitude(x), magnitude(truth), data_range=span)
            result["ssim_range_truth"] = float(value.mean())
        return result

    def forward(self, problem: Problem) -> Tensor:
        scanner = self.scanner(problem)
        if problem.y.numel() == 0:
            return problem.y.new_zeros(*problem.batch, *scanner.in_shape)
        y, scale = self.inside(problem)
        x = self.apply_to(*self.alike(problem.A, y)) * spread(scale, len(scanner.in_shape))
        return x.reshape(*problem.batch, *scanner.in_shape).to(problem.y.dtype)

    def alike(self, A: LinearOperator, y: Tensor) -> tuple[LinearOperator, Tensor]:
        """Operator and data as `apply_to` knows them, where they are of another scanner."""
        return A, y

    def inside(self, problem: Problem) -> tuple[Tensor, float | Tensor]:
        """What `apply_to` works on: y (n, *A.out_shape) over the image scale, and the scale, one or n."""
        scanner = self.scanner(problem)
        real = next(self.parameters()).dtype
        y, scale = problem.linear.reshape(-1, *scanner.out_shape), self.scale(problem)
        if y.is_complex() and not scanner.complex:
            raise ValueError(f"{type(self).__name__}: trained for real data, got {y.dtype}")
        y = y.to(real.to_complex() if scanner.complex else real)
        scale = scale.reshape(-1).to(real) if isinstance(scale, Tensor) else scale
        return y / spread(scale, len(scanner.out_shape)), scale

    def fit(
        self,
        data: PairedData | UnpairedData,
        *,
        minutes: float | None = None,
        checkpoint: str | Path | None = None,
        callback: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Learn from `data`, from the first weights on; see `recon.training.train` for the keywords.

        What was learned before is forgotten, with a warning: `fine_tune` goes on from it.
        """
        if self.trained_for is not None and not (checkpoint and Path(checkpoint).exists()):
            warnings.warn(
                f"{type(self).__name__}.fit begins with new weights; fine_tune(data, …) goes on from these",
                UserWarning,
                stacklevel=2,
            )
        return self._fit(data, {}, minutes=minutes, checkpoint=checkpoint, callback=callback)

    def fine_tune(
        self,
        data: PairedData | UnpairedData,
        *,
        minutes: float | None = None,
        checkpoint: str | Path | None = None,
        callback: Callable[[Progress], None] | None = None,
        **changes: Any,
    ) -> Self:
        """Learn on from the weights that are there, on other data, of another scanner if the layers allow it.

            LearnedPrimalDual.pretrained("ellipses-dival").fine_tune(data, steps=500, learning_rate=1e-4)

        changes : of `TrainingConfig`; what makes up the network stays, and all else is as it was trained, so
            mind `steps` and `learning_rate`
        """
        if self.trained_for is None:
            raise ValueError(f"{type(self).__name__}.fine_tune: nothing learned yet: call fit(data) first")
        config = self.config
        self.changed(changes)
        weights = {k: v.detach().clone() for k, v in self.state_dict().items()}
        before = {k: self.record[k] for k in ("data", "steps", "command", "before") if k in self.record}
        try:
            self._fit(data, weights, minutes=minutes, checkpoint=checkpoint, callback=callback)
        except ValueError:
            self.config = config
            raise
        self.record["before"] = before
        return self

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """With other settings of training; ValueError for those of the network."""
        known = {f.name for f in fields(TrainingConfig)}
        if unknown := set(changes) - known:
            raise ValueError(
                f"{type(self).__name__}.fine_tune: {', '.join(sorted(unknown))} cannot be changed; settings "
                f"of training are {', '.join(sorted(known))}"
            )
        self.config = replace(self.config, **changes)
        return self

    def _fit(
        self,
        data: PairedData | UnpairedData,
        weights: Mapping[str, Tensor],
        *,
        minutes: float | None,
        checkpoint: str | Path | None,
        callback: Callable[[Progress], None] | None,
    ) -> Self:
        kinds: dict[str, type] = {"unpaired": UnpairedData, "measurements": Measurements}
        wanted = kinds.get(self.data_kind or "paired", PairedData)
        if not isinstance(data, wanted) or (isinstance(data, Measurements) and wanted is not Measurements):
            hint = f"; use data.{self.data_kind}()" if isinstance(data, PairedData) else ""
            if isinstance(data, Tensor):
                hint = "; SimulatedPairs.from_images(geometry, noise, images) makes it of images"
            raise ValueError(
                f"{type(self).__name__}.fit data: expected {wanted.__name__}, got {type(data).__name__}{hint}"
            )
        self.before_fit(data)
        generator = torch.Generator().manual_seed(self.config.seed)
        problem, images = next(data.batches(32, generator))
        scanner = self.scanner_of(problem, images)
        if weights and not self._has_layers_of(scanner):
            raise ValueError(
                f"{type(self).__name__}.fine_tune data: the layers for images {scanner.in_shape} from data "
                f"{scanner.out_shape} are others than those learned: fit it anew"
            )
        self.build(scanner)
        if weights:
            self.load_state_dict(weights, strict=False)  # what is there in training only stays new
        self.scanner(data.validation[0])  # before hours of training, not after them
        fabric = self.fabric
        self.to(fabric.device if fabric else images.device, real_dtype(images))
        there = cast(PairedData, OnDevice(data, fabric.device)) if fabric else data
        try:
            progress = train(
                self,
                self.players(),
                there,
                self.config,
                score=lambda: self.score(there),
                minutes=minutes,
                checkpoint=checkpoint,
                callback=callback,
                fabric=fabric,
                about=self._about(data, weights),
            )
        finally:
            self.to(images.device)
        self.record = {
            "data": data.name,
            "kind": self.data_kind,
            "images": described(data),
            "seed": self.config.seed,
            "steps": progress.step,
            "seconds": round(progress.seconds, 1),
            "threads": torch.get_num_threads(),
            "validation": score if math.isfinite(score := progress.scores[-1][1]) else None,
        }
        if progress.kept is not None:
            self.record["kept"] = f"the weights of step {progress.kept}, best in validation"
        if fabric:
            self.record["device"] = f"{fabric.world_size} × {fabric.device.type}"
        if self.tier is not None:
            self.record["tier"] = self.tier
        self.after_fit(data)
        return self

    def _about(self, data: PairedData | UnpairedData, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """What a checkpoint must have been learned from to be gone on with."""
        told = {"method": getattr(self, "name", type(self).__name__), "data": data.name}
        told |= {"images": described(data), "scanner": asdict(cast(TrainedFor, self.trained_for))}
        return told | ({"first weights": digest(weights)} if weights else {})

    def before_fit(self, data: PairedData | UnpairedData) -> None:
        """What a method looks at, or refuses, before `fit` makes its layers; nothing unless it says so."""

    def after_fit(self, data: PairedData | UnpairedData) -> None:
        """What a method does with its weights learned and `record` written; nothing unless it says so."""

    def scanner_of(self, problem: Problem, images: Tensor) -> TrainedFor:
        """The scanner to learn for, and the size of its images, from the first batch."""
        return scanner_of(problem, images)

    def scanner(self, problem: Problem) -> TrainedFor:
        """The scanner learned for, after making sure that `problem` is of it."""
        return self.scanner_like(problem.A)

    def scanner_like(self, A: LinearOperator) -> TrainedFor:
        """The scanner learned for, if A is of it; with `any_geometry`, A's where the layers can be used."""
        name, scanner = type(self).__name__, self.trained_for
        if scanner is None:
            raise ValueError(
                f"{name}: not trained: call fit(data), or use {name}.load(path) or {name}.pretrained(problem)"
            )
        same = (A.in_shape, A.out_shape) == (scanner.in_shape, scanner.out_shape)
        if same and fingerprint(words(A)) == scanner.hash:
            return scanner
        if self.any_geometry:
            other = replace(scanner, in_shape=A.in_shape, out_shape=A.out_shape, norm=A.norm())
            if same or (self.any_shape and self._has_layers_of(other)):
                return other
            raise ValueError(
                f"{name}: its layers are for images {scanner.in_shape} from data {scanner.out_shape} and do "
                f"not serve {A.in_shape} from {A.out_shape}: fit it to this problem"
            )
        if not same:
            raise ValueError(
                f"{name}: trained for images {scanner.in_shape} from data {scanner.out_shape}, got a problem "
                f"with {A.in_shape} from {A.out_shape}: fit it to this one, fine_tune it, or, where its "
                "layers allow it, set any_geometry = True to try regardless"
            )
        mine, its = shorten(scanner.operator, 200), shorten(words(A), 200)
        raise ValueError(
            f"{name}: trained for {mine}, got {its}, of the same shapes: fit it to this one, fine_tune it, "
            "or set any_geometry = True to try regardless"
        )

    def _has_layers_of(self, scanner: TrainedFor) -> bool:
        """Whether the layers for this scanner would be those that are there."""
        asked = self.trained_for, scanner.in_shape, scanner.out_shape, scanner.complex
        if self._layers_of[0] != asked:  # every call of the method asks
            other = type(self)(self.config)
            try:
                with torch.device("meta"):
                    other.build(scanner)
                built = other.state_dict()
            except ValueError:
                built = {}
            mine = self.state_dict().items()
            self._layers_of = asked, all(k in built and built[k].shape == v.shape for k, v in mine)
        return self._layers_of[1]


def squared(x: Tensor) -> Tensor:
    """|x|², with a gradient everywhere."""
    return x.real.square() + x.imag.square() if x.is_complex() else x.square()


def described(data: PairedData | UnpairedData) -> dict[str, Any]:
    """Which images are learned from: how many, and their seeds where they are drawn, for the card."""
    pairs = data.pairs if isinstance(data, UnpairedData) else data
    told: dict[str, Any] = {"validation": len(pairs.validation[1]), **getattr(pairs, "about", {})}
    if not hasattr(pairs, "train_size"):
        held = getattr(pairs, "train", None)
        return {"training": len(held[1]) if held else "not counted", **told}
    if pairs.train_size is None:
        return {"training": "a new one every time", "seeds": f"from {TRAIN}", **told}
    seeds = getattr(pairs, "seeds", f"{TRAIN} to {TRAIN + pairs.train_size - 1}")
    return {"training": pairs.train_size, "seeds": seeds, **told}
