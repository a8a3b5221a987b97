# %% [markdown]
# # DICOM in, DICOM out
# A folder of slices becomes a volume in the patient's coordinates; its low-dose scan is kept on disk; the
# reconstruction goes back to the viewer as a derived CT series with the method in its description, fresh
# UIDs, and nobody's name. On the command line: `recon simulate` and `recon reconstruct`.

# %%
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import pydicom
from pydicom.data import get_testdata_file

from operators import LowDose, presets, to_hu
from recon import FBP, PWLSTotalVariation
from recon.data import (
    Derived,
    load_projections,
    read_nifti,
    read_series,
    save_projections,
    simulate,
    write_dicom,
    write_nifti,
)
from recon.data.volumes import Volume

folder = TemporaryDirectory()
work = Path(folder.name)

# %% Any folder of a CT series; by default the head slice that comes with pydicom. Slices come out ordered by
# position, missing and doubled ones are errors that name the files
source = sys.argv[2] if len(sys.argv) > 2 else get_testdata_file("J2K_pixelrep_mismatch.dcm")
scan = read_series(source)[0]
middle = len(scan.hu) // 2
print(f"{len(scan.hu)} slices, (dz, dy, dx) = {scan.spacing} mm, {scan.kvp} kV, gantry tilt {scan.tilt:.1f}°")

# %% One slice on a Siemens geometry at a tenth of the routine 1e9 photons per detector cell and rotation
size = scan.hu.shape[2] // 2
geometry = presets.siemens_definition((size, size), 2 * scan.spacing[1], views=192)
noise = LowDose(i0=1e8 / geometry.views, electronic_sigma=3.0)
problem, truth = simulate(scan.attenuation()[middle], geometry, noise, seed=0)
save_projections(problem, work / "head.safetensors", {"dose": 0.1})

# %% Geometry, photons and data come back exactly. λ is given: 192 views and coarse pixels leave errors of the
# model above the noise, which the choice of weight=None would take for noise
problem = load_projections(work / "head.safetensors")
images = {"FBP, Hann": FBP()(problem), "PWLS-TV": PWLSTotalVariation(weight=1000.0)(problem)}

# %% The images lie where the slice did: pixels are twice as large, so the first one's middle moves by half a
# pixel of the slice
affine = scan.affine.copy()
affine[:3, 3] += (affine[:3, 0] + affine[:3, 1]) / 2 + middle * affine[:3, 2]
affine[:3, :2] *= 2
study = Derived("unused")  # its study and frame of reference are shared by both series
for number, (name, image) in enumerate(images.items(), 1):
    derived = Derived(f"{name}, dose 0.1", kvp=scan.kvp, number=number, study=study.study, frame=study.frame)
    write_dicom(Volume(to_hu(image)[None], affine), work / "dicom" / name, derived)
write_nifti(Volume(to_hu(images["PWLS-TV"])[None], affine), work / "pwls.nii.gz")

# %% What a viewer finds
back = sorted(read_series(work / "dicom"), key=lambda s: s.description)
header = pydicom.dcmread(back[0].files[0])
print(header.ImageType, header.PatientName, header.SeriesDescription, header.RescaleType, sep=" | ")
rounding = float((back[1].hu[0] - to_hu(images["PWLS-TV"])).abs().max())
print(f"whole HU: at most {rounding:.2f} away; NIfTI {tuple(read_nifti(work / 'pwls.nii.gz').hu.shape)}")

# %%
figure, axes = plt.subplots(1, 3, figsize=(12, 4.6), layout="constrained")
shown = {"reference": to_hu(truth)} | {s.description: s.hu[0] for s in back}
for axis, (name, image) in zip(axes, shown.items(), strict=True):
    axis.imshow(image, cmap="gray", vmin=-60, vmax=140)
    axis.set(title=name, xticks=[], yticks=[])
figure.suptitle("Read back from DICOM; window −60 to 140 HU")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "09_dicom_in_dicom_out.png", dpi=120)
folder.cleanup()
