# %% [markdown]
# # From a scanner's file to a NIfTI volume
# Raw MR data come as ISMRMRD (siemens_to_ismrmrd and its like write it), as fastMRI's HDF5, or as BART's cfl.
# `read_kspace` takes them all: lines sorted into k-space, noise scan, place in the patient. Needs the extras
# `mri` (h5py) and `formats` (nibabel). On the command line: `recon reconstruct scan.h5 --out images`.

# %%
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import torch

from operators import equispaced_mask
from recon import CGSENSE, TotalVariation, ZeroFilled
from recon.data import (
    KSpace,
    coil_fields,
    random_brain,
    read_kspace,
    read_nifti,
    simulate_mri,
    write_kspace,
    write_nifti,
)

folder = TemporaryDirectory()
work = Path(folder.name)

# %% A simulated scan in place of yours (synthetic: ellipses, six coils): two slices, every third line and 20
# in the middle. Coils share noise, as in any real array; a noise scan shows how
n, coils, sigma = 96, 6, 0.01
fields, generator = coil_fields(coils), torch.Generator().manual_seed(0)
full = torch.ones(n, n, dtype=torch.bool)
clean, truths = zip(
    *[simulate_mri(random_brain(seed), full, fields, pixel_size=220 / n, seed=seed) for seed in (0, 1)],
    strict=True,
)
mix = torch.eye(coils) + 0.3 * torch.randn(coils, coils, generator=generator)


def coil_noise(*shape):
    white = torch.randn(coils, *shape, dtype=torch.complex64, generator=generator)
    return sigma * torch.einsum("cd,d...->c...", mix.to(white), white)


y = torch.stack([problem.y + coil_noise(n, n) for problem in clean])
lines = equispaced_mask(n, 3, center_fraction=20 / n, spacing="regular")[:, None]
affine = np.array([[220 / n, 0, 0, -110], [0, 220 / n, 0, -110], [0, 0, 5, 40], [0, 0, 0, 1.0]])
scan = KSpace(
    y * lines,
    mask=lines,
    noise=coil_noise(4096),
    field_of_view=(220.0, 220.0),
    affine=affine,
    labels=({"slice": 0}, {"slice": 1}),
    attributes={"TE": 80.0, "slice_spacing_mm": 5.0},
)

# %% Written and read in three formats; each comes back whole
for name in ("scan.h5", "scan.cfl", "scan.npz"):
    path = write_kspace(scan, work / name)
    again = read_kspace(path)
    error = max(float((again[k] - scan[k]).abs().max()) for k in range(len(scan)))
    kept = [part for part in ("mask", "noise", "affine") if getattr(again, part) is not None]
    print(f"{name:9s} {path.stat().st_size / 1e6:5.1f} MB, difference {error:g}, keeps {', '.join(kept)}")

# %% What a reconstruction needs: white coils, their maps from the middle of k-space, and the noise level: 1
# after whitening
scan = read_kspace(work / "scan.h5").prewhitened()
methods = {"zero-filled": ZeroFilled(), "CG-SENSE": CGSENSE(), "total variation": TotalVariation()}
images = {name: [] for name in methods}
for k in range(len(scan)):
    problem = scan.problem(k, maps=scan.coil_maps(k))
    for name, method in methods.items():
        images[name].append(method(problem))
print(f"{problem.A!r}: R = {problem.A.acceleration:.2f}, sigma = {scan.sigma:.3f}")

# %% Magnitudes where the slices lay, and the phase too if you like
truth = torch.stack(truths).abs()
for name, found in images.items():
    images[name] = torch.stack(found)
    error = float((images[name].abs() - truth).norm() / truth.norm())
    print(f"{name:15s} relative error of the magnitude {error:.3f}")
best = scan.volume(images["total variation"])
write_nifti(scan.volume(best.hu.abs()), work / "magnitude.nii.gz")
write_nifti(best, work / "complex.nii.gz", dtype="complex64")
back = read_nifti(work / "magnitude.nii.gz")
print(f"NIfTI {tuple(back.hu.shape)}, (dz, dy, dx) = {tuple(round(s, 3) for s in back.spacing)} mm")

# %%
figure, axes = plt.subplots(1, 4, figsize=(13, 3.9), layout="constrained")
shown = {"full scan, no noise": truth} | {name: image.abs() for name, image in images.items()}
for axis, (name, image) in zip(axes, shown.items(), strict=True):
    axis.imshow(image[0], cmap="gray", vmin=0, vmax=float(truth[0].max()))
    axis.set(title=name, xticks=[], yticks=[])
figure.suptitle("Read from ISMRMRD, whitened by its noise scan, maps by ESPIRiT (synthetic brain, R = 2.2)")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "18_kspace_files.png", dpi=120)
folder.cleanup()
