# %% [markdown]
# # How sure is a reconstruction?
# Intervals of a network's image that hold 90 % of the truth, and samples of a posterior instead of one image.

# %%
import sys

import matplotlib.pyplot as plt
import torch

from priors import WienerDenoiser
from recon import Conformal, FBPUNet, MomentMatching, ParametricBootstrap, Problem
from recon.data.sets import selected
from recon.data.small import ellipses_small
from recon.diffusion import Levels
from recon.uncertainty import coverage

# %% Thirty images to calibrate on and ten to see what it is worth; the network was trained on others
data = ellipses_small()
data.test_size = 40
problem, truth = data.test
first, second = torch.arange(40).split(30)
unknown, answer = selected(problem, second), truth[second]

# %% The noise drawn again: how much of the image is noise. What the network invents, this cannot tell
network = ParametricBootstrap(FBPUNet.pretrained("ellipses-small"), 6)
raw = network.predict(unknown)
held = coverage(*raw.interval(0.9), answer)
print(f"bootstrap, 90 % intervals: hold {float(held.mean()):.1%} of the pixels")

# %% Calibrated: as wide as the errors on images like these ask for; promised for pixels and images together
calibrated = Conformal(network, 0.9).calibrate([(selected(problem, first), truth[first])])
lower, upper = calibrated.interval(unknown)
held = coverage(lower, upper, answer)
print(
    f"conformal: hold {float(held.mean()):.1%}, the worst image {float(held.min()):.1%}; "
    f"{float((upper - lower).mean()):.3f} wide in the mean"
)

# %% The simplest diffusion prior: Gaussian, with the mean and the spectrum of other images. `DiffusionPrior`
# and `train_diffusion` learn a better one; the samplers are the same
images = data.train[1]
mean = images.mean(0)
power = torch.fft.fft2(images - mean, norm="ortho").abs().square().mean(0)
power = (power + power.flip(0, 1).roll((1, 1), (0, 1))) / 2
prior = WienerDenoiser(mean, power)
one = Problem(problem.A, unknown.y[:1], unknown.noise.select(slice(0, 1)))
sampler = MomentMatching(prior, steps=30, iterations=5, samples=6, levels=Levels(10.0, 0.005), positive=False)
samples = sampler.sample(one)[:, 0]
misfit = ((problem.A(samples) - one.y) / one.variance.sqrt()).square().mean()
print(
    f"posterior samples: {sampler.evaluations} calls of D each; misfit {float(misfit):.2f}, 1 is the noise's"
)

# %%
shown = {
    "truth": (answer[0], None),
    "FBP + U-Net": (raw.mean[0], None),
    "its error": ((raw.mean[0] - answer[0]).abs(), 0.15),
    "spread of the bootstrap": (raw.spread[0], 0.15),
    "half width of 90 %": ((upper - lower)[0] / 2, 0.15),
    "Gaussian posterior: mean": (samples.mean(0), None),
    "a sample": (samples[0], None),
    "another": (samples[1], None),
    "error of the mean": ((samples.mean(0) - answer[0]).abs(), 0.3),
    "spread of the samples": (samples.std(0), 0.3),
}
figure, axes = plt.subplots(2, 5, figsize=(13, 5.6), layout="constrained")
for axis, (title, (image, top)) in zip(axes.flat, shown.items(), strict=True):
    axis.imshow(image, cmap="gray" if top is None else "magma", vmin=0, vmax=1 if top is None else top)
    axis.set(title=title, xticks=[], yticks=[])
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "25_posterior_and_uncertainty.png", dpi=120)
