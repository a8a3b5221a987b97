"""From an object to raw MR data: coils, phase, motion, noise; the truth kept apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from operators import Gaussian, LinearOperator, Sense

from ..problem import Problem
from .ellipses import Ellipses
from .motion import Motion
from .multicoil import combined, multicoil_kspace, multicoil_of_image, multicoil_samples, origin
from .simulation import averaged
from .smooth_fields import SmoothField

TRUTHS = ("band-limited", "pixels")


def simulate_mri(
    scene: Ellipses | Tensor,
    mask: Tensor | None = None,
    maps: SmoothField | Tensor | None = None,
    *,
    trajectory: Tensor | None = None,
    shape: tuple[int, int] | None = None,
    pixel_size: float = 1.0,
    phase: SmoothField | None = None,
    motion: Motion | None = None,
    sigma: float | None = None,
    snr: float | None = None,
    seed: int | Sequence[int] = 0,
    truth: str = "band-limited",
    inverse_crime: bool = False,
    dtype: torch.dtype = torch.complex64,
) -> tuple[Problem, Tensor]:
    """y_c(k) = ∫ S_c x exp(−i k·r) dr + n where sampled, E|n|² = σ²; A = `Sense`, or non-uniform.

    No inverse crime: k-space of ellipses is exact, that of an image is the middle of its finer k-space, so
    the data hold the ringing and the partial volumes that the model of the reconstruction does not know.

    Truth. "band-limited": the coil-combined image of a full scan without noise or motion, the reference of
    fastMRI and of every scan that can be repeated. No method is charged for frequencies that nobody measured,
    and the data lie within their noise of A x: of T2 brains, 8 coils, snr 40, χ² per datum is 1.00 at 128²
    and 1.06 at 64². "pixels": means over pixels of the object, what an ideal scanner would show. Even a full
    scan differs from it by its ringing, by 5 to 7 % of the norm; χ² per datum is 1.3 at 128² and 2.1 at 64²,
    so that a discrepancy rule has the wrong target.

    A real image, as a magnitude DICOM, is data of a kind no scanner gives: smooth or zero phase, often
    zero-filled, interpolated or compressed. Results from it flatter every method ("implicit data crimes",
    Shimron, Tamir, Wang, Lustig, PNAS 119 (2022)); call them a quick look, and give at least a `phase`.

    scene : ellipses [mm], or an image (*batch, My, Mx), real or complex, with more pixels than the grid over
        the same field of view
    mask : of k-space, real or bool, broadcasts to (ny, nx). Or
    trajectory : (…, samples, 2), (k_y, k_x) [rad per pixel]
    maps : coil sensitivities: `coil_fields(8)`, or for images also a tensor (coils, ny, nx) on the grid or
        finer; None for one coil of sensitivity 1
    shape : (ny, nx) of the grid, where neither maps nor mask say it
    pixel_size : of the grid [mm]
    phase : smooth phase of the scanner, as `random_phase(seed)`
    motion : pose of every shot
    sigma : √E|n|² of each datum. Or
    snr : mean of |truth| where it exceeds 5 % of its maximum, over σ; σ then is per image. Neither: no noise,
        and the noise model is of unknown σ = 1
    seed : of the noise, one for all images or one per image
    inverse_crime : allow an image on the very grid of the reconstruction
    dtype : complex64 or complex128

    Computed on the CPU in double precision. Returns the problem, y (*batch, [coils,] ny, nx) with zeros where
    nothing is sampled or (*batch, coils, …, samples), and the truth (*batch, ny, nx).
    """
    if truth not in TRUTHS:
        raise ValueError(f"simulate_mri truth: expected one of {', '.join(TRUTHS)}, got {truth!r}")
    if (mask is None) == (trajectory is None):
        raise ValueError("simulate_mri: expected exactly one of mask and trajectory")
    if mask is not None and torch.as_tensor(mask).ndim > 2:
        got = tuple(torch.as_tensor(mask).shape)
        raise ValueError(f"simulate_mri mask: expected one that broadcasts to (ny, nx), got {got}")
    shape = _shape(shape, maps, mask)
    scene = scene.detach().cpu() if isinstance(scene, Tensor) else scene
    grid = _Grid(scene, shape, pixel_size, maps, phase, inverse_crime)
    full = grid.kspace(scene)
    raster = grid.raster(shape)
    x = (
        combined(full, raster)
        if truth == "band-limited"
        else pixel_means(scene, grid.phase, shape, pixel_size)
    )
    A: LinearOperator
    if trajectory is not None:
        A = _non_uniform(trajectory, raster.to(dtype), pixel_size)
        y = grid.observed(motion, trajectory)
    else:
        coils = None if maps is None else raster.to(dtype)
        A = Sense(torch.as_tensor(mask), coils, shape=shape, pixel_size=pixel_size)
        y = full if motion is None else grid.observed(motion, None)
        y = y if maps is not None else y.squeeze(-3)
        y = torch.as_tensor(mask).to(torch.float64) * y
    return noisy(A, y.to(dtype), x.to(dtype), sigma, snr, seed), x.to(dtype)


def noisy(
    A: LinearOperator,
    clean: Tensor,
    truth: Tensor,
    sigma: float | None,
    snr: float | Tensor | None,
    seed: int | Sequence[int],
) -> Problem:
    """clean + n where A samples; σ given, or from the signal of each image and its `snr`."""
    ndim, sampled = len(A.out_shape), getattr(A, "sampled", None)
    if sigma is not None and snr is not None:
        raise ValueError(f"simulate_mri: expected at most one of sigma and snr, got {sigma} and {snr}")
    if sigma is None and snr is None:
        return Problem(A, clean, Gaussian(sigma=1.0, data_ndim=ndim, mask=sampled))
    law = Gaussian(sigma=sigma if snr is None else signal(truth) / snr, data_ndim=ndim, mask=sampled)
    return Problem(A, law(clean, seed=seed), law)


def signal(truth: Tensor) -> Tensor:
    """Mean of |x| over the pixels above 5 % of its maximum, one value per image, float64."""
    size = truth.abs().double().flatten(-2)
    inside = size > 0.05 * size.amax(-1, keepdim=True)
    return (size * inside).sum(-1) / inside.sum(-1).clamp_min(1)


def pixel_means(
    scene: Ellipses | Tensor, phase: SmoothField, shape: tuple[int, int], pixel_size: float
) -> Tensor:
    """Object × phase averaged over pixels, (*batch, ny, nx), complex128."""
    if isinstance(scene, Ellipses):
        scene = scene.rasterise((4 * shape[0], 4 * shape[1]), pixel_size / 4, 8)
    fine = (scene.shape[-2], scene.shape[-1])
    return averaged(scene.to(torch.complex128) * phase.at(fine), shape)


class _Grid:
    """What all shots share: the reconstruction grid, the fields on it, and how fine images are read."""

    def __init__(
        self,
        scene: Ellipses | Tensor,
        shape: tuple[int, int],
        pixel_size: float,
        maps: SmoothField | Tensor | None,
        phase: SmoothField | None,
        inverse_crime: bool,
    ):
        self.scene, self.shape, self.pixel_size = scene, shape, pixel_size
        one = SmoothField(torch.ones(1, 1, 1, dtype=torch.complex128))
        self.maps: SmoothField | Tensor = one if maps is None else maps
        self.phase = SmoothField(torch.ones(1, 1, dtype=torch.complex128)) if phase is None else phase
        if isinstance(scene, Ellipses):
            if isinstance(maps, Tensor):
                raise ValueError(
                    "simulate_mri maps: exact k-space of ellipses needs a SmoothField, as coil_fields(8) or "
                    "SmoothField.fit(maps, order=4); got a tensor"
                )
            return
        _check_image(scene, shape, inverse_crime)
        fine = (scene.shape[-2], scene.shape[-1])
        self.fine_maps, self.fine_phase = self.raster(fine), self.phase.at(fine)

    def raster(self, shape: tuple[int, int]) -> Tensor:
        """The maps on a grid over the field of view, complex128."""
        if isinstance(self.maps, SmoothField):
            return self.maps.at(shape)
        maps = self.maps.to(torch.complex128)
        if tuple(maps.shape[-2:]) == shape:
            return maps
        parts = torch.view_as_real(maps).movedim(-1, 0)
        resized = F.interpolate(parts, shape, mode="bicubic", align_corners=False)
        return torch.complex(resized[0], resized[1])

    def kspace(self, scene: Ellipses | Tensor) -> Tensor:
        """(*batch, coils, ny, nx), complex128."""
        if isinstance(scene, Ellipses):
            return multicoil_kspace(scene, self._fields(), self.shape, self.pixel_size)
        return multicoil_of_image(scene * self.fine_phase, self.fine_maps, self.shape)

    def samples(self, scene: Ellipses | Tensor, trajectory: Tensor) -> Tensor:
        """(*batch, coils, …, samples), complex128."""
        if isinstance(scene, Ellipses):
            return multicoil_samples(scene, self._fields(), trajectory, self.shape, self.pixel_size)
        from operators.nufft import NonUniformFourier

        k, fine = trajectory.double(), (scene.shape[-2], scene.shape[-1])
        ratio = torch.tensor([n / m for n, m in zip(self.shape, fine, strict=True)], dtype=torch.float64)
        coils = (scene * self.fine_phase).unsqueeze(-3) * self.fine_maps
        A = NonUniformFourier(tuple(coils.shape[-3:]), k * ratio, tolerance=1e-9)
        place = [n * (origin(m) - origin(n)) for n, m in zip(self.shape, fine, strict=True)]
        ramp = torch.exp(-1j * (k[..., 0] * place[0] + k[..., 1] * place[1]))
        return A(coils) * ramp * math.sqrt(math.prod(self.shape) / math.prod(fine))

    def observed(self, motion: Motion | None, trajectory: Tensor | None) -> Tensor:
        """Data with every shot's object in its own pose."""
        if motion is None:
            assert trajectory is not None
            return self.samples(self.scene, trajectory)
        where = self.shape if trajectory is None else tuple(trajectory.shape[:-1])
        try:
            shots = motion.shots.broadcast_to(where)
        except RuntimeError:
            raise ValueError(
                f"simulate_mri motion: shots {tuple(motion.shots.shape)} do not broadcast to the data {where}"
            ) from None
        y = None
        for shot in shots.unique().tolist():
            scene: Ellipses | Tensor = motion.moved(self.scene, shot, self._scene_pixel())
            data = self.kspace(scene) if trajectory is None else self.samples(scene, trajectory)
            y = data if y is None else torch.where(shots == shot, data, y)
        assert y is not None
        return y

    def _fields(self) -> SmoothField:
        assert isinstance(self.maps, SmoothField)
        return self.maps * self.phase

    def _scene_pixel(self) -> float:
        """Of a fine image [mm]; ellipses are in mm already."""
        if isinstance(self.scene, Ellipses):
            return 1.0
        return self.pixel_size * self.shape[-1] / self.scene.shape[-1]


def _non_uniform(trajectory: Tensor, maps: Tensor, pixel_size: float) -> LinearOperator:
    from operators.nonuniform_sense import NonUniformSense

    return NonUniformSense(trajectory, maps, pixel_size=pixel_size)


def _shape(
    shape: tuple[int, int] | None, maps: SmoothField | Tensor | None, mask: Tensor | None
) -> tuple[int, int]:
    if shape is not None:
        return (int(shape[0]), int(shape[1]))
    for source in (maps if isinstance(maps, Tensor) else None, mask):
        if isinstance(source, Tensor) and source.ndim >= 2 and min(source.shape[-2:]) > 1:
            return (source.shape[-2], source.shape[-1])
    raise ValueError(
        "simulate_mri shape: expected (ny, nx) of the reconstruction grid; neither maps nor mask say it"
    )


def _check_image(fine: Tensor, shape: tuple[int, int], inverse_crime: bool) -> None:
    if not isinstance(fine, Tensor) or not (fine.is_floating_point() or fine.is_complex()) or fine.ndim < 2:
        got = f"{fine.dtype} {tuple(fine.shape)}" if isinstance(fine, Tensor) else type(fine).__name__
        raise ValueError(
            f"simulate_mri scene: expected Ellipses or a floating-point image (*batch, ny, nx), got {got}"
        )
    if not bool(torch.isfinite(fine).all()):
        raise ValueError("simulate_mri scene: expected finite values, got NaN or inf")
    size = (fine.shape[-2], fine.shape[-1])
    if not math.isclose(size[0] * shape[1], size[1] * shape[0], rel_tol=1e-9):
        raise ValueError(
            f"simulate_mri scene: {size[0]} × {size[1]} pixels have another aspect than the grid {shape}; "
            "crop or pad it to the same field of view"
        )
    if any(m < n for m, n in zip(size, shape, strict=True)) or (size == shape and not inverse_crime):
        raise ValueError(
            f"simulate_mri scene: {size[0]} × {size[1]} pixels are not finer than the grid {shape}, which "
            "flatters every method; give a finer image, or say inverse_crime=True for one of the same size"
        )
