# %% [markdown]
# # Beam hardening, and three ways out of it
# A tube emits many energies, and matter takes the soft ones first: the more a ray has passed, the less is
# attenuated per millimetre, and `p = −ln Σ_k w_k exp(−Σ_m μ_m(E_k) L_m)` is not the line integral that FBP
# takes it for. A polynomial mends water, a second pass mends bone, and a reconstruction with the right
# forward model needs neither. Scan, correction and model split the image into water and bone alike here; real
# bone differs. Needs the `physics` extra (spekpy, xraydb).

# %%
import math
import sys

import matplotlib.pyplot as plt
import torch

from operators import (
    Beam,
    EnergyIntegrating,
    FanBeam,
    Polyenergetic,
    XRay,
    bone_correction,
    fbp,
    to_attenuation,
    to_hu,
    tube_spectrum,
    water_correction,
)
from priors import HuberTV, NonNegative
from recon import run
from recon.data import example_head
from recon.data.simulation import averaged
from recon.fidelity import PWLS
from recon.solvers import Misfit, gradient_descent

# %% A tube at 120 kVp in twenty energies; images are attenuation at its reference energy
spectrum = tube_spectrum(120, filters=[("Al", 4.0)])
beam = Beam.of(spectrum.binned(20), materials=("water", "bone"))
mu_water = beam.mu_reference[0]
hvl = spectrum.hvl("Al")
title = f"120 kVp, half-value layer {hvl:.1f} mm Al, reference {beam.reference:.0f} keV"

# %% A head, scanned on a grid twice as fine as ours by a detector that adds up energies
fine = to_attenuation(to_hu(example_head(), 0.0206), mu_water)
angles = [2 * math.pi * k / 360 for k in range(360)]
geometry = FanBeam((192, 192), 1.1493, angles, 736, 1.2858, 595.0, 1085.6, detector="arc")
scan = Polyenergetic(XRay(geometry.refined((512, 512), 1)), beam)
noise = EnergyIntegrating(beam, i0=2e6, electronic_sigma=3.0, correct=False)
y = noise.expose(scan.paths(fine), seed=0)
truth = averaged(fine, geometry.image_shape)

# %% Filtered back projection of the data as they are, with water corrected, with bone corrected
A = XRay(geometry)
p = noise.linearise(y)
water = water_correction(beam)
corrected = bone_correction(A, p, beam, water)
images = {
    "as it is": fbp(A, p, "hann"),
    "water corrected": fbp(A, water(p), "hann"),
    "bone corrected": fbp(A, corrected, "hann"),
}

# %% The polyenergetic model itself in an objective: weighted least squares and a smoothed total variation
P = Polyenergetic(A, beam)
data_term = Misfit(PWLS(p, noise.variance(y)), P)
prior = HuberTV(geometry.image_shape, geometry.pixel_size, delta=1e-3, weight=3000.0)
start = images["bone corrected"].clamp(min=0)
images["polyenergetic model"] = run(gradient_descent(data_term + prior, start, g=NonNegative()), 40)

# %% Against what photons of the reference energy alone would have given, in soft tissue off the bone
ideal = to_hu(fbp(A, scan.A(fine), "hann"), mu_water)
hu = to_hu(truth, mu_water)
hard = ((hu > 200) | (hu < -50)).float()[None]
tissue = torch.nn.functional.max_pool2d(hard, 9, stride=1, padding=4)[0] == 0

figure, axes = plt.subplots(2, 4, figsize=(15, 8.4), layout="constrained")
for (above, below), (name, image) in zip(axes.T, images.items(), strict=True):
    shown = to_hu(image, mu_water)
    error = shown - ideal
    above.imshow(shown, cmap="gray", vmin=-30, vmax=110)
    map_ = below.imshow(error, cmap="RdBu_r", vmin=-60, vmax=60)
    rms = float(error[tissue].square().mean().sqrt())
    above.set(title=name, xticks=[], yticks=[])
    below.set(title=f"RMS in soft tissue {rms:.1f} HU", xticks=[], yticks=[])
figure.colorbar(map_, ax=axes[1], label="HU away from one energy")
figure.suptitle(f"{title}; −30 to 110 HU")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "06_beam_hardening.png", dpi=100)
