"""Hand: all effects that this process has read and not let go, and which of them may begin next.

Everything here is state under one lock. Nothing waits and nothing talks to a server.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from holdfast.actors.effect_job import Job, State
from holdfast.actors.pace import MACHINE, Pace
from holdfast.runtime.effect_queue import START, Ticket, Waiting

#: As many effects are read ahead of those that run; what is behind them waits in the outbox.
READ_AHEAD = 4_096
#: As many that wait for one kind of runner are read besides, so that a long queue for threads does not hold up coroutines.
ONE_KIND_MAX = 3 * READ_AHEAD
#: As many are read in all, with those that are kept back because nobody here can run them or their limits are full.
KEPT_MAX = 40_000
#: As many of these may wait for limits, so that limits alone never stop the reading.
LINES_MAX = 20_000
#: The most that begin together.
BEGIN_MAX = 256
#: How long a partition that turned out to be another's is left alone before it is looked at again.
FENCED_S = 0.5
#: How long a suspect that is still running keeps the next one from beginning: what kills its worker does so sooner.
SUSPECT_S = 5.0


@dataclass(slots=True)
class _Line:
    """The effects that wait for one limit."""

    jobs: deque[Job] = field(default_factory=deque)
    #: Whether somebody is to look again at a set time.
    watched: bool = False


class Hand:
    """What a lane has in its hands."""

    def __init__(self, threads: int, tasks: int, pace: Pace = MACHINE, *, mixed: bool = False) -> None:
        self._clock = pace.clock
        self._monotonic = pace.clock.monotonic
        self._lock = threading.Lock()
        self._jobs: dict[tuple[int, str], Job] = {}
        self._held: Counter[int] = Counter()
        self._held_in_all = 0
        #: By partition that is ours, up to where it was read, and when it may be read again.
        self._cursors: dict[int, str] = {}
        self._paused: dict[int, float] = {}
        #: By whether they are coroutines: what waits, and how many more may run.
        self._waiting: dict[bool, deque[Job]] = {False: deque(), True: deque()}
        self._free = {False: threads, True: tasks}
        #: Whether there are handlers of both kinds.
        self._mixed = mixed
        self._lines: dict[str, _Line] = defaultdict(_Line)
        #: How many are in all lines together.
        self._lined_up = 0
        self._later: list[tuple[float, int, Job | str]] = []
        self._numbers = itertools.count()
        #: How many were picked of which it is not known whether they are ours.
        self._beginning = 0
        self._suspects: deque[Job] = deque()
        self._suspect: tuple[Job, float] | None = None
        #: By name, what a commit may begin, and what was read of it from the outbox meanwhile.
        self._reserved: dict[tuple[int, str, str, str], Job | None] = {}
        #: Set while nothing is reserved.
        self.all_entered = pace.event()
        self.all_entered.set()
        #: Set when there may be room to read more.
        self.room = pace.event()

    # -- partitions

    def assign(self, partition: int) -> None:
        """Begin to read a partition, from its first effect."""
        with self._lock:
            self._cursors[partition] = START
            self._paused.pop(partition, None)
        self.room.set()

    def revoke(self, partition: int) -> None:
        """Read no more of a partition, let go of what nobody holds, and hurry what waits to run again."""
        with self._lock:
            self._cursors.pop(partition, None)
            self._let_go(partition)
            now = self._monotonic()
            self._later = [
                (now if isinstance(one, Job) and one.partition == partition else when, number, one)
                for when, number, one in self._later
            ]
            heapq.heapify(self._later)

    def fenced(self, partition: int) -> None:
        """Let go of what nobody holds, and after a while read the partition anew if it is still ours."""
        with self._lock:
            self._let_go(partition)
            if partition in self._cursors:
                self._cursors[partition] = START
                self._paused[partition] = self._monotonic() + FENCED_S

    def _let_go(self, partition: int) -> None:
        gone = [
            job for job in self._jobs.values() if job.partition == partition and job.state is State.WAITING
        ]
        for job in gone:
            del self._jobs[job.at]
        self.room.set()

    def serves(self, partition: int) -> bool:
        """Return whether a partition is ours."""
        return partition in self._cursors

    @property
    def running(self) -> bool:
        """Whether anything is held, and so may run out of time."""
        return self._held_in_all > 0

    def held(self, partition: int) -> int:
        """Return how many effects of a partition run, or have run and are not finished."""
        return self._held[partition]

    def keeping(self, partition: int) -> list[Ticket] | None:
        """Return what is held or may be of a partition that is not ours; None while it is, or while that changes."""
        with self._lock:
            if partition in self._cursors or self._beginning:
                return None
            held = [job.ticket for job in self._jobs.values() if job.partition == partition]
            return held + [
                Ticket(at, "", workflow, key, id_)
                for at, workflow, key, id_ in self._reserved
                if at == partition
            ]

    # -- reading

    def cursors(self) -> dict[int, str]:
        """Return from where to read on, by partition; nothing while enough was read ahead."""
        with self._lock:
            self.room.clear()
            if len(self._jobs) >= READ_AHEAD and not self._clogged():
                return {}
            if self._paused:
                now = self._monotonic()
                self._paused = {p: until for p, until in self._paused.items() if until > now}
            return {p: position for p, position in self._cursors.items() if p not in self._paused}

    def _clogged(self) -> bool:
        """Return whether what was read ahead is mostly what cannot run here, or not yet: that is to hold up nothing."""
        if len(self._jobs) >= KEPT_MAX:
            return False
        kept = sum(job.handler is None and job.error is not None for job in self._jobs.values())
        one_kind = min(max(map(len, self._waiting.values())), ONE_KIND_MAX) if self._mixed else 0
        return len(self._jobs) - kept - self._lined_up - one_kind < READ_AHEAD

    def admit(self, arrived: Iterable[Waiting], after: Mapping[int, str]) -> list[Job]:
        """Take up what was read behind these positions, but for what we have already."""
        jobs = []
        with self._lock:
            # A partition that was handed over or reset meanwhile is read anew: this would leave a gap in it.
            fresh = {p for p, position in after.items() if self._cursors.get(p) == position}
            for waiting in arrived:
                if waiting.partition in fresh:
                    self._cursors[waiting.partition] = waiting.position
                    if waiting[:2] not in self._jobs:
                        job = self._jobs[waiting[:2]] = Job(waiting, self._clock)
                        jobs.append(job)
        return jobs

    def has(self, job: Job) -> bool:
        """Return whether a job was not let go."""
        return self._jobs.get(job.at) is job

    def jobs(self) -> list[Job]:
        """Return all jobs."""
        with self._lock:
            return list(self._jobs.values())

    # -- beginning

    def wait(self, jobs: Iterable[Job]) -> None:
        """Put jobs in the queue for their kind of runner."""
        with self._lock:
            for job in jobs:
                if self._reserved and job.name in self._reserved:
                    self._reserved[job.name] = job
                else:
                    self._waiting[job.is_async].append(job)

    # -- beginning with a commit

    def reserve(self, job: Job) -> bool:
        """Count an effect as running that a commit is about to begin, if that need not wait behind others."""
        with self._lock:
            kind, name = job.is_async, job.name
            crowded = self._free[kind] <= 0 or self._waiting[kind] or self._suspects
            if crowded or job.partition not in self._cursors or name in self._reserved:
                return False
            self._free[kind] -= 1
            self._hold(job)
            self._reserved[name] = None
            self.all_entered.clear()
        return True

    def enter(self, job: Job, position: str) -> None:
        """Take up what a commit has begun; what was read of it from the outbox is not needed."""
        job.place(position)
        with self._lock:
            self._unreserve(job)
            self._jobs[job.at] = job

    def leave(self, job: Job) -> None:
        """Count an effect as running no longer, and let what was read of it go on."""
        with self._lock:
            read = self._unreserve(job)
            self._free[job.is_async] += 1
            self._let_loose(job)
            if read is not None:
                self._waiting[read.is_async].append(read)
        self.room.set()

    def _unreserve(self, job: Job) -> Job | None:
        read = self._reserved.pop(job.name)
        if not self._reserved:
            self.all_entered.set()
        return read

    def pick(self) -> list[Job]:
        """Take out what may begin now, and count it as running."""
        picked: list[Job] = []
        with self._lock:
            for kind, queue in self._waiting.items():
                while queue and self._free[kind] > 0 and len(picked) < BEGIN_MAX:
                    job = queue.popleft()
                    if self._jobs.get(job.at) is not job:
                        continue
                    self._free[kind] -= 1
                    picked.append(job)
            self._pick_suspect(picked)
            for job in picked:
                job.picked = True
            self._beginning += len(picked)
        return picked

    def _pick_suspect(self, picked: list[Job]) -> None:
        if self._suspect is not None:
            job, since = self._suspect
            if self._jobs.get(job.at) is job and self._monotonic() - since < SUSPECT_S:
                return
            self._suspect = None
        while self._suspects:
            job = self._suspects[0]
            if self._jobs.get(job.at) is not job:
                self._suspects.popleft()
            elif self._free[job.is_async] > 0:
                self._suspects.popleft()
                self._free[job.is_async] -= 1
                self._suspect = (job, self._monotonic())
                picked.append(job)
                return
            else:
                return

    def suspect(self, job: Job) -> None:
        """Have a job run apart from others of its sort: each time a worker dies, only one of them can be to blame."""
        with self._lock:
            job.alone = True
            self._known(job)
            self._free[job.is_async] += 1
            self._suspects.append(job)

    def not_begun(self, job: Job) -> None:
        """Say that a picked job does not run after all; it stays in the hand."""
        with self._lock:
            self._known(job)
            self._free[job.is_async] += 1

    def begun(self, job: Job) -> None:
        """Say that a job is ours now."""
        with self._lock:
            self._known(job)
            if job.state is not State.HELD:
                self._hold(job)
            # What was let go while it was begun is ours all the same.
            self._jobs[job.at] = job

    def ended(self, job: Job) -> bool:
        """Say that a job's attempt has ended; return whether another one waits for its place."""
        with self._lock:
            self._free[job.is_async] += 1
            return bool(self._waiting[False] or self._waiting[True] or self._suspects or self._lines)

    def drop(self, job: Job) -> None:
        """Let a job go."""
        with self._lock:
            if self._jobs.get(job.at) is job:
                del self._jobs[job.at]
            if job.state is State.HELD:
                self._let_loose(job)
        if not self.room.is_set():
            self.room.set()

    def _known(self, job: Job) -> None:
        if job.picked:
            job.picked = False
            self._beginning -= 1

    def _hold(self, job: Job) -> None:
        job.state = State.HELD
        self._held[job.partition] += 1
        self._held_in_all += 1

    def _let_loose(self, job: Job) -> None:
        job.state = State.WAITING
        self._held[job.partition] -= 1
        self._held_in_all -= 1

    # -- waiting for a time

    def later(self, job: Job, seconds: float) -> None:
        """Put a job aside for a while."""
        with self._lock:
            heapq.heappush(self._later, (self._monotonic() + seconds, next(self._numbers), job))

    def due(self) -> list[Job]:
        """Take out what has waited long enough, and let the lines move whose time has come."""
        now, found = self._monotonic(), []
        with self._lock:
            while self._later and self._later[0][0] <= now:
                _, _, one = heapq.heappop(self._later)
                if isinstance(one, str):
                    self._lines[one].watched = False
                    self._move(one)
                elif self._jobs.get(one.at) is one:
                    found.append(one)
        return found

    def pause(self, most: float) -> float:
        """Return how long it is until something is due."""
        with self._lock:
            return min(most, max(0.0, self._later[0][0] - self._monotonic())) if self._later else most

    # -- waiting for a limit

    def line_up(self, job: Job, step_s: float) -> int:
        """Have a job wait for its limit, which is looked at again after a step; return how many wait with it.

        Where too many wait for all limits together it takes no job; then it returns 0.
        """
        assert job.want is not None  # noqa: S101 - only what has a limit waits for one
        name = job.want.limit
        with self._lock:
            if self._lined_up >= LINES_MAX:
                return 0
            line = self._lines[name]
            line.jobs.append(job)
            self._lined_up += 1
            if not line.watched:
                line.watched = True
                heapq.heappush(self._later, (self._monotonic() + step_s, next(self._numbers), name))
            return len(line.jobs)

    @property
    def lines(self) -> int:
        """How many limits are waited for."""
        return len(self._lines)

    def leave_line(self, job: Job) -> None:
        """Have a job no longer wait for its limit."""
        assert job.want is not None  # noqa: S101 - as above
        with self._lock:
            line = self._lines.get(job.want.limit)
            if line is not None and job in line.jobs:
                line.jobs.remove(job)
                self._lined_up -= 1

    def move(self, name: str) -> None:
        """Let the line of a limit move: a place may have come free."""
        with self._lock:
            self._move(name)

    def _move(self, name: str) -> None:
        line = self._lines.get(name)
        if line is None:
            return
        moving: list[Job] = []
        while line.jobs and len(moving) < BEGIN_MAX:
            job = line.jobs.popleft()
            self._lined_up -= 1
            if self._jobs.get(job.at) is not job:
                continue
            moving.append(job)
            if job.want is not None and len(moving) >= job.want.places:
                break
        for job in reversed(moving):
            self._waiting[job.is_async].appendleft(job)
        if not line.jobs and not line.watched:
            del self._lines[name]
