"""Sources as they are unpacked, downloaded, copied and linked: every file is used, or has its reason."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from lungforge.ct.io.luna16 import Source, list_series
from lungforge.ct.io.source_names import fold_of, holds_luna_masks, holds_masks, is_like_fold, scan_of_mask
from lungforge.ct.io.source_walk import DEEPEST, printable
from lungforge.errors import InputError
from tests.lungforge.ct.io.test_luna16 import write

TABLE = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"


def write_mask(path: Path) -> None:
    """As most programs write masks: voxels of one byte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((1, 2, 2), np.uint8)), str(path))


def table(path: Path, text: str = TABLE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def listed(source: Path) -> dict[str, int]:
    """Series uid to fold."""
    return {entry.series_uid: entry.subset for entry in list_series(str(source)).entries}


def noted(source: Source, reason: str) -> str:
    """What is named behind the reason of a note."""
    (note,) = (note for note in source.notes if note.startswith(reason))
    return note.rpartition(": ")[2]


@pytest.fixture
def luna(tmp_path: Path) -> Path:
    """Two scans in their folds, with masks and tables, and nothing else: no notes."""
    for uid, fold in (("1.1", 0), ("1.2", 1)):
        write(tmp_path / f"subset{fold}" / f"{uid}.mhd")
        write(tmp_path / "seg-lungs-LUNA16" / f"{uid}.mhd")
    table(tmp_path / "annotations.csv")
    table(tmp_path / "candidates_V2.csv")
    assert list_series(str(tmp_path)).notes == ()
    return tmp_path


def nested(luna: Path) -> None:
    for folder in [path for path in luna.iterdir() if path.is_dir()]:
        folder.rename(luna / "moving")
        folder.mkdir()
        (luna / "moving").rename(folder / folder.name)
    for name in ("annotations", "candidates_V2"):
        (luna / name).mkdir()
        (luna / f"{name}.csv").rename(luna / name / f"{name}.csv")


def a_level_higher(luna: Path) -> None:
    (luna / "LUNA16").mkdir()
    for path in [path for path in luna.iterdir() if path.name != "LUNA16"]:
        path.rename(luna / "LUNA16" / path.name)


def other_names(luna: Path) -> None:
    (luna / "subset0").rename(luna / "Subset_00")
    (luna / "subset1").rename(luna / "fold-1 (1)")
    (luna / "seg-lungs-LUNA16").rename(luna / "seg_lungs_luna16 (1)")
    (luna / "annotations.csv").rename(luna / "Annotations.CSV")


def unpacked_by_name(luna: Path) -> None:
    (luna / "subset0").rename(luna / "LUNA16-subset0.zip")
    (luna / "subset1").rename(luna / "subset1_unzipped")
    (luna / "annotations.csv").rename(luna / "a")
    (luna / "annotations.csv").mkdir()
    (luna / "a").rename(luna / "annotations.csv" / "annotations.csv")


def copies_of_a_table(luna: Path) -> None:
    (luna / "annotations.csv").rename(luna / "subset0" / "annotations.csv")
    shutil.copy(luna / "subset0" / "annotations.csv", luna / "subset1")


def inner_links(luna: Path) -> None:
    for fold in (0, 1):
        (luna / f"subset{fold}").rename(luna / f"a{fold}")
        (luna / f"subset{fold}").symlink_to(luna / f"a{fold}")
    (luna / "around").symlink_to(luna)
    (luna / "a1" / "up").symlink_to("..")


@pytest.mark.parametrize(
    "change",
    [nested, a_level_higher, other_names, unpacked_by_name, copies_of_a_table, inner_links],
    ids=lambda change: change.__name__,
)
def test_a_layout_that_says_the_same_gives_the_same(luna: Path, change: Callable[[Path], None]) -> None:
    change(luna)
    source = list_series(str(luna))
    assert {entry.series_uid: entry.subset for entry in source.entries} == {"1.1": 0, "1.2": 1}
    for entry in source.entries:
        assert entry.lung_mask_uri is not None
        assert Path(entry.lung_mask_uri).name == f"{entry.series_uid}.mhd"
        assert Path(entry.lung_mask_uri).read_bytes() == Path(entry.uri).read_bytes()
    assert source.annotations_uri is not None
    assert source.candidates_uri is not None
    assert source.rejected == ()


def test_what_systems_leave_behind_is_no_scan(luna: Path) -> None:
    for path in [path for path in luna.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    for name in (
        "__MACOSX/subset0/._1.1.mhd",
        "__MACOSX/subset0/9.9.mhd",
        "@eaDir/9.9.mhd",
        "lost+found/9.mhd",
    ):
        write(luna / "new.mhd")
        (luna / name).parent.mkdir(parents=True, exist_ok=True)
        (luna / "new.mhd").rename(luna / name)
        (luna / "new.raw").unlink()
    for name in (".DS_Store", "subset0/Thumbs.db", "desktop.ini", ".directory"):
        (luna / name).write_bytes(b"\0" * 300)
    source = list_series(str(luna))
    assert [entry.series_uid for entry in source.entries] == ["1.1", "1.2"]
    assert [len(entry.listed) for entry in source.entries] == [4, 4]
    assert (source.rejected, source.notes) == ((), ())


def test_what_is_not_used_is_named_with_the_reason(luna: Path) -> None:
    for name in (
        "subset2.zip",
        "subset3.7z",
        "b.nii.gz",
        "c.nrrd",
        "subset0/8.8.raw",
        "LICENSE",
        "x/readme.txt",
    ):
        (luna / name).parent.mkdir(exist_ok=True)
        (luna / name).write_bytes(b"something")
    os.mkfifo(luna / "subset0" / "pipe.mhd")
    (luna / "subset1" / "gone.mhd").symlink_to("nowhere.mhd")
    write(luna / ".hidden" / "7.7.mhd")
    write(luna / "seg-lungs-LUNA16" / "6.6.mhd")
    source = list_series(str(luna))
    assert [entry.series_uid for entry in source.entries] == ["1.1", "1.2"]
    assert source.rejected == ()
    assert noted(source, "archives, which are to be unpacked first") == "subset2.zip, subset3.7z"
    assert noted(source, "formats that are not read") == "b.nii.gz, c.nrrd"
    assert noted(source, "voxels without a header (.mhd)") == "subset0/8.8.raw"
    assert noted(source, "no scans") == "LICENSE, x/readme.txt"
    assert noted(source, "neither files nor folders") == "subset0/pipe.mhd, subset1/gone.mhd"
    assert noted(source, "hidden, not read") == ".hidden"
    assert noted(source, "lung masks without a scan") == "seg-lungs-LUNA16/6.6.mhd"
    assert len(source.notes) == 7


def test_of_many_places_the_first_are_named(luna: Path) -> None:
    for index in range(10):
        (luna / f"{index}.txt").touch()
    assert noted(list_series(str(luna)), "no scans") == "0.txt, 1.txt, 2.txt and 7 more"


def test_only_what_is_deeper_than_any_download_is_not_searched(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*(f"level{index}" for index in range(1, DEEPEST + 1)))
    write(deep / "1.mhd")
    write(deep / "below" / "2.mhd")
    source = list_series(str(tmp_path))
    assert [entry.series_uid for entry in source.entries] == ["1"]
    assert noted(source, f"more than {DEEPEST} levels of folders deep") == str(
        (deep / "below").relative_to(tmp_path)
    )
    shutil.rmtree(tmp_path / "level1")
    write(tmp_path.joinpath(*"abcdefghijklm") / "3.mhd")
    with pytest.raises(
        InputError, match=r"no CT series; .*; more than 12 levels of folders deep, not searched: a/b/c"
    ):
        list_series(str(tmp_path))


def test_links_that_lead_out_are_not_followed_and_said(
    luna: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    for uid in ("2.1", "2.2", "2.3", "2.4", "1.1"):
        write(outside / f"{uid}.mhd")
    (luna / "subset2").symlink_to(outside)
    (luna / "subset1" / "2.1.mhd").symlink_to(outside / "2.1.mhd")
    # A header in the source, its voxels outside: by its own name, and by another.
    for uid, voxels in (("2.2", "2.2"), ("2.3", "other")):
        header = (outside / f"{uid}.mhd").read_text("utf-8").replace(f"{uid}.raw", f"{voxels}.raw")
        (luna / "subset1" / f"{uid}.mhd").write_text(header, encoding="utf-8")
        (luna / "subset1" / f"{voxels}.raw").symlink_to(outside / f"{uid}.raw")
    (luna / "seg-lungs-LUNA16" / "1.1.raw").unlink()
    (luna / "seg-lungs-LUNA16" / "1.1.raw").symlink_to(outside / "1.1.raw")
    source = list_series(str(luna))
    assert {entry.series_uid: entry.lung_mask_uri is None for entry in source.entries} == {
        "1.1": True,
        "1.2": False,
    }
    assert {one.series_uid: one.reason.partition(", a")[0] for one in source.rejected} == {
        "2.2": f"its voxels are in {luna}/subset1/2.2.raw",
        "2.3": f"its voxels are in {luna}/subset1/other.raw",
    }
    assert noted(source, "links that lead out of the source") == (
        "seg-lungs-LUNA16/1.1.raw, subset1/2.1.mhd, subset1/2.2.raw and 2 more"
    )
    assert noted(source, "lung masks whose voxels are links") == "seg-lungs-LUNA16/1.1.mhd"


def test_a_source_that_is_a_link_is_the_folder_that_it_leads_to(
    luna: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    link = tmp_path_factory.mktemp("links") / "luna16"
    link.symlink_to(luna)
    source = list_series(str(link))
    assert [entry.uri for entry in source.entries] == [f"{link}/subset0/1.1.mhd", f"{link}/subset1/1.2.mhd"]
    assert source.notes == ()


def test_a_file_under_two_names_is_one_scan(luna: Path) -> None:
    for ending in ("mhd", "raw"):
        (luna / "subset1" / f"3.3.{ending}").symlink_to(luna / "subset0" / f"1.1.{ending}")
        (luna / f"1.2.{ending}").symlink_to(luna / "subset1" / f"1.2.{ending}")
    source = list_series(str(luna))
    assert {entry.series_uid: entry.subset for entry in source.entries} == {"1.1": 0, "1.2": 1}
    assert source.rejected == ()
    assert noted(source, "links to scans that are used already") == "1.2.mhd, subset1/3.3.mhd"


@pytest.mark.parametrize(
    "mask",
    [
        "lung_masks/1.1",
        "Segmentations/1.1",
        "labels/1.1_label",
        "subset0/1.1_lung_mask",
        "a/mask_1.1",
        "z/1.1",
    ],
)
def test_a_mask_under_another_name_is_not_taken_for_the_scan(luna: Path, mask: str) -> None:
    shutil.rmtree(luna / "seg-lungs-LUNA16")
    write_mask(luna / f"{mask}.mhd")
    source = list_series(str(luna))
    assert [entry.uri for entry in source.entries] == [f"{luna}/subset0/1.1.mhd", f"{luna}/subset1/1.2.mhd"]
    assert source.rejected == ()
    assert noted(source, "masks of scans outside seg-lungs-LUNA16, not used") == f"{mask}.mhd"


def test_without_folds_too_the_scan_is_told_from_its_mask(tmp_path: Path) -> None:
    write(tmp_path / "z_ct" / "1.mhd")
    write_mask(tmp_path / "a" / "1.mhd")
    write(tmp_path / "b_masks" / "1.mhd")
    source = list_series(str(tmp_path))
    assert [entry.uri for entry in source.entries] == [f"{tmp_path}/z_ct/1.mhd"]
    assert noted(source, "masks of scans outside") == "a/1.mhd, b_masks/1.mhd"


def test_scans_in_a_folder_named_like_masks_are_left_to_their_values(tmp_path: Path) -> None:
    write(tmp_path / "labels" / "1.mhd")
    write(tmp_path / "labels" / "1_2.mhd")
    assert listed(tmp_path) == {"1": -1, "1_2": -1}


def test_a_scan_in_a_fold_comes_before_its_copy_elsewhere(luna: Path) -> None:
    write(luna / "all" / "1.2.mhd")
    source = list_series(str(luna))
    assert {entry.series_uid: entry.subset for entry in source.entries} == {"1.1": 0, "1.2": 1}
    (rejected,) = source.rejected
    assert (rejected.uri, rejected.reason) == (
        f"{luna}/all/1.2.mhd", f"the same series is there twice; {luna}/subset1/1.2.mhd is used",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fold"),
    [
        ("subset0", 0), ("Subset7", 7), ("subset_3", 3), ("subset-3", 3), ("SUBSET 3", 3), ("subset03", 3),
        ("fold9", 9), ("Fold_2", 2), ("LUNA16_subset4", 4), ("subset5 (2)", 5), ("subset5.zip", 5),
        ("subset10", None), ("subset0-4", None), ("subsets", None), ("subset0to4", None), ("subset", None),
        ("3", None), ("subset-1-2", None), ("unfolded3", None), ("subset012", None),
    ],
)  # fmt: skip
def test_a_fold_is_taken_only_from_a_name_that_is_clear(name: str, fold: int | None) -> None:
    assert fold_of(name) == fold


def test_a_fold_that_is_not_clear_is_said(tmp_path: Path) -> None:
    for name in ("subset10/1", "subset0-4/2", "subset1/subset2/3", "subset5/subset5/4", "patients/5"):
        write(tmp_path / f"{name}.mhd")
    assert listed(tmp_path) == {"1": -1, "2": -1, "3": -1, "4": 5, "5": -1}
    source = list_series(str(tmp_path))
    assert noted(source, "folders that are no folds of LUNA16") == "subset0-4, subset10"
    assert noted(source, "folders of more than one fold") == "subset1/subset2"


def test_names_say_what_they_mean() -> None:
    assert all(map(is_like_fold, ("subset10", "folds1-3", "my_fold_3")))
    assert not any(map(is_like_fold, ("subset3", "unfolded3", "subsets")))
    assert all(map(holds_luna_masks, ("seg-lungs-LUNA16", "Seg_Lungs_Luna-16", "seg-lungs-LUNA16 (1)")))
    assert not any(map(holds_luna_masks, ("seg-lungs", "lungs", "seg-lungs-LUNA160")))
    assert all(
        map(holds_masks, ("lung_masks", "Mask", "SEG", "labels", "lungs", "lungmask", "gt-segmentations"))
    )
    assert not any(map(holds_masks, ("unmasked", "segmented", "subset0", "LIDC-IDRI", "roidata")))
    assert (
        scan_of_mask("1.2.3_lung_mask")
        == scan_of_mask("seg-1.2.3")
        == scan_of_mask("1.2.3.labels")
        == "1.2.3"
    )
    assert scan_of_mask("1.2.3_z076") == "1.2.3_z076"


def test_two_tables_that_differ_are_not_guessed_between(luna: Path) -> None:
    (luna / "annotations.csv").unlink()
    table(luna / "a" / "annotations.csv")
    table(luna / "b" / "annotations.csv", TABLE + "1.1,0,0,0,5\n")
    source = list_series(str(luna))
    assert source.annotations_uri is None
    assert (
        noted(source, "annotations.csv is there more than once, not read")
        == "a/annotations.csv, b/annotations.csv"
    )
    table(luna / "annotations.csv")
    source = list_series(str(luna))
    assert source.annotations_uri == f"{luna}/annotations.csv"
    assert noted(source, "annotations.csv is there more than once, not read but for the first").startswith(
        "a/"
    )


def test_names_that_would_break_a_line_are_escaped(luna: Path) -> None:
    shutil.copy(luna / "subset0" / "1.1.mhd", luna / "two\nlines.mhd")
    shutil.copy(luna / "subset0" / "1.1.mhd", os.fsencode(luna) + b"/not-utf8-\xff.mhd")
    write(luna / "\x1b[31mred" / "4.mhd")
    source = list_series(str(luna))
    assert [entry.series_uid for entry in source.entries] == ["1.1", "1.2"]
    assert noted(source, "names with letters that cannot be printed") == (
        r"\x1b[31mred, not-utf8-\udcff.mhd, two\nlines.mhd"
    )
    assert printable("größe 肺") == "größe 肺"


def test_metaimages_and_dicom_in_one_folder_are_both_found(luna: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((2, 2), np.int16))
    for tag, value in {"0020|000e": "1.9", "0020|0032": "0\\0\\0", "0020|0037": "1\\0\\0\\0\\1\\0"}.items():
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(luna / "subset0" / "slice.dcm"))
    writer.Execute(image)
    assert listed(luna) == {"1.1": 0, "1.2": 1, "1.9": 0}
