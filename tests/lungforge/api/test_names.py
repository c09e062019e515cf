"""``import lungforge``: quick, without PyTorch, and all that it names is there."""

import subprocess
import sys
from importlib.resources import files

import pytest

import lungforge
from lungforge.errors import InputError


def test_the_import_loads_nothing_but_itself() -> None:
    code = (
        "import sys; before = set(sys.modules); import lungforge; "
        "print(sorted(name for name in set(sys.modules) - before if name.partition('.')[0] "
        "in ('lungforge', 'numpy', 'torch', 'pyarrow', 'scipy', 'fsspec')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "['lungforge']"


@pytest.mark.parametrize("name", lungforge.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(lungforge, name)
    assert name in dir(lungforge)
    if name != "__version__":
        assert value.__name__ == name
        assert value.__doc__


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="'lungforge' has no attribute 'open_slice'"):
        _ = lungforge.open_slice


@pytest.mark.parametrize("name", ["open_slices", "load_model"])
def test_without_pytorch_the_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(vars(lungforge), name, raising=False)
    with pytest.raises(
        InputError, match=rf"^lungforge.{name} needs PyTorch: pip install 'lungforge\[sample\]'$"
    ):
        getattr(lungforge, name)


def test_type_checkers_read_the_annotations() -> None:
    assert (files("lungforge") / "py.typed").is_file()
