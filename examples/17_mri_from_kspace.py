# %% [markdown]
# # From k-space to compared reconstructions
# A synthetic brain whose k-space no FFT made, eight coils, a quarter of the lines. What every
# method is compared with, and sparse methods of one objective, ½‖(A x − y)/σ‖² + λ E(x), with λ chosen by the
# noise, or from the scale of k-space alone, which needs no σ and follows the data whatever their units.

# %%
import sys
import time

import matplotlib.pyplot as plt

from operators import Gaussian, random_mask
from priors import TV, WaveletL1
from recon import (
    CGSENSE,
    CentreScaled,
    Problem,
    RootSumOfSquares,
    TotalVariation,
    VariationalReconstruction,
    WaveletReconstruction,
    ZeroFilled,
    estimate_sigma,
    kspace_scale,
    psnr,
)
from recon.data import coil_fields, random_brain, random_phase, simulate_mri

# %% The scan: 96 × 96 pixels of 2.3 mm, a quarter of the lines and the middle
n, h = 96, 220 / 96
lines = random_mask(n, 4, seed=0)
problem, truth = simulate_mri(
    random_brain(3, "t2"), lines, coil_fields(8), shape=(n, n), pixel_size=h, phase=random_phase(1), snr=30
)
peak = float(truth.abs().max())
sigma = float(problem.noise.sigma)
guessed = float(estimate_sigma(problem.A, problem.y))
print(f"acceleration {problem.A.acceleration:.2f}, noise {sigma:.4f}, seen at the rim {guessed:.4f}")

# %% Without a prior, with one, with two; λ by the discrepancy (the default), or where SURE is least
both = [TV((n, n), h), 0.5 * WaveletL1((n, n), pixel_size=h)]
methods = {
    "zero-filled": ZeroFilled(),
    "root sum of squares": RootSumOfSquares(),
    "CG-SENSE, discrepancy": CGSENSE(),
    "wavelets, discrepancy": WaveletReconstruction(iterations=60),
    "TV, discrepancy": TotalVariation(iterations=60, algorithm="admm"),
    "TV, SURE": TotalVariation("sure", 60, algorithm="admm"),
    "TV + wavelets, 0.005 of k-space": VariationalReconstruction(both, CentreScaled(0.005), 80, degree=1),
    "TV, 0.005 of k-space": TotalVariation(CentreScaled(0.005), 60, algorithm="admm"),
}
images = {}
for name, method in methods.items():
    start = time.perf_counter()
    images[name] = method(problem).abs()
    quality = float(psnr(images[name], truth.abs(), data_range=peak))
    print(f"{name:32s} {quality:5.2f} dB  {time.perf_counter() - start:4.1f} s")

# %% The same data in other units, of a noise nobody told: λ from k-space gives the same image
raw = Problem(problem.A, 1e-6 * problem.y, Gaussian(1.0, data_ndim=3, mask=problem.A.sampled))
again = methods["TV, 0.005 of k-space"](raw).abs() / 1e-6
off = float((again - images["TV, 0.005 of k-space"]).norm() / again.norm())
scale = float(kspace_scale(raw.A, raw.y))
print(f"in other units, scale {scale:.3g}: the image differs by {off:.1e} of its norm")

# %%
shown = {"coil-combined full scan": truth.abs(), **images}
figure, axes = plt.subplots(3, 3, figsize=(11, 11.5), layout="constrained")
for axis, (name, image) in zip(axes.flat, shown.items(), strict=True):
    axis.imshow(image, cmap="gray", vmin=0, vmax=peak)
    value = "" if axis is axes.flat[0] else f"\n{float(psnr(image, truth.abs(), data_range=peak)):.2f} dB"
    axis.set(title=name + value, xticks=[], yticks=[])
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "17_mri_from_kspace.png", dpi=80)
