"""The dataset of kind ``model``: the one place that writes it and reads it.

It holds the averaged weights (``model.safetensors``), the network that they are of (``config.json``), and,
where it was trained here, the metrics of every step (``history.json``); on request, snapshots of averages on
the way, which ``averages.json`` lists. The manifest's details say what it was trained on. Only what reads or
writes the weights needs PyTorch.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from lungforge.ct import classes
from lungforge.datasets import Dataset, DatasetWriter, Kind, Manifest
from lungforge.datasets.strict_json import parse_json
from lungforge.errors import ContentError
from lungforge.models.base import DataShape, ModelSpec, SamplingOptions, SliceSampler
from lungforge.models.document import from_document, to_document

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lungforge.models.snapshots import Snapshot

_WEIGHTS, _NETWORK, _HISTORY = "model.safetensors", "config.json", "history.json"
#: The list of the snapshots of averages, where some were kept.
AVERAGES = "averages.json"


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_range_or_none(value: Any) -> bool:
    if value is None:
        return True
    is_pair = isinstance(value, list) and len(value) == 2
    return is_pair and all(type(item) in (int, float) for item in value) and value[0] <= value[1]


#: What holds of each of the details in a manifest, which may be anyone's.
_IS_DETAIL: dict[str, Callable[[Any], bool]] = {
    "model": _is_text,
    "imported_from": _is_text,
    **dict.fromkeys(("size", "classes", "patch", "rows", "steps"), _is_count),
    "subsets": lambda value: isinstance(value, list) and all(type(item) is int for item in value),
    "series_uids": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "final_metrics": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    "hu_ranges": lambda value: (
        isinstance(value, list) and len(value) == classes.COUNT and all(map(_is_range_or_none, value))
    ),
}


@dataclass(frozen=True)
class ModelDetails:
    """What the manifest of a model says of it; None where that cannot be known.

    Attributes:
        model: Name of the generator.
        size: Side of its images, in px.
        classes: Classes of its maps.
        patch: Side of the patches that it was trained on, in px; None for whole slices.
        subsets: Subsets of LUNA16 that it was trained on; None for all.
        series_uids: The scans that it was trained on, so that evaluation can keep them apart.
        rows: Slices that it was trained on.
        steps: Steps of the optimiser.
        final_metrics: Metrics at the end of training that say how good it is, by name; None where its
            generator has none.
        imported_from: Name of the file that it was imported from; None where it was trained here.
        hu_ranges: For each class the lowest and highest median HU of its training images, as
            ``lungforge.metrics.hu_gate.HuRanges`` writes them; None of a class that too few of them show.
    """

    model: str | None = None
    size: int | None = None
    classes: int | None = None
    patch: int | None = None
    subsets: Sequence[int] | None = None
    series_uids: Sequence[str] | None = None
    rows: int | None = None
    steps: int | None = None
    final_metrics: Mapping[str, float] | None = None
    imported_from: str | None = None
    hu_ranges: Sequence[Sequence[float] | None] | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """The details in the manifest of a model.

        Raises:
            ContentError: One of them is of another type than here.
        """
        values = {field.name: manifest.details.get(field.name) for field in dataclasses.fields(cls)}
        for name, value in values.items():
            if value is not None and not _IS_DETAIL[name](value):
                raise ContentError(
                    f"the manifest of the model says {name} {value!r:.80}; make the model again"
                )
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, without what only some models have where there is none."""
        document = dataclasses.asdict(self)
        for name in ("final_metrics", "imported_from", "hu_ranges"):
            if document[name] is None:
                del document[name]
        return document


def write_model(
    writer: DatasetWriter,
    spec: ModelSpec[Any, Any],
    config: DataShape,
    weights: "Mapping[str, Tensor]",
    details: ModelDetails,
    history: Mapping[str, Sequence[float]] | None = None,
    snapshots: "Sequence[Snapshot]" = (),
) -> Manifest:
    """Write and commit a model.

    Args:
        writer: Of a dataset of kind ``model``.
        spec: The generator.
        config: Its network.
        weights: The averaged weights, as ``spec.build`` takes them.
        details: What it was trained on.
        history: Metrics of every step, by name; None where they are not known.
        snapshots: Averages on the way, whose parts are written already.

    Raises:
        ContentError: The weights are not finite, or cannot be those of a trained network.
    """
    from lungforge.models.checkpoint import check_values, to_safetensors

    check_values(weights)
    documents: dict[str, Any] = {_NETWORK: to_document(spec, config)}
    if history is not None:
        documents[_HISTORY] = history
    if snapshots:
        documents[AVERAGES] = {
            "snapshots": [
                {"length": each.length, "updates": each.updates, "file": each.part.name} for each in snapshots
            ]
        }
    parts = [each.part for each in snapshots]
    parts.append(writer.write_file(_WEIGHTS, to_safetensors(weights)))
    for name, document in documents.items():
        parts.append(writer.write_file(name, (json.dumps(document, sort_keys=True) + "\n").encode()))
    return writer.commit(parts, details.to_json())


@dataclass(frozen=True)
class ModelDataset:
    """A model that was written; its weights are read when they are needed.

    Attributes:
        dataset: Where it is.
        spec: The generator.
        config: Its network.
        details: What it was trained on.
    """

    dataset: Dataset
    spec: ModelSpec[Any, Any]
    config: Any
    details: ModelDetails

    @classmethod
    def open(cls, uri: str) -> Self:
        """Read all but the weights.

        Raises:
            InputError: There is no model, or it is damaged.
            ContentError: It is of no generator that is known here.
        """
        return cls.of(Dataset.open(uri, Kind.MODEL))

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """The same of a dataset that is open; raises as ``open`` does."""
        spec, config = from_document(read_object(dataset, _NETWORK))
        return cls(dataset, spec, config, ModelDetails.of(dataset.manifest))

    def sampler(self, options: SamplingOptions, device: "torch.device", *, classes: int) -> SliceSampler:
        """Read the weights, and set them up to sample.

        Args:
            options: How to sample.
            device: Where to.
            classes: Class count of the maps; checked.

        Raises:
            InputError: The weights are damaged, or do not fit the network or the classes.
        """
        return self.spec.sampler(self.network(classes=classes).to(device), options)

    def network(self, *, classes: int) -> "nn.Module":
        """Read the weights into the network, which is in evaluation mode, on the CPU.

        Args:
            classes: Class count of the maps; checked.

        Raises:
            InputError: The weights are damaged, or do not fit the network or the classes.
        """
        from lungforge.models.checkpoint import load_network

        data = self.dataset.read_file(_WEIGHTS)
        try:
            return load_network(data, to_document(self.spec, self.config), classes=classes)
        except ContentError as error:
            raise ContentError(f"{self.dataset.uri}: {error}") from error

    def read_weights(self) -> "dict[str, Tensor]":
        """The weights by name, in the precision that they are stored in, on the CPU.

        Raises:
            ContentError: They are missing or damaged.
        """
        from lungforge.models.checkpoint import from_safetensors

        return from_safetensors(self.dataset.read_file(_WEIGHTS))


def read_history(dataset: Dataset) -> dict[str, list[float]] | None:
    """The metrics of every step of a model's training, by name; None where the dataset holds none.

    Raises:
        ContentError: They are no lists of numbers.
    """
    if dataset.manifest.kind is not Kind.MODEL or all(part.name != _HISTORY for part in dataset.parts):
        return None
    history = read_object(dataset, _HISTORY)
    for name, values in history.items():
        if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
            raise ContentError(f"{dataset.uri}: {_HISTORY}: {name!r:.80} is no list of numbers")
    return history


def read_object(dataset: Dataset, name: str) -> dict[str, Any]:
    """The JSON object in a file of a model.

    Raises:
        ContentError: It is none.
    """
    try:
        document = parse_json(dataset.read_file(name))
    except ContentError:
        raise
    except ValueError as error:
        raise ContentError(f"{dataset.uri}: {name} is no JSON ({error})") from error
    if not isinstance(document, dict):
        raise ContentError(f"{dataset.uri}: {name} is no JSON object")
    return document
