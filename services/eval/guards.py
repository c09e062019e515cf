"""What is checked before any number is believed; each refusal can be turned into a warning."""

from collections.abc import Sequence

from lungforge.datasets import Dataset, tensor_values
from lungforge.datasets.slices import index_rows
from lungforge.errors import InputError
from lungforge.metrics.leakage import Leak, find_leak, scan_of
from services.eval.lineage import Origin
from services.eval.records import Match

#: Scans that an error names.
_NAMED_SCANS = 5
#: Near-copies that an error names.
_NAMED_TWINS = 3


def check_sizes(real: Dataset, origins: Sequence[Origin], subsets: Sequence[int] | None) -> int | None:
    """Refuse pictures of different size: the resize alone would tell synthetic from real.

    Returns:
        The side of the patches, in px, where the synthetic slices are patches of such slices as the real ones
        are; None where they are whole.
    """
    height, width = index_rows(real, subsets).size
    patches: set[int | None] = set()
    for origin in origins:
        dataset = origin.samples
        if not dataset.rows:
            raise InputError(f"{dataset.uri} holds no slices; draw some with `lungforge sample`")
        batch = next(dataset.iter_batches(dataset.parts[0], columns=["image"], batch_rows=1))
        size = tensor_values(batch.column("image")).shape[1:]
        if origin.on_patches and size[0] < min(height, width):
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
    origins: Sequence[Origin], real: Dataset, subsets: Sequence[int] | None, *, allow: bool
) -> list[str]:
    """Refuse synthetic slices whose generator, or whose maps, come from the scans they are compared with.

    Args:
        origins: Where each set of synthetic slices comes from.
        real: The real slices.
        subsets: Those of them that are compared with; None for all.
        allow: Warn instead.

    Returns:
        Warnings for the report; empty when all is well.

    Raises:
        InputError: A scan is on both sides, or the lineage does not tell; names them.
    """
    test = index_rows(real, subsets).series_uids
    problems = []
    for origin in origins:
        problems += [f"{gap}, so that nobody can tell which scans were seen" for gap in origin.gaps]
        training: set[str] = set()
        for dataset, used in origin.training:
            training.update(index_rows(dataset, used).series_uids)
        leak = find_leak(test, _source_series(origin.samples), training)
        problems += _told(leak, origin.samples.uri, len({scan_of(series) for series in test}))
    if problems and not allow:
        raise InputError(
            f"{'; '.join(problems)}; compare with other scans by --subsets "
            "(or go on, with a warning in the report, by --allow-leakage)"
        )
    return [f"Leak guard switched off: {problem}." for problem in problems]


def _told(leak: Leak, uri: str, tested: int) -> list[str]:
    told = []
    if leak.training:
        told.append(
            f"{uri}: the generator was trained on {len(leak.training)} of the {tested} scans "
            f"to compare with ({_names(leak.training)})"
        )
    if leak.sources:
        told.append(
            f"{uri}: drawn from maps of {len(leak.sources)} of the {tested} scans "
            f"to compare with ({_names(leak.sources)})"
        )
    return told


def _names(scans: Sequence[str]) -> str:
    more = f" and {len(scans) - _NAMED_SCANS} more" if len(scans) > _NAMED_SCANS else ""
    return ", ".join(scans[:_NAMED_SCANS]) + more


def _source_series(samples: Dataset) -> set[str]:
    series: set[str] = set()
    for part in samples.parts:
        for batch in samples.iter_batches(part, columns=["source_series_uid"]):
            series.update(batch.column("source_series_uid").to_pylist())
    return series


def check_twins(matches: dict[str, list[Match]], *, allow: bool) -> list[str]:
    """Refuse near-copies of real slices, naming some; or warn of them."""
    problems = []
    for name, found in matches.items():
        copies = [match for match in found if match.resemblance.is_near_copy]
        if copies:
            named = ", ".join(
                f"{match.sample_id} is {match.series_uid} slice {match.slice_index} {match.resemblance.view}"
                for match in copies[:_NAMED_TWINS]
            )
            problems.append(
                f"{name}: {len(copies)} of {len(found)} synthetic slices are near-copies of real ones "
                f"({named}{', ...' if len(copies) > _NAMED_TWINS else ''})"
            )
    if problems and not allow:
        raise InputError(
            f"{'; '.join(problems)}; see that --synthetic holds what a generator drew "
            "(or look at them in a report, with a warning, by --allow-twins)"
        )
    return [f"Twin gate switched off: {problem}." for problem in problems]
