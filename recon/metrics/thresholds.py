"""Where an MR magnitude image shows something: the body against the noise of the air."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .rois import real_images


def foreground(
    image: Tensor, threshold: float | None = None, smooth: float = 1.0, dilation: int = 0, ndim: int = 2
) -> Tensor:
    """The largest connected region above a threshold, once the holes of every slice are filled: bool.

    Without a threshold it is Otsu's, IEEE Trans. Syst. Man Cybern. 9 (1979), of √|x|: the root, since the
    body's own contrasts would otherwise divide it. Holes, such as skull and air cells, belong to the body.

    image : magnitudes ≥ 0, (*batch, ny, nx), or with ndim = 3 volumes (*batch, nz, ny, nx)
    threshold : in the unit of the image, applied after smoothing; None: Otsu's, of every image its own
    smooth : σ of a Gaussian before the threshold [pixels], against noise; it moves edges outwards by 1 to 2
        pixels per pixel of σ; 0 for none
    dilation : steps by which the mask grows at the end, each to the direct neighbours
    ndim : 2: every slice by itself, 3: every volume as one

    Raises ValueError for complex, negative or constant images, and where nothing is above the threshold.
    """
    from scipy import ndimage

    if isinstance(image, Tensor) and image.is_complex():
        raise ValueError("foreground image: expected real magnitudes, got complex values; give image.abs()")
    if ndim not in (2, 3):
        raise ValueError(f"foreground ndim: expected 2 for slices or 3 for volumes, got {ndim!r}")
    x = real_images("foreground image", image)
    if x.ndim < ndim:
        raise ValueError(f"foreground image: expected at least {ndim} dimensions, got {tuple(x.shape)}")
    if bool((x < 0).any()):
        raise ValueError("foreground image: expected magnitudes, got negative values; give image.abs()")
    if not smooth >= 0 or int(dilation) != dilation or dilation < 0:
        raise ValueError(
            f"foreground: expected smooth ≥ 0 and a whole dilation ≥ 0, got {smooth!r} and {dilation!r}"
        )
    images = x.cpu().reshape(-1, *x.shape[-ndim:]).numpy()
    masks = np.zeros(images.shape, bool)
    for i, one in enumerate(images):
        where = f" (number {i} of the batch)" if len(images) > 1 else ""
        blurred = ndimage.gaussian_filter(one, smooth, mode="nearest") if smooth else one
        if threshold is None:
            if np.ptp(one) == 0:
                raise ValueError(
                    f"foreground image: every value is {one.flat[0]:g}{where}; a constant image has no "
                    "foreground"
                )
            above = np.sqrt(blurred) > otsu(np.sqrt(blurred))
        else:
            above = blurred > threshold
        for plane in above.reshape(-1, *above.shape[-2:]):  # before labels: a skull may part scalp and brain
            plane[:] = ndimage.binary_fill_holes(plane)
        labels, count = ndimage.label(above)
        if not count:
            raise ValueError(
                f"foreground threshold: nothing is above {threshold}{where}, the maximum after smoothing is "
                f"{blurred.max():g}; lower it or give None"
            )
        sizes = np.bincount(labels.ravel())[1:]
        body = labels == 1 + int(sizes.argmax())
        masks[i] = ndimage.binary_dilation(body, iterations=int(dilation)) if dilation else body
    return torch.from_numpy(masks.reshape(x.shape)).to(image.device)


def otsu(values: np.ndarray) -> float:
    """argmax over θ of w₀ w₁ (m₀ − m₁)², weights and means of the values up to θ and above it.

    Otsu, 1979, on the sorted values, without a histogram; the result is one of the values.

    values : at least two different ones, else ValueError
    """
    ordered = np.sort(values, axis=None).astype(np.float64)
    if ordered.size < 2 or ordered[0] == ordered[-1]:
        raise ValueError("otsu values: expected at least two different numbers, got a constant")
    centred = ordered - ordered.mean()
    count = np.arange(1, ordered.size)
    # with zero mean w₀ w₁ (m₀ − m₁)² is S² / (n₀ n₁), S the sum of the lower class
    between = np.cumsum(centred)[:-1] ** 2 / (count * (ordered.size - count))
    between[ordered[1:] == ordered[:-1]] = -1  # equal values stay together
    return float(ordered[int(between.argmax())])
