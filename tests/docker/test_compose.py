"""The compose file, read as data: what is promised of every container."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lungforge import __version__
from services.cli.commands import parse

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker" / "compose.yaml"

SERVICES = ("store", "head", "worker", "chain", "prometheus", "grafana")
SECRETS = {"ray-token", "store-credentials", "store-identities", "grafana-password"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file with its anchors followed."""
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, compose: dict[str, Any]) -> dict[str, Any]:
    """Every service in turn."""
    return compose["services"][request.param]


def test_no_service_is_left_out_of_these_tests(compose: dict[str, Any]) -> None:
    assert sorted(compose["services"]) == sorted(SERVICES)


def test_no_container_is_root_or_has_rights_beyond_a_process(service: dict[str, Any]) -> None:
    assert service["user"] in ("${LUNGFORGE_USER:-1000:1000}", "65534:65534")
    assert service["user"] != "65534:65534" or "secrets" not in service
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode"} & set(service)
    assert service.get("network_mode") in (None, "service:prometheus")


def test_every_container_has_limits_and_a_log_that_ends(service: dict[str, Any]) -> None:
    assert service["mem_limit"]
    assert service["cpus"]
    assert service["pids_limit"] == 4096
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert all(re.search(r":size=\d+[mg],mode=1777$", mount) for mount in service.get("tmpfs", []))


def test_what_ray_shares_fits_into_its_shared_memory(compose: dict[str, Any]) -> None:
    for name in ("head", "worker"):
        service = compose["services"][name]
        (given,) = (word for word in service["command"] if word.startswith("--object-store-memory="))
        # With more than /dev/shm holds, Ray falls back to files in /tmp.
        assert int(given.partition("=")[2]) <= 0.95 * int(service["shm_size"].rstrip("g")) * 2**30


def test_only_the_store_s_own_script_decides_where_seaweedfs_listens(compose: dict[str, Any]) -> None:
    port, s3_port, *given = compose["services"]["store"]["command"]
    assert compose["services"]["head"]["environment"]["AWS_ENDPOINT_URL"] == f"http://store:{port}"
    assert s3_port != port
    assert not [word for word in given if word.startswith(("-ip", "-s3.port=", "mini"))]


def test_nothing_is_published_but_on_loopback(compose: dict[str, Any]) -> None:
    published = {name: service.get("ports", []) for name, service in compose["services"].items()}
    assert published == {
        "store": ["127.0.0.1:8333:8333"],
        "head": ["127.0.0.1:8265:8265"],
        "worker": [],
        "chain": [],
        "prometheus": ["127.0.0.1:9090:9090", "127.0.0.1:3000:3000"],
        "grafana": [],
    }


def test_secrets_are_files_and_never_environment(compose: dict[str, Any]) -> None:
    assert set(compose["secrets"]) == SECRETS
    for secret in compose["secrets"].values():
        assert set(secret) == {"file"}
        assert secret["file"].startswith("../build/secrets/")
    for service in compose["services"].values():
        assert set(service.get("secrets", [])) <= SECRETS
        for name, value in service.get("environment", {}).items():
            secret = re.search(r"TOKEN|KEY|SECRET|PASSWORD|CREDENTIALS", name)
            assert not secret or value.startswith("/run/secrets/"), name
    # Those who submit jobs can read what the nodes can; no other service gets the keys of the store.
    holders = {
        secret: {
            name for name, service in compose["services"].items() if secret in service.get("secrets", [])
        }
        for secret in SECRETS
    }
    assert holders == {
        "ray-token": {"head", "worker", "chain"},
        "store-credentials": {"head", "worker", "chain"},
        "store-identities": {"store"},
        "grafana-password": {"grafana"},
    }


def test_images_are_pinned_and_ours_are_of_this_version(compose: dict[str, Any]) -> None:
    images = {name: service["image"] for name, service in compose["services"].items()}
    ours = f"lungforge:{__version__}"
    assert (images["head"], images["worker"], images["chain"]) == (ours, ours, ours)
    assert images["store"] == f"lungforge-store:{__version__}"
    for image in images.values():
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", image), image


def test_each_waits_until_what_it_needs_is_healthy(compose: dict[str, Any]) -> None:
    waits = {name: service.get("depends_on", {}) for name, service in compose["services"].items()}
    for needed in waits.values():
        for name, condition in needed.items():
            assert condition == {"condition": "service_healthy"}
            assert compose["services"][name]["healthcheck"]["test"]
    assert set(waits["head"]) == {"store"}
    assert set(waits["worker"]) == {"head"}
    assert set(waits["chain"]) == {"store", "head", "worker"}


def test_prometheus_finds_its_configuration_and_the_nodes_of_ray(compose: dict[str, Any]) -> None:
    prometheus = compose["services"]["prometheus"]
    mounts = dict(mount.split(":")[:2] for mount in prometheus["volumes"])
    configuration = yaml.safe_load(
        (COMPOSE.parent / "../cluster/monitoring/prometheus.yml").read_text(encoding="utf-8")
    )
    assert mounts["../cluster/monitoring"] == "/etc/prometheus"
    (job,) = configuration["scrape_configs"]
    (nodes,) = job["file_sd_configs"]
    # The head writes the file into a volume that both have at the same place.
    assert nodes["files"] == [f"{mounts['ray']}/prom_metrics_service_discovery.json"]
    assert "ray:/tmp/ray" in compose["services"]["head"]["volumes"]
    for mount in [*prometheus["volumes"], *compose["services"]["grafana"]["volumes"]]:
        source = mount.split(":")[0]
        assert not source.startswith(".") or (COMPOSE.parent / source).exists(), source


def test_every_stage_of_the_chain_is_a_command_line_that_is_understood() -> None:
    script = (
        (ROOT / "docker" / "chain.sh")
        .read_text(encoding="utf-8")
        .replace("\\\n", " ")
        .replace("$store", "s3://lab/chain")
    )
    stages = re.findall(r"^\s*stage (.*)$", script, re.MULTILINE)
    read = [parse(words[0], words[1:]) for words in (stage.replace('"', "").split() for stage in stages)]
    assert [type(config).__name__ for config in read] == [
        "PhantomConfig",
        "PreprocessConfig",
        "TrainConfig",
        "SampleConfig",
        "EvalConfig",
    ]
    phantom, preprocess, train, sample, evaluate = read
    assert preprocess.source == phantom.out
    assert train.data == sample.data == preprocess.out
    assert sample.model == train.out
    # What the model has seen, and what it is measured against, are different scans.
    assert set(train.subsets) == set(sample.subsets)
    assert not set(evaluate.subsets) & set(train.subsets)


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="needs docker-compose")
@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"]])
def test_the_older_docker_compose_reads_the_files(files: list[str]) -> None:
    named = [word for name in files for word in ("-f", str(ROOT / "docker" / name))]
    command = ["docker-compose", *named, "config"]
    environment = {"PATH": os.environ["PATH"], "LUNGFORGE_WORKER_CPUS": "1.5"}
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", check=False, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    worker = yaml.safe_load(done.stdout)["services"]["worker"]
    assert float(worker["cpus"]) == 1.5
    assert ("deploy" in worker) == (len(files) == 2)


def _prepared(folder: Path) -> tuple[dict[str, str], list[str]]:
    """The secrets that `docker/prepare.sh` leaves in a folder, and the lines of docker/.env."""
    docker = folder / "docker"
    docker.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "docker" / "prepare.sh", docker)
    subprocess.run([docker / "prepare.sh"], check=True, timeout=60)
    made = (folder / "build" / "secrets").iterdir()
    return {path.name: path.read_text(encoding="utf-8") for path in made}, (docker / ".env").read_text(
        encoding="utf-8"
    ).splitlines()


def test_secrets_are_made_once_and_at_random(tmp_path: Path) -> None:
    first, _ = _prepared(tmp_path / "one")
    again, _ = _prepared(tmp_path / "one")
    other, _ = _prepared(tmp_path / "two")
    named = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["secrets"].values()
    assert set(first) == {secret["file"].rpartition("/")[2] for secret in named}
    assert first == again
    assert all(first[name] != other[name] for name in first)
    assert re.fullmatch("[0-9a-f]{64}", first["ray-token"])
    assert re.fullmatch("[0-9a-f]{32}", first["grafana-password"])
    (identity,) = yaml.safe_load(first["store-identities.json"])["identities"]
    (key,) = identity["credentials"]
    assert re.fullmatch("[0-9a-f]{40}", key["secretKey"])
    assert first["store-credentials"].splitlines() == [
        "[default]",
        f"aws_access_key_id = {key['accessKey']}",
        f"aws_secret_access_key = {key['secretKey']}",
    ]


def test_secrets_can_be_read_by_the_user_of_the_containers_alone(tmp_path: Path) -> None:
    _, settings = _prepared(tmp_path)
    user = "1000:1000" if os.getuid() == 0 else f"{os.getuid()}:{os.getgid()}"
    assert settings == ["COMPOSE_PROJECT_NAME=lungforge", f"LUNGFORGE_USER={user}"]
    folder = tmp_path / "build" / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert f"{status.st_uid}:{status.st_gid}" == user


def test_settings_of_the_user_are_kept(tmp_path: Path) -> None:
    settings = ["LUNGFORGE_USER=7:8", "LUNGFORGE_WORKER_CPUS=4"]
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / ".env").write_text("\n".join(settings) + "\n", encoding="utf-8")
    assert _prepared(tmp_path)[1] == [*settings, "COMPOSE_PROJECT_NAME=lungforge"]
    if os.getuid() == 0:
        assert (tmp_path / "build" / "secrets" / "ray-token").stat().st_gid == 8


def test_the_page_names_every_setting_and_no_other() -> None:
    settings = set(re.findall(r"\$\{(LUNGFORGE_[A-Z_]+)", COMPOSE.read_text(encoding="utf-8")))
    page = (ROOT / "docs" / "operations" / "containers.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(LUNGFORGE_[A-Z_]+)`", page)) == settings
    defaults = dict(
        re.findall(r"\$\{(LUNGFORGE_WORKER_[A-Z]+):-([^}]+)\}", COMPOSE.read_text(encoding="utf-8"))
    )
    assert len(defaults) == 2
    for name, value in defaults.items():
        assert re.search(rf"^\| `{name}` \|.*\| {value} \|$", page, re.MULTILINE)


@pytest.mark.parametrize("store", ["s3://key:5ecret@lab/chain", "https://host/a?token=5ecret"])
def test_the_chain_prints_no_secret_of_its_store(store: str) -> None:
    done = subprocess.run(
        ["bash", ROOT / "docker" / "chain.sh"],
        env={"PATH": os.environ["PATH"], "LUNGFORGE_STORE": store},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr == "chain: LUNGFORGE_STORE has a user name, password or query; leave it out\n"
