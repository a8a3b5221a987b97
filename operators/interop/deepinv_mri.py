"""deepinv's Cartesian MRI as our Sense."""

from __future__ import annotations

from typing import Any

from ..sense import Sense
from .deepinv import toolbox


def sense_from_deepinv(physics: Any, pixel_size: float | tuple[float, ...] = 1.0) -> Sense:
    """MRI, MultiCoilMRI or DynamicMRI of deepinv as `Sense`: the same numbers, complex, shifts left out.

    Their images (B, 2, …) and data (B, 2, [coils,] …) are ours as complex (B, …) and (B, [coils,] …). Mask
    and maps are copies; noise is left out.

    physics     of one mask and one set of maps for all images
    pixel_size  [mm], as `Sense` wants it

    Raises ValueError for other physics, for masks or maps that differ within the batch, and for masks that
    differ between real and imaginary part.
    """
    known = toolbox().physics
    if not isinstance(physics, known.MRI | known.MultiCoilMRI):
        raise ValueError(
            f"sense_from_deepinv physics: expected MRI, MultiCoilMRI or DynamicMRI, got "
            f"{type(physics).__name__}; other physics go through from_deepinv"
        )
    mask, maps = physics.mask, getattr(physics, "coil_maps", None)
    if len(mask) != 1 or (maps is not None and len(maps) != 1):
        raise ValueError(
            "sense_from_deepinv physics: expected one mask and one set of maps, got a batch of them; "
            "make one physics for every image"
        )
    if not bool((mask[:, :1] == mask).all()):
        raise ValueError("sense_from_deepinv physics: its mask differs between real and imaginary part")
    return Sense(
        mask[0, 0].detach().clone(),
        None if maps is None else maps[0].detach().clone(),
        ndim=3 if physics.three_d else 2,
        pixel_size=pixel_size,
    )
