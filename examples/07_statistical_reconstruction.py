# %% [markdown]
# # Statistical reconstruction: what the counts know, and who chooses λ
# `min_x −ln p(y | A x) + λ E(x)` at a dose where some rays count a handful of photons. The likelihood says
# how far a ray is to be trusted; λ is chosen from the residual alone; ordered subsets are near in ten passes.

# %%
import math
import sys

import matplotlib.pyplot as plt
import torch

from operators import LowDose, ParallelBeam
from recon import FBP, PWLSHuber, PWLSTotalVariation, SinogramDenoisedFBP, TotalVariation, psnr
from recon.data import shepp_logan, simulate
from recon.variational import OSSQS

# %% A head of 192 mm; 3000 photons a ray, 5 counts of electronic noise, a scatter of 2
views = 90
geometry = ParallelBeam((96, 96), 2.0, [math.pi * (k + 0.5) / views for k in range(views)], 144, 1.4)
fine = shepp_logan((192, 192), scale=0.03).float()
noise = LowDose(i0=3000.0, electronic_sigma=5.0, background=2.0)
problem, truth = simulate(fine, geometry, noise, seed=0)
peak = float(truth.max())

# %% Projections denoised by their variance, then FBP; then three likelihoods, λ where the residual is whitest
images = {
    "truth": truth,
    "FBP, Ram-Lak": FBP("ram-lak")(problem),
    "bilateral, then FBP": SinogramDenoisedFBP("bilateral")(problem),
    "TV, one variance": TotalVariation("whiteness")(problem),
    "TV, PWLS": PWLSTotalVariation("whiteness")(problem),
    "TV, shifted Poisson": TotalVariation("whiteness", likelihood="shifted-poisson")(problem),
}

# %% λ by four criteria: none has seen the truth
chosen = {
    name: PWLSTotalVariation(weight=name).solve(problem)
    for name in ("discrepancy", "gcv", "sure", "whiteness")
}
curve = [
    (w, float(psnr(PWLSTotalVariation(weight=w)(problem), truth, data_range=peak)))
    for w in (10, 40, 160, 640, 2560)
]

# %% Ten passes of ordered subsets, with and without momentum, towards the minimum
weight, far = 80.0, {}
best = PWLSHuber(weight, iterations=150, tolerance=1e-6)(problem)
for name, method in {
    "1 subset, momentum": PWLSHuber(weight, 15, 0.0, subsets=1),
    "12 subsets": PWLSHuber(weight, 15, 0.0, subsets=12, momentum=False),
    "12 subsets, momentum": PWLSHuber(weight, 15, 0.0, subsets=12),
}.items():
    seen: list[float] = []
    method.solve(
        problem,
        callback=lambda k, it, seen=seen: seen.append(float((it.x - best).norm() / best.norm())),
    )
    far[name] = seen
likely = OSSQS(weight, likelihood="shifted-poisson")(problem)
print(f"shifted Poisson by OS-SQS: {float(psnr(likely, truth, data_range=peak)):.2f} dB")

# %%
figure, axes = plt.subplots(2, 4, figsize=(16, 8), layout="constrained")
for axis, (name, image) in zip(axes.flat, images.items(), strict=False):
    axis.imshow(image, cmap="gray", vmin=0, vmax=0.4 * peak)
    if name != "truth":
        name += f"\n{float(psnr(image, truth, data_range=peak)):.2f} dB"
    axis.set(title=name, xticks=[], yticks=[])
axes[1, 2].semilogx(*zip(*curve, strict=True), "k.-", label="given λ")
for name, found in chosen.items():
    axes[1, 2].plot(float(found.weight), float(psnr(found.x, truth, data_range=peak)), "o", label=name)
axes[1, 2].set(title="TV, PWLS: who chooses λ", xlabel="λ", ylabel="PSNR [dB]")
axes[1, 2].legend()
for name, seen in far.items():
    axes[1, 3].semilogy(torch.arange(len(seen)), seen, label=name)
axes[1, 3].set(title="distance from the minimiser", xlabel="passes over the views")
axes[1, 3].legend()
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "07_statistical_reconstruction.png", dpi=100)
