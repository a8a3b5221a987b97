# %% [markdown]
# # An MRI problem of your own, with three methods compared on it
# Poisson-disc sampling, eight coils, synthetic brains with exact k-space. λ is tuned on one brain, with the
# same number of trials for every method; the scores are of two others. In a file with `task()` the same Task
# serves `recon compare --problem my_problem.py`; the built-in ones are mri-4x, mri-8x and mri-radial.

# %%
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from operators import poisson_disc
from recon import CGSENSE, TotalVariation, ZeroFilled
from recon.comparison import Log, Method, Run, Task, Window, compare, tune
from recon.data import MRScans

# %% The scanner: 80 × 80 pixels of 2.75 mm, a sixth of k-space with a full middle
grid, h = (80, 80), 2.75
mask = poisson_disc(grid, 6, calibration=12, seed=0)
scanner = MRScans(grid, h, mask, snr=20.0)


def pairs(split):
    for seed in range(2) if split == "test" else range(100, 101):
        yield scanner.pair(scanner.objects(seed), seed)


task = Task(
    name="brains-6x",
    title="Synthetic brains, Poisson disc",
    pairs=pairs,
    metrics=("psnr_db", "ssim", "nmse"),
    data_range=1.0,  # every truth has maximum 1
    view=torch.abs,  # images are complex, judged by their magnitude
    pixel_size=h,
    windows=(Window("full", 0, 1),),
    configuration={"mask": mask, "snr": scanner.snr, "grid": grid},
)

# %% The methods, and where their parameters are searched
fast = {"iterations": 40, "algorithm": "admm"}
methods = {
    "zero-filled": Method(ZeroFilled),
    "cg-sense": Method(CGSENSE, space={"weight": Log(1.0, 100.0)}),
    "total-variation": Method(TotalVariation, space={"weight": Log(1.0, 30.0)}, fixed=fast),
}
validation = task.images("validation")
found = {}
for name, method in methods.items():
    search = tune(task, method, validation, 6, 0, 60.0) if method.space else iter(())
    while True:
        try:
            next(search)
        except StopIteration as end:
            found[name] = end.value.parameters if method.space else {}
            break
    print(f"{name}: {found[name]}")

# %% One row per method and image, in a folder that also takes the report (`recon.comparison.write_report`)
scores = {name: [] for name in methods}
with tempfile.TemporaryDirectory() as folder:
    runs = [Run(task, name, method, found[name]) for name, method in methods.items()]
    for row in compare(runs, Path(folder)):
        scores[row.method].append(row.scores["psnr_db"])
        print(f"{row.method}, image {row.image}: {row.scores['psnr_db']:.2f} dB in {row.seconds:.2f} s")

# %%
problem, truth = task.images("test")[0]
images = {"truth": truth} | {name: m.build(task.name, **found[name])(problem) for name, m in methods.items()}
figure, axes = plt.subplots(1, 4, figsize=(13, 4.3), layout="constrained")
for axis, (name, image) in zip(axes, images.items(), strict=True):
    axis.imshow(image.abs(), cmap="gray", vmin=0.0, vmax=1.0)
    mean = "" if name == "truth" else f"\n{sum(scores[name]) / len(scores[name]):.1f} dB, mean of two brains"
    axis.set(title=name + mean, xticks=[], yticks=[])
figure.suptitle(f"{mask.numel() / int(mask.sum()):.1f}-fold undersampling, 8 coils; magnitudes from 0 to 1")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "20_mri_comparison.png", dpi=120)
