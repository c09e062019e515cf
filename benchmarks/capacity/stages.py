"""The stages of the capacity model: running single units of each, and each as a job."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import torch

from lungforge.datasets import Dataset, DatasetWriter, Kind
from lungforge.datasets.shuffling import RowStream
from lungforge.datasets.slices import index_rows
from lungforge.metrics.features import load_extractor
from lungforge.models.learner import Learner
from lungforge.models.model_dataset import ModelDataset
from lungforge.storage import join_uri
from services.eval import job as evaluating
from services.eval.collect import read_real
from services.eval.config import EvalConfig
from services.eval.feature_cache import Network
from services.eval.lineage import trace
from services.eval.part_tasks import read_synthetic_part
from services.eval.records import SyntheticSource
from services.preprocess import job as preprocessing
from services.preprocess.config import PreprocessConfig
from services.preprocess.survey import survey
from services.preprocess.volume import VolumeTask
from services.sample import job as sampling
from services.sample.config import SampleConfig
from services.sample.plan import make_plan
from services.sample.worker import SamplingRun, UnitSampler, check_model
from services.train import job as training
from services.train.batches import make_batch
from services.train.config import TrainConfig
from services.train.presets import PRESETS
from services.train.run import TrainingRun, prepare

#: Subsets of LUNA16 for training, and held out.
_TRAINED, _HELD_OUT = tuple(range(7)), (7, 8, 9)
#: Images per part, and steps of DPM-Solver++: fewer than in practice, so that a unit takes seconds.
_PART_IMAGES, _SAMPLER_STEPS = 16, 5


@dataclasses.dataclass(frozen=True)
class Chain:
    """Locations and sizes of the datasets."""

    store: str
    preset: str

    @property
    def scan(self) -> tuple[int, int, int]:
        """Number of phantoms (two per subset), rows and columns of each, and slices."""
        return (20, 256, 100) if self.preset == "cpu" else (20, 96, 30)

    @property
    def side(self) -> int:
        """Side of the slices, in px."""
        return 64 if self.preset == "cpu" else 32

    def at(self, stage: str, name: str = "long") -> str:
        """Dataset of a stage; the next stage reads ``long``."""
        return join_uri(self.store, f"{stage}-{name}")


@dataclasses.dataclass(frozen=True)
class Units:
    """A stage, divided into units.

    Attributes:
        name: Name of the stage.
        whole: Units of the whole work: all of LUNA16, 3000 steps, 100,000 images.
        short: Units of a short job.
        long: Units of a longer job.
        unit: Description of a unit.
        one_by_one: Some units, to run in this process.
        run: ``run(chain, name, units, workers)`` runs as many units as a job.
        exchanged: Bytes of gradients.
    """

    name: str
    whole: int
    short: int
    long: int
    unit: Callable[[Chain], str]
    one_by_one: Callable[[Chain], Iterator[Callable[[], object]]]
    run: Callable[[Chain, str, int, int], object]
    exchanged: Callable[[Chain], int] = lambda chain: 0


def _preprocess(chain: Chain, name: str, volumes: int, workers: int) -> PreprocessConfig:
    return PreprocessConfig(
        source=join_uri(chain.store, "ct"),
        out=chain.at("preprocess", name),
        size=chain.side,
        subsets=tuple(range(volumes // 2)),
        workers=workers,
    )


def _volumes(chain: Chain) -> Iterator[Callable[[], object]]:
    config = _preprocess(chain, "units", 20, 1)
    slices = DatasetWriter(config.out, Kind.SLICES, {})
    task = VolumeTask(config, slices, DatasetWriter(join_uri(config.out, "crops"), Kind.CROPS, {}))
    for volume in survey(config).volumes:
        yield functools.partial(task, volume)


def _train(chain: Chain, name: str, units: int, workers: int) -> TrainConfig:
    config = PRESETS[chain.preset](chain.at("preprocess"), chain.at("train", name), "sdm")
    return dataclasses.replace(
        config,
        subsets=_TRAINED,
        steps=units // workers,
        batch=config.batch * workers,
        workers=workers,
        cpus_per_worker=1,
        preview_every=0,
    )


def _learning(chain: Chain) -> tuple[TrainingRun, Learner]:
    config = _train(chain, "units", 1, 1)
    data = Dataset.open(config.data, Kind.SLICES)
    run = prepare(config, data, DatasetWriter(config.out, Kind.MODEL, {}))
    return run, run.make_learner(distribute=lambda network: network, averages=True)


def _steps(chain: Chain) -> Iterator[Callable[[], object]]:
    run, learner = _learning(chain)
    share = run.config.batch
    stream = RowStream(run.index, batch=share, positions=range(share), seed=0)

    def step(number: int) -> None:
        batch = make_batch(stream.rows(number), stream.samples(number), run.config, learner.needs)
        learner.step([batch], number)

    for number in range(6):
        yield functools.partial(step, number)


def _gradients(chain: Chain) -> int:
    _, learner = _learning(chain)
    return 4 * sum(weight.numel() for each in learner.trained for weight in each.network.parameters())


def _sample(chain: Chain, name: str, parts: int, workers: int) -> SampleConfig:
    return SampleConfig(
        model=chain.at("train"),
        data=chain.at("preprocess"),
        out=chain.at("sample", name),
        subsets=_TRAINED,
        count=parts * _PART_IMAGES,
        part_images=_PART_IMAGES,
        sampler="dpmpp",
        steps=_SAMPLER_STEPS,
        workers=workers,
    )


def _parts(chain: Chain) -> Iterator[Callable[[], object]]:
    config = _sample(chain, "units", 4, 1)
    model, data = ModelDataset.open(config.model), Dataset.open(config.data)
    index = index_rows(data, config.subsets)
    writer = DatasetWriter(config.out, Kind.SAMPLES, {})
    run = SamplingRun(config, model.dataset.parent(), check_model(model, index), index, writer)
    sampler = UnitSampler(run, torch.device("cpu"))
    plan = make_plan(config, index)
    for number in range(len(plan)):
        yield functools.partial(sampler.sample, plan.unit(number))


def _evaluate(chain: Chain, name: str, parts: int, workers: int) -> EvalConfig:
    # A dataset with this many parts.
    sampled = "first" if parts == _SAMPLED["short"] else "long"
    return EvalConfig(
        real=chain.at("preprocess"),
        synthetic=(chain.at("sample", sampled),),
        out=chain.at("evaluate", name),
        subsets=_HELD_OUT,
        allow_near_duplicates=True,
        workers=workers,
    )


def _measured(chain: Chain) -> Iterator[Callable[[], object]]:
    config = _evaluate(chain, "units", _SAMPLED["long"], 1)
    samples = Dataset.open(config.synthetic[0])
    network = Network(load_extractor(config.extractor).description)
    real = read_real(config, network, Dataset.open(config.real), [trace(samples)], None)
    source = SyntheticSource(samples, real.pool, network, segmented=True)
    for part in samples.parts[:4]:
        yield functools.partial(read_synthetic_part._function, source, part, ())


_SAMPLED = {"short": 2, "long": 10}
STAGES = (
    Units(
        "preprocess",
        888,
        4,
        20,
        lambda chain: f"volume of {chain.scan[1]} x {chain.scan[1]} x {chain.scan[2]}",
        _volumes,
        lambda *given: preprocessing.run(_preprocess(*given)),
    ),
    Units(
        "train",
        3000,
        4,
        24,
        lambda chain: f"a worker's share of a step, 8 images of {chain.side} px",
        _steps,
        lambda *given: training.run(_train(*given)),
        _gradients,
    ),
    Units(
        "sample",
        6250,
        _SAMPLED["short"],
        _SAMPLED["long"],
        lambda chain: f"part of {_PART_IMAGES} images of {chain.side} px, {_SAMPLER_STEPS} steps",
        _parts,
        lambda *given: sampling.run(_sample(*given)),
    ),
    Units(
        "evaluate",
        6250,
        _SAMPLED["short"],
        _SAMPLED["long"],
        lambda chain: f"part of {_PART_IMAGES} slices of {chain.side} px",
        _measured,
        lambda *given: evaluating.run(_evaluate(*given)),
    ),
)
