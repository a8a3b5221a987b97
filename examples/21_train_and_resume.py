# %% [markdown]
# # Train a method, be interrupted, go on
#
# A U-Net behind filtered back projection, on images that are drawn as they are needed. Training is killed
# half-way and resumed: its weights are those of a training that was never interrupted, to the bit. The card
# beside the weights says from which images they come and which command makes them again; the curve says how
# it went.

# %%
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from operators import fbp
from recon import FBPUNet, psnr
from recon.data import SimulatedPairs
from recon.data.small import ellipses_small
from recon.train_log import read_curve
from recon.training import train_method, train_seeds

folder = Path(tempfile.mkdtemp())
data = ellipses_small()
recipe = {
    "base": 8, "depth": 2, "batch_size": 2, "reuse": 2, "steps": 20, "learning_rate": 4e-3,
    "schedule": "cosine", "warmup": 5, "average": 0.8, "validate_every": 10, "checkpoint_every": 5,
}  # fmt: skip

# %% [markdown]
# ## Killed after 12 of 20 steps


# %%
class KilledError(Exception):
    """In place of a machine that goes down."""


def kill(progress):
    if progress.step == 12:
        raise KilledError


try:
    train_method("fbp-unet", data, folder / "broken", callback=kill, half=False, **recipe)
except KilledError:
    print("killed; there is", *sorted(f.name for f in folder.iterdir()))

losses = {"resumed": {}, "unbroken": {}}


def remember(name):
    return lambda p: losses[name].update({p.step: p.losses[-1]})


resumed = train_method(
    "fbp-unet", data, folder / "broken", callback=remember("resumed"), half=False, **recipe
)
unbroken = FBPUNet(**recipe).fit(data, callback=remember("unbroken"))
same = all(torch.equal(a, b) for a, b in zip(resumed.parameters(), unbroken.parameters(), strict=True))
first = min(losses["resumed"])
print(f"went on with step {first}; the weights equal those of an unbroken training: {same}")

figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
axes.plot(losses["unbroken"].keys(), losses["unbroken"].values(), color="0.7", lw=5, label="unbroken")
axes.plot(losses["resumed"].keys(), losses["resumed"].values(), "k.-", lw=1, label="resumed")
axes.axvline(12.5, color="tab:red", ls=":", label="killed")
axes.set(xlabel="step", ylabel="loss", title="A killed training goes on where its checkpoint was")
axes.legend()
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "train_and_resume.png", dpi=110)

# %% [markdown]
# ## What is written beside the weights

# %%
print(json.dumps(json.loads((folder / "broken.json").read_text())["training"], indent=2))
for row in read_curve(folder / "broken.curve.csv"):
    print(
        f"step {row['step']:3d}  {row['seconds']:5.1f} s  loss {row['loss']:.4f}  PSNR {row['score']:.2f} dB"
    )

# %% [markdown]
# ## Used as any other method
#
# Twenty steps are few: the weights that are shipped were trained for thousands.

# %%
method = FBPUNet.load(folder / "broken")
problem, truth = data.validation
for name, x in {"FBP": fbp(data.A, problem.linear, filter="hann"), "learned": method(problem)}.items():
    print(f"{name:8s} {float(psnr(x, truth, data_range=1.0).mean()):.2f} dB")

# %% [markdown]
# ## Another scanner: learn on, not anew
#
# The shipped U-Net learned from 30 views and refuses 20. A hundred steps on pairs of the new scanner, and a
# hundred from the first weights; from a shell, `recon train fbp-unet --problem P --from WEIGHTS --steps 100`.

# %%
few = replace(data.geometry, angles=[a for k, a in enumerate(data.geometry.angles) if k % 3 < 2])
other = SimulatedPairs(few, data.noise, data.images, validation_size=8, name="20 views")
short = {"steps": 100, "batch_size": 2, "learning_rate": 5e-4, "validate_every": 100}
shipped = FBPUNet.pretrained("ellipses-small")
tuned = FBPUNet.pretrained("ellipses-small").fine_tune(other, **short)
anew = FBPUNet(shipped.config, **short).fit(other)
problem, truth = other.validation
try:
    shipped(problem)
except ValueError as error:
    print(f"{str(error)[:90]} …")
rows = {"FBP": fbp(other.A, problem.linear, filter="hann"), "anew": anew(problem), "tuned": tuned(problem)}
for name, x in rows.items():
    print(f"{name:8s} {float(psnr(x, truth, data_range=1.0).mean()):.2f} dB")

# %% [markdown]
# ## How much is luck: two seeds
#
# A seed that fails would be told in `failures`, and the next one trained. The same from the shell:
# `recon train fbp-unet --problem ellipses-small --seeds 0,1`.

# %%
summary = train_seeds("fbp-unet", data, folder / "short", [0, 1], **{**recipe, "steps": 4})
for key, mean in summary["mean"].items():
    print(f"{key} {mean:.3f} ± {summary['spread'][key]:.3f}; failed: {len(summary['failures'])}")
