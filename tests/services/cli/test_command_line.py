"""The command line is a promise: scripts hold its words. A change here is a change for users."""

import dataclasses
import itertools
from pathlib import Path
from typing import get_args

from services.cli.commands import COMMANDS, _load
from services.train.config import ModelName

FROZEN = Path(__file__).parents[2] / "golden" / "command_line.txt"


def _command_line() -> str:
    lines = []
    for name, command in COMMANDS.items():
        lines.append(name)
        for field in dataclasses.fields(_load(command.config)):
            required = field.default is dataclasses.MISSING
            default = "required" if required else repr(field.default)
            lines.append(f"  --{field.name.replace('_', '-')}  {default}")
        presets = _load(command.presets) if command.presets else {}
        variants = get_args(ModelName) if command.variant == "model" else (None,)
        for variant, (preset, make) in itertools.product(variants, presets.items()):
            plain, made = _load(command.config)(data="-", out="-"), make(data="-", out="-", model=variant)
            changed = {
                field.name: getattr(made, field.name)
                for field in dataclasses.fields(made)
                if getattr(made, field.name) != getattr(plain, field.name)
            }
            lines.append(f"  --{command.variant} {variant} --preset {preset}  {changed}")
    return "\n".join(lines) + "\n"


def test_options_defaults_and_presets_are_as_frozen() -> None:
    """To change them on purpose: write ``_command_line()`` to the file, and a line to the changelog."""
    assert _command_line() == FROZEN.read_text(encoding="utf-8")
