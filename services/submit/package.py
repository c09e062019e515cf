"""What ``--working-dir`` sends: the code of a folder, and not the data that lies beside it.

A clone in which people work fills with what the commands make: drawn scans, slices, models, samples, reports.
Sent along, they cost minutes and are readable by everyone on the cluster.
"""

import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env import packaging

from services.common.config_file import CONFIG_NAME

#: Files of code, by their ends: a folder with one of them below it is sent.
_CODE = (".py", ".pyi", ".pyx", ".sh", ".toml", ".cfg")
#: Files of data: scans, datasets, weights, images, archives.
_DATA = (
    ".mhd", ".mha", ".raw", ".zraw", ".dcm", ".nii", ".nrrd", ".parquet", ".arrow", ".feather",
    ".safetensors", ".pt", ".pth", ".ckpt", ".npy", ".npz", ".h5", ".hdf5", ".png", ".jpg", ".jpeg",
    ".tif", ".zip", ".tar", ".gz", ".zst", ".7z",
)  # fmt: skip
#: What a dataset, a report or a training run has.
_DATA_NAMES = re.compile(r"manifest\.json|DICOMDIR|events\.out\.tfevents\..*")
#: The datasets that come with LungForge are a part of its code.
_PACKAGED = PurePath("lungforge/pretrained")
#: What has a meaning in a pattern of .gitignore.
_SPECIAL = re.compile(r"([\[\]*?!# \\])")
#: Folders that a message names.
_NAMED = 8


@dataclass(frozen=True)
class Package:
    """What of a folder is sent.

    Attributes:
        excluded: Folders and files that hold data, relative to it.
        sizes: Bytes that are sent, by the first part of their path.
    """

    excluded: tuple[PurePath, ...]
    sizes: dict[str, int]

    @property
    def excludes(self) -> list[str]:
        """The excluded as patterns of .gitignore, for Ray."""
        return ["/" + _SPECIAL.sub(r"\\\1", path.as_posix()) for path in self.excluded]

    def describe(self) -> str:
        """What is sent and what is not, in a line."""
        sent = sorted(self.sizes.items(), key=lambda item: -item[1])
        parts = _listed(f"{name} {_megabytes(size)}" for name, size in sent)
        line = f"sends {_megabytes(sum(self.sizes.values()))} ({parts})"
        if self.excluded:
            line += f"; not the data in {_listed(map(str, self.excluded))}"
        return line


def package_of(folder: Path) -> Package:
    """Look through a folder as Ray will, with its ignore files, and tell code from data."""
    sizes: dict[PurePath, int] = {}
    code: set[PurePath] = set()
    data: set[PurePath] = set()

    def look(path: Path) -> None:
        if path.is_dir():
            return
        relative = PurePath(path.relative_to(folder))
        sizes[relative] = path.stat().st_size if path.exists() else 0
        name = path.name.lower()
        if name == CONFIG_NAME:  # of a job's output, or of the user: it makes a folder neither code nor data
            return
        if name.endswith(_CODE) or relative.is_relative_to(_PACKAGED):
            code.update(relative.parents)
        elif name.endswith(_DATA) or _DATA_NAMES.fullmatch(path.name) or _is_dicom(path):
            data.update((relative, *relative.parents))

    ignored: list[Callable[[Path], bool]] = [
        packaging._get_excludes(folder, get_runtime_env_default_excludes())
    ]
    packaging._dir_travel(folder, ignored, look, include_gitignore=True)
    root = PurePath()
    wholly = {path for path in data - code if path != root and (path.parent == root or path not in sizes)}
    excluded = sorted(path for path in wholly if not wholly.intersection(path.parents))
    sent: dict[str, int] = {}
    for path, size in sizes.items():
        if not {path, *path.parents}.intersection(excluded):
            sent[path.parts[0]] = sent.get(path.parts[0], 0) + size
    return Package(tuple(excluded), sent)


def _is_dicom(path: Path) -> bool:
    """Whether a file is DICOM that its name does not tell."""
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
    return False


def _listed(words: Iterable[str]) -> str:
    words = list(words)
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return ", ".join(words[:_NAMED]) + more


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
