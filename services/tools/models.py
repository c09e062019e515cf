"""``lungforge models``: the models and label maps that come with LungForge."""

import dataclasses

from lungforge.ct.io.patient_table import scan_of
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.slices import index_rows
from lungforge.models.model_dataset import ModelDataset
from lungforge.storage import packaged

#: What a model makes.
_WHOLE, _PATCHES = "whole slices", "patches"


@dataclasses.dataclass(frozen=True)
class ModelsConfig:
    """List the models and label maps that come with LungForge."""


@dataclasses.dataclass(frozen=True)
class PackagedModel:
    """A model that comes with LungForge.

    Attributes:
        uri: For ``--model``.
        size_px: Side of the images that it makes.
        images: Whole slices, or patches of slices at their own resolution.
        generator: Its kind.
        subsets: Subsets of LUNA16 that it was trained on; None for all.
        scans: Scans that it was trained on.
        slices: Slices of these.
        megabytes: Size of its files.
    """

    uri: str
    size_px: int
    images: str
    generator: str
    subsets: tuple[int, ...] | None
    scans: int
    slices: int
    megabytes: float


@dataclasses.dataclass(frozen=True)
class PackagedMaps:
    """Label maps, with their real slices, that come with LungForge.

    Attributes:
        uri: For ``--data`` and ``--real``.
        size_px: Side of the slices.
        subsets: Subsets of LUNA16 that the scans are in.
        scans: Scans that they are of.
        slices: How many.
        megabytes: Size of their files.
    """

    uri: str
    size_px: int
    subsets: tuple[int, ...]
    scans: int
    slices: int
    megabytes: float


@dataclasses.dataclass(frozen=True)
class ModelsResult:
    """What comes with LungForge.

    Attributes:
        models: By name.
        maps: By name.
        folder: Where they lie on this machine; each has a ``card.md``.
    """

    models: tuple[PackagedModel, ...]
    maps: tuple[PackagedMaps, ...]
    folder: str

    @property
    def text(self) -> str:
        """The lists for people, with a command to copy."""
        uris = [model.uri for model in self.models] + [maps.uri for maps in self.maps]
        width = max(map(len, uris), default=0)
        lines = ["Models (--model):" if self.models else "No model comes with this release."]
        for model in self.models:
            lines.append(
                f"  {model.uri:<{width}}  {model.images} of {model.size_px} x {model.size_px} px; "
                f"{model.generator}, trained on {model.slices} slices of {model.scans} scans "
                f"({_of_luna16(model.subsets)}); {model.megabytes:g} MB"
            )
        if self.maps:
            lines += ["", "Label maps with their real slices (--data, --real):"]
        for maps in self.maps:
            lines.append(
                f"  {maps.uri:<{width}}  {maps.slices} slices of {maps.size_px} x {maps.size_px} px, "
                f"of {maps.scans} scans ({_of_luna16(maps.subsets)}); {maps.megabytes:g} MB"
            )
        if self.models:
            lines += ["", "Sample with:", *(f"  {self._command(model)}" for model in self.models)]
        if self.models or self.maps:
            lines += ["", f"What each is made of, its licence and its limits: {self.folder}/NAME/card.md"]
        return "\n".join(lines)

    def _command(self, model: PackagedModel) -> str:
        """How to sample with a model: from maps that come with it, where some fit."""
        fitting = [
            maps.uri
            for maps in self.maps
            if (maps.size_px == model.size_px if model.images == _WHOLE else maps.size_px > model.size_px)
        ]
        data = fitting[0] if fitting else "SLICES"
        return f"lungforge sample --model {model.uri} --data {data} --out samples"


def run(config: ModelsConfig) -> ModelsResult:
    """List what comes with LungForge.

    Raises:
        ContentError: One of the datasets is damaged.
    """
    datasets = [Dataset.open(f"{packaged.SCHEME}://{name}") for name in packaged.packaged_names()]
    return ModelsResult(
        models=tuple(_model(each) for each in datasets if each.manifest.kind is Kind.MODEL),
        maps=tuple(_maps(each) for each in datasets if each.manifest.kind is Kind.SLICES),
        folder=str(packaged.FOLDER),
    )


def _model(dataset: Dataset) -> PackagedModel:
    model = ModelDataset.of(dataset)
    details = model.details
    return PackagedModel(
        uri=dataset.uri,
        size_px=model.config.image_size,
        images=_WHOLE if details.patch is None else _PATCHES,
        generator=model.spec.summary,
        subsets=None if details.subsets is None else tuple(details.subsets),
        scans=len(set(map(scan_of, details.series_uids or ()))),
        slices=details.rows or 0,
        megabytes=_megabytes(dataset),
    )


def _maps(dataset: Dataset) -> PackagedMaps:
    index = index_rows(dataset, None)
    return PackagedMaps(
        uri=dataset.uri,
        size_px=index.size[0],
        subsets=tuple(sorted({row.subset for row in index.read(range(len(index)))})),
        scans=len(set(map(scan_of, index.series_uids))),
        slices=len(index),
        megabytes=_megabytes(dataset),
    )


def _megabytes(dataset: Dataset) -> float:
    return round(dataset.manifest.nbytes / 1e6, 1)


def _of_luna16(subsets: tuple[int, ...] | None) -> str:
    if subsets is None:
        return "all of LUNA16"
    return f"LUNA16 {'subset' if len(subsets) == 1 else 'subsets'} {' '.join(map(str, subsets))}"
