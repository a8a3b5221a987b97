# %% [markdown]
# # One likelihood, seven priors
# `min_x ½ Σ (A x − y)²/variance + λ E(x)`: Markov fields, total variation and its generalisation, similar
# patches, a dictionary, and an image known before. λ is chosen from the residual alone: where it is whitest
# (for similar patches it is given: as free as their graph is, the residual tells little).

# %%
import math
import sys

import matplotlib.pyplot as plt
import torch

from operators import LowDose, ParallelBeam
from priors.dictionary import learn_dictionary
from recon import (
    FBP,
    PICCS,
    PWLSQGGMRF,
    DictionaryReconstruction,
    FBPNonLocalMeans,
    PWLSFair,
    PWLSNonLocalMeans,
    PWLSTotalVariation,
    TotalGeneralisedVariation,
    psnr,
)
from recon.data import random_head, simulate

# %% Two heads of 192 mm: one to scan, and of the other the dictionary; 2e4 photons a ray
n, views, h = 64, 90, 3.0
geometry = ParallelBeam((n, n), h, [math.pi * k / views for k in range(views)], 92, 3.0)
fine, other = (random_head(seed=s).rasterise((2 * n, 2 * n), h / 2).float() for s in (0, 1))
problem, truth = simulate(fine, geometry, LowDose(i0=2e4, electronic_sigma=3.0), seed=0)
peak = float(truth.max())

# %% An earlier scan at ten times the dose, before a bleed of 20 mm came: the prior image of PICCS
grid = (torch.arange(2 * n) - n + 0.5) * h / 2
bleed = 0.001 * (((grid[:, None] - 20) ** 2 + (grid[None] + 25) ** 2) < 10**2) * (fine > 0.01)
now, truth_now = simulate(fine + bleed, geometry, LowDose(i0=2e4, electronic_sigma=3.0), seed=1)
earlier = PWLSQGGMRF("whiteness", 30)(
    simulate(fine, geometry, LowDose(i0=2e5, electronic_sigma=3.0), seed=2)[0]
)

# %% q-GGMRF with c of 10 HU between neighbours; the dictionary of 6 × 6 patches knows no units
c = 10 / 1000 * 0.02 / h
dictionary = learn_dictionary(torch.nn.functional.avg_pool2d(other[None], 2)[0], 96, 6, 3, 8, 5000)
methods = {
    "FBP": FBP(),
    "FBP, then non-local means": FBPNonLocalMeans(),
    "PWLS, q-GGMRF": PWLSQGGMRF("whiteness", 30, c=c),
    "PWLS, Fair": PWLSFair("whiteness", 30, delta=c),
    "PWLS, TV": PWLSTotalVariation("whiteness", 60),
    "PWLS, TGV": TotalGeneralisedVariation("whiteness", 90, likelihood="weighted"),
    "PWLS, similar patches": PWLSNonLocalMeans(1e6, 30),
    "PWLS, dictionary": DictionaryReconstruction(dictionary, "whiteness", 10),
}
images = {name: method(problem) for name, method in methods.items()}
with_earlier, without = PICCS(earlier, "whiteness", 60)(now), PICCS(earlier, "whiteness", 60, alpha=0.0)(now)
for name, image in images.items():
    print(f"{name:26s} {float(psnr(image, truth, data_range=peak)):.2f} dB")
for name, image in {"PICCS": with_earlier, "TV, same data": without}.items():
    print(f"{name:26s} {float(psnr(image, truth_now, data_range=peak)):.2f} dB")

# %%
shown = {"truth": truth, **images, "truth with a bleed": truth_now, "PICCS": with_earlier, "TV": without}
figure, axes = plt.subplots(3, 4, figsize=(16, 12.5), layout="constrained")
for axis, (name, image) in zip(axes.flat, shown.items(), strict=True):
    axis.imshow(image, cmap="gray", vmin=0.0185, vmax=0.0225)
    if not name.startswith("truth"):
        reference = truth_now if name in ("PICCS", "TV") else truth
        name += f"\n{float(psnr(image, reference, data_range=peak)):.2f} dB"
    axis.set(title=name, xticks=[], yticks=[])
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "15_priors.png", dpi=80)
