"""
The turn: what cannot be decided is given up with its bytes and its reason, and its neighbours go on.
"""

import pytest

from holdfast.runtime.codec import encode
from holdfast.runtime.ports import Delivery
from holdfast.runtime.turn import Limits
from tests import controls
from tests.unit.desk import Desk, ids, ref, replies, sent
from tests.unit.trouble import Arrange, Do, Mood, Troublemaker

#: Trouble that no second try mends, and words of the error that it ends in.
HOPELESS = {
    "raise": "ValueError: no luck today",
    "return nothing": "WorkflowError: Troublemaker.decide returned NoneType; it must return accept(...) or reject(...)",
    "no event": "WorkflowError: Troublemaker.decide accepted without an event",
    "foreign event": "WorkflowError: Troublemaker.decide accepted with Stranger, which is no event of Troublemaker",
    "foreign effect": "WorkflowError: Troublemaker.decide asked for Whisper, which is no effect of Troublemaker",
    "foreign timer": "WorkflowError: Troublemaker set a timer for PlaceOrder, which is no command of it",
    "timer elsewhere": "UsageError: Troublemaker set a timer for 'another', but a timer is for its own instance, 't-1'",
    "no tuple": "WorkflowError: Troublemaker.decide accepted with events that are Done, no tuple; write accept(OrderPaid())",
    "no timer": "WorkflowError: Troublemaker.decide set Wake as a timer; write accept(...).timer(Wake(...), after=...)",
    "class of an event": "WorkflowError: Troublemaker.decide accepted with the class Done itself, not a value of it, which",
    "timer without time": "UsageError: a timer has either `after` or `at`",
    "explode": "RuntimeError: cannot stand this",
    "explode and exit": "SystemExit: 4",
    "explode and cannot be told": "Unspeakable: its message cannot be told: LookupError",
    "too large": "PayloadTooLarge: the record of Do for trouble/t-1 is 5,0",
    "effect too large": "PayloadTooLarge: Shout for trouble/t-1 is 5,0",
    "timer too large": "PayloadTooLarge: Wake for trouble/t-1 is 5,0",
    "wrong field": "WorkflowError: Troublemaker.decide accepted with an event whose fields are not of their types",
    "cannot be encoded": "OverflowError: ",
    "details cannot be encoded": "TypeError: ",
    "exit": "SystemExit: 3",
    "interrupt": "KeyboardInterrupt",
    "cannot be told": "Unspeakable: its message cannot be told: LookupError",
    "no such trouble": "KeyError: 'no such trouble'",
}


@pytest.mark.parametrize("trouble", HOPELESS)
def test_hopeless_commands_become_dead_letters_and_the_next_goes_on(trouble: str) -> None:
    """
    One bad command is given up with everything that a person needs; the ones around it are decided in order.
    """
    desk = Desk(limits=Limits(payload_bytes_max=5_000))
    bad = sent(Do("t-1", trouble, 5_000), "c-2", reply_to="me/c-2")

    result = desk.run(sent(Do("t-1"), "c-1"), bad, sent(Do("t-1", amount=3), "c-3"))

    (letter,) = result.dead
    assert HOPELESS[trouble] in letter.error
    assert letter.error.partition(":")[0] in letter.traceback
    assert ("command", ref().partition, bad.body, "c-2", "trouble", "t-1", "Do") == (
        letter.kind,
        letter.partition,
        letter.body,
        letter.command_id,
        letter.workflow,
        letter.key,
        letter.message_type,
    )
    assert controls.NOW_MS == letter.at_ms
    assert ["c-1", "c-3"] == desk.commands(ref())
    assert Mood(4) == desk.state(ref())
    assert ["c-1", "c-2", "c-3"] == sorted(ids(result.done))
    answer = replies(result)["me/c-2"]
    assert ("dead", letter.error, letter.id) == (answer.kind, answer.reason, answer.dead_letter_id)


@pytest.mark.parametrize("trouble", HOPELESS)
def test_a_dead_letter_leaves_nothing_behind(trouble: str) -> None:
    """
    A command that cannot be decided creates no instance, no effect and no timer.
    """
    desk = Desk(limits=Limits(payload_bytes_max=5_000))

    desk.run(sent(Do("t-1", trouble, 5_000), "c-1"))

    assert {} == desk.server.instances
    assert ([], {}) == (desk.effects(ref()), desk.timers(ref()))


def test_decide_is_tried_three_times() -> None:
    """
    A decide that raises is asked again at once, and given up after the third time.
    """
    desk = Desk()

    result = desk.run(sent(Do("t-1", "raise"), "c-1"))

    assert 3 == Troublemaker.asked
    assert [3] == [letter.attempts for letter in result.dead]


@pytest.mark.parametrize(("failures", "expected"), [(1, ["c-1"]), (2, ["c-1"]), (3, [])])
def test_a_decide_that_fails_twice_is_forgiven(failures: int, expected: list[str]) -> None:
    """
    What a passing misfortune broke is decided by a later try.
    """
    desk = Desk()

    result = desk.run(sent(Do("t-1", f"fail {failures}"), "c-1"))

    assert expected == desk.commands(ref())
    assert len(expected) == 1 - len(result.dead)


def test_a_decision_that_cannot_be_written_is_asked_for_once() -> None:
    """
    Only what is raised is tried again: a wrong answer would be the same.
    """
    desk = Desk()

    desk.run(sent(Do("t-1", "foreign event"), "c-1"))

    assert 1 == Troublemaker.asked


@pytest.mark.parametrize(
    "body",
    [b"", b"\x00", b"{}", b"garbage", b"\xff" * 100, b"\x91" * 10_000, encode(["c-1", "trouble", "t-1"])],
)
def test_bytes_that_are_no_envelope_become_a_dead_letter(body: bytes) -> None:
    """
    What cannot be read is kept byte for byte, and the rest of the batch is decided.
    """
    desk = Desk()
    bad = Delivery(ref().partition, body, 0, "c-1")

    result = desk.run(bad, sent(Do("t-1"), "c-2"))

    (letter,) = result.dead
    assert "Undecodable: no Holdfast envelope" in letter.error
    assert (body, "", "", "") == (letter.body, letter.command_id, letter.workflow, letter.key)
    assert (f"{ref().partition}.", 1) == (letter.id[: letter.id.index(".") + 1], letter.attempts)
    assert ["c-2"] == desk.commands(ref())


def test_a_command_in_the_wrong_partition_becomes_a_dead_letter() -> None:
    """
    A sender that counts partitions otherwise is told so; deciding it here could run beside its real owner.
    """
    desk = Desk()
    stray = sent(Do("t-1"), "c-1")
    stray.partition = (stray.partition + 1) % controls.PARTITIONS

    result = desk.run(stray)

    (letter,) = result.dead
    assert (
        f"trouble/t-1 belongs to partition {ref().partition} of 4, but this came in {stray.partition}"
        in letter.error
    )
    assert stray.partition == letter.partition
    assert {} == desk.server.instances


@pytest.mark.parametrize(("key", "words"), [("", "is empty"), ("k" * 513, "513 bytes")])
def test_a_command_whose_key_is_refused_becomes_a_dead_letter(key: str, words: str) -> None:
    """
    No instance can be named so; the error says why.
    """
    desk = Desk()

    result = desk.run(sent(Do(key), "c-1", key=key))

    assert [True] == [words in letter.error for letter in result.dead]


def test_a_command_without_an_id_becomes_a_dead_letter() -> None:
    """
    Two commands without an id would count as one: neither is decided.
    """
    desk = Desk()

    result = desk.run(sent(Do("t-1"), ""), sent(Do("t-1", amount=2), ""))

    assert ["has no id"] * 2 == [letter.error[letter.error.index("has") :][:9] for letter in result.dead]
    assert {} == desk.server.instances


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "no msgpack"),
        (b"\xc1", "no msgpack"),
        (encode({"id": "t-1"}), "has no `type` that names it"),
        (encode({"type": "Do"}), "Object missing required field `id`"),
        (encode({"type": "Do", "id": "t-1", "amount": "many"}), "Expected `int`, got `str`"),
    ],
)
def test_a_payload_that_does_not_fit_becomes_a_dead_letter(payload: bytes, words: str) -> None:
    """
    The envelope tells the instance, so the dead letter does too; the instance goes on.
    """
    desk = Desk()

    result = desk.run(sent(Do("t-1"), "c-1", payload=payload), sent(Do("t-1"), "c-2"))

    (letter,) = result.dead
    assert words in letter.error
    assert ("c-1", "t-1", "") == (letter.command_id, letter.key, letter.message_type)
    assert ["c-2"] == desk.commands(ref())


def test_after_a_failure_the_actor_is_read_anew() -> None:
    """
    User code that failed may have spoilt the state it was given; the next batch folds it from the log.
    """
    desk = Desk()
    desk.run(sent(Do("t-1"), "c-1"))

    desk.run(sent(Do("t-1", "explode"), "c-2"))

    assert desk.turn.cache.get(ref()) is None


def test_a_dead_letter_stands_only_if_the_view_still_holds() -> None:
    """
    A command is not given up on a stale view: with what another process wrote it may be decided.
    """
    mine = Desk()
    mine.run(sent(Do("t-1"), "c-1"))
    other = Desk(mine.app, beside=mine, owner="w-2")
    mine.server.owners["command", ref().partition] = "w-2"
    other.run(sent(Do("t-1", "end"), "c-2"))
    mine.server.owners["command", ref().partition] = "w-1"

    result = mine.run(sent(Do("t-1", "raise"), "c-3", reply_to="me/c-3"))

    assert [] == result.dead
    assert ["completed"] == [answer.kind for answer in replies(result).values()]


def test_each_dead_letter_has_an_id_of_its_own() -> None:
    """
    Two letters of one command, or of none, never replace each other.
    """
    desk = Desk()

    result = desk.run(*(Delivery(0, b"", 0, None) for _ in range(50)))

    assert 50 == len({letter.id for letter in result.dead})


def test_a_wake_up_for_nobody_is_no_trouble() -> None:
    """
    Cancelling a timer that is not pending is accepted as it is.
    """
    desk = Desk()

    desk.run(sent(Arrange("t-1", cancels=("never set",)), "c-1"))

    assert ["c-1"] == desk.commands(ref())


@pytest.mark.parametrize(("trouble", "attempts"), [("raise", 3), ("return nothing", 1), ("explode", 1)])
def test_a_dead_letter_says_how_often_it_was_tried(trouble: str, attempts: int) -> None:
    """
    As often as `decide` was asked: what it answered wrongly once it is not asked again.
    """
    (letter,) = Desk().run(sent(Do("t-1", trouble), "c-1")).dead

    assert attempts == letter.attempts
