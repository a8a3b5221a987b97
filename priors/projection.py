"""One network as the projection onto all good images."""

from __future__ import annotations

from torch import Tensor, nn

from .denoiser import NetworkDenoiser


class LearnedProjection(NetworkDenoiser):
    """P(x): the nearest good image, whatever is wrong with x; σ says nothing to it.

    Chang et al., ICCV 2017 (One Network to Solve Them All). In ADMM, `PlugAndPlay(P, sigma=…)` with
    ρ = λ/σ² their α, one network solves every linear inverse problem. `recon.denoising.train_projection`
    trains it to undo smoothly varying noise and missing blocks, without the paper's adversarial terms.

    network   (n, channels, ny, nx) -> the same, as a `UNet`
    and the parameters of `NetworkDenoiser`
    """

    def __init__(
        self, network: nn.Module, data_range: tuple[float, float] = (0.0, 1.0), complex_images: str = "parts"
    ):
        super().__init__(_Blind(network), data_range, complex_images)  # type: ignore[arg-type]


class _Blind(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.network(x)
