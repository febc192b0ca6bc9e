"""
Case: a trace that is replayed, and the key of the instance that it becomes.

Every trace with events becomes an instance of its own, whatever it is called:

- a name that can be a key is the key, for the first trace of that name;
- the others of the same name get a number behind it;
- a trace without a name is called after its place in the file;
- a name that is too long for a key is cut, and gets its digest behind it.

No key that is made up here is ever the name of another trace.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import chain, count

import msgspec

from examples.process_log.xes import Activity, Trace
from holdfast.runtime.keys import KEY_BYTES_MAX

#: Half of a SHA-256: no two names of a log have the same by accident.
DIGEST_CHARS = 32


class Case(msgspec.Struct, frozen=True):
    """
    One instance to be, and what must be in its log in the end.
    """

    key: str
    events: list[Activity]


def cases(traces: Iterable[Trace]) -> list[Case]:
    """
    Return a case for each trace that has events, in the order of the file.
    """
    kept = [(place, trace) for place, trace in enumerate(traces, 1) if trace.events]
    taken = {trace.name for _, trace in kept if trace.name and _fits(trace.name)}
    unclaimed = set(taken)
    spares: dict[str, Iterator[str]] = {}
    found = []
    for place, trace in kept:
        key = trace.name or ""
        if key in unclaimed:
            unclaimed.remove(key)
        else:
            base = trace.name or f"trace {place}"
            if base not in spares:
                spares[base] = _spares(base)
            key = next(spare for spare in spares[base] if spare not in taken)
            taken.add(key)
        found.append(Case(key, trace.events))
    return found


def command_id(case: int, position: int) -> str:
    """
    Return the id of a case's command: what is in the log can be told to be it, and not another of the same content.
    """
    return f"{case}.{position}"


def _fits(name: str) -> bool:
    return len(name.encode()) <= KEY_BYTES_MAX


def _spares(base: str) -> Iterator[str]:
    """
    Return keys to be made of a name, the plainest first.
    """
    return (_cut(base, ending) for ending in chain([""], (f" ({number})" for number in count(2))))


def _cut(base: str, ending: str) -> str:
    if _fits(base + ending):
        return base + ending
    ending = f"…{sha256(base.encode()).hexdigest()[:DIGEST_CHARS]}{ending}"
    # Not in the middle of a character.
    head = base.encode()[: KEY_BYTES_MAX - len(ending.encode())].decode(errors="ignore")
    return head + ending
