"""
Worker processes that export over OTLP to a collector, one that is killed, and a collector that does not answer.
"""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from holdfast import Client, Settings, Supervisor, connect
from holdfast.runtime.keys import partition_of
from holdfast.runtime.ports import Member
from tests.flow.house import PATIENCE_S, ROOT, House, house, quick
from tests.flow.test_foreign import PUBLISH
from tests.support.processes import eventually
from tests.tracing import shop
from tests.tracing.collector import Collector, Received, collector
from tests.tracing.declare import ENV_FOLDER
from tests.tracing.shop import Order, Place

APP = "tests.tracing.shop:plain"
ORDERS = 300


@pytest.fixture(name="spot")
def _spot() -> Iterator[Collector]:
    with collector() as it:
        yield it


@pytest.fixture(name="home")
def _home(redis_url: str, amqp_url: str, namespace: str, tmp_path: Path) -> Iterator[House]:
    with house(quick(namespace, redis_url, amqp_url), tmp_path) as it:
        yield it


@contextlib.contextmanager
def traced_client(settings: Settings, url: str) -> Iterator[Client]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
    try:
        with connect(shop.plain, settings, tracer_provider=provider) as client:
            yield client
    finally:
        provider.shutdown()


def shipped(client: Client, key: str) -> None:
    client.wait(Order, key, until=lambda state: "shipped" in state.seen, timeout=PATIENCE_S)


def ids_of(spans: list[Received]) -> set[str]:
    return {span.span_id for span in spans}


def above(spans: list[Received]) -> set[str]:
    """
    Return the ids of all that others are below of or linked to.
    """
    return {span.parent_id for span in spans if span.parent_id} | {
        link for span in spans for link in span.links
    }


def by_order(spans: list[Received]) -> dict[str, list[Received]]:
    found = defaultdict(list)
    for span in spans:
        if "workflow.key" in span.attributes:
            found[span.attributes["workflow.key"]].append(span)
    return found


def test_a_trace_survives_the_death_of_a_worker(
    spot: Collector, home: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    From the client to the last effect each order is one trace. No span came twice, and of those that others are below
    of none is missing that the killed worker had not taken with it.
    """
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", spot.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    # None is dropped while the collector stands still.
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100000")
    monkeypatch.setenv(ENV_FOLDER, str(tmp_path))
    keys = [f"o-{number}" for number in range(ORDERS)]
    with (
        traced_client(home.settings, spot.url) as client,
        home.crew(2, APP, preload="tests.tracing.declare"),
    ):
        client.send_many(Place(key) for key in keys[: ORDERS // 2])
        shipped(client, keys[0])
        living: list[Member] = []
        # They may have been silent for a moment.
        eventually(lambda: bool(living.__iadd__(home.members())), PATIENCE_S)
        victim = living[0]
        client.send_many(Place(key) for key in keys[ORDERS // 2 :])
        home.strike_down(victim)
        for key in keys:
            shipped(client, key)
        records = {key: client.history(Order, key) for key in keys}
        # At their end workers wait only for some seconds for a collector that stands still.
        taken = set((tmp_path / str(victim.pid)).read_text().split())
        wanted = {(record.trace or "").split("-")[2] for log in records.values() for record in log}
        with contextlib.suppress(AssertionError):
            eventually(
                lambda: above(list(spot.spans)) | wanted <= ids_of(list(spot.spans)) | taken, PATIENCE_S
            )

    spans = spot.spans
    ids = ids_of(spans)
    assert len(spans) == len(ids)
    lost = taken - ids
    assert {span.parent_id for span in spans} - ids - {""} <= lost
    assert {link for span in spans for link in span.links} - ids <= lost
    found = by_order(spans)
    for key in keys:
        own = [span for span in found[key] if span.name.startswith(("send", "decide", "run"))]
        sent = [span for span in own if span.name.startswith("send")]
        assert 1 == len(sent) == len({span.trace_id for span in own})
        # What was exported of the process, and what the log says, is the same trace.
        assert {sent[0].trace_id} == {(record.trace or "").split("-")[1] for record in records[key]}
        decided = {(record.trace or "").split("-")[2] for record in records[key]}
        assert decided - ids <= lost
        assert len([span for span in own if span.name.startswith("decide")]) <= 3
        assert {"order/" + key} == {span.attributes["messaging.message.conversation_id"] for span in own}
    whole = [key for key in keys if {"run Ship", "run Charge"} <= {span.name for span in found[key]}]
    assert len(whole) > ORDERS // 4
    assert "holdfast-worker" in {span.service for span in spans}


def test_a_trace_goes_on_in_another_process(
    spot: Collector, home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A worker that has decided and exported is killed while a timer of its decision waits: what the timer sends is decided
    by another process, in the same trace, below the timer's span and so below the decision of the dead one.
    """
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", spot.url)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    # Whoever stands still for some seconds keeps what it serves: it is the one that has decided who is killed.
    settings = msgspec.structs.replace(home.settings, lease_ms=10_000, member_ttl_ms=10_000)
    with traced_client(settings, spot.url) as client, home.crew(2, APP, settings=settings):
        # The longer one is for a machine that was too busy to kill anybody before the timer was due.
        for remind_ms in (5_000, 40_000):
            key = f"o-{remind_ms}"
            client.send(Place(key, remind_ms=remind_ms))
            shipped(client, key)
            place = exported(spot, key, "Place")
            owner = home.owners()[partition_of("order", key, home.settings.partitions)]
            home.strike_down(next(one for one in home.members() if one.id == owner))
            early = len(client.history(Order, key)) > 3
            client.wait(Order, key, until=lambda state: "remind" in state.seen, timeout=PATIENCE_S * 2)
            remind = exported(spot, key, "Remind")
            # Who decides and who fires may be two processes, and each exports for itself.
            eventually(partial(was_waited_for, spot, remind), PATIENCE_S)
            if not early:
                break

    assert not early
    assert "" not in {place.instance, remind.instance}
    assert place.instance != remind.instance
    assert place.trace_id == remind.trace_id
    found = waited(spot, remind)
    assert found is not None
    fire, wait = found
    assert ["fire order", "wait order"] == [fire.name, wait.name]
    assert place.span_id == wait.parent_id


def waited(spot: Collector, remind: Received) -> tuple[Received, Received] | None:
    """
    Return the span of the timer that sent a command, and the one that this is below of, if both were exported.
    """
    spans = {span.span_id: span for span in list(spot.spans)}
    fire = spans.get(remind.parent_id)
    wait = spans.get(fire.parent_id) if fire is not None else None
    return (fire, wait) if fire is not None and wait is not None else None


def was_waited_for(spot: Collector, remind: Received) -> bool:
    return waited(spot, remind) is not None


def exported(spot: Collector, key: str, command: str) -> Received:
    """
    Return the span of a command's decision, as soon as it was exported.
    """

    def found() -> list[Received]:
        wanted = {"workflow.key": key, "workflow.command": command}
        return [
            one
            for one in list(spot.spans)
            if one.name == "decide order" and wanted.items() <= one.attributes.items()
        ]

    eventually(lambda: bool(found()), PATIENCE_S)
    (span,) = found()
    return span


def test_workers_start_and_stop_without_an_answer(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A collector that takes connections and never answers costs no command anything, and a stop a few seconds at most.
    """
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "50")
        # Whoever waited for the collector would take minutes, and nobody would end him before a minute has passed.
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
        settings = msgspec.structs.replace(home.settings, drain_s=60.0)
        with connect(shop.plain, settings) as client, home.crew(1, APP, settings=settings):
            for number in range(200):
                client.execute(Place(f"o-{number}"))
            for number in range(200):
                shipped(client, f"o-{number}")
            began = time.monotonic()
        assert time.monotonic() - began < 40


def test_a_program_of_any_kind_begins_a_trace(
    spot: Collector, home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It publishes with plain pika and a header `traceparent`, and everything down to the last effect is in its trace.
    """
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", spot.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    sent = {
        "queue": f"{home.settings.namespace}.ingress",
        "body": b'{"type": "Place", "order": "o-1"}'.hex(),
        "message_id": "m-1",
        "headers": {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"},
    }
    with connect(shop.plain, home.settings) as client, home.crew(1, APP):
        subprocess.run(
            [sys.executable, "-c", PUBLISH, home.settings.amqp_url],
            input=json.dumps(sent).encode() + b"\n",
            check=True,
        )
        shipped(client, "o-1")
        last = exported(spot, "o-1", "Shipped")
        with contextlib.suppress(AssertionError):
            eventually(lambda: way_to(last, spot)[-1].parent_id == "b" * 16, PATIENCE_S)

    way = way_to(last, spot)
    assert [
        "decide order",
        "run Ship",
        "decide order",
        "run Charge",
        "decide order",
        f"forward {home.settings.namespace}.ingress",
    ] == [span.name for span in way]
    assert {"a" * 32} == {span.trace_id for span in way}
    assert "b" * 16 == way[-1].parent_id


def way_to(span: Received, spot: Collector) -> list[Received]:
    """
    Return a span with all that it is below of, as far as they were exported.
    """
    spans = {one.span_id: one for one in list(spot.spans)}
    way = [span]
    while way[-1].parent_id in spans:
        way.append(spans[way[-1].parent_id])
    return way


@pytest.mark.parametrize(
    "asked",
    [
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_SAMPLER": "always_off"},
    ],
)
def test_nothing_is_exported_that_nobody_asked_for(
    spot: Collector, home: House, monkeypatch: pytest.MonkeyPatch, asked: dict[str, str]
) -> None:
    """
    By a worker that is told so, in any of the standard ways.
    """
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", spot.url)
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    with connect(shop.plain, home.settings) as client, home.crew(1, APP):
        client.execute(Place("o-1"))
        shipped(client, "o-1")

    assert [] == spot.spans


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "pip install 'opentelemetry-exporter-otlp-proto-grpc'"),
        # OpenTelemetry reads it when it is imported.
        (
            {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"},
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be a non-negative integer",
        ),
    ],
)
def test_what_cannot_be_set_up_is_said(
    home: House, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], sentence: str
) -> None:
    """
    The worker does not start, and says in one sentence what to install or to correct.
    """
    for name, value in {"OTEL_TRACES_EXPORTER": "otlp", **wrong}.items():
        monkeypatch.setenv(name, value)

    with Supervisor(APP, home.settings, folder=ROOT, log_file=home.log) as workers:
        eventually(workers.failed.is_set, PATIENCE_S)
    assert "cannot start: the " in home.log.read_text()
    assert sentence in home.log.read_text()
    assert "Traceback" not in home.log.read_text()
