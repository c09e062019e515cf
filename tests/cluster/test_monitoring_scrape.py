"""A real Prometheus scrapes a real Ray while the services work: what it knows then is what they did."""

import contextlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
import yaml

from services.nightly.history import Night
from services.nightly.pushgateway import push_night
from tests.cluster.monitored import MONITORING, PUSHGATEWAY, Lab, Prometheus
from tests.ray_head import RayHead, wait_until

SERIES = 4
#: Without a GPU, a KubeRay operator and kube-state-metrics nothing shows these; their documentation does.
NOT_HERE = {
    "ray_node_gpus_utilization",
    "ray_node_gram_used",
    "kuberay_job_deployment_status",
    "kube_job_failed",
    "kube_cronjob_status_last_schedule_time",
    "kube_cronjob_spec_suspend",
}

COUNTED = (
    "sum(ray_lungforge_preprocess_volumes_total)",
    'sum(ray_lungforge_preprocess_volumes_total{outcome="done"})',
    "sum(ray_lungforge_train_steps_total)",
    "sum(ray_lungforge_sample_images_total)",
    "sum(ray_lungforge_evaluate_tasks_total)",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="needs prometheus (apt-get install prometheus)"
    ),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """All services have run once: four volumes, 20 steps, 12 images in 3 parts, and an evaluation."""
    folder = tmp_path_factory.mktemp("lab")
    with RayHead() as head:
        wait_until((head.ray_folder / "ray_current_cluster").exists, 60)
        discovery = head.ray_folder / "prom_metrics_service_discovery.json"
        prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), discovery)
        try:
            made = Lab(head, prometheus, folder)
            source, slices, model, samples, report = made.at("ct", "slices", "model", "samples", "report")
            made.run("phantom", "--out", source, "--series", str(SERIES), "--size", "64", "--slices", "20")
            preprocess = ["preprocess", "--source", source, "--size", "32", "--slices", "nodules"]
            made.run(*preprocess, "--out", slices, "--workers", "2")
            train = ["train", "--data", slices, "--preset", "tiny", "--subsets", "0", "1", "2"]
            made.run(*train, "--out", model, "--steps", "20")
            sample = ["sample", "--model", model, "--data", slices, "--subsets", "0", "1", "2"]
            parts = ["--count", "12", "--steps", "2", "--part-images", "4", "--workers", "2"]
            made.run(*sample, *parts, "--out", samples)
            made.run("evaluate", "--real", slices, "--synthetic", samples, "--out", report, "--subsets", "3")
            ended = time.time()
            scraped_since = "min(timestamp(ray_lungforge_evaluate_tasks_total))"
            wait_until(lambda: (prometheus.value(scraped_since) or 0) > ended, 60)
            made.counted.update({query: prometheus.value(query) for query in COUNTED})
            yield made
        finally:
            prometheus.stop()


def test_prometheus_finds_and_scrapes_every_node(lab: Lab) -> None:
    def scraped() -> bool:
        targets = lab.prometheus.api("targets", state="active")["activeTargets"]
        of_ray = [target for target in targets if target["labels"]["job"] == "ray"]
        # The node's metrics, the dashboard's, and those of the autoscaler.
        return len(of_ray) == 3 and all(target["health"] == "up" for target in of_ray)

    wait_until(scraped, 60)


def test_volumes_steps_and_images_are_those_that_were_made(lab: Lab) -> None:
    slices, samples = lab.dataset("slices"), lab.dataset("samples")
    assert (len(slices.parts), samples.rows) == (SERIES, 12)
    made = (
        SERIES,
        SERIES,
        lab.dataset("model").manifest.details["steps"],
        samples.rows,
        # Each part is a task: of the real slices, of the synthetic ones, and of the test slices that are
        # searched as if they were synthetic.
        len(slices.parts) + len(samples.parts) + 1,
    )
    assert lab.counted == dict(zip(COUNTED, made, strict=True))


def test_stalls_are_seconds_of_those_who_read(lab: Lab) -> None:
    for service in ("preprocess", "train"):
        stalled = lab.prometheus.value(f'sum(ray_lungforge_stall_seconds_total{{service="{service}"}})')
        assert stalled is not None
        assert 0 < stalled < 60, service
    assert lab.prometheus.value('sum(ray_lungforge_stall_seconds_total{service!~"preprocess|train"})') is None


@pytest.fixture(scope="module")
def faults(lab: Lab) -> dict[str, str]:
    """Output of the commands with a dead worker, with another one, and with a refusing store, by service."""
    source, slices, model, killed, refused, gaugan = lab.at(
        "ct", "slices", "model", "killed", "refused", "gaugan"
    )
    outputs = {}
    folds = ["--subsets", "0", "1", "2"]
    sample = ["sample", "--model", model, "--data", slices, *folds, "--steps", "20"]
    process = lab.start(*sample, "--count", "16", "--part-images", "4", "--out", killed)
    lab.kill_a_worker("ray::SamplingActor.sample")
    outputs["sample"] = lab.end(process)
    # Nobody can write to the folder of the parts, root neither.
    (folder,) = {part.path.split("/")[0] for part in lab.dataset("slices").parts}
    Path(refused).mkdir()
    (Path(refused) / folder).symlink_to("/sys/kernel")
    preprocess = ["preprocess", "--source", source, "--size", "32", "--slices", "nodules"]
    outputs["preprocess"] = lab.run(*preprocess, "--workers", "1", "--out", refused, code=2)
    train = ["train", "--model", "gaugan", "--data", slices, "--preset", "tiny", *folds]
    process = lab.start(*train, "--steps", "60", "--checkpoint-every", "10", "--out", gaugan)
    wait_until(lambda: any(Path(gaugan).glob("checkpoints/*/*/checkpoint.json")), 240)
    lab.kill_a_worker("ray::RayTrainWorker")
    outputs["train"] = lab.end(process)
    return outputs


def test_what_is_begun_again_is_a_retry(lab: Lab, faults: dict[str, str]) -> None:
    assert faults["sample"].count("a worker died at part") == 1
    lab.prometheus.expect('sum(ray_lungforge_retries_total{service="sample"})', 1)
    assert lab.dataset("killed").rows == 16
    assert "access denied" in faults["preprocess"]
    # The first volume is tried three times, and then the job ends: no other one begins.
    lab.prometheus.expect('sum(ray_lungforge_retries_total{service="preprocess"})', 2)
    lab.prometheus.expect('sum(ray_lungforge_retries_total{service="train"})', 1)
    assert lab.dataset("gaugan").manifest.details["steps"] == 60


def test_alerts_and_panels_ask_for_what_a_scrape_shows(lab: Lab, faults: dict[str, str]) -> None:
    night = Night(date(2026, 11, 26), "done", "s", "models/m", "a" * 64, "slices", "b" * 64, "0.1.0", 1.0)
    elsewhere = set(NOT_HERE)
    if PUSHGATEWAY is None:
        elsewhere |= {"lungforge_nightly_worse", "lungforge_nightly_last_done_timestamp_seconds"}
    else:
        push_night(lab.prometheus.gateway, night)
    files = [
        yaml.safe_load((MONITORING / name).read_text(encoding="utf-8"))
        for name in ("alerts.yml", "nightly-alerts.yml")
    ]
    dashboard = json.loads((MONITORING / "grafana" / "lungforge.json").read_text(encoding="utf-8"))
    queries = [rule["expr"] for file in files for group in file["groups"] for rule in group["rules"]]
    queries += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = set(re.findall(r"\b(?:ray|lungforge|kuberay|kube)_[a-z_]+", " ".join(queries)))
    assert asked > elsewhere

    def unseen() -> set[str]:
        return asked - set(lab.prometheus.api("label/__name__/values")) - elsewhere

    with contextlib.suppress(AssertionError):
        wait_until(lambda: not unseen(), 30)
    assert unseen() == set()


def test_every_alert_can_be_computed_on_these_series(lab: Lab, faults: dict[str, str]) -> None:
    rules = [rule for group in lab.prometheus.api("rules")["groups"] for rule in group["rules"]]
    wrong = {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"}
    assert wrong == {}
    assert len(rules) >= 9
