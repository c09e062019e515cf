"""One volume at a time, without Ray: what is made of it, and that it is right."""

import csv
import dataclasses
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from lungforge.config import identity
from lungforge.ct.classes import NODULE
from lungforge.ct.io.luna16_tables import read_annotations
from lungforge.ct.phantoms.generate import generate_phantom, write_phantoms
from lungforge.datasets import Dataset, DatasetWriter, Kind, tensor_values
from services.preprocess import volume
from services.preprocess.config import PreprocessConfig
from services.preprocess.survey import survey
from services.preprocess.volume import VolumeOutcome, VolumeTask

SERIES, SIZE, SLICES = 9, 128, 30


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("luna16")
    write_phantoms(str(folder), series=SERIES, seed=2, size=SIZE, slices=SLICES)
    return folder


def make(config: PreprocessConfig) -> tuple[list[VolumeOutcome], list[dict]]:
    """All volumes in turn, and the rows that were made of them."""
    slices = DatasetWriter(config.out, Kind.SLICES, identity(config), config.seed)
    crops = DatasetWriter(f"{config.out}/crops", Kind.CROPS, identity(config), config.seed)
    task = VolumeTask(config, slices, crops)
    outcomes = [task(one) for one in survey(config).volumes]
    slices.commit([outcome.slices for outcome in outcomes if outcome.slices])
    if config.crops:
        crops.commit([outcome.crops for outcome in outcomes if outcome.crops])
    return outcomes, list(rows(Dataset.open(config.out)))


def rows(dataset: Dataset) -> Iterator[dict]:
    for part in dataset.parts:
        table = dataset.read_part(part)
        tensors = [name for name in ("image", "label") if hasattr(table.column(name).type, "shape")]
        arrays = {name: tensor_values(table.column(name)) for name in tensors}
        for index, row in enumerate(table.drop(tensors).to_pylist()):
            yield row | {name: values[index] for name, values in arrays.items()}


def header(source: Path, series_uid: str) -> SimpleITK.Image:
    (path,) = source.glob(f"subset*/{series_uid}.mhd")
    return SimpleITK.ReadImage(str(path))


@pytest.mark.parametrize("size", [64, None, 96])
def test_nodule_centres_are_where_simpleitk_maps_them(source, tmp_path, size):
    _, made = make(PreprocessConfig(str(source), str(tmp_path), size=size, minimum_diameter_mm=0))
    annotations = read_annotations(str(source / "annotations.csv"))
    seen = 0
    for uid, nodules in annotations.items():
        image = header(source, uid)
        for nodule in nodules:
            x, y, z = image.TransformPhysicalPointToContinuousIndex((nodule.x_mm, nodule.y_mm, nodule.z_mm))
            (row,) = [r for r in made if r["series_uid"] == uid and r["slice_index"] == round(z)]
            scale = row["image"].shape[0] / SIZE
            expected = ((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5)
            distances = [np.hypot(n["x"] - expected[0], n["y"] - expected[1]) for n in row["nodules"]]
            nearest = row["nodules"][int(np.argmin(distances))]
            assert min(distances) < 0.5
            assert nearest["diameter_mm"] == nodule.diameter_mm
            spacing = image.GetSpacing()[0] / scale
            assert nearest["diameter_px"] == pytest.approx(nodule.diameter_mm / spacing)
            assert row["spacing_mm"] == pytest.approx([spacing, spacing])
            assert abs(row["z_mm"] - nodule.z_mm) <= image.GetSpacing()[2] / 2 + 1e-6
            # The nodule is in the map, at its place, however few pixels the shrink leaves.
            marked = np.argwhere(row["label"] == NODULE)[:, ::-1]
            assert np.linalg.norm(marked - expected, axis=1).min() <= max(1.5, nearest["diameter_px"] / 2)
            seen += 1
    assert seen == sum(map(len, annotations.values())) > 15


def test_images_are_the_volume_in_hounsfield_units(source, tmp_path):
    _, made = make(PreprocessConfig(str(source), str(tmp_path), size=None, slices="nodules"))
    for row in made:
        volume = SimpleITK.GetArrayFromImage(header(source, row["series_uid"]))
        np.testing.assert_array_equal(row["image"], volume[row["slice_index"]])


def test_maps_agree_with_the_truth(source, tmp_path):
    phantoms = [generate_phantom(2, index, size=SIZE, slices=SLICES) for index in (0, 2, 4)]
    outcomes, made = make(PreprocessConfig(str(source), str(tmp_path), size=None, slices="all"))
    assert {outcome.subset for outcome in outcomes if outcome.derived} == {4}
    for phantom in phantoms:
        own = [row for row in made if row["series_uid"] == phantom.volume.series_uid]
        assert [row["slice_index"] for row in own] == list(range(SLICES))
        label = np.stack([row["label"] for row in own])
        for value in (2, 3):
            mine, truth = (label == value), (phantom.anatomy == value) & (label != NODULE)
            assert 2 * (mine & truth).sum() / (mine.sum() + truth.sum()) > (
                0.999 if phantom.has_mask else 0.9
            )


def test_which_slices(source, tmp_path):
    def taken(**options) -> dict[str, list[int]]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        made = make(PreprocessConfig(str(source), str(folder), size=32, **options))[1]
        found: dict[str, list[int]] = {}
        for row in made:
            found.setdefault(row["series_uid"], []).append(row["slice_index"])
        return found

    centres, crossed = taken(), taken(slices="nodules")
    healthy, every_third = taken(healthy_every=1), taken(healthy_every=3)
    every_nodule = taken(slices="nodules", minimum_diameter_mm=0)
    for uid, indices in every_nodule.items():
        assert set(centres.get(uid, [])) <= set(crossed.get(uid, [])) <= set(indices)
        added = sorted(set(healthy[uid]) - set(centres.get(uid, [])))
        # A slice that only a nodule too small to be taken crosses is not healthy.
        assert not set(added) & set(indices)
        assert sorted(set(every_third[uid]) - set(centres.get(uid, []))) == added[::3]
    for index in range(SERIES):
        phantom = generate_phantom(2, index, size=SIZE, slices=SLICES)
        if phantom.has_mask:
            with_lung = np.flatnonzero(np.isin(phantom.anatomy, (2, 3)).any(axis=(1, 2))).tolist()
            uid = phantom.volume.series_uid
            crossing = set(every_nodule.get(uid, []))
            assert [z for z in healthy[uid] if z not in crossing] == [
                z for z in with_lung if z not in crossing
            ]


def test_spacing_is_resampled_to_and_nodules_beyond_the_image_select_nothing(source, tmp_path):
    outcomes, made = make(PreprocessConfig(str(source), str(tmp_path), size=48, spacing_mm=2.0))
    assert any("lies beyond the image" in reason for outcome in outcomes for reason in outcome.skipped)
    assert {tuple(row["spacing_mm"]) for row in made} == {(2.0, 2.0)}
    assert all(row["nodules"] for row in made)
    for row in made:
        image = header(source, row["series_uid"])
        centre = np.array([(SIZE - 1) / 2, (SIZE - 1) / 2, row["slice_index"]]).tolist()
        middle = np.array(image.TransformContinuousIndexToPhysicalPoint(centre))
        for nodule in row["nodules"]:
            sign = image.GetDirection()[0]
            x_mm = middle[0] + sign * 2.0 * (nodule["x"] - 23.5)
            near = read_annotations(str(source / "annotations.csv"))[row["series_uid"]]
            assert min(abs(n.x_mm - x_mm) for n in near) < 1e-6


def test_crops_show_their_candidates(source, tmp_path):
    outcomes, _ = make(PreprocessConfig(str(source), str(tmp_path), crops=True))
    made = list(rows(Dataset.open(f"{tmp_path}/crops", Kind.CROPS)))
    with (source / "candidates_V2.csv").open(encoding="utf-8") as file:
        nodules = sum(row["class"] == "1" for row in csv.DictReader(file))
    assert sum(row["label"] for row in made) == nodules == sum(outcome.nodule_crops for outcome in outcomes)
    assert len(made) == 3 * nodules
    for row in made:
        volume = SimpleITK.GetArrayFromImage(header(source, row["series_uid"]))
        x, y = round(row["x"]), round(row["y"])
        assert row["image"].shape == (32, 32)
        assert row["image"][16, 16] == volume[row["slice_index"], y, x]


def test_a_part_that_is_there_is_not_made_again(source, tmp_path, monkeypatch):
    config = PreprocessConfig(str(source), str(tmp_path), size=32, healthy_every=4, crops=True)
    first, _ = make(config)
    monkeypatch.setattr(volume, "make_rows", None)  # to call it would be a TypeError
    again, _ = make(config)
    assert [dataclasses.replace(outcome, resumed=False) for outcome in again] == first
    assert all(outcome.resumed for outcome in again)


def test_a_volume_is_read_again_when_its_storage_fails_and_the_fault_surfaces_in_the_end(
    source, tmp_path, monkeypatch
):
    config = PreprocessConfig(str(source), str(tmp_path), size=32)
    real, calls = volume.make_rows, []

    def failing(times: int):
        def make_rows(*arguments):
            calls.append(arguments)
            if len(calls) <= times:
                raise OSError(28, "No space left on device")
            return real(*arguments)

        return make_rows

    monkeypatch.setattr(volume, "PAUSES_S", (0.0, 0.0))
    task = VolumeTask(
        config,
        DatasetWriter(config.out, Kind.SLICES, identity(config), 0),
        DatasetWriter(f"{config.out}/crops", Kind.CROPS, identity(config), 0),
    )
    source_volume = next(one for one in survey(config).volumes if one.annotations)
    monkeypatch.setattr(volume, "make_rows", failing(2))
    assert task(source_volume).slices.rows >= 1
    shutil.rmtree(tmp_path)
    calls.clear()
    monkeypatch.setattr(volume, "make_rows", failing(3))
    with pytest.raises(OSError, match="No space left on device"):
        task(source_volume)


def without_lungs(hu):
    random = np.random.default_rng(0)
    return np.where(hu < -950, hu, 40 + random.integers(-30, 30, hu.shape)).astype(np.int16)


@pytest.mark.parametrize(
    ("change", "fields", "reason"),
    [
        (without_lungs, {}, "no lung is found in it"),
        (lambda hu: hu + 1024, {}, "none is negative, so they are no Hounsfield units"),
        (lambda hu: np.where(hu < -500, 3, 0), {}, "only 2 different ones: a mask, not a CT"),
        (lambda hu: hu, {"TransformMatrix": "1 0 0 0 0 -1 0 1 0"}, "its slices are coronal, not axial"),
        (lambda hu: hu, {"Modality": "MET_MOD_MR"}, "its modality is MR, not CT"),
        (lambda hu: hu + 1024, {"ElementType": "MET_USHORT"}, r"values \(MET_USHORT\) cannot be below 0"),
    ],
)
def test_what_is_no_axial_ct_in_hounsfield_units_is_rejected(source, tmp_path, change, fields, reason):
    (tmp_path / "source").mkdir()
    header_file = min(source.glob("subset0/*.mhd"))
    copy = tmp_path / "source" / "scan.mhd"
    image = SimpleITK.ReadImage(str(header_file))
    values = SimpleITK.GetArrayFromImage(image).astype(np.int32)
    lines = [
        line
        for line in header_file.read_text(encoding="utf-8").splitlines()
        if line.partition(" ")[0] not in {*fields, "ElementDataFile", "CompressedData", "CompressedDataSize"}
    ]
    lines += [f"{name} = {value}" for name, value in fields.items()]
    copy.write_text("\n".join([*lines, "ElementDataFile = scan.raw"]) + "\n", encoding="utf-8")
    copy.with_suffix(".raw").write_bytes(change(values).astype("<i2").tobytes())
    config = PreprocessConfig(str(tmp_path / "source"), str(tmp_path / "out"), size=32, slices="all")
    task = VolumeTask(
        config,
        DatasetWriter(config.out, Kind.SLICES, identity(config), 0),
        DatasetWriter(f"{config.out}/crops", Kind.CROPS, identity(config), 0),
    )
    (outcome,) = map(task, survey(config).volumes)
    assert outcome.rejected.startswith(f"{copy}: ")
    assert re.search(reason, outcome.rejected)


def test_excluded_findings_are_in_the_frame_of_the_images(source, tmp_path):
    """The nodules themselves, given as excluded: the frame is that of the rows' nodules and heights."""
    folder = tmp_path / "luna16"
    shutil.copytree(source, folder)
    table = (folder / "annotations.csv").read_text("utf-8")
    (folder / "annotations_excluded.csv").write_text(table, "utf-8")
    outcomes, made = make(PreprocessConfig(str(folder), str(tmp_path / "all"), size=96, slices="all"))
    annotations = read_annotations(str(folder / "annotations.csv"))
    seen = 0
    for outcome in outcomes:
        of_scan = [row for row in made if row["series_uid"] == outcome.series_uid]
        assert len(outcome.excluded) == len(annotations.get(outcome.series_uid, ()))
        for annotation, (x, y, z, diameter) in zip(
            annotations.get(outcome.series_uid, ()), outcome.excluded, strict=True
        ):
            row = min(of_scan, key=lambda row: abs(row["z_mm"] - z))
            height, width = row["spacing_mm"]
            distances = [np.hypot(n["x"] * width - x, n["y"] * height - y) for n in row["nodules"]]
            assert min(distances) < 0.01
            assert row["nodules"][int(np.argmin(distances))]["diameter_mm"] == diameter
            assert z == pytest.approx(annotation.z_mm, abs=0.006)
            seen += 1
    assert seen > 15
    chosen, _ = make(PreprocessConfig(str(folder), str(tmp_path / "chosen"), size=96))
    assert not any(outcome.excluded for outcome in chosen)
