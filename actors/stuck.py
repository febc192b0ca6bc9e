"""Stuck: what does not move, with what it waits for and since when.

Every look is bounded. Nothing is found that is not true, but where an installation has more waiting than LOOK_MAX,
what waits behind that is not seen; `Findings.whole` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from holdfast.actors.draughtsman import command_in, effect_in, read_effect
from holdfast.actors.roster import Post, roster
from holdfast.runtime.backlog import RETRY, Backlog, Scheduled, read_name
from holdfast.runtime.codec import decode_envelope
from holdfast.runtime.control import RESUME_TIMER
from holdfast.runtime.errors import Undecodable
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import DeadLetters, Membership, Transport

#: Scheduled things, unfinished effects and dead letters that are looked at; the first two of each partition.
SCHEDULED_MAX = 10_000
EFFECTS_MAX = 500
LETTERS_MAX = 1_000
#: Idle instances of each workflow that are looked at for those that wait for something chosen.
IDLE_MAX = 10_000

#: Run states in which an instance may be waiting for something.
WAITING = (RunState.INITIATED, RunState.RUNNING, RunState.PAUSED)

#: What things wait for.
WORKER, BEHIND, DEAD_LETTER, RETRY_AT = "worker", "behind", "dead-letter", "retry"
LIMIT, EFFECT, TIMER, RESUME, COMMAND = "limit", "effect", "timer", "resume", "command"
KINDS = (WORKER, BEHIND, DEAD_LETTER, RETRY_AT, LIMIT, EFFECT, TIMER, RESUME, COMMAND)


class EffectLine(Protocol):
    """What the effect pool knows of an unfinished effect."""

    @property
    def workflow(self) -> str:
        """The workflow of the instance that asked for it."""

    @property
    def key(self) -> str:
        """The key of that instance."""

    @property
    def id(self) -> str:
        """The effect's own id."""

    @property
    def effect(self) -> str:
        """The name of its class."""

    @property
    def state(self) -> str:
        """One of waiting, running, retry, limit and rate."""

    @property
    def attempts(self) -> int:
        """How often it was begun."""

    @property
    def since_ms(self) -> int:
        """Since when it is in this state."""

    @property
    def until_ms(self) -> int:
        """When it goes on; 0 where no time is set."""

    @property
    def error(self) -> str:
        """What the last attempt failed with, or what it waits for."""


class Wait(NamedTuple):
    """One thing that is waited for."""

    #: One of KINDS.
    kind: str
    #: What exactly, in a few words.
    what: str
    #: Since when, in milliseconds since 1970; 0 where nobody knows.
    since_ms: int
    #: Until when, where that is known: when the timer is due, the pause ends, or the effect is tried again.
    until_ms: int = 0


@dataclass(slots=True)
class Stuck:
    """One instance that does not move, or a part of the installation that is served by nobody."""

    #: Empty for what is no instance.
    workflow: str
    key: str
    #: What it is, where it is no instance.
    name: str = ""
    #: As the directory has it; None where the instance moved lately, but something of it did not.
    run_state: RunState | None = None
    since_ms: int = 0
    waits: list[Wait] = field(default_factory=list)

    def add(self, wait: Wait) -> None:
        """Add something that it waits for."""
        self.waits.append(wait)
        if wait.since_ms and self.run_state is None:
            self.since_ms = min(wait.since_ms, self.since_ms or wait.since_ms)

    def ends(self, until_ms: int) -> bool:
        """Take when its pause ends by itself; return whether it is paused."""
        for number, wait in enumerate(self.waits):
            if wait.kind == RESUME:
                self.waits[number] = wait._replace(what="its pause to end", until_ms=until_ms)
                return True
        return False


@dataclass(slots=True)
class Findings:
    """Everything that was found."""

    #: What is served by nobody first, then the longest stuck.
    items: list[Stuck]
    #: Whether nothing was left out: False if there was more than was looked at.
    whole: bool = True


class Search:
    """Finds what is stuck."""

    def __init__(
        self,
        backlog: Backlog,
        dead_letters: DeadLetters,
        membership: Membership,
        transport: Transport,
        effects: Callable[[], Iterable[EffectLine]] | None = None,
    ) -> None:
        """Take the ports.

        Args:
            backlog, dead_letters, membership, transport: The ports.
            effects: What the effect pool knows of unfinished effects; without it only what is stored is seen, and not
                why.
        """
        self._backlog = backlog
        self._dead_letters = dead_letters
        self._membership = membership
        self._transport = transport
        self._known_effects = effects

    def find(
        self, workflows: Sequence[str], older_ms: int, limit: int, kinds: Iterable[str] = KINDS
    ) -> Findings:
        """Return what has not moved for so long.

        Args:
            workflows: Types of instances that are looked for.
            older_ms: For how long it must not have moved.
            limit: How many items are returned; unless `kinds` are chosen, no more idle instances of each workflow are
                looked at.
            kinds: What must be waited for: an item is returned if one of its waits is of these.
        """
        posts = roster(self._backlog, self._membership, self._transport)
        now_ms = max((post.now_ms for post in posts), default=0)
        until_ms = now_ms - older_ms
        sheet = _Sheet(workflows, until_ms, now_ms)
        wanted = set(kinds)
        if not wanted <= {WORKER, BEHIND}:
            self._instances(
                sheet, workflows, until_ms, limit if wanted.issuperset(KINDS) else max(limit, IDLE_MAX)
            )
            self._effects(sheet)
            self._scheduled(sheet)
            self._letters(sheet)
        items = [
            *_posts(posts, until_ms),
            *sorted(sheet.done(), key=lambda one: (one.since_ms, one.workflow, one.key)),
        ]
        items = [one for one in items if wanted.intersection(wait.kind for wait in one.waits)]
        return Findings(items[:limit], sheet.whole and len(items) <= limit)

    def _instances(self, sheet: _Sheet, workflows: Sequence[str], until_ms: int, limit: int) -> None:
        for workflow in workflows:
            found = self._backlog.idle(workflow, WAITING, until_ms, limit + 1)
            sheet.whole &= len(found) <= limit
            for one in found[:limit]:
                sheet.idle(one.ref, one.run_state, one.updated_ms)

    def _effects(self, sheet: _Sheet) -> None:
        if self._known_effects is not None:
            for line in self._known_effects():
                sheet.wait(line.workflow, line.key, _effect(line))
            return
        counts: dict[int, int] = {}
        for one in self._backlog.effects(EFFECTS_MAX):
            counts[one.partition] = counts.get(one.partition, 0) + 1
            what = f"{effect_in(one.entry)} to be run, or to end ({one.entry.id})"
            sheet.wait(one.entry.workflow, one.entry.key, Wait(EFFECT, what, one.since_ms))
        sheet.whole &= max(counts.values(), default=0) < EFFECTS_MAX

    def _scheduled(self, sheet: _Sheet) -> None:
        """Take what is scheduled: retries, what is overdue, and what idle instances wait for."""
        scheduled = self._backlog.scheduled(SCHEDULED_MAX)
        counts: dict[int, int] = {}
        for one in scheduled:
            counts[one.partition] = counts.get(one.partition, 0) + 1
        sheet.cut_short = {partition for partition, count in counts.items() if count >= SCHEDULED_MAX}
        sheet.whole &= not sheet.cut_short
        wanted = [one for one in scheduled if sheet.cares_for(one)]
        for one, data in zip(wanted, self._backlog.payloads(wanted), strict=True):
            if data is None:
                continue  # it was sent meanwhile
            if one.name.startswith(RETRY):
                if self._known_effects is not None:
                    continue
                entry = read_effect(data)
                what = f"the next try of {effect_in(entry)} ({entry.id})"
                sheet.wait(entry.workflow, entry.key, Wait(RETRY_AT, what, entry.at_ms, one.due_ms))
            else:
                sheet.timer(one, data)

    def _letters(self, sheet: _Sheet) -> None:
        letters = self._dead_letters.list(limit=LETTERS_MAX + 1)
        sheet.whole &= len(letters) <= LETTERS_MAX
        for letter in letters[:LETTERS_MAX]:
            what = f"somebody to deal with {letter.id}: {letter.error}"
            wait = Wait(DEAD_LETTER, what, letter.at_ms)
            if letter.workflow:
                sheet.wait(letter.workflow, letter.key, wait)
            else:
                sheet.nameless(f"{letter.kind} {letter.id}", wait)


class _Sheet:
    """What was found until now, by instance."""

    def __init__(self, workflows: Iterable[str], until_ms: int, now_ms: int) -> None:
        self._workflows = set(workflows)
        self._until_ms = until_ms
        self._now_ms = now_ms
        self._items: dict[tuple[str, str], Stuck] = {}
        self._partitions: dict[tuple[str, str], int] = {}
        self._nameless: list[Stuck] = []
        #: Partitions of whose schedule only the beginning was looked at.
        self.cut_short: set[int] = set()
        self.whole = True

    def idle(self, ref: Ref, run_state: RunState, updated_ms: int) -> None:
        """Take an instance that has not changed."""
        item = Stuck(ref.workflow, ref.key, "", run_state, updated_ms)
        self._items[ref.workflow, ref.key] = item
        self._partitions[ref.workflow, ref.key] = ref.partition
        if run_state is RunState.PAUSED:
            item.add(Wait(RESUME, "somebody to resume it", updated_ms))

    def wait(self, workflow: str, key: str, wait: Wait) -> None:
        """Take something that an instance waits for, if that is old enough or the instance is idle."""
        item = self._items.get((workflow, key))
        if item is None:
            if workflow not in self._workflows or wait.since_ms > self._until_ms:
                return
            item = self._items[workflow, key] = Stuck(workflow, key)
        item.add(wait)

    def nameless(self, name: str, wait: Wait) -> None:
        """Take something that belongs to no instance."""
        if wait.since_ms <= self._until_ms:
            item = Stuck("", "", name)
            item.add(wait)
            self._nameless.append(item)

    def cares_for(self, one: Scheduled) -> bool:
        """Return whether something scheduled is worth reading."""
        if one.name.startswith(RETRY) or one.due_ms <= self._until_ms:
            return True
        name = read_name(one.name)
        return name is not None and (name.workflow, name.key) in self._items

    def timer(self, one: Scheduled, envelope: bytes) -> None:
        """Take a timer: one that is overdue waits for its pool, another is what its instance waits for."""
        name = read_name(one.name)
        try:
            whose = name or decode_envelope(envelope)
        except Undecodable:
            return
        overdue = one.due_ms <= self._now_ms
        item = self._items.get((whose.workflow, whose.key))
        if item is not None and name and name.timer == RESUME_TIMER and not overdue and item.ends(one.due_ms):
            return
        what = command_in(envelope) + (", which is overdue" if overdue else " to be sent")
        since_ms = one.due_ms if overdue else item.since_ms if item is not None else 0
        self.wait(whose.workflow, whose.key, Wait(TIMER, what, since_ms, one.due_ms))

    def done(self) -> Iterator[Stuck]:
        """Yield all; an idle instance for which nothing is on its way waits for a command."""
        for ref, item in self._items.items():
            if not item.waits:
                unseen = self._partitions[ref] in self.cut_short
                what = "a command, or a timer that is far ahead" if unseen else "a command"
                item.add(Wait(COMMAND, what, item.since_ms))
            yield item
        yield from self._nameless


def _effect(line: EffectLine) -> Wait:
    """Return what an effect waits for, as its pool knows it."""
    name = f"{line.effect or 'an effect'} ({line.id})"
    tried = f", tried {line.attempts} times" if line.attempts else ""
    why = f": {line.error}" if line.error else ""
    match line.state:
        case "retry":
            return Wait(RETRY_AT, f"the next try of {name}{tried}{why}", line.since_ms, line.until_ms)
        case "limit" | "rate":
            return Wait(LIMIT, f"its turn for {name}{why}", line.since_ms, line.until_ms)
        case "running":
            return Wait(EFFECT, f"{name} to end{tried}", line.since_ms)
        case _:
            return Wait(EFFECT, f"{name} to be run{tried}", line.since_ms)


def _posts(posts: Sequence[Post], until_ms: int) -> Iterator[Stuck]:
    """Yield the pools that nobody serves although something waits for them, and those that are served but behind."""
    by_pool: dict[tuple[str, str], list[Post]] = {}
    for post in posts:
        # What waits for an unknown time is told only where nobody serves it: then nobody can say that it is new.
        if post.deserted and post.since_ms <= until_ms:
            by_pool.setdefault((post.pool, WORKER), []).append(post)
        elif post.pool in ("timer", "projection") and 0 < post.since_ms <= until_ms:
            by_pool.setdefault((post.pool, BEHIND), []).append(post)
    for (pool, kind), found in sorted(by_pool.items(), key=lambda one: one[0][1] != WORKER):
        count = sum(post.waiting for post in found)
        known = [post.since_ms for post in found if post.since_ms]
        where = ", ".join(str(post.partition) for post in found)
        more = " or more" if any(post.more for post in found) else ""
        whom = f"a worker with --pool {pool}" if kind == WORKER else "its workers to catch up"
        item = Stuck("", "", f"pool {pool}")
        item.add(Wait(kind, f"{whom}: {count:,}{more} wait in partition {where}", min(known, default=0)))
        yield item
