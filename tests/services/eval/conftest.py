"""Small slices with texture, a model that names what it was trained on, and samples."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from lungforge.ct import classes
from lungforge.datasets import Dataset, DatasetWriter, Kind, rows_from_table, table_from_rows
from services.eval import job
from services.eval.results import EvaluationReport
from tests.factories import nodule_at, sample_row, slice_row

SIDE = 64
#: HU of background, body, left lung, right lung, trachea, nodule.
LEVELS = np.array([-1000, 30, -830, -830, -1000, 20])


def map_of(scan):
    rows, columns = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE - 0.5
    label = np.zeros((SIDE, SIDE), dtype=np.uint8)
    label[(columns / (0.42 + 0.01 * (scan % 5))) ** 2 + (rows / 0.38) ** 2 < 1] = classes.BODY
    for side, lung in ((-1, classes.RIGHT_LUNG), (1, classes.LEFT_LUNG)):
        label[((columns - side * 0.2) / 0.14) ** 2 + (rows / 0.26) ** 2 < 1] = lung
    label[30:34, 42 + scan % 3 : 46 + scan % 3] = classes.NODULE
    return label


def render_slice(label, seed, noise_hu=60.0):
    """A slice that follows the map, with noise of the seed."""
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=label.shape), 1.0)
    hu = LEVELS[label] + (label > 0) * texture * (noise_hu / texture.std())
    return np.clip(np.rint(hu), -1000, 400).astype(np.int16)


def halve_and_enlarge(hu):
    small = Image.fromarray(hu.astype(np.float32)).resize((SIDE // 2, SIDE // 2), Image.Resampling.BICUBIC)
    enlarged = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return np.clip(np.rint(enlarged), -1000, 400).astype(np.int16)


def write_slices(uri, *, scans=12, per_scan=2, details=None):
    """One part per scan; the subset of a scan is its index modulo 4."""
    writer = DatasetWriter(uri=uri, kind=Kind.SLICES, config={"scans": scans})
    parts = []
    for scan in range(scans):
        rows = [
            slice_row(
                series_uid=f"scan-{scan:02}",
                subset=scan % 4,
                slice_index=index,
                z_mm=float(index),
                spacing_mm=[5.0, 5.0],
                image=render_slice(map_of(scan), 1000 * scan + index),
                label=map_of(scan),
                nodules=[nodule_at(45.5, 31.5, 4.0, 3.0)],
            )
            for index in range(per_scan)
        ]
        parts.append(writer.write_part(f"scan-{scan:02}", table_from_rows(Kind.SLICES, rows)))
    writer.commit(parts, details or {})
    return Dataset.open(uri, Kind.SLICES)


def write_model(uri, slices, subsets=(0, 1, 2), patch=None):
    writer = DatasetWriter(
        uri=uri, kind=Kind.MODEL, config={"subsets": list(subsets)}, seed=0, parents=(slices.parent(),)
    )
    writer.commit([writer.write_file("config.json", b"{}")], {"patch": patch})
    return Dataset.open(uri, Kind.MODEL)


def write_samples(uri, slices, model, make, *, subsets=(0, 1, 2), patch=None, gated=False):
    """One sample per slice of the subsets: ``make(row, number)`` gives its HU, ``patch`` its size in px.

    With ``gated``, every second one is a retry of the gate on Hounsfield units.
    """
    writer = DatasetWriter(
        uri=uri, kind=Kind.SAMPLES, config={"uri": uri}, seed=0, parents=(model.parent(), slices.parent())
    )
    rows = [
        row
        for part in slices.parts
        for row in rows_from_table(slices.read_part(part))
        if row["subset"] in subsets
    ]
    corner = (0, 0) if patch is None else (24, 28)
    top, left = corner
    cut = np.s_[top : top + (patch or SIDE), left : left + (patch or SIDE)]
    samples = [
        sample_row(
            row,
            sample_id=f"{row['series_uid']}_{row['slice_index']:04}_r0",
            source_top=top,
            source_left=left,
            seed=number,
            model_sha256=model.manifest_sha256,
            image=make(row, number)[cut].copy(),
            label=row["label"][cut].copy(),
            nodules=[nodule_at(45.5 - left, 31.5 - top, 4.0, 3.0)],
        )
        | ({"hu_retries": number % 2, "hu_outside": False} if gated else {})
        for number, row in enumerate(rows)
    ]
    writer.commit(
        [
            writer.write_part(
                f"{start:04}", table_from_rows(Kind.SAMPLES, samples[start : start + 7], extra=gated)
            )
            for start in range(0, len(samples), 7)
        ],
        {"hu_gate": {"resampled": 9, "retries": 9, "outside": 0}} if gated else {},
    )
    return Dataset.open(uri, Kind.SAMPLES)


def drawn(row, number):
    return render_slice(row["label"], 900_000 + number)


def copied(row, number):
    """The real slice, halved and enlarged."""
    return halve_and_enlarge(row["image"])


def remembered(row, number):
    """What a generator gives that has memorised its training slices."""
    noise = np.random.default_rng(number).normal(scale=5.0, size=row["image"].shape)
    return np.clip(np.rint(row["image"] + noise), -1000, 400).astype(np.int16)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Slices, a model of subsets 0 to 2, synthetic samples, and halved real slices passed off as samples."""
    root = tmp_path_factory.mktemp("world")
    slices = write_slices(str(root / "slices"))
    model = write_model(str(root / "model"), slices)
    write_samples(str(root / "drawn"), slices, model, drawn, gated=True)
    write_samples(str(root / "copies"), slices, model, copied)
    return root


@pytest.fixture
def build():
    """The functions above, for tests that write other datasets."""
    return {
        "slices": write_slices,
        "model": write_model,
        "samples": write_samples,
        "drawn": drawn,
        "copied": copied,
        "remembered": remembered,
    }


@pytest.fixture(scope="module")
def result(ray_local, config):
    """The evaluation of the module's ``config``."""
    return job.run(config)


@pytest.fixture(scope="module")
def report(result):
    """Its results."""
    return EvaluationReport.from_json(Path(result.metrics).read_bytes())
