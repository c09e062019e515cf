"""Where synthetic slices come from, by their manifests: the scans of their maps and of their generator."""

import dataclasses

from lungforge.datasets import Dataset, Kind, Parent
from lungforge.errors import InputError
from lungforge.models.model_dataset import ModelDetails


@dataclasses.dataclass(frozen=True)
class SampleLineage:
    """What a samples dataset was made from.

    Attributes:
        samples: The dataset itself.
        sources: The slices whose maps it was generated from.
        models: The generators.
        training: The slices that they were trained on, each with the subsets that were used (None: all).
        gaps: Sentences about what of it cannot be known any more.
    """

    samples: Dataset
    sources: tuple[Dataset, ...]
    models: tuple[Dataset, ...]
    training: tuple[tuple[Dataset, tuple[int, ...] | None], ...]
    gaps: tuple[str, ...]

    @property
    def ancestors(self) -> tuple[Dataset, ...]:
        """All of them, each once, the samples first."""
        everything = [self.samples, *self.sources, *self.models, *(dataset for dataset, _ in self.training)]
        return tuple({dataset.manifest_sha256: dataset for dataset in everything}.values())

    @property
    def on_patches(self) -> bool:
        """Whether the slices are patches, cut out of whole ones."""
        return any(ModelDetails.of(model.manifest).patch is not None for model in self.models)


def trace(samples: Dataset) -> SampleLineage:
    """Follow the lineage of a samples dataset up to the scans."""
    gaps: list[str] = []
    sources = _open(samples, Kind.SLICES, gaps)
    models = _open(samples, Kind.MODEL, gaps)
    training = []
    for model in models:
        subsets = model.manifest.config.get("subsets")
        for dataset in _open(model, Kind.SLICES, gaps):
            training.append((dataset, None if subsets is None else tuple(subsets)))
    return SampleLineage(samples, tuple(sources), tuple(models), tuple(training), tuple(gaps))


def _open(child: Dataset, kind: Kind, gaps: list[str]) -> list[Dataset]:
    """The parents of a kind that are unchanged since the child was made; adds a gap for each other one."""
    datasets = []
    parents = [parent for parent in child.manifest.parents if parent.kind is kind]
    if not parents:
        gaps.append(f"{child.uri}: its manifest names no {kind.value} that it was made from")
    for parent in parents:
        dataset = _same(parent)
        if dataset is None:
            gaps.append(f"{child.uri}: its parent {kind.value} at {parent.uri} is gone or changed")
        else:
            datasets.append(dataset)
    return datasets


def _same(parent: Parent) -> Dataset | None:
    try:
        dataset = Dataset.open(parent.uri, parent.kind)
    except InputError:  # gone, or no dataset any more; one that cannot be reached now ends the job
        return None
    return dataset if dataset.manifest_sha256 == parent.sha256 else None
