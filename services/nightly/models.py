"""Which model of a store is the newest."""

from lungforge.datasets import Dataset, Kind
from lungforge.datasets.manifest import MANIFEST_NAME
from lungforge.errors import InputError
from lungforge.storage import join_uri, open_uri
from lungforge.storage.errors import explained


def newest_model(store: str) -> Dataset:
    """The model whose manifest was written last, by the store's clock; of several at once, the last by name.

    Args:
        store: Its models are the folders of ``models``; those without a manifest are not finished.

    Raises:
        InputError: There is none.
    """
    folder = join_uri(store, "models")
    fs, path = open_uri(folder)
    with explained(folder):
        try:
            names = [name.rstrip("/").rsplit("/", 1)[-1] for name in fs.ls(path, detail=False)]
        except FileNotFoundError:
            names = []
        written = []
        for name in names:
            try:
                written.append((fs.modified(f"{path}/{name}/{MANIFEST_NAME}"), name))
            except (FileNotFoundError, NotADirectoryError):
                continue
    if not written:
        raise InputError(
            f"{folder}: no finished model; train one with `lungforge train --preset cpu --out {folder}/NAME`"
        )
    return Dataset.open(join_uri(folder, max(written)[1]), Kind.MODEL)
