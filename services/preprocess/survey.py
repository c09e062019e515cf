"""What a source offers to a job: its volumes, each with its rows of the tables, and what is wrong with it."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lungforge.ct.io.detection_tables import read_excluded
from lungforge.ct.io.luna16 import ANNOTATIONS, CANDIDATES, UNKNOWN_SUBSET, SeriesEntry, Source, list_series
from lungforge.ct.io.luna16_tables import (
    Annotation,
    Candidate,
    Findings,
    read_annotations,
    read_candidates,
)
from lungforge.ct.io.patient_table import METADATA, PatientGroups, group_by_patient, read_patients
from lungforge.ct.phantoms.generate import RECORD_NAME
from lungforge.errors import ContentError, InputError
from lungforge.storage import join_uri
from lungforge.storage.files import read_if_there
from services.common.progress import say
from services.preprocess.config import PreprocessConfig
from services.preprocess.refusals import Rejection, no_good_volume

#: Series uids that name a part as they are, those of DICOM among them: file systems that take small and
#: capital letters for the same keep them apart, and "--" is left to the others.
_PLAIN_UID = re.compile(r"(?!.*--)[a-z0-9._-]{1,100}")


@dataclass(frozen=True)
class SourceVolume:
    """One volume of the source, with its rows of the tables."""

    entry: SeriesEntry
    annotations: tuple[Annotation, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    excluded: tuple[Annotation, ...] = ()
    """Findings of annotations_excluded.csv; empty where no such table is used."""

    @property
    def part_name(self) -> str:
        """The name of its parts: another for each series uid, whatever its letters."""
        subset = "x" if self.entry.subset < 0 else str(self.entry.subset)
        uid = self.entry.series_uid
        if not _PLAIN_UID.fullmatch(uid):
            digest = hashlib.sha256(uid.encode(errors="surrogatepass")).hexdigest()
            uid = f"{re.sub('[^a-z0-9._-]', '_', uid.lower())[:60]}--{digest[:20]}"
        return f"subset{subset}-{uid}"


@dataclass(frozen=True)
class SourceSurvey:
    """What a source offers to a job."""

    volumes: tuple[SourceVolume, ...]
    rejected: tuple[Rejection, ...] = ()
    annotations_without_scan: int = 0
    patients: PatientGroups | None = None
    """Which scans are of one patient; None where nothing is known."""
    crops: bool = False
    """Whether crops can be made: they are asked for, and candidates_V2.csv can be read."""
    phantoms: bool = False
    """Whether the volumes are synthetic phantoms, not scans."""
    excluded: bool = False
    """Whether annotations_excluded.csv is used."""


def survey(config: PreprocessConfig) -> SourceSurvey:
    """List the volumes of the source and give each its rows of the tables; reads no volume.

    Says what of the source is not used, and how many scans, folds, masks and annotations belong together.

    Raises:
        InputError: There is no such source, no series in the subsets, or annotations.csv is needed and
            missing or wrong. (A wrong candidates_V2.csv prevents only the crops: it is rejected.)
        AccessError: The source cannot be read now.
    """
    source = list_series(config.source)
    for note in source.notes:
        say(f"{config.source}: {note}")
    entries = [entry for entry in source.entries if config.subsets is None or entry.subset in config.subsets]
    rejected = [Rejection(series.series_uid, series.reason) for series in source.rejected]
    if not entries:
        if config.subsets is not None and source.entries:
            present = sorted({entry.subset for entry in source.entries})
            without = f" ({UNKNOWN_SUBSET}: in no fold)" if UNKNOWN_SUBSET in present else ""
            raise InputError(
                f"{config.source}: no series in the subsets {config.subsets}; there are {present}{without}"
            )
        raise no_good_volume(config, rejected)
    annotations = _annotations(source, config)
    candidates = _candidates(source, config, rejected)
    for table, findings in ((ANNOTATIONS, annotations), (CANDIDATES, candidates)):
        if findings is not None and findings.doubled:
            say(f"{table}: rows dropped that repeat others: {findings.doubled}")
    known = {entry.series_uid for entry in source.entries}
    unmatched = {uid: len(rows) for uid, rows in annotations.items() if uid not in known}
    say(_counts(source, annotations, unmatched))
    excluded = _excluded(source, config)
    volumes = []
    for entry in entries:
        uid = entry.series_uid
        of_entry = _useful(candidates.get(uid, [])) if candidates is not None else ()
        neither = tuple((excluded or {}).get(uid, ()))
        volumes.append(SourceVolume(entry, tuple(annotations.get(uid, ())), of_entry, neither))
    return SourceSurvey(
        volumes=tuple(volumes),
        rejected=tuple(rejected),
        annotations_without_scan=sum(unmatched.values()),
        patients=_patients(source, entries),
        crops=candidates is not None,
        phantoms=read_if_there(join_uri(config.source, RECORD_NAME)) is not None,
        excluded=excluded is not None,
    )


def _annotations(source: Source, config: PreprocessConfig) -> Findings[Annotation]:
    if source.annotations_uri is not None:
        return read_annotations(source.annotations_uri)
    if config.lidc_database is None and (config.slices != "all" or config.healthy_every):
        raise InputError(
            f"{config.source}: there is no {ANNOTATIONS}, so no nodule is known; "
            "add it, give --lidc-database, or take every slice without nodules by --slices all"
        )
    return Findings()


def _candidates(
    source: Source, config: PreprocessConfig, rejected: list[Rejection]
) -> Findings[Candidate] | None:
    """The candidates; None where no crops are asked for, or the table is bad, which is then rejected."""
    if not config.crops:
        return None
    if source.candidates_uri is None:
        raise InputError(f"{config.source}: there is no {CANDIDATES}, which --crops needs")
    try:
        return read_candidates(source.candidates_uri)
    except ContentError as error:
        rejected.append(Rejection(CANDIDATES, f"no crops are made: {error}"))
        return None


def _excluded(source: Source, config: PreprocessConfig) -> dict[str, list[Annotation]] | None:
    """The findings that detection over whole scans ignores; None without a table, or without whole scans."""
    if source.excluded_uri is None or config.slices != "all":
        return None
    by_series: dict[str, list[Annotation]] = {}
    for finding in read_excluded(source.excluded_uri):
        by_series.setdefault(finding.series_uid, []).append(finding)
    return by_series


def _patients(source: Source, entries: Sequence[SeriesEntry]) -> PatientGroups | None:
    """Whose the scans are; None where there is no table."""
    if source.patients_uri is None:
        return None
    try:
        patients = read_patients(source.patients_uri)
    except ContentError as error:
        if source.patients_uri.lower().endswith(METADATA):
            # Many a download has a file of this name, and nobody asked for it to be read.
            say(f"patients are not known: {error}")
            return None
        raise
    groups = group_by_patient(patients, [entry.series_uid for entry in entries])
    say(
        f"patients: known of {len(entries) - len(groups.scans_without_patient)} of {len(entries)} scans; "
        f"with more than one scan: {len(groups.scans_of_one_patient)}"
    )
    return groups


def _useful(candidates: list[Candidate]) -> tuple[Candidate, ...]:
    # A scan without nodules gives no crops; its candidates need not travel.
    return tuple(candidates) if any(candidate.label == 1 for candidate in candidates) else ()


def _counts(source: Source, annotations: Findings[Annotation], unmatched: dict[str, int]) -> str:
    """How many scans, folds, masks and annotations belong together: the line that shows a wrong layout."""
    folds = sorted({entry.subset for entry in source.entries if entry.subset >= 0})
    without = sum(entry.subset < 0 for entry in source.entries)
    masks = sum(entry.lung_mask_uri is not None for entry in source.entries)
    parts = [
        f"scans: {len(source.entries)}",
        f"folds: {' '.join(map(str, folds)) or 'none'}",
        f"scans with a LUNA16 lung mask: {masks}",
    ]
    if folds and without:
        parts[1] += f" (scans without a fold: {without})"
    if source.annotations_uri is None:
        return "; ".join([*parts, "no annotations.csv"])
    matched = sum(map(len, annotations.values())) - sum(unmatched.values())
    parts.append(f"annotations that match a scan: {matched}")
    parts.append(f"annotated series uids without a scan: {len(unmatched)}")
    if unmatched:
        parts[-1] += f" (annotations: {sum(unmatched.values())}; the first uid: {next(iter(unmatched))})"
    return "; ".join(parts)
