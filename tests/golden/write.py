"""
What each kind of bytes looked like in a release: written once, by the code of that release, and read for ever after.

    python -m tests.golden.write > tests/golden/0.1.0.json

writes the file of the version that is being made. Once that is released its file must not change any more.
"""

import base64
from collections.abc import Callable
from typing import Any

import msgspec

import holdfast
from holdfast.brokers.aes import AesGcm, LocalKeyRing
from holdfast.brokers.memory import MemoryServer
from holdfast.brokers.memory_secrets import MemorySecrets
from holdfast.runtime.actor import Actor
from holdfast.runtime.cipher import Cipher, Place, seal_record
from holdfast.runtime.codec import encode, encode_envelope
from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.definition import Definition
from holdfast.runtime.feed import Generations, ParkedKey
from holdfast.runtime.keys import Ref
from holdfast.runtime.message import Envelope
from holdfast.runtime.observation import Observation
from holdfast.runtime.outcome import Answer
from holdfast.runtime.record import EffectEntry, Entry, Moved
from tests.security.boxes import Appraise, Box, Closed, Priced, Put, Reminded, Stored

REF = Ref(0, "box", "b-1/ü{}")
AT = 1_767_225_600_000
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MASTER = bytes(range(32))

#: A log that has everything a log can have.
LOG: list[Entry[Any]] = [
    Entry("c-1", "Put", AT, 1, (Stored("a cup"),)),
    Entry("c-1:0:r0", "Price", AT + 5, 1, (Priced("a cup", 5),), "c-1:0", TRACE, attempts=2),
    Entry("c-2", "holdfast.Pause", AT + 9, 2, (), None, None, Moved("pause", "lunch", AT + 100)),
    Entry(
        "c-2:resume", "holdfast.Resume", AT + 100, 2, (), "c-2", None, Moved("resume", "its time has come")
    ),
    Entry("c-3", "Put", AT + 101, 3, (Stored("zwei"), Reminded("zwei")), "x"),
    Entry("c-4", "Close", AT + 102, 3, (Closed(),)),
]
#: And one whose data was deleted.
DELETED: Entry[Any] = Entry(
    "d-1", "holdfast.DeleteData", AT + 200, 4, (), None, None, Moved("delete-data", "asked")
)

ENVELOPE = Envelope(
    "c-1",
    REF.workflow,
    REF.key,
    encode(Put(REF.key, "a cup")),
    AT,
    "client/c-1/1",
    "cause-1",
    TRACE,
    first=True,
    history=("it failed once",),
    attempts=2,
)
EFFECT = EffectEntry(
    "c-1:0", REF.workflow, REF.key, 1, encode(Appraise(REF.key, "a cup")), AT, TRACE, ("given up once",)
)
LETTER = DeadLetter(
    "0.x",
    "command",
    0,
    encode_envelope(ENVELOPE),
    "LookupError: no",
    "Traceback",
    3,
    AT,
    "c-1",
    "box",
    REF.key,
    "Put",
    ("h",),
)
SEEN = Observation("c-1", "Put", ENVELOPE.payload, AT, "accepted", "", 1)
ANSWER = Answer("c-9", "rejected", False, 0, b"", "no cat here", encode({"item": "cat"}), "", "0/1-0")
PARKED = ParkedKey(
    partition=0,
    workflow="box",
    key=REF.key,
    seq=1,
    index=0,
    event="Stored",
    error="E",
    traceback="T",
    kind="handler",
    attempts=2,
    at_ms=AT,
    due_ms=0,
    skipped=(1,),
)
GENERATIONS = Generations(2, 3, True, (1,))


def folded(upto: int) -> Actor:
    """
    Return the instance after so many records.
    """
    definition = Definition(Box)
    actor = Actor(REF, definition, definition.workflow.initial())
    for seq, entry in enumerate(LOG[:upto], 1):
        actor.absorb(seq, entry)
    return actor


def cipher(secrets: dict[Ref, bytes]) -> Cipher:
    """
    Return a cipher with the master key of the golden files.
    """
    server = MemoryServer(1)
    server.secrets.update(secrets)
    return Cipher("golden", LocalKeyRing({"k1": MASTER}), MemorySecrets(server), AesGcm())


def plain() -> dict[str, bytes]:
    """
    Return bytes of every kind that are the same each time.
    """
    found = {f"record {seq}": encode(entry) for seq, entry in enumerate(LOG, 1)}
    return found | {
        "record deleted": encode(DELETED),
        "snapshot": encode(folded(5).snapshot()),
        "envelope": encode_envelope(ENVELOPE),
        "effect": encode(EFFECT),
        "dead letter": encode(LETTER),
        "observation": encode(SEEN),
        "answer": encode(ANSWER),
        "parked key": encode(PARKED),
        "generations": encode(GENERATIONS),
    }


def sealed() -> dict[str, bytes]:
    """
    Return encrypted bytes, which are others each time.
    """
    store: dict[Ref, bytes] = {}
    server = MemoryServer(1)
    server.secrets = store
    own = Cipher("golden", LocalKeyRing({"k1": MASTER}), MemorySecrets(server), AesGcm())
    found = {
        "sealed record 1": seal_record(own, REF, 1, encode(LOG[0])),
        "sealed command": own.seal(Place(REF, "command", "c-1"), ENVELOPE.payload, "Put"),
        "sealed state": own.seal(Place(REF, "state", 5), folded(5).snapshot().state),
        "sealed text": own.seal_text(Place(REF, "note", "c-1:0"), "not yet").encode(),
    }
    return found | {"secret": store[REF]}


def main(show: Callable[[str], None] = print) -> None:
    """
    Print the golden file of this version.
    """
    whole = {name: base64.b64encode(data).decode() for name, data in (plain() | sealed()).items()}
    values = {"version": holdfast.__version__, "bytes": whole}
    show(msgspec.json.format(msgspec.json.encode(values), indent=1).decode())


if __name__ == "__main__":
    main()
