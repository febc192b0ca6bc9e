"""
What the standard variables ask for.
"""

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from holdfast import Settings, SetupError
from holdfast.actors.otel import resource
from holdfast.actors.tracing import names
from holdfast.actors.tracing.setup import asked_for, set_up
from holdfast.actors.tracing.tracing import Tracing
from holdfast.runtime.codec import encode


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, []),
        ({"OTEL_TRACES_EXPORTER": "none"}, []),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, []),
        ({"OTEL_TRACES_EXPORTER": "console"}, ["console"]),
        ({"OTEL_TRACES_EXPORTER": " console , otlp"}, ["console", "otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, ["otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["otlp_proto_grpc"]),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "True"}, []),
        ({"OTEL_SERVICE_NAME": "shop"}, []),
    ],
)
def test_exporters_are_asked_for(environment: dict[str, str], expected: list[str]) -> None:
    """
    By name, or by an endpoint alone.
    """
    assert expected == asked_for(environment)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "carrier"},
            "it must be http/protobuf or grpc",
        ),
        ({"OTEL_TRACES_EXPORTER": "nonsense"}, "'nonsense', which is not there"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
            "OTEL_EXPORTER_OTLP_ENDPOINT is 'collector:4318', which is no address; write http://localhost:4318",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://"},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is 'http://'",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:99999"}, "is 'http://c:99999', which is no address"),
    ],
)
def test_what_cannot_be_is_said(environment: dict[str, str], sentence: str) -> None:
    """
    In one sentence, and nothing is set up.
    """
    with pytest.raises(SetupError, match=sentence):
        set_up(environment)
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_a_collector_over_grpc_needs_no_scheme() -> None:
    """
    Only addresses for HTTP are looked at.
    """
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}

    assert ["otlp_proto_grpc"] == asked_for(asked)


def test_what_opentelemetry_does_not_take_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Whatever it raises when something is made of its variables.
    """
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100000")
    with pytest.raises(SetupError, match=r"an OTEL_\* variable is wrong: ValueError: .*; correct it"):
        set_up({"OTEL_TRACES_EXPORTER": "console"})
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_nothing_is_set_up_that_nobody_asked_for() -> None:
    """
    The provider stays the one that does nothing.
    """
    assert set_up({}) is None
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_both_signals_say_who_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Under one name and one id of the process, unless the standard variables have others for it.
    """
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    spans, numbers = resource().attributes, resource().attributes

    assert "holdfast-worker" == spans["service.name"]
    assert spans["service.instance.id"] == numbers["service.instance.id"] != ""

    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=mine,deployment.environment=test")
    found = resource().attributes
    wanted = ("service.name", "service.instance.id", "deployment.environment")

    assert ["shop", "mine", "test"] == [found[name] for name in wanted]


KEY = "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, False),
        ({"trace_payloads": True}, True),
        ({"trace_payloads": True, "encryption_keys": KEY}, False),
    ],
)
def test_payloads_are_told_of_only_on_request(settings: dict[str, Any], told: bool) -> None:
    """
    And never where they are encrypted; nor is what an error says, which may quote one.
    """
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    own = Tracing(Settings.of(redis_url="memory://", **settings), provider)
    span = own.start(names.SEND, own.commands)
    span.set_attributes(own.payload(encode({"card": "4111"})))
    own.fail(span, LookupError("no 4111"))
    span.end()

    (found,) = exporter.get_finished_spans()
    assert ('{"card":"4111"}' if told else None) == (found.attributes or {}).get(names.PAYLOAD)
    assert "LookupError" == (found.attributes or {}).get(names.ERROR_TYPE)
    assert ("encryption_keys" not in settings) == ("no 4111" in found.to_json())
