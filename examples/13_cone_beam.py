"""Cone-beam CT: volumes, FDK and total variation, and a scan taken by slabs because it fits no memory."""

# %%
import math
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from operators import ConeBeam, Gaussian, XRay, fbp
from operators.splitting import Split
from recon import Problem, TotalVariation, psnr, sart_on_disk
from recon.data import shepp_logan_ellipsoids

# %% A scanner and an object known exactly: its projections are line integrals, not those of voxels
geometry = ConeBeam(
    volume_shape=(40, 48, 48),
    voxel_size=4.0,
    angles=[2 * math.pi * k / 48 for k in range(48)],
    detector_shape=(48, 72),
    detector_pixel_size=8.0,
    source_to_centre=500.0,
    source_to_detector=1000.0,
)  # [mm], [rad]
head = shepp_logan_ellipsoids(field=185.0, scale=0.02)  # [mm], [1/mm]
clean = head.line_integrals(geometry)
noise = Gaussian(sigma=0.01, data_ndim=3)
problem = Problem(XRay(geometry), noise(clean, seed=0).float(), noise)
truth = head.rasterise(geometry.volume_shape, geometry.voxel_size).float()

# %% Filtered back projection of a cone is Feldkamp's; total variation as in two dimensions
fdk = fbp(problem.A, problem.y).clamp(min=0)
tv = TotalVariation(weight=500.0, iterations=80)(problem)

# %% The same scan on disk, within 4 MiB of working memory: SART by eight subsets, some slices at a time
memory = 4 * 2**20  # [bytes]
with tempfile.TemporaryDirectory() as folder:
    data = np.lib.format.open_memmap(Path(folder, "data.npy"), "w+", np.float32, geometry.out_shape)
    volume = np.lib.format.open_memmap(Path(folder, "volume.npy"), "w+", np.float32, geometry.in_shape)
    data[:] = problem.y
    split = Split(geometry, memory)
    sart_on_disk(geometry, data, volume, iterations=8, memory=memory, subsets=8, relaxation=0.6, lower=0.0)
    sart = truth.new_tensor(np.array(volume))
parts = f"{len(split.slabs)} slabs, {len(split.blocks)} blocks of views"

# %%
volumes = {"truth": truth, "FDK": fdk, f"SART on disk\n{parts}": sart, "total variation": tv}
figure, axes = plt.subplots(2, 4, figsize=(13, 6.6), layout="constrained")
for column, (name, x) in zip(axes.T, volumes.items(), strict=True):
    score = (
        "" if x is truth else f"\n{float(psnr(x.flatten(0, 1), truth.flatten(0, 1), data_range=0.02)):.1f} dB"
    )
    column[0].imshow(x[20], cmap="gray", vmin=0.0, vmax=0.01)
    column[1].imshow(x[:, 24].flipud(), cmap="gray", vmin=0.0, vmax=0.01)
    column[0].set_title(name + score)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
figure.suptitle("Middle slice, and a section along the axis; grey from 0 to 0.01 per mm")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "13_cone_beam.png", dpi=120)
