# %% [markdown]
# # Filters and networks after filtered back projection
# What takes noise and streaks out of a reconstruction without looking at the data again: a Gaussian and a
# bilateral filter, BM3D, patches learned by heart and by regression, and a small RED-CNN, trained here in
# seconds on pieces of forty images. Total variation, which sees the data, stands beside them. All that learn
# have seen the same forty images, and none of those they are tested on. The outcome is sober: all stay within
# half a dB of the FBP they start from or fall below it, for BM3D is made for white noise and that of FBP is
# not, patches by heart are too few, so short a training gains little; and total variation wins.

# %%
import math
import sys
import time

import matplotlib.pyplot as plt

from operators import Gaussian, ParallelBeam
from recon import (
    BM3D,
    FBP,
    REDCNN,
    AnchoredRegression,
    Bilateral,
    GaussianFilter,
    PatchNearestNeighbours,
    TotalVariation,
    psnr,
    ssim,
)
from recon.data import SimulatedPairs
from recon.data.small import dival_images

# %% The scanner: 64², 60 views, noise of 10 % of the mean line integral
geometry = ParallelBeam(
    image_shape=(64, 64),
    pixel_size=1.0,
    angles=[(k + 0.5) * math.pi / 60 for k in range(60)],
    n_bins=93,
    bin_size=1.0,
)
data = SimulatedPairs(geometry, Gaussian(relative=0.1), dival_images(128), 2, 4, train_size=40)
problem, truth = data.test

# %% What learns, learns: pieces of 33² for the network, far fewer steps and channels than published
network = REDCNN(
    width=8, patch=33, steps=150, batch_size=4, learning_rate=2e-3, average=0.96, validate_every=150
)
methods = {
    "FBP, Hann": FBP(),
    "Gaussian filter": GaussianFilter(2.0),
    "bilateral filter": Bilateral(),
    "BM3D": BM3D(search=8),
    "patches, nearest": PatchNearestNeighbours(images=40, samples=4000),
    "patches, anchored": AnchoredRegression(images=40, samples=4000),
    "RED-CNN": network,
    "total variation": TotalVariation(iterations=100),
}
print("| method | PSNR [dB] | SSIM | learning [s] | 4 images [s] |\n|---|--:|--:|--:|--:|")
span = truth.amax((-2, -1)) - truth.amin((-2, -1))
images, levels = {}, {}
for name, method in methods.items():
    begun = time.perf_counter()
    method.fit(data)
    learned = time.perf_counter()
    x = images[name] = method(problem).detach()
    done = time.perf_counter()
    ratio = psnr(x, truth, data_range=span)
    levels[name] = float(ratio[0])
    print(
        f"| {name} | {float(ratio.mean()):.2f} | {float(ssim(x, truth, data_range=span).mean()):.3f} "
        f"| {learned - begun:.1f} | {done - learned:.2f} |"
    )

# %%
figure, axes = plt.subplots(3, 3, figsize=(9, 9.6), layout="constrained")
for axis, (name, shown) in zip(axes.flat, ({"truth": truth} | images).items(), strict=True):
    title = name if name == "truth" else f"{name}\n{levels[name]:.1f} dB"
    axis.imshow(shown[0], cmap="gray", vmin=0.0, vmax=1.0)
    axis.set(title=title, xticks=[], yticks=[])
figure.suptitle("60 views, 10 % noise; seconds of training: an illustration, not a ranking")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "27_postprocessing.png", dpi=110)
