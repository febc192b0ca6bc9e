"""The remains of instances that are over, in memory."""

from __future__ import annotations

from holdfast.brokers.keys import PUT_OFF, name_of_effect
from holdfast.brokers.memory import MemoryServer
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref


class MemoryRemains:
    """Clears away what instances have left."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def withdraw(self, ref: Ref) -> int:
        """Remove timers and effects, while the instance is over."""
        server = self._server
        with server.changed:
            instance = server.instances.get(ref)
            if instance is None or instance.run_state not in (RunState.CANCELLED, RunState.DATA_DELETED):
                return 0
            timers, effects = server.timers[ref.partition], server.effects[ref.partition]
            of_effects = name_of_effect(ref.workflow, ref.key, "")
            own = (f"{ref.scope}/", f"{ref.scope}:", PUT_OFF + of_effects)
            gone = [name for name in timers if name.startswith(own)]
            for name in gone:
                del timers[name]
            for known in (server.begun, server.effect_notes):
                for place in [place for place in known if place[0] == ref.partition]:
                    if place[1].startswith(of_effects):
                        del known[place]
            left = [one for one in effects if (one.workflow, one.key) != (ref.workflow, ref.key)]
            count = len(gone) + len(effects) - len(left)
            effects[:] = left
            return count

    def scrub(self, ref: Ref) -> int:
        """Remove the dead letters and observations too, once the data was deleted."""
        server = self._server
        count = self.withdraw(ref)
        with server.changed:
            instance = server.instances.get(ref)
            if instance is None or instance.run_state is not RunState.DATA_DELETED:
                return count
            gone = [
                id_
                for id_, letter in server.dead.items()
                if (letter.workflow, letter.key) == (ref.workflow, ref.key)
            ]
            for id_ in gone:
                del server.dead[id_]
            seen = server.observations.pop(ref, None)
            return count + len(gone) + (seen is not None)
