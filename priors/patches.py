"""Gaussian mixtures of patches: expected patch log likelihood."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .denoiser import Denoiser

CHUNK = 16_384
"""Patches that are looked at together, which bounds the memory."""


class GaussianMixture(torch.nn.Module):
    """p(z) = Σ_k w_k N(z; 0, C_k), of patches without their mean; fitted by expectation maximisation.

    weights      (k,), positive, of sum 1
    covariances  (k, d, d), symmetric, positive definite
    """

    weights: Tensor
    covariances: Tensor

    def __init__(self, weights: Tensor, covariances: Tensor):
        super().__init__()
        k = len(weights)
        d = covariances.shape[-1]
        if weights.ndim != 1 or covariances.shape != (k, d, d):
            raise ValueError(
                "GaussianMixture: expected weights (k,) and covariances (k, d, d), got "
                f"{tuple(weights.shape)} and {tuple(covariances.shape)}"
            )
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("covariances", covariances)

    def log_terms(self, z: Tensor, variance: Tensor | float = 0.0) -> Tensor:
        """log w_k N(z; 0, C_k + variance·1) of patches (m, d), (m, k); variance one number."""
        d = z.shape[-1]
        noisy = self.covariances + variance * torch.eye(d, dtype=z.dtype, device=z.device)
        root = torch.linalg.cholesky(noisy)
        white = torch.linalg.solve_triangular(root, z.T.expand(len(root), -1, -1), upper=False)
        logdet = 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        exponent = white.square().sum(1) + logdet[:, None] + d * math.log(2 * math.pi)
        return (self.weights.log()[:, None] - 0.5 * exponent).T

    @classmethod
    def fit(
        cls, z: Tensor, components: int, iterations: int = 50, floor: float = 1e-4, seed: int = 0
    ) -> tuple[GaussianMixture, list[float]]:
        """The mixture and the mean log likelihood of every iteration, which rises but for what `floor` adds.

        z           patches without their mean, (m, d)
        components  k, at least 1 and at most m / d
        floor       added to the variances, in parts of their mean: patches without mean are of rank d − 1
        """
        m, d = z.shape
        if not bool(z.isfinite().all()) or not bool(z.any()):
            raise ValueError(
                "GaussianMixture.fit z: expected finite patches that are not all constant, got "
                + ("only constant ones" if bool(z.isfinite().all()) else "NaN or inf")
            )
        if m < d:
            raise ValueError(f"GaussianMixture.fit z: expected at least {d} patches of {d} pixels, got {m}")
        if not 1 <= components <= m // d:
            raise ValueError(
                f"GaussianMixture.fit components: expected 1 to {m // d}, a dth of the {m} patches, "
                f"got {components}"
            )
        generator = torch.Generator().manual_seed(seed)
        tiny = floor * float(z.square().mean()) * torch.eye(d, dtype=z.dtype)
        order = z.norm(dim=1).argsort()  # quiet and loud patches apart, then at random within
        share = torch.zeros(m, components, dtype=z.dtype)
        share[order, torch.arange(m) * components // m] = 0.5
        share += 0.5 * torch.rand(m, components, generator=generator, dtype=z.dtype)
        share = share / share.sum(1, keepdim=True)
        history: list[float] = []
        for _ in range(iterations):
            count = share.sum(0)
            powers = torch.stack([(w[:, None] * z).T @ z for w in share.T])
            mixture = cls(count / m, powers / count[:, None, None] + tiny)
            terms = torch.cat([mixture.log_terms(part) for part in z.split(CHUNK)])
            history.append(float(terms.logsumexp(1).mean()))
            share = terms.softmax(1)
            if len(history) > 1 and history[-1] - history[-2] < 1e-6 * abs(history[-1]):
                break
        return mixture, history


class PatchDenoiser(Denoiser):
    """D(x, σ): every patch by the Wiener filter of its likeliest Gaussian, averaged where patches meet.

    Zoran and Weiss, ICCV 2011 (EPLL), of which this is the step for one β: in `PlugAndPlay` with "hqs" and a
    falling σ it is their half-quadratic splitting, with any data term. Learned from images alone.

    mixture     of patches of size × size pixels at the scale of the images
    size        side of a patch
    """

    def __init__(self, mixture: GaussianMixture, size: int):
        super().__init__()
        if mixture.covariances.shape[-1] != size**2:
            raise ValueError(
                f"PatchDenoiser size: expected side² = {mixture.covariances.shape[-1]}, got {size}² pixels"
            )
        self.mixture, self.size = mixture, size

    @classmethod
    def fit(
        cls, images: Tensor, size: int = 6, components: int = 20, samples: int = 20_000, seed: int = 0
    ) -> PatchDenoiser:
        """Learned from real images (n, ny, nx) of size 1: from `samples` of their patches, by `seed`."""
        if images.ndim != 3 or images.is_complex() or min(images.shape[1:]) < size or not len(images):
            raise ValueError(
                f"PatchDenoiser.fit images: expected real ones (n, ny, nx) of at least {size} pixels a side, "
                f"got {images.dtype} {tuple(images.shape)}"
            )
        windows = images.unfold(1, size, 1).unfold(2, size, 1)  # a view: only those chosen are copied
        generator = torch.Generator().manual_seed(seed)
        draw = torch.randperm(math.prod(windows.shape[:3]), generator=generator)[:samples]
        chosen = windows[torch.unravel_index(draw, windows.shape[:3])].reshape(-1, size**2).double()
        centred = chosen - chosen.mean(1, keepdim=True)
        if bool(centred.abs().amax() <= 1e-12 * chosen.abs().amax()):
            raise ValueError("PatchDenoiser.fit images: expected some with contrast, got constant ones")
        return cls(GaussianMixture.fit(centred, components, seed=seed)[0], size)

    @torch.no_grad()
    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        if x.is_complex():
            return torch.complex(self.denoise(x.real, sigma), self.denoise(x.imag, sigma))
        if min(x.shape[-2:]) < self.size:
            raise ValueError(f"{self!r}: expected at least {self.size} pixels a side, got {x.shape}")
        return torch.stack([self._one(z, s) for z, s in zip(x, sigma, strict=True)])

    def _one(self, x: Tensor, sigma: Tensor) -> Tensor:
        shape, p, variance = x.shape, self.size, float(sigma) ** 2
        patches = functional.unfold(x[None, None], p)[0].T.to(self.mixture.covariances)
        mean = patches.mean(1, keepdim=True)
        centred = patches - mean
        best = torch.cat([self.mixture.log_terms(z, variance).argmax(1) for z in centred.split(CHUNK)])
        eye = torch.eye(p * p, dtype=centred.dtype, device=centred.device)
        C = self.mixture.covariances
        filters = torch.linalg.solve(C + variance * eye, C)  # symmetric: C(C + σ²)⁻¹
        clean = torch.empty_like(centred)
        for k in best.unique().tolist():
            clean[best == k] = centred[best == k] @ filters[k]
        clean = (clean + mean).T[None].to(x)
        size = (int(shape[0]), int(shape[1]))
        sums = functional.fold(clean, size, p)
        return (sums / functional.fold(torch.ones_like(clean), size, p))[0, 0]
