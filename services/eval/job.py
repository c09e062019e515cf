"""The evaluation job: guards first, then features by Ray tasks over parts, then numbers and a report."""

import dataclasses
import json
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import ray

from lungforge.config import identity
from lungforge.metrics.features import load_extractor
from lungforge.metrics.leakage import scan_of
from lungforge.store import (
    Dataset,
    DatasetWriter,
    Kind,
    Part,
    join_uri,
    read_bytes,
    write_bytes_atomic,
)
from lungforge.store.uris import read_if_there
from services.eval import measure
from services.eval.config import EvalConfig
from services.eval.guards import check_leak, check_sizes, check_twins
from services.eval.lineage import Origin, trace
from services.eval.parts import (
    Measured,
    Network,
    RealPart,
    RealPool,
    SyntheticPart,
    in_order,
    join,
    read_real_part,
    read_synthetic_part,
)
from services.eval.report import SetPictures, render
from services.progress import progress, say
from services.runtime import ray_session

#: Rows of a set's grid of pictures.
GRID_ROWS = 8
#: Pairs of a synthetic and a real slice that are shown as the most alike.
_WORST_PAIRS = 4


@dataclasses.dataclass(frozen=True)
class EvalResult:
    """What an evaluation found.

    Attributes:
        report: The report, one HTML file.
        metrics: The same numbers as JSON.
        verdict: The findings in sentences.
        warnings: What to know before reading the numbers.
        near_copies: Synthetic slices that are near-copies of real ones.
        written: Whether this run made the report; not when a finished one was found.
    """

    report: str
    metrics: str
    verdict: tuple[str, ...]
    warnings: tuple[str, ...]
    near_copies: int
    written: bool


def run(config: EvalConfig) -> EvalResult:
    """Evaluate; a finished evaluation of the same data and configuration is returned as it is.

    Raises:
        InputError: A dataset is missing or of another kind; test scans were seen by the generator or drawn
            from; synthetic slices are near-copies of real ones; the extractor's weights are not there.
    """
    real = Dataset.open(config.real, Kind.SLICES)
    samples = [Dataset.open(uri, Kind.SAMPLES) for uri in config.synthetic]
    writer = DatasetWriter(
        uri=config.out,
        kind=Kind.REPORT,
        config=identity(config),
        seed=config.seed,
        parents=(real.parent(), *(dataset.parent() for dataset in samples)),
    )
    if writer.find_manifest() is not None:
        return _result(config.out, written=False)
    check_sizes(real, samples, config.subsets)
    origins = [trace(dataset) for dataset in samples]
    warnings = check_leak(origins, real, config.subsets, allow=config.allow_leakage)
    weights = None if config.weights is None else read_bytes(config.weights)
    description = load_extractor(config.extractor, weights=weights).description
    with ray_session(config.workers):
        compared, pool = _read_real(config, real, origins)
        named_sets = list(zip(_names(samples), samples, strict=True))
        found = {name: _read_synthetic(config, name, dataset, pool) for name, dataset in named_sets}
    matches = {name: [match for part in parts for match in part.matches] for name, parts in found.items()}
    warnings += check_twins(matches, allow=config.allow_twins)

    say("evaluate: distances, floors and the report")
    sets = []
    for (name, dataset), origin in zip(named_sets, origins, strict=True):
        parts = found[name]
        synthetic = join([part.measured for part in parts])
        numbers = measure.measure_set(name, compared, synthetic, description, matches[name], config.seed)
        numbers |= {"uri": dataset.uri, "made_by": parts[0].origin, "lineage": _lineage(origin)}
        sets.append(numbers)
        warnings += measure.warnings_of(numbers) + _without_source(name, parts)
    document = {
        "verdict": measure.verdict_of(sets),
        "warnings": warnings,
        "real": {
            "uri": real.uri,
            "manifest_sha256": real.manifest_sha256,
            "subsets": None if config.subsets is None else list(config.subsets),
            "images": len(compared.features),
            "scans": len({scan_of(series) for series in compared.scans}),
            "pool": len(pool.keys),
        },
        "extractor": dataclasses.asdict(description),
        "sets": sets,
        "config": identity(config),
        "command": _command(config),
    }
    pictures = [_pictures(found[name]) for name, _ in named_sets]
    files = {
        "report.html": render(document, pictures),
        "metrics.json": (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode(),
    }
    writer.commit([writer.write_file(name, content) for name, content in files.items()])
    return _result(config.out, written=True)


def _result(out: str, *, written: bool) -> EvalResult:
    """What the committed report says. Its files also stand under plain names, for people to open."""
    dataset = Dataset.open(out, Kind.REPORT)
    for name in ("report.html", "metrics.json"):
        place = join_uri(dataset.uri, name)
        if read_if_there(place) != dataset.read_file(name):
            write_bytes_atomic(place, dataset.read_file(name))
    document = json.loads(dataset.read_file("metrics.json"))
    return EvalResult(
        report=join_uri(dataset.uri, "report.html"),
        metrics=join_uri(dataset.uri, "metrics.json"),
        verdict=tuple(document["verdict"]),
        warnings=tuple(document["warnings"]),
        near_copies=sum(numbers["twins"]["near_copies"] for numbers in document["sets"]),
        written=written,
    )


def _read_real(config: EvalConfig, real: Dataset, origins: Sequence[Origin]) -> tuple[Measured, RealPool]:
    """The slices that are compared with, and all that a synthetic one might have been copied from."""
    seen = [
        dataset for origin in origins for dataset in (*origin.sources, *(used for used, _ in origin.training))
    ]
    datasets = {dataset.manifest_sha256: dataset for dataset in (real, *seen)}.values()
    network = Network(config.extractor, config.weights)
    work = [
        (dataset, part, dataset.manifest_sha256 == real.manifest_sha256, config.subsets, network)
        for dataset in datasets
        for part in dataset.parts
        if part.rows
    ]
    task = read_real_part.options(num_returns=2, num_gpus=config.gpus_per_worker)
    parts: list[RealPart] = []
    pictures = []
    with progress("real slices", len(work), unit="parts") as advance:
        for summary, grey in in_order(task, work, config.workers):
            parts.append(ray.get(summary))
            pictures.append(grey)
            advance()
    places = [(number, row) for number, part in enumerate(parts) for row in range(len(part.keys))]
    pool = RealPool(
        keys=tuple(key for part in parts for key in part.keys),
        thumbnails=np.concatenate([part.thumbnails for part in parts]),
        places=np.asarray(places, dtype=np.int64),
        pictures=tuple(pictures),
    )
    return join([part.measured for part in parts if part.measured is not None]), pool


def _read_synthetic(config: EvalConfig, name: str, dataset: Dataset, pool: RealPool) -> list[SyntheticPart]:
    parts = [part for part in dataset.parts if part.rows]
    network = Network(config.extractor, config.weights)
    shared = ray.put(pool)
    rows = _grid_rows(parts)
    work = ((dataset, part, shared, rows[part.path], network) for part in parts)
    task = read_synthetic_part.options(num_gpus=config.gpus_per_worker)
    done = []
    with progress(name, len(parts), unit="parts") as advance:
        for reference in in_order(task, work, config.workers):
            done.append(ray.get(reference))
            advance()
    return done


def _grid_rows(parts: Sequence[Part]) -> dict[str, tuple[int, ...]]:
    """For each part the rows whose pictures are shown, spread evenly over the dataset."""
    total = sum(part.rows for part in parts)
    wanted = {number * total // GRID_ROWS for number in range(GRID_ROWS)}
    chosen, first = {}, 0
    for part in parts:
        chosen[part.path] = tuple(sorted(row - first for row in wanted if first <= row < first + part.rows))
        first += part.rows
    return chosen


def _without_source(name: str, parts: Iterable[SyntheticPart]) -> list[str]:
    missing = sum(part.without_source for part in parts)
    if not missing:
        return []
    return [f"{name}: {missing} slices were compared with the nearest real ones only, not their source."]


def _names(samples: Sequence[Dataset]) -> list[str]:
    """The last piece of each URI; the whole URI where that is not unique."""
    short = [dataset.uri.rstrip("/").rsplit("/", 1)[-1] for dataset in samples]
    return [
        name if short.count(name) == 1 else dataset.uri for name, dataset in zip(short, samples, strict=True)
    ]


def _pictures(parts: Sequence[SyntheticPart]) -> SetPictures:
    worst = [pair for part in parts for pair in part.worst]
    worst.sort(key=lambda pair: -pair[0].resemblance.correlation)
    return SetPictures(
        grid=tuple(picture for part in parts for picture in part.grid), worst=tuple(worst[:_WORST_PAIRS])
    )


def _lineage(origin: Origin) -> list[dict[str, Any]]:
    return [
        {
            "kind": dataset.manifest.kind.value,
            "uri": dataset.uri,
            "manifest_sha256": dataset.manifest_sha256,
            "code_version": dataset.manifest.code_version,
            "config": dataset.manifest.config,
        }
        for dataset in origin.ancestors
    ]


def _command(config: EvalConfig) -> str:
    """The command line that makes this report again."""
    words = [
        "lungforge",
        "evaluate",
        "--real",
        config.real,
        "--synthetic",
        *config.synthetic,
        "--out",
        "REPORT",
    ]
    if config.subsets is not None:
        words += ["--subsets", *map(str, config.subsets)]
    words += ["--extractor", config.extractor, "--seed", str(config.seed)]
    words += ["--allow-leakage"] * config.allow_leakage + ["--allow-twins"] * config.allow_twins
    return shlex.join(words)
