"""Cache: the actors that this process keeps hot, the least recently used going first."""

import threading
from collections import OrderedDict

from holdfast.runtime.actor import Actor
from holdfast.runtime.keys import Ref

#: Actors kept per lane; at a few kilobytes each this is tens of megabytes.
ACTORS_MAX = 10_000


class ActorCache:
    """A bounded set of actors. One thread works with them; another may drop those of a partition."""

    def __init__(self, size_max: int = ACTORS_MAX) -> None:
        self._size_max = size_max
        self._actors: OrderedDict[Ref, Actor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, ref: Ref) -> Actor | None:
        """Return an actor if it is here."""
        with self._lock:
            actor = self._actors.get(ref)
            if actor is not None:
                self._actors.move_to_end(ref)
            return actor

    def put(self, actor: Actor) -> None:
        """Keep an actor; let the least recently used go if there are too many."""
        with self._lock:
            self._actors[actor.ref] = actor
            self._actors.move_to_end(actor.ref)
            if len(self._actors) > self._size_max:
                self._actors.popitem(last=False)

    def drop(self, ref: Ref) -> None:
        """Forget an actor: what it says may be out of date."""
        with self._lock:
            self._actors.pop(ref, None)

    def drop_partition(self, partition: int) -> list[Actor]:
        """Forget all actors of a partition, and return them."""
        with self._lock:
            gone = [actor for ref, actor in self._actors.items() if ref.partition == partition]
            for actor in gone:
                del self._actors[actor.ref]
        return gone

    def clear(self) -> None:
        """Forget all actors."""
        with self._lock:
            self._actors.clear()

    def __len__(self) -> int:
        return len(self._actors)
