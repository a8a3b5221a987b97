# %% [markdown]
# # From an MR-like image to a CT-like one, and how good that can be at all
#
# Synthetic heads: every tissue has one value in T1-weighted MR and one in CT, and textures of its own; part
# of the texture of CT is in no MR image. So the least error that anybody can have who sees the MR image alone
# is known, and beside it stand a table of grey values, nearest neighbours of patches and a small U-Net.
# Air and bone are both black in MR: a table cannot tell them apart, a network can by their place.
# Nothing learned from synthetic heads says anything about patients.

# %%
import sys

import matplotlib.pyplot as plt
import torch

from operators import to_hu
from recon import METHODS, FBPUNet
from recon.data.heads import MU_WATER
from recon.data.sets import TEST
from recon.data.tasks import ContrastPairs, ambiguous

data = ContrastPairs("t1", "ct", size=48, validation_size=4, test_size=8, train_size=64)
print("alike in T1:", *(" and ".join(sorted(group)) for group in ambiguous(data.source)))
problem, truth = data.test
y, x = data.train[0].y, data.train[1]


def error_hu(image):
    """Root mean square over all test images [HU]."""
    return 1000 / MU_WATER * float((image - truth).square().mean().sqrt())


# %% [markdown]
# ## The floor, and a table
#
# `best` knows the tissues and the texture that MR shows, which is more than the MR image holds: no method can
# expect to be below it. The table is the mean CT value of each of 64 MR values in the training images, the
# best that can be done pixel by pixel.

# %%
images = {"best achievable": torch.stack([data.best(TEST + k) for k in range(len(truth))])}

edges = torch.quantile(y.flatten(), torch.linspace(0, 1, 65)[1:-1])
bins = torch.bucketize(y, edges).flatten()
table = torch.zeros(64).index_add(0, bins, x.flatten()) / bins.bincount(minlength=64)
images["table of values"] = table[torch.bucketize(problem.y, edges)]

# %% [markdown]
# ## A small U-Net, and neighbours of patches
#
# The U-Net that follows filtered back projection in CT follows nothing here: the operator is the identity, so
# the network is given the MR image. It has fifty steps; more bring it nearer to the floor.

# %%
unet = FBPUNet(
    base=12, depth=3, norm="group", batch_size=4, steps=50, learning_rate=4e-3, warmup=10,
    validate_every=10**6,
)  # fmt: skip
images["U-Net"] = unet.fit(data)(problem)

if "patch-nearest-neighbours" in METHODS:
    images["nearest patches"] = METHODS["patch-nearest-neighbours"](samples=8_000).fit(data)(problem)

# %%
for name, image in images.items():
    print(f"{name:16s} {error_hu(image):6.1f} HU")
expected = sum(data.floor(TEST + k) ** 2 for k in range(len(truth))) / len(truth)
print(f"expected floor   {1000 / MU_WATER * expected**0.5:6.1f} HU")

# %%
shown = {"T1-like (given)": problem.y[0], **{n: i[0] for n, i in images.items()}, "CT-like (truth)": truth[0]}
figure, axes = plt.subplots(1, len(shown), figsize=(2.4 * len(shown), 3.5), layout="constrained")
for axis, (name, image) in zip(axes, shown.items(), strict=True):
    given = name.startswith("T1")
    low, high = (0, float(image.max())) if given else (-200, 300)
    axis.imshow(image if given else to_hu(image, MU_WATER), cmap="gray", vmin=low, vmax=high)
    title = f"{name}\n{error_hu(images[name]):.0f} HU" if name in images else name
    axis.set(title=title, xticks=[], yticks=[])
figure.suptitle("Window −200 to 300 HU; error over all test images")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "29_contrast_translation.png", dpi=110)
