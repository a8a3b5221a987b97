"""Which files belong together: folders with equal names, list files, the folders of Kaji's codes."""

from __future__ import annotations

import csv
import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path

from .pictures import SUFFIXES, kind_of, suffix_of


def image_files(folder: str | Path, pattern: str | None = None, depth: int | None = None) -> list[Path]:
    """Image files of a folder in natural order (slice-2 before slice-10), hidden ones left out.

    folder : a folder, or one file
    pattern : only names that match it, as "*_T1.nii.gz"; a word without * or ? anywhere in the name
    depth : levels of sub-directories searched, 0 for none; None for all

    Raises ValueError where there is no folder, or nothing in it.
    """
    folder = Path(folder)
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    found = []
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts) or not path.is_file():
            continue
        if depth is not None and len(inside.parts) > depth + 1:
            continue
        if pattern is not None and not _matches(path.name, pattern):
            continue
        if kind_of(path) is not None:
            found.append(path)
    if not found:
        told = f" that match {pattern!r}" if pattern else ""
        raise ValueError(f"{folder}: no image files{told} in it ({', '.join(SUFFIXES)})")
    return sorted(found, key=lambda p: natural(p.relative_to(folder).as_posix()))


def paired_files(
    inputs: str | Path, targets: str | Path, pattern: str | None = None, depth: int | None = None
) -> list[tuple[Path, Path]]:
    """(input, target): files of two folders with one name, apart from the kind of file, in natural order.

    Names are relative to the folders, so sub-directories must agree.

    Raises ValueError, naming files, where one has no partner or two have one name.
    """
    sides = [_named(Path(folder), pattern, depth) for folder in (inputs, targets)]
    for k, (here, there) in enumerate(((inputs, targets), (targets, inputs))):
        mine, other = sides[k], sides[1 - k]
        alone = [name for name in mine if name not in other]
        if alone:
            raise ValueError(
                f"{len(alone)} of {len(mine)} images in {here} have no partner of the same name in {there}, "
                f"which has {len(other)}: {', '.join(alone[:3])}{' …' * (len(alone) > 3)}"
            )
    return [(path, sides[1][name]) for name, path in sides[0].items()]


def listed_files(
    table: str | Path,
    root: str | Path | None = None,
    input_column: int = 0,
    target_column: int = 1,
) -> list[tuple[Path, Path]]:
    """(input, target) of every row of a text file, columns separated by tabs or commas; # begins a comment.

    table : the text file
    root : what its names are relative to; None: the folder it lies in
    input_column, target_column : counted from 0. One file each: several columns as channels of one image are
        not supported, since images here have no channels

    Raises ValueError, naming file and line, where a column or a file is missing.
    """
    table = Path(table)
    if not table.is_file():
        raise ValueError(f"{table}: there is no such list of files")
    for name, column in (("input_column", input_column), ("target_column", target_column)):
        if isinstance(column, bool) or not isinstance(column, int) or column < 0:
            raise ValueError(
                f"listed_files {name}: expected one column, counted from 0, got {column!r}; several columns "
                "as channels are not supported"
            )
    root = table.parent if root is None else Path(root)
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{table}: not a text file; expected names separated by tabs or commas") from None
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = next(csv.reader([line], delimiter="\t" if "\t" in line else ","))
        if len(cells) <= max(input_column, target_column):
            raise ValueError(
                f"{table} line {number}: expected at least {max(input_column, target_column) + 1} columns "
                f"separated by tabs or commas, got {len(cells)}"
            )
        pair = root / cells[input_column].strip(), root / cells[target_column].strip()
        for path in pair:
            if not path.is_file():
                raise ValueError(f"{table} line {number}: there is no file {path}")
        pairs.append(pair)
    if not pairs:
        raise ValueError(f"{table}: no file is named in it")
    return pairs


def layout(root: str | Path) -> dict[str, Path]:
    """Kaji's folders under `root`: trainA and trainB, and where they are testA and testB."""
    root = Path(root)
    found = {name: root / name for name in ("trainA", "trainB", "testA", "testB") if (root / name).is_dir()}
    missing = [name for name in ("trainA", "trainB") if name not in found]
    if missing:
        raise ValueError(f"{root}: expected folders trainA and trainB (testA, testB), no {missing[0]} there")
    return found


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key by which slice-2 comes before slice-10."""
    parts: Sequence[str] = re.findall(r"\d+|\D+", name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def stem_of(path: Path) -> str:
    """The name without its kind; of a DICOM file whose name ends in a UID, all of it."""
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix in SUFFIXES else path.name


def _named(folder: Path, pattern: str | None, depth: int | None) -> dict[str, Path]:
    named: dict[str, Path] = {}
    single = folder.is_file()
    for path in image_files(folder, pattern, depth):
        inside = Path() if single else path.relative_to(folder).parent
        name = "" if single else (inside / stem_of(path)).as_posix()
        if name in named:
            raise ValueError(f"{named[name]} and {path} have one name; pairs would be uncertain")
        named[name] = path
    return named


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatch(name, pattern if set(pattern) & set("*?[") else f"*{pattern}*")
