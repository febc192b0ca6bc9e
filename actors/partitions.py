"""Steward: which partitions this process serves, in each of its pools.

It says that the process lives, works out from the list of the living which partitions are its share, claims those that
nobody alive serves, and hands over those that are no longer its own once what it took from them is finished.
Serving is for order and warm caches. What is written is safe without it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from holdfast.actors.pace import MACHINE, Pace
from holdfast.runtime import faults
from holdfast.runtime.errors import HoldfastError
from holdfast.runtime.faults import Point
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import Journal, Member, Membership, Share
from holdfast.runtime.shares import shares

log = logging.getLogger(__name__)

#: How often a handover is looked at while it drains.
DRAIN_STEP_S = 0.02
#: How often it is looked whether a partition that is to be ours was handed over: nobody serves it in between.
CLAIM_STEP_S = 0.1
#: Heartbeats after which every living member was heard again, where a server forgot them all.
BEATS_UNTIL_HEARD = 2


class Holder(Protocol):
    """What serves partitions: a lane of a pool."""

    def assign(self, partition: int) -> None:
        """Begin to serve a partition."""
        ...

    def renew(self, partition: int) -> None:
        """Hear that the server had forgotten a partition, which is served all the while: set up again what it lacks."""
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
    """Looks after the partitions of this process's pools."""

    def __init__(
        self,
        member: Member,
        membership: Membership,
        journal: Journal,
        holders: Mapping[str, Callable[[int], Sequence[Holder]]],
        *,
        partitions: int,
        heartbeat_ms: int,
        ttl_ms: int,
        drain_s: float,
        pace: Pace = MACHINE,
        knows: Sequence[str] = (),
    ) -> None:
        self._pace = pace
        self._monotonic = pace.clock.monotonic
        self._member = member
        #: The types of the workflows that this process knows.
        self._knows = knows
        self._membership = membership
        self._journal = journal
        #: By pool: who holds a partition of it.
        self._holders = holders
        self._partitions = partitions
        self._heartbeat_s = heartbeat_ms / 1000
        self._ttl_ms = ttl_ms
        self._drain_s = drain_s
        #: (pool, partition)
        self._serving: set[Share] = set()
        self._leaving: set[Share] = set()
        #: What is served, but may not be claimed for us.
        self._forgotten: set[Share] = set()
        #: Until when nothing new is claimed, on the monotonic clock.
        self._patient_until = self._monotonic()
        #: Whether a partition that is to be ours is another's still.
        self._awaiting = False
        self._last_beat = self._monotonic()
        #: When the last heartbeat that was heard began, and when the last round ended, on the monotonic clock; None before.
        self.beaten_at: float | None = None
        self.round_at: float | None = None
        #: Whether it runs.
        self.alive = False
        self._stopping = pace.event()
        self._thread = pace.thread(self._run, "holdfast-steward")

    @property
    def serving(self) -> frozenset[Share]:
        """The (pool, partition) that are served now."""
        return frozenset(self._serving)

    @property
    def pools(self) -> tuple[str, ...]:
        """The pools that are served."""
        return tuple(self._holders)

    @property
    def leaving(self) -> frozenset[Share]:
        """The (pool, partition) that are being handed over."""
        return frozenset(self._leaving)

    @property
    def stopping(self) -> bool:
        """Whether everything is being handed over, or was."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Hand everything over, and say that this member is gone."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        deadline = self._monotonic() + self._drain_s
        for share in sorted(self._serving):
            self._begin_leaving(share)
        try:
            while self._leaving and self._monotonic() < deadline:
                self._finish_leaving()
                self._pace.sleep(DRAIN_STEP_S if self._leaving else 0)
            if self._leaving:
                log.warning(
                    "partitions were not drained in time", extra={"partitions": sorted(self._leaving)}
                )
            self._membership.leave(self._member.id)
        except HoldfastError as error:
            log.warning("left without saying so", extra={"error": str(error)})
        everyone = (
            one for held in self._holders.values() for p in range(self._partitions) for one in held(p)
        )
        for holder in {id(one): one for one in everyone}.values():
            holder.stop()

    def _run(self) -> None:
        self.alive = True
        try:
            self._go_round()
        finally:
            self.alive = False

    def _go_round(self) -> None:
        while not self._stopping.is_set():
            try:
                self._step()
                pause = DRAIN_STEP_S if self._leaving else self._pause()
            except HoldfastError as error:
                log.warning("heartbeat failed", extra={"member": self._member.id, "error": str(error)})
                pause = self._heartbeat_s
            except Exception:
                log.exception("steward failed", extra={"member": self._member.id})
                pause = self._heartbeat_s
            self.round_at = self._monotonic()
            self._stopping.wait(pause)

    def _pause(self) -> float:
        return min(CLAIM_STEP_S, self._heartbeat_s) if self._awaiting else self._heartbeat_s

    def _step(self) -> None:
        began = self._monotonic()
        beaten, lost = self._membership.beat(self._member, self._ttl_ms, self._serving, self._knows)
        # From before the last one to after this one: Redis may have heard it at any moment in between.
        if self._monotonic() - self._last_beat > self._ttl_ms / 1000:
            self._doubt()
        self._last_beat = self.beaten_at = began
        living = [member for member in beaten if not self._buried(member)]
        ours: set[Share] = set()
        names_of: dict[str, list[str]] = {}
        for pool in self._holders:
            names = names_of[pool] = sorted(member.id for member in living if pool in member.pools)
            ours |= {
                (pool, p) for p, name in shares(names, self._partitions).items() if name == self._member.id
            }
        for share in sorted(self._serving - ours):
            self._begin_leaving(share)
        self._finish_leaving()
        self._claim_again(lost, names_of)
        self._awaiting = False
        if began < self._patient_until:
            self._awaiting = True
            return
        for share in sorted(ours - self._serving - self._leaving):
            pool, partition = share
            try:
                ours_now = self._membership.claim(partition, pool, self._member.id, names_of[pool])
            except HoldfastError:
                # It may be ours, although the answer that says so was lost. When it is to be another's by the next
                # time, he could not have it as long as we live: so it is given back first.
                self._leaving.add(share)
                raise
            if ours_now:
                log.info("partition taken", extra=_facts(share, self._member))
                faults.reach(Point.PARTITION_CLAIMED)
                self._serving.add(share)
                try:
                    for holder in self._holders[pool](partition):
                        holder.assign(partition)
                except Exception:
                    # It would be ours, and nobody would take from it: it is let go of, and claimed anew.
                    self._begin_leaving(share)
                    raise
            else:
                self._awaiting = True

    def _claim_again(self, lost: set[Share], names_of: Mapping[str, Sequence[str]]) -> None:
        """Claim what is served and was forgotten, and have its holders set up what went with it; they work on meanwhile.

        Whoever comes first to an emptied server is alone there, though others serve their partitions: what he does not
        serve he leaves alone until they had the time to say so.
        """
        # Those of before, too: a claim may have gone through although its answer was lost.
        self._forgotten = (self._forgotten | lost) & self._serving
        if not self._forgotten:
            return
        self._patient_until = self._monotonic() + BEATS_UNTIL_HEARD * self._heartbeat_s
        renewed: list[Share] = []
        try:
            for share in sorted(self._forgotten):
                pool, partition = share
                if self._membership.claim(partition, pool, self._member.id, names_of[pool]):
                    for holder in self._holders[pool](partition):
                        holder.renew(partition)
                    renewed.append(share)
                else:
                    log.warning("partition was taken by another", extra=_facts(share, self._member))
                    self._begin_leaving(share)
                self._forgotten.discard(share)
        finally:
            if renewed:
                facts = {"member": self._member.id, "partitions": renewed}
                log.warning("the namespace was emptied, or restored from an earlier state", extra=facts)

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
        for share in sorted(self._serving):
            self._begin_leaving(share)

    def _begin_leaving(self, share: Share) -> None:
        pool, partition = share
        for holder in self._holders[pool](partition):
            holder.revoke(partition)
        self._serving.discard(share)
        self._leaving.add(share)

    def _finish_leaving(self) -> None:
        for share in sorted(self._leaving):
            pool, partition = share
            holders = self._holders[pool](partition)
            if all(holder.drained(partition) for holder in holders):
                faults.reach(Point.HANDOVER_DRAINED)
                leases = [lease for holder in holders for lease in holder.forget(partition)]
                if leases:
                    self._journal.release(leases, self._member.id)
                    faults.reach(Point.HANDOVER_RELEASED)
                self._membership.yield_(partition, pool, self._member.id)
                faults.reach(Point.HANDOVER_YIELDED)
                self._leaving.discard(share)
                log.info("partition handed over", extra=_facts(share, self._member))


def _facts(share: Share, member: Member) -> dict[str, object]:
    return {"pool": share[0], "partition": share[1], "member": member.id}


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
