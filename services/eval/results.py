"""What an evaluation measures, as types: ``metrics.json`` is an ``EvaluationReport``.

Report, verdict, figures, nightly and benchmarks read these fields. pydantic turns them into JSON and back,
strictly: a field that is missing, unknown or of another type is an error.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from lungforge.datasets.strict_json import parse_json
from lungforge.errors import ContentError
from lungforge.metrics.extractors import Description
from lungforge.public_uri import json_bytes
from services.eval.copy_results import MemorisationResult, NearDuplicates
from services.eval.downstream.results import DownstreamResults
from services.eval.set_results import (
    FrechetResult,
    GenerationSettings,
    HounsfieldRow,
    KidResult,
    MapAgreement,
    NoduleContrast,
    NotMeasured,
    PrecisionRecallResult,
    RadiomicResult,
)

Document = TypeVar("Document")

#: Version of the JSON document. It changes with every change of the fields here.
FORMAT: Final = 3


@dataclass(frozen=True)
class SubsetSelection:
    """Subsets of a dataset that were used; None for all of them."""

    subsets: tuple[int, ...] | None


@dataclass(frozen=True)
class AncestorDataset:
    """A dataset of a set's lineage.

    Attributes:
        kind: slices, model or samples.
        uri: Where it is.
        manifest_sha256: Of its manifest.
        code_version: Of the LungForge that made it.
        selection: Subsets of its sources that it was made from; None where it has no such setting.
        parents: sha256 of the manifests that it was made from.
        config: The configuration that it was made with, to be shown as it is.
    """

    kind: str
    uri: str
    manifest_sha256: str
    code_version: str
    selection: SubsetSelection | None
    parents: tuple[str, ...]
    config: dict[str, object]


@dataclass(frozen=True)
class SetResults:
    """All results on one set of synthetic slices.

    Attributes:
        name: What the report calls the set.
        uri: Where it is.
        images: Synthetic slices.
        source_scans: Scans that their maps are of.
        radiomic: Radiomic Fréchet distance.
        frechet: Fréchet distance.
        kid: Kernel inception distance.
        precision_recall: Improved precision and recall.
        hounsfield_units: A row for each class of the map.
        nodule_contrast_hu: Contrast of the nodules.
        map_agreement: Agreement of the slices, segmented again, with their maps.
        near_duplicates: Slices that are near-duplicates of real ones.
        memorisation: Distance to the training slices.
        generated_with: Sampler and its settings.
        lineage: The set itself, and the datasets that it was made from.
    """

    name: str
    uri: str
    images: int
    source_scans: int
    radiomic: RadiomicResult | NotMeasured
    frechet: FrechetResult
    kid: KidResult
    precision_recall: PrecisionRecallResult
    hounsfield_units: tuple[HounsfieldRow, ...]
    nodule_contrast_hu: NoduleContrast
    map_agreement: MapAgreement | NotMeasured
    near_duplicates: NearDuplicates
    memorisation: MemorisationResult | NotMeasured
    generated_with: GenerationSettings
    lineage: tuple[AncestorDataset, ...]


#: What a result comes to.
Judgement = Literal["good", "fair", "poor", "not measured"]


@dataclass(frozen=True)
class Chip:
    """One judgement of a headline.

    Attributes:
        name: What is judged, as a title.
        judgement: Word for it.
        value: The number behind it, with its unit; the reason where it was not measured.
    """

    name: str
    judgement: Judgement
    value: str


@dataclass(frozen=True)
class Headline:
    """The results on a set at a glance: a sentence, and its judgements."""

    sentence: str
    chips: tuple[Chip, ...]

    def in_words(self, told: Callable[[str], str]) -> "Headline":
        """The same with its texts put by a function into other words."""
        chips = (replace(chip, value=told(chip.value)) for chip in self.chips)
        return Headline(told(self.sentence), tuple(chips))


@dataclass(frozen=True)
class RealReference:
    """The real slices that the synthetic ones are compared with.

    Attributes:
        uri: Where they are.
        manifest_sha256: Of their manifest.
        subsets: Those that are compared with; None for all.
        images: How many slices that is.
        scans: Of how many scans.
        scans_of_known_patients: How many of these are known by patient, so that the leak guard goes by
            patient; by scan for the others.
        searched: Real slices among which near-duplicates were looked for.
        origin: What the slices are of; whatever is measured against phantoms says nothing about CT.
    """

    uri: str
    manifest_sha256: str
    subsets: tuple[int, ...] | None
    images: int
    scans: int
    scans_of_known_patients: int
    searched: int
    origin: Literal["scans", "phantoms"]


@dataclass(frozen=True)
class EvaluationReport:
    """Everything that an evaluation has to say.

    Attributes:
        date: Day of the evaluation, as YYYY-MM-DD: that of SOURCE_DATE_EPOCH where it is set.
        headlines: The results on each set at a glance.
        verdict: The results in sentences.
        warnings: What to know before reading them.
        real: The real slices.
        extractor: The network behind all distances.
        sets: Results on each set of synthetic slices.
        downstream: Results of the downstream tasks; None without them.
        leakage_allowed: Whether the leak guard was switched off.
        config: The configuration, but for what has no influence on the results.
        command: The command line that makes the report again.
        format: Version of this document.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    date: str
    headlines: tuple[Headline, ...]
    verdict: tuple[str, ...]
    warnings: tuple[str, ...]
    real: RealReference
    extractor: Description
    sets: tuple[SetResults, ...]
    downstream: DownstreamResults | None
    leakage_allowed: bool
    config: dict[str, object]
    command: str
    format: int = field(default=FORMAT)

    def to_json(self) -> bytes:
        """The report as JSON."""
        return json_bytes(_adapter().dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, data: bytes) -> "EvaluationReport":
        """Read a report.

        Raises:
            ContentError: It is no such report, or one of another format.
        """
        try:
            document = parse_json(data)
        except ValueError as error:
            raise ContentError(f"the metrics of the report are no JSON: {error}") from error
        version = document.get("format") if isinstance(document, dict) else None
        if version != FORMAT:
            raise ContentError(
                f"the metrics of the report are of format {version!r}, and this LungForge reads format "
                f"{FORMAT}; evaluate again with this version"
            )
        return read_strictly(_adapter(), data, "the metrics of the report are damaged")


@functools.cache
def _adapter() -> TypeAdapter[EvaluationReport]:
    return TypeAdapter(EvaluationReport)


def read_strictly(adapter: TypeAdapter[Document], data: bytes, problem: str) -> Document:
    """Read a JSON document whose every field is of its type.

    Raises:
        ContentError: One is not: the problem, and where the first one is.
    """
    try:
        return adapter.validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ContentError(f"{problem}: {place}: {first['msg']}") from error
