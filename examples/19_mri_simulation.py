# %% [markdown]
# # Simulated MRI without an inverse crime
# Ellipses have a k-space that is known exactly, and so have coils and phase of few waves: what is measured
# never saw a pixel. A synthetic brain by three sequences, its coils, four-fold undersampling, motion, and
# the same physics as endless training pairs. Everything here is synthetic.

# %%
import math
import sys

import matplotlib.pyplot as plt
import torch

from operators import Fourier, Rician, random_mask
from recon import CGSENSE, TotalVariation, ZeroFilled, psnr
from recon.data import (
    SyntheticMRI,
    coil_fields,
    random_anatomy,
    random_motion,
    random_phase,
    shot_order,
    simulate_mri,
    typical_sequence,
)

# %% One head, seen by three sequences, 8 coils around a field of view of 220 mm
n, pixel = 128, 220 / 128
head, coils, phase = random_anatomy(seed=1), coil_fields(8, seed=0), random_phase(seed=2, strength=1.5)
lines = random_mask(n, 4, 0.08, seed=0)
setup = {"shape": (n, n), "pixel_size": pixel, "phase": phase, "snr": 30.0, "seed": 3}
shown = {}
for contrast in ("t1", "t2", "flair"):
    scene = head.image(typical_sequence(contrast))
    problem, truth = simulate_mri(scene, lines, coils, **setup)
    shown[f"{contrast.upper()}, what a full scan shows"] = truth

# %% What the reconstruction's model does not know: the object is not its pixels
scene = head.image(typical_sequence("t2"))
problem, truth = simulate_mri(scene, lines, coils, **setup)
_, pixels = simulate_mri(scene, lines, coils, truth="pixels", **setup)
exact = scene.fourier((n, n), pixel)
of_pixels = Fourier((n, n))(scene.rasterise((n, n), pixel).to(torch.complex128))
apart = float((of_pixels - exact).norm() / exact.norm())
print(f"k-space of the pixels against that of the object: {apart:.1%}")
apart = float((pixels - truth).norm() / truth.norm())
print(f"means over pixels against what a full scan shows: {apart:.1%}")

# %% Reconstruct: PSNR of the magnitude
peak = float(truth.abs().max())


def score(image, reference=truth):
    return float(psnr(image.abs(), reference.abs(), data_range=peak))


for method in (ZeroFilled(), CGSENSE(), TotalVariation()):
    image = method(problem)
    shown[f"{type(method).__name__}, {score(image):.1f} dB"] = image

# %% A nod of up to 3 mm and 3° during the scan, lines measured in 8 shots
moving = random_motion(shot_order(n, 8), "step", seed=3, translation=3.0, rotation=math.radians(3))
full = torch.ones(n, dtype=torch.bool)
moved, still = simulate_mri(scene, full, coils, motion=moving, **setup)
image = CGSENSE()(moved)
shown[f"full scan, moved, {score(image, still):.1f} dB"] = image

# %% Magnitudes are Rician: nothing shows as 0.89 σ
sigma = 0.1
magnitude = Rician(sigma)(truth.to(torch.complex128), seed=5)
print(f"mean of air: {float(magnitude[:4].mean()):.4f}, {math.sqrt(math.pi) / 2 * sigma:.4f} expected")
shown[f"Rician, σ = {sigma}"] = magnitude

# %% The same as training pairs: another brain, contrast, phase and noise per seed, one set of coils
pairs = SyntheticMRI(lines, (n, n), coils)
batch, truths = next(pairs.batches(1, torch.Generator().manual_seed(0)))
shown["a training image"] = truths[0]

# %%
figure, axes = plt.subplots(3, 3, figsize=(12, 12.5), layout="constrained")
for axis, (name, image) in zip(axes.flat, shown.items(), strict=True):
    axis.imshow(image.abs(), cmap="gray", vmin=0, vmax=float(image.abs().quantile(0.995)))
    axis.set(title=name, xticks=[], yticks=[])
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "19_mri_simulation.png", dpi=80)
