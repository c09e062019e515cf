"""A night's work, with both services replaced: what is done once, tried again, judged, and left to others."""

import dataclasses
import errno
import os
import subprocess
import sys
from typing import Any

import pytest

from lungforge.datasets import Dataset, manifest
from lungforge.errors import AccessError, InputError
from lungforge.storage import join_uri, lease, open_uri, read_bytes, write_bytes_atomic
from lungforge.storage.lease import LeaseHeldError, LeaseLostError, held_lease, take_lease
from services.cli import main as cli
from services.nightly import job
from services.nightly.history import read_history


def content(uri: str) -> dict[str, tuple[Any, int]]:
    """Every file of a store: when it was written, and its size."""
    fs, path = open_uri(uri)
    return {name: (fs.modified(name), fs.info(name)["size"]) for name in fs.find(path)}


def history(bench: Any) -> list:
    return read_history(f"{bench.store}/history.parquet")


def test_a_night_samples_and_measures_what_was_asked_for(bench):
    result = bench.run(3, count=12, steps=5, seed=7, test_subsets=(8, 9), workers=2)
    (sample,), (evaluate,) = bench.samples, bench.evaluations
    assert sample.model == evaluate_model(bench, "first")
    assert (sample.count, sample.steps, sample.seed, sample.subsets) == (12, 5, 7, (0, 1, 2, 3, 4, 5, 6))
    assert (evaluate.real, evaluate.synthetic) == (f"{bench.store}/slices", (sample.out,))
    assert (evaluate.subsets, evaluate.seed) == ((8, 9), 7)
    # Near-duplicates are counted and judged; a leak makes every value worthless.
    assert (evaluate.allow_near_duplicates, evaluate.allow_leakage) == (True, False)
    assert sample.out == f"{bench.store}/nights/2026-03-03/samples"
    assert result.report == f"{bench.store}/nights/2026-03-03/report/report.html"
    (row,) = history(bench)
    assert (row.date.isoformat(), row.status, row.reason) == ("2026-03-03", "done", "")
    assert (row.frechet, row.frechet_spread, row.frechet_real) == (10.0, 0.1, 3.0)
    assert (row.kid, row.kid_spread, row.near_duplicates, row.images) == (0.05, 0.001, 0, 8)
    assert (row.radiomic, row.radiomic_spread, row.radiomic_real) == (2.0, 1.0, 1.0)
    assert (row.hu_difference, row.kid_p_value) == (7.0, None)
    assert (row.memorised, row.memorised_spread) == (0.025, 0.015)
    assert row.model_sha256 == Dataset.open(sample.model).manifest_sha256
    assert row.code_version == "0.1.0"
    assert (result.exit_code, result.written) == (0, True)


def evaluate_model(bench: Any, name: str) -> str:
    return f"{bench.store}/models/{name}"


def test_the_same_date_again_does_nothing(bench):
    first = bench.run(1)
    before = content(bench.store)
    bench.frechet = 99.0
    again = bench.run(1)
    assert content(bench.store) == before
    assert dataclasses.replace(again, written=True) == first
    assert not again.written
    assert (len(bench.samples), len(history(bench))) == (1, 1)


def test_a_run_that_waited_while_another_did_the_night_does_nothing(bench, monkeypatch):
    prepare = job.prepare

    def prepare_slowly(config, store, night):
        tonight = prepare(config, store, night)
        monkeypatch.setattr(job, "prepare", prepare)
        bench.run(1)
        return tonight

    monkeypatch.setattr(job, "prepare", prepare_slowly)
    assert not bench.run(1).written
    assert (len(bench.samples), len(history(bench))) == (1, 1)


def test_a_failed_night_records_its_cause_and_is_retried(bench, capsys, monkeypatch):
    monkeypatch.setenv("LAB_TOKEN", "hunter2hunter2")
    bench.failure = RuntimeError("worker lost\nwith hunter2hunter2")
    failed = bench.run(1)
    assert (failed.exit_code, failed.status, failed.report) == (1, "failed", None)
    assert failed.reason == "RuntimeError: worker lost with ***"
    (row,) = history(bench)
    assert (row.status, row.reason, row.frechet, row.near_duplicates) == ("failed", failed.reason, None, None)
    assert "Traceback" in capsys.readouterr().err  # a fault is printed in full, and in no file
    assert b"Traceback" not in read_bytes(f"{bench.store}/index.html")
    bench.failure = None
    assert bench.run(1).exit_code == 0
    assert [(row.status, row.reason) for row in history(bench)] == [("done", "")]


def test_a_refusal_is_a_failed_night_in_one_line(bench, capsys):
    bench.failure = InputError("trained on 6 of the 9 scans; compare with others")
    assert bench.run(1).reason == "trained on 6 of the 9 scans; compare with others"
    assert "Traceback" not in capsys.readouterr().err


def test_a_worse_night_is_reported_and_does_not_move_the_band(bench):
    for day in range(1, 5):
        assert bench.run(day).status == "done"
    bench.frechet = 10.4
    for day in (5, 6):
        result = bench.run(day)
        assert (result.status, result.exit_code) == ("worse", 3)
        assert result.reason.startswith(
            "Fréchet distance 10.4 is above 10.3, 10 + 3 × 0.1 of 4 nights; model, real"
        )
        assert bench.run(day).exit_code == 3  # as often as it is asked for
    bench.frechet = 10.2
    assert bench.run(7).exit_code == 0
    assert [row.status for row in history(bench)] == ["done"] * 4 + ["worse"] * 2 + ["done"]


def test_the_reason_names_a_new_model(bench, write):
    for day in range(1, 5):
        bench.run(day)
    write(f"{bench.store}/models/second", name="second")
    bench.kid = 0.06
    reason = bench.run(5).reason
    assert reason.startswith("KID 0.06 is above 0.053, 0.05 + 3 × 0.001 of 4 nights")
    assert reason.endswith("changed since 2026-03-04: model")
    assert bench.samples[-1].model == evaluate_model(bench, "second")


def test_other_settings_begin_a_band_of_their_own(bench):
    for day in range(1, 6):
        bench.run(day)
    bench.frechet = 50.0
    assert bench.run(6, count=9).status == "done"
    assert bench.run(7).status == "worse"


def test_missed_nights_are_shown_and_not_made_up(bench):
    bench.run(1)
    bench.run(4)
    assert len(history(bench)) == 2
    page = read_bytes(f"{bench.store}/index.html").decode()
    assert page.count('<td class="words">missed</td>') == 2
    assert "2 done, 0 worse, 0 failed, 2 missed" in page


def test_a_night_that_is_done_late_is_judged_by_those_before_it(bench):
    for day in range(11, 15):
        bench.run(day)
    bench.frechet = 99.0
    assert bench.run(10).status == "done"
    assert [row.date.day for row in history(bench)] == [10, 11, 12, 13, 14]


def test_test_slices_of_one_scan_leave_the_night_without_that_metric(bench):
    bench.halves = False
    assert bench.run(1).frechet is None
    assert history(bench)[0].frechet_spread is None


def test_a_try_of_another_model_makes_way(bench, write):
    """Killed after its samples, or failed; by the time it is tried again there is a newer model."""
    bench.failure = RuntimeError("killed")
    bench.run(1)
    first = Dataset.open(bench.samples[0].out)
    bench.failure = None
    write(f"{bench.store}/models/second", name="second")
    assert bench.run(1).status == "done"
    samples = Dataset.open(bench.samples[0].out)
    assert samples.manifest.parents[0].uri == evaluate_model(bench, "second")
    assert first.manifest.parents[0].uri == evaluate_model(bench, "first")


@pytest.fixture
def earlier(bench, write) -> tuple[Any, dict]:
    """A night that failed after its samples, and a newer model, so that they are of other work."""
    bench.failure = RuntimeError("killed")
    bench.run(1)
    bench.failure = None
    write(f"{bench.store}/models/second", name="second")
    return bench, content(bench.samples[0].out)


def refuse(monkeypatch: pytest.MonkeyPatch, error: Exception, place: str) -> None:
    """Let the store refuse once, when the manifest at a place is looked for."""
    refused = []
    size = manifest.file_size

    def file_size(uri: str) -> int:
        if uri == f"{place}/manifest.json" and not refused:
            refused.append(uri)
            raise error
        return size(uri)

    monkeypatch.setattr(manifest, "file_size", file_size)


@pytest.mark.parametrize(
    "error",
    [
        AccessError("access denied (403)"),
        PermissionError(errno.EACCES, "Forbidden"),
        TimeoutError("slow"),
        OSError(errno.ENOSPC, "No space left on device"),
        InputError("something is in the way"),
    ],
)
def test_a_store_that_refuses_once_costs_no_samples(earlier, monkeypatch, error):
    bench, before = earlier
    refuse(monkeypatch, error, bench.samples[0].out)
    assert bench.run(1).status == "failed"
    assert content(bench.samples[0].out) == before
    assert len(bench.samples) == 1  # nor was anything sampled
    assert bench.run(1).status == "done"


@pytest.mark.parametrize("damage", ["cut", "empty", "newer", "deep", "other"])
def test_what_no_manifest_proves_to_be_of_other_work_is_left(earlier, damage):
    bench, _ = earlier
    out = bench.samples[0].out
    place = join_uri(out, "manifest.json")
    sound = read_bytes(place)
    documents = {
        "cut": sound[: len(sound) // 2],
        "empty": b"",
        "newer": sound.replace(b'"schema_version": 1', b'"schema_version": 2'),
        "deep": b"[" * 100_000,
        # Someone's slices, by mistake at the place of a night's samples.
        "other": sound.replace(b'"kind": "samples"', b'"kind": "slices"'),
    }
    assert documents[damage] != sound
    write_bytes_atomic(place, documents[damage])
    before = content(out)
    result = bench.run(1)
    assert (result.status, out in result.reason) == ("failed", True)
    assert content(out) == before


def test_who_lost_the_lease_removes_nothing(earlier, monkeypatch):
    bench, before = earlier
    monkeypatch.setattr(lease.Lease, "renew", _lost)
    with pytest.raises(LeaseLostError):
        bench.run(1)
    assert content(bench.samples[0].out) == before


def _lost(self: lease.Lease) -> None:
    raise LeaseLostError("taken")


def test_a_failed_night_run_again_resumes(bench):
    bench.failure = RuntimeError("killed")
    bench.run(1)
    before = content(bench.samples[0].out)
    bench.failure = None
    bench.run(1)
    assert content(bench.samples[0].out) == before


def test_missing_inputs_record_no_night(bench, tmp_path):
    with pytest.raises(InputError, match="no finished model"):
        job.run(dataclasses.replace(bench.config(1), store=str(tmp_path / "mistyped")))
    assert not (tmp_path / "mistyped").exists()
    with pytest.raises(InputError, match="no dataset"):
        bench.run(1, data=f"{bench.store}/nothing")
    with pytest.raises(InputError, match="--steps is 0"):
        bench.run(1, steps=0)
    assert history(bench) == []


def test_two_runs_do_not_meet(bench):
    with (
        held_lease(f"{bench.store}/lease"),
        pytest.raises(LeaseHeldError, match="held by another run, on"),
    ):
        bench.run(1)
    assert bench.samples == []
    bench.run(1)


def test_who_lost_the_lease_commits_nothing(bench, monkeypatch):
    """A run sleeps while it samples; another takes over and completes the night."""
    real = lease.time

    class Later:
        def __getattr__(self, name):
            return lambda: getattr(real, name)() + 10_000

    def sleep() -> None:
        bench.during = None
        monkeypatch.setattr(lease, "time", Later())
        bench.frechet = 11.0
        assert bench.run(1).written

    bench.during = sleep
    with pytest.raises(LeaseLostError):
        bench.run(1)
    assert [row.frechet for row in history(bench)] == [11.0]
    assert len(bench.evaluations) == 1  # it did not even measure


def test_who_lost_the_lease_while_measuring_commits_nothing(bench, monkeypatch):
    evaluate = bench.evaluate

    def evaluate_slowly(config):
        numbers = evaluate(config)
        newest = lease.newest_generation(f"{bench.store}/lease")
        other = join_uri(bench.store, "lease", f"{newest + 1:06}.json")
        fs, path = open_uri(other)
        fs.pipe_file(path, read_bytes(join_uri(bench.store, "lease", f"{newest:06}.json")))
        return numbers

    monkeypatch.setattr(job.evaluation, "run", evaluate_slowly)
    with pytest.raises(LeaseLostError, match="another job has taken it"):
        bench.run(1)
    assert history(bench) == []
    assert f"{bench.store}/index.html".removeprefix("s3://") not in content(bench.store)


def test_a_night_that_was_interrupted_leaves_no_row_and_no_lease(bench):
    bench.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bench.run(1)
    assert history(bench) == []
    take_lease(f"{bench.store}/lease").release()


def test_sigterm_gives_the_lease_back(bench):
    program = (
        "import contextlib, os, signal, sys\n"
        "from services.cli import main as cli\nfrom services.nightly import job\n"
        "job.ray_session = lambda workers: contextlib.nullcontext()\n"
        "job.sampling.run = lambda config: os.kill(os.getpid(), signal.SIGTERM)\n"
        f"sys.exit(cli.main(['nightly', '--store', {bench.store!r}]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=dict(os.environ),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 130, done.stderr
    assert "lungforge nightly: interrupted" in done.stderr
    assert history(bench) == []
    take_lease(f"{bench.store}/lease").release()


def test_the_command_leaves_with_the_code_of_its_night(bench, monkeypatch, capsys):
    def command(day: int) -> int:
        config = bench.config(day)
        return cli.main(["nightly", "--store", config.store, "--date", str(config.date), "--json"])

    assert [command(day) for day in range(1, 5)] == [0] * 4
    bench.near_duplicates = 2
    capsys.readouterr()
    assert command(5) == 3
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert '"status": "worse"' in captured.out
    assert "the night of 2026-03-05 is worse: Near-duplicates 2 is above 0.9" in captured.err
    bench.failure = OSError("disk full")
    assert command(6) == 1
    assert cli.main(["nightly", "--store", bench.store, "--date", "2026-13-01"]) == 2
