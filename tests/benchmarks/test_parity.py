import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import parity
from benchmarks.parity import LIMIT, compare
from benchmarks.plain_sdm import plain_unet
from lungforge.models.spade import one_hot

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "sdm_reference.npz"


def arrays_of(path: Path, *, loops: bool = False) -> dict[str, np.ndarray]:
    """What a file holds; the loops, which take seconds, only if asked for."""
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files if loops or not name.endswith("_loop")}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """``run(arrays or path)`` gives exit code, errors by name, and the output."""

    def run(given):
        path = given
        if isinstance(given, dict):
            path = tmp_path / "given.npz"
            np.savez(path, **given)
        monkeypatch.setattr(sys, "argv", ["parity", str(path)])
        code = parity.main()
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else {}, printed.err

    return run


def test_every_golden_value_of_the_original_is_reproduced():
    errors = compare(GOLDEN)
    assert len(errors) == 20
    assert max(error.error for error in errors.values()) <= LIMIT, errors


def test_every_altered_output_is_detected(run):
    arrays = arrays_of(GOLDEN, loops=True)
    for name in arrays:
        if name.startswith("out/"):
            arrays[name].flat[0] += 1 if name.startswith("out/timesteps") else 3e-4
    code, errors, _ = run(arrays)
    assert code == 1
    for name, error in errors.items():
        assert error == pytest.approx(1 if name.startswith("timesteps") else 3e-4, rel=0.1), name


def test_one_altered_value_exits_with_1_and_is_named(tmp_path):
    arrays = arrays_of(GOLDEN)
    arrays["out/q_sample"].flat[5] += 2e-4
    np.savez(tmp_path / "off.npz", **arrays)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.parity", str(tmp_path / "off.npz")],
        capture_output=True,
        check=False,
        cwd=ROOT,
    )
    errors = json.loads(done.stdout)
    assert done.returncode == 1
    assert errors.pop("q_sample") == pytest.approx(2e-4, rel=1e-2)
    assert max(errors.values()) <= LIMIT


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_golden_value_that_is_not_finite_is_no_agreement(run, value):
    arrays = arrays_of(GOLDEN)
    arrays["out/unet_out"].flat[3] = value
    code, errors, _ = run(arrays)
    assert code == 1
    assert errors["unet_out"] == np.inf


def test_an_output_of_another_shape_is_no_agreement(run):
    arrays = arrays_of(GOLDEN)
    arrays["out/unet_out"] = arrays["out/unet_out"][:1]
    assert run(arrays)[0] == 1


@pytest.mark.parametrize(
    ("changes", "t"),
    [
        ({}, (0, 999)),
        ({"in_channels": 3, "num_classes": 9, "num_res_blocks": 2}, (999, 999)),
        ({"channel_mult": [1], "attention_downsample_factors": [1], "num_res_blocks": 3}, (1, 998)),
        (
            {"model_channels": 64, "channel_mult": [0.5, 1, 1.5], "attention_downsample_factors": [4]},
            (500, 999),
        ),
        (
            {"channel_mult": [1, 3], "attention_downsample_factors": [2, 32], "num_head_channels": 32},
            (40, 750),
        ),
    ],
    ids=["one channel", "three channels", "one level", "fractional widths", "a factor of no level"],
)
@pytest.mark.parametrize("seed", range(3))
def test_networks_of_other_shapes_agree(write_golden, changes, t, seed):
    errors = compare(write_golden(changes, seed=seed, t=t))
    assert len(errors) == 11
    assert max(error.error for error in errors.values()) <= LIMIT, errors
    # Only what one step predicts late in the process may be beyond the limit, close to rounding.
    beyond = {name: error.distance for name, error in errors.items() if error.distance > LIMIT}
    assert set(beyond) <= {"p_pred_xstart", "p_s15_pred_xstart"}
    assert not beyond or max(t) > 990
    assert max(beyond.values(), default=0) < 2e-3


def test_an_image_predicted_at_the_last_step_is_still_compared(write_golden, run):
    arrays = arrays_of(write_golden(t=(999, 999)))
    image = arrays["out/p_pred_xstart"]
    where = np.unravel_index(np.abs(image).argmin(), image.shape)
    image[where] += 3e-3
    code, errors, _ = run(arrays)
    assert code == 1
    assert errors["p_pred_xstart"] > LIMIT
    assert max(error for name, error in errors.items() if name != "p_pred_xstart") <= LIMIT


def test_differences_within_rounding_are_reported(write_golden, run):
    arrays = arrays_of(write_golden(t=(999, 999)))
    image = arrays["out/p_pred_xstart"]
    where = np.unravel_index(np.abs(image).argmin(), image.shape)
    image[where] += 3e-4 * np.sign(image[where])
    code, errors, said = run(arrays)
    assert code == 0
    assert errors["p_pred_xstart"] <= LIMIT
    assert "p_pred_xstart" in said
    assert "float32 rounding" in said


def sine_before_cosine(arrays: dict[str, np.ndarray]) -> None:
    weight = arrays["sd/time_embed.0.weight"]
    half = weight.shape[1] // 2
    arrays["sd/time_embed.0.weight"] = np.concatenate([weight[:, half:], weight[:, :half]], axis=1)


def gamma_for_beta(arrays: dict[str, np.ndarray]) -> None:
    for kind in ("weight", "bias"):
        gamma, beta = (f"sd/middle_block.0.in_norm.mlp_{name}.{kind}" for name in ("gamma", "beta"))
        arrays[gamma], arrays[beta] = arrays[beta], arrays[gamma]


def query_key_value_before_heads(arrays: dict[str, np.ndarray]) -> None:
    for kind in ("weight", "bias"):
        name = f"sd/middle_block.1.qkv.{kind}"
        rows = arrays[name].reshape(-1, 3, 16, *arrays[name].shape[1:])
        arrays[name] = np.moveaxis(rows, 1, 0).reshape(arrays[name].shape)


def scale_for_shift(arrays: dict[str, np.ndarray]) -> None:
    name = "sd/output_blocks.1.0.emb_layers.1.weight"
    arrays[name] = np.roll(arrays[name], len(arrays[name]) // 2, axis=0)


def one_weight(arrays: dict[str, np.ndarray]) -> None:
    arrays["sd/middle_block.0.in_layers.1.weight"][3, 5, 1, 1] += np.float16(1e-2)


@pytest.mark.parametrize(
    "alter",
    [sine_before_cosine, gamma_for_beta, query_key_value_before_heads, scale_for_shift, one_weight],
)
@pytest.mark.parametrize("source", ["original", "other shape"])
def test_an_altered_weight_or_convention_is_detected(write_golden, run, alter, source):
    arrays = arrays_of(GOLDEN if source == "original" else write_golden({"channel_mult": [1, 2, 2]}))
    alter(arrays)
    code, errors, _ = run(arrays)
    assert code == 1
    assert errors["unet_out"] > LIMIT


def test_guidance_of_another_convention_is_detected(write_golden):
    # The scale of "conditional + s * (conditional - null)", which is one less for the same picture.
    errors = compare(write_golden(guidance=2.5))
    assert {name for name, error in errors.items() if error.error > LIMIT} >= {
        "p_s15_mean",
        "p_s15_pred_xstart",
    }
    assert all(error.error <= LIMIT for name, error in errors.items() if not name.startswith("p_s15"))


def test_a_null_map_of_background_in_place_of_zeros_is_detected(run):
    arrays = arrays_of(GOLDEN)
    weights = {name[3:]: torch.from_numpy(arrays[name]).float() for name in arrays if name.startswith("sd/")}
    images, steps = torch.from_numpy(arrays["in/x0"]), torch.from_numpy(arrays["in/t"])
    background = one_hot(torch.zeros(2, 16, 16), 6)
    arrays["out/unet_out_null"] = plain_unet(weights, 16, images, steps, background).numpy()
    code, errors, _ = run(arrays)
    assert code == 1
    assert [name for name, error in errors.items() if error > LIMIT] == ["unet_out_null"]


def configured(**changes):
    def alter(arrays):
        arrays["config"] = np.array(json.dumps({**json.loads(str(arrays["config"])), **changes}))

    return alter


def lacking(name):
    return lambda arrays: arrays.pop(name)


def holding(name, value):
    return lambda arrays: arrays.update({name: np.array(value)})


def without_outputs(arrays):
    for name in [name for name in arrays if name.startswith("out/")]:
        del arrays[name]


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lacking("config"), "has no config"),
        (lacking("in/x0"), "lacks in/x0"),
        (lacking("sd/out.2.bias"), "lack out.2.bias"),
        (without_outputs, "0 outputs (out/)"),
        (holding("out/unknown", 1.0), "out/unknown, which nothing here computes"),
        (holding("config", "{"), "is not JSON"),
        (holding("config", "[]"), "must be a JSON object"),
        (holding("out/q_sample", "text"), "out/q_sample holds <U4"),
        (holding("in/t", [0, 1000]), "the steps are 0 to 999"),
        (holding("in/noise", [0.0]), "in/noise is (1,)"),
        (configured(noise_schedule="cosine"), "noise_schedule is 'cosine'; only 'linear' is supported"),
        (configured(resblock_updown=False), "resblock_updown is False"),
        (configured(out_channels=3), "out_channels is 3"),
        (configured(num_classes="6"), "num_classes '6'; it must be of type int"),
        (configured(channel_mult=2), "channel_mult 2; it must be of type list"),
        (configured(num_classes=5), "classes 6, the configuration says 5"),
        (configured(num_head_channels=24), "--head-channels 24 does not divide"),
    ],
)
def test_a_file_that_cannot_be_compared_exits_with_2_and_the_cause(run, alter, message):
    arrays = arrays_of(GOLDEN)
    alter(arrays)
    code, errors, said = run(arrays)
    assert (code, errors) == (2, {})
    assert message in said
    assert said.count("\n") == 1


def test_a_file_that_is_no_npz_exits_with_2_and_is_never_unpickled(run, tmp_path):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    (tmp_path / "text.npz").write_text("text", encoding="utf-8")
    (tmp_path / "code.npz").write_bytes(pickle.dumps(Harm()))
    (tmp_path / "half.npz").write_bytes(GOLDEN.read_bytes()[:1_000_000])
    np.save(tmp_path / "single.npy", np.zeros(3))
    damaged = bytearray(GOLDEN.read_bytes())
    damaged[3_000_000:3_000_100] = bytes(100)
    (tmp_path / "damaged.npz").write_bytes(damaged)
    for name in ("text.npz", "code.npz", "half.npz", "single.npy"):
        code, _, said = run(tmp_path / name)
        assert (code, "is not an .npz file" in said) == (2, True), said
    code, _, said = run(tmp_path / "damaged.npz")
    assert (code, "is damaged at" in said) == (2, True), said
    code, _, said = run(tmp_path / "missing.npz")
    assert (code, "there is no file" in said) == (2, True), said
    objects = np.array([Harm()], dtype=object)
    np.savez(tmp_path / "objects.npz", **arrays_of(GOLDEN), **{"out/harm": objects})
    code, _, said = run(tmp_path / "objects.npz")
    assert (code, "out/harm" in said, "never loaded" in said) == (2, True, True), said
    assert not (tmp_path / "harm").exists()
