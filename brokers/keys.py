"""Every Redis key, built here and nowhere else, with a sentence on what lives there.

All keys of a partition carry the hash tag `{namespace.partition}`, so that every script is legal on Redis Cluster.
Business keys and workflow types come last and are escaped: no key can reach another namespace, partition or kind.
"""

import re

from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref

_UNSAFE = re.compile(r"[{}:%\x00-\x1f\x7f]")


def escape(text: str) -> str:
    """Return text without braces, colons and control characters, reversibly: they become %XX."""
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", text)


class Keys:
    """The keys of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def tag(self, partition: int) -> str:
        """Return the hash tag that all keys of a partition share."""
        return f"{{{self.namespace}.{partition}}}"

    # -- one instance

    def actor(self, ref: Ref) -> str:
        """Hash: seq, head, token, owner, lease_until, run_state, created, updated of one instance."""
        return f"{{{self.namespace}.{ref.partition}}}:actor:{ref.workflow}:{escape(ref.key)}"

    def log(self, ref: Ref) -> str:
        """Stream: the records of one instance, with the explicit ids `<seq>-0` and the one field `r`."""
        return f"{{{self.namespace}.{ref.partition}}}:log:{ref.workflow}:{escape(ref.key)}"

    def snap(self, ref: Ref) -> str:
        """Hash: seq and data of the latest snapshot of one instance."""
        return f"{{{self.namespace}.{ref.partition}}}:snap:{ref.workflow}:{escape(ref.key)}"

    # -- one partition

    def feed(self, partition: int) -> str:
        """Stream: every record of the partition in commit order, for projections; written while `readers` exists."""
        return f"{self.tag(partition)}:feed"

    def readers(self, partition: int) -> str:
        """Hash: the projections that read the feed, and how far."""
        return f"{self.tag(partition)}:readers"

    def effects(self, partition: int) -> str:
        """Stream: the outbox; one entry per effect that nobody has finished."""
        return f"{self.tag(partition)}:effects"

    def schedule(self, partition: int) -> str:
        """Sorted set: names of pending timers by due time in milliseconds."""
        return f"{self.tag(partition)}:schedule"

    def timers(self, partition: int) -> str:
        """Hash: by name, what a pending timer will send."""
        return f"{self.tag(partition)}:timers"

    def due(self, partition: int) -> str:
        """Stream: timers whose time has come and whose commands were not sent yet."""
        return f"{self.tag(partition)}:due"

    def instances(self, partition: int, workflow: str, run_state: RunState | str) -> str:
        """Sorted set: the directory; business keys by time of last change in milliseconds."""
        return f"{self.tag(partition)}:instances:{workflow}:{run_state}"

    def dead(self, partition: int) -> str:
        """Sorted set: ids of dead letters by time in milliseconds."""
        return f"{self.tag(partition)}:dead"

    def dead_letters(self, partition: int) -> str:
        """Hash: the dead letters by id."""
        return f"{self.tag(partition)}:dead-letters"

    def refused(self, partition: int) -> str:
        """Hash: by command id, the refusal that a caller was told."""
        return f"{self.tag(partition)}:refused"

    def refused_at(self, partition: int) -> str:
        """Sorted set: command ids of refusals by time in milliseconds, so that old ones can go."""
        return f"{self.tag(partition)}:refused-at"

    def suspects(self, partition: int) -> str:
        """Hash: by command id, how many turns were begun on a command that was handed out again and again."""
        return f"{self.tag(partition)}:suspects"

    def serving(self, partition: int) -> str:
        """Hash: by pool, the member that serves the partition."""
        return f"{self.tag(partition)}:serving"

    def commands(self, partition: int) -> str:
        """Stream, one group: the partition's queue when Redis is the transport."""
        return f"{self.tag(partition)}:commands"

    # -- the namespace

    def meta(self) -> str:
        """Hash: what was fixed when the namespace was first used: partitions, incarnation."""
        return f"{{{self.namespace}}}:meta"

    def members(self) -> str:
        """Sorted set: ids of living members by when they stop being believed, in milliseconds."""
        return f"{{{self.namespace}}}:members"

    def member_facts(self) -> str:
        """Hash: by member id, its pools, host, process id and start."""
        return f"{{{self.namespace}}}:member-facts"

    def barrier(self) -> str:
        """String: a write of no meaning that WAIT and WAITAOF can wait for."""
        return f"{{{self.namespace}}}:barrier"

    def replies(self, client: str) -> str:
        """Pub/sub channel: answers for one client."""
        return f"{{{self.namespace}}}:replies:{client}"

    def patterns(self) -> tuple[str, str]:
        """Return the glob patterns of all keys of the namespace."""
        return f"{{{self.namespace}.[0-9]*}}:*", f"{{{self.namespace}}}:*"
