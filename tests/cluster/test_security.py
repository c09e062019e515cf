"""Who gets in, and where secrets can be seen: asked of a real Ray head and a real S3 server."""

import json
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lungforge.ct.phantoms.generate import write_phantoms
from services.cli.commands import parse
from services.submit.config import submission_id
from tests.cluster.exposure import PAGES, CommandLines, exposed, holders_of
from tests.long_run import in_the_long_run
from tests.ray_head import RayHead, wait_until

#: What can be done by a request, and how.
DEEDS = (
    ("POST", "/api/jobs/", {"entrypoint": "id"}),
    ("DELETE", "/api/jobs/any", None),
    ("POST", "/api/jobs/any/stop", None),
    ("PUT", "/api/packages/gcs/_ray_pkg_0.zip", None),
    ("GET", "/api/v0/logs/file?node_id=0&filename=raylet.out", None),
    ("GET", "/worker/traceback?pid=1&node_id=0", None),
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def head(s3_server: Any) -> Iterator[RayHead]:
    """A cluster whose environment has the keys of the store, as a mounted secret would give them."""
    with RayHead(s3_server.environment) as head:
        yield head


@pytest.fixture(scope="module")
def luna16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small scan."""
    folder = tmp_path_factory.mktemp("scans") / "luna16"
    write_phantoms(str(folder), series=1, seed=0, size=64, slices=12)
    return folder


def _preprocess(source: Path, out: str) -> list[str]:
    return ["preprocess", "--source", str(source), "--out", out, "--size", "32", "--workers", "1"]


# --- who gets in --------------------------------------------------------------------------------------------


@pytest.mark.s3
@pytest.mark.ray
def test_no_page_and_no_deed_without_the_token(head: RayHead) -> None:
    before, wrong = head.jobs(), secrets.token_hex(32)
    for method, path, body in (*(("GET", path, None) for path in PAGES), *DEEDS):
        status, text = head.request(method, path, None, body)
        assert status == 401, f"{method} {path}: {status} {text[:200]}"
        status, text = head.request(method, path, wrong, body)
        assert status == 403, f"{method} {path}: {status} {text[:200]}"
        assert wrong not in text
    assert head.jobs() == before
    # The right token opens them, so they are pages.
    assert {path: head.get(path)[0] for path in PAGES} == dict.fromkeys(PAGES, 200)


@pytest.mark.s3
@pytest.mark.ray
def test_the_services_of_ray_ask_for_the_token_too(head: RayHead) -> None:
    import grpc
    from ray.core.generated import core_worker_pb2 as workers_pb2
    from ray.core.generated import gcs_service_pb2, node_manager_pb2, ray_client_pb2, reporter_pb2

    calls = {
        "gcs": ("NodeInfoGcsService/GetAllNodeInfo", gcs_service_pb2.GetAllNodeInfoRequest()),
        "node-manager": ("NodeManagerService/GetNodeStats", node_manager_pb2.GetNodeStatsRequest()),
        "ray-client-server": ("RayletDriver/ClusterInfo", ray_client_pb2.ClusterInfoRequest()),
        "dashboard-agent-grpc": ("ReporterService/GetTraceback", reporter_pb2.GetTracebackRequest(pid=1)),
    }
    named = {head.ports[name]: call for name, call in calls.items()}
    ask_worker = ("CoreWorkerService/GetCoreWorkerStats", workers_pb2.GetCoreWorkerStatsRequest())

    def workers() -> dict[int, Any]:
        ports = {port for _, port in _listeners() if port in head.block} - set(head.ports.values())
        return dict.fromkeys(ports, ask_worker)

    def answer(port: int, method: str, request: Any, token: str | None) -> Any:
        metadata = token and [("authorization", f"Bearer {token}")]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(
                f"/ray.rpc.{method}", request_serializer=type(request).SerializeToString
            )
            try:
                call(request, timeout=20, metadata=metadata)
            except grpc.RpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    # The process of a job is a worker of Ray's.
    job = json.loads(head.request("POST", "/api/jobs/", "", {"entrypoint": "sleep 600"})[1])
    wait_until(lambda: len(workers()) > 0, 60)
    for port, (method, request) in (named | workers()).items():
        for token in (None, secrets.token_hex(32)):
            assert answer(port, method, request, token) == grpc.StatusCode.UNAUTHENTICATED, method
        # With the token a call arrives, even one that is answered with an error.
        assert answer(port, method, request, head.token) in (grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND)
    assert head.request("POST", f"/api/jobs/{job['submission_id']}/stop")[0] == 200


@pytest.mark.s3
@pytest.mark.ray
def test_nothing_listens_but_on_loopback(head: RayHead) -> None:
    """With Ray's switch for one machine, which ``lungforge`` sets for clusters that it starts."""
    listeners = {port: address for address, port in _listeners() if port in head.block}
    assert head.ports["dashboard"] in listeners
    assert head.ports["gcs"] in listeners
    assert head.ports["metrics-export"] in listeners
    assert set(listeners.values()) == {"127.0.0.1"}


def _listeners() -> Iterator[tuple[str, int]]:
    """Address and port of what listens on this machine; ``any`` for all addresses, IPv6 in hexadecimal."""
    named = {
        "0100007F": "127.0.0.1",
        "00000000": "any",
        "00000000000000000000000000000000": "any",
        "0000000000000000FFFF00000100007F": "127.0.0.1",
        "00000000000000000000000001000000": "127.0.0.1",
    }
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="utf-8").splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, port = local.split(":")
            if state == "0A":
                yield named.get(address, address), int(port, 16)


# --- where secrets can be seen ------------------------------------------------------------------------------


def _told(done: subprocess.CompletedProcess[str], lines: CommandLines) -> dict[str, str]:
    return {"stdout": done.stdout, "stderr": done.stderr, "ps": "\n".join(lines.seen)}


@pytest.mark.s3
@pytest.mark.ray
def test_no_secret_is_seen_where_a_stage_runs(
    head: RayHead, luna16: Path, s3_server: Any, s3_uri: str
) -> None:
    words = _preprocess(luna16, f"{s3_uri}/slices")
    with CommandLines() as lines:
        done = head.submit(*words, "--json")
    assert done.returncode == 0, done.stderr
    places = exposed(head, s3_uri) | {
        "stdout": done.stdout,
        "stderr": done.stderr,
        "ps": "\n".join(lines.seen),
    }
    _require_unseen(places, (head.token, s3_server.access_key, s3_server.secret_key))
    # It was looked in the right places: what may be seen was seen there.
    entry = f"python -m services {' '.join(words)} --json"
    for place in (
        "ps",
        "/api/jobs/",
        f"/api/jobs/{submission_id(words[0], parse(words[0], words[1:]))}/logs",
    ):
        assert entry in places[place], place
    assert any(place.startswith("/nodes/") and "raylet" in text for place, text in places.items())
    assert any(place.endswith("slices/manifest.json") for place in places)
    assert any(place.endswith("/logs/raylet.out") for place in places)
    assert "ray_node_cpu_count" in places["/metrics"]


@pytest.mark.s3
@pytest.mark.ray
def test_no_secret_is_seen_where_a_key_is_refused(luna16: Path, s3_server: Any, s3_uri: str) -> None:
    wrong = secrets.token_hex(16)
    with RayHead(s3_server.environment | {"AWS_SECRET_ACCESS_KEY": wrong}) as head:
        with CommandLines() as lines:
            refused = head.submit(*_preprocess(luna16, f"{s3_uri}/slices"))
        assert refused.returncode == 2, refused.stderr
        assert "access denied" in refused.stderr
        assert "check AWS_ACCESS_KEY_ID" in refused.stderr
        places = exposed(head, s3_uri)
    places |= _told(refused, lines)
    _require_unseen(places, (head.token, s3_server.access_key, wrong))


def _small_chain(store: str) -> list[list[str]]:
    """Every stage, small; the night and the export as well."""
    lines = (
        "phantom --out AT/luna16 --series 10 --size 96 --slices 20",
        "preprocess --source AT/luna16 --out AT/slices --size 32 --slices nodules --healthy-every 4",
        "train --data AT/slices --out AT/models/a --preset tiny --steps 6 --preview-every 3 --subsets TRAIN",
        "sample --model AT/models/a --data AT/slices --out AT/samples --count 16 --steps 4 --subsets TRAIN",
        "evaluate --real AT/slices --synthetic AT/samples --out AT/report --subsets 7 8 9",
        "export --data AT/samples --out AT/export --format coco",
        "nightly --store AT --count 12 --steps 4 --pushgateway http://127.0.0.1:9",
        "show AT/samples --sheet AT/sheet.png",
    )
    return [re.sub(r"\bAT\b", store, line.replace("TRAIN", "0 1 2 3 4 5 6")).split() for line in lines]


@pytest.mark.s3
@pytest.mark.ray
@pytest.mark.timeout(1200)
@in_the_long_run
def test_no_secret_is_seen_where_the_chain_runs(s3_server: Any, s3_uri: str, tmp_path: Path) -> None:
    """Given in every way that is not refused: files, variables, and the proxies' own addresses."""
    planted = {name: secrets.token_hex(16) for name in ("proxy", "azure", "token", "config")}
    credentials, config = tmp_path / "credentials", tmp_path / "config"
    credentials.touch(mode=0o600)
    credentials.write_text(
        f"[lab]\naws_access_key_id = {s3_server.access_key}\n"
        f"aws_secret_access_key = {s3_server.secret_key}\n",
        encoding="utf-8",
    )
    config.write_text(
        f"[profile lab]\nregion = us-east-1\nendpoint_url = {s3_server.endpoint}\n"
        f"[profile other]\nendpoint_url = http://me:{planted['config']}@127.0.0.1:9\n",
        encoding="utf-8",
    )
    environment = {
        "AWS_PROFILE": "lab",
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "AWS_CONFIG_FILE": str(config),
        "AWS_EC2_METADATA_DISABLED": "true",
        "HTTPS_PROXY": f"http://me:{planted['proxy']}@127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
        "AZURE_STORAGE_CONNECTION_STRING": f"AccountName=lab;AccountKey={planted['azure']}",
        "LAB_TOKEN": planted["token"],
    }
    places: dict[str, str] = {}
    with RayHead(environment) as head:
        with CommandLines() as lines:
            for words in _small_chain(s3_uri):
                done = head.submit(*words, "--json")
                assert done.returncode == 0, f"{words}\n{done.stderr}"
                places[f"stdout of {words[0]}"], places[f"stderr of {words[0]}"] = done.stdout, done.stderr
            other = head.submit("show", f"{s3_uri}/none")
            assert other.returncode == 2, other.stderr
        places |= exposed(head, s3_uri) | {"ps": "\n".join(lines.seen), "refused": other.stderr}
        _require_unseen(places, (head.token, s3_server.access_key, s3_server.secret_key, *planted.values()))
    for name in ("report/metrics.json", "export/provenance.json", "history.parquet", "index.html"):
        assert any(place.endswith(name) for place in places), name
    assert len([place for place in places if place.endswith("/manifest.json")]) >= 6


@pytest.mark.s3
@pytest.mark.ray
def test_a_command_with_a_secret_leaves_no_trace(head: RayHead, s3_server: Any, s3_uri: str) -> None:
    """Neither where it is given to ``submit``, nor in the environment of the cluster."""
    secret = secrets.token_hex(16)
    before = head.jobs()
    host = s3_server.endpoint.removeprefix("http://")
    given = (
        (["preprocess", "--source", f"https://me:{secret}@{host}/a", "--out", f"{s3_uri}/a"], {}),
        (
            ["preprocess", "--source", f"s3://{s3_server.access_key}:{secret}@lab/a", "--out", f"{s3_uri}/a"],
            {},
        ),
        (["show", f"http://{host}/lab/a?X-Amz-Signature={secret}"], {}),
        (
            ["export", "--data", f"https://lab.blob.core.windows.net/a?sig={secret}", "--out", f"{s3_uri}/a"],
            {},
        ),
        (["nightly", "--store", s3_uri, "--pushgateway", f"http://me:{secret}@127.0.0.1:9"], {}),
        (["evaluate", "--no-such-option", f"https://me:{secret}@{host}/a"], {}),
        (["show", f"{s3_uri}/a"], {"AWS_ENDPOINT_URL": f"http://me:{secret}@{host}"}),
        (["show", f"{s3_uri}/a"], {"RAY_ADDRESS": f"http://me:{secret}@127.0.0.1:8265"}),
    )
    printed = {}
    for words, changes in given:
        done = head.submit(*words, **changes)
        assert done.returncode == 2, f"{words}\n{done.stderr}"
        assert done.stderr.count("\n") == 1
        assert " in a URI" in done.stderr
        printed[f"{words} {changes}".replace(secret, "SECRET")] = done.stdout + done.stderr
    assert head.jobs() == before
    _require_unseen(exposed(head, s3_uri) | printed, (secret,))


def _require_unseen(places: dict[str, str], hidden: tuple[str, ...]) -> None:
    assert len(set(hidden)) == len(hidden)
    for secret in hidden:
        assert len(secret) >= 16
        assert holders_of(places, secret) == []


@pytest.mark.s3
@pytest.mark.ray
def test_what_is_handed_in_with_a_job_is_seen_by_all(head: RayHead, s3_uri: str) -> None:
    """Why no credential goes that way; and the search that finds nothing above finds this."""
    planted = secrets.token_hex(16)
    body = {"entrypoint": "true", "runtime_env": {"env_vars": {"AWS_SECRET_ACCESS_KEY": planted}}}
    status, text = head.request("POST", "/api/jobs/", "", body)
    assert status == 200, text
    name = json.loads(text)["submission_id"]
    wait_until(lambda: head.jobs()[name]["status"] == "SUCCEEDED", 60)
    holders = holders_of(exposed(head, s3_uri), planted)
    assert "/api/jobs/" in holders
    assert f"/api/jobs/{name}" in holders


@pytest.mark.s3
@pytest.mark.ray
def test_a_submission_carries_nothing_of_the_environment_it_is_made_in(head: RayHead, luna16: Path) -> None:
    planted = secrets.token_hex(16)
    words = ["show", str(luna16)]
    head.submit("--working-dir", str(luna16.parent), *words, AWS_SECRET_ACCESS_KEY=planted, SOMETHING=planted)
    job = head.jobs()[submission_id(words[0], parse(words[0], words[1:]))]
    assert set(job["runtime_env"]) == {"working_dir", "excludes"}
    assert planted not in json.dumps(job)
