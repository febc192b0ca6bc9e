"""The world of one run: its servers, its machines, its senders, and what goes wrong, all drawn from one seed.

    senders -> queues -> machines (command, effect, timer, projection) -> journal, outbox, timers, feed
                             ^ die, stand still, are cut off                      ^ seen by the witness

Trouble goes on for a while; then everything is left to come to rest. Stretches of time in which nothing is to be done
are leapt over.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from random import Random

import msgspec

from holdfast.actors.simulation.machine import Machine, is_expected
from holdfast.actors.simulation.pace import BEGINNING, SimulatedClock, SimulatedEvent
from holdfast.actors.simulation.stage import staged
from holdfast.actors.simulation.store import MemoryStore
from holdfast.actors.simulation.strands import Carrier, Crash, Scheduler, Strand
from holdfast.actors.simulation.transport import SimulatedConsumer, SimulatedPublisher
from holdfast.actors.simulation.trouble import Faults
from holdfast.actors.simulation.witness import BrokenPromise, Name, Witness
from holdfast.brokers.memory import MemoryPublisher, MemoryServer
from holdfast.runtime import faults as points
from holdfast.runtime.app import App
from holdfast.runtime.clock import to_ms
from holdfast.runtime.codec import encode, encode_envelope, encode_message
from holdfast.runtime.config import Settings
from holdfast.runtime.control import Control, Pause, Resume
from holdfast.runtime.errors import HoldfastError, Unavailable
from holdfast.runtime.faults import Point
from holdfast.runtime.feed import Reader, place_of
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.message import Command, Envelope
from holdfast.runtime.timetable import SCHEDULE_TYPE

#: How often it is looked whether anything is left to do.
LOOK_S = 0.2
#: How long trouble goes on at most, not counting what is leapt over.
TROUBLE_S = 6.0
#: How long everything may take to come to rest after that, not counting what is leapt over.
REST_S = 90.0
#: How long a sender waits for each command at most before the next.
GAP_S = 0.2
#: How likely a sender waits much longer, up to how long.
LONG_GAP, LONG_GAP_S = 0.15, 1_800.0

#: How long schedules may take to be made when the first try failed.
SETTLE_S = 3.5
#: How likely a process dies or stands still each time that it could, as long as some of that is left for the run.
STRIKE = 0.004
#: How long a process stands still at most, and after what time its connections are taken for dead.
STALL_S = 4.0
#: How long an instance is paused at most.
PAUSE_S = 2.0
SILENCE_S = 0.8

_PARTITIONS = (1, 2, 3)
_SNAPSHOTS = (2, 5, 500)
_BATCHES = (1, 5, 500)
_LEASES_MS = (300, 2_000, 10_000)


@functools.cache
def _settings(partitions: int, snapshot_every: int, batch_max: int, lease_ms: int) -> Settings:
    return Settings.of(
        redis_url="memory://",
        namespace="simulation",
        partitions=partitions,
        heartbeat_ms=400,
        member_ttl_ms=1_500,
        lease_ms=lease_ms,
        snapshot_every=snapshot_every,
        batch_max=batch_max,
        drain_s=1.0,
        payload_bytes_max=1024 * 1024,
    )


class World:
    """One run."""

    def __init__(
        self,
        app: App,
        seed: int,
        faults: Faults,
        lasts: timedelta,
        carried_by: Carrier | None = None,
    ) -> None:
        self.random = Random(seed)
        self.chance: Callable[[], float] = self.random.random
        self.seed = seed
        self.faults = faults.drawn(self.random)
        self.scheduler = Scheduler(self.random, carried_by)
        self.clock = SimulatedClock(self.scheduler)
        self.settings = _settings(
            self.random.choice(_PARTITIONS),
            self.random.choice(_SNAPSHOTS),
            self.random.choice(_BATCHES),
            self.random.choice(_LEASES_MS),
        )
        self.server = MemoryServer(self.settings.partitions, self.clock)
        self.counts: Counter[str] = Counter()
        self.trace: list[tuple[float, str, str]] = []
        self.witness = Witness(self)
        self.publishers: list[SimulatedPublisher] = []
        self.consumers: list[SimulatedConsumer] = []
        #: Reply addresses, and whose they are.
        self.callers: dict[str, Name] = {}
        #: Whether nothing goes wrong any more.
        self.calm = False
        self.app = staged(app, self)
        self._lasts_s = lasts.total_seconds()
        self._calm_at = self.random.uniform(0.5, TROUBLE_S)
        self._crashes = self.faults.crashes
        self._stalls = self.faults.stalls
        self._strike_chance = STRIKE if self._crashes or self._stalls else 0.0
        self._signals: dict[str, list[Strand]] = {}
        self._machines: list[Machine] = []
        #: When whoever was to make the schedules has had another try.
        self._settled_at = 0.0
        self._named = 0
        self._person = Machine(self, "a person", mortal=False)
        #: What the director does, by the scheduler's time; and what senders send, by the time that they send it.
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._plan: deque[tuple[float, int, Command]] = deque()
        self.senders: list[Sender] = []
        self._numbers = 0

    # -- what is told

    @property
    def here(self) -> str:
        """Who goes at the moment."""
        host = self.scheduler.current.host
        return host.name if isinstance(host, Machine) else self.scheduler.current.name

    def tell(self, who: str, what: str) -> None:
        """Add a line to the trace."""
        self.trace.append((self.scheduler.now + self.clock.leapt_s, who, what))

    def tag(self, envelope: Envelope) -> str:
        """Return the name of the command in an envelope."""
        try:
            return str(msgspec.msgpack.decode(envelope.payload)["type"])
        except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError):
            return "a command"

    def unexpected(self, machine: Machine, where: str, error: Exception) -> None:
        """Take an error that came out of a lane."""
        if not is_expected(error) and not machine.dead:
            message = f"{machine.name}: {where} failed: {type(error).__name__}: {error}"
            broken = BrokenPromise(message)
            broken.__cause__ = error
            self.scheduler.fail(broken)
            raise Crash

    # -- trouble at gates and points

    def before(self, machine: Machine, label: str, away: type[HoldfastError] | None = Unavailable) -> None:
        """Pass the gate on the way to a server; `away` is what is raised where that can fail."""
        if machine.dead:
            raise Crash
        self._trouble(machine, label, away, "before")

    def after(self, machine: Machine, label: str, away: type[HoldfastError] | None = Unavailable) -> None:
        """Pass the gate on the way back."""
        self._trouble(machine, label, away, "after")

    def _trouble(self, machine: Machine, label: str, away: type[HoldfastError] | None, when: str) -> None:
        chance = self.chance()
        if self.calm:
            if chance < 0.1:
                self._let_others()
            return
        faults = self.faults
        if chance < self._strike_chance:
            if machine.mortal:
                self._strike(machine, f"{when} {label}")
            return
        chance -= self._strike_chance
        if chance < faults.unavailable:
            if away is not None:
                self.counts["calls failed"] += 1
                self.tell(machine.name, f"gets no answer: {label}, {when} it took effect")
                message = f"the simulation had {label} fail"
                raise away(message)
            return
        if chance < faults.unavailable + faults.delays:
            self._let_others()
        if machine.dead:
            raise Crash

    def _strike(self, machine: Machine, where: str) -> None:
        """Have a process die here, or stand still."""
        if self._crashes > self._stalls:
            self._crashes -= 1
            self.crash(machine, where)
            raise Crash
        if self._stalls > 0:
            self._stalls -= 1
            self._stand_still(machine, where)
            self._let_others()

    def _stand_still(self, machine: Machine, where: str) -> None:
        seconds = self.chance() * STALL_S
        self.tell(machine.name, f"STANDS STILL for {seconds:.2f} s {where}")
        self.counts["stalls"] += 1
        machine.stalled_until = self.scheduler.now + seconds
        if seconds > SILENCE_S:
            # Its connections are taken for dead.
            for consumer in self.consumers:
                if consumer.of(machine):
                    self.scheduler.call_at(self.scheduler.now + SILENCE_S, consumer.lose)

    def _let_others(self) -> None:
        if asyncio._get_running_loop() is not None:
            return  # a coroutine does not wait in the middle of a step
        kind = self.chance()
        if kind < 0.7:
            self.scheduler.pause()
        else:
            self.scheduler.wait(self.chance() * (0.02 if kind < 0.97 else 0.5))

    def _point(self, point: Point) -> None:
        machine = self.scheduler.current.host
        if isinstance(machine, Machine):
            self.before(machine, f"point {point}", None)

    def crash(self, machine: Machine, where: str) -> None:
        """Have a process die."""
        if machine.dead:
            return
        self.tell(machine.name, f"DIES {where}")
        self.counts["crashes"] += 1
        self._gone(machine)

    def _gone(self, machine: Machine) -> None:
        """Have a process be no more; the servers notice sooner or later, and another begins."""
        machine.dead = True
        self.scheduler.doom(machine)
        for consumer in self.consumers:
            if consumer.of(machine):
                self.scheduler.call_at(self.scheduler.now + self.chance() * 1.0, consumer.close)
        self._at(self.scheduler.now + self.chance() * 2.0, self._begin)

    # -- waiting for servers

    def wait_for(self, signal: str, seconds: float) -> None:
        """Wait until something of a kind may have come, or for so long."""
        here = self.scheduler.current
        waiting = self._signals.setdefault(signal, [])
        waiting.append(here)
        try:
            self.scheduler.wait(seconds)
        finally:
            waiting.remove(here)

    def signal(self, signal: str) -> None:
        """Wake whoever waits for something of a kind."""
        for strand in self._signals.get(signal, ()):
            self.scheduler.wake(strand)

    # -- time, for handlers

    def takes(self) -> float:
        """Return how long an attempt takes."""
        if self.calm or self.chance() < 0.5:
            return 0.0
        return self.chance() * self.faults.slow_effects_s

    # -- the run

    def run(self, senders: Sequence[Sequence[Command]]) -> None:
        """Run to the end, and have the witness say that nothing is amiss on the way.

        Raises:
            BrokenPromise: Something is.
        """
        with self._armed():
            try:
                self._set_up(senders)
                self._direct()
            except BaseException:
                self.scheduler.ending = True
                raise
            finally:
                for machine in self._machines:
                    machine.dead = True
                self.scheduler.finish()

    @contextmanager
    def _armed(self) -> Iterator[None]:
        """Have every named point of the code be a place where a process may die, and errors in the log be failures."""
        armed = dict(points._armed)
        log = logging.getLogger("holdfast")
        level, propagate, watch = log.level, log.propagate, _Errors(self)
        log.setLevel(logging.ERROR)
        log.propagate = False
        log.addHandler(watch)
        for point in Point:
            points.arm(point, functools.partial(self._point, point))
        try:
            yield
        finally:
            points._armed.clear()
            points._armed.update(armed)
            log.removeHandler(watch)
            log.setLevel(level)
            log.propagate = propagate

    def _set_up(self, senders: Sequence[Sequence[Command]]) -> None:
        for definition in self.app.projections:
            if isinstance(definition.projection.store, MemoryStore):
                definition.projection.store.clear()
        plan: list[tuple[float, int, Command]] = []
        for number, commands in enumerate(senders):
            self.senders.append(Sender(self, number))
            at = self.chance() * GAP_S
            for command in commands:
                plan.append((at, number, command))
                long = self.chance() < LONG_GAP
                at += self.chance() * (min(LONG_GAP_S, self._lasts_s) if long else GAP_S)
        self._plan.extend(sorted(plan, key=lambda one: one[:2]))
        for _ in range(self.random.choice((1, 2, 2, 2, 3))):
            self._begin()
        kinds = (
            (self.faults.stalls / 2, self._stall),
            (self.faults.handovers, self._hand_over),
            (self.faults.stolen_leases, self._steal),
            (self.faults.lost_connections, self._cut),
            (self.faults.garbage, self._litter),
            (self.faults.pauses, self._pause),
        )
        for count, what in kinds:
            for _ in range(int(count)):
                self._at(self.random.uniform(0, self._calm_at), what)

    def _at(self, at: float, what: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._events, (at, self._numbers, what))

    def _begin(self) -> None:
        self._named += 1
        skew = self.random.uniform(-1, 1) * self.faults.clock_skew_s
        machine = Machine(self, f"w{self._named}", skew)
        self.tell(machine.name, "begins")
        self._machines.append(machine)
        self.scheduler.spawn(lambda: self._boot(machine), f"{machine.name} boots", machine)

    def _boot(self, machine: Machine) -> None:
        machine.boot()

    def _direct(self) -> None:
        """Have things happen until nothing is left to do."""
        rested = self.scheduler.now
        while True:
            self.scheduler.wait(self._until_something())
            if self.scheduler.failure is not None:
                raise self.scheduler.failure
            now = self.scheduler.now
            while self._events and self._events[0][0] <= now:
                heapq.heappop(self._events)[2]()
            while self._plan and self._plan[0][0] <= self._wall_s():
                _, sender, command = self._plan.popleft()
                self.senders[sender].send(command)
            if not self.calm and now >= self._calm_at:
                self._calm()
            if not self._idle():
                if now - rested > REST_S + (0 if self.calm else TROUBLE_S):
                    message = f"{REST_S:g} s after the last trouble there is still work: {self._left()}"
                    raise BrokenPromise(message)
                continue
            rested = now
            upcoming = self._next_s()
            if upcoming is not None:
                self._leap(upcoming)
            elif not self.calm:
                self._calm()
            elif not self._events and now >= self._settled_at:
                return

    def _until_something(self) -> float:
        """Return how long it is until the director has something to do, or is to look around."""
        upcoming = [self._plan[0][0] - self._wall_s()] if self._plan else []
        if self._events:
            upcoming.append(self._events[0][0] - self.scheduler.now)
        return min(LOOK_S, max(0.0, min(upcoming, default=LOOK_S)))

    def _calm(self) -> None:
        """Have nothing go wrong any more, and everybody be there."""
        self.calm = True
        if self.app.schedules:
            self._settled_at = self.scheduler.now + SETTLE_S
        self.tell("director", "from here on nothing goes wrong")
        for machine in self._machines:
            machine.stalled_until = 0.0

    def _wall_s(self) -> float:
        return self.scheduler.now + self.clock.leapt_s

    @property
    def last_ms(self) -> int:
        """Until when timers are waited for, in milliseconds since 1970."""
        return to_ms(BEGINNING) + int(self._lasts_s * 1000)

    def _next_s(self) -> float | None:
        """Return when something is to be done that is not due yet; None where nothing is, or too late to wait for."""
        found = [self._plan[0][0]] if self._plan else []
        dues = [due for timers in self.server.timers.values() for due, _ in timers.values()]
        parked = self.server.reading.parked.values()
        dues += [one.due_ms for ones in parked for one in ones.values() if one.due_ms]
        found += [(due - to_ms(BEGINNING)) / 1000 for due in dues if due <= self.last_ms]
        return min(found) if found else None

    def _leap(self, at: float) -> None:
        """Leap over a time in which nothing happens: everybody lives on, and nothing is missed."""
        far = at - self._wall_s() - self.chance() * 0.01
        if far <= 0:
            return
        self.clock.leapt_s += far
        for name, (member, until) in list(self.server.members.items()):
            self.server.members[name] = (member, until + int(far * 1000))
        self.signal("timers")

    def _idle(self) -> bool:
        """Return whether nothing is left to do before some timer is due."""
        server = self.server
        if any(server.queues.values()) or any(server.effects.values()) or any(server.due.values()):
            return False
        if any(one.busy for one in self.senders) or any(one.waiting for one in self.publishers):
            return False
        if any(one.waiting for one in self.consumers) or not any(not one.dead for one in self._machines):
            return False
        return not any(self._behind(definition.name) for definition in self.app.projections)

    def _behind(self, projection: str) -> bool:
        reader = Reader(projection, 1)
        for partition, readers in self.server.readers.items():
            state = self.server.reading.readers.get((partition, reader))
            end = self.server.feed_ends.get(partition, "0-0")
            if state is None or state.walk is not None or place_of(readers[str(reader)]) < place_of(end):
                return True
        return False

    def _left(self) -> str:
        server = self.server
        found = {
            "commands in queues": sum(map(len, server.queues.values())),
            "commands not acknowledged": sum(one.waiting for one in self.consumers),
            "effects": sum(map(len, server.effects.values())),
            "timers that are due": sum(map(len, server.due.values())),
            "messages not confirmed": sum(one.waiting for one in self.publishers),
            "senders": sum(one.busy for one in self.senders),
            "projections": sum(self._behind(definition.name) for definition in self.app.projections),
        }
        return ", ".join(f"{count} {name}" for name, count in found.items() if count) or "nobody lives"

    # -- what the director does

    def _living(self) -> list[Machine]:
        return [machine for machine in self._machines if not machine.dead and not machine.stopping]

    def _stall(self) -> None:
        living = self._living()
        if living and not self.calm:
            self._stand_still(self.random.choice(living), "somewhere")

    def _hand_over(self) -> None:
        living = self._living()
        if self.chance() < 0.4 or not living:
            self._begin()
            return
        machine = self.random.choice(living)
        self.tell(machine.name, "is stopped")
        self.counts["clean stops"] += 1

        def stop() -> None:
            machine.stop()
            self.tell(machine.name, "has stopped")
            self._gone(machine)

        self.scheduler.spawn(stop, f"{machine.name} stops", machine)

    def _steal(self) -> None:
        found = [ref for ref, one in self.server.instances.items() if one.owner]
        if found and not self.calm:
            ref = self.random.choice(found)
            instance = self.server.instances[ref]
            self.tell("director", f"steals the lease of {ref.workflow}/{ref.key}")
            self.counts["leases stolen"] += 1
            instance.token += 1
            instance.owner = "nobody"
            instance.lease_until_ms = self.server.now_ms() + int(self.chance() * 2_000)

    def _cut(self) -> None:
        living = [one for one in self.consumers if not one.gone]
        if living and not self.calm:
            self.random.choice(living).lose()

    def _pause(self) -> None:
        found = [
            ref
            for ref, one in self.server.instances.items()
            if ref.workflow != SCHEDULE_TYPE and one.run_state is RunState.RUNNING
        ]
        if found and not self.calm:
            ref = self.random.choice(found)
            self.counts["pauses"] += 1
            self._control(ref, Pause("the simulation wants it"))
            self._at(self.scheduler.now + self.chance() * PAUSE_S, lambda: self._control(ref, Resume()))

    def _control(self, ref: Ref, control: Control) -> None:
        self._numbers += 1
        envelope = Envelope(
            f"person.{self._numbers}", ref.workflow, ref.key, encode(control), to_ms(self.clock.now())
        )
        body = encode_envelope(envelope)
        self.witness.published(self._person, ref.partition, body)
        MemoryPublisher(self.server).publish(ref.partition, body)
        self.witness.confirmed(body)
        self.signal("queue")

    def _litter(self) -> None:
        partition = int(self.chance() * self.settings.partitions)
        self.tell("director", f"puts garbage into queue {partition}")
        self.counts["garbage"] += 1
        self._numbers += 1
        MemoryPublisher(self.server).publish(partition, b"\xc1garbage %d" % self._numbers)
        self.signal("queue")


class Sender:
    """A client that sends commands in order, each until it is confirmed."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._name = f"sender {number}"
        self._machine = Machine(world, self._name, mortal=False)
        self._publisher = self._machine.transport.publisher()
        self._news = SimulatedEvent(world.scheduler)
        self._todo: deque[Command] = deque()
        self._sent = 0
        self._number = number
        #: What was sent to each instance, in order, and confirmed.
        self.confirmed: list[Name] = []
        world.scheduler.spawn(self._run, self._name, self._machine)

    @property
    def busy(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._todo)

    def send(self, command: Command) -> None:
        """Send a command after those before it."""
        self._todo.append(command)
        self._news.set()

    def _run(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            while self._todo:
                self._send(self._todo[0])
                self._todo.popleft()

    def _send(self, command: Command) -> None:
        world, self._sent = self._world, self._sent + 1
        definition = world.app.definition_for(command)
        key = definition.key_of(command)
        name = Name(definition.type, key, f"s{self._number}.{self._sent}")
        address = f"{self._name}/{self._sent}" if world.chance() < 0.6 else None
        if address is not None:
            world.callers[address] = name
        payload = encode_message(command, str(name), world.settings.payload_bytes_max)
        body = encode_envelope(
            Envelope(name.id, name.workflow, name.key, payload, to_ms(world.clock.now()), address)
        )
        partition = partition_of(name.workflow, name.key, world.settings.partitions)
        world.counts["commands sent"] += 1
        while True:
            try:
                self._publisher.publish(partition, body).result()
                break
            except HoldfastError:
                world.scheduler.wait(0.05)
        self.confirmed.append(name)
        if not world.calm and world.chance() < world.faults.lost_confirms / 2:
            # Who gets no answer in time asks again.
            world.tell(self._name, f"sends {name} once more")
            try:
                self._publisher.publish(partition, body).result()
            except HoldfastError:
                return


class _Errors(logging.Handler):
    """Takes an error that was logged with its traceback for what it is: something that nobody thought of."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not is_expected(error):
            broken = BrokenPromise(f"{record.getMessage()}: {type(error).__name__}: {error}")
            broken.__cause__ = error
            self._world.scheduler.fail(broken)
