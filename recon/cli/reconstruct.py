"""`recon reconstruct`: images from projections or k-space on disk, as DICOM or NIfTI."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import say, usage

if TYPE_CHECKING:
    from ..base import Reconstructor
    from ..data.dicom_write import Derived
    from ..data.scans import Scan


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--method", help="As `recon list` names them. Default: fbp, of k-space cg-sense.")
@click.option("--param", "params", multiple=True, metavar="KEY=VALUE", help="Of the method; may be repeated.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the images.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["dicom", "nifti"]),
    help="A DICOM series, or one NIfTI file, for each series of the input. Default: dicom, of k-space nifti.",
)
@click.option(
    "--weights", type=click.Path(exists=True, path_type=Path), help="Of a learned method, as trained."
)
@click.option(
    "--pixels", type=click.IntRange(min=1), default=512, show_default=True, help="Of foreign formats."
)
@click.option("--pixel-size", type=float, help="[mm], of foreign formats. Default: the field of view.")
@click.option("--spacing", type=float, help="Of slices rebinned from a helix [mm].")
@click.option("--mu-water", type=float, help="Of water [1/mm]. Default: as the file says, else 0.0206.")
@click.option("--resume/--fresh", default=True, show_default=True, help="Keep what --out has, or start anew.")
def reconstruct(source: Path, out: Path, resume: bool, **settings: Any) -> None:
    """Images of the projections in SOURCE, in HU, or of its k-space.

    SOURCE is a file or folder of `recon simulate` or `recon.data.save_projections`, a folder of DICOM-CT-PD,
    an HTC 2022 .mat or a 2DeteCT folder; or k-space, a fastMRI or ISMRMRD file (.h5, .mrd), BART's .cfl, .npz
    (coil maps by ESPIRiT; magnitudes). Writes OUT/dicom/SERIES/slice-….dcm or OUT/SERIES.nii.gz. A slice that
    fails is named and left out; the command then ends with 1. An interrupted run goes on where it was.
    """
    with usage():
        run = Run(source, out, settings)
        run.open(resume)
    failures = run.run()
    click.echo(f"images: {run.finish()}")
    if failures:
        say(f"{failures} failed")
        raise click.exceptions.Exit(1)


class Run:
    """One run: the scans, the method, and what is there already."""

    def __init__(self, source: Path, out: Path, settings: dict[str, Any]):
        from ..comparison.files import check_writable
        from ..data.kspace_scans import is_kspace, open_kspace
        from ..data.scans import open_scans

        for name, unit in (("pixel_size", "mm"), ("spacing", "mm"), ("mu_water", "1/mm")):
            if settings[name] is not None and not settings[name] > 0:
                raise ValueError(
                    f"--{name.replace('_', '-')} [{unit}]: expected a positive number, got {settings[name]}"
                )
        self.out, self.settings = out, settings
        self.params = parameters(settings["params"])
        mri = is_kspace(source)
        settings["method"] = settings["method"] or ("cg-sense" if mri else "fbp")
        settings["kind"] = settings["kind"] or ("nifti" if mri else "dicom")
        self.method = build(settings["method"], self.params, settings["weights"])
        if mri:
            self._check_kspace()
            self.scans = open_kspace(source)
        else:
            names = ("pixels", "pixel_size", "mu_water", "spacing")
            self.scans = open_scans(source, **{n: settings[n] for n in names})
        check_writable(out)
        self.record: dict[str, Any] = {}

    def _check_kspace(self) -> None:
        """Options that only projections have."""
        given = [n for n in ("pixel_size", "mu_water", "spacing") if self.settings[n] is not None]
        if given:
            raise ValueError(f"--{given[0].replace('_', '-')} is of projections, SOURCE is k-space")
        if self.settings["kind"] == "dicom":
            raise ValueError("--format dicom: MR images are written as NIfTI only; say --format nifti")

    def open(self, resume: bool) -> None:
        """Read or write OUT/reconstruction.json, which says what the folder holds."""
        from ..comparison.files import read_json, write_json
        from ..data.dicom_write import fresh_uid

        path = self.out / "reconstruction.json"
        if not resume:
            for name in ("dicom", "slices"):
                shutil.rmtree(self.out / name, ignore_errors=True)
            for name in read_json(path)["series"] if path.exists() else ():
                (self.out / f"{name}.nii.gz").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        names = ("method", "kind", "pixels", "pixel_size", "spacing", "mu_water")
        plan = {n: self.settings[n] for n in names} | {"params": self.params}
        if path.exists():
            self.record = read_json(path)
            changed = sorted(k for k in plan if self.record.get("plan", {}).get(k) != plan[k])
            if changed:
                raise ValueError(
                    f"{self.out} holds another reconstruction (different {', '.join(changed)}); choose "
                    "another --out, or say --fresh to remove it"
                )
        else:
            self.record = {"plan": plan, "study": fresh_uid(), "frame": fresh_uid(), "series": {}}
        for scan in self.scans:
            self.record["series"].setdefault(scan.series, fresh_uid())
        write_json(path, self.record)

    def run(self) -> int:
        """Every scan, with a bar on a terminal; how many failed."""
        from tqdm import tqdm

        failed = kept = 0
        with tqdm(self.scans, desc=self.settings["method"], unit="scan", disable=None) as bar:
            for scan in bar:
                bar.set_postfix_str(f"{scan.series} {scan.number + 1}")
                if self._done(scan).exists():
                    kept += 1
                    continue
                try:
                    self._scan(scan)
                except (ValueError, FloatingPointError, MemoryError) as error:
                    failed += 1
                    say(f"{scan.series}, slice {scan.number + 1}: {' '.join(str(error).split())}")
        if kept:
            say(f"kept {kept} scans that were there")
        return failed

    def finish(self) -> Path:
        """Of NIfTI: slices, which stay for the next run, into one volume each series."""
        if self.settings["kind"] == "dicom":
            return self.out / "dicom"
        import numpy as np
        import torch

        from ..comparison.files import read_image
        from ..data.nifti import write_nifti
        from ..data.volumes import Volume

        for series in self.record["series"]:
            parts = sorted((self.out / "slices" / series).glob("*.npz"))
            if not parts:
                continue
            affine = np.array(self.record["affines"][series])
            numbers = [int(p.stem.split("-")[1]) - 1 for p in parts]
            if numbers != list(range(numbers[0], numbers[0] + len(parts))):
                say(f"{series}: slices are missing between its first and last: no volume of it")
                continue
            affine[:3, 3] += numbers[0] * affine[:3, 2]
            hu = torch.from_numpy(np.concatenate([read_image(p) for p in parts]))
            write_nifti(Volume(hu, affine), self.out / f"{series}.nii.gz")
        return self.out

    def _scan(self, scan: Scan) -> None:
        from operators import to_hu

        from ..comparison.files import write_image, write_json
        from ..data.dicom_write import file_name, write_slice
        from ..data.scans import check_volume_batch, finite_image, scan_volume

        problem = scan.load()
        check_volume_batch(problem)
        x = finite_image(self.method(problem).detach())
        x = to_hu(x, scan.mu_water) if scan.mu_water is not None else x
        hu, affine = scan_volume(scan, x if scan.image is None else scan.image(x), problem)
        done = self._done(scan)
        done.parent.mkdir(parents=True, exist_ok=True)
        if self.settings["kind"] == "nifti":
            self.record.setdefault("affines", {})[scan.series] = affine.tolist()
            write_json(self.out / "reconstruction.json", self.record)
            write_image(done, hu.cpu().numpy().astype("float32"))
            return
        for k in reversed(range(len(hu))):  # the first slice last: it says that all are there
            path = done if k == 0 else done.with_name(file_name(scan.number + k))
            write_slice(hu[k], affine, scan.number + k, path, self._derived(scan))

    def _done(self, scan: Scan) -> Path:
        from ..data.dicom_write import file_name

        name = file_name(scan.number)
        if self.settings["kind"] == "nifti":
            return self.out / "slices" / scan.series / Path(name).with_suffix(".npz")
        return self.out / "dicom" / scan.series / name

    def _derived(self, scan: Scan) -> Derived:
        from ..data.dicom_write import Derived

        said = ", ".join(f"{k} {v}" for k, v in self.params.items())
        return Derived(
            description=", ".join(filter(None, [self.settings["method"], said, scan.series]))[:64],
            kvp=scan.kvp,
            number=list(self.record["series"]).index(scan.series) + 1,
            study=self.record["study"],
            frame=self.record["frame"],
            series=self.record["series"][scan.series],
        )


def parameters(texts: Sequence[str]) -> dict[str, Any]:
    """key=value pairs; numbers, true, false, null and lists as JSON writes them, anything else is text."""
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key.isidentifier() and equals):
            raise ValueError(f"--param: expected KEY=VALUE, got {text!r}")
        if key in found:
            raise ValueError(f"--param {key}: given twice")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found


def build(name: str, params: dict[str, Any], weights: Path | None) -> Reconstructor:
    """The method of that name with these parameters, or the trained one in `weights`."""
    from ..base import METHODS
    from ..comparison.discovery import unknown

    if name not in METHODS:
        raise unknown("method", name, METHODS)
    cls = METHODS[name]
    if cls.data_kind is not None:
        if weights is None:
            raise ValueError(f"{name} learns from data: name its weights with --weights FILE.safetensors")
        if params:
            raise ValueError(f"{name}: trained weights come with their parameters; leave out --param")
        return cls.load(weights)
    if weights is not None:
        raise ValueError(f"{name} has no weights; leave out --weights")
    allowed = list(inspect.signature(cls).parameters)
    wrong = sorted(set(params) - set(allowed))
    if wrong:
        raise ValueError(f"{name} has no parameter {wrong[0]!r}; it has {', '.join(allowed) or 'none'}")
    try:
        return cls(**params)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error
