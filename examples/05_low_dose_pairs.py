# %% [markdown]
# # Low-dose pairs with a dose that is known
# From tube current to photons per ray, a full-dose scan of a head, and its low-dose partner made in three
# ways: a second scan, noise put into the counts (Žabić), and noise put into the image alone, with a dose that
# is found from the noise in a scan of water.

# %%
import math
import sys

import matplotlib.pyplot as plt
import torch

from operators import (
    Bowtie,
    FanBeam,
    LowDose,
    XRay,
    attenuation_modulation,
    exposure,
    fbp,
    i0_for_sigma,
    insert_dose_into_image,
    insert_into_counts,
    photons_per_ray,
    region_sigma,
    sigma_hu,
    sigma_hu_water,
    to_hu,
)
from recon.data import example_head, simulate
from recon.data.ellipses import Ellipses, disc
from recon.data.simulation import simulate_ellipses

# %% A clinical fan beam of 180 views: 120 mAs, 0.6 mm slices, a head bowtie, current that follows the head
fine = example_head()
geometry = FanBeam(
    image_shape=(256, 256),
    pixel_size=0.862,
    angles=[2 * math.pi * k / 180 for k in range(180)],
    n_bins=368,
    bin_size=2.5716,
    source_to_centre=595.0,
    source_to_detector=1085.6,
    detector="arc",
)
A = XRay(geometry)
scout = XRay(geometry.refined((512, 512), 1))(fine)
i0 = photons_per_ray(
    geometry,
    mas=120.0,
    cell_height=1.1,
    efficiency=0.8,
    bowtie=Bowtie.flattening(diameter=180.0, source_to_centre=595.0),
    modulation=attenuation_modulation(scout, alpha=0.5),
)
full = LowDose(i0.float(), electronic_sigma=3.0, starvation="trimmed-mean")
spent = exposure(geometry, full)
print(f"I0 {spent.least:.3g} to {spent.most:.3g} photons per ray, {spent.per_cell:.3g} per cell and rotation")
print(f"FBP of 20 cm of water: {sigma_hu_water(geometry, LowDose(full.i0, 3.0)):.1f} HU")

# %% The full-dose scan, and a scan at a tenth of it
share = 0.1
problem, truth = simulate(fine, geometry, full, seed=0)
partner, _ = simulate(fine, geometry, full.scaled(share), seed=1)


def image(noise: LowDose, y: torch.Tensor) -> torch.Tensor:
    return to_hu(fbp(A, noise.linearise(y)))


high, low = image(full, problem.y), image(partner.noise, partner.y)

# %% The same from the full-dose counts
from_counts = image(full.scaled(share), insert_into_counts(problem.y, full, share, seed=2))

# %% The same from the full-dose image, with a dose found from the noise in a scan of 20 cm of water
water = Ellipses([disc(0.0206, 100.0)])
phantom, _ = simulate_ellipses(water, geometry, full, seed=5)
y, x = torch.meshgrid(torch.arange(256) - 127.5, torch.arange(256) - 127.5, indexing="ij")
middle = torch.hypot(x, y) < 40
sigma = float(region_sigma(image(full, phantom.y), middle))
clean = water.line_integrals(geometry)
found = i0_for_sigma(geometry, sigma, LowDose(i0 / i0.mean(), 3.0), clean, middle)
print(f"water has {sigma:.1f} HU of noise: {float(found.mean()):.3g} photons per ray, spent {spent.mean:.3g}")
calibrated = LowDose(found.float(), electronic_sigma=3.0)
from_image = insert_dose_into_image(high, A, calibrated, share, seed=3)
mask = torch.zeros(256, 256, dtype=torch.bool)
mask[112:144, 108:140] = True
expected = sigma_hu(A, LowDose(full.i0 * share, 3.0), A(truth).double(), mask)

# %%
noiseless, _ = simulate(fine, geometry, LowDose(1e12))
reference = image(noiseless.noise, noiseless.y)  # with the streaks that 180 views leave
panels = {
    "full dose": high,
    "a tenth, scanned": low,
    "a tenth, from counts": from_counts,
    "a tenth, from the image": from_image,
}
figure, axes = plt.subplots(2, 4, figsize=(15, 8), layout="constrained")
for column, (name, panel) in zip(axes.T, panels.items(), strict=True):
    sigma = float(region_sigma(panel - reference, mask))
    column[0].imshow(panel, cmap="gray", vmin=-60, vmax=140)
    column[0].set(title=f"{name}\n{sigma:.1f} HU of noise in the middle", xticks=[], yticks=[])
    spectrum = torch.fft.fftshift(torch.fft.fft2((panel - reference)[96:160, 96:160]).abs().log())
    column[1].imshow(spectrum, cmap="gray", vmin=4, vmax=11)
    column[1].set(title="log |DFT| of the middle's noise", xticks=[], yticks=[])
figure.suptitle(
    f"Head CT, FBP (Ram-Lak), window −60 to 140 HU; by propagation {expected:.1f} HU at a tenth of the dose"
)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "05_low_dose_pairs.png", dpi=110)
