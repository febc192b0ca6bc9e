"""
Bytes of every release so far: each is read by the code of today, and comes to what it came to then.
"""

import base64
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

import holdfast
from holdfast.runtime.actor import fold
from holdfast.runtime.cipher import Place, is_sealed, open_record
from holdfast.runtime.codec import decode_envelope
from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.definition import Definition
from holdfast.runtime.feed import Generations, ParkedKey
from holdfast.runtime.instance import RunState
from holdfast.runtime.observation import Observation
from holdfast.runtime.outcome import Answer
from holdfast.runtime.ports import Opened
from holdfast.runtime.record import EffectEntry, Snapshot
from tests.golden import write
from tests.security.boxes import Appraise, Box, Contents, Put

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.json"))
END = Contents(items=("a cup", "zwei"), prices=(5,), reminders=1, closed=True)

every_release = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


@cache
def golden(file: Path) -> dict[str, bytes]:
    values: Any = msgspec.json.decode(file.read_bytes())
    assert file.stem == values["version"]
    return {name: base64.b64decode(data) for name, data in values["bytes"].items()}


def opened(snapshot: Snapshot | None, tail: list[tuple[int, bytes]], seq: int) -> Opened:
    return Opened(write.REF, seq, "", 0, RunState.RUNNING, snapshot, tail)


@every_release
def test_logs_fold_to_the_same_state(file: Path) -> None:
    """
    From the first record, and from a snapshot.
    """
    data, definition = golden(file), Definition(Box)
    log = [(seq, data[f"record {seq}"]) for seq in range(1, 7)]
    snapshot = msgspec.msgpack.decode(data["snapshot"], type=Snapshot)

    whole = fold(definition, opened(None, log, 6))
    assert (END, "c-4", 6, write.AT + 102) == (whole.state, whole.head, whole.seq, whole.at_ms)
    assert [entry.command_id for entry in write.LOG] == list(whole.handled)
    assert END == fold(definition, opened(snapshot, log[5:], 6)).state

    deleted = fold(definition, opened(None, [(7, data["record deleted"])], 7))
    assert (True, Contents()) == (deleted.erased, deleted.state)


@every_release
def test_everything_else_is_read(file: Path) -> None:
    """
    Envelopes, effects, dead letters, observations, answers, and what projections keep.
    """
    data, definition = golden(file), Definition(Box)

    envelope = decode_envelope(data["envelope"])
    assert write.ENVELOPE == envelope
    assert Put(write.REF.key, "a cup") == definition.commands.decode(envelope.payload)
    effect = msgspec.msgpack.decode(data["effect"], type=EffectEntry)
    assert write.EFFECT == effect
    assert definition.effects is not None
    assert Appraise(write.REF.key, "a cup") == definition.effects.decode(effect.payload)
    assert write.LETTER == msgspec.msgpack.decode(data["dead letter"], type=DeadLetter)
    assert write.SEEN == msgspec.msgpack.decode(data["observation"], type=Observation)
    assert write.ANSWER == msgspec.msgpack.decode(data["answer"], type=Answer)
    assert write.PARKED == msgspec.msgpack.decode(data["parked key"], type=ParkedKey)
    assert write.GENERATIONS == msgspec.msgpack.decode(data["generations"], type=Generations)


@every_release
def test_what_was_encrypted_is_read(file: Path) -> None:
    """
    With the master key of then.
    """
    data = golden(file)
    own = write.cipher({write.REF: data["secret"]})

    assert data["record 1"] == open_record(own, write.REF, 1, data["sealed record 1"])
    assert write.ENVELOPE.payload == own.open(Place(write.REF, "command", "c-1"), data["sealed command"])
    assert "not yet" == own.open_text(Place(write.REF, "note", "c-1:0"), data["sealed text"].decode())
    state = own.open(Place(write.REF, "state", 5), data["sealed state"])
    assert not is_sealed(state)
    assert not msgspec.msgpack.decode(state, type=Contents).closed


def test_this_version_writes_as_its_file_says() -> None:
    """
    A format changes on purpose only: while a version is not released its file can be written anew, then never again.
    """
    data = golden(FOLDER / f"{holdfast.__version__}.json")

    assert {name: data[name] for name in write.plain()} == write.plain()
    assert set(data) == set(write.plain()) | set(write.sealed())
