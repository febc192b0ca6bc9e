"""
Log lines as programs and people get them: facts, bearings, secrets, colours.
"""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from holdfast.actors.log_colour import ColourFormatter
from holdfast.actors.log_json import JsonFormatter
from holdfast.actors.logs import FieldFormatter, asked_for, bear_record, formatter
from holdfast.runtime.bearings import bear, bearings, call_for
from holdfast.runtime.config import LogFormat
from holdfast.runtime.message import Envelope
from tests.flow.house import CALM, quick
from tests.support.processes import eventually
from tests.telemetry.house import PATIENCE_S, stand
from tests.telemetry.kiosk import Buy

ENVELOPE = Envelope("c-1", "order", "o-1", b"")
URL = "redis://:sesame%40street@h/0"


def record(**facts: Any) -> logging.LogRecord:
    """
    Return a record with facts.
    """
    return logging.makeLogRecord(
        {"name": "shop", "levelname": "ERROR", "levelno": 40, "msg": "gave up"} | facts
    )


def in_json(made: logging.LogRecord, *urls: str) -> Any:
    """
    Return what a record is as JSON, having seen that it is one line of ASCII.
    """
    line = JsonFormatter(urls).format(made)
    assert line.isascii()
    assert line.isprintable()
    return json.loads(line)


def test_a_line_of_json_has_the_sentence_and_its_facts() -> None:
    """
    Numbers stay numbers; what would hide what every line has gets an underscore.
    """
    said = in_json(record(seq=3, ok=True, nothing=None, level=7, who={"a"}, some=(1, "b"), nan=float("nan")))

    assert said["message"] == "gave up"
    assert said["level"] == "error"
    assert (said["seq"], said["ok"], said["nothing"], said["level_"]) == (3, True, None, 7)
    assert (said["who"], said["some"], said["nan"]) == ("{'a'}", [1, "b"], "nan")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", said["time"])


def test_nothing_ends_a_line_of_json() -> None:
    """
    Whatever a key, an error or a sentence holds.
    """
    hostile = "o-1\x1b[31m\u202e\r\n{}\u2028\ud800"
    try:
        raise ValueError(hostile)
    except ValueError as error:
        said = in_json(record(key=hostile, exc_info=(type(error), error, error.__traceback__)))

    assert said["key"] == hostile
    assert "Traceback (most recent call last):" in said["exception"]


@pytest.mark.parametrize("form", [JsonFormatter, FieldFormatter, ColourFormatter])
def test_secrets_are_taken_out(form: type[Any]) -> None:
    """
    Of the servers' URLs in all forms, and of URLs that nobody told us of; in sentences, facts and tracebacks.
    """
    try:
        raise ConnectionError(f"no answer from {URL} with sesame@street")
    except ConnectionError as error:
        facts = {
            "url": URL,
            "other": "amqp://u:hunter22@h",
            "exc_info": (type(error), error, error.__traceback__),
        }
        line = form([URL]).format(record(msg="lost sesame@street", **facts))

    assert "sesame" not in line
    assert "hunter22" not in line


def test_a_line_says_what_it_is_about() -> None:
    """
    The instance and the command that user code runs for, and the trace; only as long as it runs.
    """
    span = NonRecordingSpan(SpanContext(0x1234, 0x56, is_remote=False, trace_flags=TraceFlags(1)))
    token = context.attach(trace.set_span_in_context(span))
    try:
        said = call_for(ENVELOPE, lambda: in_json(record()))
    finally:
        context.detach(token)

    assert (said["workflow"], said["key"], said["command_id"]) == ("order", "o-1", "c-1")
    assert (said["trace_id"], said["span_id"]) == (f"{0x1234:032x}", f"{0x56:016x}")
    assert bearings() == {}
    assert "workflow" not in in_json(record())


def test_a_line_keeps_its_bearings_on_its_way() -> None:
    """
    They are noted by who writes it; a handler may format it later, elsewhere. What it says itself goes first.
    """
    made = record(key="mine")
    call_for(ENVELOPE, lambda: bear_record(made))
    said = in_json(made)

    assert (said["workflow"], said["key"]) == ("order", "mine")
    bear(None)


def test_the_form_depends_on_who_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Colour at a terminal, unless NO_COLOR; JSON elsewhere; what is asked for in any case.
    """
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    forms = [
        type(formatter(LogFormat.AUTO, terminal=True)),
        type(formatter(LogFormat.AUTO, terminal=False)),
        type(formatter(LogFormat.TEXT, terminal=False)),
        type(formatter(LogFormat.JSON, terminal=True)),
    ]
    monkeypatch.setenv("NO_COLOR", "1")

    assert [*forms, type(formatter(LogFormat.AUTO, terminal=True))] == [
        ColourFormatter,
        JsonFormatter,
        FieldFormatter,
        JsonFormatter,
        FieldFormatter,
    ]
    assert asked_for({"HOLDFAST_LOG_FORMAT": "json"})[0] is LogFormat.JSON
    assert asked_for({"HOLDFAST_LOG_FORMAT": "nonsense"})[0] is LogFormat.AUTO


def test_colours_are_the_only_escapes() -> None:
    """
    Without them a line is the one in plain text.
    """
    made = record(key="\x1b[2J", msg="gave \x1b[1m up")
    line = ColourFormatter().format(made)

    assert re.sub(r"\x1b\[[\d;]*m", "", line) == FieldFormatter().format(made)
    assert line.count("\x1b") == 4
    assert r"\x1b[2J" in line


def test_a_worker_writes_lines_of_json_that_say_what_they_are_about(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """
    Every line of the whole process tree, from the command line's own to those of user code in decide, in handlers on
    threads and on the event loop, and in projections.
    """
    settings = quick(namespace, redis_url, **CALM)
    with stand(settings, tmp_path) as it:
        it.client.execute(Buy("k-1", "well"), timeout=PATIENCE_S)
        it.client.execute(Buy("k-2", "block"), timeout=PATIENCE_S)
        for words in ("kiosk delivers", "kiosk blocks", "kiosk sold"):
            it.worker.await_words(words)
        eventually(lambda: it.worker.said().count("kiosk sold") >= 2, PATIENCE_S)
        it.worker.process.terminate()
        said = [json.loads(line) for line in it.worker.await_end().splitlines()]

    def about(message: str, key: str) -> dict[str, Any]:
        found: dict[str, Any] = next(
            line for line in said if line["message"] == message and line.get("key") == key
        )
        return found

    decides, delivers = about("kiosk decides", "k-1"), about("kiosk delivers", "k-1")
    blocks, sold = about("kiosk blocks", "k-2"), about("kiosk sold", "k-1")
    assert {line["workflow"] for line in (decides, delivers, blocks, sold)} == {"kiosk"}
    assert decides["command_id"] == delivers["command_id"] == sold["command_id"]
    assert delivers["effect_id"] == f"{decides['command_id']}:0"
    assert (delivers["attempt"], blocks["attempt"]) == (1, 1)
    assert (sold["seq"], sold["how"]) == (1, "well")
    assert {line["logger"].partition(".")[0] for line in said} == {"holdfast", "dramatiq", "kiosk"}
    assert not any("key" in line for line in said if line["logger"].startswith("dramatiq"))
    assert said[-1]["message"] == "stopped"
