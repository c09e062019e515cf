"""Alerts and the dashboard: they are what Prometheus reads, and ask for metrics that somebody counts."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.util.metrics import Counter, Metric

from lungforge.models.gaugan.learner import AdversarialLearner
from lungforge.models.sdm.error_bands import BANDS
from lungforge.models.sdm.objectives.edm import EDM
from lungforge.models.sdm.objectives.eps import NoisePrediction
from services.common import telemetry
from services.eval.downstream.runs import train_network
from services.eval.part_tasks import read_real_part, read_synthetic_part
from services.preprocess.ray_data import preprocess_volume
from services.sample.job import SamplingActor
from services.train.monitoring import Rates

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "cluster" / "monitoring"
EVALUATION = (read_real_part, read_synthetic_part, train_network)
ALERTS = ("alerts.yml", "nightly-alerts.yml")
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (apt-get install prometheus)")


def _promtool(*words: str, cwd: Path = MONITORING) -> str:
    done = subprocess.run(
        [str(PROMTOOL), *words], cwd=cwd, capture_output=True, encoding="utf-8", check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _rules() -> list[dict[str, Any]]:
    files = [yaml.safe_load((MONITORING / name).read_text(encoding="utf-8")) for name in ALERTS]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def _dashboard() -> dict[str, Any]:
    return json.loads((MONITORING / "grafana" / "lungforge.json").read_text(encoding="utf-8"))


def _queries() -> list[str]:
    return [target["expr"] for panel in _dashboard()["panels"] for target in panel["targets"]]


def _ours() -> set[str]:
    """The metrics of this project as Ray exports them: ray_ before all, _total after counters."""
    metrics = [value for value in vars(telemetry).values() if isinstance(value, Metric)]
    named = {f"ray_{metric.info['name']}{'_total' * isinstance(metric, Counter)}" for metric in metrics}
    steps = {
        *NoisePrediction.METRICS,
        *EDM.METRICS,
        *BANDS,
        "gradient_norm",
        *AdversarialLearner.METRICS,
        *Rates(1).values(),
    }
    assert 'Gauge(f"lungforge_train_{name}"' in (ROOT / "services" / "train" / "monitoring.py").read_text(
        encoding="utf-8"
    )
    return named | {f"ray_lungforge_train_{name}" for name in steps}


@needs_promtool
def test_prometheus_reads_the_configuration_and_the_alerts() -> None:
    assert "SUCCESS: 2 rule files found" in _promtool("check", "config", "prometheus.yml")
    for name in ALERTS:
        _promtool("check", "rules", name)


@needs_promtool
def test_alerts_fire_when_they_should_and_not_otherwise() -> None:
    _promtool("test", "rules", "alerts_test.yml")


def test_every_alert_is_tested_both_ways() -> None:
    cases = yaml.safe_load((MONITORING / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    seen = {
        (case["alertname"], bool(case["exp_alerts"])) for test in cases for case in test["alert_rule_test"]
    }
    assert seen == {(rule["alert"], fires) for rule in _rules() for fires in (True, False)}


def test_every_alert_is_in_the_page() -> None:
    page = (ROOT / "docs" / "operations" / "monitoring.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(LungForge\w+)`", page)) == {rule["alert"] for rule in _rules()}


def test_alerts_and_panels_ask_for_metrics_that_are_counted() -> None:
    asked = set(re.findall(r"\bray_lungforge_\w+", " ".join([*_queries(), *(r["expr"] for r in _rules())])))
    assert len(asked) >= 10
    assert asked <= _ours()


def test_what_the_services_count_is_in_the_page_and_on_the_dashboard() -> None:
    counted = {name for name in _ours() if not name.startswith("ray_lungforge_train_")}
    assert len(counted) >= 7
    page = (ROOT / "docs" / "operations" / "monitoring.md").read_text(encoding="utf-8")
    assert {name for name in counted if name not in page} == set()
    shown = " ".join(_queries())
    assert {name for name in counted if name not in shown} == set()


def test_alerts_of_stalls_match_the_names_of_the_tasks() -> None:
    for alert, tasks in (
        ("LungForgePreprocessingStalled", [f"Map({preprocess_volume.__name__})"]),
        ("LungForgeEvaluationStalled", [task._function_name for task in EVALUATION]),
    ):
        (rule,) = (rule for rule in _rules() if rule["alert"] == alert)
        (operator, pattern), *_ = re.findall(r'Name(=~?)"([^"]+)"', rule["expr"])
        for name in tasks:
            assert re.fullmatch(pattern, name) if operator == "=~" else name == pattern, (alert, name)


def test_alerts_of_stalls_match_the_names_of_the_actors() -> None:
    from ray.train.v2._internal.execution.worker_group.worker import RayTrainWorker

    for alert, actor in (
        ("LungForgeTrainingStalled", RayTrainWorker),
        ("LungForgeSamplingStalled", SamplingActor),
    ):
        (rule,) = (rule for rule in _rules() if rule["alert"] == alert)
        (pattern,) = re.findall(r'Name=~"([^"]+)"', rule["expr"])
        assert re.fullmatch(pattern, actor.__name__), alert


def test_the_file_that_is_scraped_is_the_one_that_ray_writes() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    (job,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    ((path,),) = (source["files"] for source in job["file_sd_configs"])
    assert path == f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"


@needs_promtool
def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$session", "session_1")}
        for number, query in enumerate(_queries())
    ]
    document = {"groups": [{"name": "panels", "rules": rules}]}
    (tmp_path / "panels.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    assert f"SUCCESS: {len(rules)} rules found" in _promtool("check", "rules", "panels.yml", cwd=tmp_path)


def test_the_dashboard_is_whole() -> None:
    dashboard = _dashboard()
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert names == {"source", "session"}
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in dashboard["panels"]})
    for panel in dashboard["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}
        assert all('SessionName=~"$session"' in target["expr"] for target in panel["targets"])


def test_the_component_scrapes_all_nodes_and_lets_prometheus_in(
    overlay: Any, tmp_path: Path, build: Callable[[Path], tuple[dict[str, Any], ...]]
) -> None:
    at = os.path.relpath(ROOT / "cluster", tmp_path.resolve())
    document = {
        "namespace": "lungforge",
        "resources": [f"{at}/kuberay/overlays/{overlay.name}/cluster"],
        "components": [f"{at}/monitoring"],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    added = [item for item in build(tmp_path) if item not in overlay.cluster]
    monitor, policy, shown = (
        next(item for item in added if item["kind"] == kind)
        for kind in ("PodMonitor", "NetworkPolicy", "ConfigMap")
    )
    assert len(added) == 3
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    # KubeRay labels its pods with ray.io/...; the rest of the selector must be ours.
    chosen = dict(monitor["spec"]["selector"]["matchLabels"])
    assert chosen.pop("ray.io/is-ray-node") == "yes"
    for pod in overlay.ray_pods():
        assert chosen.items() <= pod["metadata"]["labels"].items()
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        assert policy["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": ports[endpoint["port"]]}]
    assert json.loads(shown["data"]["lungforge.json"]) == _dashboard()
    assert shown["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_the_page_makes_a_prometheus_rule_of_the_alerts() -> None:
    page = (ROOT / "docs" / "operations" / "monitoring.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"\{ printf (?:.+\n)+?.+; \} \|", page)
    done = subprocess.run(
        ["bash", "-euc", command.removesuffix("|")],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    rule = yaml.safe_load(done.stdout)
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))
