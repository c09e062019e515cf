"""A separate Docker daemon, a base image made by debootstrap, and what `make` does with them."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lungforge import __version__

ROOT = Path(__file__).parents[2]
BASE = ROOT / "build" / "docker-base.tar"
TOOLS = ("dockerd", "docker-compose", "debootstrap", "make", "ss")


class Daemon:
    """A dockerd with a separate socket and disk, which does not change the machine's firewall and routes.

    Its containers reach one another, and loopback what they publish; they do not reach the world.
    """

    def __init__(self, folder: Path, docker: Path) -> None:
        self.folder = folder
        self.docker = docker
        self.environment = os.environ | {"DOCKER_HOST": f"unix://{folder}/socket", "DOCKER_BUILDKIT": "1"}
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [
            "dockerd",
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/pid",
            f"--host=unix://{self.folder}/socket",
            "--bridge=none",
            "--iptables=false",
            "--ip-forward=false",
            "--default-address-pool=base=10.213.0.0/16,size=24",
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 60
        while self.asked("info").returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"dockerd did not start:\n{(self.folder / 'log').read_text(encoding='utf-8')[-3000:]}"
                )
            time.sleep(0.2)

    def stop(self) -> None:
        """End the daemon and its containers, and give back the disk."""
        assert self._process is not None
        running = self.asked("ps", "--all", "--quiet").stdout.split()
        if running:
            self.asked("rm", "--force", "--volumes", *running)
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=60)
        shutil.rmtree(self.folder)

    def asked(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A docker command, whether it succeeds or not."""
        return subprocess.run(
            [self.docker, *arguments],
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=300,
        )

    def run(self, *arguments: str) -> str:
        """What a docker command prints; it must succeed."""
        done = self.asked(*arguments)
        assert done.returncode == 0, f"docker {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def inspect(self, name: str) -> dict[str, Any]:
        """What ``docker inspect`` prints of a container or an image."""
        (details,) = json.loads(self.run("inspect", name))
        return details

    def compose(self, *arguments: str) -> None:
        """A command of docker-compose; it must succeed."""
        command = ["docker-compose", "-f", "docker/compose.yaml", *arguments]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"

    def make(self, target: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """`make TARGET`, as a user runs it."""
        settings = {"DOCKER": str(self.docker), "COMPOSE": "docker-compose -f docker/compose.yaml"}
        return subprocess.run(
            ["make", target, *(f"{name}={value}" for name, value in (settings | variables).items())],
            cwd=ROOT,
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
            timeout=1500,
        )


def _docker_with_buildkit() -> Path | None:
    """The first client that can build: those from version 23 on need the plugin buildx for it."""
    for folder in os.environ.get("PATH", "").split(":"):
        client = Path(folder) / "docker"
        if client.exists():
            done = subprocess.run(
                [client, "build", "--help"],
                env=os.environ | {"DOCKER_BUILDKIT": "1"},
                capture_output=True,
                encoding="utf-8",
                check=False,
                timeout=60,
            )
            if done.returncode == 0 and "--secret" in done.stdout:
                return client
    return None


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """A running daemon without any image."""
    if os.environ.get("LUNGFORGE_TEST_CLUSTER") != "1":
        pytest.skip("builds and runs containers for many minutes: set LUNGFORGE_TEST_CLUSTER=1")
    if os.getuid() != 0:
        pytest.skip("needs root, for dockerd and debootstrap")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    docker = _docker_with_buildkit()
    if docker is None:
        pytest.skip("needs a docker client that builds with BuildKit")
    daemon = Daemon(Path(tempfile.mkdtemp(prefix="lungforge-docker-")), docker)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()


@pytest.fixture(scope="session")
def base_image(daemon: Daemon) -> str:
    """Debian 12 with its Python 3.11; what debootstrap made is kept in build/ for the next time."""
    if not BASE.exists():
        BASE.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="lungforge-debian-") as temporary:
            # Not the temporary folder itself, which is for its owner alone: this becomes the image's root.
            folder = Path(temporary) / "debian"
            packages = "python3,python3-pip,python3-venv,ca-certificates"
            subprocess.run(
                ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(folder)],
                check=True,
                capture_output=True,
                timeout=900,
            )
            partial = BASE.with_suffix(".partial")
            subprocess.run(["tar", "-C", folder, "-cf", partial, "."], check=True, timeout=300)
            partial.rename(BASE)
    daemon.run("import", str(BASE), "lungforge-base:bookworm")
    return "lungforge-base:bookworm"


@pytest.fixture(scope="session")
def build_options(base_image: str) -> tuple[str, ...]:
    """What `docker build` needs here: a base that is at hand, and the way to the packages."""
    options = ("--build-arg", f"BASE_IMAGE={base_image}", "--network", "host", "--progress", "plain")
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    return (*options, "--secret", f"id=ca_bundle,src={certificates}") if certificates.exists() else options


@pytest.fixture(scope="session")
def images(daemon: Daemon, build_options: tuple[str, ...]) -> dict[str, str]:
    """The two images that `make image` built, each under its name without the version."""
    done = daemon.make("image", IMAGE_OPTIONS=" ".join(build_options))
    assert done.returncode == 0, done.stdout[-5000:]
    built = {name: f"{name}:{__version__}" for name in ("lungforge", "lungforge-store")}
    for image in built.values():
        assert daemon.inspect(image)["Config"]["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    return built


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster of two workers on which the chain has run.

    Attributes:
        daemon: The Docker daemon.
        settings: What `make up` was given.
        printed: What `make up` said.
        sockets: Where something listens since then that did not before.
        secrets: What must not be seen: the token and the keys.
    """

    daemon: Daemon
    settings: dict[str, str]
    printed: str
    sockets: frozenset[str]
    secrets: tuple[str, ...] = dataclasses.field(repr=False)

    def containers(self) -> dict[str, dict[str, Any]]:
        """Name to what ``docker inspect`` prints of it."""
        names = self.daemon.run("ps", "--all", "--format", "{{.Names}}").split()
        return {name: self.daemon.inspect(name) for name in names}

    def inside(self, container: str, *command: str) -> str:
        """What a command prints in a container."""
        return self.daemon.run("exec", container, *command)

    def check(self, container: str) -> bool:
        """What the health check of a container says at this moment."""
        test = self.daemon.inspect(container)["Config"]["Healthcheck"]["Test"]
        script = f"timeout 20 {' '.join(test[1:])} >/dev/null 2>&1; echo $?"
        return self.inside(container, "sh", "-c", script) == "0\n"


@pytest.fixture(scope="session")
def cluster(daemon: Daemon, images: dict[str, str]) -> Iterator[Cluster]:
    """The cluster, ended by `make down`."""
    before = _listening()
    settings = {"UP_OPTIONS": "--scale worker=2", "LUNGFORGE_WORKER_CPUS": "1"}
    done = daemon.make("up", **settings)
    assert done.returncode == 0, done.stdout[-5000:]
    made = ROOT / "build" / "secrets"
    identity = json.loads((made / "store-identities.json").read_text(encoding="utf-8"))["identities"][0][
        "credentials"
    ][0]
    yield Cluster(
        daemon=daemon,
        settings=settings,
        printed=done.stdout,
        sockets=frozenset(_listening() - before),
        secrets=(
            (made / "ray-token").read_text(encoding="utf-8"),
            identity["secretKey"],
            identity["accessKey"],
        ),
    )
    ended = daemon.make("down")
    assert ended.returncode == 0, ended.stdout
    assert daemon.run("ps", "--all", "--quiet") == ""
    # The data stay.
    assert "lungforge_store" in daemon.run("volume", "ls", "--quiet").split()


def _listening() -> set[str]:
    """Where Docker listens; containers have separate networks, and are not reached otherwise."""
    done = subprocess.run(["ss", "-ltunpH"], capture_output=True, encoding="utf-8", check=True)
    return {line.split()[4] for line in done.stdout.splitlines() if '"docker' in line}
