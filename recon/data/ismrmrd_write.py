"""Cartesian k-space as an ISMRMRD file, readout by readout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .hdf5 import import_h5py
from .ismrmrd_files import IMAGE
from .kspace import KSpace
from .mr_header import Encoding, header_xml

COUNTERS = [
    ("kspace_encode_step_1", "<u2"), ("kspace_encode_step_2", "<u2"), ("average", "<u2"), ("slice", "<u2"),
    ("contrast", "<u2"), ("phase", "<u2"), ("repetition", "<u2"), ("set", "<u2"), ("segment", "<u2"),
    ("user", "<u2", (8,)),
]  # fmt: skip
HEAD = [
    ("version", "<u2"), ("flags", "<u8"), ("measurement_uid", "<u4"), ("scan_counter", "<u4"),
    ("acquisition_time_stamp", "<u4"), ("physiology_time_stamp", "<u4", (3,)), ("number_of_samples", "<u2"),
    ("available_channels", "<u2"), ("active_channels", "<u2"), ("channel_mask", "<u8", (16,)),
    ("discard_pre", "<u2"), ("discard_post", "<u2"), ("center_sample", "<u2"), ("encoding_space_ref", "<u2"),
    ("trajectory_dimensions", "<u2"), ("sample_time_us", "<f4"), ("position", "<f4", (3,)),
    ("read_dir", "<f4", (3,)), ("phase_dir", "<f4", (3,)), ("slice_dir", "<f4", (3,)),
    ("patient_table_position", "<f4", (3,)), ("idx", COUNTERS), ("user_int", "<i4", (8,)),
    ("user_float", "<f4", (8,)),
]  # fmt: skip
NOISE, CALIBRATION = 1 << 18, 1 << 19
BLOCK = 512


def write_ismrmrd(scan: KSpace, path: Path, readout: int | None = None) -> None:
    """The file at `path`, which is written straight away; `write_kspace` replaces files in one step.

    readout : axis of k-space that becomes a readout; None takes the last along which the mask is constant
    """
    h5py = import_h5py()
    if scan.trajectory is not None:
        raise ValueError(f"{path}: only Cartesian k-space is written as ISMRMRD; use .npz")
    axis = _readout(scan, path, readout)
    writer = _Writer(scan, axis)
    ragged = np.dtype(
        [
            ("head", np.dtype(HEAD)),
            ("traj", h5py.special_dtype(vlen=np.dtype("<f4"))),
            ("data", h5py.special_dtype(vlen=np.dtype("<f4"))),
        ]
    )
    with h5py.File(path, "w") as file:
        group = file.create_group("dataset")
        xml = group.create_dataset("xml", shape=(1,), dtype=h5py.special_dtype(vlen=bytes))
        xml[0] = header_xml(writer.encoding, scan.coils, scan.attributes)
        data = group.create_dataset("data", shape=(0,), maxshape=(None,), chunks=(BLOCK,), dtype=ragged)
        pending: list[Any] = []
        for head, samples in writer.lines():
            pending.append((head, np.empty(0, np.float32), samples.reshape(-1).view(np.float32)))
            if len(pending) == BLOCK:
                _append(data, pending, ragged)
                pending = []
        _append(data, pending, ragged)


class _Writer:
    """Heads and samples of every readout."""

    def __init__(self, scan: KSpace, axis: int):
        self.scan, self.axis = scan, axis
        grid = scan.grid if len(scan.grid) == 3 else (1, *scan.grid)
        fov = scan.field_of_view
        recon = scan.recon_shape
        if len(scan.grid) == 2:
            thickness = float(scan.attributes.get("slice_spacing_mm", 1.0))
            fov = None if fov is None else (thickness, *fov)
            recon = None if recon is None else (1, *recon)
        if axis == -2:
            grid, fov, recon = (_swapped(v) for v in (grid, fov, recon))
        self.grid = grid
        nz, ny, _ = grid
        recon_fov = None
        if fov is not None and recon is not None:
            recon_fov = tuple(f * min(r, n) / n for f, r, n in zip(fov, recon, grid, strict=True))
        self.encoding = Encoding(
            matrix=grid,  # type: ignore[arg-type]
            field_of_view=fov,  # type: ignore[arg-type]
            recon_matrix=recon,  # type: ignore[arg-type]
            recon_field_of_view=recon_fov,  # type: ignore[arg-type]
            limits={1: (0, ny - 1, ny // 2), 2: (0, nz - 1, nz // 2)},
        )

    def lines(self) -> Any:
        """(head, samples (coils, n)): noise first, then calibration and imaging of every image."""
        scan, counter = self.scan, 0
        if scan.noise is not None:
            width = min(scan.noise.shape[1], 4096)
            for part in scan.noise.split(width, 1):
                yield self._head(counter, NOISE, part.shape[1], part.shape[1] // 2), _numpy(part)
                counter += 1
        for k in range(len(scan)):
            images = [(0, scan[k], self._turn(scan.sampled(k)))]
            if scan.calibration is not None:
                lines = scan.calibration[k]
                images.insert(0, (CALIBRATION, lines, self._turn((lines != 0).any(0))))
            for flags, y, measured in images:
                y = self._turn(y).reshape(scan.coils, *self.grid)
                for plane, row in measured.reshape(self.grid).any(-1).nonzero().tolist():
                    head = self._head(counter, flags, self.grid[2], self.grid[2] // 2)
                    head["idx"]["kspace_encode_step_1"], head["idx"]["kspace_encode_step_2"] = row, plane
                    self._place(head, k)
                    yield head, _numpy(y[:, plane, row])
                    counter += 1

    def _turn(self, values: Tensor) -> Tensor:
        return values.transpose(-1, -2) if self.axis == -2 else values

    def _head(self, counter: int, flags: int, samples: int, centre: int) -> Any:
        head = np.zeros((), dtype=np.dtype(HEAD))
        head["version"], head["flags"], head["scan_counter"] = 1, flags, counter
        head["number_of_samples"], head["center_sample"] = samples, centre
        head["available_channels"] = head["active_channels"] = self.scan.coils
        return head

    def _place(self, head: Any, k: int) -> None:
        """Counters of the image, and where its slice lies."""
        labels = self.scan.labels[k] if self.scan.labels else {"slice": k}
        for name in IMAGE:
            head["idx"][name] = labels.get(name, 0)
        if self.scan.affine is None:
            return
        affine = self.scan.affine[:, [1, 0, 2, 3]] if self.axis == -2 else self.scan.affine
        columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        head["read_dir"], head["phase_dir"], head["slice_dir"] = columns.T
        nz, ny, nx = self.grid
        middle = [nx // 2, ny // 2, nz // 2 if nz > 1 else labels.get("slice", 0), 1]
        head["position"] = (affine @ middle)[:3]


def _readout(scan: KSpace, path: Path, wanted: int | None) -> int:
    """An axis along which whole lines were measured."""
    mask = scan.mask
    for axis in (-1, -2) if wanted is None else (wanted,):
        if mask is None or mask.ndim < -axis or bool((mask == mask.narrow(axis, 0, 1)).all()):
            return axis
    raise ValueError(
        f"{path}: ISMRMRD keeps whole readouts, the mask changes along every axis of them; use .npz or .cfl"
    )


def _swapped(values: Any) -> Any:
    return None if values is None else (values[0], values[2], values[1])


def _append(data: Any, pending: list[Any], dtype: Any) -> None:
    if pending:
        rows = np.empty(len(pending), dtype=dtype)
        for n, (head, trajectory, samples) in enumerate(pending):
            rows[n]["head"], rows[n]["traj"], rows[n]["data"] = head, trajectory, samples
        data.resize((len(data) + len(pending),))
        data[-len(pending) :] = rows


def _numpy(samples: Tensor) -> Any:
    return np.ascontiguousarray(samples.to(torch.complex64).numpy())
