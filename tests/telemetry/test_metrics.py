"""
Metrics: a known load, and what Prometheus is told of it.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from holdfast.actors.telemetry.metrics import METRICS, Kind, Metric, Of
from tests.flow.house import CALM, quick
from tests.support.processes import eventually
from tests.telemetry.house import PATIENCE_S, Stand, stand
from tests.telemetry.kiosk import Buy, Kiosk

ROOT = Path(__file__).parents[2]


def in_prometheus(metric: Metric) -> str:
    """
    Return what Prometheus calls a metric.
    """
    name = metric.name.replace(".", "_")
    if metric.unit == "s":
        name += "_seconds"
    return name + {Kind.COUNTER: "_total", Kind.HISTOGRAM: "_count", Kind.GAUGE: ""}[metric.kind]


@pytest.fixture(params=["rabbitmq", "redis"])
def busy(
    request: pytest.FixtureRequest, redis_url: str, amqp_url: str, namespace: str, tmp_path: Path
) -> Iterator[Stand]:
    """
    A worker on each of the transports.
    """
    settings = quick(namespace, redis_url, amqp_url if request.param == "rabbitmq" else "", **CALM)
    with stand(settings, tmp_path, "--threads", "2") as it:
        yield it


def test_a_known_load_is_counted(busy: Stand) -> None:
    """
    Every metric appears, with the numbers that the load leads to, and with no label that names an instance.
    """
    client = busy.client
    for number in range(10):
        client.execute(Buy(f"k-{number}", "well"), timeout=PATIENCE_S)
    client.execute(Buy("k-0", "too much"), timeout=PATIENCE_S)
    client.execute(Buy("k-1", "twice"), timeout=PATIENCE_S)
    client.execute(Buy("k-2", "never"), timeout=PATIENCE_S)
    client.send(Buy("k-3", "wrong"))
    client.send(Buy("k-4", "late"))
    client.send(Buy("k-5", "block"))
    client.send(Buy("k-6", "nothing"), id="again")
    client.send(Buy("k-6", "nothing"), id="again")

    def outcome(command: str, outcome: str, count: int) -> None:
        busy.await_value(count, "holdfast_commands_total", workflow="kiosk", command=command, outcome=outcome)

    outcome("Buy", "accepted", 15)
    outcome("Buy", "rejected", 1)
    outcome("Buy", "dead", 1)
    outcome("Buy", "duplicate", 1)
    outcome("Delivered", "accepted", 11)
    outcome("Closed", "accepted", 12)

    def attempts(effect: str, outcome: str, count: int) -> None:
        busy.await_value(
            count, "holdfast_effect_attempt_duration_seconds_count", effect=effect, outcome=outcome
        )

    attempts("Deliver", "done", 11)
    attempts("Deliver", "failed", 2)
    attempts("Block", "failed", 1)
    # A machine that stands still while a handler runs looks like a handler that blocks.
    eventually(lambda: busy.value("holdfast_loop_stalls_total") >= 1, PATIENCE_S)
    busy.await_value(12, "holdfast_timer_lateness_seconds_count")
    busy.await_value(1, "holdfast_dead_letters_total", kind="command", type="Buy")
    busy.await_value(1, "holdfast_dead_letters_total", kind="effect", type="Deliver")
    for pool in ("command", "effect", "timer", "projection"):
        busy.await_value(6, "holdfast_partitions_owned", pool=pool)
        busy.await_value(6, "holdfast_partitions_handovers_total", pool=pool, direction="taken")
        busy.await_value(0, "holdfast_partitions_handovers_total", pool=pool, direction="given")

    # What is the installation's is looked up every five seconds.
    busy.await_value(10, "holdfast_instances", workflow="kiosk", run_state="running")
    busy.await_value(0, "holdfast_instances", workflow="kiosk", run_state="paused")
    busy.await_value(2, "holdfast_dead_letters_kept")
    busy.await_value(1, "holdfast_effects_retries_pending")
    busy.await_value(1, "holdfast_timers_pending")
    busy.await_value(1, "holdfast_workers")
    busy.await_value(0, "holdfast_projection_lag_records", projection="sales")
    busy.await_value(0, "holdfast_projection_lag_time_seconds", projection="sales")
    busy.await_value(0, "holdfast_projection_parked", projection="sales")
    for pool in ("command", "effect", "timer"):
        busy.await_value(0, "holdfast_queue_depth", pool=pool)
    for pool in ("effect", "timer"):
        busy.await_value(0, "holdfast_queue_age_seconds", pool=pool)
    busy.await_value(0, "holdfast_partitions_deserted", pool="effect")

    # What was found of the installation is not told for ever: where nobody could look for a while it is missing.
    wanted = {in_prometheus(metric) for metric in METRICS}
    seen = [busy.samples()]

    def complete() -> bool:
        seen.append(busy.samples())
        return wanted <= seen[-1].keys()

    with contextlib.suppress(AssertionError):
        eventually(complete, PATIENCE_S)
    said = seen[-1]
    assert wanted - said.keys() == set()
    labels = {name for found in said.values() for one in found for name, _ in one}
    own = {name for metric in METRICS for name in metric.attributes}
    assert labels - own <= {
        "le",
        "generation",
        "implementation",
        "major",
        "minor",
        "patchlevel",
        "version",
    } | {name for name in labels if name.startswith(("service_", "telemetry_"))}
    text = busy.ask("/metrics")[1]
    assert not re.search(r"k-\d", text)

    commits = {labels[0][1]: value for labels, value in said["holdfast_commits_total"].items()}
    # As many as there are batches of an instance: at most one for each command that was accepted, refused or failed.
    assert 10 <= commits["committed"] <= 15 + 1 + 1 + 11 + 12
    assert commits["conflict"] == commits["fenced"] == 0
    lookups = {labels[0][1]: value for labels, value in said["holdfast_cache_lookups_total"].items()}
    assert lookups["miss"] >= 10
    assert lookups["hit"] > 0
    records = sum(len(client.history(Kiosk, f"k-{number}")) for number in range(10))
    assert records == 15 + 11 + 12
    sizes = {labels[0][1]: value for labels, value in said["holdfast_turn_size_sum"].items()}
    assert sizes["command"] == 15 + 1 + 1 + 1 + 11 + 12
    assert sizes["timer"] == 12
    assert said["holdfast_timer_lateness_seconds_sum"][()] < 12 * PATIENCE_S
    blocked = said["holdfast_effect_attempt_duration_seconds_sum"][("effect", "Block"), ("outcome", "failed")]
    assert 1.6 <= blocked < PATIENCE_S


def test_each_process_has_a_port_and_one_speaks_for_all(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """
    So the sum over the processes is right for what is their own, and what is the installation's is told once.
    """
    settings = quick(namespace, redis_url, **CALM)
    with stand(settings, tmp_path, "--processes", "2") as it:

        def shared() -> bool:
            owned = [it.samples(number).get("holdfast_partitions_owned", {}) for number in range(2)]
            return [sum(one.values()) for one in owned] == [12, 12] or (
                sum(sum(one.values()) for one in owned) == 24 and all(owned)
            )

        for number in range(2):
            eventually(lambda number=number: it.status("/ready", number) == 200, PATIENCE_S)  # type: ignore[misc]  # mypy cannot type a default in a lambda
        eventually(shared, PATIENCE_S)
        for number in range(20):
            it.client.execute(Buy(f"k-{number}", "nothing"), timeout=PATIENCE_S)

        def told(name: str) -> list[float]:
            return [value for number in range(2) for value in it.samples(number).get(name, {}).values()]

        eventually(lambda: sum(told("holdfast_commands_total")) == 20, PATIENCE_S)
        eventually(lambda: told("holdfast_workers") == [2], PATIENCE_S)
        for metric in METRICS:
            if metric.of is Of.INSTALLATION and not metric.attributes:
                eventually(partial(_once, told, in_prometheus(metric)), PATIENCE_S)


def _once(told: Callable[[str], list[float]], name: str) -> bool:
    return len(told(name)) == 1


def test_the_page_lists_what_there_is() -> None:
    """
    docs/metrics.md has a line for each metric, with its kind, unit, attributes, who reports it and what it says.
    """
    page = (ROOT / "docs" / "metrics.md").read_text()
    lines = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith("| `holdfast.")
    ]

    assert lines == [
        [
            metric.name,
            str(metric.kind),
            metric.unit,
            ", ".join(metric.attributes),
            str(metric.of),
            metric.description,
        ]
        for metric in METRICS
    ]
