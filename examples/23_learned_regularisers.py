# %% [markdown]
# # A convex prior learned on clean images, then used for CT
# `min_x ½‖Ax − y‖²/σ² + λ s² R(x/s)`, x ≥ 0: R is a convex ridge regulariser, a few filters under learned
# profiles. It learns what noise looks like from clean images alone, no scanner needed; only λ and s are then
# fitted, on five pairs, and TV's λ on the same five.

# %%
import sys

import matplotlib.pyplot as plt
import torch

from operators import Gaussian
from recon import FBP, LearnedPriorReconstruction, TotalVariation, psnr
from recon.data.sets import SimulatedPairs, selected
from recon.data.small import dival_images, ellipses_small_geometry

# %% Random ellipses on 32 × 32 pixels, 16 views, 5 % noise
pairs = SimulatedPairs(
    ellipses_small_geometry(32, 16), Gaussian(relative=0.05), dival_images(64), 4, 16, train_size=48
)

# %% Learn to denoise: x ≈ y − σ²∇R(y), y = x + noise of 0.1
method = LearnedPriorReconstruction(
    prior="crr", layers=(1, 4, 8), training="denoising", gradient="score",
    steps=250, learning_rate=0.02, batch_size=8, validate_every=250,
    iterations=300, tolerance=1e-3, fit_images=5, fit_solves=14,
).fit(pairs)  # fmt: skip
print(f"λ = {method.record['weight']:.3g}, s = {method.record['scale']:.3g}, {method.record['fitted']}")

# %% TV, its λ tuned on the same five pairs
problem, truth = pairs.train
five = torch.arange(5)
practice, practice_truth = selected(problem, five), truth[five]


def quality(weight: float) -> float:
    x = TotalVariation(weight, 150)(practice)
    return float(psnr(x, practice_truth, data_range=1.0).mean())


weight = max((2.0 ** (k / 2) for k in range(-3, 6)), key=quality)

# %% Sixteen images that nobody has seen
problem, truth = pairs.test
images = {
    "FBP, Hann": FBP("hann")(problem),
    f"TV, λ = {weight:.2g}": TotalVariation(weight, 300)(problem),
    "convex ridges, learned": method(problem),
}
quality_of = {name: psnr(x, truth, data_range=1.0).mean() for name, x in images.items()}
for name, value in quality_of.items():
    print(f"{name:24s} {float(value):.2f} dB")
found = method.solve(problem)
worst = float(found.last.residual.max())
print(f"nmAPG: {int(found.iterations.max())} iterations at most, relative residual ≤ {worst:.1e}")

# %%
figure, axes = plt.subplots(2, 4, figsize=(14, 7.5), layout="constrained")
for row, k in zip(axes, (0, 3), strict=True):
    for axis, (name, x) in zip(row, {"truth": truth, **images}.items(), strict=True):
        axis.imshow(x[k], cmap="gray", vmin=0, vmax=float(truth[k].max()))
        axis.set(title=name, xticks=[], yticks=[])
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "23_learned_regularisers.png", dpi=80)
