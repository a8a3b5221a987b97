"""`recon doctor`: what is installed, what works, what is missing and how to get it."""

from __future__ import annotations

from importlib.util import find_spec

import click

EXTRAS = {
    "matplotlib": ("report", "figures of the report"),
    "jinja2": ("report", "the report's page"),
    "astra": ("astra", "ASTRA's projectors (GPL-3)"),
    "odl": ("odl", "ODL's operators"),
    "deepinv": ("deepinv", "DeepInverse's models"),
    "h5py": ("mri", "HDF5 files"),
    "nibabel": ("mri", "NIfTI files"),
}


@click.command()
def doctor() -> None:
    """Versions, devices, projectors that work, a check of the adjoint, and what is missing."""
    import torch

    from ..comparison.describe import environment

    found = environment()
    click.echo("versions   " + ", ".join(f"{name} {number}" for name, number in found["versions"].items()))
    for name, value in found["machine"].items():
        click.echo(f"{name:<15}{value}")
    click.echo("")
    healthy = True
    for backend in backends():
        try:
            error = adjoint_error(backend, torch.device("cpu"))
        except (ValueError, RuntimeError, ImportError) as reason:
            click.echo(f"projector {backend:<12}not usable: {' '.join(str(reason).split())}")
            continue
        fine = error < 1e-5
        healthy &= fine
        click.echo(
            f"projector {backend:<12}{'works' if fine else 'WRONG'}, |⟨Ax,y⟩ − ⟨x,A*y⟩| = {error:.0e}·‖Ax‖‖y‖"
        )
    click.echo("")
    for name, (extra, use) in EXTRAS.items():
        if find_spec(name) is None:
            click.echo(f"missing {name}: {use}; pip install 'hybrid-recon[{extra}]'")
    if not healthy:
        raise click.ClickException("a projector is wrong: please report this with the lines above")
    click.echo("all is well")


def backends() -> list[str]:
    """Projectors that are tried."""
    return ["auto", "numba", "sparse", "astra"]


def adjoint_error(backend: str, device: object) -> float:
    """|⟨A x, y⟩ − ⟨x, A* y⟩| / (‖A x‖ ‖y‖) for signed random x, y and a small fan beam."""
    import math

    import torch

    from operators import FanBeam, XRay

    geometry = FanBeam(
        image_shape=(33, 41),
        pixel_size=1.0,
        angles=tuple(2 * math.pi * k / 17 for k in range(17)),
        n_bins=61,
        bin_size=1.7,
        source_to_centre=90.0,
        source_to_detector=150.0,
        detector="flat",
        offset=0.4,
    )
    A = XRay(geometry, backend=backend)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(A.in_shape, generator=generator)
    y = torch.randn(A.out_shape, generator=generator)
    Ax = A(x)
    gap = (Ax.double() * y.double()).sum() - (x.double() * A.adjoint(y).double()).sum()
    return float(gap.abs() / (Ax.double().square().sum().sqrt() * y.double().square().sum().sqrt()))
