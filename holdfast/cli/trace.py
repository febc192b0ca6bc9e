"""`holdfast trace`: an instance's life as a tree with times, and what it still waits for."""

from __future__ import annotations

import click
from rich.text import Text
from rich.tree import Tree

from holdfast.actors.chronicler import Chronicler, Excerpt
from holdfast.actors.worker import load_app
from holdfast.brokers import otlp as collector
from holdfast.cli import output
from holdfast.cli.ending import Failed
from holdfast.cli.installation import reading
from holdfast.cli.naming import workflow_named
from holdfast.runtime.clock import to_ms
from holdfast.runtime.config import Settings
from holdfast.runtime.instance_trace import (
    RECORDS_DEFAULT,
    RECORDS_MAX,
    InstanceTrace,
    NodeKind,
    NodeStatus,
    TraceNode,
    TraceWait,
)
from holdfast.runtime.printable import printable
from holdfast.runtime.redaction import hide_password
from holdfast.runtime.trace_spans import spans_of

NOTES = """\b
Below each command stands what its decision asked for, and below each effect and
timer the command that it led to. An effect that is over shows how it ended, and
how many attempts that took. Of those that led to no command this is remembered of
the last thousand or so in a partition; one that ended under a release before this
one left nothing behind that would tell it.
\b
--json prints one document: workflow, key, run_state, reason, seq, first and last
(records that are shown), drawn (when), nodes, waits (kind, what, since, until,
node), notes (what is not shown). nodes is a list in the order of the tree, each:
id, parent (null at the top), depth, kind (record, effect, timer, dead-letter),
status, workflow, key, name, at, ended, until, seq, command_id, cause, sender,
events, timer, attempts, reason, dead_letter, gap_ms, trace_id, span_id, hidden
(nodes below it that --depth left out).
\b
--otlp sends spans that are made of the log; ids depend on the instance alone, so
sending twice makes no second trace. Without URL: OTEL_EXPORTER_OTLP_ENDPOINT,
else http://localhost:4318.
"""

_STYLES = {
    NodeStatus.DEAD: "red",
    NodeStatus.FAILED: "red",
    NodeStatus.RETRY: "yellow",
    NodeStatus.LIMIT: "yellow",
    NodeStatus.RATE: "yellow",
    NodeStatus.WAITING: "yellow",
    NodeStatus.RUNNING: "yellow",
    NodeStatus.PENDING: "yellow",
    NodeStatus.DUE: "yellow",
    NodeStatus.DONE: "green",
    NodeStatus.FIRED: "green",
}

#: Letters of an event or an error that are drawn; --json has all of them.
CHARS_MAX = 200
#: Levels that are drawn below each other.
LEVELS_MAX = 12

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


@click.command(short_help="Draw what happened to an instance as a tree.", epilog=NOTES)
@click.argument("app_path", metavar="APP")
@click.argument("type_", metavar="TYPE")
@click.argument("key", metavar="KEY")
@click.option(
    "--limit",
    type=click.IntRange(1, RECORDS_MAX),
    default=RECORDS_DEFAULT,
    show_default=True,
    metavar="N",
    help="At most N records.",
)
@click.option("--newest", is_flag=True, help="The last N records rather than the first.")
@click.option(
    "--after",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Leave out N records: at the beginning, or with --newest at the end.",
)
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="At most N levels of the tree.")
@click.option("--follow-children", is_flag=True, help="Look for instances that it sent commands to.")
@click.option(
    "--otlp", is_flag=False, flag_value="", default=None, metavar="[URL]", help="Send it to a collector too."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def trace(
    app_path: str,
    type_: str,
    key: str,
    limit: int,
    newest: bool,
    after: int,
    depth: int | None,
    follow_children: bool,
    otlp: str | None,
    as_json: bool,
) -> None:
    """Draw the life of the instance KEY of the workflow TYPE, from its log and from what still waits.

    Commands, the events that were recorded, the effects and timers that they asked for, and what those led to.
    """
    app = load_app(app_path)
    definition = workflow_named(app, type_)
    if otlp is not None:
        collector.traces_url(otlp)  # what is no address is said before anything is read
    with reading(app) as (ports, reader), output.waiting("reading the log"):
        chronicler = Chronicler(app, reader, lambda: ports)
        page = Excerpt(after, limit, newest)
        found = chronicler.trace(definition.type, key, page, depth=depth, follow_children=follow_children)
    if found is None:
        raise Failed(f"there is no {definition.type} {key!r}")
    if as_json:
        output.emit(found)
    else:
        _draw(found)
    for note in found.notes:
        output.note(note)
    if otlp is not None:
        _send(found, otlp)


def _send(found: InstanceTrace, url: str) -> None:
    settings = Settings.from_environment()
    spans = spans_of(found, settings.namespace, messages=not settings.encrypted)
    with output.waiting("sending it to the collector"):
        address = collector.send_spans(spans, url)
    output.note(
        f"{len(spans):,} spans of trace {spans[0].trace_id:032x} were sent to {hide_password(address)}"
    )


# -- drawing


def _draw(found: InstanceTrace) -> None:
    paper = output.paper()
    root = Tree(_headline(found), guide_style="dim")
    branches: dict[str, tuple[Tree, int]] = {"": (root, 0)}
    lines: dict[str, str] = {}
    for node in found.nodes:
        above, level = branches.get(node.parent or "", (root, 0))
        if level >= LEVELS_MAX and node.kind is NodeKind.RECORD:
            # A chain goes on at the edge of the page, or there would be no room for it.
            above.add(Text(f"... goes on below with #{node.seq}", "dim italic"))
            above, level = root.add(Text(f"... behind {lines[node.parent or '']}", "dim italic")), 1
        if node.gap_ms:
            above.add(Text(f"... {span(node.gap_ms)} later", "dim italic"))
        branch = above.add(_line(node, found))
        branches[node.id] = branch, level + 1
        lines[node.id] = f"{printable(node.name)} of #{node.seq}"
        if node.hidden:
            branch.add(Text(f"... {node.hidden:,} more below (see --depth)", "dim italic"))
    paper.print(root)
    for wait in found.waits:
        paper.print(_open(wait, found))


def _headline(found: InstanceTrace) -> Text:
    why = f" ({printable(found.reason)})" if found.reason else ""
    line = Text.assemble((printable(f"{found.workflow}/{found.key}"), "bold"), f"  {found.run_state}{why}")
    times = [node.at for node in found.nodes if node.at is not None]
    if times:
        line.append(f"  {output.time(min(times))}, {span(to_ms(max(times)) - to_ms(min(times)))}", "dim")
    return line.append(f"  record {found.first} to {found.last} of {found.seq}", "dim")


def _line(node: TraceNode, found: InstanceTrace) -> Text:
    match node.kind:
        case NodeKind.RECORD:
            line = _record(node, found)
        case NodeKind.EFFECT:
            line = _effect(node, found)
        case NodeKind.TIMER:
            line = _timer(node, found)
        case _:
            line = _dead(node)
    return line


def _record(node: TraceNode, found: InstanceTrace) -> Text:
    line = Text.assemble((_clock(node), "dim"), "  ", output.text(node.name, "bold"))
    if (node.workflow, node.key) != (found.workflow, found.key):
        line.append(f" of {printable(f'{node.workflow}/{node.key}')}", "cyan")
    line.append(f"  #{node.seq}", "dim")
    if node.status is not NodeStatus.DECIDED:
        line.append(f"  {node.status}{_why(node)}", "magenta")
    for event in node.events:
        line.append(f"  {_short(output.message(event))}")
    if node.parent is None:
        line.append(f"  {_origin(node)}", "dim")
    if node.trace_id:
        line.append(f"  trace {printable(node.trace_id)}", "dim")
    return line


def _origin(node: TraceNode) -> str:
    id_ = printable(node.command_id)
    cause = printable(node.cause or "?")
    match node.sender:
        case "client":
            return f"sent by a client as {id_}"
        case "schedule":
            return f"sent by a schedule as {id_}"
        case "elsewhere":
            return f"sent by something outside this instance ({cause}) as {id_}"
        case _:
            return f"sent by something that is not shown: {node.sender} {cause}"


def _effect(node: TraceNode, found: InstanceTrace) -> Text:
    line = Text.assemble(("effect ", "dim"), output.text(node.name or node.command_id), "  ")
    line.append(_EFFECT_WORDS.get(node.status, str(node.status)), _STYLES.get(node.status, ""))
    if node.ended is not None and node.at is not None:
        line.append(f" after {span(to_ms(node.ended) - to_ms(node.at))}", "dim")
    if node.attempts:
        line.append(f", {node.attempts} {'attempt' if node.attempts == 1 else 'attempts'}")
    if node.until is not None and node.open:
        line.append(f", again {_ahead(node, found)}")
    return _with_end(line, node)


_EFFECT_WORDS = {
    NodeStatus.WAITING: "to be run",
    NodeStatus.RETRY: "waits for its next try",
    NodeStatus.LIMIT: "waits for its turn",
    NodeStatus.RATE: "waits for its turn",
    NodeStatus.DEAD: "dead letter",
    NodeStatus.OVER: "withdrawn, or done",
    NodeStatus.LATER: "see later records",
}


def _timer(node: TraceNode, found: InstanceTrace) -> Text:
    name = node.name if node.timer is None else f"{node.timer} ({node.name})"
    line = Text.assemble(("timer ", "dim"), output.text(name), "  ")
    line.append(_TIMER_WORDS.get(node.status, str(node.status)), _STYLES.get(node.status, ""))
    if node.status in (NodeStatus.FIRED, NodeStatus.CANCELLED, NodeStatus.REPLACED):
        if node.ended is not None and node.at is not None:
            line.append(f" after {span(to_ms(node.ended) - to_ms(node.at))}", "dim")
    elif node.until is not None:
        line.append(f", due {_ahead(node, found)}")
    return _with_end(line, node)


_TIMER_WORDS = {
    NodeStatus.SENT: "sent, and nothing was recorded",
    NodeStatus.DEAD: "dead letter",
    NodeStatus.OVER: "withdrawn",
    NodeStatus.LATER: "see later records",
}


def _dead(node: TraceNode) -> Text:
    line = Text.assemble((_clock(node), "dim"), "  ", output.text(node.name, "bold"), "  ")
    return _with_end(line.append("dead letter", "red").append(f", {node.attempts} attempts"), node)


def _with_end(line: Text, node: TraceNode) -> Text:
    if node.dead_letter:
        line.append(f" {printable(node.dead_letter)}", "red")
    return line.append(_why(node))


def _why(node: TraceNode) -> str:
    return f": {_short(node.reason)}" if node.reason else ""


def _short(text: str) -> str:
    """Return text as a line of a tree has room for it."""
    return printable(text if len(text) <= CHARS_MAX else f"{text[:CHARS_MAX]}...")


def _clock(node: TraceNode) -> str:
    return output.time(node.at) if node.at is not None else "?"


def _ahead(node: TraceNode, found: InstanceTrace) -> str:
    assert node.until is not None  # noqa: S101 - asked before
    ms = to_ms(node.until) - to_ms(found.drawn)
    return f"in {span(ms)}" if ms > 0 else f"{span(-ms)} ago"


def _open(wait: TraceWait, found: InstanceTrace) -> Text:
    line = Text.assemble(("waiting for ", "bold"), output.text(wait.what))
    if wait.until is not None:
        ms = to_ms(wait.until) - to_ms(found.drawn)
        line.append(f", due in {span(ms)}" if ms > 0 else f", due {span(-ms)} ago")
    return line


def span(ms: int) -> str:
    """Return a length of time in its two largest units: 2 d 3 h, 1 min 5 s, 20 ms."""
    if ms < 1_000:
        return f"{max(0, ms)} ms"
    left, parts = ms // 1_000, list[str]()
    for unit, length in _UNITS:
        count, left = divmod(left, length)
        if count or parts:
            parts.append(f"{count:,} {unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)
