"""Spans of the command pool.

    receive (a batch, until it is acknowledged)     links to what sent each command
      turn
        commit
    decide (a command)                              child of what sent it

The batch has spans only where one of its commands is traced. A decision's span is exported when its batch is settled, so
what is decided again after a conflict or an outage has one; a duplicate, which is not decided, has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Token
from time import time_ns
from typing import Any

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, Span, SpanContext

from holdfast.actors.commands import CommandBatch, CommandLane
from holdfast.actors.tracing import names
from holdfast.actors.tracing.context import (
    ROOT,
    UNSAMPLED,
    UNSAMPLED_ENDS,
    Origin,
    dropped_text,
    origin,
    read,
    text_of,
    within,
)
from holdfast.actors.tracing.dead_letters import bury
from holdfast.actors.tracing.tracing import Tracing, harmless, instance
from holdfast.runtime.keys import Ref
from holdfast.runtime.mailbox import Letter
from holdfast.runtime.message import describe
from holdfast.runtime.plan import Plan
from holdfast.runtime.ports import Commit, CommitResult, Conflict, Delivery, Fenced, Journal
from holdfast.runtime.turn_result import TurnResult

#: As many links a span has at most.
LINKS_MAX = 128


class Decision:
    """The span of a decision; None once it was exported."""

    __slots__ = (
        "begun_ns",
        "context",
        "ended_ns",
        "error",
        "letter",
        "outcome",
        "ref",
        "seq",
        "span",
        "token",
        "trace",
    )

    def __init__(self, ref: Ref, letter: Letter, span: Span) -> None:
        own = span.get_span_context()
        self.ref = ref
        self.letter = letter
        self.trace = text_of(own)
        self.span: Span | None = span
        self.context: Context = within(span)
        self.token: Token[Context] | None = None
        self.ended_ns = 0
        self.outcome = ""
        self.seq = 0
        self.error: Exception | None = None

    def enter(self) -> None:
        """Have spans that the workflow's code starts be children of this one."""
        if self.span is not None:
            self.token = attach(self.context)

    def leave(self) -> None:
        """Say that the workflow's code is through."""
        if self.token is not None:
            detach(self.token)
            self.token = None
            self.ended_ns = time_ns()


class Dropped:
    """Decisions that are not sampled, and nothing that they lead to."""

    __slots__ = ("error", "outcome", "seq", "trace")

    span = None

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def enter(self) -> None:
        """Do nothing: the turn has a context in which nothing is sampled."""

    def leave(self) -> None:
        """Do nothing."""


class CommandSpans:
    """The spans of one lane, for one batch at a time."""

    def __init__(self, tracing: Tracing, now_ms: Callable[[], int]) -> None:
        self._tracing = tracing
        self._now_ms = now_ms
        self._open: list[Decision] = []
        self._links: list[SpanContext] = []
        self._taken_ns = self._begun_ns = 0
        self._count = 0
        self._dropped = Dropped(dropped_text())
        self._receive: Span | None = None
        self._turn: Span | None = None

    # -- told by the lane

    def taken(self, count: int) -> None:
        """Say that a batch was taken."""
        self._taken_ns, self._count = time_ns(), count
        self._dropped = Dropped(dropped_text())
        self._open, self._links = [], []
        self._receive = self._turn = None

    def working(self) -> None:
        """Say that its turn begins."""
        self._begun_ns = time_ns()

    @harmless
    def worked(self, result: TurnResult | None) -> None:
        """Say that its turn is over."""
        turn, self._turn = self._turn, None
        if turn is None:
            return
        if result is None:
            self._tracing.failed(turn, "Unfinished", "the batch is left to others")
        else:
            turn.set_attributes(
                {
                    names.ACCEPTED: result.accepted,
                    names.REJECTED: result.rejected,
                    names.DUPLICATES: result.duplicates,
                    names.CONFLICTS: result.conflicts,
                }
            )
        turn.end()

    @harmless
    def settled(self, result: TurnResult | None) -> None:
        """Say that it was acknowledged, and export what was decided in it."""
        decided, self._open = self._open, []
        if result is not None:
            for one in decided:
                if one.outcome:
                    self._end(one)
            if result.dead:
                known = {(one.ref.workflow, one.ref.key, one.letter.envelope.id): one for one in decided}
                for letter in result.dead:
                    decision = known.get((letter.workflow, letter.key, letter.command_id))
                    bury(
                        self._tracing,
                        letter,
                        self._now_ms(),
                        decision.trace if decision is not None else None,
                    )
        receive, self._receive = self._receive, None
        if receive is not None:
            receive.end()

    # -- told by the turn

    def begin(self, ref: Ref, letter: Letter) -> Decision | Dropped | None:
        """Say that the workflow's code is asked next."""
        trace = letter.envelope.trace
        # By far the most where few are sampled: what came is handed on, and what begins here shares what is made once for
        # the batch, so that nothing is made for any of them.
        if trace is None:
            if letter.delivery.span is None and not self._tracing.keeps():
                return self._dropped
        elif trace[-1:] in UNSAMPLED_ENDS:
            return None
        decision: Decision | Dropped | None = letter.delivery.span or self._begin(ref, letter, trace)
        if isinstance(decision, Decision):
            if decision.span is not None and decision not in self._open[-1:]:
                self._open.append(decision)
            decision.letter = letter
            decision.enter()
        return decision

    @harmless
    def _begin(self, ref: Ref, letter: Letter, trace: str | None) -> Decision | Dropped:
        envelope = letter.envelope
        came = origin(trace, envelope.sent_ms, self._now_ms()) if trace else Origin(ROOT, (), dropped=False)
        span = self._tracing.start(names.DECIDE, ref.workflow, came.parent, came.links, kept=bool(came.links))
        if not span.is_recording():
            text = dropped_text() if trace is None else text_of(span.get_span_context())
            dropped = letter.delivery.span = Dropped(text)
            return dropped
        decision = letter.delivery.span = Decision(ref, letter, span)
        span.set_attributes(
            self._tracing.messaging(names.DECIDE, self._tracing.commands, ref.partition)
            | instance(ref.workflow, ref.key)
            | {names.MESSAGE_ID: envelope.id}
        )
        if letter.command is not None:
            span.set_attribute(names.COMMAND, describe(letter.command))
        span.set_attributes(self._tracing.payload(envelope.payload))
        self._link(read(trace) or span.get_span_context())
        return decision

    @harmless
    def stand(self, plans: Sequence[Plan]) -> None:
        """Note what became of decisions, in plans that stand."""
        if not self._open:
            return
        for plan in plans:
            for letter, answer in plan.answers:
                if letter.delivery.span is not None:
                    letter.delivery.span.outcome = answer.kind
                    letter.delivery.span.seq = answer.seq
            for letter, error in plan.failures:
                if letter.delivery.span is not None:
                    letter.delivery.span.outcome, letter.delivery.span.error = "dead", error
            for letter, seq in plan.duplicates:
                # It was committed by us, but the answer that said so was lost.
                if letter.delivery.span is not None:
                    self._again(letter.delivery, seq)

    def _again(self, delivery: Delivery, seq: int) -> None:
        decision: Decision | Dropped = delivery.span
        if isinstance(decision, Dropped):
            return
        if not decision.outcome:
            decision.outcome, decision.seq = "accepted", seq
        if decision.span is not None and decision not in self._open:
            self._open.append(decision)

    @harmless
    def _end(self, one: Decision) -> None:
        span = one.span
        if span is None:
            return
        one.span = None
        span.set_attribute(names.OUTCOME, one.outcome)
        if one.seq:
            span.set_attribute(names.SEQ, one.seq)
        if one.error is not None:
            self._tracing.fail(span, one.error)
        span.end(one.ended_ns or None)

    # -- the batch

    def _link(self, context: SpanContext) -> None:
        """Have the spans of the batch say that this command is in it."""
        if not self._links:
            self._open_batch()
        if len(self._links) < LINKS_MAX:
            self._links.append(context)
            for span in (self._receive, self._turn):
                if span is not None:
                    span.add_link(context)

    def _open_batch(self) -> None:
        tracing = self._tracing
        receive = tracing.start(names.RECEIVE, tracing.commands, start_ns=self._taken_ns, kept=True)
        if not receive.is_recording():
            return
        receive.set_attributes(
            tracing.messaging(names.RECEIVE, tracing.commands) | {names.BATCH_COUNT: self._count}
        )
        self._receive = receive
        self._turn = tracing.start(names.TURN, tracing.commands, within(receive), start_ns=self._begun_ns)

    @harmless
    def committing(self, commits: Sequence[Commit]) -> tuple[Span, Token[Context]] | None:
        """Say that decisions are written next."""
        if self._turn is None:
            return None
        tracing = self._tracing
        links = [Link(context) for context in self._links]
        span = tracing.start(names.COMMIT, f"{tracing.namespace}.log", within(self._turn), links)
        span.set_attributes(
            {
                names.DB_SYSTEM: tracing.database,
                names.DB_OPERATION: names.COMMIT.operation,
                names.DB_NAMESPACE: tracing.namespace,
                names.DB_BATCH_SIZE: len(commits),
            }
        )
        return span, attach(within(span))

    @harmless
    def committed(
        self, begun: tuple[Span, Token[Context]], results: Sequence[CommitResult], error: BaseException | None
    ) -> None:
        """Say what came of that."""
        span, token = begun
        detach(token)
        if error is not None:
            self._tracing.fail(span, error)
        span.set_attribute(names.CONFLICTS, sum(isinstance(one, Conflict | Fenced) for one in results))
        span.end()


class TracedJournal:
    """A journal whose commits are traced."""

    def __init__(self, inner: Journal, spans: CommandSpans) -> None:
        self._inner = inner
        self._spans = spans

    def commit(self, commits: Sequence[Commit], owner: str) -> list[CommitResult]:
        """Write each commit whose lease, token, sequence number and head all still hold."""
        begun = self._spans.committing(commits)
        if begun is None:
            return self._inner.commit(commits, owner)
        results: list[CommitResult] = []
        error: BaseException | None = None
        try:
            results = self._inner.commit(commits, owner)
        except BaseException as caught:
            error = caught
            raise
        finally:
            self._spans.committed(begun, results, error)
        return results

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class TracedCommandLane(CommandLane):
    """A lane of the command pool whose work is traced."""

    def __init__(self, *args: Any, spans: CommandSpans, **options: Any) -> None:
        super().__init__(*args, **options)
        self._spans = spans

    def take(self, timeout_s: float) -> CommandBatch | None:
        """Return what has arrived, behind what was put off."""
        batch = super().take(timeout_s)
        if batch is not None:
            self._spans.taken(len(batch.deliveries))
        return batch

    def work(self, batch: CommandBatch) -> None:
        """Run a batch until it is through."""
        self._spans.working()
        token = attach(UNSAMPLED)
        try:
            super().work(batch)
        finally:
            detach(token)
            self._spans.worked(batch.result)

    def settle(self, batch: CommandBatch) -> None:
        """Acknowledge what is done, keep what was put off, give back what is no longer ours."""
        try:
            super().settle(batch)
        finally:
            self._spans.settled(batch.result)
