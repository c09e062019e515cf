"""Where synthetic slices come from, by their manifests: the scans of their maps and of their generator."""

import dataclasses
from collections.abc import Iterable

from lungforge.datasets import Dataset, Kind
from lungforge.datasets.lineage import Finding, find_parent
from lungforge.errors import ContentError
from lungforge.models.model_dataset import ModelDetails


@dataclasses.dataclass(frozen=True)
class SampleLineage:
    """What a samples dataset was made from.

    Attributes:
        samples: The dataset itself.
        sources: The slices whose maps it was generated from.
        models: The generators.
        training: The slices that they were trained on, each with the subsets that were used (None: all).
        training_scans: Scans that those of them were trained on which come without slices and name the scans.
        gaps: Sentences about what of it cannot be known any more.
    """

    samples: Dataset
    sources: tuple[Dataset, ...]
    models: tuple[Dataset, ...]
    training: tuple[tuple[Dataset, tuple[int, ...] | None], ...]
    training_scans: frozenset[str]
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


def slices_behind(real: Dataset, lineages: Iterable[SampleLineage]) -> dict[str, Dataset]:
    """The slices that are compared with, and all that the generators and the maps came from, each once.

    Returns:
        By the digests of their manifests, the slices that are compared with first.
    """
    datasets = [real]
    for lineage in lineages:
        datasets += [*lineage.sources, *(dataset for dataset, _ in lineage.training)]
    return {dataset.manifest_sha256: dataset for dataset in datasets}


def trace(samples: Dataset) -> SampleLineage:
    """Follow the lineage of a samples dataset up to the scans.

    Raises:
        ContentError: A manifest does not say properly which subsets or scans were used.
        AccessError: An ancestor cannot be read now.
    """
    gaps: list[str] = []
    sources = _open(samples, Kind.SLICES, samples.uri, gaps)
    models = _open(samples, Kind.MODEL, samples.uri, gaps)
    training: list[tuple[Dataset, tuple[int, ...] | None]] = []
    scans: set[str] = set()
    for model in models:
        named = ModelDetails.of(model.manifest).series_uids
        if named and all(parent.kind is not Kind.SLICES for parent in model.manifest.parents):
            scans.update(named)
            continue
        training += [(dataset, subsets_of(model)) for dataset in _open(model, Kind.SLICES, samples.uri, gaps)]
    return SampleLineage(
        samples, tuple(sources), tuple(models), tuple(training), frozenset(scans), tuple(gaps)
    )


def subsets_of(dataset: Dataset) -> tuple[int, ...] | None:
    """The subsets of LUNA16 that the job of a dataset used; None for all.

    Raises:
        ContentError: The manifest holds something else in their place.
    """
    subsets = dataset.manifest.config.get("subsets")
    if subsets is None:
        return None
    if not isinstance(subsets, list) or not all(type(subset) is int for subset in subsets):
        raise ContentError(f"{dataset.uri}: subsets {subsets!r:.80} in its manifest; make the dataset again")
    return tuple(subsets)


def _open(child: Dataset, kind: Kind, root: str, gaps: list[str]) -> list[Dataset]:
    """The parents of a kind that are unchanged since the child was made; adds a gap for each other one."""
    datasets = []
    # A manifest may name one twice.
    parents = dict.fromkeys(parent for parent in child.manifest.parents if parent.kind is kind)
    if not parents:
        gaps.append(f"{child.uri}: its manifest names no {kind.value} that it was made from")
    for parent in parents:
        # One that is gone leaves a gap; one that cannot be reached now ends the job.
        finding, dataset = find_parent(parent, root, kind)
        if finding is Finding.SAME and dataset is not None:
            datasets.append(dataset)
        elif finding is Finding.NOT_FOLLOWED:
            gaps.append(f"{child.uri}: its parent {kind.value} at {parent.uri} is neither local nor on S3")
        else:
            gaps.append(f"{child.uri}: its parent {kind.value} at {parent.uri} is gone or changed")
    return datasets
