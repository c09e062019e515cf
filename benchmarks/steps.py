"""Quality against sampling: ``python -m benchmarks.steps --model URI --data URI --maps 0 1 2 --real 3``.

One model samples from the same maps with the same noise, by every sampler, count of steps, and guidance. Each
set is compared with real slices of scans that the model has not seen: Fréchet distance (EfficientNet-Lite0),
mean and spread over random halves of the real slices, at the same count of images as the real-vs-real
baseline beside it; and the radiomic distance to all of them. The error in HU is that of each class's median
to the one of the real slice whose map it is, the median over the classes of a slice, and the mean over
slices. The first row is of the real slices whose maps are sampled from. Seconds an image are those of batches
of eight, in this process, with its threads.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lungforge.ct import classes
from lungforge.ct.io.patient_table import scan_of
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.slices import SliceRow, evenly, index_rows
from lungforge.errors import InputError
from lungforge.metrics.features import EFFICIENTNET_LITE0, Extractor, load_extractor
from lungforge.metrics.fidelity import class_medians
from lungforge.metrics.frechet import frechet_distance_of_features
from lungforge.metrics.radiomic_distance import radiomic_distances, regions_in_both
from lungforge.metrics.radiomics import radiomic_features_of
from lungforge.metrics.real_baseline import BaselineComparison, compare_with_baseline
from lungforge.models.base import Identity, SamplingOptions, SliceSampler
from lungforge.models.model_dataset import ModelDataset
from lungforge.randomness import numpy_generator
from services.common.progress import progress

BATCH = 8
#: Guidance at every level of noise.
_EVERYWHERE = (0.0, 1e9)
#: What an arm leaves open is the model's default.
ARMS = (
    *(SamplingOptions("ancestral", steps) for steps in (1000, 250, 50)),
    SamplingOptions("ddim", 50),
    *(SamplingOptions("dpmpp", steps) for steps in (30, 20, 15, 12, 10, 8)),
    SamplingOptions("heun", 23),
    SamplingOptions("dpmpp", 12, guidance=1.0),
    SamplingOptions("dpmpp", 12, guidance=1.5, guidance_interval=(0.19, 1.61)),
    SamplingOptions("dpmpp", 12, guidance=1.5, guidance_interval=_EVERYWHERE),
    SamplingOptions("dpmpp", 12, guidance=2.0),
)


def sample(
    sampler: SliceSampler, labels: NDArray[np.uint8], identities: Sequence[Identity], title: str
) -> tuple[NDArray[np.int16], float]:
    """Sample an image of each map, in batches of eight: HU [N, H, W], and seconds an image."""
    images = []
    started = time.perf_counter()
    with progress(title, len(labels), unit="images") as advance:
        for start in range(0, len(labels), BATCH):
            batch = slice(start, start + BATCH)
            images.append(sampler.sample(labels[batch], identities[batch]))
            advance(len(images[-1]))
    return np.concatenate(images), (time.perf_counter() - started) / len(labels)


def compare_with_real(
    reference: NDArray[np.float32], scans: Sequence[str], features: NDArray[np.float32]
) -> BaselineComparison | None:
    """The Fréchet distance of sampled images to halves of the real ones, beside that between the halves.

    Args:
        reference: Features ``[N, D]`` of the real slices.
        scans: The scan of each of them.
        features: Of the sampled images, ``[M, D]``.

    Returns:
        The comparison, over the same halves for every set of images; None where all slices are of one scan.
    """
    return compare_with_baseline(
        reference, scans, features, frechet_distance_of_features, numpy_generator(0, "steps")
    )


@dataclass(frozen=True)
class Reference:
    """What sets of images are compared with.

    Attributes:
        extractor: Gives features.
        features: Of the real slices, [N, D].
        scans: The scan of each.
        radiomics: Of the real slices, [N, F].
        sources: The slices whose maps are sampled from.
        medians: Class medians of these, [M, classes], in HU.
    """

    extractor: Extractor
    features: NDArray[np.float32]
    scans: Sequence[str]
    radiomics: NDArray[np.float32]
    sources: Sequence[SliceRow]
    medians: NDArray[np.float32]

    @classmethod
    def of(cls, real: Sequence[SliceRow], sources: Sequence[SliceRow]) -> "Reference":
        """Measure the real slices, and those whose maps are sampled from."""
        extractor = load_extractor(EFFICIENTNET_LITE0)
        images = np.stack([row.image for row in sources])
        return cls(
            extractor,
            extractor.embed(np.stack([row.image for row in real])),
            [scan_of(row.series_uid) for row in real],
            _radiomics([row.image for row in real], real),
            sources,
            class_medians(images, np.stack([row.label for row in sources])),
        )

    def compare(self, images: NDArray[np.int16]) -> dict[str, Any]:
        """The measures of images [M, H, W] in HU, one for each source."""
        compared = compare_with_real(self.features, self.scans, self.extractor.embed(images))
        assert compared is not None, "the real slices are of several scans"
        labels = np.stack([row.label for row in self.sources])
        errors = np.abs(class_medians(images, labels) - self.medians)
        radiomics = _radiomics(images, self.sources)
        regions = regions_in_both(self.radiomics, radiomics)
        return {
            **dataclasses.asdict(compared),
            "error_hu": float(np.nanmedian(errors, axis=1).mean()),
            "radiomic": sum(radiomic_distances(self.radiomics, radiomics, regions).values()),
        }


def _radiomics(images: Iterable[NDArray[np.int16]], rows: Sequence[SliceRow]) -> NDArray[np.float32]:
    return radiomic_features_of(images, [row.label for row in rows], [row.spacing_mm for row in rows])


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steps", description=__doc__)
    parser.add_argument("--model", required=True, help="a diffusion model, as `lungforge train` made it")
    parser.add_argument("--data", required=True, help="slices: maps to sample from, and real ones")
    parser.add_argument(
        "--maps", type=int, nargs="+", required=True, help="subsets whose maps are sampled from"
    )
    parser.add_argument("--real", type=int, nargs="+", required=True, help="subsets of the real slices")
    parser.add_argument("--images", type=int, default=128, help="images of each set (default: 128)")
    parser.add_argument("--longest", type=int, default=1000, help="leave out what has more steps than this")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    arguments = parser.parse_args()
    try:
        model, data = ModelDataset.open(arguments.model), Dataset.open(arguments.data, Kind.SLICES)
        maps, real = index_rows(data, arguments.maps), index_rows(data, arguments.real)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    chosen = evenly(len(maps), arguments.images)
    sources = maps.read(chosen)
    reference = Reference.of(real.read(range(len(real))), sources)
    labels = np.stack([row.label for row in sources])
    identities = [("steps", number) for number in range(len(labels))]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results: list[dict[str, Any]] = []

    def add(name: dict[str, Any], images: NDArray[np.int16]) -> None:
        results.append(name | reference.compare(images))
        if not arguments.json:
            print(_line(results[-1]), flush=True)

    add({"sampler": "real"}, np.stack([row.image for row in sources]))
    for arm in ARMS:
        if arm.steps is not None and arm.steps > arguments.longest:
            continue
        options = model.spec.sampling(model.config, arm)
        sampler = model.sampler(options, device, classes=classes.COUNT)
        images, seconds = sample(sampler, labels, identities, f"{arm.sampler} {arm.steps}")
        add({**dataclasses.asdict(options), "seconds_per_image": seconds}, images)
    if arguments.json:
        print(json.dumps(results))
    return 0


def _line(result: dict[str, Any]) -> str:
    name = result["sampler"]
    if name != "real":
        interval = result["guidance_interval"]
        within = "" if interval in (None, _EVERYWHERE) else f" in {interval[0]:g}-{interval[1]:g}"
        name += f" {result['steps']}, guidance {result['guidance']:g}{within}"
    seconds = f"; {result['seconds_per_image']:.3f} s an image" if "seconds_per_image" in result else ""
    return (
        f"{name:<42} Fréchet {result['synthetic_mean']:6.1f} ± {result['synthetic_spread']:.1f} "
        f"(baseline {result['real_mean']:.1f} ± {result['real_spread']:.1f}, n = {result['images']}), "
        f"radiomic {result['radiomic']:.1f}, {result['error_hu']:.1f} HU{seconds}"
    )


if __name__ == "__main__":
    sys.exit(main())
