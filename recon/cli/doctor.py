"""`recon doctor`: what is installed, what works, what is missing and how to get it."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from operators.geometry import Geometry

BACKENDS = ("auto", "numba", "sparse", "astra", "triton", "tomosipo")

EXTRAS = {
    "matplotlib": ("report", "figures of the report"),
    "jinja2": ("report", "the report's page"),
    "astra": ("astra", "ASTRA's projectors (GPL-3)"),
    "odl": ("odl", "ODL's operators"),
    "deepinv": ("deepinv", "DeepInverse's models"),
    "nibabel": ("formats", "NIfTI files"),
    "tifffile": ("formats", "TIFF stacks"),
    "spekpy": ("physics", "spectra of X-ray tubes"),
    "xraydb": ("physics", "attenuation of materials"),
    "h5py": ("mri", "fastMRI and ISMRMRD files"),
    "finufft": ("mri", "fast non-uniform Fourier transforms"),
}


@click.command()
def doctor() -> None:
    """Versions, devices, projectors that work, a check of the adjoint, and what is missing."""
    from ..comparison.describe import environment

    found = environment()
    click.echo("versions   " + ", ".join(f"{name} {number}" for name, number in found["versions"].items()))
    for name, value in found["machine"].items():
        click.echo(f"{name:<15}{value}")
    click.echo("")
    healthy = True
    for device in devices():
        for scan in scans():
            for backend in BACKENDS:
                line, fine = tried(scan, backend, device)
                healthy &= fine
                if line:
                    click.echo(line)
    click.echo("")
    for name, (extra, use) in EXTRAS.items():
        if find_spec(name) is None:
            click.echo(f"missing {name}: {use}; pip install 'hybrid-recon[{extra}]'")
    if not healthy:
        raise click.ClickException("a projector is wrong: please report this with the lines above")
    click.echo("all is well")


def devices() -> list[str]:
    """Where projectors are tried."""
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def scans() -> list[Geometry]:
    """A small fan beam and a small cone beam."""
    from operators import ConeBeam, FanBeam

    angles = tuple(2 * math.pi * k / 17 for k in range(17))
    return [
        FanBeam((33, 41), 1.0, angles, 61, 1.7, 90.0, 150.0, offset=0.4),
        ConeBeam((9, 11, 13), 1.0, angles, (12, 21), 1.7, 40.0, 70.0),
    ]


def tried(scan: Geometry, backend: str, device: str) -> tuple[str, bool]:
    """A line on one projector, empty where it does not have the scan, and whether it is healthy."""
    import torch

    from operators import XRay
    from operators.testing import mismatch

    name = f"projector {type(scan).__name__:<9}{device:<5}{backend:<9}"
    try:
        A = XRay(scan, backend)
    except ValueError:
        return "", True
    try:
        gap = mismatch(A, torch.float32, device)
    except (ValueError, RuntimeError, ImportError) as reason:
        return f"{name} not usable: {' '.join(str(reason).split())}", True
    allowed = 1e-5 if A.adjoint_is_exact else 1e-1
    kind = "exact" if A.adjoint_is_exact else "approximate"
    found = f"adjoint {kind}, |⟨Ax,y⟩ − ⟨x,A*y⟩| = {gap:.0e}·‖Ax‖‖y‖"
    return f"{name} {'works' if gap < allowed else 'WRONG'}, {found}", gap < allowed
