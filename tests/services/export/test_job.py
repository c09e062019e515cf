"""``lungforge export``: whole folders, the same each time, and never two in one place."""

import threading
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import ImageFolder

from lungforge.datasets import DatasetWriter, Kind
from lungforge.errors import InputError
from lungforge.storage import open_uri
from services.export import job, provenance
from services.export.config import ExportConfig
from services.export.formats import FORMATS
from services.export.job import ExportResult, run


def test_pictures_of_slices(build, tmp_path: Path) -> None:
    dataset = build.dataset(Kind.SLICES, [build.slice(3)], [build.slice(4)])
    result = run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / "out")))
    assert result == ExportResult(
        out=str(tmp_path / "out"),
        format="png",
        rows=2,
        files={"ct": 2, "hu": 2, "map": 2},
        classes={},
        boxes=0,
        small_boxes=0,
        splits={},
        left_out=0,
        written=True,
    )
    names = [f"real_1.2.3_z000{index}_{sort}.png" for index in (3, 4) for sort in ("ct", "hu", "map")]
    assert list(build.tree(tmp_path / "out")) == ["files.csv", "provenance.json", *names]


@pytest.mark.parametrize(
    ("format_", "endings"),
    [
        ("png", ["_ct.png", "_hu.png", "_map.png"]),
        ("coco", ["_ct.png"]),
        ("metaimage", ["_hu.mha", "_map.mha"]),
        ("nifti", ["_hu.nii.gz", "_map.nii.gz"]),
        ("dicom", ["_ct.dcm", "_seg.dcm"]),
    ],
)
def test_synthetic_ones_are_named_so(
    build, samples: str, tmp_path: Path, format_: Any, endings: list[str]
) -> None:
    run(ExportConfig(data=(samples,), out=str(tmp_path / "out"), format=format_))
    names = {name for name in build.tree(tmp_path / "out") if not name.endswith((".json", ".csv"))}
    assert names == {f"synthetic_{number:02x}{ending}" for number in range(7) for ending in endings}


def test_class_folders_are_read_by_torchvision(samples: str, tmp_path: Path) -> None:
    result = run(ExportConfig(data=(samples,), out=str(tmp_path / "out"), format="imagefolder"))
    assert result.classes == {"nodule": 4, "no_nodule": 3}
    folder = ImageFolder(str(tmp_path / "out"))
    assert folder.classes == ["no_nodule", "nodule"]
    assert [folder.targets.count(target) for target in (0, 1)] == [3, 4]
    assert folder[0][0].size == (32, 32)
    assert all(Path(path).name.startswith("synthetic_") for path, _ in folder.samples)


def test_crops_in_class_folders_are_read_by_torchvision(build, tmp_path: Path) -> None:
    rows = [build.crop(), build.crop(40.3), build.crop(label=0)]
    dataset = build.dataset(Kind.CROPS, rows)
    run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / "out"), format="imagefolder"))
    folder = ImageFolder(str(tmp_path / "out"))
    assert [Path(path).name for path, _ in folder.samples] == [
        "real_1.2.3_z0007_x40_y9_no_nodule_ct.png",
        "real_1.2.3_z0007_x40_y9_nodule_2_ct.png",
        "real_1.2.3_z0007_x40_y9_nodule_ct.png",
    ]
    assert folder.targets == [0, 1, 1]


def test_an_empty_class_is_named(build, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = build.dataset(Kind.SLICES, [build.slice()])
    result = run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / "out"), format="imagefolder"))
    assert result.classes == {"no_nodule": 0, "nodule": 1}
    assert "no_nodule is empty" in capsys.readouterr().err


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("writers", [1, 3])
def test_the_bytes_are_the_same_each_time_and_with_any_number_of_threads(
    build, samples: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: Any, writers: int
) -> None:
    run(ExportConfig(data=(samples,), out=str(tmp_path / "a"), format=format_))
    monkeypatch.setattr(job, "WRITERS", writers)
    run(ExportConfig(data=(samples,), out=str(tmp_path / "b"), format=format_))
    assert build.tree(tmp_path / "a") == build.tree(tmp_path / "b")


def test_rows_of_several_parts_are_written_at_a_time(
    build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Preprocessing makes one part per scan, often of one row: waiting for each would write one at a time."""
    dataset = build.dataset(Kind.SLICES, *([build.slice(index)] for index in range(6)))
    together = threading.Barrier(3, timeout=30)
    write = job.write_bytes_atomic

    def wait_and_write(uri: str, data: bytes) -> None:
        if not uri.endswith("files.csv"):  # the only one of its kind, after all others
            together.wait()
        write(uri, data)

    monkeypatch.setattr(job, "write_bytes_atomic", wait_and_write)
    monkeypatch.setattr(job, "WRITERS", 3)
    assert run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / "out"))).files["ct"] == 6


def test_a_whole_export_is_not_written_again(
    samples: str, store_uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ExportConfig(data=(samples,), out=store_uri, format="imagefolder")
    first = run(config)
    fs, path = open_uri(store_uri)
    names = sorted(fs.find(path))
    assert len(names) == 9
    assert fs.exists(f"{path}/provenance.json")
    for module in (job, provenance):
        monkeypatch.setattr(module, "write_bytes_atomic", lambda uri, data: pytest.fail(f"wrote {uri}"))
    second = run(config)
    assert (first.written, second.written) == (True, False)
    assert (second.files, second.classes) == (first.files, first.classes)
    assert "is complete already; nothing to write" in capsys.readouterr().err
    assert sorted(fs.find(path)) == names


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"format": "coco"}, "format (png there, coco here)"),
        ({"window": (-1350, 150)}, "window ([-1000, 400] there, [-1350, 150] here)"),
    ],
)
def test_other_options_do_not_go_to_the_same_place(
    build, samples: str, tmp_path: Path, options: dict[str, Any], difference: str
) -> None:
    out = tmp_path / "out"
    run(ExportConfig(data=(samples,), out=str(out)))
    before = build.tree(out)
    with pytest.raises(InputError) as error:
        run(ExportConfig(data=(samples,), out=str(out), **options))
    assert difference in str(error.value)
    assert samples in str(error.value)
    assert build.tree(out) == before


def test_an_option_that_the_format_does_not_read_makes_no_other_export(samples: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    run(ExportConfig(data=(samples,), out=out, format="metaimage"))
    assert not run(
        ExportConfig(data=(samples,), out=out, format="metaimage", window=(0, 80), crop=16)
    ).written


def test_files_of_others_are_not_mixed_with_ours(samples: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "holiday.png").write_bytes(b"")
    with pytest.raises(InputError, match="is not empty; name a new folder"):
        run(ExportConfig(data=(samples,), out=str(tmp_path / "out")))
    (tmp_path / "out" / "provenance.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match="is not what `lungforge export` wrote"):
        run(ExportConfig(data=(samples,), out=str(tmp_path / "out")))


def test_crops_have_no_boxes_and_no_spacing(build, tmp_path: Path) -> None:
    data = build.dataset(Kind.CROPS, [build.crop()]).uri
    with pytest.raises(InputError, match="crops have no boxes; export them with --format imagefolder or png"):
        run(ExportConfig(data=(data,), out=str(tmp_path / "out"), format="coco"))
    with pytest.raises(InputError, match="crops have no spacing"):
        run(ExportConfig(data=(data,), out=str(tmp_path / "out"), format="metaimage"))
    assert not (tmp_path / "out").exists()


def test_a_dataset_without_pictures_is_refused(build, tmp_path: Path) -> None:
    model = DatasetWriter(str(tmp_path / "model"), Kind.MODEL, {})
    model.commit([model.write_file("config.json", b"{}")])
    with pytest.raises(InputError, match="is a model dataset; export takes slices, samples or crops"):
        run(ExportConfig(data=(model.uri,), out=str(tmp_path / "out")))
    empty = build.dataset(Kind.SLICES)
    with pytest.raises(InputError, match="has no rows"):
        run(ExportConfig(data=(empty.uri,), out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
