"""`holdfast dead`: what was given up on, for a person to deal with. No app is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import msgspec
from rich.text import Text

from holdfast.cli import output
from holdfast.cli.ending import DONE, FAILED, Commands, Failed
from holdfast.cli.installation import dead_letters, desk
from holdfast.runtime.clock import from_ms
from holdfast.runtime.codec import decode_envelope
from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.errors import HoldfastError, Undecodable

#: How much of a body a person is shown; --json has all of it.
BODY_BYTES_MAX = 4_000


LIST_JSON = """\b
--json prints one line per letter: id, kind, at, workflow, key, command,
command_id, attempts, error, size (of the body, in bytes).
What is not known is empty.
"""
SHOW_JSON = """\b
--json prints what `dead list --json` prints, and: partition, traceback,
history, body (base64), envelope (null if the body is none; else id, workflow,
key, sent, reply_to, cause, trace, and payload, null if it cannot be read).
"""


@click.group(cls=Commands, short_help="Deal with what was given up on.")
def dead() -> None:
    """Deal with dead letters: work that was given up on, kept with its bytes, its error and its history."""


@dead.command("list", short_help="List dead letters.", epilog=LIST_JSON)
@click.option("--workflow", metavar="TYPE", help="Only of this workflow type.")
@click.option("--key", help="Only of this instance.")
@click.option("--kind", help="Only of this kind: command, or ingress for foreign messages.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most N.", metavar="N"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def list_(workflow: str | None, key: str | None, kind: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, the newest first."""
    with dead_letters() as kept, output.waiting("reading dead letters"):
        found = kept.list(workflow=workflow, key=key, kind=kind, limit=limit)
        count = kept.count(workflow=workflow, key=key, kind=kind) if len(found) == limit else len(found)
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
    paper.print(Text(output.printable_bytes(letter.body[:BODY_BYTES_MAX])))
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


@dead.command(short_help="Send their commands again.")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
def retry(ids: tuple[str, ...]) -> int:
    """Send the commands of dead letters again, byte for byte and in this order, and forget the letters.

    A letter is forgotten once its command is confirmed. A command keeps its id: if it was decided after all, it is
    not decided again.
    """
    with desk() as letters:
        return _each(ids, letters.retry, "sent again")


@dead.command(short_help="Forget them for good.")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
def discard(ids: tuple[str, ...]) -> int:
    """Forget dead letters for good."""
    with dead_letters() as kept:
        return _each(ids, kept.remove, "discarded")


def _each(ids: tuple[str, ...], act: Callable[[str], bool], done: str) -> int:
    """Do something to each letter; go on after one for which it failed."""
    code = DONE
    for id_ in ids:
        try:
            problem = None if act(id_) else _none(id_)
        except HoldfastError as error:
            problem = str(error)
        if problem is None:
            output.paper().print(output.text(f"{id_} {done}"))
        else:
            output.note(problem)
            code = FAILED
    return code


def _none(id_: str) -> str:
    return f"there is no dead letter {id_!r}"
