"""``lungforge completion``: what the scripts offer, as the shells ask for it."""

import subprocess

import pytest

from services.cli.commands import COMMANDS
from services.tools.completion import CompletionConfig, run


@pytest.fixture(scope="module")
def bash() -> str:
    return run(CompletionConfig("bash")).text


def _offered(script: str, *words: str) -> set[str]:
    """What bash offers for the last of the words."""
    line = " ".join(map(repr, ("lungforge", *words)))
    ask = (
        f"COMP_WORDS=({line}); COMP_CWORD={len(words)}; _tyro_lungforge; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(
        ["bash", "--noprofile", "--norc"],
        input=f"{script}\n{ask}\n",
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return set(done.stdout.split())


def test_bash_offers_every_command(bash: str) -> None:
    assert _offered(bash, "") >= set(COMMANDS)
    assert _offered(bash, "pre") == {"preprocess"}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["train", "--pre"], {"--preset", "--precision", "--preview-every"}),
        (["train", "--preset", ""], {"tiny", "cpu", "luna256"}),
        (["train", "--network.att"], {"--network.attention-sizes"}),
        (["sample", "--sampler", "d"], {"ddim", "dpmpp"}),
        (["show", "samples", "--conf"], {"--config"}),
        (["export", "--js"], {"--json"}),
    ],
)
def test_bash_offers_options_and_values(bash: str, words: list[str], offered: set[str]) -> None:
    assert offered <= _offered(bash, *words)


@pytest.mark.parametrize(
    ("shell", "begins"), [("zsh", "#compdef lungforge"), ("fish", "function _tyro_lungforge")]
)
def test_the_other_shells_have_a_script_of_the_same_options(shell: str, begins: str) -> None:
    script = run(CompletionConfig(shell)).text  # type: ignore[arg-type]
    assert begins in script
    assert "--network.attention-sizes" in script
    assert "score-candidates" in script
