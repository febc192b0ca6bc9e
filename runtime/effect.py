"""Effects: what users write to have them run, and what becomes of what their handlers return.

A handler is a function of the effect and its context. It returns nothing, a command, or a list of commands; it may run
more than once, always under the same idempotency key.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple, TypeVar

import msgspec

from holdfast.runtime import checks
from holdfast.runtime.clock import from_ms
from holdfast.runtime.codec import encode_envelope, encode_message
from holdfast.runtime.definition import Definition
from holdfast.runtime.errors import HoldfastError, UsageError, WorkflowError
from holdfast.runtime.ids import READABLE_ID_CHARS, digest_of
from holdfast.runtime.keys import partition_of
from holdfast.runtime.limit import Limit, Rate, Want, value_of
from holdfast.runtime.message import Command, Effect, Envelope, describe, tag_of
from holdfast.runtime.record import EffectEntry
from holdfast.runtime.retry import Retry

DEFAULT_RETRY = Retry()
DEFAULT_TIMEOUT_S = 60.0
#: A longer one is a mistake: `ctx.heartbeat()` is for handlers that take long, None for those that may take forever.
TIMEOUT_MAX_S = 30 * 24 * 60 * 60.0


class Permanent(HoldfastError):
    """Trying this effect again would not help. Raise it in a handler to give the effect up at once."""


class EffectTimeout(HoldfastError):
    """The handler took longer than its timeout."""


class EffectFailed(Command, frozen=True, kw_only=True):
    """What a process is told when one of its effects was given up on, so that it can compensate.

    Derive a command from it that declares the workflow's key field, and add that to the workflow's commands. Holdfast
    fills in the key. Other fields need defaults.

        class ChargeFailed(EffectFailed, frozen=True, kw_only=True):
            of = (ChargeCard,)  # the effects it is about; all of the workflow's where this is left out
            order_id: str
    """

    of: ClassVar[tuple[type[Effect], ...] | type[Effect]] = ()

    effect_id: str
    #: The name of the effect's class, as it is stored.
    effect: str
    #: Why it was given up, in one sentence.
    error: str
    attempts: int


def _no_heartbeat() -> None:
    """Do nothing: there is no time limit."""


@dataclass(frozen=True, slots=True)
class EffectContext:
    """What a handler is told about the effect that it runs."""

    #: Unique within its instance, and the same in every attempt.
    effect_id: str
    workflow: str
    key: str
    #: The sequence number of the record that asked for the effect.
    seq: int
    #: 1 for the first attempt.
    attempt: int
    #: When it was asked for.
    created: datetime
    #: When this attempt runs out of time, unless `heartbeat` is called; None without a timeout.
    deadline: datetime | None = None
    #: The W3C traceparent of this attempt where it is traced, else of the decision that asked for it.
    trace: str | None = None
    _beat: Callable[[], None] = field(default=_no_heartbeat, repr=False, compare=False)

    @property
    def idempotency_key(self) -> str:
        """What to hand to whoever should recognise a second attempt: the same in every attempt, and no other effect's."""
        return f"{self.workflow}/{self.key}/{self.effect_id}"

    @property
    def instance(self) -> tuple[str, str]:
        """The workflow and the key of the instance that asked for it."""
        return self.workflow, self.key

    @property
    def is_retry(self) -> bool:
        """Whether it was begun before."""
        return self.attempt > 1

    def heartbeat(self) -> None:
        """Say that the handler still works: its time limit begins anew. May be called from any thread.

        Raises:
            EffectTimeout: It is too late: this attempt was given up, and another one may have begun.
        """
        self._beat()

    @classmethod
    def for_testing(
        cls,
        effect_id: str = "c-1:0",
        *,
        workflow: str = "workflow",
        key: str = "key",
        seq: int = 1,
        attempt: int = 1,
        created: datetime = datetime(2026, 1, 1, tzinfo=UTC),
        deadline: datetime | None = None,
        heartbeat: Callable[[], None] = _no_heartbeat,
    ) -> EffectContext:
        """Return a context to call a handler with in a test."""
        return cls(effect_id, workflow, key, seq, attempt, created, deadline, None, heartbeat)


#: What a handler may return.
Result = Command | Sequence[Command] | None
#: A handler as the decorator takes it and gives it back.
H = TypeVar("H", bound=Callable[[Any, EffectContext], Result | Awaitable[Result]])


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler and how it is to be run. Making one finds every mistake in it.

    Raises:
        WorkflowError: It cannot be called with an effect and a context, or an option is none.
    """

    kind: type[Effect]
    call: Callable[..., Any]
    retry: Retry = DEFAULT_RETRY
    timeout_s: float | None = DEFAULT_TIMEOUT_S
    limit: Limit | None = None
    rate: Rate | None = None
    #: Whether it is run on the event loop.
    is_async: bool = field(init=False)

    def __post_init__(self) -> None:
        check_effect_class(self.kind)
        what = f"{self.name}, the handler of {self.kind.__name__}"
        name = self.call.__name__ if inspect.isroutine(self.call) else ""
        problem = checks.function_problem(
            self.call, "effect", "ctx", name=name if name.isidentifier() else "handle", may_be_async=True
        )
        if problem:
            message = f"{what}, {problem}"
            raise WorkflowError(message)
        for option, value, wanted, example in (
            ("retry", self.retry, Retry, "retry=Retry(attempts=5)"),
            ("limit", self.limit, Limit, "limit=Limit(3), or leave it out"),
            ("rate", self.rate, Rate, "rate=Rate(10, per=1), or leave it out"),
        ):
            if value is None and option != "retry":
                continue
            problem = checks.value_problem(value, wanted, example)
            if problem:
                message = f"{what}: {option} {problem}"
                raise WorkflowError(message)
        timeout: Any = self.timeout_s
        if timeout is not None and not (checks.is_number(timeout, 0, TIMEOUT_MAX_S) and timeout > 0):
            message = (
                f"{what}: timeout is {checks.said(timeout)}; give seconds, more than 0 and at most {TIMEOUT_MAX_S:,.0f}, "
                "or None for no limit"
            )
            raise WorkflowError(message)
        object.__setattr__(self, "is_async", checks.is_async(self.call))

    @property
    def name(self) -> str:
        """What to call the handler in messages."""
        return str(getattr(self.call, "__qualname__", None) or type(self.call).__qualname__)

    def want(self, who: str, effect: Any) -> Want | None:
        """Return the places that an effect needs before it may begin, or None if it needs none.

        Raises:
            UsageError: A key function returned no key; or whatever it raised.
        """
        if self.limit is None and self.rate is None:
            return None
        tag = tag_of(self.kind)
        want = Want(who)
        if self.limit is not None:
            want = want._replace(limit=f"{tag}:{value_of(self.limit.key, effect)}", places=self.limit.count)
        if self.rate is not None:
            want = want._replace(
                rate=f"{tag}:{value_of(self.rate.key, effect)}",
                starts=self.rate.count,
                per_ms=max(1, round(self.rate.per * 1000)),
            )
        return want


def check_effect_class(kind: Any) -> None:
    """Check what a handler is said to be for.

    Raises:
        WorkflowError: It is no effect; the message says where it belongs.
    """
    if inspect.isclass(kind) and issubclass(kind, Effect):
        return
    if inspect.isroutine(kind):
        name = kind.__name__
        message = f"@app.effect has to be told which effect {name} is for; write @app.effect(ChargeCard) above def {name}"
    else:
        message = f"{checks.said(kind)} is no Effect class; write @app.effect(ChargeCard, ...)"
    raise WorkflowError(message)


class Outgoing(NamedTuple):
    """A command that an effect has led to, as it is handed to the transport."""

    partition: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Address:
    """What it takes to make a command of an effect's result: how many partitions, how large, and when it is."""

    partitions: int
    payload_bytes_max: int


def commands_of(handler: Handler, result: Any) -> list[Command]:
    """Return what a handler returned as a list of commands.

    Raises:
        UsageError: It is something else; the message says what.
    """
    if result is None:
        return []
    if isinstance(result, Command):
        return [result]
    if inspect.iscoroutine(result):
        result.close()
    wrong: Any = result
    if isinstance(result, list | tuple):
        wrong = next((one for one in result if not isinstance(one, Command)), None)
        if wrong is None:
            return list(result)
    hint = "; declare it with async def" if inspect.isawaitable(wrong) else ""
    message = (
        f"{handler.name}, the handler of {handler.kind.__name__}, returned {type(wrong).__name__}; "
        f"it must return nothing, a command or a list of commands{hint}"
    )
    raise UsageError(message)


def outgoing_of(
    entry: EffectEntry,
    commands: list[Command],
    find: Callable[[Command], Definition],
    address: Address,
    sent_ms: int,
    attempts: int = 0,
) -> list[Outgoing]:
    """Return result commands as they are sent, with how many attempts they took. Their ids depend on the effect alone, so that a repeat is recognised.

    Raises:
        UsageError: One is no command of the app, its key is refused, a field does not fit, or it is too large.
    """
    return [
        _sent(entry, find(command), command, f"r{index}", address, sent_ms, attempts)
        for index, command in enumerate(commands)
    ]


def _sent(
    entry: EffectEntry,
    definition: Definition,
    command: Command,
    suffix: str,
    address: Address,
    sent_ms: int,
    attempts: int,
) -> Outgoing:
    key = definition.key_of(command)
    payload = encode_message(command, f"{describe(command)} for {key!r}", address.payload_bytes_max)
    own = (definition.type, key) == (entry.workflow, entry.key)
    envelope = Envelope(
        result_id(entry, suffix, own=own),
        definition.type,
        key,
        payload,
        sent_ms,
        cause=entry.id,
        trace=entry.trace,
        attempts=attempts,
    )
    return Outgoing(partition_of(definition.type, key, address.partitions), encode_envelope(envelope))


def result_id(entry: EffectEntry, suffix: str, *, own: bool) -> str:
    """Return the id of a command that an effect leads to: `<effect id>:<suffix>` where that is enough.

    An effect's id is unique within its instance only. To another instance, and where it would grow too long, it goes
    as a digest of the instance and the id.
    """
    readable = f"{entry.id}:{suffix}"
    if own and len(readable) <= READABLE_ID_CHARS:
        return readable
    return f"{result_mark(f'{entry.workflow}/{len(entry.key)}/{entry.key}', entry.id)}:{suffix}"


def result_mark(scope: str, effect_id: str) -> str:
    """Return what the ids of commands begin with that an effect leads to in other instances; see `Ref.scope`."""
    return digest_of(f"{scope}/{effect_id}")


# -- failure, as the process is told of it


def failures_of(definition: Definition) -> dict[type, type[EffectFailed]]:
    """Return by effect class the command that tells the workflow of its failure; under `Effect`, of all the others'.

    Raises:
        WorkflowError: A command that derives from EffectFailed could not be made, or two are about one effect.
    """
    found: dict[type, type[EffectFailed]] = {}
    for kind in definition.commands.by_tag.values():
        if not issubclass(kind, EffectFailed):
            continue
        _check_failure(definition, kind)
        for effect in checks.one_or_many(kind.of) or (Effect,):
            other = found.setdefault(effect, kind)
            if other is not kind:
                what = "every failed effect" if effect is Effect else f"a failed {effect.__name__}"
                message = f"{definition.name}: {other.__name__} and {kind.__name__} both tell of {what}"
                raise WorkflowError(message)
    return found


def _check_failure(definition: Definition, kind: type[EffectFailed]) -> None:
    key = definition.kind.key
    if key not in kind.__struct_fields__:
        message = f"{definition.name}: {kind.__name__} must have the key as a field: {key}: str"
        raise WorkflowError(message)
    for one in msgspec.structs.fields(kind):
        if one.required and one.name != key and one.name not in EffectFailed.__struct_fields__:
            message = f"{definition.name}: {kind.__name__}.{one.name} needs a default: Holdfast does not know its value"
            raise WorkflowError(message)
    for effect in checks.one_or_many(kind.of):
        if effect not in definition.effect_classes:
            message = f"{definition.name}: {kind.__name__}.of has {checks.said(effect)}, which is no effect of it; write of = (ChargeCard,)"
            raise WorkflowError(message)


def failed(
    entry: EffectEntry,
    definition: Definition,
    kind: type[EffectFailed],
    tag: str,
    error: str,
    attempts: int,
    address: Address,
    sent_ms: int,
) -> Outgoing:
    """Return the command that tells an instance that its effect was given up."""
    values = {
        "type": tag_of(kind),
        "effect_id": entry.id,
        "effect": tag,
        "error": error,
        "attempts": attempts,
        definition.kind.key: entry.key,
    }
    # Not strict: the key was made text when the instance was first named, and the field may be a number.
    command = msgspec.convert(values, kind, strict=False)
    return _sent(entry, definition, command, "f", address, sent_ms, attempts)


def context_of(
    entry: EffectEntry, attempt: int, deadline: datetime | None, beat: Callable[[], None]
) -> EffectContext:
    """Return the context of one attempt."""
    return EffectContext(
        entry.id,
        entry.workflow,
        entry.key,
        entry.seq,
        attempt,
        from_ms(entry.at_ms),
        deadline,
        entry.trace,
        beat,
    )
