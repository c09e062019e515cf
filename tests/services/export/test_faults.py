"""``lungforge export`` through full disks, death and damage: nothing is taken for whole that is not."""

import contextlib
import errno
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lungforge.datasets import Kind
from lungforge.errors import AccessError, ContentError, InputError
from lungforge.storage import join_uri, open_uri
from services.export import job, provenance
from services.export.config import ExportConfig
from services.export.job import run
from tests.killed_writer import die_before_rename


def test_another_dataset_is_named_whole_or_not(
    build, samples: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = build.dataset(Kind.SAMPLES, [build.sample("ff")], name="other").uri
    out = str(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(job, "write_bytes_atomic", failing(1, write_error(errno.EIO)))
        with pytest.raises(AccessError):
            run(ExportConfig(data=(other,), out=out))
    for _ in range(2):
        with pytest.raises(InputError, match=f"holds another export, of {other}, .* dataset's sha256"):
            run(ExportConfig(data=(samples,), out=out))
        run(ExportConfig(data=(other,), out=out))  # whole the second time


def write_error(number: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


def failing(after: int, fault: Callable[[], None]) -> Callable[..., None]:
    """``write_bytes_atomic`` with a fault before every write but the first ones."""
    done = 0

    def write(uri: str, data: bytes) -> None:
        nonlocal done
        done += 1
        if done > after:
            fault()
        original(uri, data)

    original = job.write_bytes_atomic
    return write


@pytest.mark.parametrize("after", [0, 1, 6, 7])
def test_a_full_disk_is_a_line_and_the_export_is_not_taken_for_whole(
    build, samples: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    run(ExportConfig(data=(samples,), out=str(tmp_path / "undisturbed"), format="coco"))
    config = ExportConfig(data=(samples,), out=str(tmp_path / "out"), format="coco")
    with monkeypatch.context() as patch:
        patch.setattr(job, "write_bytes_atomic", failing(after, write_error(errno.ENOSPC)))
        with pytest.raises(AccessError) as error:
            run(config)
    assert str(error.value) == (
        f"{config.out} cannot be written (No space left on device), so the export is incomplete; "
        "fix that and run the same command to resume"
    )
    assert "provenance.json" not in build.tree(tmp_path / "out")
    assert run(config).written
    assert build.tree(tmp_path / "out") == build.tree(tmp_path / "undisturbed")


@pytest.mark.parametrize("renames", [1, 2, 9, 16, 23])
def test_a_killed_export_resumes_to_the_same_bytes(build, samples: str, tmp_path: Path, renames: int) -> None:
    """Seven rows are 21 files, after the mark, which is linked; then table and provenance: 23 renames."""
    run(ExportConfig(data=(samples,), out=str(tmp_path / "undisturbed")))
    config = ExportConfig(data=(samples,), out=str(tmp_path / "out"))
    child = os.fork()
    if child == 0:
        die_before_rename(renames)
        run(config)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = build.tree(tmp_path / "out")
    assert "provenance.json" not in left
    assert any(name.endswith(".tmp") for name in left), "half a file was left behind"
    assert run(config).written
    assert build.tree(tmp_path / "out") == build.tree(tmp_path / "undisturbed")


def test_killed_between_the_provenance_and_the_end_it_is_whole(
    build, samples: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ExportConfig(data=(samples,), out=str(tmp_path / "out"))
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "remove_mark", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    assert "unfinished.json" in build.tree(tmp_path / "out")
    assert not run(config).written
    assert "unfinished.json" not in build.tree(tmp_path / "out")


def _interrupt(out: str) -> None:
    raise KeyboardInterrupt


def test_a_damaged_dataset_gives_no_export(build, tmp_path: Path) -> None:
    dataset = build.dataset(Kind.SLICES, [build.slice(3)], [build.slice(4)])
    part = Path(join_uri(dataset.uri, dataset.parts[1].path))
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(ContentError, match="altered since it was written"):
        run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / "out")))
    assert "provenance.json" not in build.tree(tmp_path / "out")


def test_a_place_that_cannot_be_is_named(samples: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="something is in the way"):
        run(ExportConfig(data=(samples,), out=str(tmp_path / "file" / "out")))


@pytest.mark.parametrize("damage", ["cut", "emptied", "a byte", "gone", "longer", "annotations", "a folder"])
def test_a_file_that_is_not_as_it_was_written_is_written_again(
    build, samples: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    config = ExportConfig(data=(samples,), out=str(tmp_path / "out"), format="coco")
    run(config)
    before = build.tree(tmp_path / "out")
    path = tmp_path / "out" / ("annotations.json" if damage == "annotations" else "synthetic_03_ct.png")
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        (tmp_path / "out" / "provenance.json").unlink()
        path.mkdir()
        with pytest.raises(InputError, match="not empty"):  # nothing says that the folder is ours
            run(config)
        return
    if damage != "gone":
        altered = bytes([content[0] ^ 1]) + content[1:]
        changes = {"cut": content[:-10], "emptied": b"", "longer": content + b"x"}
        path.write_bytes(changes.get(damage, altered))
    assert run(config).written
    assert f"{path} is missing or altered; the export is written again" in capsys.readouterr().err
    assert build.tree(tmp_path / "out") == before
    assert not run(config).written


def test_a_cut_file_in_a_store_is_written_again(samples: str, store_uri: str) -> None:
    config = ExportConfig(data=(samples,), out=store_uri, format="metaimage")
    run(config)
    fs, path = open_uri(join_uri(store_uri, "synthetic_00_hu.mha"))
    content = fs.cat_file(path)
    fs.pipe_file(path, content[:-100])
    assert run(config).written
    assert fs.cat_file(path) == content


@pytest.mark.parametrize("sums", [None, [], {"a": 1}, {"a": {"bytes": 1}}, {"../../etc/passwd": None}])
def test_a_record_that_says_nothing_proves_nothing(samples: str, tmp_path: Path, sums: object) -> None:
    config = ExportConfig(data=(samples,), out=str(tmp_path / "out"))
    run(config)
    place = tmp_path / "out" / "provenance.json"
    sound = place.read_bytes()
    place.write_text(json.dumps({**json.loads(sound), "sums": sums}), encoding="utf-8")
    assert run(config).written
    assert place.read_bytes() == sound


@pytest.mark.parametrize("content", [b"[]", b"[" * 100_000, b"{", b'{"export": 1, "dataset": 2}', b"null"])
@pytest.mark.parametrize("name", ["provenance.json", "unfinished.json"])
def test_a_record_that_is_none_is_refused(samples: str, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is not what `lungforge export` wrote"):
        run(ExportConfig(data=(samples,), out=str(tmp_path / "out")))


@pytest.mark.parametrize("other", [{}, {"format": "coco"}], ids=["the same", "another"])
def test_of_two_exports_at_once_one_is_refused(
    build, samples: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    run(ExportConfig(data=(samples,), out=str(tmp_path / "undisturbed")))
    out = str(tmp_path / "out")
    refused = []

    def meanwhile() -> None:
        with pytest.raises(InputError, match="another run is writing there") as error:
            run(ExportConfig(data=(samples,), out=out, **other))
        refused.append(error)

    monkeypatch.setattr(job, "write_bytes_atomic", once_during(5, meanwhile))
    assert run(ExportConfig(data=(samples,), out=out)).written
    assert len(refused) == 1
    assert build.tree(tmp_path / "out") == build.tree(tmp_path / "undisturbed")


@pytest.mark.parametrize("when", ["it looks", "it is marked", "it writes"])
def test_where_no_lock_tells_another_export_is_refused_all_the_same(
    samples: str, store_uri: str, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """On a store, only the mark tells: the second one begins at some moment of the first."""
    monkeypatch.setattr(job, "sole_writer", lambda uri: contextlib.nullcontext())
    first, second = ExportConfig(data=(samples,), out=store_uri), ExportConfig((samples,), store_uri, "coco")
    ended = []

    def other() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(job, "mark_started", mark_started)
            patch.setattr(job, "find_complete", find_complete)
            patch.setattr(job, "write_bytes_atomic", write)
            try:
                ended.append(run(second).format)
            except InputError as error:
                ended.append(str(error))

    mark_started, find_complete, write = job.mark_started, job.find_complete, job.write_bytes_atomic
    if when == "it looks":  # and finds nothing; then the other one does all of its work
        monkeypatch.setattr(job, "find_complete", lambda *a: (find_complete(*a), other())[0])
        with pytest.raises(InputError, match="holds another export"):
            run(first)
        assert ended == ["coco"]
    else:
        if when == "it is marked":
            monkeypatch.setattr(job, "mark_started", lambda *a: (mark_started(*a), other()))
        else:
            monkeypatch.setattr(job, "write_bytes_atomic", once_during(5, other))
        assert run(first).written
        assert len(ended) == 1
        assert "holds another export" in ended[0]
    fs, path = open_uri(store_uri)
    names = [name.rsplit("/", 1)[-1] for name in fs.find(path)]
    assert "unfinished.json" not in names
    assert ("annotations.json" in names) is (when == "it looks")
    assert ("synthetic_00_hu.png" in names) is (when != "it looks")


def once_during(number: int, act: Callable[[], None]) -> Callable[..., None]:
    """``write_bytes_atomic`` that does something else before one of its writes."""
    original, lock = job.write_bytes_atomic, threading.Lock()
    done = 0

    def write(uri: str, data: bytes) -> None:
        nonlocal done
        with lock:
            done += 1
            mine = done == number
        if mine:
            act()
        original(uri, data)

    return write
