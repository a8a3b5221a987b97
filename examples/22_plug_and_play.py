# %% [markdown]
# # Plug and play: one small denoiser, CT and MRI
# A network learns to remove white noise from random ellipses, knowing nothing of scanners. Then it stands in
# for the prior: PnP-ADMM, PnP-FISTA and RED, for 30 views of CT and for four-fold undersampled MRI. A
# denoiser trained for seconds is no match for one trained for days; total variation is the bar.

# %%
import sys

import matplotlib.pyplot as plt
import torch

from operators import Gaussian, Sense, random_mask
from priors import NetworkDenoiser
from priors.networks.drunet import DRUNet
from priors.networks.seeds import seeded
from recon import FBP, RED, PlugAndPlay, Problem, TotalVariation, ZeroFilled, psnr
from recon.data.small import dival_images, ellipses_small
from recon.denoising import CleanImages, DenoisingConfig, train_denoiser

# %% Twenty seconds of denoising; `checkpoint=` would let a longer training be killed and resumed
with seeded(0):
    denoiser = NetworkDenoiser(DRUNet(widths=(12, 24, 48), blocks=1))
images = CleanImages(dival_images(64)(range(100, 164)), patch=32)
config = DenoisingConfig(steps=150, batch_size=8, learning_rate=4e-3, lowest=0.01, highest=0.2)
progress = train_denoiser(denoiser, images, config, minutes=1 / 3)
print(f"{progress.step} steps: {progress.scores[-1][1]:.2f} dB at σ = {(0.01 + 0.2) / 2:.3f}, 19.58 dB noisy")

# %% CT: 64² from 30 views, noise of 5 % of the mean line integral. MRI: one coil, a quarter of the lines
ct, truth = ellipses_small().pairs([3])
mask = random_mask(64, 4, 0.12, seed=1)
A = Sense(mask, shape=(64, 64))
full = A(truth[0].to(torch.complex64))
law = Gaussian(sigma=0.02, data_ndim=2, mask=A.sampled)
mri = Problem(A, law(full, seed=5), law)
ct = Problem(ct.A, ct.y[0], ct.noise.select(0))
truth = truth[0]

# %% The same three methods for both; λ = 1 is Bayes' rule, and a few others show what it does
peak = float(truth.max())


def score(x):
    return float(psnr(x.abs(), truth, data_range=peak))


shown = {"truth": truth}
for name, problem, direct in (("CT", ct, FBP(filter="hann")), ("MRI", mri, ZeroFilled())):
    sigma = 0.05
    methods = {
        "direct": direct,
        "TV": TotalVariation(),
        "PnP-ADMM": PlugAndPlay(denoiser, 1.0, 30, sigma=sigma),
        "PnP-FISTA": PlugAndPlay(denoiser, 1.0, 60, algorithm="fista"),
        "RED": RED(denoiser, 1.0, 30, sigma=sigma),
    }
    for label, method in methods.items():
        x = method(problem)
        shown[f"{name}, {label}"] = x.abs()
        print(f"{name:4s}{label:10s} {score(x):.2f} dB")

# %%
figure, axes = plt.subplots(2, 6, figsize=(18, 6.6), layout="constrained")
for axis in axes.flat:
    axis.axis("off")
pictures = list(shown.items())
for row, group in enumerate((pictures[1:6], pictures[6:])):
    for axis, (name, image) in zip(axes[row], [pictures[0], *group], strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=peak)
        axis.set_title(name if name == "truth" else f"{name}, {score(image):.2f} dB")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "22_plug_and_play.png", dpi=70)
