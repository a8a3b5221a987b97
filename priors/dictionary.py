"""Dictionaries of patches: learned by K-SVD, and the prior that an image's patches are sparse in one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators.tensors import spread, total

from .backends.pursuit import pursue
from .base import Functional, Step

Array = NDArray[Any]
AT_ONCE = 2**14  # patches whose products with all atoms are held


class PatchDictionary(Functional):
    """E(x) = ½ v (s/p)² Σ_patches ‖P x − mean − D α‖²,  ‖α‖₀ ≤ sparsity: patches are sums of a few atoms.

    Elad and Aharon, IEEE Trans. Image Process. 15 (2006); in CT Xu et al., IEEE Trans. Med. Imaging
    31 (2012).
    α is found greedily, by orthogonal matching pursuit, so that E is not convex and jumps where other atoms
    are chosen; in between it is quadratic. All pixels are covered, the interior (p/s)² times, which the
    factor evens out; v [mm²] of a pixel makes E an integral.

    dictionary : D, (p², atoms), columns of length 1 and mean 0; see `learn_dictionary`
    sparsity   : atoms a patch, at most
    tolerance  : a patch has enough atoms when the root mean square of what is left is at most this [x];
                 a number or one per image
    stride     : s, every s-th patch along both axes
    volume     : v

    x : (*batch, ny, nx), real, sides at least p
    """

    dictionary: Tensor

    def __init__(
        self,
        dictionary: Tensor,
        sparsity: int = 4,
        tolerance: Step = 0.0,
        stride: int = 2,
        volume: float = 1.0,
    ):
        super().__init__()
        size = math.isqrt(dictionary.shape[0])
        if dictionary.ndim != 2 or size**2 != dictionary.shape[0]:
            raise ValueError(f"PatchDictionary dictionary: expected (p², atoms), got {dictionary.shape}")
        length = dictionary.norm(dim=0)
        if not bool(((length - 1).abs() < 1e-3).all() and (dictionary.mean(0).abs() < 1e-3).all()):
            raise ValueError("PatchDictionary dictionary: expected columns of length 1 and mean 0")
        if not 1 <= sparsity <= size**2 or not 1 <= stride <= size or not volume > 0:
            raise ValueError(
                f"PatchDictionary: expected 1 ≤ sparsity ≤ {size**2}, 1 ≤ stride ≤ {size} and volume > 0, "
                f"got {sparsity}, {stride} and {volume}"
            )
        if not bool((torch.as_tensor(tolerance) >= 0).all()):
            raise ValueError(f"PatchDictionary tolerance: expected at least 0, got {tolerance}")
        self.register_buffer("dictionary", dictionary)
        self.size, self.sparsity, self.tolerance = size, sparsity, tolerance
        self.stride, self.volume = stride, float(volume)

    def forward(self, x: Tensor) -> Tensor:
        z = patches(x, self.size, self.stride)
        return 0.5 * self._share * total((z - self.approximated(z.detach())).square(), 3)

    def grad(self, x: Tensor) -> Tensor:
        z = patches(x, self.size, self.stride)
        return self._share * assembled(z - self.approximated(z), self.size, self.stride, x.shape)

    def surrogate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Target m and weight c with E(v) ≤ ½ Σ c (v − m)² + constant for the codes of x, equal at x.

        Of what v's own best codes give; pursuit may miss these.
        """
        z = self.approximated(patches(x, self.size, self.stride))
        count = assembled(torch.ones_like(z), self.size, self.stride, x.shape)
        return assembled(z, self.size, self.stride, x.shape) / count, self._share * count

    @torch.no_grad()
    def approximated(self, z: Tensor) -> Tensor:
        """Mean + D α of every patch, (*batch, rows, columns, p²)."""
        flat = z.reshape(-1, z.shape[-1])
        D = self.dictionary.to(z)
        enough = torch.as_tensor(spread(self.tolerance, 2), dtype=z.dtype, device=z.device)
        enough = (z.shape[-1] * enough**2).expand(z.shape[:-1]).reshape(-1)
        parts = zip(flat.split(AT_ONCE), enough.split(AT_ONCE), strict=True)
        found = [_coded(part, D, self.sparsity, limit) for part, limit in parts]
        return torch.cat(found).reshape(z.shape) if found else z.clone()

    @property
    def _share(self) -> float:
        return self.volume * (self.stride / self.size) ** 2

    def __repr__(self) -> str:
        options = f"sparsity={self.sparsity}, tolerance={self.tolerance}, stride={self.stride}"
        return f"PatchDictionary({tuple(self.dictionary.shape)}, {options}, volume={self.volume})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        D = cosines(3, 4)
        return [(cls(D, 2, stride=2), (6, 5)), (cls(D, 3, stride=1, volume=0.25), (4, 7))]


def patches(x: Tensor, size: int, stride: int) -> Tensor:
    """Every stride-th patch, and those at the far edges: (*batch, rows, columns, size²)."""
    if x.is_complex():
        raise ValueError(f"PatchDictionary expects a real image, got {x.dtype}")
    if min(x.shape[-2:]) < size:
        raise ValueError(
            f"patches of {size} pixels: expected an image at least as large, got {tuple(x.shape)}"
        )
    rows, columns = (torch.tensor(_starts(n, size, stride), device=x.device) for n in x.shape[-2:])
    every = x.unfold(-2, size, 1).unfold(-2, size, 1)
    return every.index_select(-4, rows).index_select(-3, columns).flatten(-2)


def assembled(z: Tensor, size: int, stride: int, shape: torch.Size) -> Tensor:
    """The adjoint of `patches`: all patches added up in their places, to an image of this shape."""
    x = z.new_zeros(shape)
    rows, columns = (torch.tensor(_starts(n, size, stride), device=z.device) for n in shape[-2:])
    for k in range(size**2):
        # the places of pixel k of all patches are all different
        x[..., (rows + k // size)[:, None], columns + k % size] += z[..., k]
    return x


def learn_dictionary(
    images: Tensor,
    atoms: int = 256,
    size: int = 8,
    sparsity: int = 4,
    iterations: int = 15,
    samples: int = 20_000,
    seed: int = 0,
) -> Tensor:
    """D that minimises Σ ‖z − mean − D α‖², ‖α‖₀ ≤ sparsity, over patches of `images`: K-SVD, (size², atoms).

    Aharon, Elad, Bruckstein, IEEE Trans. Signal Process. 54 (2006): codes by pursuit, then every atom with
    its codes by one power step towards the best of rank one (Rubinstein et al. 2008). Patches are drawn
    uniformly among those that are not flat, flatter than a hundredth of the median deviation; atoms
    that no patch uses become the patch that is told worst. Starts from patches.

    images : (n, ny, nx) or (ny, nx), real
    """
    if atoms < 2 or iterations < 1 or samples < atoms or not 1 <= sparsity <= size**2:
        raise ValueError(
            f"learn_dictionary: expected atoms ≥ 2, iterations ≥ 1, samples ≥ atoms, 1 ≤ sparsity ≤ "
            f"{size**2}, got {atoms}, {iterations}, {samples}, {sparsity}"
        )
    generator = torch.Generator().manual_seed(seed)
    z = patches(images.detach().double().cpu(), size, 1).reshape(-1, size**2)
    z = z - z.mean(1, keepdim=True)
    length = z.norm(dim=1)
    z = z[length > 0.01 * length[length > 0].median()] if bool((length > 0).any()) else z[:0]
    if len(z) < atoms:
        raise ValueError(
            f"learn_dictionary: {len(z)} patches that are not flat are too few for {atoms} atoms"
        )
    Z = z[torch.randperm(len(z), generator=generator)[:samples]].numpy()
    first = torch.randperm(len(Z), generator=generator)[:atoms].numpy()
    D = (Z[first] / np.linalg.norm(Z[first], axis=1, keepdims=True)).T.copy()
    for _ in range(iterations):
        which, value = pursue(Z @ D, D.T @ D, np.square(Z).sum(1), sparsity, np.zeros(len(Z)))
        _update(D, Z, which, value)
    return torch.from_numpy(D).to(images.dtype)


def cosines(size: int, frequencies: int) -> Tensor:
    """All products of cosines of `frequencies` frequencies an axis, without the constant, (size², atoms)."""
    k = torch.arange(frequencies, dtype=torch.float64)[:, None] * size / frequencies
    wave = torch.cos(math.pi / size * (torch.arange(size, dtype=torch.float64) + 0.5) * k)
    D = torch.einsum("ai,bj->ijab", wave, wave).reshape(size**2, -1)[:, 1:]
    D = D - D.mean(0)
    return D / D.norm(dim=0)


def _update(D: Array, Z: Array, which: Array, value: Array) -> None:
    """One power step of every atom and its codes, in place; what is left of Z is kept up to date."""
    rest = Z - _combined(D, which, value)
    told: list[int] = []
    for k in range(D.shape[1]):
        users, slot = np.nonzero(which == k)
        if len(users) == 0:
            error = np.square(rest).sum(1)
            error[told] = 0  # not to be taken by two atoms
            worst = int(error.argmax())
            if error[worst] > 0:
                D[:, k] = rest[worst] / math.sqrt(error[worst])
                told.append(worst)
            continue
        own = rest[users] + np.outer(value[users, slot], D[:, k])
        atom = value[users, slot] @ own
        atom /= max(np.linalg.norm(atom), np.finfo(D.dtype).tiny)
        value[users, slot] = own @ atom
        D[:, k] = atom
        rest[users] = own - np.outer(value[users, slot], atom)


def _combined(D: Array, which: Array, value: Array) -> Array:
    """D α, (n, p²); unused places have the value 0."""
    result = np.zeros((len(which), len(D)), D.dtype)
    for k, v in zip(which.T, value.T, strict=True):
        result += v[:, None] * D.T[k]
    return result


def _starts(n: int, size: int, stride: int) -> list[int]:
    """First pixels of the patches along an axis, the last one at the edge."""
    return sorted({*range(0, n - size + 1, stride), n - size})


def _coded(z: Tensor, D: Tensor, sparsity: int, enough: Tensor) -> Tensor:
    mean = z.mean(1, keepdim=True)
    r, atoms = (z - mean).cpu().numpy(), D.cpu().numpy()
    limits = enough.cpu().numpy()
    which, value = pursue(r @ atoms, atoms.T @ atoms, np.square(r).sum(1), sparsity, limits)
    return torch.from_numpy(_combined(atoms, which, value)).to(z) + mean
