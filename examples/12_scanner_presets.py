# %% [markdown]
# # Real scanners, to scale, and a detector that is not where it should be
# Published scanners by name; the centre of rotation found from the data, and put right by the geometry.

# %%
import sys
from dataclasses import replace

import matplotlib.pyplot as plt

from operators import Gaussian, presets
from operators.corrections import recentred, tilted
from operators.drawing import plot
from operators.xray import XRay
from recon import FBP, psnr
from recon.data import shepp_logan, simulate
from recon.problem import Problem

# %% Six scanners; every one gives a fan or, for a volume, a cone
for name, scanner in presets.PRESETS.items():
    print(f"{name:8s} {scanner.name:20s} field of view {scanner.field_of_view:6.1f} mm   {scanner.source}")
ge = presets.ge_lightspeed((128, 128), views=246)
helix = presets.siemens_definition((200, 256, 256), (1.0, 1.5, 1.5), views=96, pitch=38.4, turns=4)
panel = tilted(presets.obi_cbct((128, 128, 128), views=72), rotation=0.05, tilt=0.1)

# %% A scan whose detector is 10.5 channels beside the place that its header states
true = replace(ge, offset=ge.offset + 10.5 * ge.bin_size)
problem, truth = simulate(shepp_logan((512, 512)).float() / 10, true, Gaussian(relative=0.005), seed=0)
stated = Problem(XRay(ge), problem.y, problem.noise)
found = recentred(ge, problem.linear)
put_right = Problem(XRay(found), problem.y, problem.noise)
error = (found.offset - true.offset) / ge.bin_size
print(f"offset {found.offset:.3f} mm instead of {ge.offset:.3f} mm; {error:+.3f} channels from the truth")

# %%
figure, axes = plt.subplots(2, 4, figsize=(20, 10), layout="constrained")
plot(ge, axes[0, 0])
plot(helix, axes[0, 1:3])
plot(panel, axes[1, 0:2], view=5)
axes[0, 3].axis("off")
pictures = {"stated": stated, "recentred": put_right}
for axis, (name, each) in zip(axes[1, 2:], pictures.items(), strict=True):
    x = FBP()(each)
    axis.imshow(x, cmap="gray", vmin=0.0, vmax=0.05)
    axis.set(title=f"FBP, {name}: {psnr(x, truth, data_range=0.1):.1f} dB", xticks=[], yticks=[])
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "12_scanner_presets.png", dpi=80)
