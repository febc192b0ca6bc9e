"""`holdfast dead`: what was given up on, for a person to deal with. No app is needed but to edit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click
import msgspec
from rich.text import Text

from holdfast.actors.dead_letters import MANY
from holdfast.actors.worker import load_app
from holdfast.cli import output
from holdfast.cli.ending import DONE, FAILED, Commands, Failed
from holdfast.cli.installation import dead_letters, desk
from holdfast.cli.naming import moment
from holdfast.runtime.clock import from_ms
from holdfast.runtime.codec import decode_envelope
from holdfast.runtime.dead_letter import KINDS, DeadLetter
from holdfast.runtime.errors import HoldfastError, Undecodable
from holdfast.runtime.printable import printable_bytes

#: How much of a body a person is shown; --json has all of it.
BODY_BYTES_MAX = 4_000


LIST_JSON = """\b
--json prints one line per letter: id, kind, at, workflow, key, command,
command_id, attempts, error, size (of the body, in bytes).
What is not known is empty.
"""
COUNT_JSON = """\b
--json prints: count.
"""
MANY_JSON = """\b
--json prints: count (of the letters that were dealt with), failed (how many
were not).
"""
SHOW_JSON = """\b
--json prints what `dead list --json` prints, and: partition, traceback,
history, body (base64), envelope (null if the body is none; else id, workflow,
key, sent, reply_to, cause, trace, and payload, null if it cannot be read).
"""


@click.group(cls=Commands, short_help="Deal with what was given up on.")
def dead() -> None:
    """Deal with dead letters: work that was given up on, kept with its bytes, its error and its history."""


Filters = dict[str, Any]


def _filtered(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which dead letters."""
    for option in reversed(
        (
            click.option("--workflow", metavar="TYPE", help="Only of this workflow type."),
            click.option("--key", help="Only of this instance."),
            click.option(
                "--kind", type=click.Choice(KINDS), help="Only of this kind (foreign messages are ingress)."
            ),
            click.option("--type", "message_type", metavar="NAME", help="Only of this message type."),
            click.option(
                "--since", type=moment, metavar="TIME", help="Only those given up at this time or later."
            ),
        )
    ):
        command = option(command)
    return command


@dead.command("list", short_help="List dead letters.", epilog=LIST_JSON)
@_filtered
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most N.", metavar="N"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def list_(limit: int, as_json: bool, **filters: Any) -> None:
    """List dead letters, the newest first."""
    with dead_letters() as kept, output.waiting("reading dead letters"):
        found = kept.list(limit=limit, **filters)
        count = kept.count(**filters) if len(found) == limit else len(found)
    if as_json:
        for letter in found:
            output.emit(_summary(letter))
        return
    if found:
        output.paper().print(output.table(("id", "at", "for", "command", "tries", "error"), map(_row, found)))
    else:
        output.note("no dead letters")
    if count > len(found):
        output.note(f"these are the newest {len(found)} of {count}; see --limit")


@dead.command("count", short_help="Count dead letters.", epilog=COUNT_JSON)
@_filtered
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def count_(as_json: bool, **filters: Any) -> None:
    """Count dead letters."""
    with dead_letters() as kept, output.waiting("counting dead letters"):
        count = kept.count(**filters)
    if as_json:
        output.emit({"count": count})
    else:
        output.paper().print(str(count))


def _row(letter: DeadLetter) -> tuple[str, ...]:
    to = f"{letter.workflow}/{letter.key}" if letter.workflow else letter.kind
    at = output.time(from_ms(letter.at_ms))
    return letter.id, at, to, letter.message_type, str(letter.attempts), letter.error


def _summary(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "kind": letter.kind,
        "at": from_ms(letter.at_ms),
        "workflow": letter.workflow,
        "key": letter.key,
        "command": letter.message_type,
        "command_id": letter.command_id,
        "attempts": letter.attempts,
        "error": letter.error,
        "size": len(letter.body),
    }


@dead.command(short_help="Show one whole.", epilog=SHOW_JSON)
@click.argument("id_", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(id_: str, as_json: bool) -> None:
    r"""Show the dead letter ID whole: why it was given up, its bytes, and what can be read of them.

    Bytes that are no text are written as \xNN, and nothing of them reaches the terminal as it is.
    """
    with dead_letters() as kept:
        letter = kept.get(id_)
    if letter is None:
        raise Failed(_none(id_))
    envelope = _envelope(letter.body)
    if as_json:
        whole = {
            "partition": letter.partition,
            "traceback": letter.traceback,
            "history": letter.history,
            "body": letter.body,
            "envelope": envelope,
        }
        output.emit(_summary(letter) | whole)
        return
    paper = output.paper()
    facts = {name: value for name, value in _summary(letter).items() if value != "" and name != "at"}
    facts |= {"at": output.time(from_ms(letter.at_ms)), "size": f"{len(letter.body):,} bytes"}
    paper.print(output.table(("dead letter", ""), ((name, str(value)) for name, value in facts.items())))
    for line in letter.history:
        paper.print(output.text(f"before: {line}"))
    if letter.traceback:
        paper.print()
        for line in letter.traceback.splitlines():
            paper.print(output.text(line, "dim"))
    paper.print()
    if envelope is not None:
        paper.print(output.tree(output.text("envelope", "bold"), envelope))
    paper.print(output.text("body", "bold"))
    paper.print(Text(printable_bytes(letter.body[:BODY_BYTES_MAX])))
    if len(letter.body) > BODY_BYTES_MAX:
        paper.print(output.text(f"... and {len(letter.body) - BODY_BYTES_MAX:,} bytes more", "dim"))


def _envelope(body: bytes) -> dict[str, Any] | None:
    """Return what can be read of a body, as plain values."""
    try:
        envelope = decode_envelope(body)
    except Undecodable:
        return None
    try:
        payload = output.plain(msgspec.msgpack.decode(envelope.payload))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        payload = None
    return {
        "id": envelope.id,
        "workflow": envelope.workflow,
        "key": envelope.key,
        "sent": _sent(envelope.sent_ms),
        "reply_to": envelope.reply_to,
        "cause": envelope.cause,
        "trace": envelope.trace,
        "payload": payload,
    }


def _sent(ms: int) -> str | None:
    """Return a sender's time, unless he sent nonsense."""
    try:
        return from_ms(ms).isoformat() if ms else None
    except (ValueError, OverflowError, OSError):
        return None


@dead.command(short_help="Have their work done again.", epilog=MANY_JSON)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All that pass the filters, the oldest first.")
@_filtered
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def retry(ids: tuple[str, ...], all_: bool, as_json: bool, **filters: Any) -> int:
    """Have the work of dead letters done again, in this order, and forget the letters.

    A letter is forgotten once its command is confirmed, or its effect is back in the outbox. A command keeps its id: if
    it was decided after all, it is not decided again. What was done to it is in its history, should it fail again.
    """
    chosen = _chosen(ids, all_, filters)
    with desk() as letters:
        found = chosen(letters.list)
        # Of several none may go before the others of its instance.
        return _deal(found, lambda id_: letters.retry(id_, first=len(found) == 1), "sent again", as_json)


@dead.command(short_help="Have it done with other content.")
@click.argument("app_path", metavar="APP")
@click.argument("id_", metavar="ID")
@click.argument("fields", metavar="JSON")
def edit(app_path: str, id_: str, fields: str) -> None:
    """Have the work of the dead letter ID done with other content: JSON is an object with the message's fields.

    With - as JSON that is read from standard input. What does not fit the app's classes is refused. A foreign message
    needs its `type` too.
    """
    app = load_app(app_path)
    content = sys.stdin.buffer.read() if fields == "-" else fields.encode()
    with desk(app) as letters:
        if not letters.edit(id_, content):
            raise Failed(_none(id_))
    output.paper().print(output.text(f"{id_} edited and sent again"))


@dead.command(short_help="Forget them for good.", epilog=MANY_JSON)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All that pass the filters.")
@_filtered
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def discard(ids: tuple[str, ...], all_: bool, as_json: bool, **filters: Any) -> int:
    """Forget dead letters for good."""
    chosen = _chosen(ids, all_, filters)
    with dead_letters() as kept:
        return _deal(chosen(kept.list), kept.remove, "discarded", as_json)


def _chosen(
    ids: tuple[str, ...], all_: bool, filters: Filters
) -> Callable[[Callable[..., list[DeadLetter]]], tuple[str, ...]]:
    """Return what finds the ids that a call is about.

    Raises:
        click.UsageError: It is not clear which those are.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    if all_ and ids:
        raise click.UsageError("name dead letters or say --all, not both")
    if given and not all_:
        raise click.UsageError("filters are for --all")
    if not all_ and not ids:
        raise click.UsageError("name dead letters, or say --all")
    if not all_:
        return lambda _: ids
    return lambda find: tuple(letter.id for letter in reversed(find(limit=MANY, **given)))


def _deal(ids: tuple[str, ...], act: Callable[[str], bool], done: str, as_json: bool) -> int:
    """Do something to each letter; go on after one for which it failed."""
    failed = 0
    for id_ in ids:
        try:
            problem = None if act(id_) else _none(id_)
        except HoldfastError as error:
            problem = str(error)
        if problem is not None:
            output.note(problem)
            failed += 1
        elif not as_json:
            output.paper().print(output.text(f"{id_} {done}"))
    if as_json:
        output.emit({"count": len(ids) - failed, "failed": failed})
    return FAILED if failed else DONE


def _none(id_: str) -> str:
    return f"there is no dead letter {id_!r}"
