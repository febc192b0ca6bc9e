"""
House: what a flow test needs around it. Settings with short times, worker processes, a client, and questions to both
servers about what goes on.
"""

import contextlib
import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from holdfast import Client, Settings, Supervisor, connect
from holdfast.actors import wiring
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.ports import Member
from tests.flow.checker import wrongs
from tests.flow.senders import Senders, wrong_answers
from tests.flow.shop import NextLedger, next_app
from tests.support.processes import eventually, gone

ROOT = Path(__file__).parent.parent.parent
APP = "tests.flow.shop:app"
NEXT_APP = "tests.flow.shop:next_app"

#: Seconds that anything may take on a busy machine before a test gives up: far more than it should.
PATIENCE_S = 40.0

#: Times for where nobody is killed or stopped, and it is counted what was done how often: a worker that stands still for
#: some seconds, as on a busy machine, is not taken for dead, and nothing that it holds is handed out again.
CALM: dict[str, Any] = {"heartbeat_s": 60, "member_ttl_ms": 60_000, "lease_ms": 60_000}


def quick(
    namespace: str, redis_url: str, amqp_url: str = "", *, heartbeat_s: int = 2, **others: Any
) -> Settings:
    """
    Return settings with times that are short, and long enough for two busy cores.
    """
    values: dict[str, Any] = {
        "namespace": namespace,
        "redis_url": redis_url,
        # Two missed heartbeats free the queues of a process that hangs.
        "amqp_url": f"{amqp_url}?heartbeat={heartbeat_s}" if amqp_url else "",
        "partitions": 6,
        "heartbeat_ms": 100,
        "member_ttl_ms": 1_500,
        "lease_ms": 1_000,
        "drain_s": 10.0,
        # For what the next version knows: longer than it may take to start. Tests that wait for its end set another.
        "patience_s": 120.0,
    }
    return Settings.of(**(values | others))


class House:
    """
    One namespace with its workers and a client.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.log = folder / "workers.log"
        self.client: Client = connect(next_app, settings)
        self._ports = wiring.open_ports(settings)
        #: How many workers this house runs. Who stands still for a moment is taken for dead, and counts nevertheless.
        self.workers = 0

    @property
    def per_key(self) -> int:
        """
        How many commands to one key may be on their way at once, so that they still arrive in order.
        """
        return 4 if self.settings.amqp_url else 1

    def close(self) -> None:
        self.client.close()
        self._ports.close()

    # -- workers

    @contextlib.contextmanager
    def crew(self, processes: int = 2, app: str = APP, **others: Any) -> Iterator[Supervisor]:
        """
        Run worker processes, and go on once they share the partitions with those that run already.
        """
        given: dict[str, Any] = {"folder": ROOT, "log_file": self.log, "settings": self.settings} | others
        self.workers += processes
        try:
            with Supervisor(app, processes=processes, **given) as supervisor:
                self.await_shared(self.workers)
                yield supervisor
        finally:
            self.workers -= processes

    def members(self) -> list[Member]:
        """
        Return the living workers; who was killed a moment ago may still be believed to live.
        """
        return [member for member in self._ports.membership.living() if not gone(member.pid)]

    def registered(self) -> int:
        """
        Return how many workers live as far as Redis knows, where nobody is killed: all at one moment, while those of
        `members` are looked for a moment later.
        """
        return len(self._ports.membership.living())

    def owners(self) -> list[str | None]:
        """
        Return who serves each partition.
        """
        return self._ports.membership.owners("command")

    def shared_by(self, count: int, *, without: Collection[str] = ()) -> bool:
        """
        Say whether so many workers, none of them among `without`, serve all partitions, each an even share.
        """
        return bool(self._sharing(count, without))

    def _sharing(self, count: int, without: Collection[str]) -> list[Member]:
        """
        Return the workers if they are so many and share the partitions evenly, else nobody.
        """
        members = self.members()
        living = {member.id for member in members}
        shares = Counter(self.owners())
        most = -(-self.settings.partitions // count)
        shared = (
            len(living) == count
            and not living & set(without)
            and set(shares) <= living
            and max(shares.values()) <= most
        )
        return members if shared else []

    def await_shared(self, count: int, *, without: Collection[str] = ()) -> list[Member]:
        """
        Wait until so many workers share the partitions evenly, and return them: who is asked for again may have been
        silent for a moment, and be believed dead.
        """
        found: list[Member] = []

        def shared() -> bool:
            found[:] = self._sharing(count, without)
            return bool(found)

        try:
            eventually(shared, PATIENCE_S)
        except AssertionError:
            message = f"{count} workers do not share: {self.members()} live and {self.owners()} serve"
            raise AssertionError(message) from None
        return found

    def strike_down(self, member: Member) -> None:
        """
        Kill a worker with SIGKILL, and wait until it is gone.
        """
        os.kill(member.pid, signal.SIGKILL)
        eventually(lambda: gone(member.pid))

    def strike_one_down(self) -> None:
        """
        Kill any of the workers, as soon as there is one: those who were struck before may not be back yet, and others
        have been silent for a moment.
        """
        found: list[Member] = []

        def there() -> bool:
            found[:] = self.members()
            return bool(found)

        eventually(there, PATIENCE_S)
        self.strike_down(found[0])

    # -- the logs

    def decided(self) -> int:
        """
        Return how many records there are in all logs.
        """
        count, cursor = 0, None
        while True:
            page = self.client.instances(NextLedger, limit=1_000, cursor=cursor)
            count += sum(listed.seq for listed in page.instances)
            cursor = page.cursor
            if cursor is None:
                return count

    def await_progress(self, more: int = 100) -> None:
        """
        Wait until so many more commands are decided.
        """
        until = self.decided() + more
        eventually(lambda: self.decided() >= until, PATIENCE_S)

    def await_every(self, keys: Iterable[str]) -> None:
        """
        Wait until each of these instances has decided more.
        """
        keys = list(keys)

        def lengths() -> dict[str, int]:
            return {key: len(log) for key, log in self.client.histories(NextLedger, keys)}

        before = lengths()
        eventually(lambda: all(length > before[key] for key, length in lengths().items()), PATIENCE_S)

    def check(self, senders: Senders, *, at_least: int = 1) -> None:
        """
        Wait until everything that was sent is decided, and hold the logs against it.
        """
        senders.end()
        keys = {key for key, _ in senders.sent}

        def settled() -> bool:
            logs = self.client.histories(NextLedger, keys)
            # A record without events is a pause, a resume or the like: none of what the senders sent.
            return sum(bool(one.events) for _, records in logs for one in records) >= senders.count

        with contextlib.suppress(AssertionError):  # the checker has more to say about what is missing
            eventually(settled, PATIENCE_S)
            # What was in the hands of the dead comes again, although it is decided: somebody must be there to take it.
            eventually(lambda: self.client.pending() == 0, PATIENCE_S)
        nothing_wrong(wrongs(senders.sent, dict(self.client.histories(NextLedger, keys))))
        nothing_wrong(wrong_answers(senders, self.client, NextLedger))
        assert senders.count >= at_least, "too little happened to prove anything"
        nothing_wrong([letter.error for letter in self.client.dead_letters.list()])

    def await_logs(self, **counts: int) -> None:
        """
        Wait until instances have so many records; their keys are the names.
        """
        eventually(lambda: all(len(self.numbers(key)) >= count for key, count in counts.items()), PATIENCE_S)

    def parked(self, key: str) -> int:
        """
        Return how many commands are kept for an instance until it is resumed.
        """
        ref = Ref(partition_of("ledger", key, self.settings.partitions), "ledger", key)
        return self._ports.journal.read([ref])[0].parked

    def numbers(self, key: str) -> list[int]:
        """
        Return which commands an instance has recorded, by their senders' numbers.
        """
        return [event.number for record in self.client.history(NextLedger, key) for event in record.events]

    def check_empty(self) -> None:
        """
        With all workers gone: see that nothing was left in a queue that was decided or should have been.
        """
        eventually(lambda: self.members() == [])
        assert self.client.pending() == 0

    def said(self) -> str:
        """
        Return what the workers wrote into their log.
        """
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@contextlib.contextmanager
def house(settings: Settings, folder: Path) -> Iterator[House]:
    """
    Open a house, and close it at the end; a worker that met an error which nobody expected is a failure.
    """
    it = House(settings, folder)
    try:
        yield it
        assert "Traceback" not in it.said(), "a worker met an error that nobody expected"
    finally:
        # Shown by pytest when the test failed.
        sys.stderr.write("\n".join(it.said().splitlines()[-150:]))
        it.close()


@contextlib.contextmanager
def shared_house(folder: Path, redis_url: str, amqp_url: str = "", **others: Any) -> Iterator[House]:
    """
    Open a house that outlives a test, in a namespace of its own that is removed at the end.
    """
    settings = quick(f"t{uuid.uuid4().hex[:8]}", redis_url, amqp_url, **others)
    try:
        with house(settings, folder) as it:
            yield it
    finally:
        wiring.remove_namespace(settings)


def nothing_wrong(found: Sequence[str]) -> None:
    """
    Fail with the first of what was found, if anything was.
    """
    assert not found, "\n".join([f"{len(found)} wrongs:", *found[:20]])


def accounts(prefix: str, count: int) -> list[str]:
    """
    Return keys of a test's own.
    """
    return [f"{prefix}-{number}" for number in range(count)]
