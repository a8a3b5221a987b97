# %% [markdown]
# # Images to images, from folders
# Pairs of DICOM files, low dose and full, are a training set; a network after nothing (A is the identity) is
# trained on patches of one patient and translates the files of another. The geometry of the files stays. On
# the command line: `recon train fbp-unet --paired low full` and `recon translate low out --weights …`.

# %%
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch
from pydicom.data import get_testdata_file

from operators import LowDose, presets, to_hu
from recon import FBP, FBPUNet, psnr
from recon.cli import main
from recon.data import Augmentation, PairedImages, read_series, simulate, write_dicom
from recon.data.translation import Window
from recon.data.volumes import Volume

folder = TemporaryDirectory()
work = Path(folder.name)

# %% Two real slices that come with pydicom, each scanned at a five-hundredth of the routine dose and
# reconstructed with a sharp filter. The head is scanned three times: the same slice with other noise
DOSE = 0.002


def scanned(name, seeds):
    """Low-dose images and their truth [HU], on pixels twice as large, and where they lie."""
    scan = read_series(get_testdata_file(name, download=False))[0]
    size = scan.hu.shape[-1] // 2
    geometry = presets.siemens_definition((size, size), 2 * scan.spacing[1], views=192)
    noise = LowDose(i0=DOSE * 1e9 / geometry.views, electronic_sigma=3.0)
    affine = scan.affine.copy()
    affine[:3, 3] += (affine[:3, 0] + affine[:3, 1]) / 2
    affine[:3, :2] *= 2
    low = []
    for seed in seeds:
        problem, truth = simulate(scan.attenuation()[0], geometry, noise, seed=seed)
        low.append(to_hu(FBP(filter="ram-lak")(problem)))
    return torch.stack(low), torch.stack([to_hu(truth)] * len(low)), affine


for part, patient, name, seeds in (
    ("train", "head", "J2K_pixelrep_mismatch.dcm", (0, 1, 2)),
    ("test", "spine", "CT_small.dcm", (0,)),
):
    low, full, affine = scanned(name, seeds)
    for k in range(len(low)):
        write_dicom(Volume(low[k : k + 1], affine), work / part / "low" / patient / f"scan-{k}", "low dose")
        write_dicom(
            Volume(full[k : k + 1], affine), work / part / "full" / patient / f"scan-{k}", "full dose"
        )

# %% Patches of 48² in a window of −1000 … 1500 HU; input and target are moved alike. No patient is in both
# parts, or it would be an error
data = PairedImages.folders(
    work / "train/low",
    work / "train/full",
    validation=(work / "test/low", work / "test/full"),
    window=Window(-1000, 1500),
    crop=48,
    augmentation=Augmentation(flip=True, flip_rows=True),
)
print(data, f"{data.seeds}; clipped {100 * data.about['clipped'][0]:.2g} % of the input")
method = FBPUNet(base=16, depth=2, steps=160, batch_size=4, learning_rate=2e-3).fit(data)
method.save(work / "weights/low-to-full", scores=method.scores(data))

# %% The other patient's files, by the command; the window is on the card. The image is larger than the
# patches, so it is put together from overlapping ones
source, out = work / "test/low", work / "out"
main(
    ["translate", str(source), str(out), "--weights", str(work / "weights/low-to-full")],
    standalone_mode=False,
)

# %% What a viewer finds: the same place, fresh UIDs, whole HU
before, truth, after = (read_series(p)[0] for p in (source, work / "test/full", out))
assert (abs(after.affine - before.affine) < 1e-6).all() and after.uid != before.uid
span = float(truth.hu.max() - truth.hu.min())
body = truth.hu > -300
for name, series in (("low dose", before), ("translated", after)):
    bias = float((series.hu - truth.hu)[body].mean())
    print(
        f"{name:<11} PSNR {float(psnr(series.hu[0], truth.hu[0], data_range=span)):.2f} dB, in tissue: "
        f"mean error {bias:+.1f} HU, mean |error| {float((series.hu - truth.hu)[body].abs().mean()):.1f} HU"
    )

# %%
figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
for axis, (name, series) in zip(
    axes, {"low dose": before, "translated": after, "truth": truth}.items(), strict=True
):
    axis.imshow(series.hu[0], cmap="gray", vmin=-200, vmax=400)
    axis.set(title=name, xticks=[], yticks=[])
figure.suptitle("Trained on a head, applied to a spine; window −200 to 400 HU")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "28_translate_folder.png", dpi=120)
folder.cleanup()
