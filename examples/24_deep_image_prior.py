# %% [markdown]
# # Deep image prior
# x = f_w(z): a network made for this image alone, fitted to its data. Left to itself it fits the noise in the
# end; total variation, or a rule that stops it without the truth, prevents that. A little slice of 28², 24
# views, 40 % noise.

# %%
import math
import sys

import matplotlib.pyplot as plt
import torch

from operators import Gaussian, ParallelBeam, XRay
from recon import DeepImagePrior, Problem, TotalVariation, psnr
from recon.dip_stopping import HeldOut

truth = torch.zeros(28, 28)
truth[5:23, 6:22], truth[8:14, 9:14], truth[16:20, 15:19] = 0.6, 1.0, 0.2
A = XRay(ParallelBeam((28, 28), 1.0, [(k + 0.5) * math.pi / 24 for k in range(24)], 41, 1.0))
noise = Gaussian(relative=0.4).at(A(truth))
problem = Problem(A, noise(A(truth), seed=0), noise)

# %% A decoder from noise without a prior: too long, and stopped by rays it has not seen
decoder = {"network": "conv-decoder", "channels": (32,) * 5, "learning_rate": 1e-2, "schedule": "constant"}
objective: list[float] = []
images = {
    "decoder, 260 iterations": DeepImagePrior(
        weight=0.0, iterations=260, **decoder, callback=lambda image, k, value: objective.append(value)
    )(problem),
    "decoder, stopped by\nheld-out rays": DeepImagePrior(
        weight=0.0, iterations=260, **decoder, stop=HeldOut(patience=50)
    )(problem),
}

# %% With total variation, on a rough image; and from another method's image
images["U-Net + TV"] = DeepImagePrior(iterations=100)(problem)
images["U-Net + TV from TV's image"] = DeepImagePrior(
    iterations=40, start=TotalVariation(), learning_rate=5e-4
)(problem)
images["total variation"] = TotalVariation()(problem)

# %%
figure, axes = plt.subplots(2, 3, figsize=(10, 7), layout="constrained")
for axis, (name, image) in zip(axes.flat, ({"truth": truth} | images).items(), strict=True):
    axis.imshow(image, cmap="gray", vmin=0.0, vmax=1.0)
    title = name if name == "truth" else f"{name}\n{psnr(image, truth, data_range=1.0):.1f} dB"
    axis.set(title=title, xticks=[], yticks=[])
figure.suptitle(
    f"28², 24 views, 40 % noise; the long run ends at {2 * objective[-1]:.2f} of the noise's misfit"
)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "24_deep_image_prior.png", dpi=120)
