# %% [markdown]
# # From raw multi-coil k-space to an image
# A synthetic brain with exact k-space (no FFT made it), sixteen coils of unequal, correlated noise. A noise
# scan tells the covariance, prewhitening makes the noise white, compression leaves eight virtual coils,
# ESPIRiT finds their maps from the middle of k-space, and SENSE and GRAPPA fill in what was not measured.

# %%
import sys

import matplotlib.pyplot as plt
import torch

from operators import (
    Gaussian,
    Prewhitening,
    Sense,
    combine,
    compress_coils,
    espirit,
    g_factor,
    mix_coils,
    noise_covariance,
    root_sum_of_squares,
)
from operators.coils import to_images
from recon import CGSENSE, GRAPPA, Problem
from recon.data import coil_fields, multicoil_kspace, random_brain, random_phase

# %% The scan: 144 x 128 pixels of 1.7 mm, sixteen coils
shape, coils = (144, 128), 16
sensitivities = coil_fields(coils)
clean = multicoil_kspace(random_brain(1, "t2"), sensitivities * random_phase(1), shape, 1.7)
generator = torch.Generator().manual_seed(0)


def noise(*size):
    return torch.randn(size, generator=generator, dtype=clean.dtype)


levels = torch.diag(torch.linspace(0.5, 2.0, coils, dtype=clean.real.dtype))
leak = 0.01 * (levels + 0.05 * noise(coils, coils))
kspace = clean + (leak @ noise(coils, clean[0].numel())).reshape(clean.shape)

# %% Noise scan, prewhitening, compression: the same matrices for whatever the coils see
white = Prewhitening(noise_covariance(leak @ noise(coils, 20_000)))
before, after = (
    noise_covariance(f(leak @ noise(coils, 20_000))) for f in (lambda n: n, lambda n: white(n, 1))
)


def spread(covariance):
    """Largest over smallest eigenvalue."""
    values = torch.linalg.eigvalsh(covariance)
    return float(values[-1] / values[0])


print(f"noise, largest over smallest variance: {spread(before):.1f}, prewhitened {spread(after):.2f}")
compressed = compress_coils(white(kspace), coils=8)
print(f"8 of {coils} coils keep {100 * float(compressed.energy):.2f} % of the energy")
y = compressed.kspace
reference = mix_coils(compressed.matrix, white(clean))

# %% Coil maps; the truth is known here: the same matrices applied to the sensitivities
found = espirit(y, calibration=24)
truth = mix_coils(compressed.matrix, white(sensitivities.at(shape)))
truth = truth / root_sum_of_squares(truth)
size = root_sum_of_squares(to_images(reference, (-2, -1)))
inside = (size > 0.1 * size.max()) & (found.maps != 0).any(0)
turned = found.maps * (found.maps.conj() * truth).sum(0).sgn()
off = float((turned - truth)[:, inside].norm() / truth[:, inside].norm())
print(f"ESPIRiT against the truth: {100 * off:.1f} %")

# %% Undersampling by 2, 3 and 4 with 24 lines in the middle; the reference is the full scan without noise
full = combine(to_images(reference, (-2, -1)), found.maps)
peak = float(full.abs().max())


def error(image):
    return 100 * float((image.abs() - full.abs()).norm() / full.norm())


shown = {"full scan": (full, peak)}
print(f"full scan with its noise: {error(combine(to_images(y, (-2, -1)), found.maps)):.1f} % error")
for R in (2, 3, 4):
    lines = torch.zeros(shape[1], dtype=torch.bool)
    lines[::R] = True
    regular = Sense(lines, found.maps)
    lines[shape[1] // 2 - 12 : shape[1] // 2 + 12] = True
    A = Sense(lines, found.maps)
    law = Gaussian(1.0, data_ndim=3, mask=A.sampled)
    problem = Problem(A, y * lines, law)
    # the g-factor of the lattice alone, what textbooks give
    g = g_factor(regular)[inside]
    methods = {"zero-filled": A.adjoint, "GRAPPA": GRAPPA(combine="sense"), "CG-SENSE": CGSENSE(0, 10)}
    images = {n: m(problem.y) if n == "zero-filled" else m(problem) for n, m in methods.items()}
    told = ", ".join(f"{n} {error(x):.1f} %" for n, x in images.items())
    print(f"R = {R} ({A.acceleration:.2f} with the middle), g {float(g.mean()):.2f}: {told}")
    if R > 2:
        shown |= {f"{n}, R = {R}\nerror {error(x):.1f} %": (x, peak) for n, x in images.items()}
shown["eigenvalue of ESPIRiT"] = (found.eigenvalues, 1.0)

# %%
figure, axes = plt.subplots(2, 4, figsize=(12, 7.4), layout="constrained")
for axis, (name, (image, top)) in zip(axes.flat, shown.items(), strict=True):
    axis.imshow(image.abs(), cmap="gray", vmin=0, vmax=top)
    axis.set(title=name, xticks=[], yticks=[])
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "16_coil_maps_and_grappa.png", dpi=80)
