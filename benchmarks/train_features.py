"""Train the small feature network that stands in for VGG where there is no network of ImageNet.

A VGG of 1/60 the weights learns to tell, from crops of 64 × 64 pixels, four things at once: what is seen
(synthetic head CT, ellipses, synthetic brain MR, lumpy background, the real head CT and the real abdominal MR
that come with pydicom), how it was blurred, how much noise it has and of what texture. Synthetic images of
validation are of other seeds; of the two real images the right third is kept for it.

    python benchmarks/train_features.py --out recon/zoo/features-tissue   # resumes; minutes on a core
    python benchmarks/train_features.py --quick                            # seconds; nothing kept

Writes OUT.safetensors (float16) and OUT.json, its card.
"""

import argparse
import hashlib
import json
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from priors.networks.seeds import count, seeded
from priors.networks.vgg import SMALL, VGG, FeatureClassifier
from recon.checkpoints import write_bytes, write_tensors
from recon.data import example_head, random_brain, random_head
from recon.data.low_contrast import lumpy_background
from recon.data.mr_examples import example_mr
from recon.data.random_ellipses import random_ellipses_2018
from recon.training import TrainingConfig, train

SIDE, EDGE = 64, 8
BLURS = (0.0, 0.8, 1.6)  # standard deviation [pixels]
NOISES = (0.0, 0.04, 0.1, 0.2)  # of the window's half width
TEXTURES = ("white", "smooth", "ramp", "streaks")
SOURCES = ("head-ct", "ellipses", "brain-mr", "lumpy", "real-head-ct", "real-abdomen-mr")
TASKS = {"source": len(SOURCES), "blur": len(BLURS), "noise": len(NOISES), "texture": len(TEXTURES)}
LAYERS = tuple(f"relu{b}_{len(block)}" for b, block in enumerate(SMALL, 1))


def network(seed: int) -> FeatureClassifier:
    with seeded(seed):
        trunk = VGG(SMALL, LAYERS, channels=1, mean=(0.5,), std=(0.5,))
        return FeatureClassifier(trunk, sum(block[-1] for block in SMALL), TASKS)


class Crops:
    """Crops and what they are: batches (labels by task (n, 4), images (n, 1, 64, 64)), for `train`."""

    name = "features-tissue"

    def __init__(self, each: int, seed: int, held_out: bool):
        heads = [random_head(seed + k).rasterise((128, 128), 220 / 128, 2) / 0.0206 for k in range(each)]
        brains = [random_brain(seed + k).rasterise((128, 128), 220 / 128, 2) for k in range(each)]
        lumps = [lumpy_background((128, 128), 1.0, seed=seed + k)[0] for k in range(each)]
        real = example_head().reshape(256, 2, 256, 2).mean((1, 3)) / 0.0206, example_mr()[0]
        third = [image.shape[-1] * 2 // 3 for image in real]
        real = [a[:, n:] if held_out else a[:, :n] for a, n in zip(real, third, strict=True)]
        self.pools = [heads, list(random_ellipses_2018(each, seed, 128)), brains, lumps, *([a] for a in real)]
        self.pools = [[_window(image.float()) for image in pool] for pool in self.pools]
        frequency = torch.fft.fftfreq(SIDE + 2 * EDGE)
        self.fy, self.fx = torch.meshgrid(frequency, frequency, indexing="ij")

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            drawn = [self.one(generator) for _ in range(size)]
            yield (
                torch.stack([label for label, _ in drawn]),
                torch.stack([image for _, image in drawn])[:, None],
            )

    def one(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        label = torch.stack([torch.randint(n, (), generator=generator) for n in TASKS.values()])
        source, blur, noise, texture = label.tolist()
        image = self.crop(self.pools[source], generator)
        image = self.filtered(
            image, torch.exp(-2 * (torch.pi * BLURS[blur]) ** 2 * (self.fy**2 + self.fx**2))
        )
        white = torch.randn(image.shape, generator=generator)
        grain = self.filtered(white, self.transfer(TEXTURES[texture], generator))
        image = (image + NOISES[noise] * grain / grain.std()).clamp(-1, 1)
        if not NOISES[noise]:
            label[3] = -1  # without noise there is no texture of it
        return label, image[EDGE:-EDGE, EDGE:-EDGE]

    def crop(self, pool: list[Tensor], generator: torch.Generator) -> Tensor:
        """A piece with something in it, its window narrowed and shifted at random, turned and mirrored."""
        side = SIDE + 2 * EDGE
        while True:
            image = pool[int(torch.randint(len(pool), (), generator=generator))]
            top, left = (int(torch.randint(n - side + 1, (), generator=generator)) for n in image.shape)
            piece = image[top : top + side, left : left + side]
            low, width = torch.rand(2, generator=generator) * torch.tensor([0.3, 0.5])
            piece = (((piece + 1) / 2 - low) / (1 - width) * 2 - 1).clamp(-1, 1)
            if float(piece.std()) > 0.02:
                break
        piece = piece.rot90(int(torch.randint(4, (), generator=generator)))
        return piece.flip(-1) if bool(torch.rand((), generator=generator) < 0.5) else piece

    def transfer(self, texture: str, generator: torch.Generator) -> Tensor:
        """Amplitude of the noise at every frequency."""
        radius = (self.fy**2 + self.fx**2).sqrt()
        if texture == "smooth":
            return torch.exp(-((radius / 0.12) ** 2))
        if texture == "ramp":  # of filtered back projection
            return radius
        if texture == "streaks":
            angle = torch.pi * torch.rand((), generator=generator)
            return torch.exp(-(((self.fx * angle.cos() + self.fy * angle.sin()) / 0.02) ** 2))
        return torch.ones_like(radius)

    @staticmethod
    def filtered(image: Tensor, transfer: Tensor) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(image) * transfer).real


def _window(image: Tensor) -> Tensor:
    """To [−1, 1] from the 0.5th to the 99.5th percentile."""
    low, high = torch.quantile(image.flatten(), torch.tensor([0.005, 0.995]))
    return (2 * (image - low) / (high - low) - 1).clamp(-1, 1)


def loss(labels: Tensor, logits: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for k, (name, values) in enumerate(logits.items()):
        found[name] = cross_entropy(values, labels[:, k], ignore_index=-1)
    return found


@torch.no_grad()
def accuracies(net: FeatureClassifier, labels: Tensor, images: Tensor) -> dict[str, float]:
    found = {}
    for k, (name, values) in enumerate(net(images).items()):
        counted = labels[:, k] >= 0
        found[name] = float((values.argmax(1) == labels[:, k])[counted].float().mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/features-tissue"))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--minutes", type=float, help="end by then, whatever the step; not repeatable")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    each, steps, checked = (4, 3, 16) if arguments.quick else (300, arguments.steps, 600)
    folder = tempfile.TemporaryDirectory()
    out = Path(folder.name) / "features-tissue" if arguments.quick else arguments.out
    data = Crops(each, 0, held_out=False)
    labels, images = next(
        Crops(max(each // 4, 2), 10**6, held_out=True).batches(checked, torch.Generator().manual_seed(1))
    )
    net = network(arguments.seed)
    config = TrainingConfig(
        steps=steps, batch_size=32, learning_rate=2e-3, warmup=min(100, steps // 2), beta2=0.999,
        schedule="cosine", validate_every=250, checkpoint_every=250, seed=arguments.seed,
    )  # fmt: skip

    def told(progress: object) -> None:
        if progress.step % 250 == 0:
            print(progress.step, f"{progress.seconds:.0f} s", progress.scores[-1:], flush=True)

    progress = train(
        net,
        lambda labels, images, generator: loss(labels, net(images)),
        data,
        config,
        score=lambda: sum(accuracies(net, labels, images).values()) / len(TASKS),
        minutes=arguments.minutes,
        checkpoint=out.with_name(f"{out.name}.checkpoint.safetensors"),
        callback=told,
    )
    halved = {k.removeprefix("trunk."): v.half() for k, v in net.state_dict().items()}
    net.load_state_dict({k: v.half().float() for k, v in net.state_dict().items()})
    scores = accuracies(net, labels, images)
    content = write_tensors(out.with_suffix(".safetensors"), halved)
    card = {
        "format": 1,
        "kind": "feature-network",
        "name": "vgg-small-tissue",
        "network": {"blocks": SMALL, "channels": 1, "mean": [0.5], "std": [0.5], "pooled": LAYERS},
        "classes": {"source": SOURCES, "blur": BLURS, "noise": NOISES, "texture": TEXTURES},
        "training": {
            "data": "crops of 64 × 64: random_head, random_ellipses_2018, random_brain, lumpy_background, "
            "and two images of pydicom's tests (MIT): J2K_pixelrep_mismatch.dcm, examples_overlay.dcm",
            "task": "tell source, blur, noise level and noise texture",
            "images": {name: len(pool) for name, pool in zip(SOURCES, data.pools, strict=True)},
            "seed": arguments.seed,
            "steps": progress.step,
            "minutes": arguments.minutes,  # if given, no other run is the same
            "batch_size": config.batch_size,
            "learning_rate": config.learning_rate,
            "seconds": round(progress.seconds, 1),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "command": shlex.join(["python", *sys.argv]),
        },
        "scores": {f"accuracy_{name}": round(value, 4) for name, value in scores.items()},
        "licence": "BSD-3-Clause",
        "weights": {
            "sha256": hashlib.sha256(content).hexdigest(),
            "dtype": "float16",
            "parameters": count(net),
        },
    }
    write_bytes(out.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode())
    print(json.dumps(card["scores"]), f"{len(content) / 1e6:.2f} MB")
    for left in ("checkpoint.safetensors", "checkpoint.curve.csv", "curve.csv"):
        out.with_name(f"{out.name}.{left}").unlink(missing_ok=True)
    folder.cleanup()


if __name__ == "__main__":
    main()
