"""The generators by name: those of LungForge, and those of other packages.

Another package registers a generator by an entry point, in its ``pyproject.toml``::

    [project.entry-points."lungforge.generators"]
    mine = "my_package.spec:SPEC"

So every process of a cluster that has the package installed knows the generator. Names from a command line or
a model dataset are only looked up here: no text is ever imported as code.
"""

import importlib
import importlib.metadata
from typing import Any

from lungforge.config import option
from lungforge.errors import InputError
from lungforge.models.base import ModelSpec

#: LungForge's own generators, as ``module:attribute`` of a ``ModelSpec``.
GENERATORS = {
    "sdm": "lungforge.models.sdm.spec:SPEC",
    "gaugan": "lungforge.models.gaugan.spec:SPEC",
}
#: The group of entry points where other packages name theirs.
ENTRY_POINTS = "lungforge.generators"


def generator_names() -> tuple[str, ...]:
    """The names of all generators, LungForge's own first."""
    return tuple({**GENERATORS, **_registered()})


def find_generator(name: str) -> ModelSpec[Any, Any] | None:
    """The generator of a name, or None where there is none."""
    path = GENERATORS.get(name) or _registered().get(name)
    if path is None:
        return None
    module, attribute = path.split(":")
    spec: ModelSpec[Any, Any] = getattr(importlib.import_module(module), attribute)
    assert spec.name == name, f"{path} calls itself {spec.name}, and is registered as {name}"
    return spec


def load_generator(name: str) -> ModelSpec[Any, Any]:
    """The generator of a name.

    Raises:
        InputError: There is none; the message lists those that there are.
    """
    spec = find_generator(name)
    if spec is None:
        raise InputError(f"{option('model')} is {name!r}; choose one of {', '.join(generator_names())}")
    return spec


def _registered() -> dict[str, str]:
    return {point.name: point.value for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
