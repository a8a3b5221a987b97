"""K-space files of any format that is known: read, and written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .hdf5 import import_h5py, names, opened
from .kspace import KSpace

VENDORS = {
    ".dat": "siemens_to_ismrmrd", ".raw": "philips_to_ismrmrd", ".lab": "philips_to_ismrmrd",
    ".sin": "philips_to_ismrmrd", ".7": "ge_to_ismrmrd", ".rds": "ge_to_ismrmrd",
}  # fmt: skip
HDF5 = (".h5", ".hdf5", ".mrd", ".ismrmrd")


def read_kspace(path: str | Path, **options: Any) -> KSpace:
    """The scan in a fastMRI or ISMRMRD file (HDF5), BART's .cfl with its .hdr, or NumPy's .npz or .npy.

    options : of `read_ismrmrd` (encoding=…, remove_oversampling=…, readout=…) or `read_kspace_npz` (ndim=…)

    Raises ValueError, naming the file, where it is of another kind, damaged, hostile or not k-space;
    ImportError where the package for it is missing.
    """
    from .cfl import read_bart
    from .fastmri import read_fastmri
    from .ismrmrd_files import read_ismrmrd
    from .kspace_npz import read_kspace_npz

    path = Path(path)
    if path.suffix in (".cfl", ".hdr") or (not path.exists() and path.with_name(path.name + ".hdr").exists()):
        return read_bart(path, **options)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    if path.suffix in (".npz", ".npy"):
        return read_kspace_npz(path, **options)
    if path.suffix.lower() in VENDORS:
        tool = VENDORS[path.suffix.lower()]
        raise ValueError(f"{path}: a scanner's own raw data; convert them with {tool} to ISMRMRD")
    with path.open("rb") as file:
        start = file.read(8)
    if path.suffix not in HDF5 and start != b"\x89HDF\r\n\x1a\n":
        raise ValueError(f"{path}: expected k-space: fastMRI or ISMRMRD (HDF5), .cfl, .npz or .npy")
    with opened(path) as file:
        found = names(file)
    return read_fastmri(path, **options) if "kspace" in found else read_ismrmrd(path, **options)


def write_kspace(scan: KSpace, path: str | Path, **options: Any) -> Path:
    """`scan` as ISMRMRD (.h5, .mrd), BART (.cfl and .hdr) or .npz, by the name's end; whole or not at all.

    .npz keeps everything. ISMRMRD keeps whole readouts of Cartesian k-space, mask, noise, calibration, labels
    and place; BART the values and, as zeros, the mask.

    options : readout=-1 or -2 of ISMRMRD, the axis that becomes a readout: by default the last where the
        mask is constant; `read_kspace` puts readouts along the rows, so k-space read out along columns comes
        back transposed unless it is read with the same readout. dimension="slice", "time", … of BART, along
        which images go

    Raises ValueError where the format cannot hold the scan, or has no such ending.
    """
    from ..comparison.files import replaced
    from .cfl import to_bart, write_cfl
    from .ismrmrd_write import write_ismrmrd
    from .kspace_npz import write_kspace_npz

    path = Path(path)
    if not isinstance(scan, KSpace):
        raise ValueError(f"write_kspace scan: expected a KSpace, got {type(scan).__name__}")
    if path.suffix == ".cfl":
        if scan.trajectory is not None:
            raise ValueError(f"{path}: only Cartesian k-space is written as .cfl; use .npz")
        y = torch.stack([scan[k] * scan.sampled(k) for k in range(len(scan))])
        return write_cfl(to_bart(y, len(scan.grid), **options), path)
    if path.suffix == ".npz":
        with replaced(path) as beside:
            write_kspace_npz(scan, beside, **options)
        return path
    if path.suffix in HDF5:
        import_h5py()
        with replaced(path) as beside:
            write_ismrmrd(scan, beside, **options)
        return path
    raise ValueError(f"{path}: expected a name that ends in .h5, .mrd, .cfl or .npz")
