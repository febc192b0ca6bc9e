"""Every Redis key, built here and nowhere else, with a sentence on what lives there.

All keys of a partition carry the hash tag `{namespace.partition}`, so that every script is legal on Redis Cluster.
Business keys and workflow types come last and are escaped: no key can reach another namespace, partition or kind.
"""

import re

from holdfast.runtime.effect_queue import Ticket
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref

_UNSAFE = re.compile(r"[{}:%\x00-\x1f\x7f]")


def escape(text: str) -> str:
    """Return text without braces, colons and control characters, reversibly: they become %XX."""
    if _UNSAFE.search(text) is None:
        return text
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", text)


#: What the names of put-off effects in the schedule begin with; no timer's name does, since workflow types are words.
PUT_OFF = "~e:"


def effect_name(ticket: Ticket) -> str:
    """Return the name of an effect, unique in its partition and the same wherever it is."""
    if not ticket.workflow:
        return f"?{ticket.position}"
    return name_of_effect(ticket.workflow, ticket.key, ticket.id)


def name_of_effect(workflow: str, key: str, effect_id: str) -> str:
    """Return the name of an instance's effect by its id."""
    return f"{workflow}/{escape(key)}:{effect_id}"


class Keys:
    """The keys of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def tag(self, partition: int) -> str:
        """Return the hash tag that all keys of a partition share."""
        return f"{{{self.namespace}.{partition}}}"

    # -- one instance

    def actor(self, ref: Ref) -> str:
        """Hash: seq, head, token, owner, lease_until, run_state, created, updated, and where there is any: reason, parked, unique."""
        return f"{{{self.namespace}.{ref.partition}}}:actor:{ref.workflow}:{escape(ref.key)}"

    def log(self, ref: Ref) -> str:
        """Stream: the records of one instance, with the explicit ids `<seq>-0` and the one field `r`."""
        return f"{{{self.namespace}.{ref.partition}}}:log:{ref.workflow}:{escape(ref.key)}"

    def snap(self, ref: Ref) -> str:
        """Hash: seq and data of the latest snapshot of one instance."""
        return f"{{{self.namespace}.{ref.partition}}}:snap:{ref.workflow}:{escape(ref.key)}"

    def parked(self, ref: Ref) -> str:
        """Sorted set: ids of the commands that are kept for a paused instance, in order."""
        return f"{self.tag(ref.partition)}:parked:{ref.workflow}:{escape(ref.key)}"

    def parked_bodies(self, ref: Ref) -> str:
        """Hash: by command id, the envelope that is kept."""
        return f"{self.tag(ref.partition)}:parked-bodies:{ref.workflow}:{escape(ref.key)}"

    def observations(self, ref: Ref) -> str:
        """Stream: what came to one instance and what became of it, where its workflow wants to know."""
        return f"{self.tag(ref.partition)}:observations:{ref.workflow}:{escape(ref.key)}"

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

    def begun(self, partition: int) -> str:
        """Hash: by effect name, `<attempts>|<when the last one was begun>|<who holds it>`."""
        return f"{self.tag(partition)}:effects-begun"

    def effect_notes(self, partition: int) -> str:
        """Hash: by effect name, why it was put off the last time."""
        return f"{self.tag(partition)}:effects-notes"

    def effects_ended(self, partition: int) -> str:
        """Stream: of the last effects that led to no command, by a digest, how many attempts they took."""
        return f"{self.tag(partition)}:effects-ended"

    def schedule(self, partition: int) -> str:
        """Sorted set: names of pending timers by due time in milliseconds.

        It is also the name of the channel on which a commit says that a timer became the next one of all.
        """
        return f"{self.tag(partition)}:schedule"

    def timers(self, partition: int) -> str:
        """Hash: by name, what a pending timer will send."""
        return f"{self.tag(partition)}:timers"

    def timer_names(self, partition: int) -> str:
        """Sorted set, all of one score: the names in the hash of timers, so that an instance's own are found."""
        return f"{self.tag(partition)}:timer-names"

    def due(self, partition: int) -> str:
        """Stream: timers whose time has come and whose commands were not sent yet."""
        return f"{self.tag(partition)}:due"

    def instances(self, partition: int, workflow: str, run_state: RunState | str) -> str:
        """Sorted set: the directory; business keys by time of last change in milliseconds."""
        return f"{self.tag(partition)}:instances:{workflow}:{run_state}"

    def unique(self, partition: int, workflow: str, unique: str) -> str:
        """Hash: holder, seq and until of a unique key; in the partition that the key itself decides."""
        return f"{self.tag(partition)}:unique:{workflow}:{escape(unique)}"

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

    def secrets(self, partition: int) -> str:
        """Hash: by instance, its wrapped data key, where payloads are encrypted; in -1 the namespace's own."""
        return f"{{{self.namespace}}}:secrets" if partition < 0 else f"{self.tag(partition)}:secrets"

    def serving(self, partition: int) -> str:
        """Hash: by pool, the member that serves the partition."""
        return f"{self.tag(partition)}:serving"

    def commands(self, partition: int) -> str:
        """Stream, one group: the partition's queue when Redis is the transport."""
        return f"{self.tag(partition)}:commands"

    def reading(self, partition: int) -> str:
        """Hash: by `<reader>/count`, `/walk` and `/walked`, what a reader of the feed has done beside its position."""
        return f"{self.tag(partition)}:reading"

    def feed_parked(self, partition: int, reader: object) -> str:
        """Hash: by instance, the event at which a projection parked it."""
        return f"{self.tag(partition)}:feed-parked:{reader}"

    def parked_orders(self, partition: int, reader: object) -> str:
        """Hash: by instance, what a person ordered for a parked one: retry or skip."""
        return f"{self.tag(partition)}:parked-orders:{reader}"

    def applied(self, partition: int, reader: object) -> str:
        """Hash: by instance, up to which record it is applied, for projections whose store cannot keep that."""
        return f"{self.tag(partition)}:applied:{reader}"

    # -- one projection

    def model_tag(self, projection: str) -> str:
        """Return the hash tag of a read model in Redis: all of it is in one slot, so that a batch is one transaction."""
        return f"{{{self.namespace}.model-{projection}}}"

    def model(self, projection: str, generation: int, name: str) -> str:
        """Return the key of any type that a projection with a RedisStore writes under this name."""
        return f"{self.model_tag(projection)}:{generation}:data:{name}"

    def model_applied(self, projection: str, generation: int, partition: int) -> str:
        """Hash: by instance, up to which record it is applied to a read model in Redis."""
        return f"{self.model_tag(projection)}:{generation}:applied:{partition}"

    def model_positions(self, projection: str, generation: int) -> str:
        """Hash: by partition, the position in the feed that was stored with a read model in Redis, for people."""
        return f"{self.model_tag(projection)}:{generation}:positions"

    def model_live(self, projection: str) -> str:
        """String: the generation of a read model in Redis that readers are to see."""
        return f"{self.model_tag(projection)}:live"

    # -- the namespace

    def projections(self) -> str:
        """Hash: by projection, its generations; by `<projection>/orders`, how many orders were given."""
        return f"{{{self.namespace}}}:projections"

    def progress(self, reader: object) -> str:
        """Pub/sub channel: the partition in which a reader of the feed came further."""
        return f"{{{self.namespace}}}:progress:{reader}"

    def meta(self) -> str:
        """Hash: what was fixed when the namespace was first used: partitions, incarnation."""
        return f"{{{self.namespace}}}:meta"

    def members(self) -> str:
        """Sorted set: ids of living members by when they stop being believed, in milliseconds."""
        return f"{{{self.namespace}}}:members"

    def member_facts(self) -> str:
        """Hash: by member id, its pools, host, process id and start."""
        return f"{{{self.namespace}}}:member-facts"

    def knows(self, member: str) -> str:
        """String: the types of the workflows that a member knows, in msgpack; for as long as it is believed to live."""
        return f"{{{self.namespace}}}:knows:{member}"

    def barrier(self) -> str:
        """String: a write of no meaning that WAIT and WAITAOF can wait for."""
        return f"{{{self.namespace}}}:barrier"

    def slots(self, limit: str) -> str:
        """Sorted set: the effects that hold a place of a limit, by when their lease ends in milliseconds."""
        return f"{{{self.namespace}}}:slots:{escape(limit)}"

    def starts(self, rate: str) -> str:
        """Sorted set: when effects under a rate began or may begin, in milliseconds."""
        return f"{{{self.namespace}}}:starts:{escape(rate)}"

    def replies(self, client: str) -> str:
        """Pub/sub channel: answers for one client."""
        return f"{{{self.namespace}}}:replies:{client}"

    def patterns(self) -> tuple[str, ...]:
        """Return the glob patterns of all keys of the namespace."""
        return (
            f"{{{self.namespace}.[0-9]*}}:*",
            f"{{{self.namespace}.model-*}}:*",
            f"{{{self.namespace}}}:*",
        )
