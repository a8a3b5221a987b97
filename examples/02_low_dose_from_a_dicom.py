# %% [markdown]
# # Low-dose CT from a DICOM: from FBP to penalised weighted least squares
# A real head slice, scanned again at a tenth of the routine dose; the rays through bone bring fewest photons,
# and PWLS trusts them least: `min_x ½ Σ (A x − p)²/var(p) + λ ∫|∇x|`, x ≥ 0.

# %%
import math
import sys

import matplotlib.pyplot as plt
from pydicom.data import get_testdata_file

from operators import FanBeam, LowDose, to_attenuation, to_hu
from recon import FBP, PWLSTotalVariation, TotalVariation, rmse_hu
from recon.data import read_dicom, simulate
from recon.metrics import body_mask

# %% Any CT DICOM: the second argument on the command line; by default the head slice that comes with pydicom
path = sys.argv[2] if len(sys.argv) > 2 else get_testdata_file("J2K_pixelrep_mismatch.dcm")
scan = read_dicom(path)
fine = to_attenuation(scan.hu)  # [1/mm]

# %% A clinical arc-detector fan beam; 5.6e5 photons a ray × 180 views is a tenth of routine
size = fine.shape[0] // 2
geometry = FanBeam(
    image_shape=(size, size),
    pixel_size=2 * scan.pixel_size,
    angles=[2 * math.pi * k / 180 for k in range(180)],
    n_bins=368,
    bin_size=2.5716,
    source_to_centre=595.0,
    source_to_detector=1085.6,
    detector="arc",
)
problem, truth = simulate(fine, geometry, LowDose(i0=5.6e5, electronic_sigma=3.0), seed=0)

# %% λ is chosen from the noise alone
images = {
    "reference": truth,
    "FBP, Hann": FBP(filter="hann")(problem),
    "TV, equal weights": TotalVariation()(problem),
    "TV, PWLS": PWLSTotalVariation()(problem),
}

# %%
mask = body_mask(truth)
figure, axes = plt.subplots(1, 4, figsize=(15, 5), layout="constrained")
for axis, (name, image) in zip(axes, images.items(), strict=True):
    axis.imshow(to_hu(image), cmap="gray", vmin=-60, vmax=140)
    if name != "reference":
        name += f"\nRMSE {rmse_hu(image, truth, mask=mask, mu_water=0.0206):.1f} HU in the body"
    axis.set(title=name, xticks=[], yticks=[])
figure.suptitle("Head CT at a tenth of routine dose; window −60 to 140 HU")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "02_low_dose_from_a_dicom.png", dpi=120)
