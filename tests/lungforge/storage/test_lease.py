"""A lease has one holder, whatever dies, sleeps or races; here and on a real S3 server."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from lungforge.errors import AccessError, ContentError
from lungforge.storage import join_uri, lease, open_uri, read_bytes, write_bytes_atomic
from lungforge.storage.files import replace_bytes
from lungforge.storage.lease import LeaseHeldError, LeaseLostError, held_lease, take_lease

DURATION_S = 100.0


class Clock:
    """Stands in for the module ``time``: both clocks advance only by calls."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now - 1_600_000_000.0


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lease, "time", clock)
    return clock


def newest(uri: str) -> dict:
    fs, path = open_uri(uri)
    return json.loads(read_bytes(join_uri(uri, max(name.rsplit("/", 1)[-1] for name in fs.ls(path, False)))))


def race(uri: str, takers: int = 16) -> list:
    """What each of the takers that start at once gets: a lease, or None."""
    start = threading.Barrier(takers)
    lease.newest_generation(uri)  # S3's client is made here, once, and not by each of them

    def take(_: int):
        start.wait()
        try:
            return take_lease(uri, DURATION_S)
        except LeaseHeldError:
            return None

    with ThreadPoolExecutor(takers) as pool:
        return list(pool.map(take, range(takers)))


def test_of_sixteen_racing_takers_one_holds(store_uri):
    taken = [each for each in race(store_uri) if each]
    assert len(taken) == 1
    taken[0].renew()
    taken[0].release()
    taken = [each for each in race(store_uri) if each]
    assert len(taken) == 1
    taken[0].renew()


def test_a_dead_ones_lease_is_taken_by_one_and_not_before_it_expires(store_uri, clock):
    dead = take_lease(store_uri, DURATION_S)
    clock.now += DURATION_S - 0.001
    assert race(store_uri) == [None] * 16
    clock.now += 0.001
    (living,) = [each for each in race(store_uri) if each]
    # The first job was only asleep. It may neither continue nor take the lease from the other.
    with pytest.raises(LeaseLostError, match=r"not renewed in time; the same command again resumes"):
        dead.renew()
    dead.release()
    fs, path = open_uri(store_uri)
    assert [name.rsplit("/", 1)[-1] for name in fs.ls(path, detail=False)] == ["000002.json"]
    living.renew()
    with pytest.raises(LeaseHeldError):
        take_lease(store_uri, DURATION_S)


def test_the_holder_stops_before_others_may_start(store_uri, clock):
    """By a quarter of the duration: so far the clocks of two hosts may be apart."""
    ours = take_lease(store_uri, DURATION_S)
    clock.now += 0.75 * DURATION_S - 0.001
    ours.renew()
    clock.now += 0.75 * DURATION_S
    with pytest.raises(LeaseLostError):
        ours.renew()
    clock.now += 0.25 * DURATION_S - 0.01
    with pytest.raises(LeaseHeldError):
        take_lease(store_uri, DURATION_S)
    clock.now += 0.02
    take_lease(store_uri, DURATION_S)


def test_a_renewal_that_takes_too_long_does_not_count(store_uri, clock, monkeypatch):
    ours = take_lease(store_uri, DURATION_S)
    write = replace_bytes

    def slow(*arguments, **options):
        write(*arguments, **options)
        clock.now += 0.8 * DURATION_S

    monkeypatch.setattr(lease, "replace_bytes", slow)
    with pytest.raises(LeaseLostError, match="not renewed in time"):
        ours.renew()
    monkeypatch.undo()


def test_a_holder_that_finds_a_newer_generation_stops_for_good(store_uri, clock):
    """As when the other's clock is far ahead."""
    ours = take_lease(store_uri, DURATION_S)
    clock.now += 2 * DURATION_S
    theirs = take_lease(store_uri, DURATION_S)
    clock.now -= 2 * DURATION_S
    for _ in range(2):
        with pytest.raises(LeaseLostError):
            ours.renew()
    ours.release()
    assert newest(store_uri)["released"] is False
    clock.now += 2 * DURATION_S
    theirs.renew()


def test_one_that_slept_between_looking_and_creating_steps_back(store_uri, clock, monkeypatch):
    """Meanwhile the generation that it would create came, went, and was cleared away."""
    take_lease(store_uri, DURATION_S).release()
    holder = take_lease(store_uri, DURATION_S)
    fs, path = open_uri(store_uri)
    assert not fs.exists(f"{path}/000001.json")
    # At its first look nothing was there, so it creates the first generation.
    real, looks = lease.newest_generation, []

    def look(uri: str) -> int:
        looks.append(real(uri))
        return 0 if len(looks) == 1 else looks[-1]

    monkeypatch.setattr(lease, "newest_generation", look)
    with pytest.raises(LeaseHeldError, match="held by another run"):
        take_lease(store_uri, DURATION_S)
    assert fs.exists(f"{path}/000001.json")
    holder.renew()
    assert newest(store_uri)["released"] is False


def test_a_lease_records_its_holder_and_its_times(store_uri, clock):
    with held_lease(store_uri, DURATION_S):
        document = newest(store_uri)
        assert sorted(document) == ["expires", "holder", "host", "released", "started"]
        times = [datetime.fromisoformat(document[name]) for name in ("started", "expires")]
        assert (times[1] - times[0]).total_seconds() == DURATION_S
        with pytest.raises(LeaseHeldError, match=rf"on {document['host']} since 2023-11-14T22:13:20\+00:00"):
            take_lease(store_uri, DURATION_S)
    assert newest(store_uri)["released"] is True


def test_it_is_given_back_when_the_block_fails(store_uri):
    with pytest.raises(ValueError, match="inside"), held_lease(store_uri, DURATION_S):
        raise ValueError("inside")
    with held_lease(store_uri, DURATION_S):
        pass


def test_the_thread_renews(store_uri):
    with held_lease(store_uri, 3.0):
        first = newest(store_uri)
        changed = threading.Event()
        for _ in range(100):
            changed.wait(0.05)
            if newest(store_uri)["expires"] != first["expires"]:
                break
        assert newest(store_uri)["expires"] > first["expires"]
        assert newest(store_uri)["holder"] == first["holder"]


def test_a_store_that_refuses_for_a_while_does_not_end_the_thread(tmp_path, monkeypatch):
    ours = take_lease(str(tmp_path), 0.6)
    calls, stop = [], threading.Event()

    def renew() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise AccessError("away")
        stop.set()

    monkeypatch.setattr(ours, "renew", renew)
    ours.renew_until(stop)
    assert len(calls) == 3


def test_old_generations_are_cleared_away(store_uri):
    for _ in range(5):
        take_lease(store_uri, DURATION_S).release()
    fs, path = open_uri(store_uri)
    assert [name.rsplit("/", 1)[-1] for name in fs.ls(path, detail=False)] == ["000005.json"]


def test_a_holder_that_finds_another_name_in_its_generation_stops_for_good(store_uri, clock):
    """As on a store that lets two create one file: the second's content is in the place of the first's."""
    ours = take_lease(store_uri, DURATION_S)
    generation = join_uri(store_uri, "000001.json")
    theirs = read_bytes(generation).replace(newest(store_uri)["holder"].encode(), b"another")
    write_bytes_atomic(generation, theirs)
    with pytest.raises(LeaseLostError, match="another job has taken it"):
        ours.renew()
    ours.release()
    assert read_bytes(generation) == theirs


def test_one_that_does_not_find_its_name_after_creating_holds_nothing(store_uri, monkeypatch):
    def overwritten(uri, data, *, exclusive):
        write_bytes_atomic(uri, data, exclusive=exclusive)
        other = dataclasses.replace(lease._from_bytes(data, uri), holder="another", host="elsewhere")
        write_bytes_atomic(uri, lease._to_bytes(other))

    monkeypatch.setattr(lease, "write_bytes_atomic", overwritten)
    with pytest.raises(LeaseHeldError, match="on elsewhere"):
        take_lease(store_uri, DURATION_S)


def test_a_renewal_whose_answer_was_lost_does_not_lose_the_lease(store_uri, clock, monkeypatch):
    ours = take_lease(store_uri, DURATION_S)

    def lost(*arguments, **options):
        replace_bytes(*arguments, **options)
        raise AccessError("no answer")

    monkeypatch.setattr(lease, "replace_bytes", lost)
    with pytest.raises(AccessError):
        ours.renew()
    monkeypatch.setattr(lease, "replace_bytes", replace_bytes)
    clock.now += 1
    ours.renew()
    with pytest.raises(LeaseHeldError):
        take_lease(store_uri, DURATION_S)


def test_a_file_that_is_no_lease_is_named(store_uri):
    write_bytes_atomic(join_uri(store_uri, "000004.json"), b"{}")
    with pytest.raises(ContentError, match=r"000004.json: no lease .* remove the file when no run is under"):
        take_lease(store_uri, DURATION_S)


def test_a_killed_process_leaves_a_lease_that_expires(tmp_path, clock):
    program = (
        "import os, signal\nfrom lungforge.storage.lease import held_lease\n"
        f"with held_lease({str(tmp_path)!r}, {DURATION_S}):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False, env=dict(os.environ))
    expires = datetime.fromisoformat(newest(str(tmp_path))["expires"]).timestamp()
    clock.now = expires - 1
    with pytest.raises(LeaseHeldError):
        take_lease(str(tmp_path), DURATION_S)
    clock.now = expires
    take_lease(str(tmp_path), DURATION_S)
