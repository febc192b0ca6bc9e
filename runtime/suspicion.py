"""Suspicion: which commands may have killed the workers that they were handed to, and how often.

Not the first times that a command is handed out again: a crash or a handover brings back all that the broker had
prefetched. From then on it is run alone, and its turns are counted before they begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from holdfast.runtime.mailbox import Mailbox
from holdfast.runtime.ports import Delivery, Suspects
from holdfast.runtime.turn_result import name_in_partition

#: A command that was handed out this often before is suspected of killing its workers, and its turns are counted.
#: Not the first times: a crash or a handover hands out again all that the broker had prefetched.
SUSPECT_REDELIVERIES = 3

#: A command by its partition and its name there.
_Name = tuple[int, str]


class PoisonCommand(Exception):
    """A command whose workers died each time."""


class Suspicion:
    """Counts the turns of suspects. For one thread at a time."""

    def __init__(self, suspects: Suspects) -> None:
        self._suspects = suspects
        #: What this process has begun and lived through so far.
        self._begun: dict[_Name, int] = {}

    def suspected(self, boxes: Iterable[Mailbox]) -> dict[_Name, int]:
        """Return how many turns each suspected command has begun and never ended, this one included."""
        return self.begin(
            [
                (box.ref.partition, name_in_partition(box.ref, letter))
                for box in boxes
                for letter in box.letters
                if suspicious(letter.delivery)
            ]
        )

    def begin(self, commands: Sequence[_Name]) -> dict[_Name, int]:
        """Count a turn of each command, and return how many were begun and never ended."""
        # What this process began before and lived through (a server was away, say) is the same turn still.
        new = [command for command in commands if command not in self._begun]
        if new:
            self._begun.update(zip(new, self._suspects.begin(new), strict=True))
        return {command: self._begun[command] for command in commands}

    def end(self, commands: Iterable[_Name]) -> None:
        """Say that turns came to an end."""
        ended = list(commands)
        if ended:
            self._suspects.clear(ended)
            for command in ended:
                self._begun.pop(command, None)


def suspicious(delivery: Delivery) -> bool:
    """Return whether a command was handed out so often that it may be what kills its workers."""
    return delivery.redeliveries >= SUSPECT_REDELIVERIES


def portions(deliveries: Sequence[Delivery]) -> Iterator[Sequence[Delivery]]:
    """Yield a batch in the portions to run one after another: what may kill its worker comes alone.

    So its neighbours are done before it, or were never begun: they are not counted, and not given up with it.
    """
    for suspected, group in groupby(deliveries, suspicious):
        if suspected:
            yield from ([delivery] for delivery in group)
        else:
            yield list(group)


def poison(turns: int) -> PoisonCommand:
    """Return the error of a command whose turns were begun so often, the one now included."""
    message = f"{turns - 1} turns on it were begun and never came to an end: it may kill its worker"
    return PoisonCommand(message)
