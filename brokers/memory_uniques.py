"""Unique keys in memory."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.brokers.memory import MemoryServer
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.uniques import (
    CLAIM_MARGIN_MS,
    CLAIM_MS,
    Claim,
    Claimed,
    ClaimResult,
    Contested,
    Taken,
)


class MemoryUniques:
    """Keeps unique keys."""

    def __init__(self, server: MemoryServer, *, claim_ms: int = CLAIM_MS) -> None:
        self._server = server
        self._claim_ms = claim_ms
        self._margin_ms = min(CLAIM_MARGIN_MS, claim_ms // 3)

    def claim(self, claims: Sequence[Claim]) -> list[ClaimResult]:
        """Claim keys that nobody else has or is about to have."""
        with self._server.changed:
            return [self._claim(claim) for claim in claims]

    def _claim(self, claim: Claim) -> ClaimResult:
        workflow, now = claim.holder.workflow, self._server.now_ms()
        holder, _, until_ms = self._server.uniques.get((workflow, claim.unique), ("", 0, 0))
        if holder not in ("", claim.holder.key):
            if self._has(workflow, holder, claim.unique):
                return Taken(holder)
            if until_ms > now:
                return Contested(holder)
        until_ms = now + self._claim_ms
        self._server.uniques[workflow, claim.unique] = (claim.holder.key, claim.seq, until_ms)
        return Claimed(until_ms - self._margin_ms)

    def _has(self, workflow: str, holder: str, unique: str) -> bool:
        ref = Ref(partition_of(workflow, holder, self._server.partitions), workflow, holder)
        instance = self._server.instances.get(ref)
        return instance is not None and instance.unique == unique and not instance.run_state.finished

    def confirm(self, claims: Sequence[Claim]) -> None:
        """Make claims last."""
        with self._server.changed:
            for unique, ref, seq in claims:
                found = self._server.uniques.get((ref.workflow, unique))
                if found is not None and found[:2] == (ref.key, seq):
                    self._server.uniques[ref.workflow, unique] = (ref.key, seq, 0)

    def give_up(self, claims: Sequence[Claim]) -> None:
        """Free keys that were not claimed anew since."""
        with self._server.changed:
            for unique, ref, seq in claims:
                found = self._server.uniques.get((ref.workflow, unique))
                if found is not None and found[0] == ref.key and found[1] < seq:
                    del self._server.uniques[ref.workflow, unique]

    def find(self, workflow: str, unique: str) -> str | None:
        """Return who has a key, by his own record."""
        with self._server.changed:
            holder = self._server.uniques.get((workflow, unique), ("", 0, 0))[0]
            return holder if holder and self._has(workflow, holder, unique) else None
