"""
`holdfast trace`.
"""

import asyncio
import base64
import gzip
import re
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from holdfast import App, Client, EffectContext, Retry, Settings, UsageError, connect_async
from holdfast.actors import chronicler, wiring
from holdfast.brokers import otlp
from holdfast.runtime import trace_names as names
from holdfast.runtime.clock import to_ms
from holdfast.runtime.codec import encode
from holdfast.runtime.instance_trace import InstanceTrace
from holdfast.runtime.record import Entry
from tests import controls
from tests.cli import shop, voyage
from tests.cli.conftest import name
from tests.cli.desk import APP as POST
from tests.cli.desk import run, running, working
from tests.cli.test_diagram import BRIEF, BriefLetter, BriefParcel, brief_app
from tests.support.processes import eventually
from tests.tracing import shop as tracing_shop

APP = "tests.cli.voyage:app"
ORDERS = "tests.cli.test_trace:controls_app"
controls_app = App(workflows=[controls.Order])


@pytest.fixture
def agency(settings: Settings) -> Iterator[Client]:
    """
    A travel agency with a worker, and a trip of which everything has happened that goes by itself.
    """
    with working(voyage.app, settings) as client:
        client.execute(voyage.Book("t-1"), id="c-1")
        client.send(voyage.Explode("t-1"), id="c-2")
        eventually(lambda: _settled(client))
        yield client


def _settled(client: Client) -> bool:
    found = client.trace(voyage.Trip, "t-1")
    if found is None:
        return False
    statuses = _by_name(found)
    return (
        statuses.get("Print") == "dead"
        and statuses.get("Fax") == "retry"
        and statuses.get("Post") == "done"
        and "Explode" in statuses
        and "TicketFailed" in statuses
        and any(node.kind == "timer" and node.status == "fired" for node in found.nodes)
        and client.state(voyage.Mail, 7) == 1
    )


def _by_name(found: InstanceTrace) -> dict[str, Any]:
    return {node.name: str(node.status) for node in found.nodes}


def shape(text: str) -> str:
    """
    Return a drawing without what differs each time: times, lengths of time, ids of dead letters.
    """
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", "TIME", text)
    text = re.sub(r"\b\d+ m?s\b", "SPAN", text)
    return re.sub(r"\b\d\.[A-Za-z0-9_.-]+", "LETTER", text)


LIFE = """\
trip/t-1  running  TIME, SPAN  record 1 to 4 of 4
├── TIME  Book  #1  Booked  sent by a client as c-1
│   ├── effect Reserve  done after SPAN, 2 attempts
│   │   └── TIME  Confirm  #2  Confirmed
│   │       ├── effect Print  dead letter after SPAN, 1 attempt LETTER: Permanent: no paper
│   │       │   └── TIME  TicketFailed  #N  Unticketed
│   │       ├── effect Post  done after SPAN, 1 attempt
│   │       │   └── TIME  Deliver of mail/7  #1  Delivered
│   │       ├── effect Fax  waits for its next try, 1 attempt, again in 1 h 59 min: OSError: engaged
│   │       ├── timer remind (Remind)  pending, due in 4 d 3 h
│   │       └── timer Remind  fired after SPAN
│   │           └── TIME  Remind  #N  Reminded
│   ├── timer remind (Remind)  replaced after SPAN
│   └── timer refuse (Refuse)  cancelled after SPAN
└── TIME  Explode  dead letter, 3 attempts LETTER: RuntimeError: \\x1b[31mexploded [bold]here[/bold]
waiting for the next try of effect Fax, due in 1 h 59 min
waiting for timer remind, due in 4 d 3 h
waiting for somebody to deal with dead letter LETTER (Explode)
waiting for somebody to deal with dead letter LETTER (effect Print)
"""


def test_a_life_is_drawn_as_a_tree(agency: Client) -> None:
    """
    What led to what, with its end, or what it waits for; and at the end what is open.
    """
    said = run("trace", APP, "trip", "t-1", "--follow-children")

    drawn = re.sub(r"#[34]", "#N", shape(said.out))
    expected = LIFE.splitlines()
    assert sorted(expected[-2:]) == sorted(drawn.splitlines()[-2:])
    assert expected[:-2] == drawn.splitlines()[:-2]
    assert said.err == ""


def test_other_instances_are_followed_only_when_asked(agency: Client) -> None:
    """
    Looking for them takes a look at many.
    """
    assert "mail/7" not in run("trace", APP, "trip", "t-1").out
    assert "effect Post  done\n" in run("trace", APP, "trip", "t-1").out  # what it led to is elsewhere


def test_the_tree_as_json(agency: Client) -> None:
    """
    One document: every node behind its parent, all that is open, and the same as the client returns.
    """
    said = run("trace", APP, "Trip", "t-1", "--json")
    found = agency.trace(voyage.Trip, "t-1")
    assert found is not None

    assert {
        "workflow", "key", "run_state", "reason", "seq", "first", "last", "drawn", "nodes", "waits", "notes"
    } == set(said.json)  # fmt: skip
    assert [node.id for node in found.nodes] == [node["id"] for node in said.json["nodes"]]
    known: set[Any] = {None}
    for node in said.json["nodes"]:
        assert node["parent"] in known
        known.add(node["id"])
    assert said.json["nodes"][0]["events"] == [{"type": "Booked"}]
    assert ["retry", "timer", "dead-letter", "dead-letter"] == [wait["kind"] for wait in said.json["waits"]]
    assert {wait["node"] for wait in said.json["waits"]} <= known


def test_a_page_of_a_long_life(office: Client) -> None:
    """
    The first records or the last ones, and a sentence that says what is missing.
    """
    for grams in range(1, 8):
        office.execute(shop.Post("p-1", grams))

    said = run("trace", POST, "parcel", "p-1", "--limit", "3")
    assert ["#1", "#2", "#3"] == re.findall(r"#\d", said.out)
    assert "records 4 to 7 come after these and are not shown" == said.sentence

    said = run("trace", POST, "parcel", "p-1", "--limit", "2", "--newest")
    assert ["#6", "#7"] == re.findall(r"#\d", said.out)
    assert "records 1 to 5 come before these and are not shown" == said.sentence

    said = run("trace", POST, "parcel", "p-1", "--limit", "2", "--newest", "--after", "6")
    assert ["#1"] == re.findall(r"#\d", said.out)

    said = run("trace", POST, "parcel", "p-1", "--limit", "2", "--after", "3")
    assert ["#4", "#5"] == re.findall(r"#\d", said.out)
    assert 2 == said.err.count("are not shown")

    assert "records" in run("trace", POST, "parcel", "p-1", "--after", "100").err


def test_records_that_were_deleted_are_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The tree begins behind them; where none is left, only what still waits is told.
    """
    monkeypatch.setenv("HOLDFAST_SNAPSHOT_EVERY", "2")
    with working(brief_app, Settings.from_environment()) as client:
        for number in range(3):
            client.execute(shop.Post("p-1", 5 + number))
        for _ in range(2):
            client.execute(shop.StampLetter(7))
        eventually(lambda: [2, 3] == [one.seq for one in client.history(BriefParcel, "p-1")])
        eventually(lambda: not client.history(BriefLetter, 7))

    said = run("trace", BRIEF, "parcel", "p-1")
    assert ["#2", "#3"] == re.findall(r"#\d", said.out)
    assert "records 1 to 1 were deleted" == said.sentence

    said = run("trace", BRIEF, "letter", "7")
    assert "letter/7  running  record 0 to 0 of 2\nwaiting for a command\n" == said.out
    assert "records 1 to 2 were deleted" == said.sentence


def test_what_was_not_looked_through_is_told(agency: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Looking for other instances has an end, and so has what is shown of them; unreadable ones are passed over.
    """
    monkeypatch.setattr(chronicler, "SEARCH_MAX", 0)
    said = run("trace", APP, "trip", "t-1", "--follow-children")
    assert "only the 0 instances that changed last were looked through for children" == said.sentence

    monkeypatch.undo()
    name(monkeypatch, redis_url=agency.settings.redis_url, namespace=agency.settings.namespace)
    monkeypatch.setattr(chronicler, "CHILDREN_MAX", 0)
    said = run("trace", APP, "trip", "t-1", "--follow-children")
    assert "commands went to more than 0 instances; not all are shown" == said.sentence
    assert "mail/7" not in said.out

    monkeypatch.setattr(chronicler, "CHILDREN_MAX", 10)
    ports = wiring.open_ports(agency.settings)
    ref = agency.reader.ref(voyage.Mail, 8)
    lost = controls.commit(ref, "c-1")
    lost.entries[:] = [encode(Entry("c-1", "Deliver", controls.NOW_MS, 0, ({"type": "Lost"},)))]
    ports.journal.commit([lost], "a")
    ports.close()
    said = run("trace", APP, "trip", "t-1", "--follow-children")
    assert "nothing is said of instances that could not be read: 1 of them" == said.sentence
    assert "mail/7" in said.out


def test_levels_that_are_left_out_are_counted(agency: Client) -> None:
    """
    Below the last one that was wanted.
    """
    said = run("trace", APP, "trip", "t-1", "--depth", "2").out

    assert "│   ├── effect Reserve  done" in said
    assert "│   │   └── ... 8 more below (see --depth)\n" in said
    assert "Confirm" not in said


def test_moves_of_the_run_are_drawn(office: Client) -> None:
    """
    Pause, resume and cancel, with their reasons, and what was still planned.
    """
    office.execute(shop.Post("p-1", 1))
    office.pause(shop.Parcel, "p-1", reason="customs", resume_after=timedelta(days=2, minutes=1))
    office.execute(shop.Post("p-1", 2))

    said = shape(run("trace", POST, "parcel", "p-1").out)
    assert "parcel/p-1  paused (customs)" in said
    assert "holdfast.Pause  #2  pause: customs" in said
    assert "    └── timer holdfast.Resume  pending, due in 2 d\n" in said
    assert said.endswith("waiting for the end of the pause, due in 2 d\n")

    office.resume(shop.Parcel, "p-1")
    said = shape(run("trace", POST, "parcel", "p-1").out)
    assert "timer holdfast.Resume  cancelled after SPAN" in said
    assert said.endswith("waiting for a command\n")

    office.pause(shop.Parcel, "p-1", reason="lunch")
    assert run("trace", POST, "parcel", "p-1").out.endswith("waiting for holdfast resume (lunch)\n")
    office.cancel(shop.Parcel, "p-1", reason="lost")
    said = run("trace", POST, "parcel", "p-1").out
    assert "cancel: lost" in said
    assert "waiting" not in said


def commit(settings: Settings, *entries: Entry[Any]) -> None:
    """
    Write records of order o-1.
    """
    ports = wiring.open_ports(settings)
    written = controls.commit(controls.ref("o-1"), *(entry.command_id for entry in entries))
    written.entries[:] = [encode(entry) for entry in entries]
    ports.journal.commit([written], "a")
    ports.close()


def test_stretches_of_time_without_a_record_are_shown(settings: Settings) -> None:
    """
    Those of more than a minute.
    """
    event = (controls.OrderPlaced(5),)
    ends = (0, 60_000, 120_001, 2 * 86_400_000 + 3 * 3_600_000 + 120_001)
    commit(settings, *(Entry(f"c-{n}", "Do", controls.NOW_MS + end, 0, event) for n, end in enumerate(ends)))

    lines = [shape(line) for line in run("trace", ORDERS, "order", "o-1").out.splitlines()]

    assert ["Do  #1", "Do  #2", "... 1 min later", "Do  #3", "... 2 d 3 h later", "Do  #4"] == [
        re.sub(r"^[├└─ ]*(TIME  )?|  OrderPlaced.*", "", line) for line in lines[1:-1]
    ]


def test_a_long_chain_goes_on_at_the_edge(settings: Settings) -> None:
    """
    However deep the tree is, it has room on a terminal; nothing is left out.
    """
    event = (controls.OrderPlaced(5),)
    causes = (None, *(f"c-{n}" for n in range(199)))
    commit(
        settings,
        *(Entry(f"c-{n}", "Do", controls.NOW_MS + n, 0, event, cause) for n, cause in enumerate(causes)),
    )

    said = run("trace", ORDERS, "order", "o-1").out

    assert [str(n) for n in range(1, 201)] == re.findall(r"Do  #(\d+)", said)
    assert "... goes on below with #13\n" in said
    assert "\u251c\u2500\u2500 ... behind Do of #12\n" in said
    assert max(len(line) - len(line.lstrip("\u2502\u251c\u2514\u2500 ")) for line in said.splitlines()) < 60


def test_a_trace_that_was_exported_is_named(settings: Settings) -> None:
    """
    Under the trace id under which collectors have it.
    """
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    commit(settings, Entry("c-1", "Do", controls.NOW_MS, 0, (controls.OrderPlaced(5),), None, trace))

    said = run("trace", ORDERS, "order", "o-1")

    assert "trace 0af7651916cd43dd8448eb211c80319c" in said.out


def test_what_cannot_be_drawn_is_one_sentence(office: Client, settings: Settings) -> None:
    """
    Nobody there, deleted data, a history of other code, an unknown workflow.
    """
    assert "there is no parcel 'nobody'" == run("trace", POST, "parcel", "nobody", code=1).sentence
    assert "is no workflow of this app" in run("trace", POST, "nothing", "p-1", code=2).sentence
    assert office.trace(shop.Parcel, "nobody") is None
    with pytest.raises(UsageError, match="1 to 10,000 records"):
        office.trace(shop.Parcel, "p-1", limit=0)
    with pytest.raises(UsageError, match="1 or more"):
        office.trace(shop.Parcel, "p-1", depth=0)

    office.execute(shop.Post("p-1", 1))
    office.execute(shop.Deliver("p-1"))
    office.delete_data(shop.Parcel, "p-1", reason="asked for")
    sentence = run("trace", POST, "parcel", "p-1", code=1).sentence
    assert re.fullmatch(r"the data of parcel/p-1 was deleted with record 3 on .*: asked for", sentence)

    ref = office.reader.ref(shop.Parcel, "p-2")
    lost = controls.commit(ref, "c-1")
    lost.entries[:] = [encode(Entry("c-1", "Post", 1_000, 0, ({"type": "Lost"},)))]
    ports = wiring.open_ports(settings)
    ports.journal.commit([lost], "a")
    ports.close()
    assert "record 1 of parcel/p-2 cannot be read" in run("trace", POST, "parcel", "p-2", code=1).sentence


def test_dead_letters_of_what_never_began_are_drawn(settings: Settings) -> None:
    """
    A first command that became a dead letter left no record, but is not nothing.
    """
    with working(voyage.app, settings) as client:
        client.send(voyage.Explode("t-9"), id="c-1")
        eventually(lambda: bool(client.dead_letters.list(key="t-9")))

        said = run("trace", APP, "trip", "t-9")

        assert [
            "trip/t-9  running  TIME, SPAN  record 0 to 0 of 0",
            "└── TIME  Explode  dead letter, 3 attempts LETTER: RuntimeError: \\x1b[31mexploded [bold]here[/bold]",
            "waiting for somebody to deal with dead letter LETTER (Explode)",
        ] == shape(said.out).splitlines()
        assert "trip/t-9 has no record: nothing that was sent to it was accepted yet" == said.sentence
        assert "there is no trip 't-8'" == run("trace", APP, "trip", "t-8", code=1).sentence


def test_encrypted_payloads_are_one_sentence(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without the keys; with them everything is drawn.
    """
    keys = f"k1:{base64.b64encode(bytes(range(32))).decode()}"
    monkeypatch.setenv("HOLDFAST_ENCRYPTION_KEYS", keys)
    with working(voyage.app, Settings.from_environment()) as client:
        client.execute(voyage.Book("t-1"), id="c-1")
        eventually(lambda: "Fax" in run("trace", APP, "trip", "t-1").out)
    monkeypatch.delenv("HOLDFAST_ENCRYPTION_KEYS")

    assert "are encrypted" in run("trace", APP, "trip", "t-1", code=1).sentence


async def _asked(settings: Settings) -> InstanceTrace | None:
    async with connect_async(voyage.app, settings) as client:
        return await client.trace(voyage.Trip, "t-1", limit=1)


def test_asynchronous_clients_trace_as_well(agency: Client, settings: Settings) -> None:
    """
    The same structures.
    """
    found = asyncio.run(_asked(settings))

    assert found is not None
    assert ("Book", 1) == (found.roots[0].name, found.last)
    assert "effect" in {node.kind for node in found.children(found.roots[0])}


# -- to a collector


class Collector:
    """
    A receiver of spans.
    """

    def __init__(self, status: int = 200) -> None:
        collector = self
        self.spans: list[Any] = []
        self.paths: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                collector.paths.append(self.path)
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """
    A collector that takes everything.
    """
    it = Collector()
    yield it
    it.close()


def test_a_trace_is_sent_to_a_collector(
    agency: Client, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    One span for each node and one for the instance, below each other as in the tree; the same ids each time.
    """
    said = run("trace", APP, "trip", "t-1", "--otlp", collector.url, "--json")
    first, nodes = list(collector.spans), said.json["nodes"]
    collector.spans.clear()

    assert ["/v1/traces"] == collector.paths
    assert len(nodes) + 1 == len(first)
    assert (
        f"{len(first)} spans of trace {first[0].trace_id.hex()} were sent to {collector.url}" in said.sentence
    )
    root, *rest = first
    by_id = {span.span_id: span for span in first}
    assert root.parent_span_id == b""
    assert {root.trace_id} == {span.trace_id for span in first}
    depths = [node["depth"] for node in nodes]
    assert depths == [_depth(span, by_id) - 1 for span in rest]
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in first)

    book = _attributes(rest[0])
    assert "decide trip" == rest[0].name
    assert ("trip/t-1", "trip", "t-1", 1, "c-1") == tuple(
        book[name]
        for name in (
            names.CONVERSATION_ID,
            names.WORKFLOW_TYPE,
            names.WORKFLOW_KEY,
            names.SEQ,
            names.COMMAND_ID,
        )
    )
    assert to_ms(datetime.fromisoformat(nodes[0]["at"])) * 1_000_000 == rest[0].start_time_unix_nano
    dead = next(span for span in rest if span.name == "run Print")
    assert (2, "Permanent: no paper") == (dead.status.code, dead.status.message)

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    run("trace", APP, "trip", "t-1", "--otlp")

    again = collector.spans
    assert [(span.trace_id, span.span_id) for span in first] == [
        (span.trace_id, span.span_id) for span in again
    ]


def test_what_errors_say_stays_here_where_payloads_are_encrypted(
    redis_url: str, namespace: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A collector is told of their types; the terminal, which has the keys, of all.
    """
    key = f"k1:{base64.b64encode(bytes(32)).decode()}"
    name(monkeypatch, redis_url=redis_url, namespace=namespace, encryption_keys=key)
    with working(voyage.app, Settings.from_environment()) as client:
        client.execute(voyage.Book("t-1"), id="c-1")
        client.send(voyage.Explode("t-1"), id="c-2")
        eventually(lambda: _settled(client))
        said = run("trace", APP, "trip", "t-1", "--otlp", collector.url)

    for words in ("no paper", "engaged", "exploded"):
        assert words in said.out
        assert words not in str(collector.spans)
    dead = next(span for span in collector.spans if span.name == "run Print")
    assert (2, "Permanent") == (dead.status.code, dead.status.message)


def _depth(span: Any, by_id: dict[bytes, Any]) -> int:
    depth = 0
    while span.parent_span_id:
        span, depth = by_id[span.parent_span_id], depth + 1
    return depth


def _attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_a_collector_that_takes_nothing_is_one_sentence(
    office: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It is away, it refuses, it is no address, or nothing is installed to talk to it; the tree is drawn all the same.
    """
    office.execute(shop.Post("p-1", 1))
    monkeypatch.setattr(otlp, "TIMEOUT_S", 1.0)

    said = run("trace", POST, "parcel", "p-1", "--otlp", "http://me:sesame@127.0.0.1:1", code=1)
    assert said.sentence.startswith(
        "the collector at http://me:***@127.0.0.1:1/v1/traces did not take the trace: "
    )
    assert "sesame" not in said.err
    why = "(Connection refused|it does not answer)"  # the latter where time was up before the first try had ended
    advice = r"is one running there that takes OTLP over HTTP, as on port 4318\?"
    assert re.search(f"the trace: {why}; {advice}$", said.sentence)
    assert "Post  #1" in said.out

    monkeypatch.setattr(otlp, "TIMEOUT_S", 40.0)
    refusing = Collector(400)
    said = run("trace", POST, "parcel", "p-1", "--otlp", refusing.url, code=1)
    refusing.close()
    assert "did not take the trace: code: 400" in said.sentence

    assert (
        "is no address of a collector"
        in run("trace", POST, "parcel", "p-1", "--otlp", "localhost:4318", code=2).sentence
    )

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "localhost:4318")
    said = run("trace", POST, "parcel", "p-1", "--otlp", code=2)
    assert "'localhost:4318' is no address of a collector; write http://localhost:4318" in said.sentence

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    said = run("trace", POST, "parcel", "p-1", "--otlp", "http://127.0.0.1:1", code=1)
    assert "pip install 'holdfast[otlp]'" in said.sentence


def test_what_opentelemetry_does_not_take_stops_only_what_needs_it(
    office: Client, settings: Settings, tmp_path: Path
) -> None:
    """
    It reads some variables when it is imported, and raises: no command does that but those that export.
    """
    office.execute(shop.Post("p-1", 1))
    wrong = settings.to_environment() | {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}
    with running("trace", POST, "parcel", "p-1", folder=tmp_path, **wrong) as drawn:
        assert "Post  #1" in drawn.await_end()
    with running("trace", POST, "parcel", "p-1", "--otlp", folder=tmp_path, **wrong) as sent:
        said = sent.await_end(1)

    assert (
        "holdfast: an OTEL_* variable is wrong: ValueError: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be" in said
    )


def test_an_effect_that_led_to_nothing_has_its_attempts_and_its_end(settings: Settings) -> None:
    """
    Though no record tells of it: the first try fails, the second is the last.
    """
    app = App(workflows=[tracing_shop.Order])

    @app.effect(tracing_shop.Charge, retry=Retry(attempts=3, first=0.05, jitter=0))
    def charge(effect: tracing_shop.Charge, ctx: EffectContext) -> None:
        if ctx.attempt == 1:
            message = "no line"
            raise OSError(message)

    def charged() -> bool:
        found = client.trace(tracing_shop.Order, "o-1")
        return found is not None and _by_name(found) == {"Place": "decided", "Charge": "done"}

    with working(app, settings) as client:
        client.execute(tracing_shop.Place("o-1"))
        eventually(charged)
        trace = client.trace(tracing_shop.Order, "o-1")

    assert trace is not None
    place, charge_ = trace.nodes
    assert 2 == charge_.attempts
    assert place.at is not None
    assert charge_.ended is not None
    assert timedelta(milliseconds=40) <= charge_.ended - place.at < timedelta(minutes=1)
