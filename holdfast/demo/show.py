"""Show: the demonstration itself, in three acts.

    1. Orders come in at an easy pace.
    2. A rush of orders, and in the middle of it a worker process is killed with SIGKILL.
    3. All workers are back, and another rush is timed.

It only sends, looks, and kills. Whether all went well is for the proof to say.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime

from holdfast.actors.client import Client
from holdfast.actors.partitions import process_lives
from holdfast.actors.wiring import Ports
from holdfast.demo.orders import Order
from holdfast.demo.proof import Kill
from holdfast.demo.story import Sending, interleaved
from holdfast.demo.view import View
from holdfast.runtime.errors import Unavailable
from holdfast.runtime.instance import RunState
from holdfast.runtime.ports import Member

#: Where the acts end, as shares of all orders.
FIRST, SECOND = 0.15, 0.45
#: The easy pace: between two orders, and for how long at most.
PACE_S, FIRST_S = 0.028, 2.5
#: A show that stands still for so long has failed: twice what a takeover may take.
STILL_S = 30.0
LOOK_S, SHOW_S = 0.005, 0.1


@dataclass
class Told:
    """What happened, as far as the logs do not say it."""

    kill: Kill | None = None
    #: The last rush: its commands, and the seconds from the first one sent to the last one decided.
    commands: int = 0
    seconds: float = 0.0


class Show:
    """Performs the demonstration with a client and workers that run."""

    def __init__(self, client: Client, ports: Ports, view: View, *, orders: int, processes: int) -> None:
        self._client = client
        self._ports = ports
        self._view = view
        self._orders = orders
        self._processes = processes
        self._partitions = client.settings.partitions
        self._shown_at = 0.0

    def perform(self, *, killing: bool) -> Told:
        """Play all acts.

        Raises:
            Unavailable: Nothing happened for too long.
        """
        told = Told()
        first, second = int(self._orders * FIRST), int(self._orders * SECOND)
        if killing:
            self._until("the workers serve all partitions", self._all_serve)
        self._view.say(
            f"orders come in; each is placed, paid, packed, shipped and delivered ({first} orders)"
        )
        self._finish(self._send(range(first), min(FIRST_S, first * PACE_S)), first)
        self._view.say(f"a rush ({second - first} orders)")
        rush = self._send(range(first, second))
        if killing:
            self._until("half of the rush is sent", lambda: rush.failed or rush.confirmed >= rush.total / 2)
            told.kill = self._kill()
            self._until("others serve its partitions", lambda: self._taken_over(told.kill))
            others = "others have taken over; " if self._processes > 1 else ""
            self._view.say(f"{others}it is started again")
        self._finish(rush, second)
        if killing:
            self._until("all workers are back", self._all_serve)
        self._view.say(f"another rush, with all workers, against the clock ({self._orders - second} orders)")
        last = self._send(range(second, self._orders))
        self._finish(last, self._orders, showing=False)
        told.commands, told.seconds = last.total, time.monotonic() - last.began
        self._until("nothing is left in the queues", lambda: self._client.pending() == 0)
        self._show()
        return told

    def _send(self, numbers: range, seconds: float = 0.0) -> Sender:
        return Sender(self._client, list(interleaved(numbers)), seconds)

    def _kill(self) -> Kill:
        """Kill the worker process that serves the most partitions."""
        owners = self._ports.membership.owners("command")
        members = {member.id: member for member in self._ports.membership.living()}
        victim = max(members.values(), key=lambda member: owners.count(member.id))
        sent = datetime.now(UTC)
        os.kill(victim.pid, signal.SIGKILL)
        self._until("the killed worker is gone", lambda: not process_lives(victim.pid), showing=False)
        kill = Kill(
            victim.pid,
            frozenset(partition for partition, owner in enumerate(owners) if owner == victim.id),
            sent,
            datetime.now(UTC),
        )
        self._view.say(
            f"worker {victim.pid} is killed with SIGKILL; it served {len(kill.partitions)} of {self._partitions} partitions",
            "bold red",
        )
        return kill

    # -- looking

    def _owners(self) -> list[Member | None]:
        members = {member.id: member for member in self._ports.membership.living()}
        owners = self._ports.membership.owners("command")
        return [members.get(owner) if owner is not None else None for owner in owners]

    def _all_serve(self) -> bool:
        owners = self._owners()
        return None not in owners and len(set(owners)) >= min(self._processes, self._partitions)

    def _taken_over(self, kill: Kill | None) -> bool:
        return kill is not None and all(
            owner is not None and owner.pid != kill.pid for owner in self._owners()
        )

    def _delivered(self) -> int:
        return self._ports.directory.count(Order.type, RunState.COMPLETED)

    def _finish(self, sender: Sender, count: int, *, showing: bool = True) -> None:
        """Wait until all that was sent is confirmed, and so many orders are delivered."""
        self._until(
            f"{count} orders are delivered",
            lambda: sender.failed or self._delivered() >= count,
            showing=showing,
        )
        sender.join()

    def _until(self, what: str, holds: Callable[[], bool], *, showing: bool = True) -> None:
        """Wait until something holds, and show how far it is meanwhile."""
        delivered, since = -1, time.monotonic()
        while not holds():
            if showing and time.monotonic() - self._shown_at >= SHOW_S:
                now = self._show()
                if now != delivered:
                    delivered, since = now, time.monotonic()
            if time.monotonic() - since > STILL_S:
                message = f"nothing has happened for {STILL_S:g} s, and it is not so that {what}"
                raise Unavailable(message)
            time.sleep(LOOK_S)

    def _show(self) -> int:
        delivered = self._delivered()
        serving = Counter(owner.pid for owner in self._owners() if owner is not None)
        self._view.show(delivered, dict(sorted(serving.items())), self._partitions)
        self._shown_at = time.monotonic()
        return delivered


class Sender:
    """Sends commands on a thread of its own, at a pace or as fast as they are taken."""

    def __init__(self, client: Client, sendings: Iterable[Sending], seconds: float) -> None:
        self._client = client
        self._sendings = list(sendings)
        self._pause_s = seconds / len(self._sendings) if self._sendings else 0.0
        self._futures: list[Future[None]] = []
        self._failure: Exception | None = None
        self.total = len(self._sendings)
        self.confirmed = 0
        self.began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="holdfast-demo-sender", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether it had to give up."""
        return self._failure is not None

    def join(self) -> None:
        """Wait until all is confirmed.

        Raises:
            PublishFailed: Something was not.
        """
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        for future in self._futures:
            future.result()

    def _run(self) -> None:
        self.began = time.monotonic()
        try:
            for index, sending in enumerate(self._sendings):
                if self._pause_s:
                    time.sleep(max(0.0, self.began + index * self._pause_s - time.monotonic()))
                for _ in range(1 + sending.twice):
                    future = self._client.submit(sending.command, id=sending.id)[1]
                    self._futures.append(future)
                future.add_done_callback(self._count)
        except Exception as error:  # noqa: BLE001 - whoever joins hears of it
            self._failure = error

    def _count(self, _future: Future[None]) -> None:
        self.confirmed += 1
