"""The jobs for KubeRay: their entry points as the command line reads them, and what the page says of them."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.cli.commands import parse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations" / "kubernetes.md").read_text(encoding="utf-8")
STAGES = ("preprocess", "train", "sample", "evaluate")


def test_jobs_try_again_have_an_end_and_clean_up(overlay: Any) -> None:
    for stage in STAGES:
        spec = overlay.the("RayJob", f"lungforge-{stage}")["spec"]
        assert spec["backoffLimit"] == 2
        assert 3600 <= spec["activeDeadlineSeconds"] <= 7 * 86400
        assert spec["shutdownAfterJobFinishes"] is True
        assert spec["ttlSecondsAfterFinished"] == 3600


def test_what_a_job_writes_the_next_one_reads(overlay: Any) -> None:
    jobs = overlay.configurations()
    preprocess, train, sample, evaluate = (jobs[stage] for stage in STAGES)
    assert preprocess.out == train.data == sample.data == evaluate.real == "s3://lab/slices"
    assert train.out == sample.model == "s3://lab/models/first"
    assert evaluate.synthetic == (sample.out,) == ("s3://lab/samples",)
    assert set(train.subsets) == set(sample.subsets) == set(range(7))
    assert set(evaluate.subsets) == {7, 8, 9}
    assert preprocess.size == {"small": 64, "gpu": 256}[overlay.name]


def test_the_workers_of_a_job_fit_into_its_cluster(overlay: Any) -> None:
    slots: dict[str, tuple[int, int, int]] = {}
    for group in overlay.the("RayCluster", "lungforge")["spec"]["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        of_a_node = int(limits["cpu"]), int(limits.get("nvidia.com/gpu", 0))
        slots[group["groupName"]] = (*of_a_node, group["maxReplicas"])
    jobs = overlay.configurations()
    for stage in STAGES:
        config = jobs[stage]
        cpus, gpus = getattr(config, "cpus_per_worker", 1), getattr(config, "gpus_per_worker", 0)
        cpus_of_a_node, gpus_of_a_node, nodes = slots["gpu" if gpus else "cpu"]
        a_node = cpus_of_a_node // cpus
        if gpus:
            # One machine does it: its GPUs reach one another without the network.
            a_node, nodes = min(a_node, gpus_of_a_node // gpus), 1
        assert 1 <= config.workers <= a_node * nodes, stage
    assert (jobs["train"].gpus_per_worker, jobs["sample"].gpus_per_worker) == (overlay.name == "gpu",) * 2
    assert jobs["train"].batch % jobs["train"].workers == 0


def test_both_kinds_of_night_are_the_same_night(overlay: Any) -> None:
    ours = overlay.the("RayCronJob", "lungforge-nightly")["spec"]
    plain = overlay.the("CronJob", "lungforge-nightly")["spec"]
    assert ours["schedule"] == plain["schedule"]
    assert re.fullmatch(r"[0-5]?\d ([01]?\d|2[0-3]) \* \* \*", plain["schedule"]), "once a day"
    assert plain["timeZone"] == "Etc/UTC"  # the dates of nights are those of UTC
    assert plain["concurrencyPolicy"] == "Forbid"
    template = plain["jobTemplate"]["spec"]
    (container,) = template["template"]["spec"]["containers"]
    words = [re.sub(r"\$\((\w+)\)", r"$\1", word) for word in container["args"]]
    name, config = overlay.command(" ".join(["python -m services", *words]))
    assert (name, config) == overlay.command(ours["jobTemplate"]["entrypoint"])
    assert (name, config.store) == ("nightly", "s3://lab")
    assert config.gpus_per_worker == (overlay.name == "gpu")
    job = ours["jobTemplate"]
    assert job["activeDeadlineSeconds"] == template["activeDeadlineSeconds"] < 86400
    assert job["backoffLimit"] == 0
    assert job["shutdownAfterJobFinishes"] is True


def test_the_plain_night_goes_to_the_cluster_that_stays(overlay: Any) -> None:
    cluster = overlay.the("RayCluster", "lungforge")["metadata"]["name"]
    template = overlay.the("CronJob", "lungforge-nightly")["spec"]["jobTemplate"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    # Service and Secret are named by KubeRay after the cluster.
    address = f"http://{cluster}-head-svc:8265"
    assert container["command"] == ["lungforge", "submit", "--address", address]
    assert parse("submit", [*container["command"][2:], *container["args"]]).address == address
    environment = {one["name"]: one for one in container["env"]}
    assert environment["RAY_AUTH_MODE"]["value"] == "token"
    # The key of the Secret is the name of the file.
    assert environment["RAY_AUTH_TOKEN_PATH"]["value"] == "/var/run/secrets/ray/auth_token"
    (mount,) = (one for one in container["volumeMounts"] if one["mountPath"] == "/var/run/secrets/ray")
    (volume,) = (one for one in template["spec"]["volumes"] if one["name"] == mount["name"])
    assert volume["secret"]["secretName"] == cluster
    assert template["spec"]["restartPolicy"] == "Never"  # which podFailurePolicy asks for
    job = overlay.the("CronJob", "lungforge-nightly")["spec"]["jobTemplate"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [2, 3]}


def test_the_kustomization_of_the_page_reaches_everything(
    overlay: Any, tmp_path: Path, build: Callable[[Path], tuple[dict[str, Any], ...]]
) -> None:
    (block,) = re.findall(r"^```yaml\n(namespace: lungforge\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    text = block.replace("../cluster", os.path.relpath(ROOT / "cluster", tmp_path.resolve()))
    (tmp_path / "kustomization.yaml").write_text(text.replace("/gpu/", f"/{overlay.name}/"), encoding="utf-8")
    built = build(tmp_path)
    images = re.findall(r"'image': '([^']*)'", str(built))
    assert len(images) == len(overlay.containers())
    assert set(images) == {"registry.example/lungforge:0.1.0"}
    before = overlay.the("ConfigMap", "lungforge-store")["data"]
    (store,) = (item for item in built if item["metadata"]["name"] == "lungforge-store")
    assert store["data"] == before | {"LUNGFORGE_STORE": "s3://ours"} != before
    assert len(built) == len(overlay.objects)


def test_the_labels_of_the_page_choose_the_jobs(overlay: Any) -> None:
    labelled = {
        item["metadata"]["labels"]["app.kubernetes.io/component"]
        for item in overlay.objects
        if "app.kubernetes.io/component" in item["metadata"].get("labels", {})
    }
    assert set(re.findall(r"app\.kubernetes\.io/component=([a-z-]+)", PAGE)) == labelled
    for path in re.findall(r"\bcluster/kuberay/\S+\.yaml|\boverlays/\S+\.yaml", PAGE):
        assert (ROOT / path).exists() or (ROOT / "cluster" / "kuberay" / path).exists(), path
