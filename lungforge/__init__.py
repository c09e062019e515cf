"""LungForge: synthetic chest CT slices from semantic maps, and an honest measure of their worth.

The names below are what a program uses; ``docs/how-to/python.md`` shows them by example. They are imported
when they are first used, so that ``import lungforge`` is quick and loads no PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lungforge.api.edits import EditedSlice, edit_map
    from lungforge.api.evaluation import evaluate
    from lungforge.api.model import Model, load_model
    from lungforge.api.results import Evaluation
    from lungforge.api.slices import SliceItem, SlicesDataset, open_slices
    from lungforge.api.volumes import read_volume, slice_volume
    from lungforge.datasets.slices import SliceRow

__version__ = "0.1.0"

__all__ = [
    "EditedSlice",
    "Evaluation",
    "Model",
    "SliceItem",
    "SliceRow",
    "SlicesDataset",
    "__version__",
    "edit_map",
    "evaluate",
    "load_model",
    "open_slices",
    "read_volume",
    "slice_volume",
]

#: Where each name lives. As text: nothing is imported before it is used.
_MODULES = {
    "EditedSlice": "lungforge.api.edits",
    "Evaluation": "lungforge.api.results",
    "Model": "lungforge.api.model",
    "SliceItem": "lungforge.api.slices",
    "SliceRow": "lungforge.datasets.slices",
    "SlicesDataset": "lungforge.api.slices",
    "edit_map": "lungforge.api.edits",
    "evaluate": "lungforge.api.evaluation",
    "load_model": "lungforge.api.model",
    "open_slices": "lungforge.api.slices",
    "read_volume": "lungforge.api.volumes",
    "slice_volume": "lungforge.api.volumes",
}
#: The modules that compute with PyTorch, which the core comes without.
_WITH_TORCH = ("lungforge.api.slices", "lungforge.api.model")


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'lungforge' has no attribute {name!r}")
    if module in _WITH_TORCH:
        importlib.import_module("lungforge.extras").require_extra("torch", "sample", f"lungforge.{name}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value  # the next use is direct
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
