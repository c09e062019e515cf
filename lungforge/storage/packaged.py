"""``lungforge://NAME``: the datasets that come with LungForge, small models and maps, read-only.

They lie in a folder of the package itself, so that every host where LungForge is installed finds them under
the same URI. Nothing else in the package is reached by it, and nothing can be written there.
"""

from pathlib import Path, PurePosixPath
from typing import Any, Final, NoReturn

from fsspec import AbstractFileSystem

import lungforge
from lungforge.errors import InputError

#: The scheme of their URIs.
SCHEME: Final = "lungforge"
#: A folder for each dataset, by its name.
FOLDER = Path(lungforge.__file__).parent / "pretrained"


def packaged_names() -> tuple[str, ...]:
    """The names of all datasets that come with LungForge, sorted."""
    if not FOLDER.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in FOLDER.iterdir() if entry.is_dir()))


def packaged_path(uri: str) -> str:
    """The path of a URI in ``PackagedFileSystem``.

    Raises:
        InputError: No dataset of that name comes with LungForge.
    """
    path = uri.partition("://")[2].rstrip("/")
    if path.partition("/")[0] not in packaged_names():
        names = ", ".join(f"{SCHEME}://{name}" for name in packaged_names()) or "nothing"
        raise InputError(f"{uri}: no dataset of this name comes with LungForge, which brings {names}")
    return path


def refuse_to_write(uri: str) -> NoReturn:
    """Raise why nothing can be written there."""
    raise InputError(f"{uri}: {SCHEME}:// holds what comes with LungForge, read-only; choose another place")


class PackagedFileSystem(AbstractFileSystem):
    """The folder of the packaged datasets as fsspec has file systems; what it does not need raises."""

    protocol = SCHEME
    cachable = False

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What is in a folder."""
        names = sorted(entry.name for entry in _place(path).iterdir())
        return [self.info(f"{path}/{name}") if detail else f"{path}/{name}" for name in names]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """What there is to know of a file or folder."""
        place = _place(path)
        status = place.stat()
        kind = "directory" if place.is_dir() else "file"
        return {"name": path, "size": status.st_size, "type": kind, "mtime": status.st_mtime_ns}

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> NoReturn:
        """Nothing is written."""
        refuse_to_write(f"{SCHEME}://{path}")

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        if mode != "rb":
            refuse_to_write(f"{SCHEME}://{path}")
        return _place(path).open("rb")


def _place(path: str) -> Path:
    """Where a path leads; never out of the folder."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise FileNotFoundError(f"{SCHEME}://{path}: no such place")
    return FOLDER / pure
