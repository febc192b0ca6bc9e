"""Cache: the actors that this process keeps hot, the least recently used going first."""

import threading
from collections import OrderedDict

from holdfast.runtime.actor import Actor
from holdfast.runtime.keys import Ref

#: Actors kept per lane; at a few kilobytes each this is tens of megabytes.
ACTORS_MAX = 10_000
#: Command ids that all of them together remember: at 300 bytes each this is 150 megabytes. A thousand for each actor,
#: which is what an actor remembers at the least, would be twenty times as much.
IDS_MAX = 500_000


class ActorCache:
    """A bounded set of actors. One thread works with them; another may drop those of a partition."""

    def __init__(self, size_max: int = ACTORS_MAX, ids_max: int = IDS_MAX) -> None:
        self._size_max = size_max
        self._ids_max = ids_max
        #: How many ids each actor remembered when it was last asked for, and all of them together.
        self._ids: dict[Ref, int] = {}
        self._ids_total = 0
        self._actors: OrderedDict[Ref, Actor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, ref: Ref) -> Actor | None:
        """Return an actor if it is here."""
        with self._lock:
            actor = self._actors.get(ref)
            if actor is not None:
                self._actors.move_to_end(ref)
                self._weigh(actor)
            return actor

    def put(self, actor: Actor) -> None:
        """Keep an actor; let the least recently used go if there are too many."""
        with self._lock:
            self._actors[actor.ref] = actor
            self._actors.move_to_end(actor.ref)
            self._weigh(actor)

    def _weigh(self, actor: Actor) -> None:
        """Count an actor's ids anew, and let others go while there are too many of these or of actors."""
        count = len(actor.handled)
        self._ids_total += count - self._ids.get(actor.ref, 0)
        self._ids[actor.ref] = count
        while len(self._actors) > self._size_max or (
            self._ids_total > self._ids_max and len(self._actors) > 1
        ):
            self._drop(next(iter(self._actors)))

    def _drop(self, ref: Ref) -> Actor | None:
        self._ids_total -= self._ids.pop(ref, 0)
        return self._actors.pop(ref, None)

    def drop(self, ref: Ref) -> None:
        """Forget an actor: what it says may be out of date."""
        with self._lock:
            self._drop(ref)

    def drop_partition(self, partition: int) -> list[Actor]:
        """Forget all actors of a partition, and return them."""
        with self._lock:
            gone = [actor for ref, actor in self._actors.items() if ref.partition == partition]
            for actor in gone:
                self._drop(actor.ref)
        return gone

    def clear(self) -> list[Actor]:
        """Forget all actors, and return them, the least recently used first."""
        with self._lock:
            gone = list(self._actors.values())
            self._actors.clear()
            self._ids.clear()
            self._ids_total = 0
        return gone

    def __len__(self) -> int:
        return len(self._actors)
