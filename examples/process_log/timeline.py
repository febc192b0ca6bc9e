"""
Timeline: the events of all cases in the order in which they happened.

Within a case the file's order is the truth, whatever the timestamps say. An event counts as having happened no earlier
than the ones before it; one without a readable timestamp happened together with the one before it.
"""

import heapq
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from operator import itemgetter

from examples.process_log.case import Case
from examples.process_log.xes import Activity

#: Before everything: when events happened that come before the first readable timestamp of their case.
UNKNOWN = float("-inf")

#: When it happened, in seconds since 1970; which case, and which of its events it is; the event.
Moment = tuple[float, int, int, Activity]


def timeline(cases: Sequence[Case]) -> Iterator[Moment]:
    """
    Return all events of all cases, in time; of those that happened together, the one of the earlier case first.
    """
    return heapq.merge(*(_moments(number, case) for number, case in enumerate(cases)), key=itemgetter(0))


def _moments(number: int, case: Case) -> Iterator[Moment]:
    latest = UNKNOWN
    for position, event in enumerate(case.events):
        latest = max(latest, seconds(event.at))
        yield latest, number, position, event


def seconds(at: str | None) -> float:
    """
    Return a timestamp as seconds since 1970, and `UNKNOWN` for one that cannot be read; without a zone it is in UTC.
    """
    if at is None:
        return UNKNOWN
    try:
        moment = datetime.fromisoformat(at.strip())
    except ValueError:
        return UNKNOWN
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
