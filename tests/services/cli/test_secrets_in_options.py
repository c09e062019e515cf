"""No option of any command takes a secret in a URI, a new one neither, and no message repeats it."""

import dataclasses
import subprocess
import sys
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from lungforge.errors import InputError
from services.cli import main as cli
from services.cli.commands import COMMANDS, load, parse

SECRET = "5ecretW0rd"
URI = f"https://me:{SECRET}@host/a"


def _required(config_class: type) -> dict[str, Any]:
    """Values for the fields without a default, which nothing is wrong with."""
    hints = typing.get_type_hints(config_class)
    return {
        field.name: _any_value(hints[field.name])
        for field in dataclasses.fields(config_class)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }


def _any_value(hint: Any) -> Any:
    if hint is float:
        return 0.1
    return ("a",) if typing.get_origin(hint) is tuple else "a"


def _is_text(hint: Any) -> bool:
    return hint is str or any(map(_is_text, typing.get_args(hint)))


def _text_fields() -> Iterator[Any]:
    """Every field of every command's configuration that may hold a text of the user's own."""
    for name, command in COMMANDS.items():
        config_class = load(command.config)
        for field, hint in typing.get_type_hints(config_class).items():
            if _is_text(hint):
                yield pytest.param(config_class, field, hint, id=f"{name}-{field}")


def test_the_options_that_are_known_to_take_uris_are_among_them() -> None:
    found = {parameter.id for parameter in _text_fields()}
    assert {
        "preprocess-source",
        "preprocess-lidc_database",
        "train-data",
        "sample-model",
        "evaluate-synthetic",
        "evaluate-weights",
        "evaluate-features",
        "nightly-pushgateway",
        "submit-address",
        "submit-command",
        "show-data",
        "show-sheet",
        "ema-model",
        "import-checkpoint-file",
        "export-out",
        "phantom-out",
        "demo-out",
    } <= found


@pytest.mark.parametrize(("config_class", "field", "hint"), _text_fields())
def test_no_field_of_a_configuration_takes_a_secret(config_class: type, field: str, hint: Any) -> None:
    value = ("show", URI) if typing.get_origin(hint) is tuple else URI
    with pytest.raises(
        InputError, match=rf"^--{field.replace('_', '-')} has a user name or password"
    ) as error:
        config_class(**_required(config_class) | {field: value})
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--out", URI], id="option"),
        pytest.param([f"--out={URI}"], id="equals"),
        pytest.param([URI], id="argument"),
        pytest.param(["--no-such-option", URI], id="unknown"),
        pytest.param(["--seed", URI], id="number"),
        pytest.param([f"--{URI}"], id="name"),
        pytest.param(["--preset", URI], id="choice"),
        pytest.param(["--out", f"s3://AKIA7:{SECRET}/+@lab/a"], id="key"),
        pytest.param(["--out", f"https://host/a?X-Amz-Signature={SECRET}"], id="signed"),
    ],
)
def test_no_message_about_an_argument_repeats_its_secret(
    name: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([name, *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "; leave it out, as it would be seen in manifests, logs and job lists" in printed.err
    assert SECRET not in printed.err


def test_a_command_that_is_none_is_not_repeated_with_its_secret(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([URI]) == 2
    assert capsys.readouterr().err.startswith("lungforge: there is no command 'https://host/a'")


def test_the_option_of_a_list_is_named() -> None:
    with pytest.raises(InputError, match=r"^--synthetic has a user name or password in a URI"):
        parse("evaluate", ["--real", "a", "--out", "b", "--synthetic", "c", "d", URI])


def test_what_only_looks_like_a_secret_is_taken() -> None:
    config = parse("preprocess", ["--source", "sftp://alice@host/me@lab/a:b", "--out", "s3://lab/a?b#c@d"])
    assert (config.source, config.out) == ("sftp://alice@host/me@lab/a:b", "s3://lab/a?b#c@d")
    weights = "https://host/weights.pth?download=true"
    options = ["--real", "a", "--synthetic", "b", "--out", "c", "--extractor", "inception-v3"]
    assert parse("evaluate", [*options, "--weights", weights]).weights == weights


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "RAY_ADDRESS"])
def test_an_address_with_a_secret_is_refused_before_anything_reads_it(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, f"http://me:{SECRET}@127.0.0.1:9")
    assert cli.main(["show", "s3://lab/a"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"lungforge show: {name} has a user name or password in a URI; leave it out")
    assert SECRET not in printed


def test_a_traceback_has_no_secret() -> None:
    script = (
        "import sys; from services.cli import main as cli\n"
        "def execute(name, arguments):\n"
        f"    raise RuntimeError('403 for https://host/a?X-Amz-Signature=' + {SECRET[::-1]!r}[::-1])\n"
        "cli.execute = execute\n"
        "cli.main(['show', 'a'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Traceback (most recent call last)")
    assert done.stderr.endswith("RuntimeError: 403 for https://host/a\n")
    assert SECRET not in done.stderr
