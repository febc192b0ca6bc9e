"""
Every target, with what machines make up and with what once broke it.
"""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fuzz.target import NAMES, Target, load

#: How many inputs a target is put to in `make test`; those that do much get fewer.
EXAMPLES = 300
FEWER = {"arguments": 60, "commands": 100, "timetables": 60, "process_logs": 150}

_TARGETS = [load(name) for name in NAMES]
_RECORDED = [
    pytest.param(target, path.read_bytes(), id=f"{target.name}-{path.name}")
    for target in _TARGETS
    for path in target.crashes()
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """
    Keep what workers say of each bad message out of the report of the one that matters.
    """
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("target", _TARGETS, ids=NAMES)
def test_nothing_that_is_made_up_breaks_it(target: Target) -> None:
    """
    What machines make up, at random and from examples, ends in a value or in an error that is meant for it.
    """

    @settings(
        max_examples=FEWER.get(target.name, EXAMPLES),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(st.binary(max_size=4_000), _varied(target)))
    @example(b"")
    def put(data: bytes) -> None:
        target.check(data)

    for seed in target.seeds:
        target.check(seed)
    put()


@pytest.mark.parametrize(("target", "data"), _RECORDED)
def test_what_once_broke_it_does_so_no_longer(target: Target, data: bytes) -> None:
    """
    Inputs that once broke a target end as all others do.
    """
    target.check(data)


def _varied(target: Target) -> st.SearchStrategy[bytes]:
    """
    Return seeds with some bytes of them changed, left out, doubled or put elsewhere.
    """

    def varied(seed: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
        data = bytearray(seed)
        for at, length, put in edits:
            start = at % (len(data) + 1)
            data[start : start + length] = put
        return bytes(data)

    edit = st.tuples(st.integers(0, 5_000), st.integers(0, 12), st.binary(max_size=12))
    return st.builds(varied, st.sampled_from(list(target.seeds)), st.lists(edit, max_size=6))
