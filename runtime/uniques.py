"""Unique keys: secondary keys that only one unfinished instance of a workflow may have.

The instance and its unique key are in different partitions, so no one step can write both. A key is claimed before the
commit that needs it and confirmed after; the claim lasts for a while only.

    claim (until t)  ->  commit, refused by the journal after t  ->  confirm

After a crash in between, whoever comes next looks at the holder itself.

The instance's own record of the key, written by its commit, is the truth; the claim only says where to look for it.
A claim that has run out may be taken over once its holder is seen not to have the key: it cannot get it any more,
since its commit would be refused. So a crash leaves no key locked and lets no second one in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from holdfast.runtime.keys import Ref, partition_of

#: How long a claim lasts, and how much sooner the journal refuses a commit that rests on it: more than the clocks of
#: two servers may differ.
CLAIM_MS = 15_000
CLAIM_MARGIN_MS = 5_000


class Claim(NamedTuple):
    """A unique key, and the instance that is to hold it."""

    unique: str
    holder: Ref
    #: The record of the holder with which it will have the key, or gave it up.
    seq: int


class Claimed(NamedTuple):
    """The key is the claimant's; the commit must come to the journal before this time, by the journal's clock."""

    until_ms: int


class Taken(NamedTuple):
    """Another unfinished instance has the key."""

    holder: str


class Contested(NamedTuple):
    """Another instance is about to have the key, or not: ask again."""

    holder: str


ClaimResult = Claimed | Taken | Contested


class Uniques(Protocol):
    """Keeps unique keys; proved by tests/contract/test_uniques.py."""

    def claim(self, claims: Sequence[Claim]) -> list[ClaimResult]:
        """Claim each key that no other unfinished instance has or is about to have."""
        ...

    def confirm(self, claims: Sequence[Claim]) -> None:
        """Say that commits went through: the keys are their holders' until they are given up."""
        ...

    def give_up(self, claims: Sequence[Claim]) -> None:
        """Free keys that their holders no longer have since a record, unless they were claimed for a later one."""
        ...

    def find(self, workflow: str, unique: str) -> str | None:
        """Return the key of the unfinished instance that has a unique key."""
        ...


def unique_partition(workflow: str, unique: str, partitions: int) -> int:
    """Return the partition in which a unique key is kept; no instance of any workflow decides which."""
    return partition_of(f"{workflow}//unique", unique, partitions)
