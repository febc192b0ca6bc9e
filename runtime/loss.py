"""Losses: records that were there, and are not there any more, since a server lost its end.

A replica that is promoted may lack the last commits of its primary; a server that comes back after a power failure may
lack its last second. Nobody can bring those records back. What can be done is to notice: whoever had seen an instance
further than its log now goes forgets what he knew of it, and says so, and nobody goes on from what is not there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

from holdfast.runtime.clock import Clock, to_ms
from holdfast.runtime.codec import encode
from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import DeadLetters

log = logging.getLogger(__name__)

#: The kind of dead letter that a loss becomes.
KIND = "lost"
#: Instances that are remembered to be looked at, the latest ones.
DOUBTS_MAX = 20_000


class Known(NamedTuple):
    """Up to where an instance was seen: its last record, and whose command made that."""

    ref: Ref
    seq: int
    head: str


class Loss(NamedTuple):
    """An instance whose log does not have what was seen of it."""

    known: Known
    #: Where its log ends now, and with whose command; 0 and nothing where there is no such instance any more.
    seq: int
    head: str

    def sentence(self) -> str:
        """Return it for people."""
        ref, seq, _ = self.known
        if self.seq < seq:
            where = f"its log ends at {self.seq}" if self.seq else "it is not there any more"
            return f"records {self.seq + 1} to {seq} of {ref} are lost: {where}"
        return (
            f"record {seq} of {ref} is another than before: the former one is lost, and maybe some before it"
        )

    def letter(self, at_ms: int) -> DeadLetter:
        """Return the dead letter by which a person learns of it; the same one for the same loss."""
        ref, seq, head = self.known
        digest = blake2b(f"{ref.workflow}/{ref.key}/{seq}/{head}".encode(), digest_size=9).hexdigest()
        facts = {"seq_known": seq, "head_known": head, "seq_found": self.seq, "head_found": self.head}
        return DeadLetter(
            id=f"{ref.partition}.{KIND}.{digest}",
            kind=KIND,
            partition=ref.partition,
            body=encode(facts),
            error=self.sentence(),
            traceback="",
            attempts=1,
            at_ms=at_ms,
            command_id=head,
            workflow=ref.workflow,
            key=ref.key,
        )


class Losses(Protocol):
    """Knows whether the journal's server is still who it was; proved by tests/contract/test_losses.py."""

    def epoch(self) -> int:
        """Return a number that has changed when another server, or one that came back, answers us."""
        ...

    def refresh(self) -> int:
        """Connect where there is no connection, and return the number of now."""
        ...

    def compare(self, known: Sequence[Known]) -> list[Loss]:
        """Return those of which the log does not have what is known of them."""
        ...


class Watchman:
    """Remembers what was known of instances until it can be compared, and tells of what is not there any more."""

    def __init__(self, losses: Losses, dead_letters: DeadLetters, clock: Clock) -> None:
        self._losses = losses
        self._dead_letters = dead_letters
        self._clock = clock
        self._epoch = losses.epoch()
        self._doubts: dict[Ref, Known] = {}
        #: What was doubted and stood, or was let go of. The cache does not have it any more, and nobody else may know it:
        #: it is compared with the next server.
        self._stood: dict[Ref, Known] = {}
        self._lock = threading.Lock()

    def calm(self) -> bool:
        """Return whether there is nothing to look at."""
        return not self._doubts and self._losses.epoch() == self._epoch

    def ask(self) -> None:
        """See who answers, so that `calm` is of now."""
        self._losses.refresh()

    def doubt(self, known: Iterable[Known]) -> None:
        """Remember what was known, to be compared when the server answers again. Any thread may."""
        with self._lock:
            _remember(self._doubts, known)

    def keep(self, known: Iterable[Known]) -> None:
        """Remember what the server of now has, and nobody here any more. Any thread may."""
        with self._lock:
            _remember(self._stood, known)

    def meet(self, known: Sequence[Known]) -> list[Loss]:
        """Compare at once what another writer was met at; where that fails, it is compared with the next server."""
        self.keep(known)
        found = self.examine(known)
        with self._lock:
            for loss in found:
                if self._stood.get(loss.known.ref) == loss.known:
                    del self._stood[loss.known.ref]
        return found

    def settle(self) -> list[Loss]:
        """Compare what is doubted, if another server answers than the one that told us."""
        epoch = self._losses.refresh()
        with self._lock:
            asked = doubts = list(self._doubts.values())
            if epoch != self._epoch:
                _remember(all_known := dict(self._stood), doubts)
                doubts = list(all_known.values())
        found: list[Loss] = []
        if epoch != self._epoch:
            log.warning(
                "another server answers, or one that was started again: what was known is compared with it",
                extra={"instances": len(doubts)},
            )
            found = self.examine(doubts)
        with self._lock:
            for one in asked:
                if self._doubts.get(one.ref) == one:
                    del self._doubts[one.ref]
            lost = {loss.known for loss in found}
            if epoch != self._epoch:
                self._stood.clear()
            _remember(self._stood, (one for one in doubts if one not in lost))
        self._epoch = epoch
        return found

    def examine(self, known: Sequence[Known]) -> list[Loss]:
        """Compare, and tell people of what is lost."""
        found = self._losses.compare(known) if known else []
        if found:
            at_ms = to_ms(self._clock.now())
            self._dead_letters.add([loss.letter(at_ms) for loss in found])
            for loss in found:
                ref, seq, _ = loss.known
                log.error(
                    "records are lost",
                    extra={
                        "workflow": ref.workflow,
                        "key": ref.key,
                        "seq_known": seq,
                        "seq_found": loss.seq,
                        "error": loss.sentence(),
                    },
                )
        return found


def _remember(kept: dict[Ref, Known], known: Iterable[Known]) -> None:
    """Put what is known behind what is kept, the furthest of each instance, and let the oldest go where it is too much."""
    for one in known:
        before = kept.pop(one.ref, None)
        kept[one.ref] = one if before is None or one.seq >= before.seq else before
    while len(kept) > DOUBTS_MAX:
        del kept[next(iter(kept))]
