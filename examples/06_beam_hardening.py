# %% [markdown]
# # Beam hardening, and three ways out of it
# A tube emits many energies, and matter takes the soft ones first: the more a ray has passed, the less is
# attenuated per millimetre, and `p = −ln Σ_k w_k exp(−Σ_m μ_m(E_k) L_m)` is not the line integral that FBP
# takes it for. A polynomial mends water, a second pass mends bone, and a reconstruction with the right forward
# model needs neither. Needs the `physics` extra (spekpy, xraydb).

# %%
import math
import sys

import matplotlib.pyplot as plt

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
geometry = FanBeam((256, 256), 0.862, angles, 368, 2.5716, 595.0, 1085.6, detector="arc")
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
images["polyenergetic model"] = run(gradient_descent(data_term + prior, start, g=NonNegative()), 25)

# %%
brain = (to_hu(truth, mu_water) > 0) & (to_hu(truth, mu_water) < 80)
figure, axes = plt.subplots(1, 4, figsize=(16, 4.8), layout="constrained")
for axis, (name, image) in zip(axes, images.items(), strict=True):
    error = (to_hu(image, mu_water) - to_hu(truth, mu_water))[brain]
    bias, spread = float(error.mean()), float(error.std())
    axis.imshow(to_hu(image, mu_water), cmap="gray", vmin=-60, vmax=140)
    axis.set(title=f"{name}\nerror in the brain {bias:+.0f} ± {spread:.0f} HU", xticks=[], yticks=[])
figure.suptitle(f"{title}; −60 to 140 HU")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "06_beam_hardening.png", dpi=120)
