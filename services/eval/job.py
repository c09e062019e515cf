"""The evaluation job: guards first, then features by Ray tasks over parts, then metrics and a report."""

import dataclasses
import datetime
import os
import time
from collections.abc import Sequence

from lungforge.config import identity
from lungforge.datasets import Dataset, DatasetWriter, Kind, Part
from lungforge.datasets.patches import Cut
from lungforge.metrics.extractors import Description
from lungforge.metrics.features import load_extractor
from lungforge.metrics.hu_gate import GateCounts
from lungforge.metrics.leakage import Patients
from lungforge.metrics.near_duplicates import Resemblance
from lungforge.metrics.permutation import permute_scans
from lungforge.randomness import numpy_generator
from lungforge.storage import join_uri, read_bytes, write_bytes_atomic
from lungforge.storage.files import read_if_there
from services.common.config_file import keep_config
from services.common.progress import say, waiting
from services.common.ray_resources import Needs
from services.common.ray_session import ray_session
from services.eval import measure
from services.eval.collect import RealSlices, check_real, read_real, read_synthetic
from services.eval.command import command_of
from services.eval.config import EvalConfig
from services.eval.downstream import job as downstream
from services.eval.downstream.froc import require_whole_scans
from services.eval.downstream.plan import check_plan
from services.eval.downstream.results import DownstreamResults
from services.eval.feature_cache import Network
from services.eval.guards import check_leak, check_near_duplicates, check_sizes
from services.eval.lineage import SampleLineage, slices_behind, subsets_of, trace
from services.eval.measure_distances import network_distances, precision_and_recall, second_distances
from services.eval.measure_radiomics import radiomic
from services.eval.measure_sensitivity import sensitivity_of
from services.eval.memorised_pairs import memorised_pairs
from services.eval.part_tasks import PLAUSIBLE_HU
from services.eval.patients import patients_in
from services.eval.records import SyntheticPart, join
from services.eval.report.headline import headline_of
from services.eval.report.render import SetImages, render
from services.eval.report.verdict import verdict_of, warnings_of
from services.eval.report.wording import of_phantoms
from services.eval.results import (
    AncestorDataset,
    EvaluationReport,
    RealReference,
    SetResults,
    SubsetSelection,
)
from services.eval.second_network import second_description
from services.eval.set_results import NotMeasured

#: Pairs of a synthetic and a real slice that are shown as the most alike, and slices that are shown as the
#: least like their maps.
_SHOWN = 4
_PATCHES = NotMeasured("the images are patches of slices, and this is measured on whole slices only")


@dataclasses.dataclass(frozen=True)
class EvalResult:
    """What an evaluation wrote, and the heads of its results.

    Attributes:
        report: The report, one HTML file.
        metrics: The same results as JSON: an ``EvaluationReport``.
        verdict: The results in sentences.
        warnings: What to know before reading them.
        near_duplicates: Synthetic slices that are near-duplicates of real ones.
        written: Whether this run made the report; not when it was finished before.
    """

    report: str
    metrics: str
    verdict: tuple[str, ...]
    warnings: tuple[str, ...]
    near_duplicates: int
    written: bool

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What a person does with it."""
        return (f"open {self.report} in a browser",)


def run(config: EvalConfig) -> EvalResult:
    """Evaluate; a finished evaluation of the same data and configuration is returned as it is.

    Raises:
        InputError: A dataset is missing or of another kind; the generator was trained on test scans, or maps
            are of test scans; synthetic slices are near-duplicates of real ones; there are no weights for the
            extractor; nothing can be learned of the downstream tasks.
    """
    real = Dataset.open(config.real, Kind.SLICES)
    samples = [Dataset.open(uri, Kind.SAMPLES) for uri in config.synthetic]
    settings, described = identity(config), second_description(config)
    if described is not None:
        # By its content: another file under the same name gives other results.
        settings["second_extractor"] = described.weights_sha256
    writer = DatasetWriter(
        uri=config.out,
        kind=Kind.REPORT,
        config=settings,
        seed=config.seed,
        parents=(real.parent(), *(dataset.parent() for dataset in samples)),
    )
    if writer.find_manifest() is not None:
        return _result(config.out, written=False)
    lineages = dict(zip(_names(samples), map(trace, samples), strict=True))
    patch = check_sizes(real, list(lineages.values()), config.subsets)
    cut = None if patch is None else Cut(patch, config.seed)
    if config.froc:
        require_whole_scans(real, config.subsets, patch)
    patients = patients_in(slices_behind(real, lineages.values()).values())
    warnings = check_leak(list(lineages.values()), real, config.subsets, patients, allow=config.allow_leakage)
    sets = {name: lineage.samples for name, lineage in lineages.items()}
    if config.downstream != "none":
        check_plan(config, patch, real, sets)
    weights = None if config.weights is None else read_bytes(config.weights)
    with waiting("loading the network of the features", logged=False):
        extractor = load_extractor(config.extractor, weights=weights).description
    cache = config.features or join_uri(writer.uri, "features")
    network = Network(extractor, config.weights, cache)
    second = None if described is None else Network(described, config.second_extractor, cache)
    with ray_session(config.workers, *_needs(config)):
        examples = downstream.prepare(config, patch, real, sets) if config.downstream != "none" else None
        slices = read_real(config, network, real, list(lineages.values()), cut, patients, second)
        parts = {
            name: read_synthetic(config, network, name, lineage, slices.pool, second)
            for name, lineage in lineages.items()
        }
        matches = {
            name: [match for part in of_set for match in part.matches] for name, of_set in parts.items()
        }
        warnings += check_near_duplicates(matches, allow=config.allow_near_duplicates)
        checked = check_real(config, real, slices)
        trained: DownstreamResults | None = None
        networks: list[Part] = []
        if examples is not None:
            trained, networks = downstream.run(config, patch, real, examples, list(sets), writer)

    say("evaluate: metrics, real-vs-real baselines and the report")
    phantoms = real.manifest.details.get("origin") == "phantoms"
    results, images = [], []
    for name, lineage in lineages.items():
        of_set = _measure(
            name,
            lineage,
            slices,
            parts[name],
            checked,
            patients,
            (extractor, described),
            config.seed,
            phantoms=phantoms,
        )
        results.append(of_set)
        images.append(_images(lineage, slices, parts[name], of_set))
        warnings += warnings_of(of_set) + _without_source(name, parts[name])
        warnings += _implausible(name, parts[name])
    told = of_phantoms if phantoms else str
    headlines = [headline_of(of_set, index, trained) for index, of_set in enumerate(results)]
    report = EvaluationReport(
        date=_today(),
        headlines=tuple(headline.in_words(told) for headline in headlines),
        verdict=tuple(map(told, verdict_of(results, trained))),
        warnings=tuple(map(told, warnings)),
        real=RealReference(
            uri=real.uri,
            manifest_sha256=real.manifest_sha256,
            subsets=config.subsets,
            images=len(slices.compared.features),
            scans=len(set(slices.compared.scans)),
            scans_of_known_patients=len(set(slices.compared.scans) & patients.known),
            searched=len(slices.pool.keys),
            origin="phantoms" if phantoms else "scans",
        ),
        extractor=extractor,
        second_extractor=described,
        sets=tuple(results),
        downstream=trained,
        leakage_allowed=config.allow_leakage,
        config=settings,
        command=command_of(config),
    )
    keep_config("evaluate", config, writer.uri)
    with waiting("writing the report", logged=False):
        files = {
            "report.html": render(report, images),
            "metrics.json": report.to_json(),
        }
    writer.commit([*networks, *(writer.write_file(name, content) for name, content in files.items())])
    return _result(config.out, written=True)


def _today() -> str:
    """The day, in UTC; that of SOURCE_DATE_EPOCH, by which builds are made reproducible, where it is set."""
    seconds = float(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()


def _needs(config: EvalConfig) -> list[Needs]:
    """The workers that measure, and the networks that are trained, one at a time at least."""
    needs = [Needs(gpus=config.gpus_per_worker)]
    if config.downstream != "none":
        needs.append(Needs(gpus=config.gpus_per_network, option="--gpus-per-network"))
    return needs


def _result(out: str, *, written: bool) -> EvalResult:
    """The head of the committed report. Its files also stand under plain names, for people to open."""
    dataset = Dataset.open(out, Kind.REPORT)
    for name in ("report.html", "metrics.json"):
        place = join_uri(dataset.uri, name)
        if read_if_there(place) != dataset.read_file(name):
            write_bytes_atomic(place, dataset.read_file(name))
    report = EvaluationReport.from_json(dataset.read_file("metrics.json"))
    return EvalResult(
        report=join_uri(dataset.uri, "report.html"),
        metrics=join_uri(dataset.uri, "metrics.json"),
        verdict=report.verdict,
        warnings=report.warnings,
        near_duplicates=sum(results.near_duplicates.count for results in report.sets),
        written=written,
    )


@waiting("measuring", logged=False)
def _measure(
    name: str,
    lineage: SampleLineage,
    slices: RealSlices,
    parts: Sequence[SyntheticPart],
    checked: Sequence[Resemblance],
    patients: Patients,
    extractors: tuple[Description, Description | None],
    seed: int,
    *,
    phantoms: bool,
) -> SetResults:
    """All results on one set."""
    real, synthetic = slices.compared, join([part.measured for part in parts])
    permutations = permute_scans(real.scans, synthetic.scans, numpy_generator(seed, name, "permutations"))
    matches = [match for part in parts for match in part.matches]
    extractor, described = extractors
    measured = network_distances(name, real, synthetic, extractor, permutations, seed)
    # A patch has no source slice whose medians would be its.
    sources = None if lineage.on_patches else slices.medians(synthetic.keys)
    # Patches have training patches to be compared with only where real slices are cut, too.
    comparable = not lineage.on_patches or slices.pool.cut is not None
    of_radiomics = radiomic(name, real, synthetic, permutations, seed)
    return SetResults(
        name=name,
        uri=lineage.samples.uri,
        images=len(synthetic.features),
        source_scans=len(set(synthetic.scans)),
        radiomic=of_radiomics,
        frechet=measured.frechet,
        kid=measured.kid,
        precision_recall=precision_and_recall(name, real, synthetic, extractor, seed),
        second=None
        if described is None
        else second_distances(name, real, synthetic, described, permutations, seed),
        hounsfield_units=measure.hounsfield_units(real, synthetic, sources, permutations),
        nodule_contrast_hu=measure.nodule_contrast(real, synthetic),
        map_agreement=_PATCHES if lineage.on_patches else measure.map_agreement(real, synthetic),
        near_duplicates=measure.near_duplicates(matches, checked),
        memorisation=measure.memorisation(
            *slices.training(lineage),
            synthetic,
            [match.sample_id for match in matches],
            real,
            patients,
            name,
            seed,
        )
        if comparable
        else _PATCHES,
        sensitivity=sensitivity_of(
            real, synthetic, of_radiomics, extractor, phantoms=phantoms, patches=lineage.on_patches
        ),
        generated_with=dataclasses.replace(
            parts[0].settings, hu_gate=GateCounts.of_details(lineage.samples.manifest.details)
        ),
        lineage=tuple(map(_ancestor, lineage.ancestors)),
    )


def _without_source(name: str, parts: Sequence[SyntheticPart]) -> list[str]:
    missing = sum(part.without_source for part in parts)
    if not missing:
        return []
    return [
        f"{name}: the source of {missing} slices is not available; they were compared with the nearest real "
        "slices only."
    ]


def _implausible(name: str, parts: Sequence[SyntheticPart]) -> list[str]:
    """Warnings of slices that no working generator samples."""
    kinds = {
        "with the same value everywhere": [each for part in parts for each in part.flat],
        f"with values outside {PLAUSIBLE_HU[0]} to {PLAUSIBLE_HU[1]} HU": [
            each for part in parts for each in part.beyond
        ],
    }
    return [
        f"{name}: slices {what}: {len(found)}, such as {found[0]}; the generator or the export is broken."
        for what, found in kinds.items()
        if found
    ]


def _names(samples: Sequence[Dataset]) -> list[str]:
    """The last piece of each URI; the whole URI where that is not unique."""
    short = [dataset.uri.rstrip("/").rsplit("/", 1)[-1] for dataset in samples]
    return [
        name if short.count(name) == 1 else dataset.uri for name, dataset in zip(short, samples, strict=True)
    ]


def _images(
    lineage: SampleLineage, slices: RealSlices, parts: Sequence[SyntheticPart], results: SetResults
) -> SetImages:
    most_similar = [pair for part in parts for pair in part.most_similar]
    most_similar.sort(key=lambda pair: -pair[0].resemblance.correlation)
    misfits = sorted((misfit for part in parts for misfit in part.misfits), key=lambda misfit: misfit.lowest)
    return SetImages(
        grid=tuple(images for part in parts for images in part.grid),
        most_similar=tuple(most_similar[:_SHOWN]),
        misfits=tuple(misfits[:_SHOWN]),
        memorised=memorised_pairs(lineage, slices, parts, results.memorisation),
    )


def _ancestor(dataset: Dataset) -> AncestorDataset:
    manifest = dataset.manifest
    selection = None
    if "subsets" in manifest.config:
        selection = SubsetSelection(subsets_of(dataset))
    return AncestorDataset(
        kind=manifest.kind.value,
        uri=dataset.uri,
        manifest_sha256=dataset.manifest_sha256,
        code_version=manifest.code_version,
        selection=selection,
        parents=tuple(parent.sha256 for parent in manifest.parents),
        config=manifest.config,
    )
