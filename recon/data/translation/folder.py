"""Translation of whole folders: what is done stays done, and what was clipped is written down."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..dicom_series import read_series
from ..dicom_write import file_name
from ..volumes import Affine
from .apply import Applied, Translation
from .dicom_out import Uids, write_translated
from .listing import image_files, natural, stem_of
from .pictures import kind_of, read_picture
from .save import save
from .slices import Header, header_of

RECORD = "translation.json"
FAILURES = ValueError, ImportError, OSError, ArithmeticError, RuntimeError, MemoryError
"""Of one file, after which the next one is translated"""


@dataclass(frozen=True)
class Job:
    """Files that are translated together, and the files that come of them.

    name     relative to the input
    sources  one file; of a DICOM series its slices
    outputs  one for each source; of a multi-frame file one for each frame
    """

    name: str
    sources: tuple[Path, ...]
    outputs: tuple[Path, ...]

    @property
    def done(self) -> bool:
        return all(p.exists() for p in self.outputs)


class Run:
    """One run over a file or folder.

    source, out : a file or folder each; out is a file only if source is one and it has an image's name
    translation : what is done to every image
    label : of the weights, for descriptions and the record
    digest : that tells one set of weights from another
    """

    def __init__(
        self,
        source: Path,
        out: Path,
        translation: Translation,
        label: str,
        digest: str,
        pattern: str | None = None,
    ):
        self.source, self.translation, self.label = source, translation, label
        if not source.exists():
            raise ValueError(f"{source}: there is no such file or folder")
        here, there = source.resolve(), out.resolve()
        self.single = source.is_file() and kind_of(out) is not None and not out.is_dir()
        if here == there or here in there.parents or (source.is_dir() and there in here.parents):
            raise ValueError(f"{out}: the output must lie outside of the input {source}")
        self.out = out
        self.folder = out.parent if self.single else out
        self.plan = {
            "weights": label,
            "digest": digest,
            "windows": [None if w is None else asdict(w) for w in translation.window],
            "patch": translation.patch
            if isinstance(translation.patch, str | None)
            else list(translation.patch),
            "overlap": translation.overlap,
            "air": translation.air,
        }
        if self.single and kind_of(source) != kind_of(out):
            raise ValueError(f"{out}: a translation is the kind of file that came in, as {source.name}")
        self.jobs = list(self._jobs(pattern))
        self._check_outputs()
        self.record: dict[str, Any] = {"plan": self.plan, "salt": str(uuid.uuid4()), "images": {}}
        self.slices, self.seconds, self._written = 0, 0.0, 0.0

    def open(self, resume: bool = True) -> None:
        """Read OUT/translation.json, or begin it; ValueError if the folder holds another translation."""
        from ...comparison.files import check_writable, read_json

        check_writable(self.folder)
        path = self.out / RECORD
        if self.single:
            if self.out.exists() and resume:
                raise ValueError(f"{self.out}: already there; say --fresh to write it again")
            return
        if path.exists() and resume:
            found = read_json(path)
            if not isinstance(found, dict) or not all(
                isinstance(found.get(key), kind)
                for key, kind in (("plan", dict), ("salt", str), ("images", dict))
            ):
                raise ValueError(f"{path}: damaged; say --fresh to write the translation again")
            changed = sorted(k for k in self.plan if found["plan"].get(k) != self.plan[k])
            if changed:
                raise ValueError(
                    f"{self.out} holds another translation (different {', '.join(changed)}); choose another "
                    "OUTPUT, or say --fresh to write it again"
                )
            self.record = found
        elif resume and (there := [job.name for job in self.jobs if any(p.exists() for p in job.outputs)]):
            raise ValueError(
                f"{self.out}: {there[0]} is there, but no {RECORD} that says how it was made; choose another "
                "OUTPUT, or say --fresh to overwrite it"
            )
        if not resume:
            for job in self.jobs:
                for output in job.outputs:
                    output.unlink(missing_ok=True)
        self._write()

    def each(
        self, failed: Callable[[Job, Exception], None], resume: bool = True
    ) -> Iterator[tuple[Job, Applied | None]]:
        """Every job, with what came out, or None where it was done before or failed."""
        uids = Uids(self.record["salt"])
        try:
            for job in self.jobs:
                if resume and not self.single and job.done:
                    yield job, None
                    continue
                try:
                    applied = self._translate(job, uids)
                except FAILURES as error:
                    failed(job, error)
                    yield job, None
                    continue
                self.record["images"][job.name] = {
                    "slices": len(applied.values),
                    "input_clipped": round(applied.clipped, 6),
                    "output_outside_window": round(applied.outside, 6),
                    "output_clipped": round(applied.cut, 6),
                }
                if time.monotonic() - self._written > 2:
                    self._write()
                yield job, applied
        finally:
            self._write()

    @property
    def clipped(self) -> float:
        """Mean part of the input's values outside the window, over all images there are."""
        images = self.record["images"].values()
        slices = sum(i["slices"] for i in images)
        return sum(i["input_clipped"] * i["slices"] for i in images) / slices if slices else 0.0

    def _jobs(self, pattern: str | None) -> Iterator[Job]:
        together = len(self.translation.shape) == 3
        series: dict[tuple[Path, str], list[Path]] = {}
        for path in image_files(self.source, pattern):
            inside = Path(path.name) if self.source.is_file() else path.relative_to(self.source)
            header = _header(path)
            if header and header.frames > 1:
                if self.single:
                    raise ValueError(
                        f"{path}: {header.frames} frames become as many files; name a folder for them"
                    )
                slices = self.out / inside.parent / f"{stem_of(path)}-slices"
                outputs = tuple(slices / file_name(k) for k in range(header.frames))
                yield Job(inside.as_posix(), (path,), outputs)
            elif header and together:
                series.setdefault((inside.parent, header.series), []).append(path)
            else:
                yield Job(inside.as_posix(), (path,), (self.out if self.single else self.out / inside,))
        for (parent, _), paths in series.items():
            paths.sort(key=lambda p: natural(p.name))
            outputs = tuple(self.out if self.single else self.out / parent / p.name for p in paths)
            yield Job((parent / paths[0].name).as_posix(), tuple(paths), outputs)

    def _check_outputs(self) -> None:
        """No output is an input, through whatever links, and no two are one file."""
        sources = {path.resolve() for job in self.jobs for path in job.sources}
        seen: dict[Path, str] = {}
        for job in self.jobs:
            for path in job.outputs:
                place = path.resolve()
                if place in sources:
                    raise ValueError(f"{path}: the output would overwrite an input; choose another OUTPUT")
                if seen.setdefault(place, job.name) != job.name:
                    raise ValueError(
                        f"{path}: {seen[place]} and {job.name} would become one file; rename one"
                    )

    def _translate(self, job: Job, uids: Uids) -> Applied:
        first = job.sources[0]
        dicom = kind_of(first) == "dicom"
        if dicom and (len(job.outputs) > 1 or len(self.translation.shape) == 3):
            return self._series(job, uids)
        picture = read_picture(first).expect(self.translation.source_unit)
        applied = self._timed(picture.values)
        if dicom:
            self._dicom(applied, 0, first, job.outputs[0], uids, None)
        else:
            cut = save(picture, applied.values, job.outputs[0], self.translation.target_unit)
            applied = replace(applied, cut=cut)
        return applied

    def _series(self, job: Job, uids: Uids) -> Applied:
        """Slices that lie evenly one behind the other: of one series, or of one multi-frame file."""
        found = read_series(job.sources)
        if len(found) != 1:
            raise ValueError(f"{job.name}: expected one series, got {len(found)}")
        scan = found[0]
        if self.translation.source_unit == "HU" and scan.modality != "CT":
            raise ValueError(f"{job.name}: expected HU of a CT, got modality {scan.modality!r}")
        applied = self._timed(scan.hu)
        where = dict(zip(job.sources, job.outputs, strict=False))
        frames = len(job.sources) < len(job.outputs)
        for k, source in enumerate(scan.files):
            path = job.outputs[k] if frames else where[source]
            self._dicom(applied, k, source, path, uids, (scan.affine, k) if frames else None)
        return applied

    def _dicom(
        self,
        applied: Applied,
        k: int,
        source: Path,
        path: Path,
        uids: Uids,
        placed: tuple[Affine, int] | None,
    ) -> None:
        target = self.translation.modalities(1)
        modality = "CT" if self.translation.target_unit == "HU" else target[0] if target else None
        window = self.translation.window[0]
        note = f"{100 * applied.clipped:.3g} % of the input outside {window}." if window else ""
        write_translated(applied.values[k], source, path, uids, self.label, note, modality, placed)

    def _timed(self, values: Tensor) -> Applied:
        start = time.perf_counter()
        applied = self.translation(values)
        if values.is_cuda:
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - start
        self.slices += len(values)
        return applied

    def _write(self) -> None:
        from ...comparison.files import write_json

        if not self.single:
            write_json(self.out / RECORD, self.record)
        self._written = time.monotonic()


def _header(path: Path) -> Header | None:
    """Of a DICOM file that can be read; one that cannot fails when its turn comes, and is named then."""
    try:
        return header_of(path) if kind_of(path) == "dicom" else None
    except ValueError:
        return None
