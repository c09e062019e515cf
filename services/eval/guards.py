"""What is checked before anything is measured; each refusal can be turned into a warning."""

from collections.abc import Sequence

from lungforge.ct.io.patient_table import scan_of
from lungforge.datasets import Dataset, tensor_values
from lungforge.datasets.slices import index_rows
from lungforge.errors import InputError
from lungforge.metrics.leakage import EACH_SCAN, Leak, Patients, SharedPatient, find_leak
from services.eval.lineage import SampleLineage
from services.eval.records import Match

#: Scans that an error names.
_NAMED_SCANS = 5
#: Near-duplicates that an error names.
_NAMED_DUPLICATES = 3


def check_sizes(
    real: Dataset, lineages: Sequence[SampleLineage], subsets: Sequence[int] | None
) -> int | None:
    """Refuse images of different size: the resize alone would tell synthetic from real.

    Returns:
        The side of the patches, in px, where the synthetic slices are patches of such slices as the real ones
        are; None where they are whole.
    """
    height, width = index_rows(real, subsets).size
    patches: set[int | None] = set()
    for lineage in lineages:
        dataset = lineage.samples
        if not dataset.rows:
            raise InputError(f"{dataset.uri} holds no slices; generate some with `lungforge sample`")
        batch = next(dataset.iter_batches(dataset.parts[0], columns=["image"], batch_rows=1))
        size = tensor_values(batch.column("image")).shape[1:]
        if lineage.on_patches and size[0] < min(height, width):
            patches.add(int(size[0]))
        elif size == (height, width):
            patches.add(None)
        else:
            raise InputError(
                f"{dataset.uri} holds images of {size[0]} x {size[1]} px, {real.uri} of {height} x {width}; "
                f"compare with real slices of the same size (`lungforge preprocess --size {size[0]}`)"
            )
    if len(patches) > 1:
        sizes = ", ".join("whole slices" if size is None else f"patches of {size} px" for size in patches)
        raise InputError(f"the synthetic slices are of several kinds ({sizes}); evaluate each kind by itself")
    return patches.pop()


def check_leak(
    lineages: Sequence[SampleLineage],
    real: Dataset,
    subsets: Sequence[int] | None,
    patients: Patients = EACH_SCAN,
    *,
    allow: bool,
) -> list[str]:
    """Refuse synthetic slices whose generator or maps used patients that they are compared with.

    Args:
        lineages: Where each set of synthetic slices comes from.
        real: The real slices.
        subsets: Those of them that are compared with; None for all.
        patients: Which scans are of one patient.
        allow: Warn instead.

    Returns:
        Warnings for the report; empty when all is well.

    Raises:
        InputError: A patient is on both sides, or the lineage is incomplete; names them.
    """
    test = index_rows(real, subsets).series_uids
    problems = []
    for lineage in lineages:
        problems += [f"{gap}, so the scans that were used are unknown" for gap in lineage.gaps]
        training = set(lineage.training_scans)
        for dataset, used in lineage.training:
            training.update(index_rows(dataset, used).series_uids)
        leak = find_leak(test, _source_series(lineage.samples), training, patients)
        problems += _describe(leak, lineage.samples.uri, len({scan_of(series) for series in test}))
    if problems and not allow:
        raise InputError(
            f"{'; '.join(problems)}; compare with other scans by --subsets "
            "(or evaluate all the same, with a warning in the report, by --allow-leakage)"
        )
    return [f"Leak guard switched off: {problem}." for problem in problems]


def _describe(leak: Leak, uri: str, tested: int) -> list[str]:
    problems = []
    if leak.training:
        problems.append(
            f"{uri}: the generator was trained on {len(leak.training)} of the {tested} scans "
            f"to compare with ({_names(leak.training)})"
        )
    if leak.sources:
        problems.append(
            f"{uri}: generated from maps of {len(leak.sources)} of the {tested} scans "
            f"to compare with ({_names(leak.sources)})"
        )
    return problems


def _names(scans: Sequence[SharedPatient]) -> str:
    more = f" and {len(scans) - _NAMED_SCANS} more" if len(scans) > _NAMED_SCANS else ""
    return ", ".join(map(str, scans[:_NAMED_SCANS])) + more


def _source_series(samples: Dataset) -> set[str]:
    series: set[str] = set()
    for part in samples.parts:
        for batch in samples.iter_batches(part, columns=["source_series_uid"]):
            series.update(batch.column("source_series_uid").to_pylist())
    return series


def check_near_duplicates(matches: dict[str, list[Match]], *, allow: bool) -> list[str]:
    """Refuse near-duplicates of real slices, naming some; or warn of them.

    Args:
        matches: For each set, by name, the real slice most like each synthetic one.
        allow: Warn instead.

    Returns:
        Warnings for the report.

    Raises:
        InputError: There are near-duplicates.
    """
    problems = []
    for name, of_set in matches.items():
        duplicates = [match for match in of_set if match.resemblance.is_near_duplicate]
        if duplicates:
            examples = ", ".join(
                f"{match.sample_id} is {match.series_uid} slice {match.slice_index} {match.resemblance.view}"
                for match in duplicates[:_NAMED_DUPLICATES]
            )
            problems.append(
                f"{name}: {len(duplicates)} of {len(of_set)} synthetic slices are near-duplicates of real "
                f"ones ({examples}{', ...' if len(duplicates) > _NAMED_DUPLICATES else ''})"
            )
    if problems and not allow:
        raise InputError(
            f"{'; '.join(problems)}; check that --synthetic holds generated slices "
            "(or see them in a report, with a warning, by --allow-near-duplicates)"
        )
    return [f"Near-duplicate guard switched off: {problem}." for problem in problems]
