"""Classical phantoms, as images and as ellipses."""

from __future__ import annotations

import math

from torch import Tensor

from .ellipses import Ellipse, Ellipses

# value (original, modified), semi-axes, centre, angle [degree], on [−1, 1]²
_SHEPP_LOGAN = (
    (2.00, 1.0, (0.69, 0.92), (0.0, 0.0), 0.0),
    (-0.98, -0.8, (0.6624, 0.874), (0.0, -0.0184), 0.0),
    (-0.02, -0.2, (0.11, 0.31), (0.22, 0.0), -18.0),
    (-0.02, -0.2, (0.16, 0.41), (-0.22, 0.0), 18.0),
    (0.01, 0.1, (0.21, 0.25), (0.0, 0.35), 0.0),
    (0.01, 0.1, (0.046, 0.046), (0.0, 0.1), 0.0),
    (0.01, 0.1, (0.046, 0.046), (0.0, -0.1), 0.0),
    (0.01, 0.1, (0.046, 0.023), (-0.08, -0.605), 0.0),
    (0.01, 0.1, (0.023, 0.023), (0.0, -0.605), 0.0),
    (0.01, 0.1, (0.023, 0.046), (0.06, -0.605), 0.0),
)


def shepp_logan_ellipses(modified: bool = True, field: float = 2.0, scale: float = 1.0) -> Ellipses:
    """The ten ellipses of Shepp & Logan, IEEE Trans. Nucl. Sci. 21 (1974) 21.

    modified : the contrasts of Toft (PhD thesis, DTU 1996), in [0, 1], in place of the original ones, where
        the skull is 2, the brain 1.02 and its features differ by 0.01
    field : side of the square the phantom is drawn in [mm]
    scale : factor of all values; the original with 0.0206 [1/mm] is a head in water
    """
    half = field / 2
    return Ellipses(
        Ellipse(
            scale * (toft if modified else original),
            (half * axes[0], half * axes[1]),
            (half * centre[0], half * centre[1]),
            math.radians(angle),
        )
        for original, toft, axes, centre, angle in _SHEPP_LOGAN
    )


def shepp_logan(
    shape: tuple[int, int], modified: bool = True, scale: float = 1.0, oversampling: int = 8
) -> Tensor:
    """The Shepp–Logan phantom, averaged over pixels: (ny, nx), float64; its square fills the shorter side.

    Arguments as in `shepp_logan_ellipses` and `Ellipses.rasterise`.
    """
    phantom = shepp_logan_ellipses(modified, field=min(shape), scale=scale)
    return phantom.rasterise(shape, 1.0, oversampling)


def off_centre_pair(half_width: float, value: float = 1.0) -> Ellipses:
    """An ellipse 0.6 × 0.35 at (0.15, −0.1) and a disc of 0.3 at (0.2, 0.1), in units of half the width.

    No symmetry hides a wrong direction, order or offset: the test object of the projectors.
    half_width : of the image [mm]; value : of each [1/mm]
    """
    h = half_width
    return Ellipses(
        [
            Ellipse(value, (0.6 * h, 0.35 * h), (0.15 * h, -0.1 * h)),
            Ellipse(value, (0.3 * h, 0.3 * h), (0.2 * h, 0.1 * h)),
        ]
    )
