"""Scans of an object with metal in it, behind a polyenergetic beam."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from operators import XRay
from operators.beam import Beam
from operators.energy_integrating import EnergyIntegrating
from operators.geometry import PlanarGeometry

from ..data.ellipses import Ellipses
from ..data.simulation import averaged
from ..problem import Problem


def metal_scan(
    fine: Tensor,
    metal: Ellipses,
    geometry: PlanarGeometry,
    beam: Beam,
    i0: float,
    electronic_sigma: float = 0.0,
    seed: int | Sequence[int] = 0,
    oversampling: int = 2,
) -> tuple[Problem, Tensor]:
    """y ~ Σ_k g_k Poisson(I₀ q_k exp(−μ_w(E_k) L_w − μ_m(E_k) L_m)) + noise, metal in place of tissue.

    Beam hardening and starvation as they are: the energies are summed up before the logarithm, and few
    photons are left behind metal. `problem.linear` is corrected for water, as scanners do, so the artefacts
    that remain are those of the metal. Path lengths, not intensities, are averaged over a bin: no partial
    volume.

    Parameters
    ----------
    fine : attenuation without the metal at `beam.reference` [1/mm], (*batch, ny, nx), finer than the
        geometry's image, as for `recon.data.simulate`
    metal : where there is metal, values are densities over that of the beam's metal (1: solid); may be none
    geometry : the scanner
    beam : of two materials, water and the metal: `Beam.of(tube_spectrum(120), ("water", "Fe"))`, or by hand
    i0 : detected photons per ray of the open beam
    electronic_sigma : of the electronic noise [effective quanta]
    seed : one for all images, or one per image

    Returns the problem, and the truth with the metal at its attenuation at `beam.reference`, (*batch,
    *geometry.image_shape).
    """
    if len(beam.materials) != 2:
        raise ValueError(
            f"metal_scan beam: expected 2 materials, water and metal, got {', '.join(beam.materials)}"
        )
    ny, nx = fine.shape[-2:]
    rows, columns = geometry.image_shape
    if ny <= rows or nx <= columns or ny * columns != nx * rows:
        raise ValueError(
            f"metal_scan fine: expected more pixels than {geometry.image_shape}, in the same proportion, "
            f"got {(ny, nx)}"
        )
    # of the body and the metal, both in one length of pixel
    pixel = geometry.extent[0] / ny
    share = metal.rasterise((ny, nx), pixel).to(fine) if len(metal) else torch.zeros_like(fine)
    water, heavy = beam.mu_reference
    tissue = fine * (1 - share.clamp(0, 1))
    A = XRay(geometry.refined((ny, nx), oversampling))
    share = share.expand(fine.shape)
    paths = A(torch.stack([tissue / water, share]))
    paths = paths.unflatten(-1, (geometry.n_bins, oversampling)).mean(-1)
    noise = EnergyIntegrating(beam, i0, electronic_sigma)
    y = noise.expose(paths, seed)
    return Problem(XRay(geometry), y, noise), averaged(tissue + heavy * share, geometry.image_shape)
