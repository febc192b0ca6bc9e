"""
Handlers and their results: what may be one, what it may return, and what is sent because of it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from functools import partial, wraps
from typing import Any, Never

import pytest

from holdfast import (
    App,
    Command,
    Decision,
    Effect,
    EffectContext,
    EffectFailed,
    EffectTimeout,
    Event,
    Limit,
    Rate,
    Retry,
    UsageError,
    Workflow,
    WorkflowError,
    accept,
)
from holdfast.runtime.codec import decode_envelope
from holdfast.runtime.effect import Address, Handler, commands_of, failed, outgoing_of, result_id
from holdfast.runtime.limit import Want
from holdfast.runtime.message import Message
from holdfast.runtime.record import EffectEntry
from tests import controls
from tests.controls import ChargeCard, ConfirmPayment, SendReceipt

ADDRESS = Address(controls.PARTITIONS, 10_000)
CONTEXT = EffectContext.for_testing()


def charge(effect: ChargeCard, ctx: EffectContext) -> ConfirmPayment:
    """
    A handler as users write it.
    """
    return ConfirmPayment(effect.order_id)


async def charge_async(effect: ChargeCard, ctx: EffectContext) -> ConfirmPayment:
    """
    The same, for the event loop.
    """
    return charge(effect, ctx)


def dawdle(effect: ChargeCard, ctx: EffectContext) -> Iterator[ConfirmPayment]:
    """
    What nobody would go through.
    """
    yield ConfirmPayment(effect.order_id)


async def dawdle_async(effect: ChargeCard, ctx: EffectContext) -> AsyncIterator[ConfirmPayment]:
    """
    The same, for the event loop.
    """
    yield ConfirmPayment(effect.order_id)


class Callable:
    """An object that is called like a coroutine function."""

    async def __call__(self, effect: ChargeCard, ctx: EffectContext) -> None:
        """
        Do nothing.
        """


# -- handlers


def test_a_handler_stays_a_function() -> None:
    """
    The decorator returns it as it was, so that tests can call it.
    """
    app = controls.app()

    assert charge is app.effect(ChargeCard)(charge)
    assert ConfirmPayment("o-1") == charge(ChargeCard("o-1", 5), CONTEXT)
    assert ConfirmPayment("o-1") == asyncio.run(charge_async(ChargeCard("o-1", 5), CONTEXT))
    assert ("Order: SendReceipt",) == app.unhandled


@pytest.mark.parametrize(
    ("call", "is_async"),
    [
        (charge, False),
        (charge_async, True),
        (partial(charge_async), True),
        (Callable(), True),
        (lambda _e, _c: None, False),
    ],
)
def test_it_is_known_where_a_handler_runs(call: Any, is_async: bool) -> None:
    """
    Coroutine functions, and what is called like one, go to the event loop; all else to a thread.
    """
    assert is_async == Handler(ChargeCard, call).is_async


@pytest.mark.parametrize(
    ("call", "options", "words"),
    [
        (
            lambda effect: None,
            {},
            r"takes \(effect\), but is called with \(effect, ctx\); write def handle\(",
        ),
        (lambda a, b, c: None, {}, r"takes \(a, b, c\), but is called with \(effect, ctx\)"),
        (lambda e, *, ctx: None, {}, r"takes \(e, \*, ctx\), but is called with \(effect, ctx\)"),
        (dawdle, {}, r"dawdle, the handler of ChargeCard, has a yield, .*: write def dawdle\(effect, ctx\)"),
        (dawdle_async, {}, r"dawdle_async, .* has a yield, so that calling it runs nothing"),
        (partial(dawdle), {}, "has a yield"),
        (Callable, {}, r"is the class Callable; write def handle\(effect, ctx\)"),
        (5, {}, "is 5, which cannot be called"),
        (None, {}, "is None, which cannot be called"),
        (
            charge,
            {"timeout": 0},
            "charge, the handler of ChargeCard: timeout is 0; give seconds, more than 0",
        ),
        (charge, {"timeout": -1}, "timeout is -1"),
        (charge, {"timeout": "1"}, "timeout is '1'"),
        (charge, {"timeout": float("nan")}, "timeout is nan"),
        (charge, {"timeout": float("inf")}, "timeout is inf; give .*, or None for no limit"),
        (charge, {"timeout": 1e300}, r"timeout is 1e\+300; give seconds, more than 0 and at most 2,592,000"),
        (charge, {"timeout": True}, "timeout is True"),
        (charge, {"timeout": timedelta(seconds=3)}, "timeout is datetime.timedelta"),
        (charge, {"retry": 5}, r"retry is 5; write retry=Retry\(attempts=5\)"),
        (charge, {"retry": None}, "retry is None"),
        (charge, {"retry": Retry}, r"retry is the class Retry; write retry=Retry\("),
        (charge, {"limit": 5}, r"limit is 5; write limit=Limit\(3\), or leave it out"),
        (charge, {"limit": Limit}, "limit is the class Limit"),
        (charge, {"rate": Limit(1)}, "rate is Limit"),
    ],
)
def test_what_cannot_be_a_handler_is_refused(call: Any, options: dict[str, Any], words: str) -> None:
    """
    At once, with the reason.
    """
    with pytest.raises(WorkflowError, match=words):
        controls.app().effect(ChargeCard, **options)(call)


def passing_on(call: Any) -> Any:
    """
    A decorator as people write it.
    """

    @wraps(call)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    return wrapper


def with_database(call: Any) -> Any:
    """
    A decorator that gives a function more than it is called with.
    """

    @wraps(call)
    def wrapper(effect: Any, ctx: EffectContext) -> Any:
        return call(effect, ctx, "database")

    return wrapper


def test_a_decorated_handler_is_one() -> None:
    """
    What counts is how the outermost function is called, but for one that hands on more than what it wraps can take.
    """
    Handler(ChargeCard, passing_on(charge))
    Handler(ChargeCard, with_database(lambda effect, ctx, database: None))
    with pytest.raises(WorkflowError, match=r"takes \(effect\), but is called with \(effect, ctx\)"):
        Handler(ChargeCard, passing_on(lambda effect: None))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (charge, r"told which effect charge is for; write @app.effect\(ChargeCard\) above def charge"),
        (charge_async, "told which effect charge_async is for"),
        (ChargeCard("o-1", 5), "is no Effect class"),
        (
            ConfirmPayment,
            r"the class ConfirmPayment is no Effect class; write @app.effect\(ChargeCard, ...\)",
        ),
        ("ChargeCard", "'ChargeCard' is no Effect class"),
        (None, "None is no Effect class"),
    ],
)
def test_the_brackets_name_an_effect(kind: Any, words: str) -> None:
    """
    Without them the function would be taken for the effect, and never be called.
    """
    with pytest.raises(WorkflowError, match=words):
        controls.app().effect(kind)


def test_a_handler_is_for_an_effect_of_the_app() -> None:
    """
    Not for one that nobody asks for, nor for anything else.
    """

    class Unasked(Effect, frozen=True):
        pass

    for kind, words in ((Unasked, "no effect of any workflow"), (Message, "is no Effect class")):
        with pytest.raises(WorkflowError, match=words):
            controls.app().effect(kind)(charge)  # type: ignore[arg-type]  # what it is about


def test_an_effect_has_one_handler() -> None:
    """
    The message names both.
    """
    app = controls.app()
    app.effect(ChargeCard)(charge)
    with pytest.raises(WorkflowError, match="charge and charge_async are both handlers of ChargeCard"):
        app.effect(ChargeCard)(charge_async)


# -- context


def test_the_idempotency_key_names_the_effect() -> None:
    """
    It is the instance and the effect's id, whatever the attempt.
    """
    keys = {
        EffectContext.for_testing("c-1:0", workflow="order", key="o-1", attempt=attempt).idempotency_key
        for attempt in (1, 2)
    }

    assert {"order/o-1/c-1:0"} == keys
    assert [False, True] == [EffectContext.for_testing(attempt=number).is_retry for number in (1, 2)]


def test_a_heartbeat_may_be_watched_in_tests() -> None:
    """
    A test may count heartbeats, or have them say that it is too late.
    """
    beats: list[int] = []
    EffectContext.for_testing(heartbeat=lambda: beats.append(1)).heartbeat()
    CONTEXT.heartbeat()

    def late() -> None:
        raise EffectTimeout

    with pytest.raises(EffectTimeout):
        EffectContext.for_testing(heartbeat=late).heartbeat()
    assert [1] == beats


# -- results


def test_a_handler_returns_commands() -> None:
    """
    None, one, or several.
    """
    handler, one = Handler(ChargeCard, charge), ConfirmPayment("o-1")

    assert [[], [one], [one, one], [], [one]] == [
        commands_of(handler, result) for result in (None, one, [one, one], (), (one,))
    ]


async def _coroutine() -> None:
    """
    What a function returns that forgot to be async.
    """


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: 5, "returned int"),
        (lambda: "x", "returned str"),
        (lambda: [ConfirmPayment("o-1"), 5], "returned int"),
        (lambda: ChargeCard("o-1", 1), "returned ChargeCard"),
        (lambda: {ConfirmPayment("o-1")}, "returned set"),
        (_coroutine, "async def"),
    ],
)
def test_anything_else_is_refused(make: Any, words: str) -> None:
    """
    The message names the handler and what it returned.
    """
    with pytest.raises(UsageError, match=words) as caught:
        commands_of(Handler(ChargeCard, charge), make())
    assert "charge, the handler of ChargeCard" in str(caught.value)


def sent(entry: EffectEntry, *commands: Command) -> list[str]:
    """
    Return the ids under which result commands are sent.
    """
    find = controls.app().definition_for
    return [decode_envelope(one.body).id for one in outgoing_of(entry, list(commands), find, ADDRESS, 0)]


def test_results_have_ids_of_the_effect() -> None:
    """
    The same every time, and different for each; the envelope names the effect as its cause.
    """
    entry = controls.effect("c-1:0")
    commands = [ConfirmPayment("o-1"), ConfirmPayment("o-1")]
    (first, _) = outgoing_of(entry, list(commands), controls.app().definition_for, ADDRESS, 0)

    assert ["c-1:0:r0", "c-1:0:r1"] == sent(entry, *commands) == sent(entry, *commands)
    assert ("c-1:0", controls.ref().partition) == (decode_envelope(first.body).cause, first.partition)


def test_results_say_how_many_attempts_they_took() -> None:
    """
    Each of them.
    """
    find = controls.app().definition_for
    found = outgoing_of(controls.effect("c-1:0"), [ConfirmPayment("o-1")] * 2, find, ADDRESS, 0, 3)

    assert [3, 3] == [decode_envelope(one.body).attempts for one in found]


def test_ids_for_others_are_unique_by_instance() -> None:
    """
    Two instances may know the same effect id: what they send to a third must not look the same.
    """
    one, other = (controls.effect("c-1:0", of=controls.ref(key)) for key in ("a", "b"))

    assert sent(one, ConfirmPayment("third")) != sent(other, ConfirmPayment("third"))
    assert ["c-1:0:r0"] != sent(one, ConfirmPayment("third"))


def test_ids_do_not_grow() -> None:
    """
    After a thousand steps, each an effect of the one before, an id is as long as after a few.
    """
    command_id, longest = "c-1", 0
    for _ in range(1_000):
        command_id = result_id(controls.effect(f"{command_id}:0"), "r0", own=True)
        longest = max(longest, len(command_id))

    assert longest <= 64


def test_a_result_of_no_workflow_is_refused() -> None:
    """
    Before anything is sent.
    """

    class Stray(Command, frozen=True):
        order_id: str

    with pytest.raises(UsageError, match="Stray is no command of this app"):
        sent(controls.effect(), ConfirmPayment("o-1"), Stray("o-1"))


# -- places


def test_what_an_effect_needs_to_begin() -> None:
    """
    Its limits by the name of the effect and the value of the key.
    """
    handler = Handler(
        ChargeCard, charge, limit=Limit(3, key=lambda effect: effect.amount), rate=Rate(10, per=2)
    )

    assert Want("me", "ChargeCard:7", 3, "ChargeCard:", 10, 2_000) == handler.want("me", ChargeCard("o-1", 7))
    assert Handler(ChargeCard, charge).want("me", ChargeCard("o-1", 7)) is None


def test_the_key_of_a_limit_is_text_or_a_number() -> None:
    """
    Anything else is a mistake in the function.
    """
    handler = Handler(ChargeCard, charge, limit=Limit(3, key=lambda effect: None))  # type: ignore[arg-type,return-value]  # what it is about
    with pytest.raises(UsageError, match="must be text or a whole number"):
        handler.want("me", ChargeCard("o-1", 7))


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        (Limit, {"count": 0}, r"Limit\(0\): it must be a whole number from 1 to 100,000"),
        (Limit, {"count": 1.5}, r"Limit\(1.5\)"),
        (Limit, {"count": None}, r"Limit\(None\)"),
        (Limit, {"count": True}, r"Limit\(True\)"),
        (
            Limit,
            {"count": 1, "key": "order_id"},
            r"Limit\(key=...\) is 'order_id', which cannot be called; write def key",
        ),
        (
            Limit,
            {"count": 1, "key": lambda: 1},
            r"takes \(\), but is called with \(effect\); write def key\(effect\), or ",
        ),
        (Limit, {"count": 1, "key": charge_async}, "is async, but nobody awaits it"),
        (Rate, {"count": 0}, r"Rate\(0\)"),
        (Rate, {"count": 1, "per": 0}, r"Rate\(per=0\): it must be a number of seconds from 0.001"),
        (Rate, {"count": 1, "per": "1"}, r"Rate\(per='1'\)"),
        (Rate, {"count": 1, "per": float("nan")}, r"Rate\(per=nan\)"),
        (Rate, {"count": 1, "per": float("inf")}, r"Rate\(per=inf\)"),
        (Rate, {"count": 1, "per": timedelta(seconds=1)}, "it must be a number of seconds"),
        (Rate, {"count": 1, "key": 5}, r"Rate\(key=...\) is 5, which cannot be called"),
    ],
)
def test_senseless_limits_are_refused(kind: Any, arguments: dict[str, Any], words: str) -> None:
    """
    When they are made, and in words that say what to write.
    """
    with pytest.raises(WorkflowError, match=words):
        kind(**arguments)


# -- failure


class Failed(EffectFailed, frozen=True, kw_only=True):
    number: int
    note: str = "none"


class ReceiptFailed(EffectFailed, frozen=True, kw_only=True):
    of = (SendReceipt,)
    number: int


class Happened(Event, frozen=True):
    pass


def workflow(*commands: Any, effects: Any = ChargeCard | SendReceipt) -> Any:
    """
    Return a workflow with these commands about failure, whose keys are numbers.
    """
    union: Any = Count
    for command in commands:
        union |= command

    class Counted(Workflow[int, union, Happened, effects]):
        type = "counted"
        key = "number"

        def initial(self) -> int:
            return 0

        def evolve(self, state: int, event: Happened) -> int:
            return state + 1

        def decide(self, now: datetime, state: int, command: Any) -> Decision[Happened, Never]:
            return accept(Happened())

    return Counted


class Count(Command, frozen=True):
    number: int


def test_the_process_is_told_what_failed() -> None:
    """
    The command has the instance's key, as the type that the field has, and the facts of the failure.
    """
    app = App(workflows=[workflow(Failed)])
    entry = EffectEntry("c-1:0", "counted", "17", 1, b"", 0)
    outgoing = failed(entry, app.definition("counted"), Failed, "ChargeCard", "ValueError: no", 5, ADDRESS, 0)
    envelope = decode_envelope(outgoing.body)

    assert ("c-1:0:f", "counted", "17", 5) == (
        envelope.id,
        envelope.workflow,
        envelope.key,
        envelope.attempts,
    )
    assert Failed(
        effect_id="c-1:0", effect="ChargeCard", error="ValueError: no", attempts=5, number=17
    ) == app.definition("counted").commands.decode(envelope.payload)


def test_the_closest_command_is_told() -> None:
    """
    One that names the effect comes before one for all of them; without any nobody is told.
    """
    app = App(workflows=[workflow(Failed, ReceiptFailed)])
    found = [app.failure_of("counted", kind) for kind in (ChargeCard, SendReceipt, None)]

    assert [Failed, ReceiptFailed, Failed] == found
    assert App(workflows=[workflow()]).failure_of("counted", ChargeCard) is None
    assert App(workflows=[workflow(ReceiptFailed)]).failure_of("counted", ChargeCard) is None


class Twice(EffectFailed, frozen=True, kw_only=True):
    number: int


class NoKey(EffectFailed, frozen=True, kw_only=True):
    def number(self) -> str:
        """
        A key that Holdfast cannot fill in.
        """
        return "1"


class Needy(EffectFailed, frozen=True, kw_only=True):
    number: int
    mood: str


class Strange(EffectFailed, frozen=True, kw_only=True):
    of = (ChargeCard,)
    number: int


class Bare(EffectFailed, frozen=True, kw_only=True):
    of = SendReceipt
    number: int


class Odd(EffectFailed, frozen=True, kw_only=True):
    of = "ChargeCard"  # type: ignore[assignment]  # the mistake
    number: int


@pytest.mark.parametrize(
    ("commands", "effects", "words"),
    [
        ((Failed, Twice), ChargeCard, "both tell of every failed effect"),
        ((NoKey,), ChargeCard, "must have the key as a field"),
        ((Needy,), ChargeCard, "Needy.mood needs a default"),
        ((Strange,), SendReceipt, "ChargeCard, which is no effect of it"),
        (
            (Odd,),
            ChargeCard,
            r"Odd.of has 'ChargeCard', which is no effect of it; write of = \(ChargeCard,\)",
        ),
        ((ReceiptFailed, Bare), SendReceipt, "both tell of a failed SendReceipt"),
    ],
)
def test_commands_that_could_not_be_made_are_found_at_once(commands: Any, effects: Any, words: str) -> None:
    """
    When the app is made, not when an effect has failed.
    """
    with pytest.raises(WorkflowError, match=words):
        App(workflows=[workflow(*commands, effects=effects)])


def test_a_policy_says_what_not_to_try_again() -> None:
    """
    It is part of the handler and of its check.
    """
    assert (LookupError,) == Handler(ChargeCard, charge, Retry(unless=(LookupError,))).retry.unless
