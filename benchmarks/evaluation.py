"""What an evaluation costs: ``python -m benchmarks.evaluation [--images 2000 ...] [--side 256] [--json]``.

As many synthetic slices as real ones are evaluated with all measures but the downstream tasks: once with
nothing kept, and once more, under another seed, with the features of the first. As many again are those that
the generator was trained on. The slices are those of phantoms, without nodules. Seconds are of the whole job,
from its start to the report; processor seconds are the sum over driver and workers, which other work on the
machine changes less; memory is their peak, what they share counted once. Of several counts of images a line
is fitted: what an evaluation takes whatever their count, what each image adds, and what 2,000 would take.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.processes import peak_memory, processor_time
from lungforge.ct.phantoms.generate import generate_phantom
from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.randomness import numpy_generator
from services.common.progress import say
from services.eval import job
from services.eval.config import EvalConfig

PART = 64
#: Phantoms that the slices are of, and slices of each; more slices are the same with other noise.
_PHANTOMS, _SLICES = 10, 40
#: HU of each class in the synthetic slices, and the strength of the noise in all.
_LEVELS = np.array([-1000, 30, -850, -850, -990, 20])
_NOISE_HU = 40.0
#: The count of images that costs are extrapolated to.
_EXTRAPOLATED = 2000


def write_inputs(folder: Path, images: int, side: int) -> tuple[Dataset, Dataset]:
    """Real slices, half of them for training, and synthetic ones with a model between them."""
    rows = [_real_row(*given) for given in _scans(images, side)]
    slices = _write(folder / "slices", Kind.SLICES, rows, ())
    writer = DatasetWriter(str(folder / "model"), Kind.MODEL, {"subsets": [0]}, 0, (slices.parent(),))
    writer.commit([writer.write_file("config.json", b"{}")], {"patch": None})
    model = Dataset.open(writer.uri, Kind.MODEL)
    trained = [row for row in rows if row["subset"] == 0]
    samples = [_sample_row(trained[number % len(trained)], number, model) for number in range(images)]
    return slices, _write(folder / "samples", Kind.SAMPLES, samples, (model.parent(), slices.parent()))


def _scans(images: int, side: int) -> Iterator[tuple[int, NDArray[np.int16], NDArray[np.uint8]]]:
    """Number, HU and map of each real slice without noise, ``2 * images`` of them."""
    phantoms = [generate_phantom(0, index, size=side, slices=_SLICES) for index in range(_PHANTOMS)]
    for number in range(2 * images):
        phantom = phantoms[number // _SLICES % _PHANTOMS]
        yield number, phantom.volume.hu[number % _SLICES], phantom.anatomy[number % _SLICES]


def _noise(side: int, *identity: int | str) -> NDArray[np.float64]:
    noise = ndimage.gaussian_filter(
        numpy_generator("evaluation benchmark", *identity).normal(size=(side, side)), 0.7
    )
    return noise * (_NOISE_HU / noise.std())


def _real_row(number: int, hu: NDArray[np.int16], label: NDArray[np.uint8]) -> dict:
    scan = number // _SLICES
    return {
        "series_uid": f"phantom-{scan}",
        "subset": scan % 2,
        "slice_index": number % _SLICES,
        "z_mm": float(number % _SLICES),
        "spacing_mm": [360 / len(hu)] * 2,
        "image": np.rint(hu + _noise(len(hu), "real", number)).astype(np.int16),
        "label": label,
        "nodules": [],
    }


def _sample_row(source: dict, number: int, model: Dataset) -> dict:
    label = source["label"]
    return {
        "sample_id": f"{number:06}",
        "source_series_uid": source["series_uid"],
        "source_slice_index": source["slice_index"],
        "source_top": 0,
        "source_left": 0,
        **{name: source[name] for name in ("subset", "spacing_mm", "label", "nodules")},
        "replicate": number,
        "seed": 0,
        "edit": "none",
        "inpainted": False,
        "sampler": "none",
        "steps": 1,
        "guidance": 1.0,
        "model_sha256": model.manifest_sha256,
        "image": np.rint(_LEVELS[label] + _noise(len(label), "synthetic", number)).astype(np.int16),
    }


def _write(folder: Path, kind: Kind, rows: list[dict], parents: tuple) -> Dataset:
    writer = DatasetWriter(str(folder), kind, {}, 0, parents)
    starts = range(0, len(rows), PART)
    writer.commit(
        [writer.write_part(f"{at:06}", table_from_rows(kind, rows[at : at + PART])) for at in starts]
    )
    return Dataset.open(writer.uri, kind)


@dataclass(frozen=True)
class Cost:
    """What an evaluation took.

    Attributes:
        images: Synthetic slices.
        seconds: From its start to the report.
        processor_seconds: Of driver and workers together.
        peak_mb: Their memory.
    """

    images: int
    seconds: float
    processor_seconds: float
    peak_mb: int


def measure(folder: Path, slices: Dataset, samples: Dataset, seed: int) -> Cost:
    """The cost of an evaluation, with the features that an earlier one has kept."""
    config = EvalConfig(
        real=slices.uri,
        synthetic=(samples.uri,),
        out=str(folder / f"report-{seed}"),
        features=str(folder / "features"),
        subsets=(1,),
        seed=seed,
    )
    with peak_memory() as peak, processor_time() as processors:
        started = time.perf_counter()
        job.run(config)
        seconds = time.perf_counter() - started
    return Cost(
        images=samples.rows,
        seconds=round(seconds, 1),
        processor_seconds=round(sum(processors.values()), 1),
        peak_mb=round(peak[0] / 1e6),
    )


def line(costs: Sequence[Cost], value: Callable[[Cost], float]) -> tuple[float, float]:
    """The least-squares line through a value of several costs: at no image, and what each image adds."""
    fixed, each = np.polynomial.polynomial.polyfit(
        [cost.images for cost in costs], list(map(value, costs)), 1
    )
    return float(fixed), float(each)


def describe(title: str, costs: Sequence[Cost]) -> Iterator[str]:
    """The costs in words, and the lines through them."""
    for cost in costs:
        yield (
            f"{title}, {cost.images} images: {cost.seconds:.0f} s, processors "
            f"{cost.processor_seconds:.0f} s, at most {cost.peak_mb} MB over driver and workers"
        )
    if len({cost.images for cost in costs}) > 1:
        for what, value in (
            ("seconds", lambda cost: cost.seconds),
            ("processor seconds", lambda cost: cost.processor_seconds),
        ):
            fixed, each = line(costs, value)
            yield (
                f"{title}, {what}: {fixed:.0f} and {each:.3f} an image; extrapolated to {_EXTRAPOLATED}: "
                f"{fixed + each * _EXTRAPOLATED:.0f}"
            )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation", description=__doc__)
    parser.add_argument(
        "--images", type=int, nargs="+", default=[2000], help="synthetic slices, of each run (default: 2000)"
    )
    parser.add_argument("--side", type=int, default=256, help="of the slices, in px (default: 256)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    results: dict[str, list[Cost]] = {"features computed": [], "features kept": []}
    for images in arguments.images:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            say(f"making the slices of {images} images")
            slices, samples = write_inputs(folder, images, arguments.side)
            for seed, costs in enumerate(results.values()):
                costs.append(measure(folder, slices, samples, seed))
    if arguments.json:
        table = {title: list(map(asdict, costs)) for title, costs in results.items()}
        print(json.dumps({"side": arguments.side, **table}))
        return 0
    for title, costs in results.items():
        print(*describe(title, costs), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
