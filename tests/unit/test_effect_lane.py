"""
The effect lane, over ports in memory: what it does about effects that others began, and about handlers that misbehave.
"""

import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from holdfast.actors import effect_desk, effects, runners, wiring
from holdfast.actors.effects import EffectLane, EffectPorts
from holdfast.brokers.memory import MemoryMembership, MemoryPublisher, MemoryServer
from holdfast.brokers.memory_effects import MemoryEffects
from holdfast.runtime.app import App
from holdfast.runtime.codec import decode_envelope, encode
from holdfast.runtime.config import Settings
from holdfast.runtime.definition import Definition
from holdfast.runtime.effect import EffectContext
from holdfast.runtime.effect_queue import START, HeldBy, Ticket, Waiting
from holdfast.runtime.limit import Limit, Rate, Want
from holdfast.runtime.loopback import Loopback
from holdfast.runtime.message import Command
from holdfast.runtime.ports import Member
from holdfast.runtime.retry import Retry
from tests import controls
from tests.controls import ChargeCard, ConfirmPayment, SendReceipt
from tests.support.processes import eventually
from tests.unit.trouble import Unspeakable

PARTITION = 0
QUICK = Retry(attempts=3, first=0.01)


@dataclass
class Bench:
    """
    A lane that serves one partition of a server in memory, its app, and what it published.
    """

    server: MemoryServer
    app: App = field(default_factory=controls.app)
    settings: Settings = field(
        default_factory=lambda: Settings.of(
            redis_url="memory://",
            namespace=f"t{uuid.uuid4().hex[:8]}",
            partitions=controls.PARTITIONS,
            patience_s=0.05,
        )
    )
    lane: EffectLane | None = None

    def put(self, **changes: Any) -> Ticket:
        """
        Put an effect into the outbox, and return where it is.
        """
        entry = msgspec.structs.replace(controls.effect("c-1:0"), **changes)
        with self.server.changed:
            self.server.effects[PARTITION].append(entry)
            self.server.changed.notify_all()
        ports = self.ports()
        *_, waiting = ports.effects.arrivals({PARTITION: "0-0"}, 10, 5.0)
        return Ticket(PARTITION, waiting.position, entry.workflow, entry.key, entry.id)

    def ports(self) -> wiring.Ports:
        return wiring.open_ports(self.settings)

    def begin_elsewhere(self, ticket: Ticket, owner: str = "somebody dead") -> None:
        """
        Begin an effect as a process would that is no longer among the living.
        """
        self.ports().effects.begin([ticket], owner)

    def open(self) -> EffectLane:
        """
        Serve the partition.
        """
        ports = EffectPorts(
            self.ports(), self.ports(), self.ports(), Loopback().publisher(MemoryPublisher(self.server))
        )
        if self.lane is not None:
            self.lane.close()
        lane = self.lane = EffectLane("effect", "we", self.app, ports, self.settings)
        lane.assign(PARTITION)
        return lane

    def work(self) -> None:
        """
        Serve the partition until nothing is left in its outbox.
        """
        lane = self.open()

        def is_done() -> bool:
            batch = lane.take(0.01)
            if batch:
                lane.work(batch)
            with self.server.changed:
                return not self.server.effects[PARTITION]

        eventually(is_done)

    def sent(self) -> list[Any]:
        """
        Return the commands that effects led to.
        """
        with self.server.changed:
            bodies = [one.body for queue in self.server.queues.values() for one in queue]
        definition = self.app.definition("order")
        return [definition.commands.decode(decode_envelope(body).payload) for body in bodies]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(MemoryServer())
    made.server = wiring.memory_server(made.settings)
    yield made
    if made.lane is not None:
        made.lane.close()


def test_a_rate_does_not_leave_what_a_dead_process_began(bench: Bench) -> None:
    """
    An effect that has to wait for its turn in a rate, and was begun by a process that died, is run all the same.
    """
    calls: list[int] = []

    @bench.app.effect(ChargeCard, rate=Rate(1, per=1.2))
    def charge(effect: ChargeCard, ctx: EffectContext) -> None:
        calls.append(ctx.attempt)

    bench.put(id="c-0:0")
    ticket = bench.put(id="c-1:0")
    bench.begin_elsewhere(ticket)
    bench.work()

    assert [1, 2] == sorted(calls)


def test_what_nobody_handles_and_a_dead_process_began_is_given_up(bench: Bench) -> None:
    """
    A process that does not know an effect takes it from the dead one that began it, to make a dead letter of it.
    """
    ticket = bench.put()
    bench.begin_elsewhere(ticket)
    bench.work()

    (letter,) = bench.ports().dead_letters.list(kind="effect")
    assert ("c-1:0", 1) == (letter.command_id, letter.attempts)
    assert "no handler for ChargeCard" in letter.error


def test_bytes_that_are_no_effect_and_a_dead_process_began_are_given_up(bench: Bench) -> None:
    """
    As above, for what nobody can read.
    """
    ticket = bench.put(payload=b"\xc1")
    bench.begin_elsewhere(ticket)
    bench.work()

    assert 1 == len(bench.ports().dead_letters.list(kind="effect"))


def test_what_a_living_process_began_is_left_to_it(bench: Bench) -> None:
    """
    Somebody who does not know an effect does not give up what a living process runs.
    """
    ticket = bench.put()
    bench.ports().membership.beat(controls.member("alive"), 60_000)
    bench.begin_elsewhere(ticket, "alive")
    looked = threading.Event()

    def finish() -> None:
        looked.wait(40)
        bench.ports().effects.finish([ticket], "alive")

    helper = threading.Thread(target=finish)
    helper.start()
    # Long enough for its patience to end several times over.
    threading.Timer(0.5, looked.set).start()
    bench.work()
    helper.join()

    assert [] == bench.ports().dead_letters.list(kind="effect")
    assert not isinstance(bench.ports().effects.begin([ticket], "we")[0], HeldBy)


def test_a_late_end_says_nothing_about_the_next_attempt(bench: Bench) -> None:
    """
    What ran out of time may end while the next attempt runs; it is the next one's result that counts.
    """
    late: list[threading.Thread] = []

    # More attempts than need be: those in which the machine stood still run out of time too.
    @bench.app.effect(ChargeCard, retry=Retry(attempts=20, first=0.01, factor=1.0), timeout=0.2)
    def charge(effect: ChargeCard, ctx: EffectContext) -> ConfirmPayment | None:
        if not late:
            late.append(threading.current_thread())
            time.sleep(1)  # in one piece, so that nothing can interrupt it
            return None
        while late[0].is_alive():
            late[0].join(0.01)
            ctx.heartbeat()
        return ConfirmPayment(effect.order_id)

    bench.put()
    bench.work()

    assert [ConfirmPayment("o-1")] == bench.sent()
    assert [] == bench.ports().dead_letters.list(kind="effect")


def test_a_result_that_does_not_fit_its_class_is_a_failure_of_the_effect(bench: Bench) -> None:
    """
    A command whose field holds something else is not sent: nobody could read it, and nobody would be told.
    """

    @bench.app.effect(ChargeCard, retry=Retry(attempts=1))
    def charge(effect: ChargeCard, ctx: EffectContext) -> Command:
        return controls.CancelOrder("o-1", reason=5)  # type: ignore[arg-type]  # what it is about

    bench.put()
    bench.work()

    (letter,) = bench.ports().dead_letters.list(kind="effect")
    assert (
        "CancelOrder for 'o-1' cannot be read back as CancelOrder: Expected `str`, got `int`" in letter.error
    )
    assert [] == bench.sent()


def test_a_handler_that_blocks_the_loop_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Whoever writes time.sleep in an async handler is told which handler it is.
    """
    monkeypatch.setattr(runners, "STALL_S", 0.2)
    said, told = threading.Event(), list[logging.LogRecord]()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "blocks the event loop" in record.getMessage():
                told.append(record)
                said.set()

    logging.getLogger(runners.__name__).addHandler(ear := Ear())

    @bench.app.effect(SendReceipt)
    async def careless(effect: SendReceipt, ctx: EffectContext) -> None:
        said.wait(40)

    bench.put(payload=encode(SendReceipt("o-1")))
    try:
        bench.work()
    finally:
        logging.getLogger(runners.__name__).removeHandler(ear)

    assert said.is_set()
    assert all("careless" in str(vars(record)["handler"]) for record in told)


def test_an_error_that_cannot_be_told_is_an_error(bench: Bench) -> None:
    """
    A handler may raise what raises when it is printed: it fails as with any other error, and others go on.
    """

    @bench.app.effect(ChargeCard, retry=Retry(attempts=2, first=0.01))
    def charge(effect: ChargeCard, ctx: EffectContext) -> None:
        if ctx.effect_id == "c-1:0":
            raise Unspeakable

    bench.put(id="c-1:0")
    bench.put(id="c-2:0")
    bench.work()

    (letter,) = bench.ports().dead_letters.list(kind="effect")
    assert ("c-1:0", 2) == (letter.command_id, letter.attempts)
    assert "Unspeakable: its message cannot be told: LookupError" == letter.error


def _exit(effect: ChargeCard) -> str:
    raise SystemExit(5)


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (_exit, "SystemExit: 5"),
        (lambda effect: None, "it must be text or a whole number"),
        (lambda effect: "\udcff", "it cannot be written as UTF-8"),
    ],
)
def test_a_bad_key_of_a_limit_is_a_failure_of_the_effect(bench: Bench, key: Any, error: str) -> None:
    """
    Whatever the function does: its effect becomes a dead letter, and others go on.
    """
    ran: list[str] = []

    @bench.app.effect(ChargeCard, limit=Limit(1, key=key))
    def charge(effect: ChargeCard, ctx: EffectContext) -> None: ...

    @bench.app.effect(SendReceipt)
    def send(effect: SendReceipt, ctx: EffectContext) -> None:
        ran.append(ctx.effect_id)

    bench.put(id="c-1:0")
    bench.put(id="c-2:0", payload=encode(SendReceipt("o-1")))
    bench.work()

    (letter,) = bench.ports().dead_letters.list(kind="effect")
    assert error in letter.error
    assert ["c-2:0"] == ran


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_a_result_whose_key_cannot_be_told_is_a_failure_of_the_effect(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """
    The key of a command is user code too: what it raises stops neither threads nor the loop.
    """
    if kind == "thread":

        @bench.app.effect(ChargeCard)
        def charge(effect: ChargeCard, ctx: EffectContext) -> ConfirmPayment:
            return ConfirmPayment(effect.order_id)
    else:

        @bench.app.effect(ChargeCard)
        async def charge_soon(effect: ChargeCard, ctx: EffectContext) -> ConfirmPayment:
            return ConfirmPayment(effect.order_id)

    def key_of(definition: Definition, command: Command) -> str:
        raise SystemExit(6)

    monkeypatch.setattr(Definition, "key_of", key_of)
    for number in range(3):
        bench.put(id=f"c-{number}:0")
    bench.work()

    errors = [letter.error for letter in bench.ports().dead_letters.list(kind="effect")]
    assert ["SystemExit: 6"] * 3 == errors


def test_where_no_more_threads_can_be_had_those_that_are_there_do_the_work(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    An operating system may refuse them; what was begun is run all the same, a little later.
    """
    ran: list[str] = []
    start, started = threading.Thread.start, Counter[str]()

    def limited(thread: threading.Thread) -> None:
        started[thread.name] += 1
        # Not even the first one can be had at first.
        if thread.name == "holdfast-effect" and started[thread.name] != 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    @bench.app.effect(ChargeCard)
    def charge(effect: ChargeCard, ctx: EffectContext) -> None:
        ran.append(ctx.effect_id)

    monkeypatch.setattr(threading.Thread, "start", limited)
    for number in range(3):
        bench.put(id=f"c-{number}:0")
    bench.work()

    assert ["c-0:0", "c-1:0", "c-2:0"] == sorted(ran)


def test_a_death_behind_a_dead_letter_does_not_change_what_it_says(bench: Bench) -> None:
    """
    Who finds all attempts used up finishes what a process has begun that died when it had given the effect up.
    """

    @bench.app.effect(ChargeCard, retry=QUICK)
    def charge(effect: ChargeCard, ctx: EffectContext) -> None:
        raise LookupError("no such card")

    bench.put()
    bench.work()
    assert bench.lane is not None
    bench.lane.close()
    letters = bench.ports().dead_letters.list(kind="effect")

    ticket = bench.put()
    for owner, former in (("d-1", ""), ("d-2", "d-1"), ("d-3", "d-2")):
        bench.ports().effects.begin([ticket], owner, {former})
    bench.work()

    assert ["LookupError: no such card"] == [letter.error for letter in letters]
    assert letters == bench.ports().dead_letters.list(kind="effect")


def test_an_effect_is_back_in_time_for_its_turn(bench: Bench) -> None:
    """
    What waits long for a rate does so in the schedule, but for the last moment: whoever is late puts others back.
    """

    @bench.app.effect(ChargeCard, rate=Rate(1, per=100))
    def charge(effect: ChargeCard, ctx: EffectContext) -> None: ...

    bench.put(id="c-1:0")
    bench.put(id="c-2:0")
    bench.work()

    ((turn, _),) = [one for one in bench.server.starts["ChargeCard:"] if one[1]]
    ((due_ms, _),) = bench.server.timers[PARTITION].values()
    assert turn - 1_000 < due_ms <= turn - 250


class Neighbour:
    """
    A living process that runs an effect of the partition that we serve by now, until we have looked at it often enough.
    """

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, looks: int = 4) -> None:
        self.bench = bench
        self.ticket = bench.put(id="c-1:0")
        self._looked = threading.Event()
        self._looks = 0
        bench.ports().membership.beat(controls.member("alive"), 60_000)
        bench.begin_elsewhere(self.ticket, "alive")
        living = MemoryMembership.living

        def counted(membership: MemoryMembership) -> list[Member]:
            self._looks += 1
            if self._looks == looks:
                self._looked.set()
            return living(membership)

        monkeypatch.setattr(MemoryMembership, "living", counted)

    def want(self) -> Want:
        """
        Return what the effect needs to begin.
        """
        handler = self.bench.app.handler_of(ChargeCard)
        assert handler is not None
        want = handler.want(f"order/3/o-1/{self.ticket.id}", ChargeCard("o-1", 100))
        assert want is not None
        return want

    def finish(self, before: Callable[[], None] = lambda: None) -> threading.Thread:
        """
        Finish the effect when it was looked at often enough, and free its place.
        """

        def run() -> None:
            self._looked.wait(60)
            before()
            self.bench.ports().effects.finish([self.ticket], "alive")
            self.bench.ports().slots.give_back([self.want()])

        thread = threading.Thread(target=run)
        thread.start()
        return thread


def test_a_place_of_what_runs_elsewhere_is_left_to_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Who now serves the partition of an effect that another still runs does not free its place in the limit.
    """
    ran: list[str] = []
    meanwhile: list[list[str]] = []

    @bench.app.effect(ChargeCard, limit=Limit(1))
    def charge(effect: ChargeCard, ctx: EffectContext) -> None:
        ran.append(ctx.effect_id)

    neighbour = Neighbour(bench, monkeypatch)
    bench.ports().slots.acquire([neighbour.want()], 60_000)
    bench.put(id="c-2:0")
    thread = neighbour.finish(lambda: meanwhile.append(list(ran)))
    bench.work()
    thread.join()

    assert [[]] == meanwhile
    assert ["c-2:0"] == ran


def test_what_runs_elsewhere_uses_up_no_rate(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    However often it is looked at: those that begin here need the turns.
    """

    @bench.app.effect(ChargeCard, rate=Rate(100, per=3_600))
    def charge(effect: ChargeCard, ctx: EffectContext) -> None: ...

    turns: list[int] = []
    thread = Neighbour(bench, monkeypatch).finish(
        lambda: turns.append(len(bench.server.starts["ChargeCard:"]))
    )
    bench.work()
    thread.join()

    assert [1] == turns


class Known:
    """
    An outbox that has nothing but what was read before, as after commits that began everything themselves.
    """

    def __init__(self, ticket: Ticket, entry: bytes) -> None:
        self.found = [Waiting(PARTITION, ticket.position, entry)]
        self.reads = 0
        self.read = threading.Event()

    def arrivals(self, *_: Any) -> list[Waiting]:
        self.reads += 1
        self.read.set()
        return self.found


def test_an_outbox_with_nothing_new_is_left_alone_until_there_is_news(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What no commit begins is read at once, however long it was not to be looked.
    """
    monkeypatch.setattr(effects, "LULL_MIN_S", 600.0)
    monkeypatch.setattr(effects, "LULL_MAX_S", 600.0)

    @bench.app.effect(ChargeCard, limit=Limit(1))
    def charge(effect: ChargeCard, ctx: EffectContext) -> None: ...

    ticket = bench.put(id="c-1:0")
    lane = bench.open()
    (job,) = lane.take(5.0) or []
    known: Any = Known(ticket, job.data)
    lane._ports = replace(lane._ports, reading=replace(bench.ports(), effects=known))
    monkeypatch.setattr(lane._hand, "_cursors", {PARTITION: START})
    assert lane.take(5.0) is None
    known.read.clear()
    taking = threading.Thread(target=lambda: lane.take(5.0))
    taking.start()
    assert not known.read.wait(0.2)

    assert [None] == lane.reserve(PARTITION, [controls.effect("c-2:0")])
    assert known.read.wait(60)
    assert known.reads == 2
    taking.join(60)


def test_effects_that_end_together_are_taken_out_together(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    One round trip for those that are done within a moment of each other; and at once for as many as make one worth it.
    """
    finished: list[int] = []
    honest = MemoryEffects.finish

    def finish(self: MemoryEffects, tickets: Any, *args: Any) -> list[bool]:
        finished.append(len(tickets))
        return honest(self, tickets, *args)

    monkeypatch.setattr(MemoryEffects, "finish", finish)
    monkeypatch.setattr(effect_desk, "GATHER_S", 600.0)
    monkeypatch.setattr(effect_desk, "GATHER_MAX", 7)

    @bench.app.effect(ChargeCard)
    def charge(effect: ChargeCard, ctx: EffectContext) -> None: ...

    for number in range(7):
        bench.put(id=f"c-{number}:0")
    bench.work()

    assert [7] == finished


def test_an_effect_that_ends_alone_is_not_kept_waiting(bench: Bench) -> None:
    """
    Nor the last ones of many.
    """

    @bench.app.effect(ChargeCard)
    def charge(effect: ChargeCard, ctx: EffectContext) -> None: ...

    for number in range(3):
        bench.put(id=f"c-{number}:0")
        bench.work()
