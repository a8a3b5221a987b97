# %% [markdown]
# # One likelihood, seven priors
# `min_x ½ Σ (A x − y)²/variance + λ E(x)`: Markov fields, total variation and its generalisation, similar
# patches, a dictionary, and an image known before. λ is that of the highest PSNR on another head; every
# method also takes λ=None, "whiteness" and others, which need no truth.

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
before, _ = simulate(fine, geometry, LowDose(i0=2e5, electronic_sigma=3.0), seed=2)
earlier = PWLSTotalVariation(500.0, 100)(before)

# %% λ and the dictionary of 6 × 6 patches come from the other head; c of 10 HU between neighbours
practice, practice_truth = simulate(other, geometry, LowDose(i0=2e4, electronic_sigma=3.0), seed=3)
dictionary = learn_dictionary(practice_truth, 96, 6, 3, 8, 5000)
c = 10 / 1000 * 0.02 / h
families = {
    "PWLS, q-GGMRF": lambda w: PWLSQGGMRF(w, 30, c=c),
    "PWLS, Fair": lambda w: PWLSFair(w, 30, delta=c),
    "PWLS, TV": lambda w: PWLSTotalVariation(w, 80),
    "PWLS, TGV": lambda w: TotalGeneralisedVariation(w, 100, likelihood="weighted"),
    "PWLS, similar patches": lambda w: PWLSNonLocalMeans(3e3 * w, 30),
    "PWLS, dictionary": lambda w: DictionaryReconstruction(dictionary, 3e3 * w, 15),
}


def tuned(make):
    """The method with the better of two λ on the other head."""
    return max(
        (make(w) for w in (150.0, 450.0)),
        key=lambda m: float(psnr(m(practice), practice_truth, data_range=peak)),
    )


images = {"FBP": FBP()(problem), "FBP, then non-local means": FBPNonLocalMeans()(problem)}
images |= {name: tuned(make)(problem) for name, make in families.items()}
with_earlier, without = (PICCS(earlier, 150.0, 100, alpha=a)(now) for a in (0.5, 0.0))
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
