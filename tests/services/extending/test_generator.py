"""A generator of another package: registered by an entry point, trained, sampled and evaluated."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind, rows_from_table, table_from_rows
from lungforge.errors import InputError
from lungforge.models.model_dataset import ModelDataset, read_history
from lungforge.models.registry import generator_names, load_generator
from services.cli.commands import parse
from tests.factories import nodule_at, slice_row

PACKAGES = Path(__file__).parent / "packages"
SIDE = 32
#: Grey of each class, in HU.
GREY = np.array([-1000, 40, -850, -820, -1000, 30])

#: What a user types, one command after another on one cluster.
CHAIN = """
import sys
from services.common.ray_environment import keep_ray_private
keep_ray_private()
from services.cli.commands import execute
from services.common.ray_session import ray_session
folder = sys.argv[1]
with ray_session(2):
    execute("train", f"--data {folder}/slices --out {folder}/model --model toy --preset tiny --subsets 0 1 2"
        " --steps 60 --warmup-steps 0 --ema-length 0.05 --network.levels 3 --workers 2".split())
    execute("sample", f"--model {folder}/model --data {folder}/slices --out {folder}/samples"
        " --subsets 0 1 2 --workers 2".split())
    execute("evaluate", f"--real {folder}/slices --synthetic {folder}/samples --out {folder}/report"
        " --subsets 3 4 5".split())
"""


@pytest.fixture
def installed(tmp_path: Path) -> list[str]:
    """The folders that hold the package and its registration, as an installer would leave them."""
    metadata = tmp_path / "site" / "toy_generator-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-generator\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[lungforge.generators]\ntoy = toy_generator.spec:SPEC\n")
    return [str(PACKAGES), str(tmp_path / "site")]


def write_slices(uri: str, scans: int = 6, slices: int = 12) -> None:
    """Scans of noisy slices, a subset each: a body of changing size, two lungs and a nodule."""
    writer = DatasetWriter(uri=uri, kind=Kind.SLICES, config={})
    generator = np.random.default_rng(0)
    parts = []
    for scan in range(scans):
        rows = []
        for index in range(slices):
            label = np.zeros((SIDE, SIDE), np.uint8)
            top, left = generator.integers(1, 5, 2)
            label[top:-top, left:-left] = 1
            label[8:-8, 7:14], label[8:-8, 18:25] = 3, 2
            y, x = generator.integers(9, 20), generator.integers(8, 12)
            label[y : y + 2, x : x + 2] = 5
            rows.append(
                slice_row(
                    series_uid=f"scan-{scan}",
                    subset=scan,
                    slice_index=index,
                    z_mm=float(index),
                    image=(GREY[label] + generator.normal(0, 20, label.shape)).astype(np.int16),
                    label=label,
                    nodules=[nodule_at(x + 0.5, y + 0.5, 2.0)],
                )
            )
        parts.append(writer.write_part(f"{scan}", table_from_rows(Kind.SLICES, rows)))
    writer.commit(parts)


def test_an_entry_point_makes_it_known_with_its_options(
    installed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert generator_names() == ("sdm", "gaugan")
    for folder in installed:
        monkeypatch.syspath_prepend(folder)
    assert generator_names() == ("sdm", "gaugan", "toy")
    options = ["--data", "slices", "--out", "model", "--model", "toy"]
    config = parse("train", [*options, "--preset=tiny", "--network.levels=3", "--learner.weight=2"])
    assert (config.network, config.learner) == (
        load_generator("toy").network_options(levels=3),  # type: ignore[call-arg]
        load_generator("toy").learner_options(weight=2.0),  # type: ignore[call-arg]
    )
    with pytest.raises(InputError, match=r"--network.levels is 0; give at least 1"):
        parse("train", [*options, "--preset=tiny", "--network.levels=0"])
    with pytest.raises(InputError, match="toy has no preset 'cpu'; choose one of tiny, luna256"):
        parse("train", [*options, "--preset", "cpu"])
    with pytest.raises(SystemExit) as exit_request:  # help has the presets that it has
        parse("train", ["--model", "toy", "--help"])
    assert exit_request.value.code == 0


@pytest.mark.ray
def test_it_is_trained_sampled_and_evaluated(
    tmp_path: Path,
    installed: list[str],
    own_ray: Callable[[], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_slices(str(tmp_path / "slices"))
    path = os.pathsep.join([*installed, str(Path(__file__).parents[3])])
    done = subprocess.run(
        [sys.executable, "-c", CHAIN, str(tmp_path)],
        env=own_ray() | {"PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for folder in installed:
        monkeypatch.syspath_prepend(folder)
    model = ModelDataset.open(str(tmp_path / "model"))
    assert (model.spec.name, model.config.levels, model.details.rows) == ("toy", 3, 36)
    history = read_history(model.dataset)
    assert history is not None
    assert history["loss"][-1] < 0.01 * history["loss"][0]
    samples = Dataset.open(str(tmp_path / "samples"))
    rows = [row for part in samples.parts for row in rows_from_table(samples.read_part(part))]
    assert len(rows) == 36
    assert {row["sampler"] for row in rows} == {"toy"}
    for row in rows:
        for label in (1, 2, 3):
            assert abs(row["image"][row["label"] == label].mean() - GREY[label]) < 40
    report = Dataset.open(str(tmp_path / "report"), Kind.REPORT)
    assert any(part.name == "report.html" for part in report.parts)
    assert [parent.kind for parent in report.manifest.parents].count(Kind.SAMPLES) == 1
