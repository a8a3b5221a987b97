# %% [markdown]
# # Your problem and your method in the comparison
#
# This file is a problem, for it has a function `task()`, and a file of methods, for it has `METHODS`:
#
#     recon compare --problem examples/31_your_problem_and_method.py \
#         --methods fbp,total-variation,examples/31_your_problem_and_method.py
#
# Run as a script it makes the same table without files, a report or tuning.

# %%
import math
import sys

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from operators import Gaussian, ParallelBeam, fbp
from recon import FBP, FBPUNet, LearnedPrimalDual, Problem, Reconstructor, TotalVariation
from recon.comparison import Log, Method, Task, table
from recon.data import SimulatedPairs

# %% [markdown]
# ## A problem
#
# Images of your own, finer than the reconstruction grid: here discs from a seed, in yours slices, a tensor
# (n, ny, nx). `from_images` keeps some apart to validate and test with, and draws new noise in every batch.


# %%
def discs(count: int = 60, side: int = 96) -> Tensor:
    """Three discs of ¼ to ¾ each, (count, side, side)."""
    generator = torch.Generator().manual_seed(7)
    axis = torch.linspace(-1, 1, side)
    x, y, radius, value = torch.rand(4, count, 3, 1, 1, generator=generator)
    inside = (axis - 1.2 * (x - 0.5)) ** 2 + (axis[:, None] - 1.2 * (y - 0.5)) ** 2 < (
        0.1 + 0.2 * radius
    ) ** 2
    return ((0.25 + 0.5 * value) * inside).amax(1)


angles = [(k + 0.5) * math.pi / 15 for k in range(15)]
geometry = ParallelBeam(image_shape=(48, 48), pixel_size=1.0, angles=angles, n_bins=69, bin_size=1.0)
data = SimulatedPairs.from_images(geometry, Gaussian(relative=0.05), discs(), validation=0.1, test=0.1)


def task() -> Task:
    """15 views of discs."""

    def pairs(split: str) -> list[tuple[Problem, Tensor]]:
        problem, truth = data.validation if split == "validation" else data.test
        one = [Problem(problem.A, y, problem.noise.select(i)) for i, y in enumerate(problem.y)]
        return list(zip(one, truth, strict=True))

    return Task(
        name="discs",
        title="Discs, 15 views",
        pairs=pairs,
        metrics=("psnr_db", "ssim"),
        data_range=1.0,
        configuration={"geometry": geometry, "noise": data.noise, "images": "discs, seed 7"},
        data=data.of_kind,
        methods=("fbp", "total-variation"),
    )


# %% [markdown]
# ## A method
#
# A class whose `forward` maps a problem to an image. Its keywords are what `--tune` may search, on validation
# images only and with as many trials as everybody has.


# %%


class ThresholdedFBP(Reconstructor):
    """max(FBP − t, 0) + t where it is above t, else 0: noise in the air is cut off."""

    name = "thresholded-fbp"

    def __init__(self, threshold: float = 0.1):
        super().__init__()
        self.threshold = threshold

    def forward(self, problem: Problem) -> Tensor:
        x = fbp(problem.A, problem.linear, filter="hann")
        return torch.where(x > self.threshold, x, 0.0)

    @classmethod
    def examples(cls) -> list["ThresholdedFBP"]:
        return [cls()]


METHODS = {"thresholded-fbp": Method(ThresholdedFBP, space={"threshold": Log(0.01, 1.0)})}

# %% [markdown]
# ## One table, in memory
#
# Two networks learn from the same training images, one from its first weights for a few seconds, the other
# from weights of other images and twice as many views. λ of TV is the best on the validation images: edges
# within pixels are no noise, so that the discrepancy, which takes all misfit for noise, chooses too little.

# %%
if __name__ == "__main__":
    problem, truth = data.test
    short = {"steps": 60, "batch_size": 4, "validate_every": 60, "learning_rate": 1e-3, "average": None}
    chosen = float(TotalVariation().solve(data.validation[0]).weight.median())
    candidates = {f"{k}": TotalVariation(chosen * k) for k in (1, 3, 10, 30, 100)}
    tried = table(candidates, *data.validation, data_range=1.0, metrics=("psnr_db",))
    best = max(candidates, key=lambda k: sum(tried.values(k, "psnr_db")))
    methods = {
        "FBP": FBP(),
        "thresholded FBP": ThresholdedFBP(),
        "TV, λ by discrepancy": TotalVariation(),
        f"TV, λ {best} times that": candidates[best],
        "U-Net, 60 steps": FBPUNet(base=12, depth=3, **short).fit(data),
        "primal–dual, tuned 60 steps": LearnedPrimalDual.pretrained("ellipses-small").fine_tune(
            data, **short
        ),
    }
    print(found := table(methods, problem, truth, data_range=1.0))

    figure, axes = plt.subplots(1, len(methods) + 1, figsize=(17, 3.2), layout="constrained")
    one = Problem(problem.A, problem.y[0], problem.noise.select(0))
    shown = {"truth": truth[0]} | {name: method(one) for name, method in methods.items()}
    for axis, (name, x) in zip(axes, shown.items(), strict=True):
        axis.imshow(x, cmap="gray", vmin=0, vmax=0.8)
        score = f"\n{found.values(name, 'psnr_db')[0]:.1f} dB" if name != "truth" else ""
        axis.set(title=f"{name}{score}", xticks=[], yticks=[])
    figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "31_your_problem_and_method.png", dpi=110)
