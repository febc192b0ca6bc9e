"""Caretaker: has the data of finished instances deleted when their time has come.

It runs beside the lanes of whoever serves partition 0, in small steps. An instance is given to its workflow's archive
first; then it is sent the same command that a person would send, so that everything about its deletion is as always.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from holdfast.actors.reader import Reader
from holdfast.runtime import faults
from holdfast.runtime.app import App
from holdfast.runtime.clock import Clock, to_ms
from holdfast.runtime.codec import encode, encode_envelope
from holdfast.runtime.control import DeleteData
from holdfast.runtime.dead_letter import sentence_of
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import Ending, HoldfastError
from holdfast.runtime.faults import Point
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import partition_of
from holdfast.runtime.message import Envelope
from holdfast.runtime.ports import Directory, Listed, Publisher
from holdfast.runtime.retention import Archived

log = logging.getLogger(__name__)

#: Instances dealt with in one step, for each workflow and run state.
INSTANCES_PER_STEP = 50
#: Seconds between two steps: when nothing was to do, and when there may be more.
PAUSE_S = 60.0
PAUSE_BUSY_S = 1.0


class Caretaker:
    """Looks for what was kept long enough."""

    def __init__(
        self,
        app: App,
        partitions: int,
        directory: Directory,
        reader: Reader,
        publisher: Publisher,
        clock: Clock,
        *,
        on_duty: Callable[[], bool] = lambda: True,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._app = app
        self._partitions = partitions
        self._directory = directory
        self._reader = reader
        self._publisher = publisher
        self._clock = clock
        self._on_duty = on_duty
        self._close = close
        #: Where the listing goes on behind what could not be archived.
        self._cursors: dict[tuple[str, RunState], str | None] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="holdfast-caretaker", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was begun is finished by whoever comes next."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._publisher.close()
        self._close()

    def _run(self) -> None:
        pause = PAUSE_BUSY_S
        while not self._stopping.wait(pause):
            try:
                pause = PAUSE_BUSY_S if self._on_duty() and self.step() else PAUSE_S
            except HoldfastError as error:
                log.warning("retention put off", extra={"error": str(error)})
                pause = PAUSE_S
            except Exception:
                log.exception("retention failed")
                pause = PAUSE_S

    def step(self) -> int:
        """Have some instances deleted whose time has come, and return how many those were."""
        count = 0
        for definition in self._app.definitions:
            for run_state, span in definition.kind.retention.spans.items():
                if span is None:
                    continue
                place = definition.type, run_state
                page = self._directory.instances(
                    definition.type,
                    run_state=run_state,
                    until=self._clock.now() - span,
                    limit=INSTANCES_PER_STEP,
                    cursor=self._cursors.get(place),
                )
                self._cursors[place] = page.cursor
                count += sum(self._delete(definition, listed) for listed in page.instances)
        return count

    def _delete(self, definition: Definition, listed: Listed) -> bool:
        """Archive an instance and send it the command; return whether that was done."""
        archive = definition.kind.retention.archive
        if archive is not None:
            try:
                records = tuple(self._reader.history(definition.type, listed.key, 0, None))
                state = self._reader.state(definition.type, listed.key, None)
                archive(Archived(definition.type, listed.key, listed.run_state, state, records))
                faults.reach(Point.ARCHIVED)
            except Ending:
                raise
            except BaseException as error:  # noqa: BLE001 - user code; the instance stays until its archive takes it
                facts = {"workflow": definition.type, "key": listed.key, "error": sentence_of(error)}
                log.warning("instance could not be archived, so it is kept", extra=facts)
                return False
        envelope = Envelope(
            # The same however often it is sent: it is decided once.
            f"holdfast.retention:{listed.seq}",
            definition.type,
            listed.key,
            encode(DeleteData("kept long enough")),
            to_ms(self._clock.now()),
        )
        partition = partition_of(definition.type, listed.key, self._partitions)
        self._publisher.publish(partition, encode_envelope(envelope)).result()
        faults.reach(Point.DELETION_SENT)
        return True
