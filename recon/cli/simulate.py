"""`recon simulate`: low-dose projections of images, and DICOM pairs reconstructed from them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import say, usage

if TYPE_CHECKING:
    from torch import Tensor

    from operators.geometry import FanBeam

    from ..data.dicom_write import Derived
    from ..data.volumes import Volume

ROUTINE = 1e9  # photons per detector cell and rotation
OVERSAMPLING = 2  # sub-bins a detector bin, and at least so many image points a pixel


class Doses(click.ParamType):
    """1,0.25,0.1"""

    name = "doses"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[float]:
        try:
            doses = [float(d) for d in str(value).split(",") if d.strip()]
        except ValueError:
            self.fail(f"expected numbers with commas between them, got {value!r}", param, ctx)
        if not doses or any(not (math.isfinite(d) and d > 0) for d in doses):
            self.fail(f"expected positive fractions of the full dose, got {value!r}", param, ctx)
        return sorted(set(doses), reverse=True)


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--geometry",
    default="siemens",
    show_default=True,
    help="The scanner: 2detect, ge, lion, siemens, xcist, …",
)
@click.option(
    "--dose",
    "doses",
    type=Doses(),
    default="1,0.25,0.1",
    show_default=True,
    metavar="1,0.25,…",
    help="Fractions of the full dose.",
)
@click.option("--i0", type=float, help="Photons per ray at full dose. Default: 1e9 / views.")
@click.option("--mas", type=float, help="Tube current × rotation time at full dose [mAs], instead of --i0.")
@click.option(
    "--electronic", type=float, default=3.0, show_default=True, help="Electronic noise, σ in photons."
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of projections and DICOM series."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the noise.")
@click.option("--pixels", type=click.IntRange(min=1), help="Columns of the images made. Default: as given.")
@click.option("--views", type=click.IntRange(min=1), help="Views per rotation. Default: the scanner's.")
@click.option("--filter", "window", default="hann", show_default=True, help="Filter of the FBP.")
@click.option("--mu-water", type=float, default=0.0206, show_default=True, help="Of water [1/mm].")
@click.option("--series", help="SeriesInstanceUID, where a folder holds several series.")
@click.option("--slices", metavar="FIRST:LAST", help="Only these slices, counted from 1 at the feet.")
@click.option("--pixel-size", type=float, help="[mm], of .npy and .npz.")
@click.option("--spacing", type=float, help="Distance of slices [mm], of .npy and .npz.")
@click.option("--resume/--fresh", default=True, show_default=True, help="Keep what --out has, or start anew.")
def simulate(source: Path, out: Path, resume: bool, **settings: Any) -> None:
    """Low-dose projections of SOURCE (image, DICOM file or folder, NIfTI) and FBP images as DICOM pairs.

    Each slice is scanned at each dose with its own noise: OUT/projections/slice-…_dose-….safetensors, for
    `recon reconstruct` and `recon.data.load_projections`; OUT/dicom/dose-…, a derived CT series a dose, and
    OUT/dicom/reference without noise or scanner. What lies outside the scanner's field of view is air. An
    interrupted run goes on where it was; nothing half written is left.
    """
    with usage():
        plan = Plan(source, out, settings)
        plan.open(resume)
    plan.run()
    click.echo(f"projections: {out / 'projections'}")
    click.echo(f"dicom: {out / 'dicom'}")


class Plan:
    """One run: what is scanned, how, and what is there already."""

    def __init__(self, source: Path, out: Path, settings: dict[str, Any]):
        from operators.backprojection import ramp

        from ..comparison.files import check_writable
        from .images import read_images

        self.out, self.settings = out, settings
        ramp(1, 1.0, settings["window"], 1.0)  # a wrong filter is an error now
        if not 0 < settings["mu_water"] < math.inf:
            raise ValueError(f"--mu-water [1/mm]: expected a positive number, got {settings['mu_water']}")
        self.volume, self.kvp = read_images(
            source, settings["series"], settings["pixel_size"], settings["spacing"]
        )
        self.chosen = _slices(settings["slices"], len(self.volume.hu))
        self.geometry, self.repeat = _scanner(self.volume, settings)
        self.i0 = _photons(self.geometry, settings)
        self.photons = self.i0 if isinstance(self.i0, float) else float(self.i0.max())
        if not 0 <= settings["electronic"] < math.inf:
            raise ValueError(f"--electronic: expected a number of at least 0, got {settings['electronic']}")
        check_writable(out)
        self.record: dict[str, Any] = {}

    def open(self, resume: bool) -> None:
        """Read or write OUT/simulation.json, which says what the folder holds."""
        from ..comparison.files import read_json, write_json
        from ..data.dicom_write import fresh_uid
        from ..data.projection_files import geometry_to_dict

        path = self.out / "simulation.json"
        if not resume:
            for name in ("projections", "dicom"):
                shutil.rmtree(self.out / name, ignore_errors=True)
            path.unlink(missing_ok=True)
        plan = self._key(geometry_to_dict(self.geometry))
        if path.exists():
            self.record = read_json(path)
            changed = sorted(k for k in plan if self.record.get("plan", {}).get(k) != plan[k])
            if changed:
                raise ValueError(
                    f"{self.out} holds another simulation (different {', '.join(changed)}); choose another "
                    "--out, or say --fresh to remove it"
                )
        else:
            self.record = {"plan": plan, "study": fresh_uid(), "frame": fresh_uid(), "series": {}}
        for name in ("reference", *(_dose(d) for d in self.settings["doses"])):
            self.record["series"].setdefault(name, fresh_uid())
        write_json(path, self.record)

    def run(self) -> None:
        """Every slice at every dose, with a bar on a terminal."""
        from tqdm import tqdm

        doses = self.settings["doses"]
        done = 0
        with tqdm(total=len(self.chosen) * len(doses), desc="simulate", unit="scan", disable=None) as bar:
            for k in self.chosen:
                missing = [d for d in doses if not all(f.exists() for f in self._files(k, d))]
                done += len(doses) - len(missing)
                bar.update(len(doses) - len(missing))
                if missing or not self._dicom("reference", k).exists():
                    self._slice(k, missing, bar)
        if done:
            say(f"kept {done} scans that were there")

    def _slice(self, k: int, doses: Sequence[float], bar: Any) -> None:
        from operators import LowDose, XRay, to_hu

        from ..data.dicom_write import write_slice
        from ..data.projection_files import save_projections
        from ..data.simulation import averaged
        from ..direct import FBP
        from ..problem import Problem

        mu_water, affine = self.settings["mu_water"], self._affine()
        fine = _field(self.volume.attenuation(mu_water)[k], self.repeat, self.geometry)
        reference = to_hu(averaged(fine, self.geometry.image_shape), mu_water)
        write_slice(
            reference, affine, k, self._dicom("reference", k), self._derived("reference", "reference")
        )
        if not doses:
            return
        # projected once, on the finer grid and with sub-bins, for all doses
        finely = XRay(self.geometry.refined((fine.shape[0], fine.shape[1]), OVERSAMPLING))(fine)
        finely = finely.unflatten(-1, (self.geometry.n_bins, OVERSAMPLING))
        A, fbp = XRay(self.geometry), FBP(self.settings["window"], positive=False)
        for dose in doses:
            noise = LowDose(dose * self.i0, self.settings["electronic"])
            seed = _seed(self.settings["seed"], k, dose)
            problem = Problem(A, noise(noise.average(finely), seed=seed), noise)
            hu = to_hu(fbp(problem), mu_water)
            projections, image = self._files(k, dose)
            about = {
                "slice": k,
                "dose": dose,
                "mu_water": mu_water,
                "kvp": self.kvp,
                "affine": affine.tolist(),
            }
            write_slice(
                hu, affine, k, image, self._derived(_dose(dose), f"FBP {self.settings['window']}", dose)
            )
            save_projections(problem, projections, about)
            bar.update()

    def _derived(self, name: str, method: str, dose: float | None = None) -> Derived:
        from ..data.dicom_write import Derived

        names = list(self.record["series"])
        said = (
            "noise-free reference"
            if dose is None
            else f"{method}, dose {dose:g}, I0 {dose * self.photons:.3g}"
        )
        return Derived(
            description=f"simulated: {said}"[:64],
            kvp=self.kvp,
            kernel=None if dose is None else self.settings["window"],
            number=names.index(name) + 1,
            study=self.record["study"],
            frame=self.record["frame"],
            series=self.record["series"][name],
        )

    def _files(self, k: int, dose: float) -> tuple[Path, Path]:
        name = f"slice-{k + 1:05d}_{_dose(dose)}.safetensors"
        return self.out / "projections" / name, self._dicom(_dose(dose), k)

    def _dicom(self, series: str, k: int) -> Path:
        from ..data.dicom_write import file_name

        folder = self.out / "dicom" / series
        folder.mkdir(parents=True, exist_ok=True)
        return folder / file_name(k)

    def _affine(self) -> Any:
        """Of the images made, whose pixels may be coarser than those of the volume."""
        import numpy as np

        affine = self.volume.affine.copy()
        ratio = self.volume.hu.shape[2] / self.geometry.image_shape[1]
        affine[:3, 3] += (ratio - 1) / 2 * (affine[:3, 0] + affine[:3, 1])
        return affine @ np.diag([ratio, ratio, 1.0, 1.0])

    def _key(self, geometry: dict[str, Any]) -> dict[str, Any]:
        """What a resumed run must share; doses and slices may be added."""
        import hashlib

        names = ("seed", "electronic", "window", "mu_water", "i0", "mas")
        digest = hashlib.sha256(self.volume.hu.numpy().tobytes() + self.volume.affine.tobytes()).hexdigest()
        fixed = {name: self.settings[name] for name in names}
        return fixed | {"geometry": _listed(geometry), "images": digest}


def _scanner(volume: Volume, settings: dict[str, Any]) -> tuple[FanBeam, int]:
    """The geometry on the grid of the images, and how often a pixel of the volume is repeated."""
    from operators import presets

    ny, nx = volume.hu.shape[1:]
    _, dy, dx = volume.spacing
    if not math.isclose(dy, dx, rel_tol=1e-4):
        raise ValueError(f"expected square pixels, got {dy:g} × {dx:g} mm; resample the images first")
    columns = settings["pixels"] or nx
    if columns > nx or (columns * ny) % nx:
        raise ValueError(
            f"--pixels {columns}: expected at most {nx}, with whole rows for images of {ny} × {nx} pixels"
        )
    scanner = presets.scanner(settings["geometry"])
    geometry = scanner((columns * ny // nx, columns), dx * nx / columns, settings["views"])
    return geometry, math.ceil(OVERSAMPLING * columns / nx)


def _photons(geometry: FanBeam, settings: dict[str, Any]) -> float | Tensor:
    """I0 per ray at full dose, of --mas for a cell of the scanner's own height."""
    from operators import photons_per_ray, presets

    i0, mas = settings["i0"], settings["mas"]
    if i0 is not None and mas is not None:
        raise ValueError("expected one of --i0 and --mas, got both")
    if mas is not None:
        return photons_per_ray(geometry, mas, cell_height=presets.scanner(settings["geometry"]).row_size)
    if i0 is None:
        return ROUTINE / geometry.views
    if not (math.isfinite(i0) and i0 > 0):
        raise ValueError(f"--i0 [photons per ray]: expected a positive number, got {i0}")
    return float(i0)


def _field(mu: Tensor, repeat: int, geometry: FanBeam) -> Tensor:
    """The slice on the fine grid, air outside the circle that every view sees."""
    import numpy as np
    import torch

    radius = geometry.source_to_centre * float(np.sin(np.abs(geometry.fan_angles()[[0, -1]]).min()))
    ny, nx = mu.shape
    pixel = geometry.extent[1] / nx
    y, x = torch.meshgrid(torch.arange(ny) - (ny - 1) / 2, torch.arange(nx) - (nx - 1) / 2, indexing="ij")
    mu = mu * (torch.hypot(x, y) * pixel <= radius)
    return mu.repeat_interleave(repeat, 0).repeat_interleave(repeat, 1)


def _slices(text: str | None, count: int) -> range:
    if text is None:
        return range(count)
    first, _, last = text.partition(":")
    try:
        chosen = range(int(first or 1) - 1, int(last or (count if ":" in text else first)))
    except ValueError:
        raise ValueError(f"--slices: expected FIRST:LAST, got {text!r}") from None
    if not chosen or chosen[0] < 0 or chosen[-1] >= count:
        raise ValueError(f"--slices: expected slices from 1 to {count}, got {text!r}")
    return chosen


def _seed(seed: int, k: int, dose: float) -> int:
    """One for each slice and dose, whichever others are made."""
    import numpy as np

    return int(np.random.SeedSequence([seed, k, round(dose * 1e9)]).generate_state(1, np.uint64)[0] >> 1)


def _dose(dose: float) -> str:
    return f"dose-{dose:g}"


def _listed(value: Any) -> Any:
    """As JSON gives it back."""
    if isinstance(value, dict):
        return {k: _listed(v) for k, v in value.items()}
    return [_listed(v) for v in value] if isinstance(value, tuple | list) else value
