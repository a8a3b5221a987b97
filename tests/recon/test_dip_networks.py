import warnings

import pytest
import torch

from priors.networks.conv_decoder import ConvDecoder
from priors.networks.hourglass import Hourglass


def test_conv_decoder_computes_what_deepinv_computes_with_the_same_weights():
    pytest.importorskip("deepinv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from deepinv.models import ConvDecoder as Theirs

        theirs = Theirs((2, 23, 18), in_size=(3, 4), layers=5, channels=6).double()
    ours = ConvDecoder((23, 18), 2, channels=6, layers=5, start=(3, 4)).double()
    state = {k: v for k, v in theirs.state_dict().items() if "running" not in k and "tracked" not in k}
    for mine, value in zip(ours.parameters(), state.values(), strict=True):
        mine.data.copy_(value)
    z = torch.rand(1, 6, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # batch norm of one image, while training
    torch.testing.assert_close(ours(z), theirs.train()(z), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [(16, 16), (9, 14), (1, 5), (4, 3)])
@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_hourglass_of_any_size_treats_images_alone(size, padding):
    network = Hourglass(2, 3, (4, 6, 5), (2, 0), padding).double()
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2, *size, dtype=torch.float64, generator=g)
    y = network(x)
    assert y.shape == (2, 3, *size)
    torch.testing.assert_close(network(x[1:]), y[1:], rtol=1e-12, atol=1e-12)


def test_hourglass_of_the_papers_has_their_number_of_weights():
    """Counted by hand: 1 → 128, four times down (two 3×3), four times up (two 3×3), 1×1; norms, biases."""
    conv = 128 * 128 * 9 + 128
    norm = 2 * 128
    expected = (9 * 128 + 128 + norm) + 4 * 2 * (conv + norm) + 4 * (norm + 2 * (conv + norm)) + (128 + 1)
    assert sum(p.numel() for p in Hourglass().parameters()) == expected


def test_wrong_networks_are_refused():
    with pytest.raises(ValueError, match="skips"):
        Hourglass(channels=(4, 4), skips=(1, 2))
    with pytest.raises(ValueError, match="padding"):
        Hourglass(padding="wrap")
    with pytest.raises(ValueError, match="layers"):
        ConvDecoder((8, 8), layers=1)
