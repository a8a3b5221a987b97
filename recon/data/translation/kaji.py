"""The JSON arguments of Kaji's codes as a method, its configuration and its data; see KAJI.md."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

# devices, displays, and files of models that cannot be read here; `train` and `val` are read where they count
HARMLESS = """
argfile out gpu snapinterval display_interval nvis nvis_A nvis_B vis_freq vis_random parameter_statistics
load_optimizer load_models model_gen model_dis HU_base_vis HU_range_vis output_analysis grey ch out_ch
learning_rate unified_memory_pool no_save_dcm gen_pretrained_lr_ratio dis_pretrained_lr_ratio
perceptual_layer focal_gamma class_weight gen_fc_activation tv_tau skipdim dis_chs gen_chs
"""
NORMS = {"none": "none", "batch": "batch", "batch_aff": "batch", "instance": "instance", "layer": "layer"}
UPS = {"resize": "linear", "deconv": "transposed", "pixsh": "shuffle"}
DOWNS = {"down": "stride", "maxpool": "max", "avgpool": "avg"}
SKIPS = {"concat": "concat", "add": "add", "conv": "concat"}


class Imported(NamedTuple):
    """What the arguments of Kaji's codes are here.

    method : name in `recon.METHODS`
    changes : of its configuration
    data : settings of `PairedImages.root` (or `UnpairedImages.root`) as `--data` takes them, with "root", and
        "listed" where there are list files; {} of a reconstruction
    missing : options that have no counterpart, or only a similar one, and why
    """

    method: str
    changes: dict[str, Any]
    data: dict[str, Any]
    missing: dict[str, str]


def from_kaji(path: str | Path, images: int | None = None) -> Imported:
    """Method, configuration and data of a JSON file of arguments, as Kaji's codes write it.

    PairedImageTranslation becomes "gan", UnpairedImageTranslation "cycle-gan", IterativeCTReconstruction
    "joint-reconstruction". What has no counterpart is listed in a UserWarning and in `missing`. Weights are
    those of the loss on images in [−1, 1]; here a mean over pixels is taken as there.

    path : of the file
    images : training images, by which epochs become steps; None: epochs are missing

    Raises ValueError where the file is none of the three.
    """
    path = Path(path)
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable JSON file of arguments ({error})") from None
    if not isinstance(given, dict):
        raise ValueError(f"{path}: expected a JSON object of arguments, got {type(given).__name__}")
    a = _Arguments(given)
    readers: tuple[tuple[str, Callable[[_Arguments, int | None], Imported]], ...] = (
        ("lambda_rec_l1", _paired),
        ("lambda_A", _unpaired),
        ("lambda_nn", _iterative),
    )
    for sign, read in readers:
        if sign in given:
            try:
                found = read(a, images)
            except (TypeError, IndexError, KeyError, AttributeError) as error:
                raise ValueError(f"{path}: an argument is not what those codes write ({error})") from None
            break
    else:
        raise ValueError(
            f"{path}: arguments of none of PairedImageTranslation, UnpairedImageTranslation and "
            "IterativeCTReconstruction (no lambda_rec_l1, lambda_A or lambda_nn)"
        )
    a.rest()
    if a.missing:
        told = "; ".join(f"{name}: {why}" for name, why in a.missing.items())
        warnings.warn(f"{path.name}: not as there: {told}", UserWarning, stacklevel=2)
    return found


class _Arguments:
    """The arguments, which of them were taken, and which have no counterpart."""

    def __init__(self, given: dict[str, Any]):
        self.given, self.taken, self.missing = given, set[str](), dict[str, str]()

    def take(self, name: str, default: Any = None) -> Any:
        self.taken.add(name)
        value = self.given.get(name)
        return default if value is None else value

    def number(self, name: str, default: float = 0.0) -> float:
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"arguments {name}: expected a number, got {value!r}")
        return float(value)

    def lacks(self, name: str, why: str) -> None:
        self.taken.add(name)
        self.missing[name] = why

    def choose(self, name: str, table: dict[str, str], default: str) -> str:
        value = str(self.take(name, default))
        if value not in table:
            self.lacks(name, f"no {value!r} here, {table[default]!r} is taken")
            return table[default]
        return table[value]

    def rest(self) -> None:
        """What was not asked for, unless it is switched off or changes nothing."""
        for name, value in self.given.items():
            neutral = value in (None, False, 0, "", "none", -1, []) or value == [None, None]
            if name not in self.taken and name not in HARMLESS.split() and not neutral:
                self.missing[name] = f"no counterpart for {value!r}"


def _paired(a: _Arguments, images: int | None) -> Imported:
    changes = _common(a, images, "learning_rate_gen", "learning_rate_dis")
    pool = a.number("loss_ksize", 1)
    options = [{"pool": int(pool)}] if pool > 1 else []
    losses: list[tuple[Any, ...]] = [
        (name, weight, *options)
        for name, key, usual in (("l1", "lambda_rec_l1", 10.0), ("l2", "lambda_rec_l2", 0.0))
        if (weight := a.number(key, usual))
    ]
    if tv := a.number("lambda_tv"):
        losses.append(("tv", tv))
    changes["losses"] = tuple(losses)
    changes["adversarial"] = a.number("lambda_dis", 1.0)
    if not changes["adversarial"]:
        changes["discriminator"] = None
        a.taken |= {name for name in a.given if name.startswith("dis_")}
    else:
        _discriminator(a, changes)
    changes["conditional"] = True
    if mispair := a.number("lambda_mispair"):
        changes["mispair"] = mispair
    if (warm := int(a.number("dis_warmup", -1))) > 0:
        changes["d_warmup"] = warm
    _generator(a, changes)
    if a.number("gen_fc"):
        a.lacks("gen_fc", "layers over the whole image are the method 'automap', which has no discriminator")
    for name in ("lambda_rec_ce", "lambda_dice", "class_num"):
        if a.number(name):
            a.lacks(name, "images have no channels of classes here; see recon.losses for the formula")
    if a.number("lambda_reg"):
        a.lacks("lambda_reg", "generators of 'gan' have no latent code; see 'unit'")
    data = _data(a, "clipA", "clipB", a.take("imgtype", "jpg"))
    data["swap"] = bool(a.take("btoa", False))
    tables = a.take("train", "__train__"), a.take("val", "__test__")
    if tables[0] != "__train__":
        data["listed"] = tables
        columns = [a.take(name, [k]) for k, name in enumerate(("from_col", "to_col"))]
        if any(len(c) > 1 for c in columns):
            a.lacks("from_col", "several columns as channels; images have no channels here")
        data["input_column"], data["target_column"] = columns[0][0], columns[1][0]
    a.taken |= {"from_col", "to_col"}
    if pattern := a.take("fn_pattern"):
        data["pattern"] = pattern
    data["stack"] = int(a.number("stack", 1))
    if data["stack"] > 1:
        changes["stack"] = data["stack"]
    return Imported("gan", changes, data, a.missing)


def _unpaired(a: _Arguments, images: int | None) -> Imported:
    changes = _common(a, images, "learning_rate_g", "learning_rate_d")
    _discriminator(a, changes)
    _generator(a, changes)
    both = [
        (name, weight, *([{"threshold": a.number("air_threshold", -0.997)}] if name == "air" else []))
        for name, key, usual in (
            ("domain", "lambda_domain", 0.1),
            ("air", "lambda_air", 0.0),
            ("idempotence", "lambda_idempotence", 0.0),
        )
        if (weight := a.number(key, usual))
    ]
    a.take("air_threshold")
    forward, backward = a.number("lambda_A", 10.0), a.number("lambda_B", 10.0)
    changes["losses"] = (("cycle", forward), *both)
    if tv := a.number("lambda_tv"):
        changes["losses"] += (("tv", tv),)
        if a.take("tv_method", "usual") != "usual":
            a.lacks("tv_method", "total variation is the usual one")
    a.take("tv_method")
    changes["back_losses"] = (("cycle", backward), *both)
    if a.number("lambda_grad"):
        changes["losses"] += (("gradient-difference", a.number("lambda_grad")),)
        changes["back_losses"] += (("gradient-difference", a.number("lambda_grad")),)
        a.lacks("lambda_grad", "taken as gradient-difference, in the mean of squares")
    weights = a.number("lambda_dis_y", 1.0), a.number("lambda_dis_x", 1.0)
    changes["adversarial"] = weights[0]
    if weights[0] != weights[1]:
        a.lacks("lambda_dis_x", f"both directions weigh {weights[0]:g}")
    for name in ("lambda_identity_x", "lambda_identity_y"):
        if a.number(name):
            a.lacks(name, "add a perceptual loss by name to `losses`; its features differ")
    for name, usual in (("lambda_Az", 1.0), ("lambda_Bz", 1.0), ("lambda_dis_z", 0.0), ("lambda_reg", 0.0)):
        if a.number(name, usual):
            a.lacks(name, "generators of 'cycle-gan' have no latent code in common; see 'unit'")
    every = max(int(a.number("learning_freq_d", 1)), 1)
    if every > 1:
        # a step here is that of the discriminator, and so many of the generators, each on its own batch
        changes["g_steps"], changes["fresh"] = every, True
    low, high = "HU_base", "HU_range"
    for side in "AB":
        base = a.number(f"{low}{side}", -1024)
        a.given[f"clip{side}"] = [base, base + a.number(f"{high}{side}", 1200)]
    data = _data(a, "clipA", "clipB", a.take("imgtype", "jpg"))
    if len(span := a.take("slice_range", [])) == 2:
        data["between"] = tuple(span)
    if (spacing := a.number("forceSpacing", -1)) > 0:
        data["spacing"] = spacing
    if (stack := int(a.number("num_slices", 1))) > 1:
        a.lacks("num_slices", f"the data are stacks of {stack}, 'cycle-gan' sees their slices one by one")
        data["stack"] = stack
    if steps := int(a.number("iteration", 0)):
        changes["steps"] = steps
    if "steps" in changes:
        changes["steps"] = math.ceil(changes["steps"] / every)
    return Imported("cycle-gan", changes, data, a.missing)


def _iterative(a: _Arguments, images: int | None) -> Imported:
    changes: dict[str, Any] = {"image": "decoder" if a.take("decoder_only", False) else "encoder"}
    for ours, theirs in (
        ("data_seed", "lambda_sd"),
        ("data_network", "lambda_nn"),
        ("tv_seed", "lambda_tvs"),
        ("tv_network", "lambda_tv"),
        ("adversarial_seed", "lambda_advs"),
        ("adversarial_network", "lambda_adv"),
        ("random_latent", "lambda_gan"),
        ("autoencode", "lambda_ae1"),
        ("autoencode_latent", "lambda_ae2"),
        ("latent", "lambda_reg"),
    ):
        changes[ours] = a.number(theirs)
    if not any(v for k, v in changes.items() if k != "image" and not k.endswith("_seed")):
        changes["image"] = "free"
    changes["iterations"] = int(a.number("iter", 20000))
    changes["subsets"] = max(int(a.number("osem", 1)), 1)
    changes["seed_rate"] = 0.0 if a.take("no_train_seed", False) else a.number("lr_sd", 1e-2)
    frozen = [bool(a.take(name, False)) for name in ("no_train_enc", "no_train_dec")]
    changes["network_rate"] = 0.0 if all(frozen) else a.number("lr_gen", 1e-4)
    if frozen[0] != frozen[1]:
        a.lacks("no_train_enc", "encoder and decoder have one rate")
    changes["critic_rate"] = a.number("lr_dis", 1e-4)
    changes["critic_every"] = max(int(a.number("dis_freq", 1)), 1)
    changes["critic_noise"], changes["jitter"] = a.number("noise_dis"), a.number("dis_jitter")
    changes["schedule"] = "cosine" if a.number("lr_drop", 1) else "constant"
    base, count = int(a.number("dis_basech", 32)), int(a.number("dis_ndown", 4))
    changes["critic_channels"] = tuple(a.take("dis_chs") or [base * 2**k for k in range(count)])
    base, count = int(a.number("gen_basech", 32)), int(a.number("gen_ndown", 3))
    changes["channels"] = tuple(a.take("gen_chs") or [base * 2**k for k in range(count)])
    changes["strides"] = (1, *(2,) * (len(changes["channels"]) - 1))
    for name in ("lambda_ae1", "lambda_tv"):
        if a.given.get(name):
            a.lacks(name, "weights count per datum and in mm here; λ has to be chosen again")
    for name in ("projection_matrix", "system_matrix", "sinogram", "root", "planct_dir", "mvct_dir"):
        if a.given.get(name):
            a.lacks(name, "give a Problem (operators.interop for matrices) and planning images to the method")
    a.taken |= {"planct_dir", "mvct_dir", "crop_width", "crop_height", "random_translate", "batchsize"}
    return Imported("joint-reconstruction", changes, {}, a.missing)


def _common(a: _Arguments, images: int | None, first: str, second: str) -> dict[str, Any]:
    """Of the optimiser, and how long."""
    rate = a.number(first, 2e-4)
    changes: dict[str, Any] = {
        "learning_rate": rate,
        "d_learning_rate": a.number(second, 1e-4),
        "beta1": 0.1,
        "batch_size": int(a.number("batch_size", 1)),
        "weight_decay": a.number("weight_decay", 1e-7),
        "schedule": "cosine" if a.number("lr_drop", 1) else "linear",
    }
    if a.number("lr_drop", 1) > 1:
        a.lacks("lr_drop", "one cosine without restarts")
    if a.take("weight_decay_norm", "l2") != "l2":
        a.lacks("weight_decay_norm", "weights decay in the square")
    changes["optimizer"] = a.choose(
        "optimizer", {"Adam": "adam", "SGD": "sgd", "Momentum": "sgd", "RMSprop": "rmsprop"}, "Adam"
    )
    if a.take("dtype", "fp32") == "fp16":
        changes["precision"] = "bfloat16"
    epochs = int(a.number("epoch", 0))
    if epochs and images:
        changes["steps"] = epochs * math.ceil(images / changes["batch_size"])
    elif epochs:
        a.lacks("epoch", f"{epochs} epochs are steps here: give the number of training images")
    changes["pool"] = 50 * changes["batch_size"]
    return changes


def _discriminator(a: _Arguments, changes: dict[str, Any]) -> None:
    options: dict[str, Any] = {
        "base": int(a.number("dis_basech", 64)),
        "layers": int(a.number("dis_ndown", 3)),
        "norm": a.choose("dis_norm", NORMS, "batch"),
    }
    changes["discriminator"], changes["discriminator_options"] = "PatchDiscriminator", options
    if a.take("dis_wgan", False):
        changes["mode"], changes["penalty"] = "wgan", a.number("lambda_wgan_gp", 10.0)
    else:
        changes["mode"], changes["label_jitter"] = "lsgan", a.number("dis_jitter", 0.2)
    for name in ("lambda_wgan_gp", "dis_jitter"):
        a.take(name)
    usual = {"dis_ksize": 4, "dis_activation": "lrelu", "dis_down": "down", "dis_sample": "down"}
    _only(a, usual)


def _generator(a: _Arguments, changes: dict[str, Any]) -> None:
    base, count = int(a.number("gen_basech", 64)), int(a.number("gen_ndown", 3))
    widths = list(a.given.get("gen_chs") or [base * 2**k for k in range(count)])
    skips, norm = str(a.take("unet", "none")), a.choose("gen_norm", NORMS, "batch")
    blocks, last = int(a.number("gen_nblock", 9)), str(a.take("gen_out_activation", "tanh"))
    options: dict[str, Any] = {"norm": norm, "last": last}
    if skips == "none":
        changes["generator"] = "ResNetGenerator"
        options |= {"base": widths[0], "downs": len(widths) - 1, "blocks": blocks}
        if any(b != 2 * c for c, b in pairwise(widths)):
            a.lacks("gen_chs", f"widths double: {[widths[0] * 2**k for k in range(len(widths))]}")
        for name, value in (("gen_down", "down"), ("gen_up", "deconv")):
            if a.take(name, value) != value:
                a.lacks(name, "strided convolutions down, transposed ones up")
    else:
        changes["generator"] = "EncoderDecoder"
        options |= {
            "channels": tuple(widths),
            "skips": SKIPS.get(skips, "concat"),
            "down": a.choose("gen_down", DOWNS, "down"),
            "up": a.choose("gen_up", UPS, "resize"),
        }
        if skips == "conv":
            a.lacks("unet", "skips carry all channels, not `skipdim` of them")
        if blocks:
            a.lacks("gen_nblock", "a generator with skips has no residual blocks at its coarsest scale")
        if dropout := a.number("gen_dropout"):
            options["dropout"] = dropout
    changes["generator_options"] = options
    _only(a, {"gen_ksize": 3, "gen_activation": "relu", "gen_sample": "none-7"})


def _only(a: _Arguments, usual: dict[str, Any]) -> None:
    for name, value in usual.items():
        if a.take(name, value) != value:
            a.lacks(name, f"only {value!r} here, not {a.given[name]!r}")


def _data(a: _Arguments, first: str, second: str, kind: str) -> dict[str, Any]:
    """Settings of the images, as `--data` takes them."""
    data: dict[str, Any] = {"root": a.take("root", "data"), "pattern": f"*.{kind}"}
    unit = {"dcm": "HU", "npy": "", "csv": "", "txt": ""}.get(kind, "grey")
    usual = [-1024, 2000] if kind == "dcm" else [0, 255]
    for key, name in (("window", first), ("window_to", second)):
        low, high = (a.take(name) or [None, None])[:2]
        if low is None and unit == "":
            continue
        low, high = usual if low is None else (low, high)
        data[key] = f"{low:g},{high:g},{unit}" if unit else f"{low:g},{high:g},values"
    width, height = a.take("crop_width"), a.take("crop_height")
    if width or height:
        data["crop"] = (int(height or width), int(width or height))
    shift = int(a.number("random_translate", 4))
    data |= {"translate": shift, "flip": shift > 0, "rotate": a.number("random_rotation")}
    data |= {"scale": a.number("random_scale"), "noise": a.number("noise")}
    if a.number("noise_z"):
        a.lacks("noise_z", "no noise on latent codes")
    return data
