"""Who serves which partition: rendezvous hashing with a bound, so that shares are even and few move.

Every member computes the same answer from the same list of the living; nobody has to be asked.
Rendezvous hashing: Thaler and Ravishankar, "A name-based mapping scheme for rendezvous", 1996. The bound: Mirrokni,
Thorup and Zadimoghaddam, "Consistent hashing with bounded loads", 2016, here with the tightest bound.
"""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b


def shares(members: Sequence[str], partitions: int) -> dict[int, str]:
    """Return the member for each partition; no two members' shares differ by more than one partition."""
    if not members:
        return {}
    least, extra = divmod(partitions, len(members))
    load: Counter[str] = Counter()
    found = {}
    for partition in range(partitions):
        for member in sorted(members, key=lambda member: _weight(member, partition), reverse=True):
            # Everyone gets the least share, and whoever comes first one of what is left over.
            if load[member] < least or (load[member] == least and extra):
                extra -= load[member] == least
                load[member] += 1
                found[partition] = member
                break
    return found


def _weight(member: str, partition: int) -> bytes:
    return blake2b(f"{partition}/{member}".encode(), digest_size=8).digest()
