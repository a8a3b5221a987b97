"""Arguments of Kaji's codes: what maps, what is told to be missing."""

import json
import warnings

import pytest

from recon.data.translation import from_kaji
from recon.data.translation.options import images_from

PAIRED = {
    "root": "images", "imgtype": "dcm", "clipA": [None, None], "clipB": [-1000, 400], "crop_width": 480,
    "crop_height": 256, "batch_size": 2, "epoch": 50, "learning_rate_gen": 2e-4, "learning_rate_dis": 1e-4,
    "lambda_rec_l1": 1.0, "lambda_rec_l2": 0.0, "lambda_dis": 0.1, "lambda_tv": 1e-4, "dis_norm": "batch_aff",
    "dis_basech": 64, "dis_ndown": 3, "dis_jitter": 0.2, "gen_chs": [32, 64, 128], "gen_norm": "batch_aff",
    "gen_nblock": 9, "unet": "none", "btoa": True, "stack": 3, "random_rotation": 10, "noise": 0.05, "gpu": 0,
    "optimizer": "Adam", "lr_drop": 1, "gen_attention": False, "senet": False, "lambda_mispair": 0,
}  # fmt: skip
UNPAIRED = {
    "root": "data", "imgtype": "dcm", "HU_baseA": -600, "HU_rangeA": 1000, "HU_baseB": -600,
    "HU_rangeB": 1000,
    "lambda_A": 10, "lambda_B": 5, "lambda_air": 1, "lambda_domain": 0.1, "air_threshold": -0.9,
    "lambda_Az": 0, "lambda_Bz": 0, "random_translate": 20, "random_rotation": 20, "slice_range": [-50, 50],
    "forceSpacing": 0.7634, "gen_basech": 32, "gen_ndown": 3, "gen_norm": "instance", "dis_norm": "instance",
    "learning_freq_d": 2, "iteration": 700, "epoch": 50,
}  # fmt: skip
ITERATIVE = {
    "lambda_sd": 1.0, "lambda_nn": 0.5, "lambda_tvs": 0.1, "lambda_adv": 0.01, "lambda_gan": 0, "iter": 2000,
    "osem": 10, "lr_sd": 0.1, "lr_gen": 1e-4, "lr_dis": 1e-4, "dis_basech": 32, "dis_ndown": 4,
    "gen_chs": [32, 64, 64], "no_train_enc": False,
}  # fmt: skip


def read(tmp_path, arguments, **settings):
    (tmp_path / "args.json").write_text(json.dumps(arguments))
    return from_kaji(tmp_path / "args.json", **settings)


def test_paired_arguments(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # all of these have a counterpart
        found = read(tmp_path, PAIRED, images=101)
    assert found.method == "gan" and not found.missing
    c = found.changes
    assert c["losses"] == (("l1", 1.0), ("tv", 1e-4)) and c["adversarial"] == 0.1
    assert c["steps"] == 50 * 51 and c["beta1"] == 0.1 and c["pool"] == 100 and c["d_learning_rate"] == 1e-4
    assert c["generator"] == "ResNetGenerator"
    assert c["generator_options"] == {"norm": "batch", "last": "tanh", "base": 32, "downs": 2, "blocks": 9}
    assert c["mode"] == "lsgan" and c["label_jitter"] == 0.2 and c["stack"] == 3
    d = found.data
    assert d["window"] == "-1024,2000,HU" and d["window_to"] == "-1000,400,HU" and d["crop"] == (256, 480)
    assert d["swap"] and d["rotate"] == 10 and d["noise"] == 0.05 and d["pattern"] == "*.dcm" and d["flip"]


def test_what_is_missing_is_told(tmp_path):
    arguments = PAIRED | {
        "senet": True, "gen_fc": 1, "gen_norm": "fnorm", "dis_ksize": 3, "unet": "conv", "never_heard": 5,
        "gen_down": "down", "gen_up": "unpool",
    }  # fmt: skip
    with pytest.warns(UserWarning, match="never_heard: no counterpart for 5") as told:
        found = read(tmp_path, arguments)
    wanted = {
        "senet",
        "gen_fc",
        "gen_norm",
        "dis_ksize",
        "unet",
        "gen_up",
        "gen_nblock",
        "never_heard",
        "epoch",
    }
    assert set(found.missing) == wanted
    assert all(name in str(told[0].message) for name in wanted)
    assert found.changes["generator"] == "EncoderDecoder"
    assert found.changes["generator_options"]["channels"] == (32, 64, 128)


def test_without_a_discriminator(tmp_path):
    found = read(tmp_path, PAIRED | {"lambda_dis": 0, "dis_ksize": 3, "dis_wgan": True}, images=10)
    assert found.changes["discriminator"] is None and not found.missing


def test_unpaired_arguments(tmp_path):
    found = read(tmp_path, UNPAIRED, images=10)
    assert found.method == "cycle-gan" and not found.missing
    c = found.changes
    others = (("domain", 0.1), ("air", 1.0, {"threshold": -0.9}))
    assert c["losses"] == (("cycle", 10.0), *others) and c["back_losses"] == (("cycle", 5.0), *others)
    assert c["steps"] == 350 and c["g_steps"] == 2 and c["generator_options"]["base"] == 32
    d = found.data
    assert d["window"] == "-600,400,HU" and d["between"] == (-50, 50) and d["spacing"] == 0.7634
    with pytest.warns(UserWarning, match="lambda_Az"):
        read(tmp_path, UNPAIRED | {"lambda_Az": 1}, images=10)


def test_a_step_is_one_of_the_discriminator(tmp_path):
    """Theirs count those of the generator, of which it is every n-th."""
    every = read(tmp_path, UNPAIRED | {"learning_freq_d": 1}, images=10).changes
    third = read(tmp_path, UNPAIRED | {"learning_freq_d": 3}, images=10).changes
    assert every["steps"] == 700 and "g_steps" not in every
    assert third["steps"] == 234 and third["g_steps"] == 3 and third["fresh"]


def test_iterative_arguments_are_a_configuration(tmp_path):
    from recon.joint import JointConfig

    found = read(tmp_path, ITERATIVE)
    assert found.method == "joint-reconstruction" and found.data == {}
    config = JointConfig(**found.changes)
    assert config.image == "encoder" and config.data_network == 0.5 and config.adversarial_network == 0.01
    assert config.subsets == 10 and config.iterations == 2000 and config.channels == (32, 64, 64)
    assert config.critic_channels == (32, 64, 128, 256)
    free = read(tmp_path, {"lambda_nn": 0, "lambda_sd": 1.0, "lr_sd": 0.1})
    assert JointConfig(**free.changes).image == "free"


def test_not_arguments(tmp_path):
    with pytest.raises(ValueError, match="arguments of none of"):
        read(tmp_path, {"epochs": 3})
    with pytest.raises(ValueError, match="expected a JSON object"):
        read(tmp_path, [1])
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ValueError, match="not a readable JSON"):
        from_kaji(tmp_path / "x.json")
    with pytest.raises(ValueError, match="not what those codes write"):
        read(tmp_path, PAIRED | {"clipA": 5})
    with pytest.raises(ValueError, match="lambda_dis: expected a number"):
        read(tmp_path, PAIRED | {"lambda_dis": "much"})


def test_the_data_settings_are_settings(tmp_path):
    import numpy as np

    for name in ("trainA", "trainB"):
        (tmp_path / name).mkdir()
        for p in range(3):
            np.save(tmp_path / name / f"{p}.npy", np.random.default_rng(p).normal(size=(12, 12)))
    arguments = UNPAIRED | {"root": str(tmp_path), "imgtype": "npy", "slice_range": None, "forceSpacing": -1}
    found = read(
        tmp_path, arguments | {"HU_baseA": -3, "HU_rangeA": 6, "HU_baseB": -3, "HU_rangeB": 6}, images=3
    )
    settings = {k: v for k, v in found.data.items() if k != "root"}
    data = images_from("unpaired", tmp_path / "trainA", tmp_path / "trainB", settings)
    assert data.A.in_shape == (12, 12) and data.window[0].low == -3 and data.augmentation.rotate == 20


@pytest.mark.parametrize("blocks", [{}, {"unet": "concat", "gen_nblock": 0, "dis_wgan": True}])
def test_the_changes_are_a_configuration_of_gan(tmp_path, blocks):
    from recon.baselines.gans.base import GAN
    from recon.baselines.gans.config import network

    found = read(tmp_path, PAIRED | blocks, images=10)
    method = GAN(**found.changes)
    assert method.name == found.method and method.config.label_jitter == (0 if blocks else 0.2)
    c = method.config
    generator = network("generator", c.generator, c.generator_options, 3, 1, 2, ())
    judge = network("discriminator", c.discriminator, c.discriminator_options, 4, None, 2, ())
    assert sum(p.numel() for p in generator.parameters()) > 1e5 < sum(p.numel() for p in judge.parameters())


def test_the_changes_are_a_configuration_of_cyclegan(tmp_path):
    from recon.baselines.gans.cycle import CycleGAN

    with pytest.warns(UserWarning, match="lambda_grad"):
        found = read(
            tmp_path, UNPAIRED | {"lambda_grad": 1, "lambda_idempotence": 1, "lambda_tv": 1}, images=10
        )
    method = CycleGAN(**found.changes)
    assert method.name == found.method and method.config.back_losses[0] == ("cycle", 5.0)
    assert "tv" in {one[0] for one in method.config.losses} - {one[0] for one in method.config.back_losses}
