# %% [markdown]
# # A prior of your own, in one file
# Fair's potential of the image gradient, `E(x) = h² Σ δ² (t/δ − ln(1 + t/δ))`, t = |∇x|: quadratic for small
# steps, linear for large ones. Write value and gradient; every solver takes it from there.

# %%
import math
import sys

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from operators import Gaussian, Gradient, ParallelBeam
from priors import Functional, NonNegative, testing
from recon import FBP, fista, psnr, run
from recon.data import shepp_logan, simulate
from recon.fidelity import matching


# %% The prior: a Functional of the gradient field (2, ny, nx)
class Fair(Functional):
    """f(v) = Σ δ² (|v|/δ − ln(1 + |v|/δ)) over pixels, |v| the length of v in dimension −3."""

    ndim = 3

    def __init__(self, delta: float) -> None:
        super().__init__()
        self.delta = delta

    def forward(self, v: Tensor) -> Tensor:
        t = torch.linalg.vector_norm(v, dim=-3) / self.delta
        return self.delta**2 * (t - torch.log1p(t)).sum((-2, -1))

    def grad(self, v: Tensor) -> Tensor:
        return v / (1 + torch.linalg.vector_norm(v, dim=-3, keepdim=True) / self.delta)


testing.check(Fair(0.05), (2, 5, 4))  # gradient, batches, scaling: is it a functional?

# %% A problem
fine = shepp_logan((256, 256)).float()
angles = [math.pi * (k + 0.5) / 40 for k in range(40)]
geometry = ParallelBeam(image_shape=(128, 128), pixel_size=1.0, angles=angles, n_bins=183, bin_size=1.0)
problem, truth = simulate(fine, geometry, Gaussian(relative=0.01), seed=0)

# %% min_x d(y, A x) + λ E(x), x ≥ 0: fista wants the gradient and its Lipschitz constant
A, D = problem.A, Gradient(geometry.image_shape, spacing=geometry.pixel_size)
likelihood = matching(problem)
weight = 1500.0
objective = likelihood @ A + weight * Fair(0.02) @ D
lipschitz = 1.05 * (A.norm() ** 2 / float(problem.variance.mean()) + weight * D.norm() ** 2)
start = FBP()(problem)
image = run(fista(objective, NonNegative(), lipschitz, start), iterations=300, tolerance=1e-5)

# %%
figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
for axis, (name, x) in zip(axes, {"truth": truth, "FBP, Hann": start, "Fair": image}.items(), strict=True):
    axis.imshow(x, cmap="gray", vmin=0.0, vmax=0.5)
    title = name if name == "truth" else f"{name}\n{psnr(x, truth, data_range=1.0):.1f} dB"
    axis.set(title=title, xticks=[], yticks=[])
figure.suptitle("A prior written in this file; grey from 0 to 0.5")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "03_a_prior_of_your_own.png", dpi=120)
