"""`recon translate`: images to images by trained weights, files in and the same kind of file out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .errors import say, usage

if TYPE_CHECKING:
    from ..data.translation.apply import Translation


@click.command()
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUTPUT", type=click.Path(path_type=Path))
@click.option("--weights", required=True, help="As `recon train` wrote them, or the name of shipped ones.")
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="LOW,HIGH[,UNIT]",
    help="Values that become −1 and 1; given twice, of the input and of the output. Default: the training's.",
)
@click.option(
    "--patch",
    metavar="NY,NX|whole",
    help="Patches of that size (NZ,NY,NX for volumes), or images as they are, for networks that take any "
    "size. Default: the trained size, in patches where images are of another.",
)
@click.option("--overlap", type=click.IntRange(min=0), help="Of patches [pixels]. Default: a quarter.")
@click.option("--air", is_flag=True, help="−1000 HU where the output is at the low end of its window.")
@click.option("--pattern", help="Only files whose name matches, as '*_low.dcm'.")
@click.option("--batch", type=click.IntRange(min=1), default=4, show_default=True, help="Images at once.")
@click.option(
    "--resume/--fresh", default=True, show_default=True, help="Keep what OUTPUT has, or start anew."
)
def translate(
    source: Path,
    out: Path,
    weights: str,
    windows: tuple[str, ...],
    patch: str | None,
    overlap: int | None,
    air: bool,
    pattern: str | None,
    batch: int,
    resume: bool,
) -> None:
    """Translate INPUT, a file or a folder searched to the bottom, into OUTPUT.

    DICOM (a file, a series, multi-frame), NIfTI, PNG, JPEG, TIFF, .npy, .npz, .csv and .txt; each comes out
    as the kind it was, under its name. DICOM keeps position, orientation, spacing and order of the slices,
    gets fresh UIDs and loses the patient. OUTPUT/translation.json says what was clipped by the windows. An
    interrupted run goes on where it was; a file that fails is named and left out, and the command then ends
    with 1.
    """
    import hashlib

    from ..checkpoints import load_method
    from ..data.translation.apply import Translation
    from ..data.translation.folder import Run
    from ..data.translation.window import Window

    with usage():
        if len(windows) > 2:
            raise ValueError("--window: expected once, or twice for input and output")
        given = tuple(Window.parse(text) for text in windows)
        method = load_method(weights)
        translation = Translation(
            method,
            (given[0], given[-1]) if given else None,
            _patch(patch),
            overlap,
            air,
            batch,
        )
        weighed = hashlib.sha256()
        for name, tensor in sorted(method.state_dict().items()):
            weighed.update(name.encode() + tensor.contiguous().numpy().tobytes())
        label = Path(weights).name.removesuffix(".safetensors").removesuffix(".json")
        run = Run(source, out, translation, label, weighed.hexdigest()[:16], pattern)
        run.open(resume)
    failures = _run(run, translation, resume)
    if failures:
        say(f"{failures} of {len(run.jobs)} failed")
        raise click.exceptions.Exit(1)


def _run(run: Any, translation: Translation, resume: bool) -> int:
    from tqdm import tqdm

    failed: list[str] = []

    def tell(job: Any, error: Exception) -> None:
        failed.append(job.name)
        say(f"{job.name}: {' '.join(str(error).split())}")

    kept = 0
    with tqdm(total=len(run.jobs), desc=run.label, unit="file", disable=None) as bar:
        for job, applied in run.each(tell, resume):
            kept += applied is None
            bar.update()
            bar.set_postfix_str(job.name, refresh=False)
    kept -= len(failed)
    if kept:
        say(f"kept {kept} that were there")
    click.echo(f"translated: {run.out}")
    if translation.window[0] is not None:
        click.echo(f"clipped: {100 * run.clipped:.3g} % of the input outside {translation.window[0]}")
    if run.slices:
        rate = run.slices / max(run.seconds, 1e-9)
        click.echo(f"{run.slices} images in {run.seconds:.2f} s, {rate:.3g} images per second")
    return len(failed)


def _patch(text: str | None) -> tuple[int, ...] | Literal["whole"] | None:
    if text is None:
        return None
    if text == "whole":
        return "whole"
    try:
        sizes = tuple(int(word) for word in text.split(","))
    except ValueError:
        sizes = ()
    if len(sizes) not in (2, 3) or min(sizes) < 1:
        raise ValueError(f"--patch {text}: expected NY,NX or NZ,NY,NX, or whole")
    return sizes
