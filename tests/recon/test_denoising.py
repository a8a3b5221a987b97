import math

import pytest
import torch

from priors import GradientStepDenoiser, NetworkDenoiser
from priors.networks.dncnn import DnCNN
from priors.networks.drunet import DRUNet
from priors.networks.seeds import seeded
from recon.denoising import (
    CleanImages,
    DenoisingConfig,
    load_prior,
    noisy,
    save_prior,
    spoiled,
    train_denoiser,
)


def squares(seeds):
    x = torch.zeros(len(seeds), 16, 16)
    for image, seed in zip(x, seeds, strict=True):
        g = torch.Generator().manual_seed(int(seed))
        top, left = (int(torch.randint(1, 8, (), generator=g)) for _ in range(2))
        image[top : top + 6, left : left + 7] = 0.5 + 0.5 * float(torch.rand((), generator=g))
    return x


def denoiser(kind="dncnn"):
    with seeded(0):
        if kind == "dncnn":
            return NetworkDenoiser(DnCNN(1, 3, 8, noise_map=True))
        return GradientStepDenoiser(DRUNet(1, (4, 8), 1, "softplus"))


def config(**changes):
    return DenoisingConfig(
        **{"steps": 60, "batch_size": 8, "learning_rate": 3e-3, "lowest": 0.2, "highest": 0.2, **changes}
    )


@pytest.mark.parametrize("kind", ["dncnn", "gradient-step"])
def test_learns_to_denoise(kind):
    D = denoiser(kind)
    score = train_denoiser(D, squares, config()).scores[-1][1]
    assert score > -20 * math.log10(0.2) + 2  # 2 dB above doing nothing
    assert not D.training and not any(p.requires_grad for p in D.parameters())


def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path):
    whole, broken, path = denoiser(), denoiser(), tmp_path / "run.safetensors"
    train_denoiser(whole, squares, config(steps=12))

    def kill(progress):
        if progress.step == 9:
            raise KeyboardInterrupt

    options = config(steps=12, checkpoint_every=4)
    with pytest.raises(KeyboardInterrupt):
        train_denoiser(broken, squares, options, checkpoint=path, callback=kill)
    resumed = denoiser()
    progress = train_denoiser(resumed, squares, options, checkpoint=path)
    assert progress.step == 12 and len(progress.losses) == 12
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_noise_has_the_level_it_is_said_to_have():
    g = torch.Generator().manual_seed(0)
    for dtype in (torch.float64, torch.complex128):
        x = torch.zeros(4, 64, 64, dtype=dtype)
        y, sigma = noisy(x, 0.1, 0.5, g)
        measured = torch.stack([v.std() for v in y.real])
        # 4096 draws: 4 standard errors are 4/√8192 = 4.4 %
        torch.testing.assert_close(measured, sigma, rtol=0.045, atol=0)
        assert float(sigma.max() - sigma.min()) > 0.05 and float(sigma.min()) >= 0.1


def test_noise_is_drawn_where_the_images_are():
    """The meta device stands for one that is not the CPU's: adding tensors of two devices is an error."""
    x = torch.empty(3, 8, 9, device="meta")
    y, sigma = noisy(x, 0.1, 0.5, torch.Generator().manual_seed(0))
    assert y.device == sigma.device == x.device
    assert spoiled(x, 0.5, torch.Generator().manual_seed(0)).device == x.device


def test_images_from_a_tensor_and_from_seeds():
    stack = CleanImages(squares(range(16)), patch=5)
    assert len(stack.images) == 14 and len(stack.validation) == 2
    a, b = (next(stack.batches(6, torch.Generator().manual_seed(3)))[1] for _ in range(2))
    assert a.shape == (6, 5, 5) and torch.equal(a, b)
    drawn = CleanImages(squares)
    assert next(drawn.batches(3, torch.Generator().manual_seed(0)))[1].shape == (3, 16, 16)


def test_weights_on_disk(tmp_path):
    D = denoiser()
    D.network.layers[0].weight.data += 1
    file = save_prior(D, tmp_path / "weights", command="by hand", seed=0)
    again = load_prior(denoiser(), file)
    x = squares(range(2))
    assert torch.equal(again(x, 0.1), D(x, 0.1).detach())
    with pytest.raises(ValueError, match="not of GradientStepDenoiser"):
        load_prior(denoiser("gradient-step"), file)
    with pytest.raises(ValueError, match="another configuration"):
        load_prior(NetworkDenoiser(DnCNN(1, 2, 8)), file)
    with pytest.raises(ValueError, match="there is no"):
        load_prior(denoiser(), tmp_path / "nothing")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_prior(denoiser(), file)


def test_bad_input():
    for make, text in (
        (lambda: CleanImages(torch.zeros(1, 4, 4)), "at least 2 images"),
        (lambda: CleanImages(squares, patch=17), "patch: expected at most 16"),
        (lambda: DenoisingConfig(lowest=0.0), "lowest"),
        (lambda: train_denoiser(denoiser(), squares(range(8)) * math.nan, config(steps=1)), "NaN or inf"),
    ):
        with pytest.raises(ValueError, match=text):
            make()
