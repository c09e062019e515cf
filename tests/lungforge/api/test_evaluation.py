"""Small sets: real slices come out as real, broken and copied ones as broken and copied."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import lungforge
from lungforge.api.results import Agreement, ClassUnits, Distance, Evaluation, SetSize
from lungforge.ct import classes
from lungforge.ct.io.patient_table import scan_of
from lungforge.ct.nodules import read_annotations, sphere_nodules
from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.datasets.slices import SliceRow
from lungforge.errors import InputError
from lungforge.metrics.features import load_extractor
from lungforge.metrics.frechet import frechet_distance_of_features
from lungforge.metrics.kid import kid
from lungforge.metrics.radiomic_distance import radiomic_distances
from lungforge.metrics.radiomics import radiomic_features
from lungforge.metrics.real_baseline import BaselineComparison
from tests.factories import sample_row, slice_row

REAL = "lungforge://maps-64"


def brighter(rows: list[SliceRow], hu: int) -> list[SliceRow]:
    return [dataclasses.replace(row, image=(row.image + hu).astype(np.int16)) for row in rows]


@pytest.fixture(scope="module")
def halves() -> tuple[list[SliceRow], list[SliceRow]]:
    """Real slices of the scans of subset 2, and of those of subset 3."""
    one, other = (lungforge.open_slices(REAL, subset).rows(range(0, 36, 2)) for subset in (2, 3))
    return one, other


def test_real_slices_of_other_scans_come_out_as_real(
    halves: tuple[list[SliceRow], list[SliceRow]],
) -> None:
    one, other = halves
    results = lungforge.evaluate(one, other, extractor=None)
    assert results.verdict == results.realism == results.units == "good"
    assert (results.frechet, results.kid) == (None, None)
    assert results.near_duplicates == ()
    assert results.radiomic is not None
    assert results.radiomic.p_value is not None
    assert results.radiomic.p_value > 0.05
    assert results.moved == ()
    assert all(row.real is not None and row.real > 0.95 for row in results.map_agreement)
    assert results.synthetic == SetSize(18, len({scan_of(row.series_uid) for row in other}))
    (note,) = results.notes
    assert note.startswith("the smaller side has 18 slices, and ")
    # The distance is that of the library over all slices.
    features = [
        np.stack([radiomic_features(row.image, row.label, row.spacing_mm) for row in rows]) for rows in halves
    ]
    by_region = radiomic_distances(features[0], features[1], ("lungs", "body", "nodules"))
    assert results.radiomic.value == pytest.approx(sum(by_region.values()))
    # The medians are those of all pixels of the class.
    (body,) = [row for row in results.hounsfield_units if row.class_name == "body"]
    pixels = np.concatenate([row.image[row.label == classes.BODY] for row in one])
    assert body.real is not None
    assert abs(body.real - np.median(np.clip(pixels, -1000, 400))) <= 1


def test_200_hu_too_many_come_out_as_broken(halves: tuple[list[SliceRow], list[SliceRow]]) -> None:
    results = lungforge.evaluate(halves[0], brighter(halves[1], 200), extractor=None)
    assert results.verdict == results.realism == results.units == "poor"
    by_name = {row.class_name: row for row in results.hounsfield_units}
    assert by_name["body"].difference is not None
    assert 150 < by_name["body"].difference < 250
    assert any(shift.unit == "HU" and shift.region == "body" for shift in results.moved)
    assert "18 slices" in results.text.splitlines()[0]
    assert results.text.splitlines()[0].endswith(": poor")
    assert f"body {by_name['body'].difference:+d} HU" in str(results)


def test_copies_come_out_as_copies(halves: tuple[list[SliceRow], list[SliceRow]]) -> None:
    one, other = halves
    mirrored = [
        dataclasses.replace(
            row, series_uid="of nobody", image=row.image[:, ::-1].copy(), label=row.label[:, ::-1].copy()
        )
        for row in one[:2]
    ]
    results = lungforge.evaluate(one[:8], [*mirrored, *other[:4]], extractor=None)
    assert results.verdict == "copies"
    assert [each.position for each in results.near_duplicates] == [0, 1]
    assert [(each.series_uid, each.slice_index) for each in results.near_duplicates] == [
        (row.series_uid, row.slice_index) for row in one[:2]
    ]
    assert "mirrored" in results.near_duplicates[0].view
    # The same among the slices of training, when they are at hand.
    unseen = lungforge.evaluate(other[4:8], [*mirrored, *other[:2]], extractor=None)
    assert unseen.near_duplicates == ()
    searched = lungforge.evaluate(other[4:8], [*mirrored, *other[:2]], training=one[:2], extractor=None)
    assert [each.position for each in searched.near_duplicates] == [0, 1]


def test_shared_scans_are_named(halves: tuple[list[SliceRow], list[SliceRow]]) -> None:
    one, other = halves
    training = [one[0], other[0]]
    results = lungforge.evaluate(one[:4], brighter(one[:4], 60), training=training, extractor=None)
    scans = len({scan_of(row.series_uid) for row in one[:4]})
    assert any(f"{scans} scans are on both sides" in note for note in results.notes)
    assert any(
        "1 of the real scans are among those that the generator was trained on" in note
        for note in results.notes
    )


@pytest.mark.parametrize("known", [True, False])
def test_scans_that_the_model_was_trained_on_are_named(
    known: bool, halves: tuple[list[SliceRow], list[SliceRow]], tmp_path: Path
) -> None:
    one, other = halves
    model = DatasetWriter(str(tmp_path / "model"), Kind.MODEL, {})
    details = {"series_uids": [row.series_uid for row in one[:2]]} if known else {}
    model.commit([model.write_file("config.json", b"{}")], details)
    rows = [
        sample_row(
            slice_row(series_uid=row.series_uid, image=row.image, label=row.label, nodules=list(row.nodules)),
            sample_id=str(number),
        )
        for number, row in enumerate(other[:4])
    ]
    parents = (Dataset.open(model.uri).parent(),)
    samples = DatasetWriter(str(tmp_path / "samples"), Kind.SAMPLES, {}, parents=parents)
    samples.commit([samples.write_part("a", table_from_rows(Kind.SAMPLES, rows))])
    for given in (samples.uri, lungforge.open_slices(samples.uri)):
        results = lungforge.evaluate(one[:4], given, extractor=None)
        scans = len({scan_of(row.series_uid) for row in one[:2]})
        note = f"{scans} of the real scans are among those that the generator was trained on"
        assert any(each.startswith(note) for each in results.notes) == known
        assert any("was trained on are not known" in each for each in results.notes) != known


def test_one_scan_is_not_judged(halves: tuple[list[SliceRow], list[SliceRow]]) -> None:
    alone = [dataclasses.replace(row, series_uid="one") for row in halves[0][:6]]
    results = lungforge.evaluate(alone, halves[1][:6], extractor=None)
    assert results.realism == "not measured"
    assert results.radiomic is not None
    assert results.radiomic.baseline is None
    assert any("too few scans for tests" in note for note in results.notes)
    assert any("no real-vs-real baseline" in note for note in results.notes)


@pytest.mark.slow
def test_the_results_are_the_same_each_time_and_json(
    halves: tuple[list[SliceRow], list[SliceRow]],
) -> None:
    one, other = halves[0][:8], halves[1][:8]
    results = lungforge.evaluate(one, other, extractor=None)
    assert lungforge.evaluate(one, other, extractor=None) == results
    document = json.loads(results.to_json())
    assert document["verdict"] == results.verdict
    assert document["real"] == {"slices": 8, "scans": results.real.scans}
    assert len(document["hounsfield_units"]) == 6
    with pytest.raises(dataclasses.FrozenInstanceError):
        results.notes = ()  # type: ignore[misc]


def test_without_the_network_its_extra_is_named(
    halves: tuple[list[SliceRow], list[SliceRow]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    results = lungforge.evaluate(halves[0][:4], halves[1][:4])
    assert results.frechet is None
    assert any(note.endswith("pip install 'lungforge[eval]'") for note in results.notes)


def test_what_cannot_be_evaluated_is_named(
    slices: str, halves: tuple[list[SliceRow], list[SliceRow]]
) -> None:
    with pytest.raises(InputError, match="the real slices have 64 x 64 px and the synthetic ones 16 x 16"):
        lungforge.evaluate(halves[0][:4], slices, extractor=None)
    with pytest.raises(InputError, match="1 synthetic slice; give two or more"):
        lungforge.evaluate(halves[0][:4], halves[1][:1], extractor=None)
    with pytest.raises(InputError, match="a ndarray holds no slices; give a URI"):
        lungforge.evaluate(halves[0], np.zeros((2, 64, 64), np.int16), extractor=None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="extractor is 'vgg'; choose one of efficientnet-lite0"):
        lungforge.evaluate(halves[0], halves[1], extractor="vgg")  # type: ignore[arg-type]


def evaluation(
    ratio: float = 1.0,
    p: float | None = 0.01,
    kid_p: float | None = None,
    body: int = 0,
    body_p: float | None = 0.01,
) -> Evaluation:
    """An evaluation in which only what is given differs from good."""
    size = SetSize(100, 50)
    return Evaluation(
        real=size,
        synthetic=size,
        radiomic=Distance(
            "radiomic distance", 5.0, BaselineComparison(50, 10, 2.0, 0.1, 2.0 * ratio, 0.1), p
        ),
        moved=(),
        frechet=None,
        kid=None if kid_p is None else Distance("KID", 0.1, None, kid_p),
        hounsfield_units=(
            ClassUnits("body", 10, 10 + body, body_p, judged=True),
            ClassUnits("nodule", 0, 300, 0.001, judged=False),
        ),
        map_agreement=(Agreement("lungs", 0.99, None),),
        near_duplicates=(),
        highest_correlation=0.3,
        notes=(),
    )


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        (evaluation(), "good"),
        (evaluation(ratio=1.2), "good"),
        (evaluation(ratio=1.3), "fair"),
        (evaluation(ratio=1.3, p=None), "fair"),
        (evaluation(ratio=1.3, p=0.06), "good"),  # no more than chance
        (evaluation(ratio=3.1), "poor"),
        (evaluation(ratio=3.1, p=0.06), "fair"),
        (evaluation(p=0.06, kid_p=0.04), "fair"),
        (evaluation(kid_p=0.04), "fair"),
        (evaluation(kid_p=0.06), "good"),
        (evaluation(body=16), "fair"),
        (evaluation(body=-51), "poor"),
        (evaluation(body=-51, body_p=0.3), "good"),  # no more than chance
        (evaluation(body=-51, body_p=None), "poor"),  # nothing rules it out
    ],
)
def test_the_verdict_is_that_of_the_worst(results: Evaluation, verdict: str) -> None:
    assert results.verdict == verdict


@pytest.mark.slow
def test_distances_of_the_network(halves: tuple[list[SliceRow], list[SliceRow]]) -> None:
    one, other = halves
    results = lungforge.evaluate(one, other)
    assert results.verdict == "good"
    assert results.frechet is not None
    assert results.kid is not None
    extractor = load_extractor("efficientnet-lite0")
    features = [extractor.embed(np.stack([row.image for row in rows])) for rows in halves]
    assert results.frechet.name == "Fréchet distance (EfficientNet-Lite0)"
    assert results.frechet.value == pytest.approx(frechet_distance_of_features(*features))
    assert results.kid.value == pytest.approx(kid(*features), abs=0.005)  # the mean over random subsets
    assert results.kid.baseline is not None
    assert results.kid.baseline.images == 9
    assert results.kid.p_value is not None
    assert results.kid.p_value > 0.05


@pytest.mark.slow
@pytest.mark.real_data
def test_held_out_slices_of_luna16(tmp_path: Path) -> None:
    """All of subset 3 against all of subset 2, sliced in this process."""
    folder = os.environ.get("LUNGFORGE_REAL_DATA")
    if not folder:
        pytest.skip("LUNGFORGE_REAL_DATA does not name the folder of real slices")
    root = Path(folder, "luna16_mini")
    annotations = read_annotations(str(root / "annotations.csv"))

    def sliced(subset: int) -> list[SliceRow]:
        rows: list[SliceRow] = []
        for path in sorted(root.glob(f"subset{subset}/*.mhd")):
            scan = lungforge.read_volume(str(path))
            nodules = [
                (*each.point_mm, each.diameter_mm)
                for each in annotations.get(path.stem, ())
                # Of some stacks of one slice, an annotation lies beside it.
                if sphere_nodules([each], scan.geometry)[0]
            ]
            rows += lungforge.slice_volume(scan, nodules=nodules, size=64) if nodules else []
        return rows

    one, other = sliced(2), sliced(3)
    assert min(len(one), len(other)) >= 40
    assert lungforge.evaluate(one, other, extractor=None).verdict == "good"
    broken = lungforge.evaluate(one, brighter(other, 200), extractor=None)
    assert broken.verdict == "poor"
    assert broken.radiomic is not None
    assert broken.radiomic.p_value is not None
    assert broken.radiomic.p_value < 0.01
