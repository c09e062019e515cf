"""The evaluation job: guards first, then features by Ray tasks over parts, then numbers and a report."""

import dataclasses
import json
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from lungforge.config import identity
from lungforge.datasets import Dataset, DatasetWriter, Kind, Part
from lungforge.datasets.patches import Cut
from lungforge.metrics.features import Description, load_extractor
from lungforge.storage import join_uri, read_bytes, write_bytes_atomic
from lungforge.storage.files import read_if_there
from services.common.progress import say
from services.common.ray_session import ray_session
from services.eval import measure
from services.eval.collect import RealSlices, network_of, read_real, read_synthetic
from services.eval.config import EvalConfig
from services.eval.downstream import job as downstream
from services.eval.guards import check_leak, check_sizes, check_twins
from services.eval.lineage import Origin, trace
from services.eval.memorised import memorisation_document
from services.eval.records import SyntheticPart, join
from services.eval.report.render import SetPictures, render
from services.eval.report.verdict import verdict_of, warnings_of

#: Pairs of a synthetic and a real slice that are shown as the most alike, and slices that are shown as the
#: least like their maps.
_WORST_SHOWN = 4
#: Why what needs whole slices has no numbers.
_PATCHES = "the images are patches cut out of slices, and it is measured on whole slices only"


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
    origins = [trace(dataset) for dataset in samples]
    patch = check_sizes(real, origins, config.subsets)
    cut = None if patch is None else Cut(patch, config.seed)
    warnings = check_leak(origins, real, config.subsets, allow=config.allow_leakage)
    weights = None if config.weights is None else read_bytes(config.weights)
    description = load_extractor(config.extractor, weights=weights).description
    network = network_of(config, description)
    names = _names(samples)
    with ray_session(config.workers):
        slices = read_real(config, network, real, origins, cut)
        found = [
            read_synthetic(config, network, name, origin, slices.pool)
            for name, origin in zip(names, origins, strict=True)
        ]
        matches = {
            name: [match for part in parts for match in part.matches]
            for name, parts in zip(names, found, strict=True)
        }
        warnings += check_twins(matches, allow=config.allow_twins)
        trained: dict[str, Any] | None = None
        networks: list[Part] = []
        if config.downstream != "none":
            named = list(zip(names, samples, strict=True))
            trained, networks = downstream.run(config, patch, real, named, writer)

    say("evaluate: distances, floors and the report")
    sets = []
    for name, origin, parts in zip(names, origins, found, strict=True):
        numbers = _numbers(config, description, name, origin, slices, parts)
        sets.append(numbers)
        warnings += warnings_of(numbers) + _without_source(name, parts)
    document = {
        "verdict": verdict_of(sets, [] if trained is None else trained["verdict"]),
        "warnings": warnings,
        "real": {
            "uri": real.uri,
            "manifest_sha256": real.manifest_sha256,
            "subsets": None if config.subsets is None else list(config.subsets),
            "images": len(slices.compared.features),
            "scans": len(set(slices.compared.scans)),
            "pool": len(slices.pool.keys),
        },
        "extractor": dataclasses.asdict(description),
        "sets": sets,
        "downstream": trained,
        "config": identity(config),
        "command": _command(config),
    }
    pictures = [_pictures(parts) for parts in found]
    files = {
        "report.html": render(document, pictures),
        "metrics.json": (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode(),
    }
    writer.commit([*networks, *(writer.write_file(name, content) for name, content in files.items())])
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


def _numbers(
    config: EvalConfig,
    description: Description,
    name: str,
    origin: Origin,
    slices: RealSlices,
    parts: Sequence[SyntheticPart],
) -> dict[str, Any]:
    """All that the document says on one set."""
    synthetic = join([part.measured for part in parts])
    matches = [match for part in parts for match in part.matches]
    numbers = measure.measure_set(name, slices.compared, synthetic, description, matches, config.seed)
    numbers["map_agreement"] = numbers["memorisation"] = {"why_not": _PATCHES}
    if not origin.on_patches:
        numbers["map_agreement"] = {
            "why_not": None,
            "structures": measure.agreement_table(slices.compared, synthetic),
        }
    if not origin.on_patches or slices.pool.cut is not None:
        numbers["memorisation"] = memorisation_document(
            *slices.training(origin), synthetic, slices.compared, name, config.seed
        )
    return numbers | {"uri": origin.samples.uri, "made_by": parts[0].origin, "lineage": _lineage(origin)}


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
    misfits = sorted((misfit for part in parts for misfit in part.misfits), key=lambda misfit: misfit.lowest)
    return SetPictures(
        grid=tuple(picture for part in parts for picture in part.grid),
        worst=tuple(worst[:_WORST_SHOWN]),
        misfits=tuple(misfits[:_WORST_SHOWN]),
    )


def _lineage(origin: Origin) -> list[dict[str, Any]]:
    return [
        {
            "kind": dataset.manifest.kind.value,
            "uri": dataset.uri,
            "manifest_sha256": dataset.manifest_sha256,
            "code_version": dataset.manifest.code_version,
            "config": dataset.manifest.config,
            "parents": [parent.sha256 for parent in dataset.manifest.parents],
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
    if config.train_subsets is not None:
        words += ["--downstream", config.downstream, "--tasks", *config.tasks]
        words += ["--train-subsets", *map(str, config.train_subsets), "--ratios", *map(str, config.ratios)]
        words += ["--folds", str(config.folds), "--seeds", str(config.seeds)]
    words += ["--allow-leakage"] * config.allow_leakage + ["--allow-twins"] * config.allow_twins
    return shlex.join(words)
