"""The whole study as one command: ``python -m benchmarks.study --data URI --train 0 1 2 --test 3 --out URI``.

Trains the baseline and the diffusion model on the training subsets, samples from the same maps, and evaluates
both on the test subsets, downstream tasks included. Every step is a job that resumes: the same command again
continues where it was, and of a finished study only prints the tables.
"""

import argparse
import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from benchmarks.study_table import tables
from lungforge.datasets import Dataset, Kind
from lungforge.errors import AccessError, InputError
from lungforge.storage import join_uri
from services.common.progress import say
from services.common.ray_session import ray_session
from services.eval import job as evaluation
from services.eval.config import EvalConfig
from services.eval.results import EvaluationReport
from services.sample import job as sampling
from services.sample.config import SampleConfig
from services.train import job as training
from services.train.config import TrainConfig
from services.train.presets import PRESETS

GENERATORS = ("gaugan", "sdm")
#: The preset of the downstream networks that goes with one of the generators.
NETWORKS: dict[str, Literal["tiny", "cpu", "published"]] = {
    "tiny": "tiny",
    "cpu": "cpu",
    "luna256": "published",
}

Result = TypeVar("Result")


@dataclass(frozen=True)
class Study:
    """The jobs of a study, in their order.

    Attributes:
        train: One for each generator.
        sample: One for each generator.
        evaluate: Both sets of samples.
    """

    train: tuple[TrainConfig, ...]
    sample: tuple[SampleConfig, ...]
    evaluate: EvalConfig


def plan(arguments: argparse.Namespace) -> Study:
    """The jobs that the options ask for.

    Raises:
        InputError: A job cannot be as they ask.
    """
    subsets, workers = tuple(arguments.train), arguments.workers

    def at(name: str) -> str:
        return join_uri(arguments.out, name)

    changes: dict[str, Any] = {"subsets": subsets, "patch": arguments.patch, "seed": arguments.seed}
    if arguments.steps is not None:
        changes |= {"steps": arguments.steps, "checkpoint_every": max(1, arguments.steps // 4)}
    train = tuple(
        dataclasses.replace(PRESETS[arguments.preset](arguments.data, at(name), name), **changes)
        for name in GENERATORS
    )
    sample = tuple(
        SampleConfig(
            model=at(name),
            data=arguments.data,
            out=at(f"samples-{name}"),
            subsets=subsets,
            per_map=math.ceil(max(arguments.ratios)),
            seed=arguments.seed,
            workers=workers,
            gpus_per_worker=float(one.gpus_per_worker),
        )
        for name, one in zip(GENERATORS, train, strict=True)
    )
    evaluate = EvalConfig(
        real=arguments.data,
        synthetic=tuple(one.out for one in sample),
        out=at("report"),
        subsets=tuple(arguments.test),
        allow_near_duplicates=True,  # the report counts them
        downstream=NETWORKS[arguments.preset],
        train_subsets=subsets,
        ratios=tuple(arguments.ratios),
        seeds=arguments.seeds,
        seed=arguments.seed,
        workers=workers,
        gpus_per_worker=train[0].gpus_per_worker,
        gpus_per_network=0.25 * train[0].gpus_per_worker,
    )
    return Study(train, sample, evaluate)


def run(study: Study) -> tuple[EvaluationReport, dict[str, float]]:
    """Do the jobs that are not done.

    Returns:
        The results, and the seconds that each job took this time.
    """
    seconds: dict[str, float] = {}

    def timed(name: str, job: Callable[[], Result]) -> Result:
        say(f"study: {name}")
        start = time.monotonic()
        result = job()
        seconds[name] = round(time.monotonic() - start, 1)
        return result

    cores = max(one.workers * one.cpus_per_worker for one in study.train)
    with ray_session(max(cores, study.evaluate.workers)):
        for train, sample in zip(study.train, study.sample, strict=True):
            timed(f"train {train.model}", partial(training.run, train))
            timed(f"sample {train.model}", partial(sampling.run, sample))
        timed("evaluate", partial(evaluation.run, study.evaluate))
    dataset = Dataset.open(study.evaluate.out, Kind.REPORT)
    return EvaluationReport.from_json(dataset.read_file("metrics.json")), seconds


def main() -> int:
    """Run a study and print its tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__)
    parser.add_argument("--data", required=True, help="slices, as `lungforge preprocess` made them")
    parser.add_argument("--train", type=int, nargs="+", required=True, help="subsets to learn from")
    parser.add_argument("--test", type=int, nargs="+", required=True, help="subsets to test on")
    parser.add_argument("--out", required=True, help="folder or URI for models, samples and the report")
    parser.add_argument("--preset", default="cpu", choices=list(NETWORKS), help="how large all networks are")
    parser.add_argument("--steps", type=int, help="steps of the generators; the preset's when not given")
    parser.add_argument(
        "--patch", type=int, help="work on patches of this many px; whole slices when not given"
    )
    parser.add_argument(
        "--ratios", type=float, nargs="+", default=[1.0], help="synthetic per real (default: 1)"
    )
    parser.add_argument("--seeds", type=int, default=5, help="networks of each arm (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="of sampling and evaluation (default: 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    try:
        report, seconds = run(plan(arguments))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except AccessError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({"seconds": seconds, **json.loads(report.to_json())}))
        return 0
    assert report.downstream is not None, "the study asks for the downstream tasks"
    print("\n".join(tables(report, report.downstream)))
    print("\n| step | seconds |\n|---|---|")
    print("\n".join(f"| {name} | {taken:.0f} |" for name, taken in seconds.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
