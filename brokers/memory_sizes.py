"""The sizes of instances in memory: the bytes that are kept of them, without what Python needs around those."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from holdfast.brokers.memory import MemoryServer
from holdfast.brokers.sample import size_of
from holdfast.runtime.ports import Size


class MemorySizes:
    """Measures instances."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def sizes(self, workflows: Sequence[str], sample: int) -> list[Size]:
        """Measure some instances of each workflow."""
        with self._server.changed:
            return [self._size(workflow, sample) for workflow in workflows]

    def _size(self, workflow: str, sample: int) -> Size:
        instances = [
            (ref.key, one) for ref, one in self._server.instances.items() if ref.workflow == workflow
        ]
        measured = [
            (
                key,
                sum(map(len, one.log))
                + sum(len(body) for _, body in one.parked)
                + (len(one.snapshot.state) if one.snapshot else 0),
            )
            for key, one in islice(instances, sample)
        ]
        return size_of(workflow, len(instances), measured)
