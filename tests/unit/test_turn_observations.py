"""
The turn: what came to an instance of a workflow that wants to know is noted, with what became of it.
"""

from holdfast.runtime.app import App
from holdfast.runtime.codec import encode
from holdfast.runtime.control import Pause, Resume
from holdfast.runtime.ports import Delivery
from tests import controls
from tests.unit import trouble
from tests.unit.desk import Desk, ref, sent
from tests.unit.trouble import Do, Troublemaker


class Watched(Troublemaker):
    """
    Wants to know.
    """

    observe_inputs = True


def noted(desk: Desk, *deliveries: Delivery) -> list[tuple[str, str, str]]:
    return [(one.command_id, one.outcome, one.reason) for _, one in desk.run(*deliveries).observed]


def test_every_outcome_is_noted() -> None:
    """
    Also that of what was kept, twice: when it was, and when it was decided.
    """
    trouble.app()
    desk = Desk(App(workflows=[Watched]))

    assert [
        ("a", "accepted", ""),
        ("b", "rejected", "no"),
        ("c", "dead", "ValueError: no luck today"),
    ] == noted(desk, sent(Do("t-1"), "a"), sent(Do("t-1", "refuse"), "b"), sent(Do("t-1", "raise"), "c"))
    assert [("a", "duplicate", "")] == noted(desk, sent(Do("t-1"), "a"))
    assert [("p", "accepted", ""), ("d", "parked", "x")] == noted(
        desk, sent(Pause("x"), "p", key="t-1"), sent(Do("t-1", "end"), "d")
    )
    found = noted(desk, sent(Resume(), "r", key="t-1"), sent(Do("t-1"), "e"))
    assert [("r", "accepted", ""), ("d", "accepted", ""), ("e", "completed", "completed")] == found


def test_what_is_noted_says_what_came() -> None:
    """
    Its bytes, its name, its time and its record.
    """
    desk = Desk(App(workflows=[Watched]))
    ((of, one),) = desk.run(sent(Do("t-1"), "a")).observed

    assert (ref(), "Do", encode(Do("t-1")), controls.NOW_MS, 1) == (
        of,
        one.command,
        one.payload,
        one.at_ms,
        one.seq,
    )


def test_it_is_off_by_default() -> None:
    """
    Nothing is noted where nobody wants to know.
    """
    assert [] == Desk().run(sent(Do("t-1"), "a")).observed
