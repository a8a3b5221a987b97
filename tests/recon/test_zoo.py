import json

import pytest
import torch

from operators import fbp
from recon import METHODS, LearnedPrimalDual, psnr
from recon.checkpoints import ZOO, read_card
from recon.data.small import ellipses_small
from recon.zoo.recipes import RECIPES

# features-… hold a feature network of recon.losses, no method
SHIPPED = sorted(f for f in ZOO.glob("*.safetensors") if not f.stem.startswith("features-"))


def test_every_recipe_is_shipped_and_small():
    wanted = {f"{method}-{problem}" for problem, methods in RECIPES.items() for method in methods}
    assert {f.stem for f in SHIPPED} == wanted
    assert all(f.stat().st_size <= 5_000_000 for f in SHIPPED)
    assert sum(f.stat().st_size for f in SHIPPED) <= 16_000_000


@pytest.fixture(scope="module")
def scan():
    data = ellipses_small()
    problem, truth = data.pairs(range(2**30, 2**30 + 4))
    return problem, truth


@pytest.mark.parametrize("name", sorted(RECIPES["ellipses-small"]))
def test_shipped_weights_load_and_do_their_work(name, scan):
    problem, truth = scan
    method = METHODS[name].pretrained("ellipses-small")
    card = read_card(ZOO / f"{name}-ellipses-small.json")
    assert card["method"] == name and card["training"]["seconds"] > 0 and card["licence"] == "BSD-3-Clause"
    value = float(psnr(method(problem), truth, data_range=1.0).mean())
    # four test images against the mean of the card's validation images: spread between images about 2 dB
    assert value == pytest.approx(card["scores"]["psnr_db_range_truth"], abs=3.0)
    if name in ("learned-primal-dual", "fbp-unet", "adversarial-regularisation"):
        naive = fbp(problem.A, problem.linear, filter="hann")
        assert value > float(psnr(naive, truth, data_range=1.0).mean())


def test_cards_match_the_recipes():
    for problem, methods in RECIPES.items():
        for name, changes in methods.items():
            card = json.loads((ZOO / f"{name}-{problem}.json").read_text())
            assert {k: card["config"][k] for k in changes} == json.loads(json.dumps(changes))


def test_unknown_problems_are_refused():
    for problem in ("nothing", "../zoo/learned", "ellipses-small.json", ""):
        with pytest.raises(ValueError, match="pretrained"):
            LearnedPrimalDual.pretrained(problem)
    assert torch.is_tensor(next(LearnedPrimalDual.pretrained("ellipses-small").parameters()))


def test_missing_half_and_tampered_weights_are_told(tmp_path):
    import shutil

    for suffix in (".json", ".safetensors"):
        shutil.copy(ZOO / f"fbp-unet-ellipses-small{suffix}", tmp_path)
    file = tmp_path / "fbp-unet-ellipses-small.safetensors"
    content = bytearray(file.read_bytes())
    content[-7] ^= 1  # one bit of one weight
    file.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="not those of their card"):
        METHODS["fbp-unet"].load(file)
    file.write_bytes(bytes(content[: len(content) // 2]))
    with pytest.raises(ValueError, match="not those of their card"):
        METHODS["fbp-unet"].load(file)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*ellipses-small\.safetensors"):
        METHODS["fbp-unet"].load(tmp_path / "fbp-unet-ellipses-small")
    with pytest.raises(FileNotFoundError, match=r"there is no .*nothing\.safetensors"):
        METHODS["fbp-unet"].load(tmp_path / "nothing")


def test_what_there_is_instead_is_listed():
    with pytest.raises(ValueError, match="shipped; there are 'ellipses-dival', 'ellipses-small'"):
        LearnedPrimalDual.pretrained("nothing")
    with pytest.raises(ValueError, match="there are none for it"):
        METHODS["learned-pdhg"].pretrained("nothing")
