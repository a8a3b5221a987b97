# %% [markdown]
# # One projector, four toolboxes
# The same scan reconstructed by scipy's LSQR, ODL's PDHG, deepinv's FISTA and our own total variation. Each
# gets our projector in its own language; ODL's weighted inner products are accounted for. ODL and deepinv are
# left out where they are not installed.

# %%
import importlib.util
import math
import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse.linalg
import torch

from operators import FanBeam, Gaussian, fbp
from operators.interop import from_astra, to_astra, to_deepinv, to_odl, to_scipy
from priors import TV
from recon import TotalVariation, psnr
from recon.data import shepp_logan, simulate

warnings.filterwarnings("ignore", module="deepinv|odl")

# %% A scan: 60 views on an arc, three per cent of noise
angles = [2 * math.pi * k / 60 for k in range(60)]
geometry = FanBeam((96, 96), 1.5, angles, 128, 2.2, 300.0, 500.0, detector="arc")
problem, truth = simulate(shepp_logan((384, 384)).float(), geometry, Gaussian(relative=0.03), seed=0)
A, y, variance = problem.A, problem.linear, float(problem.variance.mean())
weight = 20.0
images = {"truth": truth, "ours: TotalVariation": TotalVariation(weight=weight, iterations=300)(problem)}

# %% scipy: LSQR on flat vectors, stopped early
S = to_scipy(A, np.float32)
found = scipy.sparse.linalg.lsqr(S, y.numpy().ravel(), iter_lim=12)[0]
images["scipy: LSQR, 12 steps"] = torch.from_numpy(found.astype(np.float32)).reshape(geometry.image_shape)

# %% ODL: PDHG on ½‖Ax − y‖² + λσ² ∫|∇x|, x ≥ 0
if importlib.util.find_spec("odl"):
    from operators.interop.odl import toolbox

    odl = toolbox()  # imported without a trace
    T = to_odl(A, impl="numpy")
    slopes = odl.Gradient(T.domain, pad_mode="order0")
    stacked, F = odl.BroadcastOperator(T, slopes), odl.functionals
    data = 0.5 * F.L2NormSquared(T.range).translated(T.range.element(y.numpy()))
    terms = F.SeparableSum(data, weight * variance * F.GroupL1Norm(slopes.range))
    norm = 1.05 * float(odl.power_method_opnorm(stacked, maxiter=30))
    x = T.domain.zero()
    box = F.IndicatorNonnegativity(T.domain)
    ratio = 0.03  # of primal to dual steps
    odl.solvers.pdhg(x, box, terms, stacked, niter=600, tau=ratio / norm, sigma=1 / (ratio * norm))
    images["ODL: PDHG"] = torch.from_numpy(np.array(x.data))

# %% deepinv: FISTA with its TV prior, in which pixels have no size; from our FBP
if importlib.util.find_spec("deepinv"):
    import deepinv

    physics = to_deepinv(A)
    fista = deepinv.optim.FISTA(
        data_fidelity=deepinv.optim.L2(),
        prior=deepinv.optim.TVPrior(n_it_max=20),
        stepsize=0.95 / A.norm() ** 2,
        lambda_reg=weight * variance * geometry.pixel_size,
        max_iter=200,
    )
    start = fbp(A, y)[None, None]
    with torch.no_grad():
        images["deepinv: FISTA (any sign)"] = fista(y[None, None], physics, init=(start, start))[0, 0]

# %% And the geometry itself: ASTRA's dictionary (an arc is a cone beam of one row there)
flat = FanBeam((96, 96), 1.5, angles, 128, 2.2, 300.0, 500.0, offset=0.7)
assert from_astra(*to_astra(flat)) == flat
print("ASTRA calls it", to_astra(flat)[0]["type"])

# %%
objective = TV(geometry.image_shape, geometry.pixel_size, weight=weight)
figure, axes = plt.subplots(1, len(images), figsize=(3.2 * len(images), 4.2), layout="constrained")
for axis, (name, x) in zip(axes, images.items(), strict=True):
    value = float(((A(x) - y) ** 2).sum() / (2 * variance) + objective(x))
    axis.imshow(x, cmap="gray", vmin=0.0, vmax=0.5)
    quality = "" if name == "truth" else f"\n{psnr(x, truth, data_range=1.0):.1f} dB, objective {value:.0f}"
    axis.set(title=name + quality, xticks=[], yticks=[])
    print(f"{name:28s} {psnr(x, truth, data_range=1.0):6.2f} dB, objective {value:9.1f}")
figure.suptitle("One projector in four toolboxes; grey from 0 to 0.5")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "11_interop.png", dpi=120)
