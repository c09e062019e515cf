"""A night: sampling and evaluation in turn, under a lease, and one row of history at the end."""

import dataclasses
import time
import traceback
from datetime import date

from lungforge import __version__
from lungforge.config import digest, identity
from lungforge.datasets import Dataset, DatasetWriter, Kind
from lungforge.datasets.writer import OtherDatasetError
from lungforge.errors import InputError
from lungforge.models.model_dataset import ModelDataset
from lungforge.storage import join_uri, open_uri, read_bytes, write_bytes_atomic
from lungforge.storage.errors import explained
from lungforge.storage.files import absolute_uri
from lungforge.storage.lease import Lease, LeaseLostError, held_lease
from services.common.config_file import keep_config
from services.common.errors import reason_of
from services.common.progress import say
from services.common.ray_session import ray_session
from services.eval import job as evaluation
from services.eval.config import EvalConfig
from services.eval.report.headline import worst_class
from services.eval.results import EvaluationReport
from services.eval.set_results import NotMeasured
from services.nightly.config import NightlyConfig
from services.nightly.drift import reasons_of
from services.nightly.history import Night, find, read_history, with_night, write_history
from services.nightly.models import newest_model
from services.nightly.page import render
from services.nightly.pushgateway import push_night
from services.sample import job as sampling
from services.sample.config import SampleConfig

_EXIT_CODES = {"done": 0, "failed": 1, "worse": 3}


@dataclasses.dataclass(frozen=True)
class NightlyResult:
    """The result of a night.

    Attributes:
        night: Its date.
        status: done, worse or failed.
        reason: Why it is worse or failed.
        model: The model that was evaluated.
        report: The night's report; None when it failed.
        history: All nights as a table.
        index: All nights as a page.
        frechet: Fréchet distance of synthetic to real slices, mean over random halves at equal image counts.
        kid: KID, mean over random subsets.
        near_duplicates: Synthetic slices that are near-duplicates of real ones.
        radiomic: Radiomic distance, mean over the same halves.
        hu_difference: The largest difference of median HU of a class, without its sign.
        kid_p_value: That real slices of other scans have as large a KID.
        memorised: Share of the synthetic slices nearer to a training slice than real ones hardly ever are.
        written: Whether this run did it; not when it was done before.
    """

    night: str
    status: str
    reason: str | None
    model: str
    report: str | None
    history: str
    index: str
    frechet: float | None
    kid: float | None
    near_duplicates: int | None
    radiomic: float | None
    hu_difference: float | None
    kid_p_value: float | None
    memorised: float | None
    written: bool

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What a person does with it."""
        report = () if self.report is None else (f"open {self.report} in a browser",)
        return (*report, f"open {self.index} in a browser: all nights")

    @property
    def exit_code(self) -> int:
        """What the command leaves with: 0 done, 1 failed, 3 worse."""
        return _EXIT_CODES[self.status]


@dataclasses.dataclass(frozen=True)
class Tonight:
    """All that a night's work is made of.

    Attributes:
        store: URI of the store.
        date: Of the night.
        settings: Digest of what is generated and how it is measured.
        model: The model.
        data: The real slices.
        sample: How the night is sampled.
        evaluate: How it is measured.
    """

    store: str
    date: date
    settings: str
    model: Dataset
    data: Dataset
    sample: SampleConfig
    evaluate: EvalConfig

    @property
    def history(self) -> str:
        """URI of the history."""
        return join_uri(self.store, "history.parquet")


def run(config: NightlyConfig) -> NightlyResult:
    """Do the night of the configuration; one that is done is returned as it is.

    Raises:
        InputError: There is no model or no slices, or the settings are refused by sampling or evaluation.
        LeaseHeldError: Another run is under way in this store.
        LeaseLostError: Another run has taken over from this one, which was away for too long.
    """
    store, night = absolute_uri(config.store), config.night()
    present = find(read_history(join_uri(store, "history.parquet")), night)
    if present is None:
        tonight = prepare(config, store, night)
        with held_lease(join_uri(store, "lease")) as lease:
            # Another run may have done it between the look and the lease.
            present = find(read_history(tonight.history), night)
            if present is None:
                done = _commit(tonight, _attempt(config, tonight, lease), lease)
                if config.pushgateway is not None:
                    push_night(config.pushgateway, done)
                return _result(store, done, True)
    say(f"the night of {night} is in the history already")
    return _result(store, present, False)


def prepare(config: NightlyConfig, store: str, night: date) -> Tonight:
    """Find the newest model and the slices, and plan the night.

    Raises:
        InputError: One of them is not there, or sampling or evaluation refuses the settings.
    """
    model = newest_model(store)
    data = Dataset.open(config.data or join_uri(store, "slices"), Kind.SLICES)
    folder = join_uri(store, "nights", night.isoformat())
    sample = SampleConfig(
        model=model.uri,
        data=data.uri,
        out=join_uri(folder, "samples"),
        subsets=config.subsets_of_maps,
        count=config.count,
        sampler=config.sampler,
        steps=config.steps,
        guidance=config.guidance,
        seed=config.seed,
        workers=config.workers,
        batch=config.batch,
        gpus_per_worker=config.gpus_per_worker,
    )
    evaluate = EvalConfig(
        real=data.uri,
        synthetic=(sample.out,),
        out=join_uri(folder, "report"),
        subsets=config.test_subsets,
        extractor=config.extractor,
        weights=config.weights,
        # The real slices are the same every night.
        features=join_uri(store, "features"),
        allow_near_duplicates=True,  # they are counted, and judged with the other metrics
        seed=config.seed,
        workers=config.workers,
        gpus_per_worker=config.gpus_per_worker,
    )
    return Tonight(store, night, digest(identity(config)), model, data, sample, evaluate)


def _attempt(config: NightlyConfig, tonight: Tonight, lease: Lease) -> Night:
    """Sample and measure; the row of the night, whatever happens."""
    started = time.monotonic()
    say(f"night of {tonight.date}: {tonight.model.uri}")
    night = Night(
        date=tonight.date,
        status="failed",
        settings=tonight.settings,
        model=tonight.model.uri,
        model_sha256=tonight.model.manifest_sha256,
        data=tonight.data.uri,
        data_sha256=tonight.data.manifest_sha256,
        code_version=__version__,
        seconds=0.0,
    )
    try:
        fixed = dataclasses.replace(config, date=tonight.date.isoformat())
        keep_config("nightly", fixed, join_uri(tonight.store, "nights", tonight.date.isoformat()))
        with ray_session(config.workers):
            night = _measure(night, tonight, lease)
    except LeaseLostError:
        raise
    except Exception as error:
        if not isinstance(error, (InputError, OSError)):
            traceback.print_exception(error)  # a bug; the history holds its last line
        night = dataclasses.replace(night, reason=reason_of(error))
    return dataclasses.replace(night, seconds=round(time.monotonic() - started, 1))


def _measure(night: Night, tonight: Tonight, lease: Lease) -> Night:
    """Sample and evaluate, or resume either; the metrics of the night."""
    sample = sampling.chosen(tonight.sample, ModelDataset.of(tonight.model))
    _make_way(Kind.SAMPLES, sample, lease, tonight.model, tonight.data)
    sampling.run(sample)
    lease.renew()
    samples = Dataset.open(sample.out, Kind.SAMPLES)
    _make_way(Kind.REPORT, tonight.evaluate, lease, tonight.data, samples)
    report = EvaluationReport.from_json(read_bytes(evaluation.run(tonight.evaluate).metrics))
    (results,) = report.sets
    # None where the test slices are of one scan, or too few for halves.
    baseline = results.frechet.baseline
    radiomic = None if isinstance(results.radiomic, NotMeasured) else results.radiomic.baseline
    worst = worst_class(results.hounsfield_units)
    memorised = results.memorisation
    interval = None if isinstance(memorised, NotMeasured) else memorised.tail_interval_95_percent
    return dataclasses.replace(
        night,
        status="done",
        images=results.images,
        frechet=None if baseline is None else baseline.synthetic_mean,
        frechet_spread=None if baseline is None else baseline.synthetic_spread,
        frechet_real=None if baseline is None else baseline.real_mean,
        kid=results.kid.mean,
        kid_spread=results.kid.spread,
        near_duplicates=results.near_duplicates.count,
        radiomic=None if radiomic is None else radiomic.synthetic_mean,
        radiomic_spread=None if radiomic is None else radiomic.synthetic_spread,
        radiomic_real=None if radiomic is None else radiomic.real_mean,
        hu_difference=None if worst is None or worst.difference is None else float(abs(worst.difference)),
        kid_p_value=results.kid.p_value,
        memorised=None if isinstance(memorised, NotMeasured) else memorised.tail_share,
        memorised_spread=None if interval is None else (interval[1] - interval[0]) / 4,
    )


def _make_way(kind: Kind, config: SampleConfig | EvalConfig, lease: Lease, *made_from: Dataset) -> None:
    """Remove what an earlier attempt at this night finished, where it was of another model or other settings.

    A night that failed or was killed is in no history, so that nothing refers to it. Only a manifest proves
    that: what cannot be read, or is damaged, is left as it is and fails the night.
    """
    parents = tuple(dataset.parent() for dataset in made_from)
    writer = DatasetWriter(config.out, kind, identity(config), config.seed, parents)
    try:
        writer.find_manifest()
    except OtherDatasetError as error:
        if error.kind is not kind:
            raise
        lease.renew()
        say(f"removing an earlier attempt at this night: {error}")
        fs, path = open_uri(writer.uri)
        with explained(writer.uri):
            fs.rm(path, recursive=True)


def _commit(tonight: Tonight, night: Night, lease: Lease) -> Night:
    """Judge the night by those before it, and write the page and then the history: the row is the commit."""
    nights = read_history(tonight.history)
    before = [other for other in nights if other.date < night.date]
    reasons = reasons_of(night, before)
    if reasons:
        night = dataclasses.replace(night, status="worse", reason="; ".join(reasons))
    others, nights = nights, with_night(nights, night)
    page = render(nights)
    lease.renew()
    write_bytes_atomic(join_uri(tonight.store, "index.html"), page)
    write_history(tonight.history, nights, before=others)
    return night


def _result(store: str, night: Night, written: bool) -> NightlyResult:
    if night.reason:
        say(f"the night of {night.date} is {night.status}: {night.reason}")
    report = join_uri(store, "nights", night.date.isoformat(), "report", "report.html")
    return NightlyResult(
        night=night.date.isoformat(),
        status=night.status,
        reason=night.reason or None,
        model=night.model,
        report=None if night.status == "failed" else report,
        history=join_uri(store, "history.parquet"),
        index=join_uri(store, "index.html"),
        frechet=night.frechet,
        kid=night.kid,
        near_duplicates=night.near_duplicates,
        radiomic=night.radiomic,
        hu_difference=night.hu_difference,
        kid_p_value=night.kid_p_value,
        memorised=night.memorised,
        written=written,
    )
