# %% [markdown]
# # Iterative, hybrid and learned on one problem
# Random ellipses, 64², 30 views, 5 % noise. All answer to `min_x d(y, A x) + λ E(x)`: TV with a written
# prior, the adversarial regulariser with a learned one, the deep image prior with x = f_w(z), learned
# primal–dual with learned iterations; FBP + U-Net and AUTOMAP replace the minimisation. One call for each.

# %%
import sys

import matplotlib.pyplot as plt

from recon import (
    AUTOMAP,
    FBP,
    AdversarialRegularisation,
    DeepImagePrior,
    FBPUNet,
    LearnedPrimalDual,
    TotalVariation,
    psnr,
)
from recon.comparison import problem as builtin

# %% One held-out pair of the built-in problem, and the shipped weights
problem, truth = next(iter(builtin("ellipses-small").pairs("test")))
methods = {
    "FBP": FBP(filter="hann"),
    "total variation": TotalVariation(),
    "deep image prior + TV": DeepImagePrior(),
    "adversarial regulariser": AdversarialRegularisation.pretrained("ellipses-small"),
    "learned primal–dual": LearnedPrimalDual.pretrained("ellipses-small"),
    "FBP + U-Net": FBPUNet.pretrained("ellipses-small"),
    "AUTOMAP": AUTOMAP.pretrained("ellipses-small"),
}
images = {"truth": truth} | {name: method(problem) for name, method in methods.items()}

# %%
figure, axes = plt.subplots(2, 4, figsize=(13, 7.2), layout="constrained")
for axis, (name, image) in zip(axes.flat, images.items(), strict=True):
    axis.imshow(image.detach(), cmap="gray", vmin=0.0, vmax=1.0)
    title = name if name == "truth" else f"{name}\n{psnr(image, truth, data_range=1.0):.1f} dB"
    axis.set(title=title, xticks=[], yticks=[])
figure.suptitle("64², 30 views, 5 % noise; grey from 0 to 1. One image: an illustration, not a ranking")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "04_iterative_hybrid_learned.png", dpi=120)
