"""One image, a network and a discriminator, all made during the reconstruction (Kaji's scheme)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from priors.networks.critic import ImagePatchDiscriminator
from priors.networks.seeds import seeded

from .base import Reconstructor
from .discriminator import Discrimination, least_squares
from .fidelity import LIKELIHOODS, Likelihood
from .joint_parts import Data, Unknowns
from .problem import Problem
from .training import within
from .variational.base import start

LEARNED = ("adversarial_seed", "adversarial_network", "random_latent", "autoencode", "autoencode_latent")
WEIGHTS = (
    "data_seed", "data_network", "tv_seed", "tv_network", "adversarial_seed", "adversarial_network",
    "random_latent", "autoencode", "autoencode_latent", "latent",
)  # fmt: skip


@dataclass(frozen=True)
class JointConfig:
    """Options of Kaji's IterativeCTReconstruction; rates, β₁ and pool are its own.

    image : what is reconstructed: "free", the seed x; "encoder", f = dec(enc(x)); "decoder", f = dec(z)
    data_seed, data_network : of the negative log-likelihood of x, of f
    tv_seed, tv_network : λ of total variation, as in `TotalVariation`
    adversarial_seed, adversarial_network : of ½ mean (D(·) − 1)²
    random_latent : the same for dec(N(0, 1))
    autoencode : of mean (dec(enc(p)) − p)² over planning images p of size 1
    autoencode_latent : of mean (enc(dec(h)) − h)², h = enc(p)
    latent : of mean z², z being enc(x) or the free latent
    the last six count per datum: 1 weighs as much as a misfit of twice the noise's variance does

    iterations, subsets : of Adam; one subset of the views each, as `recon.subsets.interleaved` has them
    seed_rate, network_rate, critic_rate : learning rates, of images of size 1; 0 freezes
    beta1 : of Adam
    schedule : "cosine" to zero for image and networks, "constant"
    channels, strides : of the encoder; the decoder mirrors it
    critic_channels, critic_every, critic_start : of the discriminator, a step of it every so many iterations,
        and the iteration from which it counts
    critic_detail : size of what it is to see, in image sizes
    critic_noise, jitter : standard deviation of noise on what it sees, and on its labels
    patch, batch : side of the pieces it judges while it learns (None: whole images), and how many a step
    augment : mirror the pieces at random
    pool : past images it is reminded of
    warm_up : steps of the autoencoder on planning images (else the start) before the reconstruction
    likelihood : of the data, see `recon.fidelity`
    nonnegative : x ≥ 0
    seed : of weights and draws
    """

    image: Literal["free", "encoder", "decoder"] = "free"
    data_seed: float = 1.0
    data_network: float = 1.0
    tv_seed: float = 0.0
    tv_network: float = 0.0
    adversarial_seed: float = 0.0
    adversarial_network: float = 0.0
    random_latent: float = 0.0
    autoencode: float = 0.0
    autoencode_latent: float = 0.0
    latent: float = 0.0
    iterations: int = 1000
    subsets: int = 1
    seed_rate: float = 1e-2
    network_rate: float = 1e-4
    critic_rate: float = 1e-4
    beta1: float = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"
    channels: tuple[int, ...] = (32, 64, 64)
    strides: tuple[int, ...] = (2, 2, 1)
    critic_channels: tuple[int, ...] = (64, 128, 256)
    critic_detail: float = 0.1
    critic_every: int = 1
    critic_start: int = 0
    critic_noise: float = 0.0
    jitter: float = 0.0
    patch: int | None = None
    batch: int = 4
    augment: bool = True
    pool: int = 200
    warm_up: int = 0
    likelihood: Likelihood = "matching"
    nonnegative: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("iterations", "subsets", "critic_every", "batch"):
            within(f"JointReconstruction {name}", getattr(self, name), 1, 10**9)
        for name in ("critic_start", "pool", "warm_up"):
            within(f"JointReconstruction {name}", getattr(self, name), 0, 10**9)
        for name in (*WEIGHTS, "seed_rate", "network_rate", "critic_rate", "critic_noise", "jitter"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"JointReconstruction {name}: expected at least 0, got {getattr(self, name)!r}"
                )
        for name, allowed in (
            ("image", ("free", "encoder", "decoder")),
            ("schedule", ("cosine", "constant")),
            ("likelihood", tuple(LIKELIHOODS)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"JointReconstruction {name}: expected one of {allowed}, got {getattr(self, name)!r}"
                )
        if not 0 < self.critic_detail < math.inf:
            raise ValueError(
                f"JointReconstruction critic_detail: expected a positive number, got {self.critic_detail!r}"
            )
        if self.patch is not None:
            within("JointReconstruction patch", self.patch, 4, 10**6)
        if not self.active:
            raise ValueError(
                f"JointReconstruction: every term of image={self.image!r} has weight 0; set one above 0"
            )
        if not self.moving:
            raise ValueError(
                f"JointReconstruction seed_rate, network_rate: expected one above 0 of what {self.active} "
                f"depend on, got {self.seed_rate} and {self.network_rate}: nothing could learn"
            )

    @property
    def active(self) -> tuple[str, ...]:
        """The terms that count: of weight above 0, and of unknowns there are."""
        absent = {
            "free": {"data_network", "tv_network", "adversarial_network", *WEIGHTS[6:]},
            "encoder": set(),
            "decoder": {"data_seed", "tv_seed", "adversarial_seed"},
        }[self.image]
        return tuple(name for name in WEIGHTS if getattr(self, name) and name not in absent)

    @property
    def moving(self) -> tuple[str, ...]:
        """Those of `active` that depend on something whose rate is not 0."""
        seed, network = self.seed_rate > 0, self.network_rate > 0
        moves = dict.fromkeys(WEIGHTS, seed or network)
        moves |= dict.fromkeys(("data_seed", "tv_seed", "adversarial_seed"), seed)
        moves |= dict.fromkeys(("random_latent", "autoencode", "autoencode_latent"), network)
        moves["latent"] = seed or (network and self.image == "encoder")
        return tuple(name for name in self.active if moves[name])


@dataclass(frozen=True)
class JointResult:
    """What came out; tensors of one image.

    x : the image asked for                  seed, network : x and f, None where there is none
    discriminator : as it was at the end     scale : size of an image, by which it sees them divided
    history : value of every weighted term, and "critic", its loss, of every iteration; "gap" is
              mean D(planning) − mean D(image)
    """

    x: Tensor
    seed: Tensor | None
    network: Tensor | None
    discriminator: nn.Module | None
    scale: float
    history: list[dict[str, float]]


class JointReconstruction(Reconstructor):
    """min_{x, w, z} Σ data terms + λ TV + adversarial + autoencoder terms, D learning against the iterates.

        repeat:  D ← D − r ∇ ½[mean (D(planning) − 1)² + mean D(iterate, or a past one)²]
                 x, w, z ← a step of Adam on the sum, one subset of the data at a time

    Kaji, IterativeCTReconstruction; Kaji and Kida, Radiol. Phys. Technol. 12 (2019), §5. The prior is learned
    while the image is made, from images that belong to nobody's data (as the planning CT of a patient whose
    daily scan is reconstructed) and that need not be aligned to it. With image="free" and all but data_seed
    and tv_seed zero this is penalised likelihood by Adam; with image="encoder", data_seed=0 and seed_rate=0 a
    deep image prior. Every image of a batch has networks of its own, made from the same seed.

    planning : images (n, ny, nx) of good quality, in the unit of x; of A's image size, or of any with `patch`
    start : the first x, (ny, nx); None: a filtered back projection, or some CGLS
    callback : given (iteration, the terms by name)
    config : or its settings as keywords, see `JointConfig`
    """

    def __init__(
        self,
        planning: Tensor | None = None,
        start: Tensor | None = None,
        callback: Callable[[int, dict[str, float]], None] | None = None,
        config: JointConfig | None = None,
        **changes: Any,
    ):
        super().__init__()
        unknown = set(changes) - {f.name for f in fields(JointConfig)}
        if unknown:
            raise ValueError(
                f"JointReconstruction: no such setting {', '.join(sorted(unknown))}; there are "
                f"{', '.join(f.name for f in fields(JointConfig))}"
            )
        self.config = replace(config or JointConfig(), **changes)
        self.start, self.callback = start, callback
        self.planning: Tensor | None
        self.register_buffer("planning", planning, persistent=False)
        self._check_planning()

    def forward(self, problem: Problem) -> Tensor:
        if not problem.batch:
            return self.solve(problem).x
        A = problem.A
        y = problem.y.reshape(-1, *A.out_shape)
        images = [self.solve(Problem(A, y[i], problem.noise.select(i))).x for i in range(len(y))]
        x = torch.stack(images) if images else y.new_zeros(0, *A.in_shape)
        return x.reshape(*problem.batch, *A.in_shape)

    @torch.enable_grad()
    def solve(self, problem: Problem) -> JointResult:
        """The image of one problem, without a batch, with what was made on the way."""
        c, shape = self.config, self._shape(problem)
        with torch.no_grad():
            first = start(problem) if self.start is None else self.start.to(problem.y)
        if tuple(first.shape) != shape or not bool(first.isfinite().all()):
            raise ValueError(
                f"JointReconstruction start: expected a finite image {shape}, got {tuple(first.shape)}"
            )
        first = first.clamp(min=0) if c.nonnegative else first
        planning = None if self.planning is None else self.planning.to(first)
        scale = max(float((first[None] if planning is None else planning).abs().amax((1, 2)).mean()), 1e-30)
        made = Unknowns(c, first / scale, None if planning is None else planning / scale)
        terms = Data(problem, c, scale)
        critic = self._critic(made)
        history = []
        for k in range(c.iterations):
            made.rate(k / c.iterations if c.schedule == "cosine" else 0.0)
            x, f, z = made.images()
            values = {}
            if critic is not None:
                shown = [v.detach() for v in (x, f) if v is not None]
                if "random_latent" in c.active:
                    shown.append(made.random().detach())
                if k % c.critic_every == 0:
                    values["critic"], values["gap"] = critic.learn(shown)
            parts = terms(k, x, f) | made.autoencoding()
            if z is not None and c.latent:
                parts["latent"] = c.latent * z.square().mean()
            if critic is not None and k >= c.critic_start:
                judged = {"adversarial_seed": x, "adversarial_network": f}
                if "random_latent" in c.active:
                    judged["random_latent"] = made.random()
                for name, v in judged.items():
                    if v is not None and name in c.active:
                        parts[name] = getattr(c, name) * least_squares(critic.network(v[None]), 1.0)
            total = torch.stack([first.new_zeros(()), *parts.values()]).sum()
            values |= {name: float(part.detach()) for name, part in parts.items()}
            if not math.isfinite(float(total.detach())):
                raise FloatingPointError(
                    f"JointReconstruction: not finite at iteration {k}: {values}; lower seed_rate, "
                    "network_rate or the weights"
                )
            if total.requires_grad:  # not while all that counts is a critic that has not started
                made.step(total)
            history.append(values)
            if self.callback:
                self.callback(k, values)
        with torch.no_grad():
            x, f, _ = (None if v is None else scale * v.detach() for v in made.images())
        result = x if c.image == "free" else f
        assert result is not None
        result = result.clamp(min=0) if c.nonnegative else result
        network = None if critic is None else critic.network.requires_grad_(False)
        return JointResult(result, x, f, network, scale, history)

    def _critic(self, made: Unknowns) -> Discrimination | None:
        c = self.config
        if not {"adversarial_seed", "adversarial_network", "random_latent"} & set(c.active):
            return None
        assert made.planning is not None
        with seeded(c.seed):
            network = ImagePatchDiscriminator(c.critic_channels, c.critic_detail).to(made.planning)
        return Discrimination(
            network, made.planning, c.critic_rate, c.beta1, c.patch, c.batch, c.augment, c.pool,
            c.critic_noise, c.jitter, c.seed,
        )  # fmt: skip

    def _check_planning(self) -> None:
        c, p = self.config, self.planning
        asking = [name for name in LEARNED if name in c.active]
        if p is None or not p.numel():
            if asking:
                raise ValueError(
                    f"JointReconstruction planning: {', '.join(asking)} need images of good quality "
                    f"(n, ny, nx), got {'none' if p is None else tuple(p.shape)}"
                )
            return
        if p.ndim != 3 or p.is_complex() or not bool(p.isfinite().all()):
            raise ValueError(
                f"JointReconstruction planning: expected finite real images (n, ny, nx), got {p.dtype} "
                f"{tuple(p.shape)}"
            )
        if c.patch is not None and min(p.shape[1:]) < c.patch:
            raise ValueError(
                f"JointReconstruction patch: expected at most {min(p.shape[1:])}, the planning images' "
                f"side, got {c.patch}"
            )

    def _shape(self, problem: Problem) -> tuple[int, int]:
        shape = tuple(problem.A.in_shape)
        if problem.batch or problem.y.is_complex() or len(shape) != 2:
            raise ValueError(
                "JointReconstruction.solve problem: expected real data of one 2-D image, got "
                f"{problem.y.dtype} of {shape}, batch {problem.batch}"
            )
        p, patch = self.planning, self.config.patch
        if p is not None and p.numel() and patch is None and tuple(p.shape[1:]) != shape:
            raise ValueError(
                f"JointReconstruction planning: expected images {shape} as A has, got {tuple(p.shape[1:])}; "
                "resample them to its pixels, or give patch to compare pieces"
            )
        if patch is not None and min(shape) < patch:
            raise ValueError(f"JointReconstruction patch: expected at most {min(shape)}, got {patch}")
        return shape[0], shape[1]

    @classmethod
    def examples(cls) -> list[JointReconstruction]:
        """Without networks, and with all of them."""
        tiny = {"iterations": 3, "channels": (3, 2), "strides": (2, 1), "critic_channels": (3,), "batch": 2}
        planning = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
        everything = {name: 0.5 for name in WEIGHTS}
        return [
            cls(tv_seed=1.0, iterations=3),
            cls(planning, patch=6, **(everything | tiny), image="encoder", warm_up=2),  # type: ignore[arg-type]
        ]
