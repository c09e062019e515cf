"""``lungforge phantom``: generated once, over incomplete files, and never among other files."""

import dataclasses
from pathlib import Path

import pytest

from lungforge.errors import InputError
from lungforge.storage import open_uri
from services.tools import phantom
from services.tools.phantom import PhantomConfig, run


def _config(out: object, **more: int) -> PhantomConfig:
    return dataclasses.replace(PhantomConfig(out=str(out), series=3, size=64, slices=10), **more)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_cut_short_and_run_again_it_is_that_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = run(_config(tmp_path / "unbroken"))
    write = phantom.write_phantoms

    def interrupted(*arguments: object, series: int, **more: object) -> None:
        write(*arguments, series=series - 1, **more)  # type: ignore[arg-type]
        # What was written last are the annotations.
        (tmp_path / "out" / "annotations.csv").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(phantom, "write_phantoms", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(_config(tmp_path / "out"))
    assert run(_config(tmp_path / "out")).nodules == unbroken.nodules
    assert _files(tmp_path / "out") == _files(tmp_path / "unbroken")


def test_annotations_are_written_last(tmp_path: Path) -> None:
    def look() -> None:
        assert not list((tmp_path / "out").glob("*.csv"))

    phantom.write_phantoms(str(tmp_path / "out"), series=2, size=64, slices=10, advance=look)
    annotations, candidates = (
        (tmp_path / "out" / name).stat().st_mtime_ns for name in ("annotations.csv", "candidates_V2.csv")
    )
    assert candidates <= annotations


def test_run_again_it_generates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(_config(tmp_path))
    monkeypatch.delattr(phantom, "write_phantoms")
    assert run(_config(tmp_path)) == first
    assert first.nodules > 0


@pytest.mark.parametrize("lost", ["mhd", "annotations"])
def test_incomplete_files_are_generated_again(tmp_path: Path, lost: str) -> None:
    run(_config(tmp_path))
    files = _files(tmp_path)
    path = next(tmp_path.glob("subset1/*.mhd")) if lost == "mhd" else tmp_path / "annotations.csv"
    path.unlink()
    run(_config(tmp_path))
    assert _files(tmp_path) == files


@pytest.mark.parametrize("more", [{"seed": 1}, {"size": 65}, {"slices": 11}, {"series": 2}])
def test_phantoms_of_another_configuration_are_not_mixed_in(tmp_path: Path, more: dict[str, int]) -> None:
    run(_config(tmp_path))
    with pytest.raises(InputError, match=r"has other files \(2\.25\..*\); name a new folder"):
        run(_config(tmp_path, **more))


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"notes\.txt"):
        run(_config(tmp_path))
    assert _files(tmp_path) == {"notes.txt": b"mine"}


@pytest.mark.s3
def test_on_s3_phantoms_are_generated_once_and_no_bucket_is_made(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(_config(s3_uri))
    monkeypatch.delattr(phantom, "write_phantoms")
    assert run(_config(s3_uri)) == first
    monkeypatch.undo()
    with pytest.raises(
        InputError, match=r"named-by-mistake/luna16/subset0/.*: no such bucket; make it first"
    ):
        run(_config("s3://named-by-mistake/luna16"))
    fs, _ = open_uri(s3_uri)
    assert not fs.exists("named-by-mistake")
