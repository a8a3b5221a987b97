# %% [markdown]
# # Image quality as physicists measure it
# Noise power spectrum, task transfer function and a model observer's AUC of FBP and total variation, from 16
# repeats of one low-dose scan. A non-linear method has other numbers for every contrast and dose.

# %%
import math
import sys

import matplotlib.pyplot as plt
import torch

from operators import LowDose, ParallelBeam, XRay, to_hu
from recon import FBP, Problem, TotalVariation
from recon.data import low_contrast_phantom
from recon.data.low_contrast import MU_WATER, ring
from recon.metrics import channelised_hotelling, cut, laguerre_gauss, noise_power_spectrum, task_transfer

# %% Water with a soft rim, an insert of 200 HU for sharpness, and eight discs of 6 mm and 20 HU to be found
size, h, repeats = 80, 1.8, 16
angles = [math.pi * k / 60 for k in range(60)]
geometry = ParallelBeam((size, size), h, angles, n_bins=80, bin_size=1.8)
places = ring(8, 50.0, pixel_size=h)
insert = (30.0, 200.0, (0.0, 0.0))
discs = [(6.0, 20.0, place) for place in places]
noise = LowDose(i0=3e4)


def scans(inserts, seed):
    phantom = low_contrast_phantom(inserts, diameter=140.0, rim=10.0)
    # four rays a bin, averaged in intensity as a detector does
    rays = phantom.line_integrals(geometry.refined((size, size), 4)).float()
    clean = noise.average(rays.unflatten(-1, (-1, 4))).expand(repeats, -1, -1).contiguous()
    return Problem(XRay(geometry), noise(clean, seed=seed), noise)


absent, present = scans([insert], seed=1), scans([insert, *discs], seed=2)

# %% Both methods, the same scans
methods = {"FBP, Hann": FBP(), "total variation": TotalVariation(weight=300.0, iterations=40)}
figure, axes = plt.subplots(2, 3, figsize=(13, 8), layout="constrained")
for k, (name, method) in enumerate(methods.items()):
    without, with_discs = (to_hu(method(p), MU_WATER) for p in (absent, present))
    axes[k, 0].imshow(with_discs[0], cmap="gray", vmin=-80, vmax=80)
    axes[k, 0].set(title=f"{name}, −80 … 80 HU", xticks=[], yticks=[])

    # noise: the mean of all repeats is what is not noise
    regions = cut(without, places, 15, h)
    power = noise_power_spectrum(regions, h, detrend="repeats")
    radial = power.radial()
    label = f"{name}: {math.sqrt(power.variance):.1f} HU, f_av {radial.mean_frequency:.2f}/mm"
    axes[0, 1].errorbar(radial.frequency, radial.nps, radial.error, label=label)

    # sharpness: the edge of the insert
    transfer = task_transfer(without, h, centre=(0.0, 0.0), radius=15.0)
    label = f"{name}: f50 {transfer.f50:.2f}/mm"
    axes[1, 1].plot(transfer.frequency, transfer.transfer, label=label)

    # detection: regions of one scan stay together
    scan = torch.arange(repeats).repeat_interleave(len(places))
    seen = channelised_hotelling(
        regions.flatten(0, 1),
        cut(with_discs, places, 15, h).flatten(0, 1),
        laguerre_gauss((15, 15), h, width=9.0),
        groups=(scan, scan + repeats),
    )
    axes[0, 2].errorbar([k], [seen.auc], [seen.auc_error], marker="o", capsize=6)

# %%
axes[0, 1].set(title="noise power spectrum [HU² mm²], ± SE", xlabel="frequency [1/mm]")
axes[1, 1].set(title="task transfer function, 200 HU edge", xlabel="frequency [1/mm]")
axes[0, 2].set(title="AUC ± SE, 6 mm, 20 HU", ylim=(0.5, 1.02), xlim=(-0.5, 1.5))
axes[0, 2].set_xticks([0, 1], list(methods))
for axis in (axes[0, 1], axes[1, 1]):
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
axes[1, 2].axis("off")
axes[1, 2].text(
    0, 0.95,
    f"{repeats} scans without and {repeats} with discs at 8 places,\n{noise.i0:g} photons a ray, 60 views.\n"
    "Channelised Hotelling observer, 5 Laguerre–Gauss\nchannels, half of the scans for training, 10 splits.",
    va="top",
)  # fmt: skip
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "10_image_quality.png", dpi=110)
