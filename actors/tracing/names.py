"""Names: every span and every attribute that Holdfast emits, in one list. docs/tracing.md says the same to people.

A span is named `{operation} {destination}`. Destinations are few: a namespace, a workflow type, the class of an effect,
a projection, a schedule; never a key or an id.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from opentelemetry.trace import SpanKind


class Kind(NamedTuple):
    """A kind of span."""

    operation: str
    #: What its destination is, for people.
    destination: str
    kind: SpanKind
    #: The operation's type after the messaging conventions; empty where it is none of theirs.
    messaging: str = ""

    def name(self, destination: str) -> str:
        """Return the name of such a span."""
        return f"{self.operation} {destination}"


SEND: Final = Kind("send", "<namespace>.commands", SpanKind.PRODUCER, "send")
EXECUTE: Final = Kind("execute", "<workflow>", SpanKind.CLIENT)
FORWARD: Final = Kind("forward", "<namespace>.ingress", SpanKind.CONSUMER, "process")
RECEIVE: Final = Kind("receive", "<namespace>.commands", SpanKind.CLIENT, "receive")
TURN: Final = Kind("turn", "<namespace>.commands", SpanKind.INTERNAL)
DECIDE: Final = Kind("decide", "<workflow>", SpanKind.CONSUMER, "process")
COMMIT: Final = Kind("commit", "<namespace>.log", SpanKind.CLIENT)
RUN: Final = Kind("run", "<effect>", SpanKind.CONSUMER, "process")
WAIT: Final = Kind("wait", "<workflow>", SpanKind.INTERNAL)
FIRE: Final = Kind("fire", "<workflow>", SpanKind.PRODUCER, "send")
TICK: Final = Kind("tick", "<schedule>", SpanKind.PRODUCER, "create")
APPLY: Final = Kind("apply", "<projection>", SpanKind.CONSUMER, "process")
BURY: Final = Kind("bury", "<kind of dead letter>", SpanKind.INTERNAL)

SPANS: Final = (
    SEND,
    EXECUTE,
    FORWARD,
    RECEIVE,
    TURN,
    DECIDE,
    COMMIT,
    RUN,
    WAIT,
    FIRE,
    TICK,
    APPLY,
    BURY,
)

# -- after the conventions

SYSTEM: Final = "messaging.system"
OPERATION: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
PARTITION: Final = "messaging.destination.partition.id"
MESSAGE_ID: Final = "messaging.message.id"
CONVERSATION_ID: Final = "messaging.message.conversation_id"
BATCH_COUNT: Final = "messaging.batch.message_count"
DB_SYSTEM: Final = "db.system.name"
DB_OPERATION: Final = "db.operation.name"
DB_NAMESPACE: Final = "db.namespace"
DB_BATCH_SIZE: Final = "db.operation.batch.size"
ERROR_TYPE: Final = "error.type"

# -- of our own

WORKFLOW: Final = "workflow.type"
KEY: Final = "workflow.key"
COMMAND: Final = "workflow.command"
OUTCOME: Final = "workflow.outcome"
SEQ: Final = "workflow.seq"
ACCEPTED: Final = "workflow.turn.accepted"
REJECTED: Final = "workflow.turn.rejected"
DUPLICATES: Final = "workflow.turn.duplicates"
CONFLICTS: Final = "workflow.conflicts"
EFFECT: Final = "workflow.effect"
EFFECT_ID: Final = "workflow.effect.id"
ATTEMPT: Final = "workflow.attempt"
TIMER_LATE_MS: Final = "workflow.timer.late_ms"
TIMER_WAITED_MS: Final = "workflow.timer.waited_ms"
SCHEDULE: Final = "workflow.schedule"
TICK_ID: Final = "workflow.schedule.tick"
PROJECTION: Final = "workflow.projection"
GENERATION: Final = "workflow.projection.generation"
EVENTS: Final = "workflow.projection.events"
PARKED: Final = "workflow.projection.parked"
DEAD_LETTER: Final = "workflow.dead_letter.id"
DEAD_LETTER_KIND: Final = "workflow.dead_letter.kind"
PAYLOAD: Final = "workflow.payload"

ATTRIBUTES: Final = (
    SYSTEM,
    OPERATION,
    OPERATION_TYPE,
    DESTINATION,
    PARTITION,
    MESSAGE_ID,
    CONVERSATION_ID,
    BATCH_COUNT,
    DB_SYSTEM,
    DB_OPERATION,
    DB_NAMESPACE,
    DB_BATCH_SIZE,
    ERROR_TYPE,
    WORKFLOW,
    KEY,
    COMMAND,
    OUTCOME,
    SEQ,
    ACCEPTED,
    REJECTED,
    DUPLICATES,
    CONFLICTS,
    EFFECT,
    EFFECT_ID,
    ATTEMPT,
    TIMER_LATE_MS,
    TIMER_WAITED_MS,
    SCHEDULE,
    TICK_ID,
    PROJECTION,
    GENERATION,
    EVENTS,
    PARKED,
    DEAD_LETTER,
    DEAD_LETTER_KIND,
    PAYLOAD,
)

# -- the event of an error

EXCEPTION: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_TRACEBACK: Final = "exception.stacktrace"
