"""``lungforge score-candidates``: tables as people have them, what is said, and what is printed."""

import json
from pathlib import Path

import pytest

from lungforge.errors import ContentError, InputError
from services.cli.main import main
from services.tools.score_candidates import ScoreConfig, run

HEADER = "seriesuid,coordX,coordY,coordZ,"
TABLES = {
    # a: a nodule of 10 mm at 0 and one at 100; b: none; c: one at 0.
    "annotations": f"{HEADER}diameter_mm\na,0,0,0,10\na,100,0,0,10\nc,0,0,0,8\nother,0,0,0,8\n",
    "excluded": f"{HEADER}diameter_mm\na,50,0,0,-1\nc,60,0,0,4\n",
    "scans": "a\nb\nc\n",
    # Hits at .9 and .3, repeated at .8; 5 mm from a finding without a size; false ones in b and c.
    "candidates": f"{HEADER}probability\na,1,0,0,0.9\na,2,0,0,0.8\na,55,0,0,0.95\n"
    "b,1,1,1,0.7\nc,63,0,0,0.6\nc,4,0,0,0.3\n",
}


def _write(folder: Path, **changes: str) -> ScoreConfig:
    for name, text in (TABLES | changes).items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return ScoreConfig(**{name: str(folder / f"{name}.csv") for name in TABLES})


def _arguments(config: ScoreConfig) -> list[str]:
    return [word for name in TABLES for word in (f"--{name}", getattr(config, name))]


def test_the_score_by_hand(tmp_path: Path) -> None:
    """At .9 one of three nodules, at .7 and .6 a false positive each in three scans, at .3 another hit."""
    result = run(_write(tmp_path))
    assert [point.sensitivity for point in result.sensitivities] == pytest.approx(
        [1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3]
    )
    assert result.cpm == pytest.approx(11 / 21)
    assert (result.scans, result.nodules, result.nodules_missed) == (3, 3, 1)
    assert (result.candidates, result.false_positives) == (6, 2)
    assert (result.candidates_repeated, result.candidates_ignored) == (1, 1)


def test_it_is_printed_in_words_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = _arguments(_write(tmp_path))
    files = sorted(tmp_path.iterdir())
    assert main(["score-candidates", *before]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("CPM 0.524 (95 % interval 0.")
    assert lines[1].startswith("  sensitivity 0.333 (0.")
    assert lines[1].endswith(") at 1/8 false positive a scan")
    assert lines[7].endswith(") at 8 false positives a scan")
    assert lines[8] == "3 nodules in 3 scans; 1 without a candidate"
    assert main(["score-candidates", *before, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["cpm"] == pytest.approx(11 / 21)
    assert [point["false_positives_per_scan"] for point in document["sensitivities"]] == [
        0.125, 0.25, 0.5, 1, 2, 4, 8,
    ]  # fmt: skip
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("scans", "seriesuid\na.mhd\n\n b \nc\n"),
        ("scans", "subset,seriesuid\n0,a\n0,b\n1,c\n,\n"),
        ("scans", "\ufeffa\r\n\r\nb.MHD\r\nc\r\n"),
        ("annotations", TABLES["annotations"].replace("\n", " \n\n,,,,\n").replace("a,", " a.mhd , ")),
        ("candidates", TABLES["candidates"].replace("b,1", "b.mhd ,1").replace("\n", "\n\n")),
        ("excluded", TABLES["excluded"] + ",,,,\n"),
    ],
)
def test_tables_are_read_as_people_have_them(tmp_path: Path, table: str, text: str) -> None:
    expected = run(_write(tmp_path))
    (tmp_path / "again").mkdir()
    assert run(_write(tmp_path / "again", **{table: text})) == expected


def test_rows_that_repeat_others_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = run(_write(tmp_path))
    said = capsys.readouterr().err
    assert "repeat" not in said
    assert "annotated series that are not in --scans, left out: 1, such as other" in said
    changes = {name: TABLES[name] + TABLES[name].splitlines()[-1] + "\n" for name in ("scans", "annotations")}
    false_positive = "b,1,1,1,0.7\n"
    again = run(_write(tmp_path, candidates=TABLES["candidates"] + false_positive, **changes))
    said = capsys.readouterr().err
    assert "scans.csv: rows that repeat others: 1; each scan counts once" in said
    assert "annotations.csv: rows that repeat others: 1; each nodule counts once" in said
    assert "candidates.csv: rows that repeat others: 1; each row is a candidate" in said
    assert (again.scans, again.nodules) == (plain.scans, plain.nodules)
    assert again.false_positives == plain.false_positives + 1


def test_without_excluded_findings_nothing_is_ignored(tmp_path: Path) -> None:
    config = _write(tmp_path)
    result = run(ScoreConfig(config.candidates, config.annotations, config.scans))
    assert (result.candidates_ignored, result.false_positives) == (0, 3)


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        (
            "candidates",
            f"{HEADER}probability\na,1,0,0,nan\n",
            "line 2: probability is 'nan'; it must be a fi",
        ),
        ("candidates", f"{HEADER}score\na,1,0,0,1\n", "no column probability; it has seriesuid"),
        ("candidates", f"{HEADER}probability\nz,1,0,0,1\n", "1 series that are not in the list of scans: z;"),
        ("annotations", f"{HEADER}diameter_mm\nz,1,0,0,5\n", "there is no nodule in the 3 scans listed"),
        ("annotations", f"{HEADER}diameter_mm\na,1,0,0,-1\n", "line 2: diameter_mm is -1; a diameter is pos"),
        ("excluded", f"{HEADER}diameter_mm\na,1,0,0\n", "line 2: 4 fields where the header has 5"),
        ("scans", "\n", "scans.csv: no scan is listed"),
        ("scans", "a,b\nc,d\n", "no column seriesuid; it has a, b"),
        ("scans", "subset,seriesuid\n0,\n", "line 2: seriesuid is empty"),
    ],
)
def test_a_bad_table_is_one_line_and_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str, text: str, message: str
) -> None:
    assert main(["score-candidates", *_arguments(_write(tmp_path, **{table: text}))]) == 2
    caught = capsys.readouterr()
    assert caught.out == ""
    assert message in caught.err.splitlines()[-1]
    assert caught.err.splitlines()[-1].startswith("lungforge score-candidates: ")


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    config = _write(tmp_path)
    (tmp_path / "candidates.csv").unlink()
    with pytest.raises(InputError, match=r"candidates\.csv: there is no such file") as caught:
        run(config)
    assert not isinstance(caught.value, ContentError)
