"""Who serves which partition: rendezvous hashing with a bound, so that shares are even and few move.

Every member computes the same answer from the same list of the living; nobody has to be asked.
Rendezvous hashing: Thaler and Ravishankar, "A name-based mapping scheme for rendezvous", 1996. The bound: Mirrokni,
Thorup and Zadimoghaddam, "Consistent hashing with bounded loads", 2016, here with the tightest bound.
"""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b


def shares(members: Sequence[str], partitions: int) -> dict[int, str]:
    """Return the member for each partition; nobody gets more than an even share, rounded up."""
    if not members:
        return {}
    most = -(-partitions // len(members))
    load: Counter[str] = Counter()
    found = {}
    for partition in range(partitions):
        for member in sorted(members, key=lambda member: _weight(member, partition), reverse=True):
            if load[member] < most:
                load[member] += 1
                found[partition] = member
                break
    return found


def _weight(member: str, partition: int) -> bytes:
    return blake2b(f"{partition}/{member}".encode(), digest_size=8).digest()
