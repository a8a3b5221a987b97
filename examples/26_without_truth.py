# %% [markdown]
# # Learning from noisy sinograms alone
# Forty-eight noisy scans of which nobody has the image. Noise2Inverse trains a small U-Net behind filtered
# back projection: from three quarters of the views it predicts the reconstruction of the others, whose
# noise is their own, so that noise cannot be learned. No method sees a truth; that of one more scan serves
# to look at. So short a training gains over the FBP it starts from, and does not reach TV.

# %%
import math
import sys

import matplotlib.pyplot as plt
import torch

from operators import Gaussian, ParallelBeam
from recon import FBP, Noise2Inverse, TotalVariation, psnr
from recon.data import Measurements, SimulatedPairs
from recon.data.small import dival_images

# %% The scanner: 48², 96 views, noise of 20 % of the mean line integral; scans as they would come from it
geometry = ParallelBeam(
    image_shape=(48, 48),
    pixel_size=1.0,
    angles=[(k + 0.5) * math.pi / 96 for k in range(96)],
    n_bins=71,
    bin_size=1.0,
)
scanner = SimulatedPairs(geometry, Gaussian(relative=0.2), dival_images(96), validation_size=8, train_size=48)
scans = Measurements.of(scanner.train[0], scanner.validation[0], name="48 scans without truth")

# %% Training; how it goes is told by views predicted from the others, again without truth
method = Noise2Inverse(
    settings={"base": 12, "depth": 3, "filter": "ram-lak"},
    steps=200,
    batch_size=4,
    learning_rate=3e-3,
    average=0.97,
    validate_every=50,
)
curve: list[tuple[int, float]] = []
method.fit(scans, callback=lambda progress: curve.__setitem__(slice(None), progress.scores))
print("views predicted [dB]: " + ", ".join(f"{value:.2f} after {step}" for step, value in curve))

# %% Beside methods without training; λ of TV by the discrepancy
problem, truths = scanner.pairs([2**30])
truth = truths[0]
methods = {
    "FBP, Ram-Lak": FBP(filter="ram-lak"),
    "FBP, Hann": FBP(filter="hann"),
    "total variation": TotalVariation(),
    "Noise2Inverse": method,
}
images = {name: one(problem)[0] for name, one in methods.items()}
span = float(truth.max() - truth.min())
for name, image in images.items():
    print(f"{name}: {float(psnr(image, truth, data_range=span)):.2f} dB")

# %%
figure, axes = plt.subplots(1, 5, figsize=(15, 4.2), layout="constrained")
for axis, (name, image) in zip(axes, ({"truth": truth} | images).items(), strict=True):
    title = name if name == "truth" else f"{name}\n{float(psnr(image, truth, data_range=span)):.1f} dB"
    axis.imshow(torch.as_tensor(image).detach(), cmap="gray", vmin=0.0, vmax=1.0)
    axis.set(title=title, xticks=[], yticks=[])
figure.suptitle("96 views, 20 % noise; one image: an illustration, not a ranking")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "26_without_truth.png", dpi=120)
