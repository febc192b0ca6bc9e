"""Steward: which partitions this process serves, for one pool.

It says that the process lives, works out from the list of the living which partitions are its share, claims those that
nobody alive serves, and hands over those that are no longer its own once what it took from them is finished.
Serving is for order and warm caches. What is written is safe without it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from holdfast.runtime import faults
from holdfast.runtime.errors import HoldfastError
from holdfast.runtime.faults import Point
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Journal, Member, Membership
from holdfast.runtime.shares import shares

log = logging.getLogger(__name__)

#: How often a handover is looked at while it drains.
DRAIN_STEP_S = 0.02


class Holder(Protocol):
    """What serves partitions: a lane of a pool."""

    def assign(self, partition: int) -> None:
        """Begin to serve a partition."""
        ...

    def revoke(self, partition: int) -> None:
        """Take nothing more from a partition, and finish what was taken."""
        ...

    def drained(self, partition: int) -> bool:
        """Return whether nothing of a partition is left."""
        ...

    def forget(self, partition: int) -> list[tuple[Ref, int]]:
        """Drop what is remembered of a partition, and return the leases to release."""
        ...

    def stop(self) -> None:
        """End all waiting for servers that are away."""
        ...


class Steward:
    """Looks after the partitions of one pool in this process."""

    def __init__(
        self,
        member: Member,
        pool: str,
        membership: Membership,
        journal: Journal,
        holder_of: Callable[[int], Sequence[Holder]],
        *,
        partitions: int,
        heartbeat_ms: int,
        ttl_ms: int,
        drain_s: float,
    ) -> None:
        self._member = member
        self._pool = pool
        self._membership = membership
        self._journal = journal
        self._holder_of = holder_of
        self._partitions = partitions
        self._heartbeat_s = heartbeat_ms / 1000
        self._ttl_ms = ttl_ms
        self._drain_s = drain_s
        self._serving: set[int] = set()
        self._leaving: set[int] = set()
        self._last_beat = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"holdfast-steward-{pool}", daemon=True)

    @property
    def serving(self) -> frozenset[int]:
        """The partitions that are served now."""
        return frozenset(self._serving)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Hand everything over, and say that this member is gone."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        deadline = time.monotonic() + self._drain_s
        for partition in sorted(self._serving):
            self._begin_leaving(partition)
        try:
            while self._leaving and time.monotonic() < deadline:
                self._finish_leaving()
                time.sleep(DRAIN_STEP_S if self._leaving else 0)
            if self._leaving:
                log.warning(
                    "partitions were not drained in time", extra={"partitions": sorted(self._leaving)}
                )
            self._membership.leave(self._member.id)
        except HoldfastError as error:
            log.warning("left without saying so", extra={"error": str(error)})
        for holder in {id(one): one for p in range(self._partitions) for one in self._holder_of(p)}.values():
            holder.stop()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._step()
                pause = DRAIN_STEP_S if self._leaving else self._heartbeat_s
            except HoldfastError as error:
                log.warning("heartbeat failed", extra={"member": self._member.id, "error": str(error)})
                pause = self._heartbeat_s
            except Exception:
                log.exception("steward failed", extra={"member": self._member.id})
                pause = self._heartbeat_s
            self._stopping.wait(pause)

    def _step(self) -> None:
        began = time.monotonic()
        beaten = self._membership.beat(self._member, self._ttl_ms)
        # From before the last one to after this one: Redis may have heard it at any moment in between.
        if time.monotonic() - self._last_beat > self._ttl_ms / 1000:
            self._doubt()
        self._last_beat = began
        living = [member for member in beaten if not self._buried(member)]
        names = sorted(member.id for member in living if self._pool in member.pools)
        share = {p for p, name in shares(names, self._partitions).items() if name == self._member.id}
        for partition in sorted(self._serving - share):
            self._begin_leaving(partition)
        self._finish_leaving()
        for partition in sorted(share - self._serving - self._leaving):
            if self._membership.claim(partition, self._pool, self._member.id, names):
                log.info("partition taken", extra={"partition": partition, "member": self._member.id})
                self._serving.add(partition)
                for holder in self._holder_of(partition):
                    holder.assign(partition)

    def _buried(self, member: Member) -> bool:
        """Say of a member on this machine whose process is gone that it is: nobody need wait until it is not believed."""
        if member.host != self._member.host or member.id == self._member.id or process_lives(member.pid):
            return False
        log.info("member is dead", extra={"member": member.id, "pid": member.pid})
        self._membership.leave(member.id)
        return True

    def _doubt(self) -> None:
        """Give up everything after a silence that was long enough for others to think us dead."""
        log.warning(
            "was silent for too long", extra={"member": self._member.id, "partitions": len(self._serving)}
        )
        for partition in sorted(self._serving):
            self._begin_leaving(partition)

    def _begin_leaving(self, partition: int) -> None:
        for holder in self._holder_of(partition):
            holder.revoke(partition)
        self._serving.discard(partition)
        self._leaving.add(partition)

    def _finish_leaving(self) -> None:
        for partition in sorted(self._leaving):
            holders = self._holder_of(partition)
            if all(holder.drained(partition) for holder in holders):
                faults.reach(Point.HANDOVER_DRAINED)
                leases = [lease for holder in holders for lease in holder.forget(partition)]
                if leases:
                    self._journal.release(leases, self._member.id)
                self._membership.yield_(partition, self._pool, self._member.id)
                self._leaving.discard(partition)
                log.info("partition handed over", extra={"partition": partition, "member": self._member.id})


def process_lives(pid: int) -> bool:
    """Return whether a process of this process table lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _zombie(pid)


def _zombie(pid: int) -> bool:
    """Return whether a process is dead and only waits for its parent to take notice."""
    try:
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="ascii", errors="replace")
            .rpartition(")")[2]
            .split()[0]
            == "Z"
        )
    except (OSError, IndexError):
        return False


def this_host() -> str:
    """Return a name for the process table that this process is in: two processes of one name see each other's ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{os.uname().nodename}/{os.getpid()}"
