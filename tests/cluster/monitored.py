"""A Ray that a real Prometheus watches, for the tests of what it sees."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from lungforge.datasets import Dataset
from tests.ray_head import RayHead, wait_until

MONITORING = Path(__file__).parents[2] / "cluster" / "monitoring"
PUSHGATEWAY = shutil.which("prometheus-pushgateway")


class Prometheus:
    """A Prometheus on loopback with the project's configuration; beside it a Pushgateway, if there is one."""

    def __init__(self, folder: Path, discovery: Path) -> None:
        port, gateway = _free_port(), _free_port()
        self.url, self.gateway = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{gateway}"
        for name in ("alerts.yml", "nightly-alerts.yml"):
            shutil.copy(MONITORING / name, folder)
        text = (MONITORING / "prometheus.yml").read_text(encoding="utf-8")
        # Only where the file is, and how often it is looked at, is not as a user has it.
        for old, new in (
            ("/tmp/ray/prom_metrics_service_discovery.json", str(discovery)),
            (" 15s", " 1s"),
            (" 30s", " 1s"),
        ):
            assert old in text
            text = text.replace(old, new)
        document = yaml.safe_load(text)
        pushed = {"targets": [f"127.0.0.1:{gateway}"]}
        document["scrape_configs"].append(
            {"job_name": "pushed", "honor_labels": True, "static_configs": [pushed]}
        )
        (folder / "prometheus.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
        commands = [
            [
                "prometheus",
                "--config.file=prometheus.yml",
                f"--web.listen-address=127.0.0.1:{port}",
                "--storage.tsdb.path=data",
            ]
        ]
        urls = [self.url]
        if PUSHGATEWAY is not None:
            commands.append([PUSHGATEWAY, f"--web.listen-address=127.0.0.1:{gateway}"])
            urls.append(self.gateway)
        with (folder / "log").open("ab") as log:
            self._processes = [
                subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) for command in commands
            ]
        wait_until(lambda: all(map(self._ready, urls)), 60)

    @staticmethod
    def _ready(url: str) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
            return answer.status == 200
        return False

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(30)

    def api(self, path: str, **query: str) -> Any:
        """The ``data`` that an address of its HTTP API answers with."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            document = json.loads(answer.read())
        assert document["status"] == "success"
        return document["data"]

    def value(self, query: str) -> float | None:
        """The value of a query with one answer; None as long as there is none."""
        result = self.api("query", query=query)["result"]
        assert len(result) <= 1, query
        return float(result[0]["value"][1]) if result else None

    def expect(self, query: str, value: float) -> None:
        """Wait until a query has a value, and say what it had instead."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self.value(query) == value, 30)
        assert self.value(query) == value, query


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@dataclasses.dataclass(frozen=True)
class Lab:
    """A Ray that is watched, and a folder of datasets."""

    head: RayHead
    prometheus: Prometheus
    folder: Path
    counted: dict[str, float | None] = dataclasses.field(default_factory=dict)
    """What Prometheus knew when every service had run once, by query."""

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Begin a command of the services on the cluster."""
        address = (self.head.ray_folder / "ray_current_cluster").read_text(encoding="utf-8").strip()
        # 0: of an address on loopback, as the head itself has it.
        ours = {"RAY_ADDRESS": address, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        return subprocess.Popen(
            [sys.executable, "-m", "services", *words],
            cwd=Path(__file__).parents[2],
            env=self.head.environment | ours,
            encoding="utf-8",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *words: str, code: int = 0) -> str:
        """Run one to its end; returns its output."""
        return self.end(self.start(*words), code)

    def end(self, process: "subprocess.Popen[str]", code: int = 0) -> str:
        """Wait for the end of one; returns its output."""
        output, _ = process.communicate(timeout=300)
        assert process.returncode == code, output[-4000:]
        return output

    def dataset(self, name: str) -> Dataset:
        """One of the folder."""
        return Dataset.open(str(self.folder / name))

    def at(self, *names: str) -> list[str]:
        """The paths of some."""
        return [str(self.folder / name) for name in names]

    def kill_a_worker(self, title: str) -> None:
        """SIGKILL the first process of the head's Ray whose title begins so, as soon as there is one."""

        def killed() -> bool:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    ours = str(self.head.folder).encode() in (path.parent / "environ").read_bytes()
                    if ours and path.read_bytes().startswith(title.encode()):
                        os.kill(int(path.parent.name), signal.SIGKILL)
                        return True
            return False

        wait_until(killed, 120)
