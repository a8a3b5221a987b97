# %% [markdown]
# # Unrolled networks, CT and MRI alike
# An unrolled method is an iteration whose parts are learned: here MoDL, `x ← (A*A + λ)⁻¹(A*y + λ D(x))`, and
# the variational network, `x ← x − Σ Kᵀφ'(K x) − λ A*(A x − y)`. The same two classes learn CT (32², 15
# views) and MRI (64², four coils, every third line), seconds each, and are printed beside TV. So short a
# training shows how it is done, not what the methods can do: the recipes in `recon.zoo.recipes` take hours,
# by `recon train modl`.

# %%
import sys

import matplotlib.pyplot as plt

from operators import Gaussian, equispaced_mask
from recon import FBP, MoDL, Problem, TotalVariation, VariationalNetwork, ZeroFilled, psnr
from recon.data import SimulatedPairs, SyntheticMRI
from recon.data.small import dival_images, ellipses_small_geometry

SECONDS = 7.0  # of training, each

# %% Pairs to learn from: few images, in memory
options = {"validation_size": 2, "train_size": 24}
ct = SimulatedPairs(
    ellipses_small_geometry(32, 15), Gaussian(relative=0.05), dival_images(64), name="ellipses-32", **options
)
mri = SyntheticMRI(equispaced_mask(64, 3), (64, 64), coils=4, **options)

# %% k-space comes in any unit: with normalise="data" the scale is that of the data at hand
small = {"batch_size": 2, "reuse": 1, "learning_rate": 5e-3, "average": 0.98, "validate_every": 10**6}
learned = {
    "variational network": lambda **c: VariationalNetwork(stages=4, filters=8, size=7, **small, **c),
    "MoDL": lambda **c: MoDL(iterations=3, layers=3, hidden=16, norm="none", **small, **c),
}
columns = []
for name, data, naive, change in (
    ("CT", ct, FBP(filter="hann"), {}),
    ("MRI", mri, ZeroFilled(), {"normalise": "data"}),
):
    problem, truth = data.validation
    one = Problem(problem.A, problem.y[0], problem.noise.select(0))
    images = {"truth": truth[0], type(naive).__name__: naive(one), "total variation": TotalVariation()(one)}
    for method, make in learned.items():
        trained = make(**change).fit(data, minutes=SECONDS / 60)
        images[f"{method}, {trained.record['steps']} steps"] = trained(one)
    peak = float(truth[0].abs().max())
    columns.append({k: (x.abs(), psnr(x, truth[0], data_range=peak)) for k, x in images.items()})
    for k, (_, decibel) in columns[-1].items():
        print(f"{name:4} {k:32} {decibel:6.2f} dB")

# %%
figure, axes = plt.subplots(2, 5, figsize=(14, 6), layout="constrained")
for row, images in zip(axes, columns, strict=True):
    for axis, (name, (image, decibel)) in zip(row, images.items(), strict=True):
        axis.imshow(image, cmap="gray", vmin=0.0, vmax=float(images["truth"][0].max()))
        title = name if name == "truth" else f"{name}\n{decibel:.1f} dB"
        axis.set(xticks=[], yticks=[])
        axis.set_title(title, fontsize=9)
figure.suptitle(
    "15 views at 32² (top), four coils and every third line at 64²; one image, seconds of training"
)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "21_unrolled_networks.png", dpi=120)
