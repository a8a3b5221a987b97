"""Stacks of TIFF images: one file of many pages, or a folder of files in the order of their numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from operators import XRay, normalise
from operators.geometry import Geometry, PlanarGeometry

from ..problem import Problem
from .volumes import finite

Source = str | Path | Iterable[str | Path]
SHORTEST = 1032  # times that compression may shorten a page


def read_tiff(source: Source, rows: slice | int | None = None, views: slice | None = None) -> Tensor:
    """Pages as (pages, ny, nx), float32; of one row only, (pages, nx).

    Files of a folder come in natural order: view_2 before view_10. All pages must have one size and one type.

    source : a file, a folder of .tif and .tiff files, or files in order
    rows : of every page, a slice, or one row by number; all by default
    views : of the files in order (or of the pages of a single file), all by default

    Raises ValueError, naming the file, where there is none, it is damaged or truncated, claims more than it
    can hold, pages differ, or values are colours, complex or NaN.
    """
    files = _files(source)
    if len(files) > 1 and views is not None:
        files = files[views]
        views = None
    pages: list[np.ndarray[Any, Any]] = []
    kind = None
    for path in files:
        found = _pages(path, views)
        kind = kind or (found[0].shape, found[0].dtype)
        if (found[0].shape, found[0].dtype) != kind:
            raise ValueError(
                f"{path}: {found[0].shape} {found[0].dtype}, but {files[0]} has {kind[0]} {kind[1]}; one "
                "stack has pages of one kind"
            )
        # only the rows asked for stay in memory
        pages += found if rows is None else [_some_rows(path, page, rows) for page in found]
    if not pages:
        raise ValueError(f"read_tiff views: {views} leaves no page")
    return finite(str(files[0]), torch.from_numpy(np.stack(pages).astype(np.float32)))


def read_tiff_scan(
    raw: Source,
    dark: Source,
    flat: Source,
    geometry: Geometry,
    rows: slice | int | None = None,
    views: slice | None = None,
    **settings: Any,
) -> Problem:
    """A scan from stacks of readings, dark and open-beam images: counts kept, as `operators.normalise` does.

    raw, dark, flat : as `read_tiff` takes them; a sinogram is one page (views, bins), dark and flat then have
        one row
    geometry : of the scan; of two dimensions for one detector row, `rows`, or a sinogram
    rows, views : of the readings; dark and flat keep all their frames
    settings : of `normalise`, gain, electronic_sigma, …

    Raises ValueError where files are damaged or do not fit the geometry.
    """
    stacks = [read_tiff(raw, rows, views), read_tiff(dark, rows), read_tiff(flat, rows)]
    planar = isinstance(geometry, PlanarGeometry)
    if planar and rows is None and len(stacks[0]) == 1:
        stacks = [stacks[0][0], *(s.reshape(-1, s.shape[-1]) for s in stacks[1:])]
    if tuple(stacks[0].shape) != geometry.out_shape:
        raise ValueError(
            f"read_tiff_scan: readings of shape {tuple(stacks[0].shape)} for a geometry of "
            f"{geometry.out_shape}; choose rows and views that fit"
        )
    calibrated = normalise(stacks[0], stacks[1], stacks[2], data_ndim=2 if planar else 3, **settings)
    return Problem(XRay(geometry), calibrated.counts, calibrated.noise)


def _files(source: Source) -> Sequence[Path]:
    if not isinstance(source, str | Path):
        files = [Path(p) for p in source]
    elif Path(source).is_dir():
        found = [p for p in Path(source).glob("[!.]*") if p.suffix.lower() in (".tif", ".tiff")]
        files = sorted(found, key=lambda p: natural(p.name))
    else:
        files = [Path(source)]
    if not files:
        raise ValueError(f"{source}: no .tif or .tiff files in it")
    for path in files:
        if not path.is_file():
            raise ValueError(f"{path}: there is no such file")
    return files


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key by which view_2 comes before view_10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts]


def _pages(path: Path, views: slice | None) -> list[np.ndarray[Any, Any]]:
    tifffile = _tifffile()
    try:
        with tifffile.TiffFile(path) as file:
            chosen = list(file.pages)[views if views is not None else slice(None)]
            for page in chosen:
                _check_page(path, page)
            pages = [page.asarray() for page in chosen]
    except Exception as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: not a TIFF file, truncated or damaged ({error})") from error
    for page in pages:
        if page.shape != pages[0].shape or page.dtype != pages[0].dtype:
            raise ValueError(f"{path}: pages of {pages[0].shape} and of {page.shape}; one stack has one size")
    if not pages:
        raise ValueError(f"{path}: no pages (of those asked for)")
    return pages


def _check_page(path: Path, page: Any) -> None:
    if len(page.shape) != 2 or page.dtype is None or page.dtype.kind not in "iuf":
        raise ValueError(f"{path}: expected grey values, got a page of shape {page.shape}, {page.dtype}")
    need = math.prod(page.shape) * page.dtype.itemsize
    most = path.stat().st_size * (SHORTEST if page.compression != 1 else 1)
    if need > most:
        raise ValueError(f"{path}: truncated; a page claims {need} bytes, the file can hold {most}")


def _some_rows(path: Path, page: np.ndarray[Any, Any], rows: slice | int) -> np.ndarray[Any, Any]:
    try:
        part = page[rows]
    except IndexError:
        raise ValueError(f"{path}: no row {rows}, it has {page.shape[0]}") from None
    if part.size == 0:
        raise ValueError(f"{path}: rows {rows} leave nothing of {page.shape[0]}")
    return part.copy()


def _tifffile() -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise ImportError("TIFF files need tifffile: pip install 'hybrid-recon[formats]'") from error
    return tifffile
