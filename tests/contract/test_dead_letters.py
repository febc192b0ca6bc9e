"""
Dead letters: what was given up on is kept for a person to find.
"""

from typing import Any

import pytest

from holdfast.runtime.clock import from_ms
from holdfast.runtime.codec import encode
from holdfast.runtime.dead_letter import DeadLetter
from tests import controls
from tests.contract.worlds import World


def _fill(world: World, count: int = 12) -> list[DeadLetter]:
    """
    Keep dead letters of several kinds over all partitions, and return them, newest first.
    """
    letters = [
        controls.dead_letter(
            f"{number % controls.PARTITIONS}.d-{number:03}",
            at_ms=controls.NOW_MS + number // 2,
            workflow="order" if number % 2 else "counter",
            key=f"k-{number % 3}",
            kind="command" if number % 5 else "effect",
        )
        for number in range(count)
    ]
    world.dead_letters().add(letters)
    return sorted(letters, key=lambda letter: (letter.at_ms, letter.id), reverse=True)


def test_a_dead_letter_is_kept_as_it_was(world: World) -> None:
    """
    Its bytes, its error and its history come back exactly.
    """
    letter = controls.dead_letter(
        "1.d-1", body=bytes(range(256)), error="Zoë: 'no'", key="{}:日本", history=("first", "second")
    )
    world.dead_letters().add([letter])

    assert letter == world.dead_letters().get("1.d-1")
    assert [letter] == world.dead_letters().list()


def test_there_may_be_none(world: World) -> None:
    """
    An empty index is no error.
    """
    dead = world.dead_letters()
    dead.add([])

    assert ([], 0, None, False) == (dead.list(), dead.count(), dead.get("0.d-1"), dead.remove("0.d-1"))


@pytest.mark.parametrize(
    "letter_id", ["", ".", "x", "x.1", "99.d-1", "-1.d-1", "٣.d-1", "0", "0.", "1e0.x", "{}:"]
)
def test_any_text_may_be_asked_for(world: World, letter_id: str) -> None:
    """
    What was never an id names nothing.
    """
    _fill(world)
    dead = world.dead_letters()

    assert (None, False) == (dead.get(letter_id), dead.remove(letter_id))
    assert dead.count() == 12


def test_the_newest_come_first(world: World) -> None:
    """
    Dead letters of all partitions are listed together, by time and then by id, up to the limit.
    """
    letters = _fill(world)

    assert letters == world.dead_letters().list()
    assert letters[:5] == world.dead_letters().list(limit=5)


def test_long_lists_are_whole(world: World) -> None:
    """
    More dead letters than are read at a time are listed and counted all the same.
    """
    letters = _fill(world, 450)

    assert letters == world.dead_letters().list(limit=1_000)
    assert (450, 225) == (world.dead_letters().count(), world.dead_letters().count(workflow="order"))


@pytest.mark.parametrize(
    "filters",
    [
        {"workflow": "order"},
        {"key": "k-1"},
        {"kind": "effect"},
        {"workflow": "order", "key": "k-1"},
        {"workflow": "order", "key": "k-1", "kind": "command"},
        {"workflow": "never"},
        {"key": ""},
        {"message_type": "PlaceOrder", "kind": "effect"},
        {"message_type": "Other"},
    ],
)
def test_filters_select(world: World, filters: dict[str, Any]) -> None:
    """
    A list and a count agree on what passes a filter, and the limit counts only that.
    """
    letters = [
        letter
        for letter in _fill(world)
        if all(getattr(letter, name) == value for name, value in filters.items())
    ]
    dead = world.dead_letters()

    assert (letters, letters[:1]) == (dead.list(**filters), dead.list(limit=1, **filters))
    assert len(letters) == dead.count(**filters)


def test_a_known_id_replaces(world: World) -> None:
    """
    The same letter again is one letter, as it is now.
    """
    dead = world.dead_letters()
    dead.add([controls.dead_letter("2.d-1", attempts=1), controls.dead_letter("2.d-2")])
    again = controls.dead_letter("2.d-1", attempts=2, at_ms=controls.NOW_MS + 1)
    dead.add([again])

    assert [again, controls.dead_letter("2.d-2")] == dead.list()
    assert 2 == dead.count()


def test_a_removed_letter_is_gone(world: World) -> None:
    """
    It can be removed once; the others stay.
    """
    letters = _fill(world)
    dead = world.dead_letters()

    assert [True, False] == [dead.remove(letters[3].id), world.dead_letters().remove(letters[3].id)]
    assert (None, 11) == (dead.get(letters[3].id), dead.count())
    assert letters[:3] + letters[4:] == dead.list()


def test_the_later_ones_are_found(world: World) -> None:
    """
    From a time on, that time included; alone and with other filters.
    """
    letters = _fill(world)
    dead, since = world.dead_letters(), from_ms(controls.NOW_MS + 3)
    late = [letter for letter in letters if letter.at_ms >= controls.NOW_MS + 3]

    assert (late, len(late)) == (dead.list(since=since), dead.count(since=since))
    orders = [letter for letter in late if letter.workflow == "order"]
    assert (orders, len(orders)) == (
        dead.list(since=since, workflow="order"),
        dead.count(since=since, workflow="order"),
    )


def test_an_effect_is_put_back_once(world: World) -> None:
    """
    It is in the outbox again and its letter is gone, in one step; who comes second puts nothing back.
    """
    ref = controls.ref()
    effect = controls.effect(of=ref)
    dead = world.dead_letters()
    dead.add([controls.dead_letter(f"{ref.partition}.e", kind="effect", body=encode(effect))])

    assert [True, False] == [dead.revive(f"{ref.partition}.e", effect) for _ in range(2)]
    assert not dead.revive("nonsense", effect)

    assert [effect] == world.journal().effects(ref.partition, 10)
    assert 0 == dead.count()
