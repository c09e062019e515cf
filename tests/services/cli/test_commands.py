"""How words of the command line become configurations, and results become lines."""

import dataclasses
import json

import pytest

from lungforge.errors import InputError
from lungforge.models.gaugan.config import GauGANOptions
from services.cli.commands import COMMANDS, load, overview, parse
from services.cli.results import print_result


def test_the_overview_names_every_command() -> None:
    text = overview()
    flowing = " ".join(text.split())
    for name, command in COMMANDS.items():
        assert f"  {name} " in text
        assert command.summary in flowing
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_what_run_names_exists(name: str) -> None:
    assert callable(load(COMMANDS[name].run))


def test_a_wrong_value_is_one_line_that_names_the_option() -> None:
    with pytest.raises(InputError) as error:
        parse("phantom", ["--out", "x", "--series", "0"])
    assert str(error.value) == "--series is 0; give at least 1"


def test_values_arrive() -> None:
    config = parse("phantom", ["--out", "somewhere", "--series", "3", "--seed", "7"])
    assert (config.out, config.series, config.seed, config.size) == ("somewhere", 3, 7, 256)


def test_a_preset_sets_what_the_options_then_change() -> None:
    presets = load(COMMANDS["train"].presets or "")
    plain = presets["tiny"](data="slices", out="model")
    read = parse("train", ["--preset", "tiny", "--data", "slices", "--out", "model"])
    assert read == plain
    changed = parse("train", ["--data", "slices", "--preset=tiny", "--out", "model", "--seed", "5"])
    assert changed == dataclasses.replace(plain, seed=5)


def test_a_preset_depends_on_the_generator() -> None:
    presets = load(COMMANDS["train"].presets or "")
    options = ["--data", "slices", "--out", "model"]
    for name in ("tiny", "luna256"):
        for words in (["--model", "gaugan"], ["--model=gaugan"]):
            read = parse("train", [*options, *words, "--preset", name])
            assert read == presets[name]("slices", "model", "gaugan")
    with pytest.raises(InputError, match="--model is 'vae'; choose one of sdm, gaugan"):
        parse("train", [*options, "--preset", "tiny", "--model", "vae"])


def test_training_needs_a_preset_and_nothing_starts_without() -> None:
    with pytest.raises(InputError) as error:
        parse("train", ["--data", "slices", "--out", "model", "--network.base-channels", "32"])
    assert (
        str(error.value)
        == "give a --preset: tiny, cpu, luna256, luna256-edm, luna512-patch (lungforge train --help)"
    )


def test_the_options_of_a_network_are_those_of_its_generator() -> None:
    options = ["--data", "slices", "--out", "model"]
    words = ["--network.base-channels", "16", "--network.channel-multipliers", "4", "2"]
    read = parse("train", [*options, "--model", "gaugan", "--preset", "tiny", *words])
    assert read.network == GauGANOptions(
        base_channels=16, channel_multipliers=(4, 2), latent_channels=16, discriminator_channels=8
    )
    # The network of the other generator has no such option.
    for model, option in (("sdm", "--network.latent-channels"), ("gaugan", "--learner.condition-dropout")):
        with pytest.raises(SystemExit):
            parse("train", [*options, "--preset", "tiny", "--model", model, option, "1"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--network.base-channels", "0"], "--network.base-channels is 0; give at least 1"),
        (
            ["--network.base-channels", "48"],
            "--network.base-channels 48 times multiplier 1 is 48; every width must be a multiple of 32",
        ),
        (
            ["--learner.condition-dropout", "2"],
            "--learner.condition-dropout is 2; give a number from 0 to 1",
        ),
        (
            ["--patch", "96"],
            "--network.attention-sizes has 32; the feature maps have the sides 96 48 24 12 6 3",
        ),
    ],
)
def test_a_wrong_value_of_a_network_is_one_line_that_names_its_whole_option(
    words: list[str], message: str
) -> None:
    with pytest.raises(InputError) as error:
        parse("train", ["--data", "slices", "--out", "model", "--preset", "luna256", *words])
    assert str(error.value).startswith(message)


def test_a_preset_scales_with_the_workers_unless_the_batch_is_given() -> None:
    options = ["--data", "slices", "--out", "model", "--preset", "luna256", "--workers", "8"]
    read = parse("train", options)
    assert (read.workers, read.batch, read.gpus_per_worker) == (8, 32, 1)
    assert parse("train", [*options, "--batch", "16"]).batch == 16
    with pytest.raises(
        InputError, match="--batch 4 cannot be shared equally by --workers 8; give a multiple of 8"
    ):
        parse("train", [*options, "--batch", "4"])


@pytest.mark.parametrize(
    "words",
    [["--subsets", "0,1,2"], ["--subsets", "0", "1", "2"], ["--subsets=0,1,2"], ["--subsets", "0,", "1,2"]],
)
def test_a_list_is_separated_by_spaces_or_commas(words: list[str]) -> None:
    assert parse("preprocess", ["--source", "a", "--out", "b", *words]).subsets == (0, 1, 2)
    assert parse("preprocess", ["--source", "a", *words, "--out", "b"]).subsets == (0, 1, 2)


def test_commas_separate_names_and_numbers_and_not_paths() -> None:
    words = ["--model", "m,1", "--data", "d", "--out", "o"]
    assert parse("sample", [*words, "--edits", "move,1,resize,0.5"]).edits == (("move", 1.0), ("resize", 0.5))
    assert parse("sample", words).model == "m,1"
    assert parse("export", ["--data", "d", "--out", "o", "--window", "-1350,150"]).window == (-1350, 150)
    evaluation = parse("evaluate", ["--real", "r", "--out", "o", "--synthetic", "a,b", "c", "--ratios=1,2.5"])
    assert (evaluation.synthetic, evaluation.ratios) == (("a,b", "c"), (1.0, 2.5))
    assert parse("train", ["--preset", "tiny", *words[2:], "--network.attention-sizes", "16,8"]).network


def test_an_unknown_preset_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"--preset is 'huge'; choose one of .*luna256"):
        parse("train", ["--preset", "huge", "--data", "slices", "--out", "model"])


@dataclasses.dataclass(frozen=True)
class _Result:
    report_path: str = "r.html"
    counts: dict[str, int] = dataclasses.field(default_factory=lambda: {"body": 1})
    commands: tuple[str, ...] = ("one two", "three")
    done: bool = True
    nothing: None = None


def test_a_result_is_lines_for_people_and_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(_Result(), as_json=False)
    assert capsys.readouterr().out == (
        "report path  r.html\ncounts\n  body  1\ncommands\n  one two\n  three\n"
        "done         yes\nnothing      none\n"
    )
    print_result(_Result(), as_json=True)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out)["commands"] == ["one two", "three"]


def test_a_result_may_say_itself_what_people_read(capsys: pytest.CaptureFixture[str]) -> None:
    class InWords(_Result):
        text = "a sentence"

    print_result(InWords(), as_json=False)
    assert capsys.readouterr().out == "a sentence\n"
    print_result(InWords(), as_json=True)
    assert json.loads(capsys.readouterr().out)["done"] is True


def test_what_would_move_the_cursor_is_shown_as_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_result({"details": {"a\x1b[2J": ["b\r\nc", "\x9b1m"]}, "größe": "ü"}, as_json=False)
    said = capsys.readouterr().out
    assert "a\\x1b[2J" in said
    assert "b\\r\\nc" in said
    assert "\\x9b1m" in said
    assert "größe" in said
    assert not set(said) & {"\x1b", "\r", "\x9b"}
