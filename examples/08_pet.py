# %% [markdown]
# # PET: attenuation, randoms, few counts
# `y ~ Poisson(s n e^(−∫μ) ∫x + b)`, reconstructed by filtered back projection of corrected counts, by OSEM,
# stopped where the residual is that of the noise, and by the Poisson likelihood with total variation.

# %%
import math
import sys

import matplotlib.pyplot as plt
import torch

from operators import Emission, ParallelBeam, Poisson, XRay
from operators.insertion import thin_counts
from recon import MLEM, OSEM, EmissionFBP, Problem, TotalVariation, nrmse
from recon.data import Ellipse, Ellipses

# %% A body of 280 mm with hot and cold lesions; water at 511 keV
views, water = 96, 0.0096  # [1/mm]
geometry = ParallelBeam((96, 96), 4.0, [math.pi * k / views for k in range(views)], 120, 3.2)
body = Ellipse(1.0, (140.0, 100.0), (0.0, 0.0))
lesions = [
    Ellipse(3.0, (14.0, 14.0), (60.0, 20.0)),
    Ellipse(3.0, (8.0, 8.0), (-50.0, -40.0)),
    Ellipse(-0.8, (20.0, 14.0), (-40.0, 35.0)),
]
activity = Ellipses([body, *lesions]).rasterise((96, 96), 4.0, 8).float()
attenuation = water * Ellipses([body]).rasterise((96, 96), 4.0, 8).float()

# %% A third of the prompts are randoms and scatter, detectors differ; a tenth of the time by thinning
efficiency = 1 + 0.1 * torch.randn(1, 120, generator=torch.Generator().manual_seed(0))
A = Emission(XRay(geometry), attenuation, efficiency)
trues = A(activity)
scale = 1e6 / float(trues.sum())
full = Poisson(scale=scale, background=0.5 * scale * float(trues.mean()))
counts = full(trues, seed=1)
problems = {
    "1e6 trues": Problem(A, counts, full),
    "1e5 trues": Problem(A, thin_counts(counts, 0.1), Poisson(0.1 * full.scale, 0.1 * full.background)),
}

# %%
figure, axes = plt.subplots(2, 5, figsize=(16, 6.4), layout="constrained")
for row, (time, problem) in zip(axes, problems.items(), strict=True):
    images = {
        time: activity,
        "FBP, Hann": EmissionFBP()(problem),
        "OSEM, stopped at the noise": OSEM(subsets=8)(problem),
        "MLEM 40, 8 mm filter": MLEM(iterations=40, fwhm=8.0)(problem),
        "Poisson likelihood, TV": TotalVariation(likelihood="poisson")(problem),
    }
    for axis, (name, image) in zip(row, images.items(), strict=True):
        axis.imshow(image, cmap="gray_r", vmin=0, vmax=4)
        if image is not activity:
            name += f"\nNRMSE {float(nrmse(image, activity)):.3f}"
        axis.set(title=name, xticks=[], yticks=[])
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "08_pet.png", dpi=100)
