"""What is missing is named together with what installs it."""

import functools
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from lungforge.errors import InputError
from lungforge.extras import MODULES, is_installed, require_extra, require_extras

ROOT = Path(__file__).parents[2]


def test_a_package_that_is_there_is_no_matter() -> None:
    require_extra("numpy", "sample", "lungforge sample")


def test_a_missing_package_is_named_with_the_extra_that_has_it() -> None:
    with pytest.raises(InputError) as raised:
        require_extra("no_such_module", "dicom", "--format dicom")
    assert str(raised.value) == "--format dicom needs no_such_module: pip install 'lungforge[dicom]'"


def test_a_clone_that_is_not_installed_is_not_looked_for_in_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(InputError, match=r"^this command needs no_such_module: pip install '\.\[ray\]'$"):
        require_extra("no_such_module", "ray", "this command")


def test_packages_have_the_names_that_people_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as Python says "not installed"
    with pytest.raises(
        InputError, match=r"^lungforge sample needs PyTorch: pip install 'lungforge\[sample\]'$"
    ):
        require_extra("torch", "sample", "lungforge sample")


def test_a_module_is_looked_for_and_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    assert is_installed("this")
    assert "this" not in sys.modules


def test_the_first_missing_package_of_several_extras_is_named_with_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_extras(("train", "eval"), "this command")
    for module in ("jinja2", "mmdet"):
        monkeypatch.setitem(sys.modules, module, None)
    require_extras(("train",), "this command")
    with pytest.raises(InputError) as raised:
        require_extras(("train", "eval"), "this command")
    assert str(raised.value) == "this command needs mmdet: pip install 'lungforge[train,eval]'"


@pytest.mark.parametrize("extra", sorted(MODULES))
def test_every_package_of_an_extra_is_asked_for(extra: str) -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]

    def distributions(name: str) -> set[str]:
        found = set()
        for requirement in named[name]:
            inner = re.fullmatch(r"lungforge\[(.+)\]", requirement)
            if inner:
                found |= set().union(*map(distributions, inner[1].split(",")))
            else:
                found.add(re.split(r"[\[<>=]", requirement)[0])
        return found

    asked = {_providers()[module][0].lower().replace("_", "-") for module in MODULES[extra]}
    assert asked == distributions(extra)


@functools.cache
def _providers() -> Mapping[str, list[str]]:
    """The distributions that each module is of."""
    return importlib.metadata.packages_distributions()
