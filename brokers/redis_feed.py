"""The feed and what projections parked, in Redis: one script per transition, all partitions of a batch in one pipeline."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import msgspec

from holdfast.brokers import scripts
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_link import RedisLink, unavailable
from holdfast.brokers.redis_log import records_in
from holdfast.brokers.scripts import Call, Script
from holdfast.runtime.codec import encode
from holdfast.runtime.config import Settings
from holdfast.runtime.feed import (
    NO_ORDERS,
    START,
    Behind,
    FeedEntry,
    Generations,
    Order,
    ParkedKey,
    Place,
    Reader,
    Step,
    place_of,
)
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref

#: About how many entries one call trims at most, so that it stays short.
TRIM_MAX = 10_000
#: How long one blocking read or one wait for a signal lasts at most, so that a dead connection is noticed.
WAIT_STEP_S = 1.0

_generations_decoder = msgspec.msgpack.Decoder(Generations)
_parked_decoder = msgspec.msgpack.Decoder(ParkedKey)


class RedisFeed:
    """The feeds, over one connection. For one thread at a time."""

    def __init__(self, settings: Settings, link: RedisLink) -> None:
        self._link = link
        self._keys = Keys(settings.namespace)
        self._partitions = settings.partitions

    # -- the projections

    def generations(self, projection: str) -> tuple[Generations | None, int]:
        """Return the generations and the number of orders."""
        with unavailable(self._link):
            found: Any = self._link.client.hmget(
                self._keys.projections(), [projection, f"{projection}/orders"]
            )
        return _generations_decoder.decode(found[0]) if found[0] else None, int(found[1] or 0)

    def change(self, projection: str, old: Generations | None, new: Generations | None) -> bool:
        """Replace the generations; see generations.lua."""
        args = (projection, encode(old) if old else b"", encode(new) if new else b"")
        call = Call(Script.GENERATIONS, (self._keys.projections(),), args)
        return bool(scripts.run(self._link, [call])[0])

    def projections(self) -> list[str]:
        """Return the names."""
        with unavailable(self._link):
            found: Any = self._link.client.hkeys(self._keys.projections())
        return sorted(name.decode() for name in found if b"/" not in name)

    # -- reading

    def register(self, reader: Reader, partitions: Sequence[int], owner: str) -> dict[int, Place]:
        """Register a reader; see feed_register.lua."""
        own = self._keys
        calls = [
            Call(
                Script.FEED_REGISTER,
                (own.readers(p), own.reading(p), own.feed(p), own.serving(p)),
                (owner, str(reader)),
            )
            for p in partitions
        ]
        replies = scripts.run(self._link, calls) if calls else []
        return {
            p: Place(reply[0].decode(), _text(reply[1]), int(reply[2]))
            for p, reply in zip(partitions, replies, strict=True)
            if reply != b"fenced"
        }

    def read(
        self, reader: Reader, after: Mapping[int, str], limit: int, owner: str
    ) -> dict[int, list[FeedEntry] | None]:
        """Read what is behind the positions; see feed_read.lua."""
        own = self._keys
        calls = [
            Call(
                Script.FEED_READ,
                (own.feed(p), own.serving(p), own.readers(p)),
                (owner, str(reader), position, limit),
            )
            for p, position in after.items()
        ]
        replies = scripts.run(self._link, calls) if calls else []
        return {
            p: None if reply == b"fenced" else [_entry(p, *one) for one in reply]
            for p, reply in zip(after, replies, strict=True)
        }

    def await_news(self, after: Mapping[int, str], timeout_s: float) -> list[int]:
        """Wait on the streams; the server wakes us."""
        if not after:
            return []
        names = {self._keys.feed(p): p for p in after}
        wanted = {name: after[p] for name, p in names.items()}
        with unavailable(self._link):
            block_ms = max(1, int(min(timeout_s, WAIT_STEP_S) * 1000))
            found = self._link.read_streams(wanted, 1, block_ms)
        return [names[name.decode()] for name, _ in found]

    def records(self, wanted: Sequence[tuple[Ref, int]], limit: int) -> list[list[tuple[int, bytes]]]:
        """Return stretches of logs, in one round trip."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for ref, seq in wanted:
                pipe.xrange(self._keys.log(ref), f"({seq}-0", "+", count=limit)
            found = pipe.execute()
        return [records_in(entries) for entries in found]

    def instances(
        self, partition: int, workflows: Sequence[str], walk: str, limit: int
    ) -> tuple[list[Ref], str | None]:
        """Scan the sorted sets of the directory one after another; a walk is `<set>:<cursor>:<server's run id>`.

        One that changes its run state meanwhile may be missed: it changes by a record, and that is in the feed.
        """
        stops = [f"{workflow}/{state}" for workflow in workflows for state in RunState]
        at, _, rest = walk.partition(":")
        cursor, _, server = rest.partition(":")
        first = stops.index(at) if at in stops else 0
        for index in range(first, len(stops)):
            workflow, _, state = stops[index].partition("/")
            name = self._keys.instances(partition, workflow, state)
            following, keys, server = self._page(name, int(cursor or 0), server, limit)
            refs = [Ref(partition, workflow, key.decode()) for key in keys]
            if following:
                return refs, f"{stops[index]}:{following}:{server}"
            if refs and index + 1 < len(stops):
                return refs, f"{stops[index + 1]}:0:{server}"
            if refs:
                return refs, None
            cursor = ""
        return [], None

    def _page(self, name: str, cursor: int, server: str, limit: int) -> tuple[int, list[bytes], str]:
        """Return the next cursor, some keys of a sorted set, and which server said so.

        A cursor is good on the server that gave it only, and until that is started again: each lays its sets out in
        another way. Then the set is scanned from its beginning.
        """
        with unavailable(self._link):
            pipe = self._link.at(name).pipeline(transaction=False)
            pipe.info("server")
            pipe.zscan(name, cursor=cursor, count=limit)
            facts, (following, members) = pipe.execute()
        here = str(facts["run_id"])
        if cursor and here != server:
            return self._page(name, 0, here, limit)
        return int(following), [key for key, _ in members], here

    def acknowledge(self, reader: Reader, steps: Sequence[Step], owner: str) -> list[bool]:
        """Keep how far the reader is; see feed_acknowledge.lua."""
        own = self._keys
        calls = [
            Call(
                Script.FEED_ACKNOWLEDGE,
                (own.readers(step.partition), own.reading(step.partition), own.serving(step.partition)),
                (
                    owner,
                    str(reader),
                    step.position,
                    step.entries,
                    step.walked,
                    "0" if step.walk is None else "1",
                    step.walk or "",
                    own.progress(reader),
                    step.partition,
                ),
            )
            for step in steps
        ]
        return [bool(reply) for reply in scripts.run(self._link, calls)] if calls else []

    def trim(self, partitions: Sequence[int]) -> int:
        """Trim the streams; see feed_trim.lua."""
        calls = [
            Call(Script.FEED_TRIM, (self._keys.readers(p), self._keys.feed(p)), (TRIM_MAX,))
            for p in partitions
        ]
        return sum(scripts.run(self._link, calls)) if calls else 0

    # -- looking

    def end(self, partitions: Sequence[int]) -> list[str]:
        """Return the last id that each stream gave; one that is not there yet gave none."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for partition in partitions:
                pipe.execute_command("XINFO", "STREAM", self._keys.feed(partition))
            found = pipe.execute(raise_on_error=False)
        return [START if isinstance(one, Exception) else _last_id(one) for one in found]

    def behind(self, reader: Reader) -> list[Behind]:
        """Return how far the reader is behind; see feed_behind.lua."""
        own, found = self._keys, []
        calls = [
            Call(
                Script.FEED_BEHIND,
                (own.readers(p), own.reading(p), own.feed(p), own.feed_parked(p, reader)),
                (str(reader),),
            )
            for p in range(self._partitions)
        ]
        for partition, reply in enumerate(scripts.run(self._link, calls)):
            if reply:
                position, walk, walked, records, age_ms, parked = reply
                place = Place(position.decode(), _text(walk), int(walked))
                found.append(Behind(partition, place, int(records), int(age_ms) / 1000, int(parked)))
        return found

    def await_positions(self, reader: Reader, positions: Mapping[int, str], timeout_s: float) -> bool:
        """Listen first, then look, and look again at each signal."""
        deadline = time.monotonic() + timeout_s
        if self._reached(reader, positions):
            return True
        with unavailable(self._link), closing(self._link.client.pubsub()) as pubsub:
            pubsub.subscribe(self._keys.progress(reader))
            while (left := deadline - time.monotonic()) > 0:
                message: Any = pubsub.get_message(timeout=min(left, WAIT_STEP_S))
                if self._concerns(message, positions) and self._reached(reader, positions):
                    return True
        return self._reached(reader, positions)

    @staticmethod
    def _concerns(message: Any, positions: Mapping[int, str]) -> bool:
        """Return whether to look again: at the start, after a silence, and when a partition that we wait for moved."""
        if message is None or message["type"] != "message":
            return True
        return int(message["data"]) in positions

    def _reached(self, reader: Reader, positions: Mapping[int, str]) -> bool:
        name = str(reader)
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for partition in positions:
                pipe.hget(self._keys.readers(partition), name)
                pipe.hexists(self._keys.reading(partition), f"{name}/walk")
            found = pipe.execute()
        return all(
            found[2 * n] is not None
            and not found[2 * n + 1]
            and place_of(found[2 * n].decode()) >= place_of(wanted)
            for n, wanted in enumerate(positions.values())
        )

    def count(self, workflows: Sequence[str]) -> int:
        """Return how many instances there are."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for partition in range(self._partitions):
                for workflow in workflows:
                    for state in RunState:
                        pipe.zcard(self._keys.instances(partition, workflow, state))
            return sum(pipe.execute())

    def remove(self, reader: Reader, partitions: Sequence[int]) -> None:
        """Forget the reader; see feed_remove.lua."""
        own = self._keys
        calls = [
            Call(
                Script.FEED_REMOVE,
                (
                    own.readers(p),
                    own.reading(p),
                    own.feed(p),
                    own.feed_parked(p, reader),
                    own.parked_orders(p, reader),
                    own.applied(p, reader),
                ),
                (str(reader),),
            )
            for p in partitions
        ]
        if calls:
            scripts.run(self._link, calls)

    # -- parking

    def park(
        self, reader: Reader, parked: Sequence[ParkedKey], done: Mapping[Ref, Order] = NO_ORDERS
    ) -> None:
        """Keep parked instances; see park.lua."""
        self._park(reader, [(one.ref, encode(one), done.get(one.ref, Order()).mark) for one in parked])

    def unpark(self, reader: Reader, refs: Sequence[Ref]) -> None:
        """Forget parked instances; see park.lua."""
        self._park(reader, [(ref, b"", "") for ref in refs])

    def _park(self, reader: Reader, changes: Sequence[tuple[Ref, bytes, str]]) -> None:
        by_partition: dict[int, list[str | bytes]] = defaultdict(list)
        for ref, data, done in changes:
            by_partition[ref.partition] += (ref.scope, data, done)
        own = self._keys
        calls = [
            Call(
                Script.PARK,
                (own.feed_parked(p, reader), own.parked_orders(p, reader), own.readers(p)),
                (str(reader), *changed),
            )
            for p, changed in by_partition.items()
        ]
        if calls:
            scripts.run(self._link, calls)

    def parked(self, reader: Reader, partitions: Sequence[int]) -> list[tuple[ParkedKey, Order]]:
        """Return parked instances and orders, the longest parked first."""
        with unavailable(self._link):
            pipe = self._link.client.pipeline(transaction=False)
            for partition in partitions:
                pipe.hgetall(self._keys.feed_parked(partition, reader))
                pipe.hgetall(self._keys.parked_orders(partition, reader))
            replies = pipe.execute()
        found = [
            (_parked_decoder.decode(data), _order(orders.get(scope, b"").decode()))
            for kept, orders in zip(replies[::2], replies[1::2], strict=True)
            for scope, data in kept.items()
        ]
        return sorted(found, key=lambda one: (one[0].at_ms, one[0].ref))

    def order(self, reader: Reader, refs: Sequence[Ref], order: str) -> list[bool]:
        """Order something for parked instances; see order.lua."""
        own = self._keys
        calls = [
            Call(
                Script.ORDER,
                (own.feed_parked(ref.partition, reader), own.parked_orders(ref.partition, reader)),
                (order, ref.scope),
            )
            for ref in refs
        ]
        found = [bool(reply[0]) for reply in scripts.run(self._link, calls)] if calls else []
        with unavailable(self._link):
            self._link.client.hincrby(own.projections(), f"{reader.projection}/orders", 1)
        return found


def _order(given: str) -> Order:
    """Return an order as order.lua wrote it; one of the last release has no number."""
    return Order(given.partition("#")[0], given)


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()


def _entry(partition: int, id_: bytes, fields: list[bytes]) -> FeedEntry:
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    ref = Ref(partition, found[b"w"].decode(), found[b"k"].decode())
    return FeedEntry(id_.decode(), ref, int(found[b"s"]), found[b"r"])


def _last_id(info: Any) -> str:
    """Return the last id in what XINFO STREAM answers, in whichever form the client hands it on."""
    facts = info if isinstance(info, dict) else dict(zip(info[::2], info[1::2], strict=True))
    found = facts.get("last-generated-id") or facts.get(b"last-generated-id") or START
    return found.decode() if isinstance(found, bytes) else str(found)
