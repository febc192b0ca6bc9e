"""Dead letters: work that was given up on, kept with everything that a person needs to act on it."""

import traceback

import msgspec

#: Tracebacks are for people: the last frames say enough, and a dead letter must stay small.
TRACEBACK_CHARS_MAX = 8_000


class DeadLetter(msgspec.Struct, frozen=True):
    """One piece of work that was given up on. Its body is kept byte for byte."""

    #: `<partition>.<unique>`: it says where it is kept.
    id: str
    #: What it is: "command".
    kind: str
    partition: int
    #: The message as it arrived.
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


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an error as text, its end if it is long."""
    text = "".join(traceback.format_exception(error))
    return text if len(text) <= TRACEBACK_CHARS_MAX else "...\n" + text[-TRACEBACK_CHARS_MAX:]


def sentence_of(error: BaseException) -> str:
    """Return an error's type and message on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
