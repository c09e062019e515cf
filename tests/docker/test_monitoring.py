"""Prometheus in the compose file: Debian's program in the place of the public image, which is not at hand."""

import json
import shutil
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = """
FROM {base}
COPY prometheus promtool /bin/
COPY --chown=65534:65534 data /prometheus
USER 65534
ENTRYPOINT ["/bin/prometheus"]
"""

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3000)]


def _asked(path: str, **query: str) -> Any:
    url = f"http://127.0.0.1:9090/api/v1/{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["data"]


@pytest.fixture
def prometheus(cluster: Any, base_image: str, tmp_path: Path) -> Any:
    """The name of the running container of Prometheus."""
    for name in ("prometheus", "promtool"):
        program = shutil.which(name)
        if program is None:
            pytest.skip(f"needs {name} (apt-get install prometheus)")
        shutil.copy(program, tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.format(base=base_image), encoding="utf-8")
    image = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))["services"][
        "prometheus"
    ]["image"]
    cluster.daemon.run("build", "--tag", image, str(tmp_path))
    cluster.daemon.compose("--profile", "monitoring", "up", "--detach", "--no-recreate", "prometheus")
    yield "lungforge_prometheus_1"
    cluster.daemon.run("rm", "--force", "lungforge_prometheus_1")


def test_prometheus_scrapes_every_node_of_the_cluster(cluster: Any, prometheus: str) -> None:
    deadline = time.monotonic() + 180
    while True:
        container = cluster.containers()[prometheus]
        health = container["State"]["Health"]["Status"]
        # Every node of Ray exports its memory.
        nodes = _asked("query", query="count(ray_node_mem_total)")["result"] if health == "healthy" else []
        if nodes and nodes[0]["value"][1] == "3":
            break
        assert time.monotonic() < deadline, f"{health} {nodes}"
        time.sleep(2)
    assert {group["file"] for group in _asked("rules")["groups"]} == {
        "/etc/prometheus/alerts.yml",
        "/etc/prometheus/nightly-alerts.yml",
    }
    assert container["HostConfig"]["ReadonlyRootfs"] is True
    assert container["Config"]["User"] == "65534:65534"
