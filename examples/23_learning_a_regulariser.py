# %% [markdown]
# # Learning a regulariser: first two numbers of it, then its filters
# Bilevel training: lower `‖x*(θ) − truth‖²` over the parameters θ of the prior, where
# `x*(θ) = argmin_x ½‖x − y‖²/σ² + R_θ(x)` is itself the end of an optimisation. The gradient comes from the
# optimality condition at x*, one linear equation, not from the iterations.

# %%
import sys

import matplotlib.pyplot as plt
import torch

from operators import Gaussian
from priors import HuberTV
from priors.tuned import Tuned
from recon import FBP, LearnedPriorReconstruction, TotalVariation, psnr
from recon.bilevel import BilevelConfig, LowerLevel, denoised, train_bilevel
from recon.data.sets import SimulatedPairs, selected
from recon.data.small import dival_images, ellipses_small_geometry

# %% Random ellipses on 32 × 32 pixels, 16 views, 5 % noise; and the images alone, of size 1
pairs = SimulatedPairs(
    ellipses_small_geometry(32, 16), Gaussian(relative=0.05), dival_images(64), 4, 8, train_size=48
)
clean = pairs.train[1] / pairs.train[1].amax()

# %% Weight λ and corner s of Huber's TV, `λ s² ∫ h(|∇x|/s)`, learned on images with noise of 0.1
prior, path = Tuned(HuberTV((32, 32), delta=0.1), weight=4.0, scale=0.5), []
lower = LowerLevel(iterations=300, tolerance=1e-3)
train_bilevel(
    prior,
    clean[:32],
    BilevelConfig(steps=25, batch_size=4, learning_rate=0.15, validate_every=25, warmup=0, lower=lower),
    callback=lambda progress: path.append((prior.weight, prior.scale)),
)

# %% Beside a grid, both scored on 16 other images
noise = 0.1 * torch.randn(clean[32:].shape, generator=torch.Generator().manual_seed(0))
weights, scales = 2.0 ** torch.arange(1.0, 7), 2.0 ** torch.arange(-3.0, 2)


def error(weight: float, scale: float) -> float:
    R = Tuned(HuberTV((32, 32), delta=0.1), weight, scale)
    with torch.no_grad():
        x = denoised(R, clean[32:] + noise, torch.full((len(noise),), 0.1), lower)
    return float((x - clean[32:]).square().mean())


errors = torch.tensor([[error(float(w), float(s)) for w in weights] for s in scales])
best = errors.argmin().item()
print(f"bilevel, 25 steps of 4 images: λ = {prior.weight:.2f}, s = {prior.scale:.2f}, "
      f"error {error(prior.weight, prior.scale):.5f}")  # fmt: skip
print(f"grid of {errors.numel()}, {len(noise)} images each: λ = {float(weights[best % len(weights)]):.2f}, "
      f"s = {float(scales[best // len(weights)]):.2f}, error {float(errors.min()):.5f}")  # fmt: skip

# %% The filters of a convex ridge regulariser, learned on clean images; λ and s on four pairs, TV's λ on them
method = LearnedPriorReconstruction(
    prior="crr", layers=(1, 4, 8), training="denoising", gradient="score",
    steps=100, learning_rate=0.03, batch_size=4, validate_every=100,
    iterations=120, tolerance=1e-3, fit_images=4, fit_solves=6,
).fit(pairs)  # fmt: skip
problem, truth = pairs.train
four = torch.arange(4)
practice, practice_truth = selected(problem, four), truth[four]


def quality(weight: float) -> float:
    x = TotalVariation(weight, 150)(practice)
    return float(psnr(x, practice_truth, data_range=1.0).mean())


weight = max((2.0 ** (k / 2) for k in range(-1, 9)), key=quality)

# %% Eight images that nobody has seen
problem, truth = pairs.test
images = {
    "FBP, Hann": FBP("hann")(problem),
    f"TV, λ = {weight:.2g}": TotalVariation(weight, 300)(problem),
    "convex ridges, learned": method(problem),
}
for name, x in images.items():
    print(f"{name:24s} {float(psnr(x, truth, data_range=1.0).mean()):.2f} dB")

# %%
figure, axes = plt.subplots(1, 5, figsize=(17, 4.2), layout="constrained")
axes[0].contourf(weights, scales, errors.log10(), 20)
axes[0].plot(*zip(*path, strict=True), ".-", color="white", label="bilevel training")
axes[0].set(xscale="log", yscale="log", xlabel="λ", ylabel="s", title="log₁₀ error of denoising")
axes[0].legend()
for axis, (name, x) in zip(axes[1:], {"truth": truth, **images}.items(), strict=True):
    axis.imshow(x[0], cmap="gray", vmin=0, vmax=float(truth[0].max()))
    axis.set(title=name, xticks=[], yticks=[])
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "23_learning_a_regulariser.png", dpi=80)
