"""``lungforge phantom``: generated once, over incomplete files, and never among other files."""

import contextlib
import dataclasses
import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lungforge.ct.phantoms import generate
from lungforge.errors import AccessError, AccessRefusedError, InputError
from lungforge.storage import open_uri, write_bytes_atomic
from services.tools import phantom
from services.tools.phantom import PhantomConfig, run
from tests.killed_writer import die_before_rename

#: Phantoms are made once, as the tests write the same ones many times.
_generate = functools.cache(generate.generate_phantom)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "generate_phantom", _generate)


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


@pytest.mark.parametrize(
    "pattern", ["subset0/*.raw", "subset1/*.mhd", "seg-*/*.zraw", "cand*.csv", "ann*.csv"]
)
@pytest.mark.parametrize("damage", ["cut", "a byte"])
def test_a_file_that_is_not_as_it_was_written_is_written_again(
    whole: Path, capsys: pytest.CaptureFixture[str], pattern: str, damage: str
) -> None:
    before = _files(whole)
    path = next(whole.glob(pattern))
    content = path.read_bytes()
    path.write_bytes(content[:-1] if damage == "cut" else bytes([content[0] ^ 1]) + content[1:])
    run(_config(whole))
    assert f"{path} is missing or altered; the phantoms are generated again" in capsys.readouterr().err
    assert _files(whole) == before


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A folder of phantoms."""
    run(_config(tmp_path / "whole"))
    return tmp_path / "whole"


def test_after_a_full_disk_at_any_write_it_is_that_of_one_run(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three scans, three masks, two tables and the record, twice: 15 writes."""
    for writes in range(15):
        out = tmp_path / str(writes)
        with monkeypatch.context() as patch:
            patch.setattr(phantom, "write_bytes_atomic", _failing(writes))
            with pytest.raises(AccessError, match="No space left"):
                run(_config(out))
        # What a kill leaves of a file that is being written.
        out.mkdir(exist_ok=True)
        (out / ".annotations.csv.0123.tmp").write_bytes(b"seriesuid")
        run(_config(out))
        assert _files(out) == _files(whole)


def _failing(after: int) -> Callable[..., None]:
    done = 0

    def write(uri: str, data: bytes, *, exclusive: bool = False) -> None:
        nonlocal done
        done += 1
        if done > after:
            raise AccessError(f"{uri}: No space left on device")
        write_bytes_atomic(uri, data, exclusive=exclusive)

    return write


@pytest.mark.parametrize("renames", [1, 2, 7, 14])
def test_killed_in_the_middle_of_a_file_it_is_that_of_one_run(
    tmp_path: Path, whole: Path, renames: int
) -> None:
    out = tmp_path / "out"
    child = os.fork()
    if child == 0:
        die_before_rename(renames)
        run(_config(out))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert any(name.endswith(".tmp") for name in _files(out)), "half a file was left behind"
    run(_config(out))
    assert _files(out) == _files(whole)


@pytest.mark.parametrize("more", [{}, {"seed": 1}, {"series": 4}])
def test_of_two_at_once_one_is_refused(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, int]
) -> None:
    refused = []

    def meanwhile(uri: str, data: bytes, *, exclusive: bool = False) -> None:
        monkeypatch.setattr(phantom, "write_bytes_atomic", write_bytes_atomic)
        with pytest.raises(InputError, match="another run is writing there") as error:
            run(_config(tmp_path / "out", **more))
        refused.append(error)
        write_bytes_atomic(uri, data, exclusive=exclusive)

    monkeypatch.setattr(phantom, "write_bytes_atomic", meanwhile)
    run(_config(tmp_path / "out"))
    assert len(refused) == 1
    assert _files(tmp_path / "out") == _files(whole)


def test_where_no_lock_tells_the_record_does(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that both found the folder empty, the one that is first to create the record has it."""
    monkeypatch.setattr(phantom, "sole_writer", lambda uri: contextlib.nullcontext())
    refuse = phantom._refuse_other_files

    def meanwhile(config: PhantomConfig) -> None:
        refuse(config)
        monkeypatch.setattr(phantom, "_refuse_other_files", refuse)
        run(_config(store_uri, seed=1))

    monkeypatch.setattr(phantom, "_refuse_other_files", meanwhile)
    with pytest.raises(InputError, match=r"holds other phantoms .*'seed': 1.*; name a new folder"):
        run(_config(store_uri))
    fs, path = open_uri(store_uri)
    assert len(fs.find(path)) == 15


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, b'{"phantoms": {}, "files": [1]}'])
def test_a_record_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "phantoms.json").write_bytes(content)
    with pytest.raises(InputError, match=r"phantoms\.json is not what `lungforge phantom` wrote"):
        run(_config(tmp_path))


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
        AccessRefusedError, match=r"^s3://named-by-mistake/luna16\S*: no such bucket; make it first"
    ):
        run(_config("s3://named-by-mistake/luna16"))
    fs, _ = open_uri(s3_uri)
    assert not fs.exists("named-by-mistake")
