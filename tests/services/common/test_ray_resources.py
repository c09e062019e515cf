"""What a job needs, compared with what a cluster has."""

import json
from typing import Any

import pytest
import ray

from lungforge.errors import InputError
from services.common.ray_resources import Needs, require_room

HOSTS = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0}, {"CPU": 2.0, "GPU": 4.0}]


@pytest.mark.parametrize(
    ("needs", "room"),
    [
        (Needs(), 18),
        (Needs(cpus=4), 4),
        (Needs(cpus=16), 0),
        (Needs(cpus=1, gpus=1), 4),  # two by GPUs, none, two by cores
        (Needs(cpus=4, gpus=1), 2),
        (Needs(cpus=1, gpus=2), 3),
        # Three of 0.3 fit on a GPU, and none lies on two.
        (Needs(cpus=1, gpus=0.3), 8),
        (Needs(cpus=0.5, gpus=0.6), 6),
    ],
)
def test_a_worker_lies_on_one_host(needs: Needs, room: int) -> None:
    assert needs.room(HOSTS) == room


@pytest.mark.ray
@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (
            Needs(gpus=1),
            r"needs a worker of 1 core and 1 GPU, and this machine has \d+ cores? and no GPU; "
            r"run without GPUs by --gpus-per-worker 0",
        ),
        (Needs(gpus=0.25, option="--gpus-per-network"), r"0\.25 of a GPU.*--gpus-per-network 0"),
        (Needs(4, 1, 8), "needs 8 workers of 4 cores and 1 GPU each"),
        (Needs(cpus=1000), "needs a worker of 1000 cores.*give fewer"),
    ],
)
def test_what_is_not_there_is_refused_at_once(ray_local: None, needs: Needs, message: str) -> None:
    with pytest.raises(InputError, match=message):
        require_room([Needs(), needs], joined=False)


@pytest.mark.ray
def test_a_cluster_that_was_joined_is_given_time_for_its_hosts(
    ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.common.ray_resources.JOIN_S", 0)
    with pytest.raises(InputError, match=r"the cluster of 1 host has 2 cores and no GPU; give --workers 2"):
        require_room([Needs(workers=3)], joined=True)


@pytest.mark.ray
def test_a_busy_cluster_is_waited_for_with_a_word(
    ray_local: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @ray.remote(num_cpus=2)
    class Busy:
        def there(self) -> bool:
            return True

    busy: Any = Busy.remote()
    ray.get(busy.there.remote())
    monkeypatch.setattr("services.common.ray_resources._SOON_S", 0.1)
    told: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        ray.kill(busy)

    monkeypatch.setattr("services.common.ray_resources.say", say)
    require_room([Needs(cpus=2)], joined=True)
    assert told[0] == (
        "waiting for a worker of 2 cores: the cluster has 2 cores and no GPU, "
        "of which 0 cores and no GPU are free"
    )


@pytest.mark.parametrize(
    ("report", "grows"),
    [
        ({"active_nodes": {"node_9a314d5f": 1}, "idle_nodes": None, "pending_launches": {}}, False),
        ({"active_nodes": {"headgroup": 1}}, True),
        ({"active_nodes": {}, "pending_launches": {"gpu": 2}}, True),
        (None, False),
    ],
)
def test_an_autoscaler_is_told_from_a_monitor(
    monkeypatch: pytest.MonkeyPatch, report: dict[str, Any] | None, grows: bool
) -> None:
    from services.common import ray_resources

    status = b"" if report is None else json.dumps({"autoscaler_report": report}).encode()
    monkeypatch.setattr(ray_resources, "_internal_kv_get", lambda key: status)
    assert ray_resources._grows() is grows
