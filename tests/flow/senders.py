"""
Senders: threads that send commands for as long as a test wants, and remember what and in which order.
"""

import itertools
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from holdfast import Client, Command, PublishFailed, Record, Unavailable
from holdfast.runtime.ids import new_id
from holdfast.runtime.outcome import Accepted, Duplicate, Outcome, Rejected
from tests.flow.shop import Overdraw, Post, Refund

#: Seconds between two bursts of a sender: a load that lets other processes run.
PAUSE_S = 0.02
#: Seconds that one try of `execute` waits for its answer.
ANSWER_S = 3.0


class Senders:
    """
    Several senders and callers over one client, which share the keys; to be used in a `with`.

    A sender waits for the confirms of a burst before the next one. `per_key` is how many commands to one key may be
    on their way at once: more than one where the transport keeps the order of what it has to send again.
    """

    def __init__(
        self,
        client: Client,
        keys: Sequence[str],
        *,
        senders: int = 3,
        callers: int = 0,
        per_key: int = 4,
        kinds: Sequence[type[Post | Refund]] = (Post,),
    ) -> None:
        self._client = client
        self.keys = keys
        self._per_key = per_key
        self._kinds = kinds
        self._ending = threading.Event()
        self._hopeless = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            *(self._thread(self._send, f"sender-{number}") for number in range(senders)),
            *(self._thread(self._call, f"caller-{number}") for number in range(callers)),
        ]
        #: What was sent and confirmed; complete once the senders have ended.
        self.sent: dict[tuple[str, str], list[int]] = defaultdict(list)
        #: What callers were told: (key, sender, number, command id, outcome).
        self.told: list[tuple[str, str, int, str, Outcome]] = []

    @property
    def count(self) -> int:
        """
        How many commands were sent and must be in the logs.
        """
        return sum(len(numbers) for numbers in list(self.sent.values()))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._hopeless.set()
        self._join()
        if error is None:
            self.end()

    def end(self) -> None:
        """
        Have everyone finish what he has begun, and wait for that.
        """
        self._join()
        if self._errors:
            raise self._errors[0]

    def _join(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _thread(self, work: Callable[[str, random.Random], None], name: str) -> threading.Thread:
        def run() -> None:
            try:
                work(name, random.Random(name))
            except BaseException as error:
                self._errors.append(error)

        return threading.Thread(target=run, name=name)

    def _send(self, name: str, choice: random.Random) -> None:
        numbers = itertools.count(1)
        while not self._ending.wait(PAUSE_S):
            burst: list[tuple[str, Post | Refund]] = []
            for key in choice.sample(self.keys, min(3, len(self.keys))):
                burst += [
                    (new_id(), choice.choice(self._kinds)(key, name, next(numbers)))
                    for _ in range(choice.randint(1, self._per_key))
                ]
            self._send_all(burst)
            for _, command in burst:
                self.sent[command.account, name].append(command.number)

    def _send_all(self, burst: Sequence[tuple[str, Command]]) -> None:
        """
        Send until all is confirmed. A second try has the same id; it comes before anything else to its key.
        """
        left = list(burst)
        while left:
            futures: list[Future[None]] = []
            for command_id, command in left:
                futures.append(self._client.submit(command, id=command_id)[1])
            failed = [isinstance(future.exception(), PublishFailed) for future in futures]
            left = [one for one, again in zip(left, failed, strict=True) if again]
            if left:
                assert self._per_key == 1, "what failed may have been overtaken"
                assert not self._hopeless.wait(PAUSE_S), "nobody takes commands"

    def _call(self, name: str, choice: random.Random) -> None:
        for number in itertools.count(1):
            if self._ending.wait(PAUSE_S):
                return
            key = choice.choice(self.keys)
            refused = number % 3 == 0
            command = Overdraw(key, name, number) if refused else Post(key, name, number)
            command_id = new_id()
            outcome = self._until_answered(command, command_id)
            self.told.append((key, name, number, command_id, outcome))
            if not refused:
                self.sent[key, name].append(number)

    def _until_answered(self, command: Command, command_id: str) -> Outcome:
        while True:
            try:
                return self._client.execute(command, id=command_id, timeout=ANSWER_S)
            except Unavailable:
                if self._hopeless.wait(PAUSE_S):
                    raise


def wrong_answers(senders: Senders, client: Client, workflow: type) -> list[str]:
    """
    Return what callers were told that the logs do not say.
    """
    found = []
    logs: dict[str, list[Record[Any]]] = dict(client.histories(workflow, {key for key, *_ in senders.told}))
    for key, name, number, command_id, outcome in senders.told:
        told = outcome.first if isinstance(outcome, Duplicate) else outcome
        record = next((one for one in logs[key] if one.command_id == command_id), None)
        if isinstance(told, Accepted):
            right = record is not None and (record.seq, record.events) == (told.seq, told.events)
        else:
            right = isinstance(told, Rejected) and record is None and number % 3 == 0
        if not right:
            found.append(f"{name} was told {outcome} of {number} to {key}; its record is {record}")
    return found
