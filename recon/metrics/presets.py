"""What communities of MR reconstruction mean by PSNR, SSIM and NMSE: the same images, numbers 5 dB apart.

    preset("fastmri")(image, truth)
    {"psnr_db": …, "ssim": …, "nmse": …, "data_range": …, "reference": "maximum of the truth's volume"}

Of complex images the magnitude is taken, image and truth each on its own, except where it says otherwise. A
number is only comparable with one that was computed alike, cropped alike, and on the same slices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .fidelity import _difference, _double, magnitude, nmse, nrmse, psnr, ssim

Scores = dict[str, Tensor | str]


@dataclass(frozen=True)
class Preset:
    """preset(image, truth) -> scores; the docstring of `compute` says how, and what is wrong with it.

    name : of the convention
    ndim : trailing dimensions that get one number, 3: volumes (slices, ny, nx), 2: slices (ny, nx)
    reference : what `data_range` is
    compute : (image, truth) -> scores, in float64
    """

    name: str
    ndim: int
    reference: str
    compute: Callable[[Tensor, Tensor], Scores]

    def __call__(self, image: Tensor, truth: Tensor) -> Scores:
        """Scores, each (*batch,) and float64; `data_range` (*batch,), `reference` in words."""
        expected = "(*batch, slices, ny, nx)" if self.ndim == 3 else "(*batch, ny, nx)"
        if image.shape != truth.shape or image.ndim < self.ndim or 0 in image.shape:
            hint = "; give a single slice as image[None]" if self.ndim == 3 and image.ndim == 2 else ""
            raise ValueError(
                f"preset {self.name}: expected image and truth of one shape {expected}, got "
                f"{tuple(image.shape)} and {tuple(truth.shape)}{hint}"
            )
        for name, x in (("image", image), ("truth", truth)):
            if not bool(torch.isfinite(x).all()):
                raise ValueError(f"preset {self.name} {name}: expected finite values, got NaN or inf")
        return {**self.compute(image, truth), "reference": self.reference}


def preset(name: str) -> Preset:
    """The metrics of a community by name, one of `PRESETS`."""
    if name not in PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def fastmri(image: Tensor, truth: Tensor) -> Scores:
    """10 log₁₀(max² / mean|x − t|²), mean SSIM of the slices, ‖x − t‖²/‖t‖²: max and norms of the volume.

    Zbontar et al., arXiv:1811.08839, and its public `evaluate.py`: SSIM with a uniform window of 7 × 7 and
    the sample covariance. A bright slice raises PSNR and SSIM of all others; SSIM of slices that are mostly
    air is near 1 and is averaged in with the same weight.
    """
    x, t = _stacked(magnitude(image)), _stacked(magnitude(truth))
    peak = _peak(t)
    slices = peak[..., None].expand(image.shape[:-2])
    similar = ssim(magnitude(image), magnitude(truth), data_range=slices)
    return {
        "psnr_db": psnr(x, t, data_range=peak),
        "ssim": similar.mean(-1),
        "nmse": nmse(x, t),
        "data_range": peak,
    }


def fastmri_slice(image: Tensor, truth: Tensor) -> Scores:
    """`fastmri` of each slice with its own maximum and norm, as in many papers that quote its volume numbers.

    Dark slices at the end of a volume get a small maximum and hence a small PSNR: about 5 dB less on average
    for one and the same recipe (fastMRI's pull request 130: 27.0 and 32.3 dB).
    """
    x, t = magnitude(image), magnitude(truth)
    return _sliced(x, t, _peak(t))


def direct(image: Tensor, truth: Tensor) -> Scores:
    """Of a slice: PSNR refers to the maximum of the *reconstruction*, max|x|, SSIM to that of the truth.

    DIRECT's `batch_psnr`, its loss and validation in training. A reconstruction with one bright pixel gets a
    better PSNR. DIRECT's evaluation refers to the truth, see `fastmri` and `calgary_campinas`.
    """
    x, t = magnitude(image), magnitude(truth)
    return {
        **_sliced(x, t, _peak(t)),
        "psnr_db": psnr(x, t, data_range=_peak(x)),
        "data_range": _peak(x),
        "ssim_data_range": _peak(t),
    }


def calgary_campinas(image: Tensor, truth: Tensor) -> Scores:
    """Mean over slices of PSNR and SSIM, whose range is max(x, t) − min(x, t) of the slice.

    The multi-channel challenge's script, with which DIRECT's model zoo was evaluated. The range depends on
    the reconstruction: an overshoot raises the score. NMSE is not part of it.
    """
    x, t = magnitude(image), magnitude(truth)
    low = torch.minimum(x.amin((-2, -1)), t.amin((-2, -1))).double()
    reach = torch.maximum(x.amax((-2, -1)), t.amax((-2, -1))).double() - low
    _positive(reach)
    return {
        "psnr_db": psnr(x, t, data_range=reach).mean(-1),
        "ssim": ssim(x, t, data_range=reach).mean(-1),
        "data_range": reach.mean(-1),
    }


def dagan(image: Tensor, truth: Tensor) -> Scores:
    """Of a slice in [0, 1]: PSNR for range 1, SSIM for range 2, and ‖x − t‖/‖t‖, which DAGAN calls NMSE.

    Yang et al., IEEE Trans. Med. Imaging 37 (2018): scikit-image 0.12's defaults for floats. The range of 2
    makes SSIM's constants four times too large, which inflates it; the ratio is not squared, here `nrmse`.
    """
    x, t = magnitude(image), magnitude(truth)
    one = torch.ones(x.shape[:-2], dtype=torch.float64, device=x.device)
    return {
        "psnr_db": psnr(x, t, data_range=one),
        "ssim": ssim(x, t, data_range=2 * one),
        "nrmse": nrmse(x, t),
        "data_range": one,
        "ssim_data_range": 2 * one,
    }


def refinegan(image: Tensor, truth: Tensor) -> Scores:
    """Of a slice whose truth is in [0, 1]: −10 log₁₀ mean(|x| − min(|t|, 1))².

    Quan et al., IEEE Trans. Med. Imaging 37 (2018), in the PyTorch port that publishes a table. The peak is
    1 even where the truth stays far below. The port clips its first argument to [0, 1], which is the truth:
    what a reconstruction has above 1 counts as error.
    """
    x, t = magnitude(image), magnitude(truth).clamp(max=1)
    one = torch.ones(x.shape[:-2], dtype=torch.float64, device=x.device)
    return {"psnr_db": psnr(x, t, data_range=one), "data_range": one}


def bart(image: Tensor, truth: Tensor) -> Scores:
    """‖x − t‖/‖t‖ of the complex values, as `bart nrmse t x`: a phase is an error, a magnitude has none.

    Not squared, so not NMSE. Without a range; `data_range` is max|t|, for the record.
    """
    return {"nrmse": nrmse(*_alike(image, truth)), "data_range": _peak(truth.abs())}


def bart_scaled(image: Tensor, truth: Tensor) -> Scores:
    """‖x/a − t‖/‖t‖ of the complex values, a = ⟨t, x⟩/⟨t, t⟩, as `bart nrmse -s t x`, which prints a as well.

    A wrong scale or a constant phase is forgiven. The truth is fitted to the image, not the image to the
    truth, so this is not the least error that a scale can give. inf where the two are orthogonal.
    """
    x, t = _alike(image, truth)
    scale = (t.conj() * x).sum((-2, -1)) / (t.abs() ** 2).sum((-2, -1))
    fitted = nrmse(x, scale[..., None, None] * t)
    return {
        "nrmse": torch.where(scale == 0, math.inf, fitted),
        "scale": scale,
        "data_range": _peak(truth.abs()),
    }


def deepinv(image: Tensor, truth: Tensor) -> Scores:
    """Of a slice: −10 log₁₀(mean|x − t|² + 1e-8), SSIM with Wang's Gaussian window for range 1, and NMSE.

    deepinv's defaults with `complex_abs=True`. The PSNR never exceeds 80 dB; SSIM, that of torchmetrics, is
    averaged up to the edges, where windows see mirrored pixels; the peak is 1 whatever the truth's is, so
    give images that were scaled to [0, 1].
    """
    x, t = magnitude(image), magnitude(truth)
    one = torch.ones(x.shape[:-2], dtype=torch.float64, device=x.device)
    error = (_difference(x, t) ** 2).mean((-2, -1))
    padded = (F.pad(a.reshape(-1, 1, *a.shape[-2:]), (5, 5, 5, 5), "reflect") for a in (x, t))
    return {
        "psnr_db": -10 * torch.log10(error + 1e-8),
        "ssim": ssim(*padded, data_range=1.0, gaussian=True).reshape(one.shape),
        "nmse": nmse(x, t),
        "data_range": one,
    }


PRESETS: dict[str, Preset] = {
    one.name: one
    for one in (
        Preset("fastmri", 3, "maximum of the truth's volume", fastmri),
        Preset("fastmri-slice", 2, "maximum of the truth's slice", fastmri_slice),
        Preset("direct", 2, "maximum of the reconstructed slice; SSIM: of the truth's", direct),
        Preset(
            "calgary-campinas", 3, "range of truth and reconstruction, mean of the slices", calgary_campinas
        ),
        Preset("dagan", 2, "1, SSIM: 2", dagan),
        Preset("refinegan", 2, "1", refinegan),
        Preset("bart", 2, "norm of the complex truth", bart),
        Preset("bart-scaled", 2, "norm of the complex truth, scale fitted", bart_scaled),
        Preset("deepinv", 2, "1", deepinv),
    )
}


def _sliced(x: Tensor, t: Tensor, peak: Tensor) -> Scores:
    return {
        "psnr_db": psnr(x, t, data_range=peak),
        "ssim": ssim(x, t, data_range=peak),
        "nmse": nmse(x, t),
        "data_range": peak,
    }


def _stacked(volume: Tensor) -> Tensor:
    """(*batch, slices, ny, nx) as one tall image."""
    return volume.flatten(-3, -2)


def _peak(x: Tensor) -> Tensor:
    return _positive(x.amax((-2, -1)).double())


def _positive(peak: Tensor) -> Tensor:
    if not bool((peak > 0).all()):
        raise ValueError("preset: expected images with positive values, got a maximum of zero or less")
    return peak


def _alike(image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    x, t = _double(image), _double(truth).to(image.device)
    return (x, t) if x.dtype == t.dtype else (x.to(torch.complex128), t.to(torch.complex128))
