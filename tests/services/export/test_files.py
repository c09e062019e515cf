"""The files of a row: their names, their values, and what they say of themselves."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from lungforge import __version__
from lungforge.ct.classes import BODY, NODULE
from lungforge.datasets import Dataset, Kind
from services.export.config import ExportConfig
from services.export.formats.base import make_format
from services.export.rows import UniqueNames, make_item, row_name


def make(dataset: Dataset, row: dict[str, Any], **options: Any) -> dict[str, bytes]:
    config = ExportConfig(data=("-",), out="-", **options)
    return make_format(config).encode(make_item("n", row, dataset))


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def text(data: bytes) -> dict[str, str]:
    return dict(Image.open(io.BytesIO(data)).text)  # type: ignore[attr-defined]


def volume(folder: Path, data: bytes) -> SimpleITK.Image:
    path = folder / "read.mha"
    path.write_bytes(data)
    return SimpleITK.ReadImage(path)


def test_the_window_is_black_to_white_and_what_is_outside_is_clipped(build) -> None:
    row = build.slice()
    dataset = build.dataset(Kind.SLICES, [row])
    row["image"][0, :6] = (-32768, -1000, -997, -300, 400, 32767)
    # -300 HU is half way: 127.5, rounded to even.
    assert pixels(make(dataset, row)["n_ct.png"])[0, :6].tolist() == [0, 0, 1, 128, 255, 255]
    narrow = make(dataset, row, window=(-300, 400))["n_ct.png"]
    assert pixels(narrow)[0, :6].tolist() == [0, 0, 0, 0, 255, 255]
    assert text(narrow)["Window"] == "-300 to 400 HU as 0 to 255"


def test_hounsfield_units_come_back_exactly_from_16_bits(build) -> None:
    row = build.slice()
    dataset = build.dataset(Kind.SLICES, [row])
    row["image"][0, :4] = (-32768, -3024, -1, 32767)
    data = make(dataset, row)["n_hu.png"]
    assert pixels(data)[0, :4].tolist() == [0, 29744, 32767, 65535]
    offset = int(text(data)["HU"].removeprefix("grey value - "))
    np.testing.assert_array_equal(pixels(data).astype(int) - offset, row["image"])


def test_the_map_is_the_class(build) -> None:
    row = build.slice()
    data = make(build.dataset(Kind.SLICES, [row]), row)["n_map.png"]
    np.testing.assert_array_equal(pixels(data), row["label"])
    assert text(data)["Classes"] == ("0 background, 1 body, 2 left lung, 3 right lung, 4 trachea, 5 nodule")


def test_metaimages_hold_hu_map_and_the_spacing_of_x_and_y(build, tmp_path: Path) -> None:
    row = build.slice()
    row["image"][0, :2] = (-32768, 32767)
    files = make(build.dataset(Kind.SLICES, [row]), row, format="metaimage")
    assert list(files) == ["n_hu.mha", "n_map.mha"]
    for data, values in zip(files.values(), (row["image"], row["label"]), strict=True):
        image = volume(tmp_path, data)
        assert image.GetSpacing() == (0.75, 2.0)
        array = SimpleITK.GetArrayFromImage(image)
        assert array.dtype == values.dtype
        np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("format_", ["png", "coco", "imagefolder"])
def test_synthetic_pictures_say_so_and_real_ones_do_not(build, format_: str) -> None:
    sample, real = build.sample(), build.slice()
    samples, slices = build.dataset(Kind.SAMPLES, [sample]), build.dataset(Kind.SLICES, [real], name="real")
    for data in make(samples, sample, format=format_).values():
        assert (
            text(data)["Synthetic"] == f"LungForge {__version__}, sample 0123abcd, model sha256 {'ab' * 32}"
        )
        assert "synthetic CT" in text(data)["Description"]
        assert text(data)["Source"].endswith(samples.manifest_sha256)
    for data in make(slices, real, format=format_).values():
        assert "synthetic" not in str(text(data)).lower()
        assert text(data)["Source"].endswith(slices.manifest_sha256)


def test_synthetic_metaimages_say_so_and_real_ones_do_not(build, tmp_path: Path) -> None:
    sample, real = build.sample(), build.slice()
    for data in make(build.dataset(Kind.SAMPLES, [sample]), sample, format="metaimage").values():
        tag = volume(tmp_path, data).GetMetaData("Synthetic")
        assert tag == f"LungForge {__version__}, sample 0123abcd, model sha256 {'ab' * 32}"
    slices = build.dataset(Kind.SLICES, [real], name="real")
    for data in make(slices, real, format="metaimage").values():
        assert b"ynthetic" not in data


def test_names_say_whether_it_is_real_and_which_it_is(build) -> None:
    assert row_name(Kind.SAMPLES, build.sample()) == "synthetic_0123abcd"
    assert row_name(Kind.SLICES, build.slice(12)) == "real_1.2.3_z0012"
    assert row_name(Kind.CROPS, build.crop(-0.4, 9.6)) == "real_1.2.3_z0007_x0_y10_nodule"


def test_an_identifier_cannot_lead_out_of_the_folder(build) -> None:
    assert row_name(Kind.SAMPLES, build.sample("../../etc/pass wd")) == "synthetic_.._.._etc_pass_wd"


def test_two_rows_of_one_name_get_different_files(build) -> None:
    names = UniqueNames()
    first, second = build.crop(40.2), build.crop(39.8)
    assert [names.next(Kind.CROPS, row) for row in (first, second, build.crop(label=0))] == [
        "real_1.2.3_z0007_x40_y9_nodule",
        "real_1.2.3_z0007_x40_y9_nodule_2",
        "real_1.2.3_z0007_x40_y9_no_nodule",
    ]
    made = [names.next(Kind.SAMPLES, build.sample(name)) for name in ("a", "a_2", "a")]
    assert made == ["synthetic_a", "synthetic_a_2", "synthetic_a_3"]


def test_a_class_folder_holds_the_crop_around_each_nodule(build) -> None:
    row = build.slice()
    row["image"][11, 6] = 400
    row["nodules"].append({"x": 40.0, "y": 39.4, "diameter_px": 2.0, "diameter_mm": 2.0})
    files = make(build.dataset(Kind.SLICES, [row]), row, format="imagefolder", crop=16)
    assert list(files) == ["nodule/n_x6_y11_ct.png", "nodule/n_x40_y39_ct.png"]
    first, second = map(pixels, files.values())
    assert first.shape == second.shape == (16, 16)
    assert first[8, 8] == 255, "the nodule's middle is the crop's"
    assert (first[:, :2] == 0).all(), "past the edge of the slice is air"
    assert (second[9:] == 0).all()


def test_nodules_at_one_pixel_give_one_crop(build) -> None:
    row = build.slice()
    row["nodules"].append(row["nodules"][0] | {"x": 6.3})
    assert len(make(build.dataset(Kind.SLICES, [row]), row, format="imagefolder")) == 1


def test_a_healthy_slice_gives_a_crop_around_a_pixel_of_its_lungs(build) -> None:
    row = build.slice(0, healthy=True)
    dataset = build.dataset(Kind.SLICES, [row])
    names = set()
    for index in range(40):
        ((name, data),) = make(dataset, row | {"slice_index": index}, format="imagefolder").items()
        # -850 and -840 HU in the lungs, 40 HU around them.
        assert pixels(data)[16, 16] in (27, 29)
        assert name.startswith("no_nodule/n_x")
        names.add(name)
    assert len(names) > 30, "every slice has a place of its own"
    assert make(dataset, row | {"slice_index": 7}, format="imagefolder").keys() <= names


def test_the_place_of_a_healthy_crop_is_decided_by_the_identity_alone(build) -> None:
    real, sample = build.slice(healthy=True), build.sample(healthy=True)
    slices = build.dataset(Kind.SLICES, [real], name="slices")
    samples = build.dataset(Kind.SAMPLES, [sample], name="samples")
    # Golden: another place would change the exports of others.
    assert list(make(slices, real, format="imagefolder")) == ["no_nodule/n_x40_y19_ct.png"]
    assert list(make(samples, sample, format="imagefolder")) == ["no_nodule/n_x30_y4_ct.png"]


def test_a_slice_without_lungs_or_with_an_unlisted_nodule_is_no_healthy_crop(build) -> None:
    row = build.slice(healthy=True)
    dataset = build.dataset(Kind.SLICES, [row])
    assert make(dataset, row | {"label": np.full_like(row["label"], BODY)}, format="imagefolder") == {}
    row["label"][10, 10] = NODULE
    assert make(dataset, row, format="imagefolder") == {}


def test_crops_stay_as_they_are(build) -> None:
    row = build.crop(hu=-300)
    dataset = build.dataset(Kind.CROPS, [row])
    files = make(dataset, row, format="imagefolder", crop=64)
    assert list(files) == ["nodule/n_ct.png"]
    assert pixels(files["nodule/n_ct.png"]).tolist() == [[128] * 32] * 32
    assert list(make(dataset, row)) == ["n_ct.png", "n_hu.png"]
