"""A sample of instances that were measured, and what it tells of all of them."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.runtime.ports import Size

#: How many of the largest are named.
LARGEST = 10


def size_of(workflow: str, instances: int, measured: Sequence[tuple[str, int]]) -> Size:
    """Return what a sample tells of all instances."""
    total = sum(count for _, count in measured)
    reckoned = total * instances // len(measured) if measured else 0
    largest = sorted(measured, key=lambda one: (-one[1], one[0]))[:LARGEST]
    return Size(workflow, instances, reckoned, len(measured), largest)
