"""The command line is a promise: scripts hold its words. A change here is a change for users."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lungforge.models.registry import GENERATORS, load_generator
from services.cli.commands import COMMANDS, load

FROZEN = Path(__file__).parents[2] / "golden" / "command_line.txt"


def _options(config_class: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The options of a configuration and of those in its fields, with their defaults."""
    for field in dataclasses.fields(config_class):
        name = f"{prefix}{field.name}".replace("_", "-")
        if field.default_factory is not dataclasses.MISSING:
            yield from _options(type(field.default_factory()), f"{name}.")
        else:
            required = field.default is dataclasses.MISSING
            yield name, "required" if required else repr(field.default)


def _values(config: Any, prefix: str = "") -> dict[str, Any]:
    """The same with the values of an instance."""
    values = {}
    for field in dataclasses.fields(config):
        name, value = f"{prefix}{field.name}".replace("_", "-"), getattr(config, field.name)
        values |= _values(value, f"{name}.") if dataclasses.is_dataclass(value) else {name: value}
    return values


def _command_line() -> str:
    lines = []
    for name, command in COMMANDS.items():
        lines.append(name)
        lines += [f"  --{option}  {default}" for option, default in _options(load(command.config))]
        presets = load(command.presets) if command.presets else {}
        variants = GENERATORS if "model" in command.variants else (None,)
        for variant, (preset, make) in itertools.product(variants, presets.items()):
            if preset not in load_generator(variant).presets:
                continue
            plain = _values(load(command.config)(data="-", out="-"))
            made = _values(make(data="-", out="-", model=variant))
            changed = {option: value for option, value in made.items() if plain.get(option, ...) != value}
            lines.append(f"  --model {variant} --preset {preset}  {changed}")
    return "\n".join(lines) + "\n"


def test_options_defaults_and_presets_are_as_frozen() -> None:
    """To change them on purpose: write ``_command_line()`` to the file, and a line to the changelog."""
    assert _command_line() == FROZEN.read_text(encoding="utf-8")
