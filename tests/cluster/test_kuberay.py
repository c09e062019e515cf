"""The manifests for KubeRay: what is promised of every pod."""

import importlib.metadata
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from lungforge import __version__

STAGES = ("preprocess", "train", "sample", "evaluate")
PAGE = (Path(__file__).parents[2] / "docs" / "operations" / "kubernetes.md").read_text(encoding="utf-8")
#: Environment variables that name a file with a secret.
_FILES = ("AWS_SHARED_CREDENTIALS_FILE", "RAY_AUTH_TOKEN_PATH")


def _count(quantity: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)(m|Mi|Gi|)", str(quantity)).groups()  # type: ignore[union-attr]
    return float(number) * {"m": 1e-3, "Mi": 2.0**20, "Gi": 2.0**30, "": 1.0}[unit]


def test_a_cluster_comes_without_jobs_and_jobs_can_be_chosen_one_by_one(overlay: Any) -> None:
    kinds = [item["kind"] for item in overlay.cluster]
    assert sorted(set(kinds)) == [
        "ConfigMap",
        "Namespace",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "RayCluster",
        "ServiceAccount",
    ]
    labels = [
        (item["kind"], item["metadata"]["labels"]["app.kubernetes.io/component"])
        for item in overlay.objects
        if "app.kubernetes.io/component" in item["metadata"].get("labels", {})
    ]
    assert sorted(labels) == sorted(
        [
            *(("RayJob", stage) for stage in STAGES),
            ("CronJob", "nightly"),
            ("RayCronJob", "nightly-raycronjob"),
        ]
    )
    assert all(item["metadata"].get("namespace", "lungforge") == "lungforge" for item in overlay.objects)


@pytest.mark.skipif(
    importlib.util.find_spec("kubernetes_validate") is None,
    reason="needs the schemas of Kubernetes (pip install kubernetes-validate)",
)
def test_objects_and_pods_are_as_kubernetes_has_them(overlay: Any) -> None:
    import kubernetes_validate

    core = [item for item in overlay.objects if not item["apiVersion"].startswith("ray.io/")]
    # The schema of a pod is asked of the templates inside Ray's kinds, too.
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "pod"} | pod["metadata"],
            "spec": pod["spec"],
        }
        for pod in overlay.pods()
    ]
    assert len(core) >= 12
    assert len(pods) >= 18
    for item in [*core, *pods]:
        kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)


def test_every_pod_keeps_to_the_restricted_standard(overlay: Any) -> None:
    namespace = overlay.the("Namespace", "lungforge")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in overlay.pods():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        # "restricted" allows these kinds of volume, and no path of the host.
        assert all(
            set(volume) - {"name"} <= {"emptyDir", "projected", "secret"} for volume in spec["volumes"]
        )
    contexts = [container["securityContext"] for container in overlay.containers()]
    contexts += [spec["autoscalerOptions"]["securityContext"] for spec in overlay.clusters()]
    for context in contexts:
        assert context == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_only_the_autoscaler_holds_a_token_of_the_api_server(overlay: Any) -> None:
    for account in (item for item in overlay.objects if item["kind"] == "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    for container in overlay.containers():
        assert "api-token" not in {mount["name"] for mount in container["volumeMounts"]}
    for spec in overlay.clusters():
        mounts = {mount["name"]: mount["mountPath"] for mount in spec["autoscalerOptions"]["volumeMounts"]}
        # Where Ray's autoscaler looks.
        assert mounts["api-token"] == "/var/run/secrets/kubernetes.io/serviceaccount"
        head = spec["headGroupSpec"]["template"]["spec"]
        assert head["serviceAccountName"] == "lungforge-head"
        assert mounts.keys() <= {volume["name"] for volume in head["volumes"]}


def test_a_read_only_root_leaves_what_must_be_written(overlay: Any) -> None:
    for pod in overlay.pods():
        (container,) = pod["spec"]["containers"]
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume.get("emptyDir") for volume in pod["spec"]["volumes"]}
        assert {"name": "HOME", "value": "/tmp"} in container["env"]
        assert volumes[mounted["/tmp"]]["sizeLimit"]
        if container["name"] in ("ray-head", "ray-worker"):
            assert volumes[mounted["/dev/shm"]]["medium"] == "Memory"
            assert "/spill" in mounted
    for spec in overlay.clusters():
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            assert group["rayStartParams"]["object-spilling-directory"] == "/spill"


def test_requests_are_limits_and_hold_what_is_mounted(overlay: Any) -> None:
    resources = [container["resources"] for container in overlay.containers()]
    resources += [spec["autoscalerOptions"]["resources"] for spec in overlay.clusters()]
    for asked in resources:
        assert asked["requests"] == asked["limits"]
        assert {"cpu", "memory"} <= asked["limits"].keys()
    for pod in overlay.ray_pods():
        (container,) = pod["spec"]["containers"]
        limits = container["resources"]["limits"]
        empty = [volume["emptyDir"] for volume in pod["spec"]["volumes"] if "emptyDir" in volume]
        memory = sum(_count(one["sizeLimit"]) for one in empty if one.get("medium") == "Memory")
        disk = sum(_count(one["sizeLimit"]) for one in empty if "medium" not in one)
        # What lies in shared memory counts against the container's limit.
        assert memory <= 0.4 * _count(limits["memory"])
        assert disk <= _count(limits["ephemeral-storage"])


def test_probes_ask_the_health_of_ray(overlay: Any) -> None:
    for pod in overlay.ray_pods():
        (container,) = pod["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        path, port = {
            "ray-head": ("/api/gcs_healthz", 8265),
            "ray-worker": ("/api/local_raylet_healthz", 52365),
        }[container["name"]]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[probe]["httpGet"]
            assert (asked["path"], ports[asked["port"]]) == (path, port)
        assert ports["metrics"] == 8080


def test_ray_answers_these_probes_without_a_token() -> None:
    from ray.dashboard.http_server_agent import PUBLIC_EXACT_PATHS

    assert "/api/local_raylet_healthz" in PUBLIC_EXACT_PATHS


def test_every_cluster_asks_for_a_token_and_runs_the_ray_of_the_image(overlay: Any) -> None:
    clusters = overlay.clusters()
    assert len(clusters) == 6
    for spec in clusters:
        assert spec["authOptions"] == {"mode": "token"}
        assert spec["rayVersion"] == importlib.metadata.version("ray")
        assert spec["enableInTreeAutoscaling"] is True
        assert spec == overlay.the("RayCluster", "lungforge")["spec"]


def test_groups_of_workers_start_with_no_worker(overlay: Any) -> None:
    groups = {
        group["groupName"]: group
        for group in overlay.the("RayCluster", "lungforge")["spec"]["workerGroupSpecs"]
    }
    assert list(groups) == {"small": ["cpu"], "gpu": ["cpu", "gpu"]}[overlay.name]
    for name, group in groups.items():
        assert (group["replicas"], group["minReplicas"]) == (0, 0)
        assert group["maxReplicas"] > 0
        (container,) = group["template"]["spec"]["containers"]
        assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (name == "gpu")


def test_a_gpu_pod_is_a_whole_machine_with_shared_memory_left_for_nccl(overlay: Any) -> None:
    for spec in overlay.clusters():
        for group in (group for group in spec["workerGroupSpecs"] if group["groupName"] == "gpu"):
            pod = group["template"]["spec"]
            (container,) = pod["containers"]
            assert container["resources"]["limits"]["nvidia.com/gpu"] == "8"
            (shared,) = (one["emptyDir"] for one in pod["volumes"] if one["name"] == "shared-memory")
            size = int(shared["sizeLimit"].removesuffix("Gi")) * 2**30
            # GPUs that cannot read each other's memory exchange gradients through it.
            assert size - int(group["rayStartParams"]["object-store-memory"]) >= 8 * 2**30


def test_no_secret_is_written_down(overlay: Any) -> None:
    assert "Secret" not in {item["kind"] for item in overlay.objects}
    secret = re.compile(r"SECRET|PASSWORD|TOKEN|ACCESS_KEY", re.IGNORECASE)
    assert not any(secret.search(name) for name in overlay.the("ConfigMap", "lungforge-store")["data"])
    for container in overlay.containers():
        named = [one["name"] for one in container["env"] if secret.search(one["name"]) and "value" in one]
        assert set(named) <= set(_FILES)


def test_keys_and_tokens_are_files_and_never_environment(overlay: Any) -> None:
    secret_files = {}
    for pod in overlay.pods():
        (container,) = pod["spec"]["containers"]
        assert container["envFrom"] == [{"configMapRef": {"name": "lungforge-store"}}]
        assert not [one for one in container["env"] if "valueFrom" in one]
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"] if "secret" in volume}
        folders = {
            mount["mountPath"]: volumes[mount["name"]]["secret"]
            for mount in container["volumeMounts"]
            if mount["name"] in volumes
        }
        assert len(folders) == len(volumes)
        # Secrets are root's files; the group of the pod lets its user read them.
        assert all(secret["defaultMode"] == 0o440 for secret in folders.values())
        assert not folders or pod["spec"]["securityContext"]["fsGroup"] == 1000
        files = {one["name"]: one["value"] for one in container["env"] if one["name"] in _FILES}
        named = {name: folders[path.rpartition("/")[0]]["secretName"] for name, path in files.items()}
        secret_files[container["name"]] = named
        if container["name"] in ("ray-head", "ray-worker"):
            # Absent where the cloud gives pods an identity.
            assert [secret["optional"] for secret in folders.values()] == [True]
            assert files["AWS_SHARED_CREDENTIALS_FILE"].endswith("/credentials")
    # A submitter only hands in: it needs to know where the store is, and no key to it.
    assert secret_files == {
        "ray-head": {"AWS_SHARED_CREDENTIALS_FILE": "lungforge-store"},
        "ray-worker": {"AWS_SHARED_CREDENTIALS_FILE": "lungforge-store"},
        "ray-job-submitter": {},
        "submit": {"RAY_AUTH_TOKEN_PATH": "lungforge"},
    }
    assert "--from-file=credentials" in PAGE


def test_one_image_of_this_version(overlay: Any) -> None:
    assert {container["image"] for container in overlay.containers()} == {f"lungforge:{__version__}"}


def test_the_network_denies_what_is_not_named(overlay: Any) -> None:
    policies = {
        item["metadata"]["name"]: item["spec"] for item in overlay.objects if item["kind"] == "NetworkPolicy"
    }
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    into_head = policies["ray-head"]["ingress"]
    assert [rule["ports"] for rule in into_head] == [[{"protocol": "TCP", "port": 8265}]]
    for name, spec in policies.items():
        for rule in spec.get("ingress", []):
            assert rule["from"], f"{name} lets anybody in"
            assert all("podSelector" in peer for peer in rule["from"])
            # Anybody may give a pod any label in a namespace of their own.
            for peer in rule["from"]:
                assert peer.get("namespaceSelector") != {}, f"{name} lets in pods of any namespace"
    operator = [peer for peer in into_head[0]["from"] if "namespaceSelector" in peer]
    assert operator == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ray-system"}},
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
        }
    ]
    assert "`ray-system`" in PAGE
    (store,) = policies["object-store"]["egress"]
    assert store["ports"] == [{"protocol": "TCP", "port": 443}]
    assert store["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}]
    # The label that lets submitters in is that of the submitters, and of no node of Ray.
    who = policies["submitter"]["podSelector"]["matchLabels"]
    assert {"podSelector": {"matchLabels": who}} in into_head[0]["from"]
    assert all(who.items() <= pod["metadata"]["labels"].items() for pod in overlay.submitters())
    assert not any(who.items() <= pod["metadata"]["labels"].items() for pod in overlay.ray_pods())


def test_no_head_is_driven_out(overlay: Any) -> None:
    budget = overlay.the("PodDisruptionBudget", "ray-head")["spec"]
    # Without a scale subresource of their controller, Kubernetes takes minAvailable only as a count of pods.
    assert isinstance(budget["minAvailable"], int)
    assert "maxUnavailable" not in budget
    assert budget["selector"] == {"matchLabels": {"ray.io/node-type": "head"}}
    for pod in overlay.ray_pods():
        annotations = pod["metadata"]["annotations"]
        assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
