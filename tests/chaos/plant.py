"""
Plant: servers, lines, workers and clients of a chaos run, and everything that can be done to them.

Workers and clients reach both servers through proxies, so that their connections can be cut and stalled; whoever looks
on has lines of his own.
"""

import contextlib
import os
import random
import re
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import redis
import sqlalchemy as sa

from holdfast import Client, Supervisor, Unavailable, UsageError, connect
from holdfast.actors import wiring
from holdfast.actors.roster import roster
from holdfast.actors.wiring import Ports
from holdfast.brokers.keys import Keys
from holdfast.runtime.errors import HoldfastError
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.ports import Member, Transport
from tests.chaos.history import SLACK_MS, Errand, History, Line, Op, ticked
from tests.chaos.load import Load
from tests.chaos.mill import BELL, ENV_FOLDER, ENV_STORE, Milling, app
from tests.contract.proxy import Proxy
from tests.flow.house import ROOT, quick
from tests.flow.skew import ENV_SKEW
from tests.support.processes import gone
from tests.support.servers import RabbitServer, RedisServer

APP = "tests.chaos.mill:app"
#: Seconds by which the clock of a worker may be wrong. A clock that is a day ahead makes all ids a day old, of which an
#: instance remembers the last thousand.
SKEWS = (0.0, -600.0, 3.0, 7_200.0, -3.0, 0.0)
#: Seconds between two looks.
STEP_S = 0.2
#: How many effects of one partition are looked at.
MANY = 10_000


class Worker:
    """
    One worker process with its supervisor, and a clock that may be wrong.
    """

    def __init__(self, start: Callable[[float], Supervisor], skew: float) -> None:
        self._start = start
        self.supervisor = start(skew)
        self.lock = threading.Lock()

    def renew(self, skew: float) -> None:
        """
        Stop in good order, and start anew.
        """
        self.supervisor.stop()
        self.supervisor = self._start(skew)

    def stop(self) -> None:
        self.supervisor.stop()

    @property
    def master(self) -> int | None:
        """
        The process that looks after the worker itself.
        """
        process = self.supervisor._slots[0].process
        return None if process is None else process.pid


class Plant:
    """
    Everything of one run, from its servers to its checker; to be used in a `with`.
    """

    def __init__(
        self,
        folder: Path,
        transport: str,
        *,
        workers: int = 3,
        mills: int = 12,
        store: str = "sqlite",
        **settings: Any,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.redis = RedisServer(folder / "redis", appendfsync="always")
        self.rabbit = RabbitServer(folder / "rabbit") if transport == "rabbitmq" else None
        self.keys = [f"m-{number}" for number in range(mills)]
        self.log = folder / "workers.log"
        self._namespace = f"c{uuid.uuid4().hex[:8]}"
        self._count = workers
        self._store = store
        self._settings: dict[str, Any] = {"durability": "fsync", "snapshot_every": 20} | settings
        self._closing = contextlib.ExitStack()
        self.proxies: list[Proxy] = []
        self.workers: list[Worker] = []
        #: When all faults were over.
        self.peace: datetime | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opened:
            opened.enter_context(self.redis)
            amqp_url = ""
            if self.rabbit is not None:
                amqp_url = opened.enter_context(self.rabbit).url
            self.direct = quick(self._namespace, self.redis.url, amqp_url, **self._settings)
            at_work = self._through_proxies(opened)
            self.at_home = self._through_proxies(opened)
            self._ports = wiring.open_ports(self.direct)
            opened.callback(self._ports.close)
            self._transport = wiring.open_transport(self.direct)
            self.redis_client = opened.enter_context(self.redis.client())
            self.inspector = opened.enter_context(connect(app, self.direct))
            self.client = opened.enter_context(connect(app, self.at_home))

            def start(skew: float) -> Supervisor:
                own = {ENV_FOLDER: str(self.folder), ENV_STORE: self._store, ENV_SKEW: str(skew)}
                with _environment(own):
                    supervisor = Supervisor(
                        APP,
                        at_work,
                        processes=1,
                        folder=ROOT,
                        log_file=self.log,
                        preload="tests.flow.skew",
                    )
                supervisor.start()
                return supervisor

            opened.callback(self._stop_workers)
            for number in range(self._count):
                self.workers.append(Worker(start, SKEWS[number % len(SKEWS)]))
            self._closing = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _through_proxies(self, opened: contextlib.ExitStack) -> Any:
        """
        Return settings that lead through new proxies.
        """
        line = opened.enter_context(Proxy(self.redis.port))
        self.proxies.append(line)
        redis_url = self.redis.url.replace(f":{self.redis.port}/", f":{line.port}/")
        amqp_url = ""
        if self.rabbit is not None:
            line = opened.enter_context(Proxy(self.rabbit.port))
            self.proxies.append(line)
            amqp_url = self.rabbit.url.replace(f":{self.rabbit.port}/", f":{line.port}/")
        return quick(self._namespace, redis_url, amqp_url, **self._settings)

    def _stop_workers(self) -> None:
        threads = [threading.Thread(target=worker.stop) for worker in self.workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    # -- looking on

    @property
    def per_key(self) -> int:
        """
        How many commands to one key may be on their way at once, so that they still arrive in order.
        """
        return 4 if self.rabbit is not None else 1

    def members(self) -> list[Member]:
        """
        Return the living workers, as far as Redis can be asked.
        """
        try:
            return [member for member in self._ports.membership.living() if not gone(member.pid)]
        except HoldfastError:
            return []

    def await_workers(self, patience_s: float) -> bool:
        """
        Wait until all workers live, and every partition is served in every pool by one of them.
        """

        def shared() -> bool:
            living = {member.id for member in self.members()}
            owners = {
                owner
                for pool in ("command", "effect", "timer", "projection")
                for owner in self._ports.membership.owners(pool)
            }
            return len(living) == self._count and owners <= living

        return self._eventually(shared, patience_s)

    def now_is_peace(self) -> None:
        """
        Note when all faults were over, by Redis's clock, which ticks go by.
        """
        seconds, micros = self.redis_client.time()
        self.peace = datetime.fromtimestamp(seconds + micros / 1e6, tz=UTC)

    def await_tick(self, patience_s: float) -> None:
        """
        Wait until the schedule has gone on since; whether it has is for the checker to say.
        """
        peace = self.peace
        assert peace is not None

        def comes() -> bool:
            log = self.inspector.history(Milling, BELL)
            return ticked((event for record in log for event in record.events), peace)

        self._eventually(comes, patience_s)

    def await_idle(self, patience_s: float) -> bool:
        """
        Wait until nothing is left to be done, but the ticks of a schedule that is to come.
        """

        return self._eventually(
            lambda: idle(self.inspector, self._ports, self._transport, self.direct.partitions), patience_s
        )

    def _eventually(self, condition: Callable[[], bool], patience_s: float) -> bool:
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            with contextlib.suppress(Unavailable):
                if condition():
                    return True
            time.sleep(STEP_S)
        return False

    def decided(self) -> int:
        """
        Return how many records there are of all mills.
        """
        return sum(len(log) for log in self.logs().values())

    def logs(self) -> dict[str, list[Any]]:
        return dict(self.inspector.histories(Milling, [*self.keys, BELL]))

    def history(self, ops: Sequence[Op], last: Sequence[Op]) -> History:
        """
        Return everything that is to be checked.
        """
        letters = self.inspector.dead_letters.list(limit=MANY)
        return History(
            ops,
            self.logs(),
            dead={letter.command_id for letter in letters if letter.kind == "command"},
            errands=read_errands(self.folder),
            lines=read_lines(self.folder, self._store, self.inspector, self.redis_client),
            every=timedelta(seconds=1),
            peace=self.peace,
            last=last,
        )

    def strange_letters(self) -> list[str]:
        """
        Return dead letters that nobody meant to make.
        """
        return strange_letters(self.inspector)

    def surprises(self) -> Counter[str]:
        """
        Return the errors that workers did not expect, and how often each came.
        """
        said = self.log.read_text(errors="replace") if self.log.exists() else ""
        found: Counter[str] = Counter()
        for trace in re.split(r"Traceback \(most recent call last\):", said)[1:]:
            raised = re.search(r"^[A-Za-z_.]+(Error|Exception|Interrupt|Exit)?\b.*$", trace, re.MULTILINE)
            found[raised[0][:200] if raised else trace.strip()[:200]] += 1
        return found


def idle(client: Client, ports: Ports, transport: Transport, partitions: int) -> bool:
    """
    Say whether nothing is left to be done for any mill.
    """
    waiting = [post for post in roster(ports.backlog, ports.membership, transport) if post.waiting]
    retries = [line for partition in range(partitions) for line in ports.effects.pending(partition, MANY)]
    return not waiting and not retries and not client.timers(Milling, limit=MANY)


def hush(client: Client, patience_s: float) -> None:
    """
    Have no more ticks come: without them nothing happens any more. Who asks again, since nobody answered in time, may be
    told that he was heard the first time.
    """
    until = time.monotonic() + patience_s
    while True:
        try:
            client.schedules.pause("pulse")
        except Unavailable:
            if time.monotonic() > until:
                raise
        except UsageError as refused:
            if "paused already" not in str(refused):
                raise
            return
        else:
            return


def strange_letters(client: Client) -> list[str]:
    """
    Return dead letters that nobody meant to make.
    """
    return [
        f"a dead letter of kind {letter.kind}: {letter.error}"
        for letter in client.dead_letters.list(limit=MANY)
        if "the road is closed" not in letter.error
    ]


def read_errands(folder: Path) -> list[Errand]:
    """
    Return the calls that handlers have left lines of.
    """
    path = folder / "errands"
    # Behind the last end of a line there may be half of one.
    rows = [line.split(" ", 2) for line in path.read_text().split("\n")[:-1]] if path.exists() else []
    return [Errand(mark, int(attempt), key) for mark, attempt, key in rows]


def read_lines(folder: Path, store: str, client: Client, redis_client: redis.Redis) -> dict[str, list[Line]]:
    """
    Return the read model: by mill, the events in the order in which they were applied.
    """
    found: dict[str, list[Line]] = {}
    rows = list(_rows(folder, store, client, redis_client))
    still = standstills(redis_client)
    for mill, event, position in rows:
        _, _, feed_id = position.partition("/")
        at_ms = int(feed_id.partition("-")[0] or 0)
        known = not any(since <= at_ms <= until for since, until in still)
        found.setdefault(mill, []).append(Line(event, at_ms if known else 0))
    return found


def standstills(redis_client: redis.Redis) -> list[tuple[int, int]]:
    """
    Return when Redis was long in the middle of a script, as where its process stood still: since and until which
    millisecond. What was written then has the time of its end, while its timers count from its beginning.
    """
    return [
        # It is noted in whole seconds when each came to its end.
        ((one["start_time"] - 1) * 1_000 - one["duration"] // 1_000, (one["start_time"] + 1) * 1_000)
        for one in redis_client.slowlog_get(MANY)
        if one["duration"] > SLACK_MS * 1_000
    ]


def _rows(
    folder: Path, store: str, client: Client, redis_client: redis.Redis
) -> Iterator[tuple[str, str, str]]:
    if store == "redis":
        for key in redis_client.scan_iter(match=client.projections.key("board", "lines:*")):
            for line in redis_client.lrange(key, 0, -1):
                event, _, position = str(line).partition(" ")
                yield str(key).rpartition(":")[2], event, position
        return
    engine = sa.create_engine(f"sqlite:///{folder}/board.db", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT mill, event, position FROM lines ORDER BY id"))
        yield from ((mill, event, position) for mill, event, position in rows)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """
    Have the environment say something else for a moment.
    """
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# -- what can be done to it


class Mischief:
    """
    Does things to a plant at random, some of them at the same time.
    """

    #: What there is, and how often.
    KINDS = {  # noqa: RUF012 - a constant
        "kill a worker": 4,
        "kill a master": 1,
        "stop a worker past its lease": 3,
        "renew a worker": 2,
        "kill redis": 1,
        "restart redis": 1,
        "pause redis": 1,
        "forget scripts": 1,
        "cut a line": 4,
        "cut a line in a message": 2,
        "stall a line": 3,
        "take a line away": 1,
        "steal leases": 4,
    }
    RABBIT_KINDS = {"restart rabbitmq": 1, "kill rabbitmq": 1, "pause rabbitmq": 1}  # noqa: RUF012 - a constant

    def __init__(self, plant: Plant, choice: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self._plant = plant
        self._choice = choice
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._redis_lock = threading.Lock()
        self._rabbit_lock = threading.Lock()
        self._kinds = self.KINDS | (self.RABBIT_KINDS if plant.rabbit is not None else {})

    def step(self, kind: str | None = None) -> None:
        """
        Do one thing, and let it take its time.
        """
        kind = kind or self._choice.choices(list(self._kinds), list(self._kinds.values()))[0]
        work = getattr(self, f"_{kind.replace(' ', '_')}")
        # What is chosen is chosen here: threads would choose in no order that a seed decides.
        choice = random.Random(self._choice.random())

        def run() -> None:
            try:
                if work(choice) is not False:
                    self.done[kind] += 1
            except (redis.RedisError, HoldfastError, ProcessLookupError):
                pass  # something else has just happened to it
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=run, name=kind)
        self._threads.append(thread)
        thread.start()

    def end(self) -> None:
        """
        Wait until everything is repaired.
        """
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    # -- workers

    def _member(self, choice: random.Random) -> Member | None:
        members = self._plant.members()
        return choice.choice(members) if members else None

    def _kill_a_worker(self, choice: random.Random) -> bool:
        member = self._member(choice)
        if member is None:
            return False
        os.kill(member.pid, signal.SIGKILL)
        return True

    def _kill_a_master(self, choice: random.Random) -> bool:
        master = choice.choice(self._plant.workers).master
        if master is None:
            return False
        os.kill(master, signal.SIGKILL)
        return True

    def _stop_a_worker_past_its_lease(self, choice: random.Random) -> bool:
        member = self._member(choice)
        if member is None:
            return False
        os.kill(member.pid, signal.SIGSTOP)
        try:
            time.sleep(self._plant.direct.member_ttl_ms / 1000 + choice.uniform(0.5, 2.5))
        finally:
            os.kill(member.pid, signal.SIGCONT)
        return True

    def _renew_a_worker(self, choice: random.Random) -> bool:
        worker = choice.choice(self._plant.workers)
        with _alone(worker.lock) as alone:
            if alone:
                worker.renew(choice.choice(SKEWS))
            return alone

    # -- servers

    def _kill_redis(self, choice: random.Random) -> bool:
        with _alone(self._redis_lock) as alone:
            if alone:
                self._plant.redis.kill()
                time.sleep(choice.random())
                self._plant.redis.start()
            return alone

    def _restart_redis(self, choice: random.Random) -> bool:
        with _alone(self._redis_lock) as alone:
            if alone:
                self._plant.redis.stop()
                time.sleep(choice.random() * 2)
                self._plant.redis.start()
            return alone

    def _pause_redis(self, choice: random.Random) -> bool:
        with _alone(self._redis_lock) as alone:
            if alone:
                self._plant.redis.pause()
                time.sleep(choice.uniform(0.3, 3))
                self._plant.redis.cont()
            return alone

    def _forget_scripts(self, _choice: random.Random) -> None:
        self._plant.redis_client.script_flush()

    def _restart_rabbitmq(self, choice: random.Random) -> bool:
        with _alone(self._rabbit_lock) as alone:
            if alone and self._plant.rabbit is not None:
                self._plant.rabbit.stop()
                time.sleep(choice.random())
                self._plant.rabbit.start()
            return alone

    def _kill_rabbitmq(self, choice: random.Random) -> bool:
        with _alone(self._rabbit_lock) as alone:
            if alone and self._plant.rabbit is not None:
                self._plant.rabbit.kill()
                time.sleep(choice.random())
                self._plant.rabbit.start()
            return alone

    def _pause_rabbitmq(self, choice: random.Random) -> bool:
        with _alone(self._rabbit_lock) as alone:
            if alone and self._plant.rabbit is not None:
                self._plant.rabbit.pause()
                time.sleep(choice.uniform(0.3, 4))
                self._plant.rabbit.cont()
            return alone

    # -- lines

    def _cut_a_line(self, choice: random.Random) -> None:
        choice.choice(self._plant.proxies).cut()

    def _cut_a_line_in_a_message(self, choice: random.Random) -> None:
        choice.choice(self._plant.proxies).cut_after(choice.randint(1, 5_000))

    def _stall_a_line(self, choice: random.Random) -> None:
        line = choice.choice(self._plant.proxies)
        line.hold()
        time.sleep(choice.uniform(0.2, 4))
        line.release()

    def _take_a_line_away(self, choice: random.Random) -> None:
        line = choice.choice(self._plant.proxies)
        line.down()
        time.sleep(choice.uniform(0.2, 3))
        line.up()

    # -- leases

    def _steal_leases(self, choice: random.Random) -> None:
        plant = self._plant
        keys, settings = Keys(plant.direct.namespace), plant.direct
        refs = [
            Ref(partition_of("mill", key, settings.partitions), "mill", key)
            for key in choice.sample(plant.keys, min(4, len(plant.keys)))
        ]
        for ref in refs:
            if plant.redis_client.exists(keys.actor(ref)):
                plant.redis_client.hset(keys.actor(ref), "lease_until", 0)
        ports = wiring.open_ports(settings)
        try:
            ports.journal.open(refs, f"thief-{choice.random()}")
        finally:
            ports.close()


@contextlib.contextmanager
def _alone(lock: threading.Lock) -> Iterator[bool]:
    """
    Say whether nobody else does something to this.
    """
    alone = lock.acquire(blocking=False)
    try:
        yield alone
    finally:
        if alone:
            lock.release()


__all__ = ["Load", "Mischief", "Plant"]
