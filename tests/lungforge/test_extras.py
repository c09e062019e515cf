"""What is missing is named together with what installs it."""

import sys

import pytest

from lungforge.errors import InputError
from lungforge.extras import is_installed, require_extra


def test_a_package_that_is_there_is_no_matter() -> None:
    require_extra("numpy", "sample", "lungforge sample")


def test_a_missing_package_is_named_with_the_extra_that_has_it() -> None:
    with pytest.raises(InputError) as raised:
        require_extra("no_such_module", "dicom", "--format dicom")
    assert str(raised.value) == "--format dicom needs no_such_module: pip install 'lungforge[dicom]'"


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
