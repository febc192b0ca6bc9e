"""
Load: threads that ask mills for everything there is, for as long as a test wants, and write down what they were told.
"""

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from holdfast import Client, Command, Unavailable
from holdfast.runtime.ids import new_id
from holdfast.runtime.outcome import Outcome, Rejected
from tests.chaos.history import Op
from tests.chaos.mill import Fetch, Grind, Guard, Milling, Poison, Rent, Wind

#: Seconds between two things that one thread asks: a load that lets other processes run.
PAUSE_S = 0.05
#: Seconds that one try of `execute` waits for its answer: longer than queues are while servers die and come back, since
#: an answer to a try that was given up is nobody's.
ANSWER_S = 10.0
#: How effects go: mostly well.
HOWS = ("well",) * 12 + ("again",) * 4 + ("later", "doomed")
ROOMS = ("north", "south")
#: What may be asked.
KINDS = ("Grind", "Guard", "Fetch", "Wind", "Rent")


class Load:
    """
    Senders, callers and wardens over one client, which share the mills; to be used in a `with`.

    A sender waits for the confirms of a burst before the next one; a caller for its answer. Some of the time callers give
    up after the first try: nobody knows what became of that. A warden pauses mills, and resumes them.
    """

    def __init__(
        self,
        client: Client,
        keys: Sequence[str],
        *,
        seed: str = "",
        senders: int = 2,
        callers: int = 2,
        wardens: int = 1,
        per_key: int = 4,
        kinds: Sequence[str] = KINDS,
    ) -> None:
        self.client = client
        self.keys = list(keys)
        self.ops: list[Op] = []
        self._seed = seed
        self._per_key = per_key
        self._kinds = kinds
        self._ending = threading.Event()
        self._hopeless = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            *(self._thread(self._send, f"{seed}sender-{number}") for number in range(senders)),
            *(self._thread(self._call, f"{seed}caller-{number}") for number in range(callers)),
            *(self._thread(self._ward, f"{seed}warden-{number}") for number in range(wardens)),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._hopeless.set()
        self.end()

    def end(self, patience_s: float = float("inf")) -> bool:
        """
        Have everyone finish what he has begun, and wait for that; return whether all did.
        """
        self._ending.set()
        until = time.monotonic() + patience_s
        while any(thread.is_alive() for thread in self._threads) and time.monotonic() < until:
            time.sleep(PAUSE_S)
        finished = not any(thread.is_alive() for thread in self._threads)
        if not finished:
            self._hopeless.set()
        for thread in self._threads:
            thread.join()
        if self._errors and finished:
            raise self._errors[0]
        return finished

    @property
    def acknowledged(self) -> int:
        """
        How many commands were confirmed or answered.
        """
        return sum(op.answered is not None for op in list(self.ops))

    def await_acknowledged(self, count: int, patience_s: float) -> None:
        """
        Wait until so many commands were confirmed or answered, or patience ends.
        """
        until = time.monotonic() + patience_s
        while self.acknowledged < count and time.monotonic() < until:
            time.sleep(PAUSE_S)

    def probe(self, patience_s: float) -> list[Op]:
        """
        Ask every mill for something that it cannot refuse, and return what became of that: work goes on, or does not.
        """
        asked = []
        for number, key in enumerate(self.keys):
            op, command = self._op("probe", number, key, "Grind", random.Random(number))
            self._execute(op, command, until=time.monotonic() + patience_s)
            asked.append(op)
        return asked

    def _thread(self, work: Callable[[str, random.Random], None], name: str) -> threading.Thread:
        def run() -> None:
            try:
                work(name, random.Random(name))
            except BaseException as error:
                self._errors.append(error)

        return threading.Thread(target=run, name=name)

    def _op(self, name: str, number: int, key: str, kind: str, choice: random.Random) -> tuple[Op, Command]:
        name = name if name.startswith(self._seed) else f"{self._seed}{name}"
        how = choice.choice(HOWS)
        command: Command
        match kind:
            case "Fetch":
                command = Fetch(key, name, number, how)
            case "Wind":
                after_ms = choice.choice((0, 20, 150, 600, 1_500))
                command = Wind(key, name, number, after_ms, choice.choice((None, None, "a", "b")))
            case "Rent":
                # Rooms of this load's own: those that mills of another were left in are taken for ever.
                room = choice.choice((*ROOMS, "", ""))
                command = Rent(key, name, number, f"{self._seed}{room}" if room else "")
            case "Guard":
                command = Guard(key, name, number)
            case "Poison":
                command = Poison(key, name, number)
            case _:
                command = Grind(key, name, number)
        return Op(key, name, number, kind, new_id(), time.monotonic(), how=how), command

    # -- those who only send

    def _send(self, name: str, choice: random.Random) -> None:
        numbers = itertools.count(1)
        while not self._ending.wait(PAUSE_S * choice.random() * 2):
            burst: list[tuple[Op, Command]] = []
            for key in choice.sample(self.keys, min(3, len(self.keys))):
                burst += [
                    self._op(name, next(numbers), key, choice.choice(self._kinds), choice)
                    for _ in range(choice.randint(1, self._per_key))
                ]
            self.ops += [op for op, _ in burst]
            self._send_all(burst)

    def _send_all(self, burst: Sequence[tuple[Op, Command]]) -> None:
        """
        Send until all is confirmed, with the same ids.
        """
        left = list(burst)
        while left:
            sending = [(op, command, self._submit(op, command)) for op, command in left]
            left = []
            for op, command, future in sending:
                error = future.exception()
                if error is None:
                    op.answered = time.monotonic()
                elif isinstance(error, Unavailable):
                    # Where others to its key were on their way with it, they may have overtaken it.
                    op.ordered = self._per_key == 1
                    left.append((op, command))
                else:
                    raise error
            if left and self._hopeless.wait(PAUSE_S):
                return

    def _submit(self, op: Op, command: Command) -> Future[None]:
        try:
            return self.client.submit(command, id=op.id)[1]
        except Unavailable as error:
            # What cannot even be handed over fails like what is not confirmed.
            future: Future[None] = Future()
            future.set_exception(error)
            return future

    # -- those who want an answer

    def _call(self, name: str, choice: random.Random) -> None:
        for number in itertools.count(1):
            if self._ending.wait(PAUSE_S * choice.random() * 2):
                return
            kind = "Guard" if number % 3 == 0 else choice.choice(self._kinds)
            op, command = self._op(name, number, choice.choice(self.keys), kind, choice)
            self.ops.append(op)
            self._execute(op, command, patient=choice.random() < 0.8)

    def _execute(
        self, op: Op, command: Command, *, patient: bool = True, until: float = float("inf")
    ) -> None:
        while not self._hopeless.is_set():
            try:
                op.outcome = self.client.execute(command, id=op.id, timeout=ANSWER_S)
            except Unavailable:
                if not patient or time.monotonic() > until:
                    # What is given up may come at any later time.
                    op.ordered = False
                    return
                self._hopeless.wait(PAUSE_S)
            else:
                op.answered = time.monotonic()
                return

    # -- those who stop mills for a while

    def _ward(self, _name: str, choice: random.Random) -> None:
        while not self._ending.wait(0.3 + choice.random()):
            key = choice.choice(self.keys)
            if isinstance(self._until_told(self.client.pause, key), Rejected):
                continue  # it has done nothing yet, or another has paused it
            self._ending.wait(choice.random())
            self._until_told(self.client.resume, key)

    def _until_told(self, verb: Callable[..., Outcome], key: str) -> Any:
        command_id = new_id()
        while not self._hopeless.is_set():
            with contextlib.suppress(Unavailable):
                return verb(Milling, key, id=command_id, timeout=ANSWER_S)
            self._hopeless.wait(PAUSE_S)
        return None
