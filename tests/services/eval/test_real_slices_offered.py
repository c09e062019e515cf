"""Held-out real slices offered as synthetic come out as real; the same slices 200 HU too bright, as broken.

LUNA16, end to end: a generator that is said to be trained on one subset, compared with a second, offers the
slices of a third.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lungforge.ct.window import WINDOW_HU
from lungforge.datasets import Dataset, DatasetWriter, Kind, rows_from_table, table_from_rows
from services.eval import job
from services.eval.config import EvalConfig
from services.eval.results import EvaluationReport
from services.preprocess.config import PreprocessConfig
from tests.factories import sample_row
from tests.services.preprocessed import preprocess_here

pytestmark = [pytest.mark.slow, pytest.mark.real_data, pytest.mark.ray]

TRAINED_ON, COMPARED, OFFERED = 0, 1, 2


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The slices of three subsets at 64 px."""
    folder = os.environ.get("LUNGFORGE_REAL_DATA")
    if not folder or not (Path(folder) / "luna16_mini").is_dir():
        pytest.skip("LUNGFORGE_REAL_DATA names no folder with luna16_mini")
    config = PreprocessConfig(
        str(Path(folder).resolve() / "luna16_mini"),
        str(tmp_path_factory.mktemp("mini")),
        size=64,
        subsets=(TRAINED_ON, COMPARED, OFFERED),
    )
    return preprocess_here(config)


@pytest.fixture(scope="module")
def offer(slices: Dataset, ray_local: None) -> Callable[[int], EvaluationReport]:
    """Evaluates the held-out slices, so many HU brighter."""
    root = Path(slices.uri).parent
    rows = [row for part in slices.parts for row in rows_from_table(slices.read_part(part))]
    seen = [row for row in rows if row["subset"] != OFFERED]
    held_out = [row for row in rows if row["subset"] == OFFERED]

    def write(name: str, kind: Kind, parts: list[list[dict]], parents: tuple = ()) -> Dataset:
        writer = DatasetWriter(str(root / name), kind, {"name": name}, parents=parents)
        writer.commit(
            [
                writer.write_part(f"{number:03}", table_from_rows(kind, part))
                for number, part in enumerate(parts)
            ]
        )
        return Dataset.open(str(root / name), kind)

    real = write("seen", Kind.SLICES, [seen[start : start + 60] for start in range(0, len(seen), 60)])
    # The store has the held-out slices' maps only: nothing that is offered can be a copy.
    blank = np.full(rows[0]["image"].shape, WINDOW_HU[0], np.int16)
    maps = write("maps", Kind.SLICES, [[row | {"image": blank} for row in held_out]])
    writer = DatasetWriter(
        str(root / "model"), Kind.MODEL, {"subsets": [TRAINED_ON]}, seed=0, parents=(real.parent(),)
    )
    writer.commit([writer.write_file("config.json", b"{}")], {"patch": None})
    model = Dataset.open(str(root / "model"), Kind.MODEL)

    def evaluate(by_hu: int) -> EvaluationReport:
        samples = [
            sample_row(
                row,
                sample_id=f"{row['series_uid']}_{row['slice_index']:04}_r0",
                model_sha256=model.manifest_sha256,
                image=np.clip(row["image"] + by_hu, *WINDOW_HU).astype(np.int16),
                label=row["label"],
                nodules=row["nodules"],
            )
            for row in held_out
        ]
        offered = write(f"plus-{by_hu}", Kind.SAMPLES, [samples], (model.parent(), maps.parent()))
        result = job.run(
            EvalConfig(
                real=real.uri,
                synthetic=(offered.uri,),
                out=str(root / f"report-{by_hu}"),
                subsets=(COMPARED,),
                features=str(root / "features"),
            )
        )
        return EvaluationReport.from_json(Path(result.metrics).read_bytes())

    return evaluate


def _judgements(report: EvaluationReport) -> dict[str, str]:
    return {chip.name: chip.judgement for chip in report.headlines[0].chips}


def test_held_out_real_slices_come_out_as_real_by_every_measure(offer) -> None:
    report = offer(0)
    (results,) = report.sets
    assert min(results.images, report.real.images) > 80
    assert _judgements(report) == {
        "Realism": "good",
        "Hounsfield units": "good",
        "Copies": "good",
        "Memorised": "good",
        "Helps": "not measured",
    }
    assert report.headlines[0].sentence == "As good as real slices in everything that was measured."
    assert results.radiomic.p_value >= 0.05
    assert results.kid.p_value >= 0.05
    assert min(row.p_value for row in results.hounsfield_units if row.p_value is not None) >= 0.05
    for share in (results.precision_recall.precision, results.precision_recall.recall):
        assert share.baseline.synthetic_mean >= share.baseline.real_mean - 2 * share.baseline.real_spread
    contrast = results.nodule_contrast_hu
    assert contrast.real.lower_quartile < contrast.synthetic.median < contrast.real.upper_quartile
    for structure in results.map_agreement.structures:
        assert structure.synthetic.median == pytest.approx(structure.real.median, abs=0.02)
    assert results.near_duplicates.false_alarms.count <= 0.01 * results.near_duplicates.false_alarms.checked
    told = " ".join(report.verdict)
    assert "No test tells “plus-0” from real slices of other scans" in told
    assert "as near to real slices as they are to one another" in told
    assert f"None of the {results.images} slices" in told
    assert "a sign of memorisation" not in told
    # And the report knows what it could have missed.
    assert results.sensitivity.powers.images <= min(results.images, report.real.images)


def test_slices_200_hu_too_bright_are_broken_in_the_headline(offer) -> None:
    report = offer(200)
    judged = _judgements(report)
    assert (judged["Realism"], judged["Hounsfield units"]) == ("poor", "poor")
    assert judged["Copies"] == "good"
    sentence = report.headlines[0].sentence
    assert sentence.startswith("Poor in realism and Hounsfield units (")
    assert " HU" in sentence
    assert report.verdict[0].startswith(
        "“plus-200” differs from real slices of other scans by more than chance"
    )
    (results,) = report.sets
    (lung,) = [row for row in results.hounsfield_units if row.class_name == "left lung"]
    assert lung.difference == pytest.approx(200, abs=40)
    assert max(results.radiomic.p_value, results.kid.p_value, lung.p_value) < 0.05
