"""
deploy/observability: every file is read by what it is for, and nothing in it is made up.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast.actors.telemetry.metrics import METRICS
from tests.conftest import need

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "observability"
COMPOSE = [ROOT / "deploy" / "compose.yaml", FOLDER / "compose.yaml"]
YAML = [*COMPOSE, *sorted(file for file in FOLDER.rglob("*.yaml") if file not in COMPOSE)]
README = (FOLDER / "README.md").read_text(encoding="utf-8")

#: Labels that Prometheus itself makes.
OWN_LABELS = {"le", "instance", "job"}
_METRIC = re.compile(r"\bholdfast_[a-z_]+\b")
_WITH_LABELS = re.compile(r"\b(holdfast_[a-z_]+)\{([^}]*)\}")
_BY = re.compile(r"\bby \(([^)]*)\)")


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def dashboard() -> Any:
    return json.loads((FOLDER / "grafana/dashboards/holdfast.json").read_text(encoding="utf-8"))


def panels() -> list[Any]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rules() -> list[Any]:
    return [rule for group in read(FOLDER / "alerts.yaml")["groups"] for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """
    Yield every PromQL expression with where it is.
    """
    for panel in panels():
        yield from ((f"panel {panel['title']}", target["expr"]) for target in panel["targets"])
    yield from ((f"alert {rule['alert']}", rule["expr"]) for rule in rules())


# -- the files themselves


@pytest.mark.parametrize("file", YAML, ids=lambda file: str(file.relative_to(ROOT)))
def test_yaml_is_read_and_tidy(file: Path) -> None:
    """
    As its readers would, and by a linter.
    """
    assert read(file)
    settings = (
        "{extends: default, rules: {document-start: disable, line-length: {max: 130}, braces: disable}}"
    )
    done = subprocess.run(
        [sys.executable, "-m", "yamllint", "-d", settings, str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stdout)


def test_every_service_gets_the_files_that_it_names() -> None:
    """
    A path that is mounted is there, relative to the folder of the first compose file.
    """
    for file in COMPOSE:
        for name, service in read(file)["services"].items():
            for volume in service.get("volumes", ()):
                source = volume.partition(":")[0]
                if source.startswith("."):
                    assert (ROOT / "deploy" / source).exists(), f"{name}: {source}"


def test_images_have_versions_and_ports_stay_on_the_machine() -> None:
    """
    What runs is what was tried, and nobody else can look.
    """
    for name, service in read(FOLDER / "compose.yaml")["services"].items():
        if name != "worker":
            assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


def test_services_lead_to_each_other() -> None:
    """
    Every address in a file is a service of the compose files, at a port that something there listens to.
    """
    services = {name for file in COMPOSE for name in read(file)["services"]}
    compose = read(FOLDER / "compose.yaml")["services"]
    collector = read(FOLDER / "otel-collector.yaml")
    sources = read(FOLDER / "grafana/provisioning/datasources/holdfast.yaml")["datasources"]
    addresses = [
        compose["worker"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"],
        *(source["url"] for source in sources),
        *(exporter["endpoint"] for exporter in collector["exporters"].values()),
    ]
    ports = {"otel-collector": "4318", "prometheus": "9090", "jaeger": ("16686", "4317")}

    for address in addresses:
        host, _, port = address.removeprefix("http://").partition(":")
        assert host in services
        assert port in ports[host]
    assert {name for service in compose.values() for name in service.get("depends_on", ())} <= services

    (scrape,) = read(FOLDER / "prometheus.yaml")["scrape_configs"]
    (found,) = scrape["dns_sd_configs"]
    assert set(found["names"]) <= services
    assert str(found["port"]) == compose["worker"]["environment"]["OTEL_EXPORTER_PROMETHEUS_PORT"]


def test_the_collector_uses_what_it_declares() -> None:
    """
    Every part of a pipeline is declared, and every part that is declared is used.
    """
    collector = read(FOLDER / "otel-collector.yaml")
    pipelines = collector["service"]["pipelines"].values()

    for part in ("receivers", "processors", "exporters"):
        assert set(collector[part]) == {name for pipeline in pipelines for name in pipeline[part]}
    assert set(collector["extensions"]) == set(collector["service"]["extensions"])


# -- dashboard and rules


def test_every_panel_asks_something_of_a_source_that_is_there() -> None:
    """
    It has a title, says what it shows, and its queries are not empty; no two are in each other's place.
    """
    sources = {
        source["uid"]: source["type"]
        for source in read(FOLDER / "grafana/provisioning/datasources/holdfast.yaml")["datasources"]
    }
    taken: set[tuple[int, int]] = set()

    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith((".", "list", "parked"))
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for one in (panel, *panel["targets"]):
            assert sources[one["datasource"]["uid"]] == one["datasource"]["type"]
        assert all(target["expr"].strip() for target in panel["targets"])
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells


def test_every_alert_says_what_to_do() -> None:
    """
    One name each, how bad it is, what it means and what to do; what it quotes of a label, its expression has.
    """
    found = rules()

    assert len({rule["alert"] for rule in found}) == len(found)
    for rule in found:
        assert rule["expr"].strip()
        assert rule["labels"]["severity"] in ("warning", "critical")
        kept = {label.strip() for group in _BY.findall(rule["expr"]) for label in group.split(",")}
        text = " ".join(rule["annotations"].values())
        assert {"summary", "description"} == set(rule["annotations"])
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= kept, rule["alert"]


def test_the_page_explains_every_panel_and_alert() -> None:
    """
    By the name that is on the screen.
    """
    assert [] == [panel["title"] for panel in panels() if f"| {panel['title']} |" not in README]
    assert [] == [rule["alert"] for rule in rules() if f"| {rule['alert']} |" not in README]


# -- metrics


def prometheus_names(metric: Any) -> set[str]:
    """
    Return what Prometheus calls a metric of ours, as OpenTelemetry's exporter names it.
    """
    unit = {"s": "_seconds", "By": "_bytes"}.get(metric.unit, "")
    name = metric.name.replace(".", "_") + unit
    match str(metric.kind):
        case "counter":
            return {f"{name}_total"}
        case "histogram":
            return {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
        case _:
            return {name}


def test_every_metric_is_one_of_ours() -> None:
    """
    With labels that it has. A rule on a name that nobody writes would be silent for ever.
    """
    labels = {
        name: OWN_LABELS | set(metric.attributes) for metric in METRICS for name in prometheus_names(metric)
    }

    for where, expression in expressions():
        names = set(_METRIC.findall(expression))
        assert names, where
        assert names <= set(labels), where
        for name, matchers in _WITH_LABELS.findall(expression):
            assert set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\s*\"", matchers)) <= labels[name], where
        known = set.union(*(labels[name] for name in names))
        grouped = {label.strip() for group in _BY.findall(expression) for label in group.split(",")}
        assert grouped <= known, where


def test_every_metric_is_looked_at() -> None:
    """
    By a panel or an alert; the page has a line for it.
    """
    used = {name for _, expression in expressions() for name in _METRIC.findall(expression)}

    assert [] == [metric.name for metric in METRICS if not prometheus_names(metric) & used]
    assert [] == [metric.name for metric in METRICS if f"`{metric.name}`" not in README]


# -- by the tools that will read them


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    tool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    need("promtool", tool)
    assert tool is not None
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)


def test_prometheus_reads_its_files() -> None:
    """
    Settings and rules.
    """
    for arguments in (("check", "config", "prometheus.yaml"), ("check", "rules", "alerts.yaml")):
        done = promtool(*arguments[:2], str(FOLDER / arguments[2]))
        assert 0 == done.returncode, done.stdout + done.stderr


def test_alerts_fire_when_they_should() -> None:
    """
    And are silent when all is well.
    """
    done = promtool("test", "rules", str(Path(__file__).parent / "alerts.test.yaml"))

    assert 0 == done.returncode, done.stdout + done.stderr


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    """
    Those of the dashboard too, with a time in place of Grafana's own.
    """
    recorded = [
        {"record": f"query:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, (_, expression) in enumerate(expressions())
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}), encoding="utf-8")

    done = promtool("check", "rules", str(file))

    assert 0 == done.returncode, done.stdout + done.stderr


def test_compose_puts_both_files_together() -> None:
    """
    Every service of both, with the worker's environment of both.
    """
    words = next((one for one in (["docker", "compose"], ["docker-compose"]) if _runs(one)), None)
    need("docker compose", " ".join(words) if words else None)
    assert words is not None
    files = [word for file in COMPOSE for word in ("-f", str(file))]
    done = subprocess.run(
        [*words, *files, "config"],
        env=os.environ | {"GRAFANA_PASSWORD": "secret"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert {"redis", "rabbitmq", "worker", "otel-collector", "jaeger", "prometheus", "grafana"} == set(
        services
    )
    assert {"HOLDFAST_REDIS_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"} <= set(services["worker"]["environment"])


def _runs(words: list[str]) -> bool:
    try:
        return subprocess.run([*words, "version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False
