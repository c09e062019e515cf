"""The help of every command, as people see it at 80 and at 120 columns."""

import itertools
import re
from collections.abc import Sequence

import pytest

from services.cli.commands import COMMANDS, form_of, load, parse
from services.cli.options import field_texts, options_of

WIDTHS = (80, 120)


def _help(
    name: str,
    width: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: Sequence[str] = (),
) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit) as exit_request:
        parse(name, [*words, "--help"])
    assert exit_request.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_is_explained_in_whole_sentences(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for width in WIDTHS:
        printed = _help(name, width, monkeypatch, capsys)
        assert max(map(len, printed.splitlines())) <= width
        flowing = " ".join(printed.split())
        for field, text in field_texts(load(COMMANDS[name].config)).items():
            assert len(text.split()) > 3, field
            assert text.endswith("."), field
            if field not in ("network", "learner"):
                assert text in flowing, field
        for option in ("--config FILE", "--json", "-h, --help"):
            assert f"  {option}" in printed


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_line_ends_only_where_the_next_word_has_no_room(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for width in WIDTHS:
        lines = _help(name, width, monkeypatch, capsys).splitlines()
        for line, following in itertools.pairwise(lines):
            # Texts stand in the second column; a line without an option in the first continues one.
            both = re.match(r".{26}  \S", line) and re.match(r" {28}\S", following)
            if both and not re.match(r" +(tiny|cpu|luna256|luna256-edm|luna512-patch): ", following):
                word = following.split()[0] if "(default:" not in following else following.strip()
                assert len(line) + 1 + len(word) > width, (line, following)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_example_is_a_command_that_is_taken(name: str) -> None:
    example = COMMANDS[name].example.partition(" > ")[0].split()
    if name != "submit":  # whose example reads a file of a cluster
        assert parse(name, example) is not None


def test_presets_come_first_and_the_least_needed_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = _help("train", 80, monkeypatch, capsys)
    headings = [line for line in printed.splitlines() if re.match(r"[A-Z][^.]*$", line)]
    assert headings[1:] == [
        "Preset",
        "Required",
        "Options",
        "Optimisation",
        "How it runs",
        "The network of the generator",
        "The training of this generator only",
        "Every command",
    ]
    assert "--steps INT               Steps of the optimiser. (default: the preset's)" in printed
    assert "--flip FLOAT" in printed
    assert "(default: 0.5)" in printed


def test_the_help_of_a_preset_has_its_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = _help("train", 120, monkeypatch, capsys, ["--preset", "cpu"])
    assert "Steps of the optimiser. (default: 3000)" in printed
    assert "the preset's)" not in printed


def test_options_are_known_by_their_names_in_a_file() -> None:
    form = form_of("train")
    options = {
        option.name: option for option in options_of(form.config_class, form.presets["tiny"]("d", "o"))
    }
    subsets, multipliers = options["subsets"], options["network.channel_multipliers"]
    assert (subsets.flag, subsets.values, subsets.is_splittable, subsets.optional) == (
        "--subsets",
        "INT ...",
        True,
        True,
    )
    assert (multipliers.flag, multipliers.default) == ("--network.channel-multipliers", (1, 2))
    assert not options["data"].is_splittable
