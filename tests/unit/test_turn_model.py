"""
The turn against a model of a few lines: however work is cut into batches, and whoever does it, the outcome is the same.
"""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from holdfast.runtime.turn import Limits
from tests.controls import PARTITIONS
from tests.unit.desk import Desk, ref, replies, sent
from tests.unit.trouble import Do, Done, Ended, Mood

KEYS = ["t-1", "t-2", "t-3"]
TROUBLES = ["", "", "even", "even", "refuse", "twofold", "shout", "raise", "explode", "end"]

#: A command id and what is asked for; the same id may come back with anything.
COMMANDS = st.tuples(
    st.sampled_from([f"c-{n}" for n in range(12)]),
    st.builds(Do, st.sampled_from(KEYS), st.sampled_from(TROUBLES), st.integers(1, 3)),
)


@dataclass(frozen=True)
class Batch:
    """
    What one worker does at once.
    """

    worker: int
    cold: bool
    commands: list[tuple[str, Do]]


BATCHES = st.lists(
    st.builds(Batch, st.integers(0, 1), st.booleans(), st.lists(COMMANDS, min_size=1, max_size=8)), max_size=8
)

#: An outcome as its caller sees it: what kind, whether it was known before, and the record's sequence number.
Told = tuple[str, bool, int]


@dataclass
class Model:
    """
    One instance, the way one would write it down for a colleague.
    """

    total: int = 0
    log: list[tuple[str, int]] = field(default_factory=list)
    told: dict[str, Told] = field(default_factory=dict)
    ended: bool = False

    def handle(self, command_id: str, do: Do) -> Told:
        """
        Decide a command, unless it was decided before.
        """
        if command_id in self.told:
            kind, _, seq = self.told[command_id]
            return kind, True, seq
        if self.ended:
            return "completed", False, 0
        if do.trouble in ("raise", "explode"):
            return "dead", False, 0
        if do.trouble == "refuse" or (do.trouble == "even" and self.total % 2):
            self.told[command_id] = ("rejected", False, 0)
        else:
            events = {"twofold": 2}.get(do.trouble, 1)
            amount = 1 if do.trouble == "even" else do.amount * events
            self.total += amount
            self.ended = do.trouble == "end"
            self.log.append((command_id, amount))
            self.told[command_id] = ("accepted", False, len(self.log))
        return self.told[command_id]


@given(BATCHES)
def test_batches_workers_and_caches_change_nothing(batches: list[Batch]) -> None:
    """
    Every caller is told, and every log says, what one command after the other would have come to.
    """
    first = Desk(limits=Limits(snapshot_every=3))
    desks = [first, Desk(first.app, beside=first, owner="w-2", limits=Limits(snapshot_every=3))]
    models = {key: Model() for key in KEYS}
    expected: dict[str, Told] = {}
    actual: dict[str, Told] = {}

    for number, batch in enumerate(batches):
        desk = desks[batch.worker]
        for partition in range(PARTITIONS):
            desk.server.owners["command", partition] = f"w-{batch.worker + 1}"
        if batch.cold:
            desk.forget()
        addresses = [f"{number}.{place}" for place in range(len(batch.commands))]
        for address, (command_id, do) in zip(addresses, batch.commands, strict=True):
            expected[address] = models[do.id].handle(command_id, do)

        result = desk.run(
            *(
                sent(do, command_id, reply_to=address)
                for address, (command_id, do) in zip(addresses, batch.commands, strict=True)
            )
        )

        assert [] == result.deferred
        actual |= {
            address: (answer.kind, answer.duplicate, answer.seq)
            for address, answer in replies(result).items()
        }

    assert expected == actual
    for key, model in models.items():
        records = first.log(ref(key))
        amounts = [
            sum(event.amount for event in entry.events if isinstance(event, Done)) for entry in records
        ]
        assert model.log == list(zip((entry.command_id for entry in records), amounts, strict=True))
        assert Mood(model.total, model.ended) == first.state(ref(key))
        assert model.ended == any(isinstance(event, Ended) for entry in records for event in entry.events)
