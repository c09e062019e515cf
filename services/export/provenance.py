"""The provenance of an export, in ``provenance.json``, which is written last.

A folder holds one export. ``unfinished.json`` is created before the first file, by one of those that try,
and removed after ``provenance.json``, so that a stopped run can be recognised and resumed, and two exports
never mix. The provenance holds size and sha256 of every file: only as long as they agree is an export whole.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lungforge import __version__
from lungforge.config import identity
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.strict_json import parse_json
from lungforge.errors import InputError
from lungforge.public_uri import json_bytes
from lungforge.storage import join_uri, open_uri, write_bytes_atomic
from lungforge.storage.errors import explained
from lungforge.storage.files import read_if_there, remove_temporaries
from services.common.file_sums import FileSums
from services.common.progress import say
from services.export.config import ExportConfig
from services.export.formats.base import ExportFormat

#: The files that mark an export as complete, and as incomplete.
PROVENANCE_NAME, UNFINISHED_NAME = "provenance.json", "unfinished.json"


def describe(datasets: Sequence[Dataset], config: ExportConfig, made: ExportFormat) -> dict[str, Any]:
    """The provenance that is known before the first file."""
    return {
        "datasets": [_describe(dataset) for dataset in datasets],
        "synthetic": all(dataset.manifest.kind is Kind.SAMPLES for dataset in datasets),
        "exported_by": f"LungForge {__version__}",
        "export": _options(config, made),
    }


def _describe(dataset: Dataset) -> dict[str, Any]:
    manifest = dataset.manifest
    return {
        **dataclasses.asdict(dataset.parent()),
        "rows": dataset.rows,
        "synthetic": manifest.kind is Kind.SAMPLES,
        "made_from": [dataclasses.asdict(parent) for parent in manifest.parents],
        "made_by": f"LungForge {manifest.code_version}",
        "config": manifest.config,
        "seed": manifest.seed,
    }


def find_complete(out: str, description: Mapping[str, Any]) -> dict[str, Any] | None:
    """The provenance of the requested export if it is complete, else None.

    Complete are those whose files are all there, with the sizes and sums that were recorded.

    Raises:
        InputError: ``out`` holds another export, complete or not, or other files.
        AccessError: ``out`` cannot be read now.
    """
    document = _read_same(out, PROVENANCE_NAME, description)
    if document is not None:
        wrong = _first_wrong(out, document)
        if wrong is None:
            remove_mark(out)  # left by a run that was killed after its last write
            return document
        say(f"{join_uri(out, wrong)} is missing or altered; the export is written again")
        return None
    if _read_same(out, UNFINISHED_NAME, description) is None and _names(out):
        raise InputError(f"--out {out} is not empty; name a new folder")
    return None


def _first_wrong(out: str, document: Mapping[str, Any]) -> str | None:
    try:
        sums = FileSums.from_json(document["sums"])
    except (KeyError, TypeError):
        return PROVENANCE_NAME
    return sums.first_wrong(out)


def mark_started(out: str, description: Mapping[str, Any]) -> None:
    """Mark the folder with the export that is about to be written, unless another one was first.

    Raises:
        InputError: Another export was started or completed there meanwhile.
    """
    try:
        write_bytes_atomic(join_uri(out, UNFINISHED_NAME), json_bytes(description), exclusive=True)
    except FileExistsError:
        _read_same(out, UNFINISHED_NAME, description)
        return
    try:
        _read_same(out, PROVENANCE_NAME, description)
    except InputError:
        remove_mark(out)
        raise


def mark_complete(out: str, document: Mapping[str, Any], sums: FileSums) -> None:
    """Mark the export as complete.

    Args:
        out: Folder of the export.
        document: The result of ``describe``, and the counts.
        sums: All its files.
    """
    folders = {out} | {join_uri(out, path.rpartition("/")[0]) for path in sums.files if "/" in path}
    for folder in sorted(folders):
        remove_temporaries(folder)
    provenance = {**document, "sums": sums.to_json()}
    write_bytes_atomic(join_uri(out, PROVENANCE_NAME), json_bytes(provenance))
    remove_mark(out)


def _options(config: ExportConfig, made: ExportFormat) -> dict[str, Any]:
    """The options that determine the bytes; None for those that the format ignores."""
    always = {"format", "validation_share", "validation_subsets"}
    options = {
        name: value if name in always | made.reads else None for name, value in identity(config).items()
    }
    return options | {"hu_offset": None, **made.notes}


def _read_same(out: str, name: str, description: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the document of that name, if there is one.

    Raises:
        InputError: It belongs to another export.
    """
    data = read_if_there(join_uri(out, name))
    if data is None:
        return None
    try:
        document = parse_json(data)
        present, wanted = _determinants(document), _determinants(description)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{join_uri(out, name)} is not what `lungforge export` wrote; choose another --out"
        ) from error
    differing = [
        f"{option} ({present.get(option)} there, {wanted[option]} here)"
        for option in wanted
        if present.get(option) != wanted[option]
    ]
    if differing:
        raise InputError(
            f"{out} holds another export, of {_uris(document)}, which differs in "
            f"{', '.join(differing)}; choose another --out"
        )
    return document


def _determinants(document: Mapping[str, Any]) -> dict[str, Any]:
    """What determines the files of an export; the datasets by content, wherever they are stored."""
    sums = [dataset["sha256"] for dataset in document["datasets"]]
    return {"the dataset's sha256": sums[0] if len(sums) == 1 else sums, **document["export"]}


def _uris(document: Mapping[str, Any]) -> str:
    return " and ".join(str(dataset["uri"]) for dataset in document["datasets"])


def _names(out: str) -> list[str]:
    """Names in the folder, except for hidden files left by killed writers."""
    fs, path = open_uri(out)
    with explained(out):
        try:
            listed = fs.ls(path, detail=False)
        except FileNotFoundError:
            return []
    names = [str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in listed]
    return [name for name in names if not name.startswith(".")]


def remove_mark(out: str) -> None:
    """Remove the mark of ``mark_started``, if it is there."""
    fs, path = open_uri(join_uri(out, UNFINISHED_NAME))
    with explained(out), contextlib.suppress(FileNotFoundError):
        fs.rm_file(path)
