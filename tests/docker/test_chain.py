"""`make up`: a cluster in containers, and the whole chain on it, from phantoms to a report."""

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

REPORT = "http://127.0.0.1:8888/buckets/lab/chain/report/report.html"

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3000)]


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(1)


def test_the_chain_ends_with_its_report(cluster: Any) -> None:
    for stage in ("phantom", "preprocess", "train", "sample", "evaluate"):
        assert f"chain: {stage} --" in cluster.printed
    report = cluster.inside("lungforge_store_1", "weed", "filer.cat", REPORT)
    assert report.lower().startswith("<!doctype html")
    assert "s3://lab/chain/samples" in report


def test_containers_are_as_the_compose_file_promises(cluster: Any) -> None:
    containers = cluster.containers()
    assert sorted(containers) == [
        "lungforge-chain",
        "lungforge_head_1",
        "lungforge_store_1",
        "lungforge_worker_1",
        "lungforge_worker_2",
    ]
    for name, container in containers.items():
        host = container["HostConfig"]
        assert container["Config"]["User"] == "1000:1000"
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert not host["Privileged"]
        assert host["Memory"] > 0
        assert host["NanoCpus"] > 0
        if name == "lungforge-chain":
            continue
        status = dict(
            line.split(":\t")
            for line in cluster.inside(name, "cat", "/proc/1/status").splitlines()
            if ":\t" in line
        )
        assert status["Uid"].split() == ["1000"] * 4
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        assert "Read-only file system" in cluster.inside(name, "sh", "-c", "touch /usr/x 2>&1 || true")


def test_only_loopback_listens(cluster: Any) -> None:
    assert cluster.sockets == {"127.0.0.1:8265", "127.0.0.1:8333"}


def test_other_containers_reach_nothing_of_the_store_without_a_key(cluster: Any) -> None:
    script = (
        "import http.client, socket\n"
        "address, found = socket.gethostbyname('store'), []\n"
        "for port in range(1, 65536):\n"
        "    with socket.socket() as one:\n"
        "        one.settimeout(5)\n"
        "        if one.connect_ex((address, port)) == 0:\n"
        "            found.append(port)\n"
        "connection = http.client.HTTPConnection(address, 8333)\n"
        "connection.request('GET', '/lab/')\n"
        "print(found, connection.getresponse().status)\n"
    )
    assert cluster.inside("lungforge_head_1", "python", "-c", script) == "[8333] 403\n"


def test_no_secret_is_in_what_docker_tells(cluster: Any, images: dict[str, str]) -> None:
    text = json.dumps(cluster.containers()) + cluster.printed
    for image in images.values():
        text += cluster.daemon.run("history", "--no-trunc", image) + cluster.daemon.run("inspect", image)
    for name in cluster.containers():
        logs = cluster.daemon.asked("logs", name)
        text += logs.stdout + logs.stderr
    assert "RAY_AUTH_TOKEN_PATH" in text
    for secret in cluster.secrets:
        assert len(secret) >= 20
        assert secret not in text


def test_the_dashboard_asks_for_the_token(cluster: Any) -> None:
    jobs = urllib.request.Request("http://127.0.0.1:8265/api/jobs/")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(jobs, timeout=30)
    jobs.add_header("Authorization", f"Bearer {cluster.secrets[0]}")
    with urllib.request.urlopen(jobs, timeout=30) as answer:
        submitted = json.load(answer)
    assert [job["status"] for job in submitted].count("SUCCEEDED") == 5


def test_the_chain_again_writes_nothing(cluster: Any) -> None:
    script = (
        "import fsspec\n"
        "fs = fsspec.filesystem('s3')\n"
        "for path, entry in sorted(fs.find('lab/chain', detail=True).items()):\n"
        "    print(path, entry['LastModified'], entry['ETag'])\n"
    )
    before = cluster.inside("lungforge_head_1", "python", "-c", script)
    assert "lab/chain/report/report.html" in before
    done = cluster.daemon.make("up", **cluster.settings)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "chain: the phantoms exist already" in done.stdout
    assert cluster.inside("lungforge_head_1", "python", "-c", script) == before


def test_a_chain_that_fails_has_the_exit_code_of_its_stage(cluster: Any) -> None:
    # As if the phantoms had been generated, and all but the table were lost.
    table = "s3://lab/broken/luna16/annotations.csv"
    cluster.inside(
        "lungforge_head_1", "python", "-c", f"import fsspec; fsspec.open('{table}', 'w').open().close()"
    )
    done = cluster.daemon.make("up", **cluster.settings, LUNGFORGE_STORE="s3://lab/broken")
    assert done.returncode != 0
    # The code of a stage that was given bad input, which make turns into its exit code.
    assert cluster.containers()["lungforge-chain"]["State"]["ExitCode"] == 2
    assert "chain: preprocess --" in done.stdout
    assert "chain: train --" not in done.stdout


def _signal(cluster: Any, container: str, process: str, number: signal.Signals) -> None:
    processes = cluster.daemon.run("top", container, "-o", "pid,comm").splitlines()[1:]
    (pid,) = (int(line.split()[0]) for line in processes if line.split()[1] == process)
    os.kill(pid, number)


def test_the_health_check_notices_a_head_that_hangs(cluster: Any) -> None:
    assert cluster.check("lungforge_head_1")
    _signal(cluster, "lungforge_head_1", "gcs_server", signal.SIGSTOP)
    try:
        assert not cluster.check("lungforge_head_1")
    finally:
        _signal(cluster, "lungforge_head_1", "gcs_server", signal.SIGCONT)
    _until(lambda: cluster.check("lungforge_head_1"), 60)


def test_a_dead_worker_restarts(cluster: Any) -> None:
    _signal(cluster, "lungforge_worker_1", "raylet", signal.SIGKILL)
    _until(lambda: cluster.containers()["lungforge_worker_1"]["RestartCount"] == 1, 120)
    _until(lambda: cluster.containers()["lungforge_worker_1"]["State"]["Health"]["Status"] == "healthy", 120)


def test_a_worker_that_hangs_is_detected_and_restarts(cluster: Any) -> None:
    _signal(cluster, "lungforge_worker_2", "raylet", signal.SIGSTOP)
    # Ray itself gives a node up that has not answered for about a minute, and the check asks Ray.
    _until(lambda: not cluster.check("lungforge_worker_2"), 180)
    _signal(cluster, "lungforge_worker_2", "raylet", signal.SIGCONT)
    # Given up, it ends itself, and its container is started again.
    _until(lambda: cluster.containers()["lungforge_worker_2"]["RestartCount"] == 1, 120)
    _until(lambda: cluster.check("lungforge_worker_2"), 120)
