"""Runs the command line, or imports modules, as where some packages are not installed.

python tests/without_packages.py torch,ray lungforge show FOLDER
python tests/without_packages.py torch,ray import lungforge.ct services.export.job
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class _Others(PathFinder):
    """Python's finder on ``sys.path``, which overlooks some packages."""

    hidden: frozenset[str]

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in cls.hidden:
            return None
        return super().find_spec(fullname, path, target)


def hide(names: str) -> None:
    """Let packages, with commas between their names, be missing from now on."""
    _Others.hidden = frozenset(names.split(","))
    assert not _Others.hidden & set(sys.modules)
    sys.meta_path[:] = [_Others if finder is PathFinder else finder for finder in sys.meta_path]


def main() -> int:
    hide(sys.argv[1])
    if sys.argv[2] == "import":
        for name in sys.argv[3:]:
            importlib.import_module(name)
        return 0
    from services.__main__ import main as run

    sys.argv = sys.argv[2:]
    return run()


if __name__ == "__main__":
    sys.exit(main())
