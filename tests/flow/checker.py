"""
What the logs must say at the end of every test, as one function.

The senders say what they sent, in their order; each event says whose command it records, and which.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from holdfast import Record

#: For a key and a sender, the numbers of his commands in the order in which he sent them.
Sent = Mapping[tuple[str, str], Sequence[int]]


def wrongs(sent: Sent, logs: Mapping[str, Sequence[Record[Any]]]) -> list[str]:
    """
    Return everything that is wrong with the logs, a sentence each: nothing, if every promise was kept.
    """
    found: list[str] = []
    recorded: dict[tuple[str, str], list[int]] = {}
    for key, records in logs.items():
        found += wrongs_of_one_log(key, records)
        for record in records:
            for event in record.events:
                recorded.setdefault((key, event.sender), []).append(event.number)
    for who in sorted({*sent, *recorded}):
        found += differences(f"{who[0]} by {who[1]}", sent.get(who, ()), recorded.get(who, ()))
    return found


def wrongs_of_one_log(key: str, records: Sequence[Record[Any]]) -> Iterable[str]:
    """
    Yield what is wrong with a log by itself.
    """
    seqs = [record.seq for record in records]
    if seqs != list(range(1, len(records) + 1)):
        yield f"{key}: the sequence numbers are {seqs}"
    for command_id, count in Counter(record.command_id for record in records).items():
        if count > 1:
            yield f"{key}: {command_id} was committed {count} times"
    if any(later.at < earlier.at for earlier, later in itertools.pairwise(records)):
        yield f"{key}: time goes back"
    if any(later.token < earlier.token for earlier, later in itertools.pairwise(records)):
        yield f"{key}: the token falls"


def differences(where: str, sent: Sequence[int], recorded: Sequence[int]) -> Iterable[str]:
    """
    Yield how what was recorded differs from what was sent.
    """
    counts = Counter(recorded)
    for number in sent:
        if number not in counts:
            yield f"{where}: {number} was lost"
    for number, count in counts.items():
        if count > 1:
            yield f"{where}: {number} is there {count} times"
        if number not in sent:
            yield f"{where}: {number} was never sent"
    once = [number for number in dict.fromkeys(recorded) if number in set(sent)]
    place = {number: index for index, number in enumerate(sent)}
    for earlier, later in itertools.pairwise(once):
        if place[earlier] > place[later]:
            yield f"{where}: {earlier} overtook {later}"
