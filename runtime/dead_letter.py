"""Dead letters: work that was given up on, kept with everything that a person needs to act on it."""

import traceback
from datetime import datetime

import msgspec

from holdfast.runtime.errors import message_of

#: Tracebacks are for people: the last frames say enough, and a dead letter must stay small.
TRACEBACK_CHARS_MAX = 8_000
#: So are sentences: a library's may quote a megabyte of what it could not read.
SENTENCE_CHARS_MAX = 1_000


#: The kinds of work that can be given up on.
KINDS = ("command", "ingress", "effect", "timer", "projection", "lost")

#: Lines of history that a letter carries: one that is retried for ever must not grow for ever.
HISTORY_MAX = 50


class DeadLetter(msgspec.Struct, frozen=True):
    """One piece of work that was given up on. Its body is kept byte for byte."""

    #: `<partition>.<unique>`: it says where it is kept.
    id: str
    #: What it is; one of KINDS.
    kind: str
    partition: int
    #: The message as it arrived: an envelope (command, timer), an `EffectEntry` (effect), or what a sender sent
    #: (ingress).
    body: bytes
    #: Why it was given up, in one sentence, and where that was raised.
    error: str
    traceback: str
    attempts: int
    at_ms: int
    #: Known when the envelope could be read, else empty.
    command_id: str = ""
    workflow: str = ""
    key: str = ""
    message_type: str = ""
    #: What happened to it before, oldest first: one sentence each.
    history: tuple[str, ...] = ()


class Wanted(msgspec.Struct, frozen=True):
    """Which dead letters: those that pass every filter; None lets everything pass."""

    workflow: str | None = None
    key: str | None = None
    kind: str | None = None
    message_type: str | None = None
    since_ms: int | None = None

    def admits(self, letter: DeadLetter) -> bool:
        """Return whether a dead letter passes."""
        pairs = (
            (self.workflow, letter.workflow),
            (self.key, letter.key),
            (self.kind, letter.kind),
            (self.message_type, letter.message_type),
        )
        fits = all(want is None or want == have for want, have in pairs)
        return fits and (self.since_ms is None or letter.at_ms >= self.since_ms)


def lengthened(letter: DeadLetter, now: datetime, what: str) -> tuple[str, ...]:
    """Return a letter's history with one line more: what was done to it now, and why it was there."""
    line = (
        f"{now.isoformat(timespec='milliseconds')}: {what} after {letter.attempts} attempts: {letter.error}"
    )
    return (*letter.history, line)[-HISTORY_MAX:]


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an error as text, its end if it is long."""
    text = _storable("".join(traceback.format_exception(error)))
    return text if len(text) <= TRACEBACK_CHARS_MAX else "...\n" + text[-TRACEBACK_CHARS_MAX:]


def sentence_of(error: BaseException) -> str:
    """Return an error's type and message on one line, its beginning and its end if it is long."""
    text = shortened(_storable(" ".join(message_of(error).split())))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shortened(text: str) -> str:
    """Return the beginning and the end of a text that is long."""
    if len(text) <= SENTENCE_CHARS_MAX:
        return text
    half = SENTENCE_CHARS_MAX // 2
    return f"{text[:half]} ... {text[-half:]}"


def _storable(text: str) -> str:
    """Return text in which lone surrogates, as in the names of undecodable files, are written out: UTF-8 has none."""
    return text.encode("utf-8", "backslashreplace").decode()
