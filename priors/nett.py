"""The features an encoder has learned to give artefacts, as a regulariser."""

from __future__ import annotations

import math

from torch import Tensor

from .base import Functional, same_precision
from .networks.autoencoder import Decoder, Encoder
from .networks.seeds import seeded


class NETTRegulariser(Functional):
    """R(x) = s² Σ_pixels mean_k (½ h_k² + β (√(h_k² + τ²) − τ)),  h = E(x/s): small where E sees no artefact.

    Li, Schwab, Antholzer, Haltmeier, Inverse Problems 36 (2020) (network Tikhonov, NETT); the mix of square
    and rounded L1 as in Hertrich et al. 2025. E is the encoder of a network D∘E that predicts the artefacts
    of an image, 0 of a clean one. R ≥ 0, not convex. Trained by `recon.NETT`, or with `artefacts` by hand.

    encoder, decoder : E and D; D has no bias, so that features of 0 are no artefact
    scale : size s of an image, in its unit
    sparsity : β
    rounding : τ
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        scale: float = 1.0,
        sparsity: float = 0.01,
        rounding: float = 1e-3,
    ):
        super().__init__()
        for name, value in (("scale", scale), ("rounding", rounding)):
            if not 0 < value < math.inf:
                raise ValueError(f"NETTRegulariser {name}: expected a positive number, got {value}")
        if not 0 <= sparsity < math.inf:
            raise ValueError(f"NETTRegulariser sparsity: expected at least 0, got {sparsity}")
        self.encoder, self.decoder = encoder, decoder
        self.scale, self.sparsity, self.rounding = float(scale), float(sparsity), float(rounding)

    def features(self, x: Tensor) -> Tensor:
        """h = E(x/s), (n, features, my, mx), of images (*batch, ny, nx)."""
        if x.is_complex():
            raise ValueError(f"{type(self).__name__} expects a real image, got {x.dtype}")
        same_precision(self, x)
        return self.encoder(x.reshape(-1, 1, *x.shape[-2:]) / self.scale)

    def artefacts(self, x: Tensor) -> Tensor:
        """s·D(E(x/s)), what the network would take away from x, shape of x."""
        image = (x.shape[-2], x.shape[-1])
        return self.scale * self.decoder(self.features(x), image).reshape(x.shape)

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(x)
        value = 0.5 * h.square()
        if self.sparsity:
            value = value + self.sparsity * ((h.square() + self.rounding**2).sqrt() - self.rounding)
        return self.scale**2 * value.mean(1).sum((-2, -1)).reshape(x.shape[:-2])

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        with seeded(0):
            plain, strided = ((3, 4), None), ((3, 4), (2, 1))
            return [
                (cls(Encoder(*plain), Decoder(*plain, bias=False), sparsity=0.1, rounding=0.1), (7, 8)),
                (cls(Encoder(*strided), Decoder(*strided, bias=False), 0.5, 0.0), (9, 6)),
            ]
