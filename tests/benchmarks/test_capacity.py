"""The capacity model: its bounds, a case by hand, and one real unit that it counts."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.capacity.__main__ import main
from benchmarks.capacity.model import (
    WORKERS,
    Resources,
    Stage,
    bound,
    demands,
    first_saturated,
    read_rates,
    simulate,
)

PLENTY = Resources(
    store_requests_per_second=1e9,
    store_bytes_per_second=1e15,
    store_latency_seconds=0.0,
    host_bytes_per_second=1e15,
    workers_per_host=4,
)
STAGE = Stage(
    name="preprocess",
    unit="volume",
    units=400,
    worker_seconds=1.0,
    variation=0.0,
    requests=10.0,
    bytes=1e6,
    driver_seconds=0.0,
    start_seconds=0.0,
)


def test_a_case_by_hand() -> None:
    # Three units, two workers; the driver takes 1 s, the store 2 s, the network 1 s, the worker 10 s of each.
    resources = dataclasses.replace(PLENTY, store_bytes_per_second=5.0, host_bytes_per_second=10.0)
    stage = dataclasses.replace(
        STAGE, units=3, worker_seconds=10.0, bytes=10.0, driver_seconds=1.0, start_seconds=5.0
    )
    # First unit: driver to 1, store to 3, network to 4, done at 14. Second: driver 2, store 5, network 6,
    # done at 16. Third, on the worker that is free at 14: 15, 17, 18, done at 28. And 5 s to start.
    simulated = simulate(stage, resources, 2)
    assert simulated.seconds == pytest.approx(33.0)
    assert simulated.busy == pytest.approx(
        {"workers": 15 / 28, "driver": 3 / 28, "store": 6 / 28, "network": 3 / 28}
    )


def test_requests_take_longer_than_bytes_where_there_are_many() -> None:
    resources = dataclasses.replace(
        PLENTY, store_requests_per_second=100.0, store_bytes_per_second=1e8, store_latency_seconds=0.02
    )
    taken = demands(STAGE, resources)
    # 10 requests of 100 a second against 1 MB of 100 MB a second; and each is waited for.
    assert taken["store"] == pytest.approx(0.1)
    assert taken["workers"] == pytest.approx(1.2)


def test_training_goes_in_step() -> None:
    # 10 units on 4 workers are 3 rounds of 1 s; gradients of 100 bytes go round a ring at 50 bytes a second.
    resources = dataclasses.replace(PLENTY, host_bytes_per_second=50.0)
    stage = dataclasses.replace(STAGE, units=10, requests=0.0, bytes=0.0, exchanged_bytes=100)
    ring = 2 * 3 / 4 * 100 / 50
    assert simulate(stage, resources, 4).seconds == pytest.approx(3 * (1 + ring))
    assert simulate(stage, resources, 1).seconds == pytest.approx(10)
    # Reading continues meanwhile: 4 units at 0.5 s each are read in 2 s, longer than the second of computing.
    scarce = dataclasses.replace(resources, store_bytes_per_second=2.0)
    reading = dataclasses.replace(stage, units=8, bytes=1.0)
    assert simulate(reading, scarce, 4).seconds == pytest.approx(2 * (4 * 0.5 + ring))
    assert simulate(reading, scarce, 1).seconds == pytest.approx(8)
    slow = dataclasses.replace(resources, host_bytes_per_second=5.0)
    assert simulate(stage, slow, 4).limit == "network"
    # Two workers whose network is slow take longer than one alone, and the model says so.
    assert simulate(stage, slow, 2).seconds > simulate(stage, slow, 1).seconds


@pytest.mark.parametrize(
    ("part", "change", "scarce"),
    [
        ("driver", {"driver_seconds": 0.1}, {}),
        ("store", {}, {"store_requests_per_second": 100.0}),
        ("store", {}, {"store_bytes_per_second": 1e7}),
        ("network", {}, {"host_bytes_per_second": 1e7, "workers_per_host": 256}),
    ],
)
def test_when_a_queue_is_saturated_its_bound_is_the_time(
    part: str, change: dict[str, float], scarce: dict[str, float]
) -> None:
    stage, resources = dataclasses.replace(STAGE, **change), dataclasses.replace(PLENTY, **scarce)
    # Each of the four takes 0.1 s of a unit, so that 11 workers are as many as it can feed.
    assert first_saturated(stage, resources) == (part, 16)
    many = simulate(stage, resources, 256)
    assert many.limit == part
    # The bound is 40 s; the last unit ends 1 s after it has left the queue.
    assert bound(stage, resources, 256) == pytest.approx(40.0)
    assert many.seconds == pytest.approx(41.0)
    assert simulate(stage, resources, 8).limit == "workers"


def test_hosts_share_the_load_of_a_network() -> None:
    stage, resources = STAGE, dataclasses.replace(PLENTY, host_bytes_per_second=1e7)
    # 4 workers a host are served 0.1 s each: far from saturated, however many hosts there are.
    assert first_saturated(stage, resources) is None
    assert simulate(stage, resources, 256).busy["network"] < 0.4


stages = st.builds(
    Stage,
    name=st.just("sample"),
    unit=st.just("part"),
    units=st.integers(1, 120),
    worker_seconds=st.floats(0.01, 10),
    variation=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    requests=st.floats(0, 50),
    bytes=st.floats(0, 1e8),
    driver_seconds=st.floats(0, 0.1),
    start_seconds=st.floats(0, 20),
)
resources = st.builds(
    Resources,
    store_requests_per_second=st.floats(10, 1e4),
    store_bytes_per_second=st.floats(1e7, 1e10),
    store_latency_seconds=st.floats(0, 0.05),
    host_bytes_per_second=st.floats(1e8, 1e10),
    # One network for all: units that change hosts may meet another queue there.
    workers_per_host=st.just(256),
)


@settings(max_examples=60, deadline=None)
@given(stages, resources)
def test_one_worker_takes_the_sum_and_more_are_never_slower(stage: Stage, resources: Resources) -> None:
    times = [simulate(stage, resources, workers).seconds for workers in WORKERS]
    whole = stage.start_seconds + stage.units * sum(demands(stage, resources).values())
    assert times[0] == pytest.approx(whole)
    for workers, seconds, more in zip(WORKERS, times, [*times[1:], times[-1]], strict=True):
        assert more <= seconds * (1 + 1e-9)
        assert seconds >= bound(stage, resources, workers) * (1 - 1e-9)
        # No queue is longer than all that wait, and Graham's bound holds for the workers.
        assert seconds <= whole * (1 + 1e-9)


def test_the_units_are_the_same_for_any_number_of_workers() -> None:
    stage = dataclasses.replace(STAGE, variation=0.5)
    simulated = [simulate(stage, PLENTY, workers) for workers in WORKERS]
    work = [one.busy["workers"] * one.seconds * one.workers for one in simulated]
    assert work == pytest.approx([400.0] * len(WORKERS))
    # Units differ, so that the last one keeps some workers waiting.
    assert simulated[-1].seconds > 400 / 256 * 1.2


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    path = tmp_path / "rates.json"
    document = {"resources": dataclasses.asdict(PLENTY), "stages": [dataclasses.asdict(STAGE)] * 1}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_the_price_is_the_users(rates: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model", "--rates", str(rates), "--json"]
    assert main(words) == 0
    assert {row["cost"] for row in json.loads(capsys.readouterr().out)} == {None}
    assert main([*words, "--price-per-worker-hour", "3.6"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["workers"] for row in rows] == list(WORKERS)
    # 400 s of one worker are a ninth of an hour; 256 workers have two rounds of a second.
    assert rows[0]["cost"] == pytest.approx(0.4)
    assert rows[-1]["cost"] == pytest.approx(256 * math.ceil(400 / 256) * 3.6 / 3600)


@pytest.mark.parametrize("content", ["no JSON", "{}", '{"resources": {}, "stages": [{"name": "x"}]}'])
def test_another_file_is_no_file_of_rates(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rates.json").write_text(content, encoding="utf-8")
    assert main(["model", "--rates", str(tmp_path / "rates.json")]) == 2
    printed = capsys.readouterr().err
    assert "not a file of rates" in printed
    assert printed.count("\n") == 1


@pytest.fixture
def quick_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's limits from few reads: here it matters what is measured, not how exactly."""
    from benchmarks.capacity import measure

    for name, value in (("_CLIENTS", 2), ("_SMALL_READS", 50), ("_LARGE_READS", 4)):
        monkeypatch.setattr(measure, name, value)


@pytest.mark.s3
@pytest.mark.usefixtures("quick_store")
@pytest.mark.slow
def test_every_request_to_the_store_is_counted(s3_uri: str) -> None:
    from benchmarks.capacity.measure import counted, measure_store, measure_units
    from lungforge.storage import read_bytes, write_bytes_atomic

    write_bytes_atomic(f"{s3_uri}/a", b"x" * 5000)
    with counted() as traffic:
        assert read_bytes(f"{s3_uri}/a") == b"x" * 5000
    # s3fs asks for the size (HEAD, whose answer has none of the bytes) and then reads.
    assert (traffic.requests, traffic.bytes) == (2, 5000)
    with counted() as traffic:
        write_bytes_atomic(f"{s3_uri}/b", b"y" * 7000)
    assert (traffic.requests, traffic.bytes) == (1, 7000)
    # The first unit is left out: it loads what is loaded once.
    taken = measure_units([lambda: read_bytes(f"{s3_uri}/b"), *[lambda: read_bytes(f"{s3_uri}/a")] * 3])
    assert (taken["requests"], taken["bytes"]) == (2, 5000)
    limits = measure_store(s3_uri)
    # Many clients together get more than one, or as much; and a request is not all of a read.
    assert limits.store_requests_per_second > 0.5 / limits.store_latency_seconds
    assert limits.store_bytes_per_second > 1e6


@pytest.mark.s3
@pytest.mark.ray
@pytest.mark.usefixtures("quick_store")
@pytest.mark.slow
def test_a_stage_is_measured_and_then_checked(
    s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.capacity import measure
    from lungforge.storage import open_uri

    first, *_ = measure.STAGES
    monkeypatch.setattr(measure, "STAGES", (first,))
    assert main(["measure", "--store", s3_uri]) == 0
    rates = tmp_path / "rates.json"
    rates.write_text(capsys.readouterr().out, encoding="utf-8")
    limits, (stage,) = read_rates(rates)
    assert (stage.name, stage.unit) == ("preprocess", "volume of 96 x 96 x 30")
    # Header, voxels and mask are read, a part is looked for and written: less than volume and mask.
    assert 5 <= stage.requests <= 20
    assert 20_000 < stage.bytes < 2 * 96 * 96 * 30 * 2
    assert 0 < stage.worker_seconds < 10
    assert demands(stage, limits)["store"] > 0
    assert main(["check", "--store", s3_uri, "--rates", str(rates), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["units"], row["workers"]) for row in rows] == [(20, 1), (20, 2)]
    assert all(row["measured"] > 0 and row["predicted"] > 0 for row in rows)
    # Nothing is left in the store.
    fs, path = open_uri(s3_uri)
    assert set(fs.find(path)) <= {path}


def test_a_store_that_is_no_s3_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "--store", str(tmp_path)]) == 2
    assert "give a new folder in an s3:// bucket" in capsys.readouterr().err


def test_the_page_has_the_results_of_the_model_for_the_stored_rates() -> None:
    root = Path(__file__).parents[2]
    limits, kept = read_rates(root / "benchmarks" / "capacity" / "rates.json")
    page = (root / "docs" / "measurements" / "capacity.md").read_text(encoding="utf-8")
    assert [stage.name for stage in kept] == ["preprocess", "train", "sample", "evaluate"]
    for stage in kept:
        times = [f"{simulate(stage, limits, workers).seconds:.0f}" for workers in (1, 2, 8, 32, 128, 256)]
        first = first_saturated(stage, limits)
        ending = "nothing" if first is None else f"{first[0]}, from {first[1]}"
        assert f"| {stage.name} | {' | '.join(times)} | {ending} |" in page
