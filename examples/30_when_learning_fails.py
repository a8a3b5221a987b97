# %% [markdown]
# # When learning fails
# A detail that no training image had, a change of the data that nobody sees, and whether images explain their
# data: three learned methods beside total variation.

# %%
import sys

import matplotlib.pyplot as plt
import torch

from recon import AUTOMAP, FBPUNet, LearnedPrimalDual, Problem, TotalVariation
from recon.data.small import ellipses_small
from recon.honesty import Letters, check_row, false_insertion, lesion_cases, lesion_survival, worst_case

methods = {
    "total variation": TotalVariation(7.3, iterations=40),
    "FBP + U-Net": FBPUNet.pretrained("ellipses-small"),
    "learned primal–dual": LearnedPrimalDual.pretrained("ellipses-small"),
    "AUTOMAP": AUTOMAP.pretrained("ellipses-small"),
}

# %% Letters of 15 % contrast in images of ellipses: how many are still there, by at least half their contrast
data = ellipses_small()
cases = lesion_cases(data, Letters(0.15, size=0.3), range(10, 18))
for name, method in methods.items():
    survived, invented = lesion_survival(method, cases), false_insertion(method, cases)
    print(f"{name:20s} letters kept {survived}, invented {invented}")

# %% Images that explain their data have a χ² near that of the truth; a split says what data cannot show
truth = cases.background + cases.lesion
for name, method in {"the truth": lambda p: truth, **methods}.items():
    row = check_row(name, method, cases.present, truth, iterations=25)
    print(
        f"{name:20s} χ² {row['reduced_chi2']:6.2f}, error {row['nrmse']:.3f}, of which data show "
        f"{row['visible_error']:.3f} and do not {row['invisible_error']:.3f}"
    )

# %% The change of the data by 3 % that changes the image most, by the gradient of each method, of total
# variation that of its solver: this gets specks, the networks get ellipses that are not there
first = Problem(data.A, cases.absent.y[:1], cases.absent.noise.select(slice(0, 1)))
attacked = {}
for name, method in methods.items():
    found = worst_case(method, first, 0.03, iterations=3 if name == "total variation" else 5)
    noise = worst_case(method, first, 0.03, "noise", iterations=1)
    attacked[name] = found.image[0]
    print(
        f"{name:20s} image changed by {float(found.change / found.clean.norm()):.1%}, by noise of that norm "
        f"{float(noise.change / noise.clean.norm()):.1%}"
    )

# %%
k = 3
one = Problem(data.A, cases.present.y[k : k + 1], cases.present.noise.select(slice(k, k + 1)))
shown = {"truth with a letter": truth[k], "truth without": cases.background[0]}
figure, axes = plt.subplots(2, 5, figsize=(12, 5.2), layout="constrained")
for row, title in enumerate(shown):
    axes[row, 0].imshow(shown[title], cmap="gray", vmin=0, vmax=1)
    axes[row, 0].set(title=title, xticks=[], yticks=[])
axes[0, 0].contour(cases.lesion[k] > 0, [0.5], colors="C1", linewidths=0.7)
for column, (name, method) in enumerate(methods.items(), start=1):
    with torch.no_grad():
        image = method(one)[0]
    for row, (picture, title) in enumerate(((image, name), (attacked[name], f"{name}, attacked"))):
        axes[row, column].imshow(picture.detach(), cmap="gray", vmin=0, vmax=1)
        axes[row, column].set(title=title, xticks=[], yticks=[])
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "30_when_learning_fails.png", dpi=120)
