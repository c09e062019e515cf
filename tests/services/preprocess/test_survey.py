"""What a source offers to a job: names of parts, and the line that tells what belongs together."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungforge.ct.io.luna16 import SeriesEntry
from lungforge.ct.phantoms.generate import phantom_series_uid, write_phantoms
from lungforge.errors import ContentError, InputError
from services.preprocess.config import PreprocessConfig
from services.preprocess.survey import SourceVolume, survey

LUNA_UID = "1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860"


def part_name(uid: str, subset: int = 0) -> str:
    return SourceVolume(SeriesEntry(uid, subset, f"/{uid}.mhd")).part_name


def test_uids_of_luna16_name_their_parts() -> None:
    assert part_name(LUNA_UID, 7) == f"subset7-{LUNA_UID}"
    assert part_name("1.2.3_z076", -1) == "subsetx-1.2.3_z076"


#: What was, or could be, one name: by letters that are replaced, capital ones, and names of other names.
ALIKE = [
    "scan one", "scan_one", "scan-one", "Scan_one", "scan/one", "scan\\one", "scan one ", "scan_one--",
    "扫描一号", "扫描二号", "ñ", "n\u0303", "a" * 300, "a" * 301, "A" * 300, part_name("scan one")[8:],
    "..", "con", "",
]  # fmt: skip


def test_uids_that_are_alike_have_parts_of_different_names() -> None:
    names = [part_name(uid).lower() for uid in ALIKE]
    assert len(set(names)) == len(ALIKE)
    assert max(map(len, names)) < 120


@given(st.text(), st.text())
def test_two_uids_never_share_a_part(one: str, other: str) -> None:
    assert (part_name(one).lower() == part_name(other).lower()) == (one == other)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_phantoms(str(tmp_path), series=3, seed=2, size=32, slices=8)
    return tmp_path


def said_of(source: Path, capsys: pytest.CaptureFixture[str], **options: object) -> list[str]:
    survey(PreprocessConfig(str(source), str(source / "out"), **options))  # type: ignore[arg-type]
    return capsys.readouterr().err.splitlines()


def test_one_line_tells_what_belongs_together(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations = source / "annotations.csv"
    rows = annotations.read_text("utf-8").splitlines()[1:]
    masks = len(list(source.glob("seg-lungs-LUNA16/*.mhd")))
    start = f"scans: 3; folds: 0 1 2; scans with a LUNA16 lung mask: {masks}; annotations that match a scan"
    assert said_of(source, capsys) == [f"{start}: {len(rows)}; annotated series uids without a scan: 0"]

    with annotations.open("a", encoding="utf-8") as file:
        file.write(f"9.9,1,2,3,4\n9.9,1,2,4,4\n8.8,1,2,3,4\n{rows[0]}\n")
    assert said_of(source, capsys, subsets=(1,)) == [
        "annotations.csv: rows dropped that repeat others: 1",
        f"{start}: {len(rows)}; annotated series uids without a scan: 2 (annotations: 3; the first uid: 9.9)",
    ]

    (source / "subset2").rename(source / "more")
    (line,) = said_of(source, capsys, slices="all")[1:]
    assert line.startswith("scans: 3; folds: 0 1 (scans without a fold: 1); ")
    annotations.unlink()
    for fold in (0, 1):
        (source / f"subset{fold}").rename(source / f"half{fold}")
    (line,) = said_of(source, capsys, slices="all")
    assert line == f"scans: 3; folds: none; scans with a LUNA16 lung mask: {masks}; no annotations.csv"


def test_a_fold_that_is_not_found_is_told_from_scans_in_none(source: Path) -> None:
    (source / "subset2").rename(source / "second")
    message = r"no series in the subsets \(2,\); there are \[-1, 0, 1\] \(-1: in no fold\)$"
    with pytest.raises(InputError, match=message):
        survey(PreprocessConfig(str(source), "out", subsets=(2,)))


def test_phantoms_have_the_uids_that_are_expected(source: Path) -> None:
    uids = {volume.entry.series_uid for volume in survey(PreprocessConfig(str(source), "out")).volumes}
    assert uids == {phantom_series_uid(2, index, size=32, slices=8) for index in range(3)}


def test_patients_are_those_of_the_table_and_only_groups_are_kept(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = sorted(path.stem for path in source.glob("subset*/*.mhd"))
    config = PreprocessConfig(str(source), str(source / "out"))
    assert survey(config).patients is None
    table = source / "metadata.csv"
    table.write_text(f"Series UID,Subject ID\n{one},LIDC-1\n{two},LIDC-1\n", encoding="utf-8")
    patients = survey(config).patients
    assert patients is not None
    assert patients.scans_of_one_patient == ((one, two),)
    assert patients.scans_without_patient == (three,)
    assert "patients: known of 2 of 3 scans; with more than one scan: 1" in capsys.readouterr().err
    assert "LIDC-1" not in repr(survey(config))


def test_a_metadata_csv_of_something_else_is_passed_over_and_patients_csv_must_be_right(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = PreprocessConfig(str(source), str(source / "out"))
    (source / "metadata.csv").write_text("file,size\na,1\n", encoding="utf-8")
    assert survey(config).patients is None
    assert "patients are not known" in capsys.readouterr().err
    (source / "patients.csv").write_text("file,size\na,1\n", encoding="utf-8")
    with pytest.raises(ContentError, match="no column seriesuid"):
        survey(config)
