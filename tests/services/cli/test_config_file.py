"""``--config FILE``: what a file says, what wins over it, and a run that is repeated by one file."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lungforge.errors import AccessError, InputError
from services.cli.commands import COMMANDS, parse
from services.common.config_file import keep_config, to_toml
from services.eval.config import EvalConfig
from services.export.config import ExportConfig
from services.nightly.config import NightlyConfig
from services.preprocess.config import PreprocessConfig
from services.sample.config import SampleConfig
from services.tools.demo import DemoConfig
from services.tools.ema import EmaConfig
from services.tools.import_checkpoint import ImportConfig
from services.tools.phantom import PhantomConfig
from services.train.presets import cpu, luna256, tiny

SECRET = "dont-print-me"
#: Configurations with every type of value: texts, None in both directions, numbers, switches, lists of lists.
CONFIGS = {
    "phantom": PhantomConfig(out="o", series=3),
    "preprocess": PreprocessConfig(
        source='quo"ted\\path\n\x7fé', out="s3://lab/b", size=None, spacing_mm=0.7, subsets=(0, 9)
    ),
    "train": dataclasses.replace(tiny("a", "b", "gaugan", 2), subsets=(0,), keep_averages=True),
    "sample": SampleConfig(
        model="m", data="d", out="o", edits=(("none", 1.0), ("move", 1e-5)), guidance_interval=(0.0, 2.5)
    ),
    "evaluate": EvalConfig(real="r", synthetic=("a", "b,c"), out="o", allow_leakage=True),
    "export": ExportConfig(data=("d", "e"), out="o", window=(-1350, 150)),
    "nightly": NightlyConfig(store="s3://lab", date="2026-01-31", test_subsets=(9,), guidance=1.0),
    "ema": EmaConfig(model="m", length=0.05, out="o"),
    "import-checkpoint": ImportConfig(file="weights.pt", out="o", image_channels=3),
    "demo": DemoConfig(),
}


def _left_out(config: Any) -> list[str]:
    """What a file does not have: where the output is, and how many workers there are."""
    given = {name: getattr(config, name, None) for name in ("out", "workers")}
    return [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_written_is_read_as_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    keep_config(name, CONFIGS[name], str(tmp_path))
    read = parse(name, ["--config", str(path), *_left_out(CONFIGS[name])])
    assert read == CONFIGS[name]
    # Whole numbers stay so in lists of numbers: the digest of the work is that of their text.
    assert to_toml(name, read) == path.read_text(encoding="utf-8") == to_toml(name, CONFIGS[name])


@pytest.mark.parametrize("preset", [tiny, cpu, luna256])
@pytest.mark.parametrize("model", ["sdm", "gaugan"])
def test_a_file_with_every_option_needs_no_preset(preset, model: str, tmp_path: Path) -> None:
    config = preset("a", "b", model, 8)
    keep_config("train", config, str(tmp_path))
    assert parse("train", ["--config", str(tmp_path / "config.toml"), *_left_out(config)]) == config


def test_the_same_work_has_the_same_file_wherever_it_is_done() -> None:
    one = SampleConfig(model="m", data="d", out="s3://lab/a", workers=1)
    other = dataclasses.replace(one, out="b", workers=4)
    assert (
        to_toml("sample", one)
        == to_toml("sample", other)
        != to_toml("sample", dataclasses.replace(one, seed=1))
    )


def test_the_text_is_toml_with_a_table_for_each_nested_configuration() -> None:
    text = to_toml("train", tiny("s3://lab/slices", "m"))
    assert text.startswith("# lungforge train --config config.toml --out URI\n")
    document = tomllib.loads(text)
    assert document["data"] == "s3://lab/slices"
    assert document["network"]["attention_sizes"] == [16]
    assert "subsets" not in document
    assert tomllib.loads(to_toml("train", tiny("a", "b", "gaugan")))["max_grad_norm"] == "None"


def test_a_file_is_written_once_and_again_when_the_configuration_is_another(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    keep_config("phantom", PhantomConfig(out="a"), str(tmp_path))
    before = path.stat()
    keep_config("phantom", PhantomConfig(out="a"), str(tmp_path))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    keep_config("phantom", PhantomConfig(out="a", series=3), str(tmp_path))
    assert "series = 3" in path.read_text(encoding="utf-8")


def _file(folder: Path, text: str) -> str:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    file = _file(
        tmp_path,
        'preset = "cpu"\ndata = "slices"\nout = "model"\nsteps = 7\nkeep_averages = true\nlearning_rate = 1\n'
        "subsets = [0, 1]\n[network]\nbase_channels = 64\n",
    )
    read = parse("train", ["--config", file])
    assert read == dataclasses.replace(
        cpu("slices", "model"),
        steps=7,
        keep_averages=True,
        learning_rate=1.0,
        subsets=(0, 1),
        network=dataclasses.replace(cpu("a", "b").network, base_channels=64),
    )
    assert type(read.learning_rate) is float
    words = ["--steps", "9", "--no-keep-averages", "--subsets", "None", "--network.base-channels=32"]
    changed = parse("train", [*words, f"--config={file}", "--out", "other"])
    assert changed == dataclasses.replace(
        cpu("slices", "other"), steps=9, learning_rate=1.0, keep_averages=False
    )
    # Another preset, and an option that presets depend on.
    assert parse("train", ["--config", file, "--preset", "tiny", "--workers", "4"]).warmup_steps == 20
    assert parse("train", ["--config", file, "--workers", "4"]).workers == 4


def test_the_generator_of_a_file_decides_its_network(tmp_path: Path) -> None:
    file = _file(tmp_path, 'preset = "tiny"\nmodel = "gaugan"\n[network]\nlatent_channels = 4\n')
    assert parse("train", ["--config", file, "--data", "d", "--out", "o"]).network.latent_channels == 4


def test_an_argument_without_a_name_may_stand_in_a_file(tmp_path: Path) -> None:
    file = _file(tmp_path, 'data = "samples"\nrows = 2\n')
    read = parse("show", ["--config", file])
    assert (read.data, read.rows) == ("samples", 2)
    assert parse("show", ["other", "--config", file]).data == "other"


def test_a_stage_reads_its_file_and_the_submission_its_own(tmp_path: Path) -> None:
    stage = _file(tmp_path, 'out = "luna16"\nseries = 3\n')
    cluster = tmp_path / "cluster.toml"
    cluster.write_text('address = "http://head:8265"\n', encoding="utf-8")
    read = parse("submit", ["--config", str(cluster), "phantom", "--config", stage])
    assert (read.address, read.command) == ("http://head:8265", ("phantom", "--config", stage))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_reads_a_file(name: str, tmp_path: Path) -> None:
    file = _file(tmp_path, "nothing_of_ours = 1\n")
    with pytest.raises(InputError, match=r"run.toml has nothing_of_ours, which is no option of this command"):
        parse(name, ["--config", file])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("serie = 3", "has serie, which is no option of this command; did you mean series?"),
        ("[network]\nwidth = 3", "has network.width, which is no option of this command"),
        ('series = "many"', ": series is 'many'; give a whole number"),
        ("series = true", ": series is True; give a whole number"),
        ("out = 3", ": out is 3; give a text in quotes"),
        ("out = ", " is no TOML: Invalid value"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    file = _file(tmp_path, text)
    with pytest.raises(InputError) as error:
        parse("phantom", ["--config", file])
    assert message in str(error.value)
    assert file in str(error.value)
    assert "\n" not in str(error.value)


def test_what_presets_depend_on_is_checked_before_they_are_asked(tmp_path: Path) -> None:
    for text, message in (
        ('workers = "two"', "workers is 'two'; give a whole number"),
        ("model = 3", "model is 3; give a text in quotes"),
        ("preset = 1", "preset is 1; give a text in quotes"),
        ('preset = "huge"', "--preset is 'huge'; choose one of tiny, cpu, luna256"),
    ):
        with pytest.raises(InputError) as error:
            parse("train", ["--config", _file(tmp_path, text), "--data", "d", "--out", "o"])
        assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subsets = 3", ": subsets is 3; give a list in brackets"),
        ("guidance_interval = [1.0]", ": guidance_interval is [1.0]; give lists of 2 values"),
        ('sampler = "euler"', ": sampler is 'euler'; give one of ancestral, ddim, dpmpp, heun"),
        ('edits = [["grow", 1.0]]', "give one of none, move, resize, insert, remove"),
        ("per_map = 0", "--per-map is 0; give at least 1"),
    ],
)
def test_lists_and_names_in_a_file_are_checked(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        parse("sample", ["--config", _file(tmp_path, text), "--model", "m", "--data", "d", "--out", "o"])
    assert message in str(error.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/no.toml: no such file"):
        parse("phantom", ["--config", str(tmp_path / "no.toml")])
    with pytest.raises((InputError, AccessError), match=str(tmp_path)):
        parse("phantom", ["--config", str(tmp_path)])


@pytest.mark.parametrize(
    "text",
    [
        f'out = "https://me:{SECRET}@host/a"',
        f'nonsense = "https://me:{SECRET}@host/a"',
        f'"https://me:{SECRET}@host/a" = 1',
        f'synthetic = ["b", "https://host/a?X-Amz-Signature={SECRET}"]',
    ],
)
def test_a_secret_in_a_file_is_refused_and_not_repeated(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave it out, as it would be seen") as error:
        parse("evaluate", ["--config", _file(tmp_path, text)])
    assert SECRET not in str(error.value)


def test_a_preset_is_needed_where_the_file_says_not_everything(tmp_path: Path) -> None:
    file = _file(tmp_path, 'data = "slices"\nout = "model"\nsteps = 7\n')
    with pytest.raises(InputError, match=r"give a --preset, as .*run.toml has no model: tiny, cpu, luna256"):
        parse("train", ["--config", file])
