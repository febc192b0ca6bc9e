"""
Cases: each trace with events has a key of its own.
"""

from hypothesis import given
from hypothesis import strategies as st

from examples.process_log.case import cases
from examples.process_log.xes import Trace
from holdfast.runtime.keys import check_key
from tests.examples.logs import event

#: Names that like to collide: with each other, with made-up ones, and with cut ones.
NAMES = st.none() | st.sampled_from(
    ["", "a", "a (2)", "trace 1", "trace 2", "trace 1 (2)", "é" * 300, "x" * 512]
)
ANY_NAMES = NAMES | st.text(st.characters(exclude_categories=["Cs"]), max_size=600)


def keys(*names: str | None) -> list[str]:
    return [case.key for case in cases(Trace(name, [event()]) for name in names)]


def test_a_name_is_the_key() -> None:
    """
    What a trace is called is what its instance is found under.
    """
    assert ["A-7", " ", "{b}:%*\n"] == keys("A-7", " ", "{b}:%*\n")


def test_others_of_the_same_name_are_numbered() -> None:
    """
    Traces of one name become instances of their own, and none takes a name that another has.
    """
    assert ["a", "a (3)", "a (2)", "a (4)"] == keys("a", "a", "a (2)", "a")


def test_the_nameless_are_called_after_their_place() -> None:
    """
    A trace without a name, or with an empty one, is found by its place in the file.
    """
    assert ["trace 1 (2)", "a", "trace 3", "trace 1"] == keys(None, "a", "", "trace 1")


def test_a_long_name_is_cut() -> None:
    """
    Names that differ only where they are cut still differ.
    """
    first, second, again = keys("é" * 300 + "a", "é" * 300 + "b", "é" * 300 + "a")

    assert 3 == len({first, second, again})
    assert all(key.startswith("é" * 200) for key in (first, second, again))
    assert again.endswith(" (2)")


def test_a_trace_without_events_is_no_case() -> None:
    """
    It has no instance, counts as nothing, and takes no name; but it has its place in the file.
    """
    found = cases([Trace("a", []), Trace("a", [event()]), Trace(None, []), Trace(None, [event()])])

    assert ["a", "trace 4"] == [case.key for case in found]


@given(st.lists(ANY_NAMES, max_size=12))
def test_every_key_is_one_and_its_own(names: list[str | None]) -> None:
    """
    Whatever the names: all keys are allowed and different, and a usable name belongs to the first that has it.
    """
    found = keys(*names)

    assert len(names) == len(set(found))
    assert found == [check_key(key, "a case") for key in found]
    for name in {name for name in names if name and len(name.encode()) <= 512}:
        assert names.index(name) == found.index(name)
