"""
Diagrams: text that says what a workflow does, in two languages, whatever is in the names.

The golden files are what the diagrams are; HOLDFAST_GOLDEN=1 in the environment of pytest writes them anew.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.runtime.definition import Definition
from holdfast.runtime.diagram import (
    PENDING_MAX,
    Direction,
    Format,
    Machine,
    Place,
    Transition,
    draw,
    merge,
)
from holdfast.runtime.exploration import Trail, explore
from tests import controls
from tests.unit import machines

GOLDEN = Path(__file__).parent / "golden"
WRITE = bool(os.environ.get("HOLDFAST_GOLDEN"))

ASKED = Transition("empty", "AskForLoan", "asked for", ("LoanAsked",))
GRANTED = Transition("asked for", "GrantLoan", "granted", ("LoanGranted",))
PLACE = Place(
    'loan/"l-1"\n%%',
    "granted",
    (ASKED, GRANTED),
    ("Lapse at 2026-01-31 12:00:00+00:00 (lapse)",),
    tuple(f"PayOut {number}" for number in range(PENDING_MAX + 2)),
    "paused",
)


def golden(name: str, text: str) -> None:
    """
    Compare a diagram with the file that has it.
    """
    file = GOLDEN / name
    if WRITE:
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize("kind", [machines.Loan, machines.Counter, machines.Hostile])
def test_a_workflow_is_drawn(kind: type, form: Format) -> None:
    """
    Statuses, ways between them with what they record and ask for, the beginning and the ends.
    """
    golden(f"{kind.type}.{form}", draw(explore(Definition(kind)), form))  # type: ignore[attr-defined]  # a Workflow


@pytest.mark.parametrize("form", list(Format))
def test_an_instance_is_marked(form: Format) -> None:
    """
    Where it is, the way that it went in numbers, and what it waits for; too much of that is counted.
    """
    golden(f"loan-live.{form}", draw(explore(Definition(machines.Loan)), form, place=PLACE))


@pytest.mark.parametrize("form", list(Format))
def test_only_the_way_is_drawn(form: Format) -> None:
    """
    A way that goes round and round is one arrow with its steps, and the first few of them are enough.
    """
    loop = Transition("on", "Tick", "on", ("Ticked",))
    machine = Machine("clock", "on", ("on",), frozenset(), (loop,))
    golden(f"loop.{form}", draw(machine, form, place=Place("clock/1", "on", (loop,) * 9)))


@pytest.mark.parametrize("form", list(Format))
def test_hostile_names_stay_within_their_labels(form: Format) -> None:
    """
    No name ends a line, a label or a block: there are as many lines as there are things to say.
    """
    kind = Definition(machines.Hostile)
    text = draw(explore(kind), form, place=Place('x"\n}', machines.Trouble.FIRST.value, timers=("a\nb",)))
    lines = text.splitlines()

    assert all(line.isprintable() for line in lines)
    if form is Format.MERMAID:
        assert 1 == sum(line.strip() == "end note" for line in lines)
        assert lines[1].startswith('title: "')
        assert lines[1].endswith('"')
        assert 3 == text.count("-->")
        assert all("%%" not in line for line in lines)
    else:
        assert 1 == sum(line == "}" for line in lines)
        assert all(_quotes(line) % 2 == 0 for line in lines)


def _quotes(line: str) -> int:
    return line.replace("\\\\", "").replace('\\"', "").count('"')


def test_statuses_that_look_alike_are_told_apart() -> None:
    """
    Two statuses never share a name in the text, whatever their characters become.
    """
    text = draw(explore(Definition(machines.Hostile)))

    assert 'state "a_quoted" as s_a_quoted\n' in text
    assert 'state "a-quoted" as s_a_quoted_2\n' in text


@pytest.mark.parametrize("direction", list(Direction))
def test_the_direction_is_as_wished(direction: Direction) -> None:
    """
    Both languages run any of the four ways.
    """
    machine = explore(Definition(machines.Counter))

    assert f"direction {direction}\n" in draw(machine, direction=direction)
    assert f"rankdir={direction};" in draw(machine, Format.DOT, direction=direction)


# -- what is found out


def test_statuses_are_found_by_trying() -> None:
    """
    Limits of fields, amounts in the state, codes in an effect, timers and time limits are no hindrance.
    """
    machine = explore(Definition(machines.Loan))
    ways = {(one.source, one.command, one.target) for one in machine.transitions}

    assert ways == {
        ("empty", "AskForLoan", "asked for"),
        ("asked for", "GrantLoan", "granted"),
        ("asked for", "Lapse", "lapsed"),
        ("granted", "Repay", "granted"),
        ("granted", "Repay", "repaid"),
    }
    assert ("empty", frozenset({"repaid", "lapsed"})) == (machine.initial, machine.terminal)
    assert (("CheckCredit",), ("Lapse",)) == (machine.transitions[0].effects, machine.transitions[0].timers)


def test_what_was_never_seen_is_told() -> None:
    """
    What takes a magic word is not found, and said not to be; an example of the caller's finds it.
    """
    definition = Definition(machines.Loan)

    assert ("Sign",) == explore(definition).unseen
    assert () == explore(definition, [machines.Sign("l", "open sesame")]).unseen


def test_the_same_workflow_is_drawn_the_same() -> None:
    """
    Nothing about an exploration is left to chance.
    """
    assert explore(Definition(machines.Loan)) == explore(Definition(machines.Loan))


def test_a_trail_adds_what_was_not_found() -> None:
    """
    The ways of a real log join those that were found out, and are no longer unseen; nothing is lost.
    """
    machine = Machine(
        "m", "a", ("a", "b"), frozenset(), (Transition("a", "X", "b", ("Y",), ("E",)),), ("Z", "Q")
    )
    more = merge(
        machine,
        [Transition("a", "X", "b", ("Y",)), Transition("b", "Z", "c", ("W",))],
        lambda status: status == "c",
    )

    assert (("a", "b", "c"), frozenset({"c"}), ("Q",)) == (more.statuses, more.terminal, more.unseen)
    assert [("E",), ()] == [one.effects for one in more.transitions]


def test_a_trail_follows_a_log() -> None:
    """
    It goes where the records lead, record by record, and ends where the instance is.
    """
    trail = Trail(Definition(machines.Counter))
    trail.follow(controls.record(seq, f"c-{seq}", machines.Counted()) for seq in (1, 2))
    trail.follow([controls.record(3, "c-3", machines.Full())])
    trail.follow([replace(controls.record(4, "c-4"), events=())])

    assert [("new", "Counted"), ("Counted", "Counted"), ("Counted", "Full")] == [
        (one.source, one.target) for one in trail.path
    ]
    assert ("Full", {"Full"}, 3) == (trail.status, trail.terminal, len(trail.machine().transitions))
