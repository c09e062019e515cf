"""``lungforge export`` through full disks, death and damage: nothing is taken for whole that is not."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lungforge.datasets import Kind
from lungforge.errors import AccessError, ContentError, InputError
from lungforge.storage import join_uri
from services.export import job, provenance
from services.export.config import ExportConfig
from services.export.job import run


def test_another_dataset_is_named_whole_or_not(
    build, samples: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = build.dataset(Kind.SAMPLES, [build.sample("ff")], name="other").uri
    out = str(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(job, "write_bytes_atomic", failing(1, write_error(errno.EIO)))
        with pytest.raises(AccessError):
            run(ExportConfig(data=other, out=out))
    for _ in range(2):
        with pytest.raises(InputError, match=f"holds another export, of {other}, .* dataset's sha256"):
            run(ExportConfig(data=samples, out=out))
        run(ExportConfig(data=other, out=out))  # whole the second time


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
    run(ExportConfig(data=samples, out=str(tmp_path / "undisturbed"), format="coco"))
    config = ExportConfig(data=samples, out=str(tmp_path / "out"), format="coco")
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


@pytest.mark.parametrize("renames", [1, 2, 9, 16, 22])
def test_a_killed_export_resumes_to_the_same_bytes(build, samples: str, tmp_path: Path, renames: int) -> None:
    """Seven rows are 21 files, after the mark, which is linked, and before the provenance: 22 renames."""
    run(ExportConfig(data=samples, out=str(tmp_path / "undisturbed")))
    config = ExportConfig(data=samples, out=str(tmp_path / "out"))
    child = os.fork()
    if child == 0:
        _die_before_rename(renames)
        run(config)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = build.tree(tmp_path / "out")
    assert "provenance.json" not in left
    assert any(name.endswith(".tmp") for name in left), "half a file was left behind"
    assert run(config).written
    assert build.tree(tmp_path / "out") == build.tree(tmp_path / "undisturbed")


def _die_before_rename(number: int) -> None:
    passed = 0
    rename = Path.replace

    def replace(path: Path, target: Path) -> Path:
        nonlocal passed
        passed += 1
        if passed >= number:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)

    Path.replace = replace  # type: ignore[method-assign, assignment]


def test_killed_between_the_provenance_and_the_end_it_is_whole(
    build, samples: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ExportConfig(data=samples, out=str(tmp_path / "out"))
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
        run(ExportConfig(data=dataset.uri, out=str(tmp_path / "out")))
    assert "provenance.json" not in build.tree(tmp_path / "out")


def test_a_place_that_cannot_be_is_named(samples: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="something is in the way"):
        run(ExportConfig(data=samples, out=str(tmp_path / "file" / "out")))
