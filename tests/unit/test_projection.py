"""
Projections as they are declared: every mistake is found when the app is made, and told with the class it is in.
"""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from holdfast import CheckpointStore, RedisStore
from holdfast.runtime.app import App
from holdfast.runtime.errors import UsageError, WorkflowError
from holdfast.runtime.feed import position_of
from holdfast.runtime.projection import Projection, ProjectionContext, on
from holdfast.runtime.retry import Retry
from tests import controls
from tests.controls import Added, Counter, Order, OrderCancelled, OrderPaid, OrderPlaced


class Sums(Projection):
    name = "sums"
    source = (Order, Counter)

    @on(OrderPlaced, OrderPaid)
    def order(self, event: OrderPlaced | OrderPaid, ctx: ProjectionContext) -> None: ...

    @on(Added)
    async def counter(self, event: Added, ctx: ProjectionContext) -> None: ...


class Everything(Projection):
    name = "everything"
    source = Order

    @on(OrderPaid)
    def paid(self, event: OrderPaid, ctx: ProjectionContext) -> None: ...

    def apply(self, event: Any, ctx: ProjectionContext) -> None: ...


def make(*projections: Any) -> App:
    return App(workflows=[Order, Counter], projections=projections)


def test_events_find_their_methods() -> None:
    """
    Those that are marked for them; `apply` gets the rest, and without it the rest is passed over.
    """
    sums, everything = make(Sums(), Everything()).projections
    names = [getattr(sums.handler(event), "__name__", None) for event in (OrderPlaced, Added, OrderCancelled)]

    assert ["order", "counter", None] == names
    assert ["paid", "apply"] == [
        getattr(everything.handler(event), "__name__", None) for event in (OrderPaid, OrderPlaced)
    ]
    assert ["order", "counter"] == list(sums.sources)


@pytest.mark.parametrize("named", ["sums", Sums, Sums()])
def test_a_projection_is_found_by_whatever_names_it(named: Any) -> None:
    """
    Its name, its class or itself; another is an error that says what there is.
    """
    app = make(Sums(), Everything())

    assert "sums" == app.projection(named).name
    with pytest.raises(UsageError, match="'other' is no projection of this app; it has: everything, sums"):
        app.projection("other")


def generator(self: Any, event: Any, ctx: Any) -> Iterator[None]:
    """
    What nobody would go through.
    """
    yield


async def async_generator(self: Any, event: Any, ctx: Any) -> AsyncIterator[None]:
    """
    The same, for the event loop.
    """
    yield


def transaction(self: Any, tx: Any) -> Iterator[None]:
    """
    A context manager that nobody made one of.
    """
    yield


async def async_transaction(self: Any, tx: Any) -> AsyncIterator[None]:
    """
    One that nobody would await.
    """
    yield


def ignored(self: Any, event: Any, ctx: Any) -> None:
    """
    Do nothing.
    """


class Shut:
    """
    A store that cannot be opened.
    """

    def open(self) -> None:
        """
        Take too little.
        """


def changed(**members: Any) -> Callable[[], Projection]:
    """
    Return a projection class that has something otherwise.
    """
    return type(
        "Wrong", (Projection,), {"name": "wrong", "source": Order, "apply": Everything.apply} | members
    )


@pytest.mark.parametrize(
    ("projection", "words"),
    [
        (Sums, "Sums is a class; give the app an instance: projections=[Sums()]"),
        (7, "7 is no Projection; projections=[...] takes instances of its subclasses"),
        (
            changed(name="no name")(),
            "Wrong.name is 'no name'; it must be 1 to 40 letters, digits or underscores",
        ),
        (changed(name=None)(), "Wrong.name is None"),
        (
            changed(source=7)(),
            "Wrong.source names 7, which is no workflow class of this app; it has: Order, Counter",
        ),
        (changed(source="order")(), "Wrong.source names 'order', which is no workflow class"),
        (changed(source=None)(), "Wrong.source names None, which is no workflow class"),
        (changed(source=[Order, "counter"])(), "Wrong.source names 'counter', which is no workflow class"),
        (
            changed(source={Order: Counter})(),
            "which is no workflow class of this app; it has: Order, Counter",
        ),
        (changed(source=())(), "Wrong.source names no workflow; write source = Order"),
        (changed(source=Sums)(), "Wrong.source names the class Sums, which is no workflow class of this app"),
        (changed(apply=None)(), "Wrong handles no event; mark a method with @on(SomeEvent)"),
        (changed(apply=7)(), "Wrong.apply is 7, which cannot be called; write def apply(self, event, ctx)"),
        (
            changed(apply=lambda self: None)(),
            "Wrong.apply takes (), but is called with (event, ctx); write def apply(self, event, ctx)",
        ),
        (changed(apply=generator)(), "Wrong.apply has a yield, so that calling it runs nothing"),
        (changed(apply=async_generator)(), "Wrong.apply has a yield, so that calling it runs nothing"),
        (changed(a=on(OrderPaid)(generator))(), "Wrong.a has a yield, so that calling it runs nothing"),
        (
            changed(a=on(OrderPaid)(lambda self, event: None))(),
            "Wrong.a takes (event), but is called with (event, ctx); write def a(self, event, ctx)",
        ),
        (
            changed(deleted=lambda self: None)(),
            "Wrong.deleted takes (), but is called with (ctx); write def deleted(self, ctx)",
        ),
        (
            changed(batch=transaction)(),
            "Wrong.batch is no context manager; write @contextmanager above def batch(self, tx)",
        ),
        (changed(batch=asynccontextmanager(async_transaction))(), "Wrong.batch is no context manager"),
        (
            changed(batch=ignored)(),
            "Wrong.batch takes (event, ctx), but is called with (tx); write def batch(self, tx)",
        ),
        (changed(batch=None)(), "Wrong.batch is None, which cannot be called"),
        (changed(retry=3)(), "Wrong.retry is 3; write retry = Retry(attempts=5)"),
        (
            changed(store_=CheckpointStore())(),
            "Wrong.store_ is no option of a projection; did you mean `store`?",
        ),
        (changed(retrys=Retry())(), "Wrong.retrys is no option of a projection; did you mean `retry`?"),
        (changed(retry=Retry)(), "Wrong.retry is the class Retry; write retry = Retry(attempts=5)"),
        (
            changed(store=5)(),
            "Wrong.store is 5; it must be a store, such as CheckpointStore(), RedisStore() or SqlStore(url, metadata)",
        ),
        (changed(store=None)(), "Wrong.store is None; it must be a store"),
        (changed(store="redis://localhost")(), "Wrong.store is 'redis://localhost'; it must be a store"),
        (changed(store=RedisStore)(), "Wrong.store is the class RedisStore; it must be a store"),
        (changed(store=CheckpointStore)(), "Wrong.store is the class CheckpointStore; it must be a store"),
        (
            changed(store=Shut())(),
            "its `open` takes (), but is called with (settings, projection); write def open(self, settings, projection)",
        ),
        (
            changed(a=on(Added)(lambda self, event, ctx: None))(),
            "Wrong.a is for Added, which is no event of Order",
        ),
    ],
)
def test_mistakes_are_found_at_once(projection: Any, words: str) -> None:
    """
    When the app is made, and in words that say what to write instead.
    """
    with pytest.raises(WorkflowError) as caught:
        make(projection)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ((), "@on takes event classes, and has none; write @on(OrderPaid) or @on(OrderPaid, OrderCancelled)"),
        ((7,), "@on takes event classes, not 7"),
        (
            (Everything.apply,),
            "@on takes event classes, not the function Everything.apply; write @on(OrderPaid)",
        ),
        ((Order,), "@on takes event classes, not the class Order"),
        (((OrderPaid, Added),), "@on takes event classes, not (<class "),
        ((OrderPaid | Added,), "@on takes event classes, not "),
        (("OrderPaid",), "@on takes event classes, not 'OrderPaid'"),
    ],
)
def test_the_brackets_name_events(events: tuple[Any, ...], words: str) -> None:
    """
    It is said where it is written: without the brackets the method would be gone.
    """
    with pytest.raises(WorkflowError) as caught:
        on(*events)

    assert words in str(caught.value)


@pytest.mark.parametrize("method", [7, "paid", property(lambda self: None)])
def test_only_methods_are_marked(method: Any) -> None:
    """
    Anything else could not be called.
    """
    with pytest.raises(
        WorkflowError, match=r"@on is for methods, not for .*; write it above def paid\(self, "
    ):
        on(OrderPaid)(method)


def logged(method: Any) -> Any:
    """
    A decorator as people write it.
    """

    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return wrapper


def nameless(method: Any) -> Any:
    """
    A decorator that leaves out functools.wraps.
    """

    def wrapper(self: Any, event: Any, ctx: Any) -> Any:
        return method(self, event, ctx)

    return wrapper


@pytest.mark.parametrize(
    "method",
    [
        on(OrderPaid)(ignored),
        on(OrderPaid)(logged(ignored)),
        logged(on(OrderPaid)(ignored)),
        on(OrderPaid)(nameless(ignored)),
        on(OrderPaid)(functools.partialmethod(ignored)),  # type: ignore[type-var]  # no function, but it makes one
        on(OrderPaid)(staticmethod(lambda event, ctx: None)),
        staticmethod(on(OrderPaid)(lambda event, ctx: None)),
        on(OrderPaid)(classmethod(ignored)),  # type: ignore[type-var]  # as above
        classmethod(on(OrderPaid)(ignored)),
    ],
)
def test_decorated_methods_are_found(method: Any) -> None:
    """
    Under the name that the class has for them, whatever they are called themselves.
    """
    wrong: Any = changed(handled=method)
    projection = wrong()
    (definition,) = make(projection).projections

    assert projection.handled == definition.handler(OrderPaid) or isinstance(method, functools.partialmethod)


def test_a_method_may_have_two_names() -> None:
    """
    It is one method all the same.
    """
    marked = on(OrderPaid)(logged(ignored))

    make(changed(a=marked, b=marked)())


def test_an_event_has_one_method() -> None:
    """
    Two for the same event, or two projections of one name, are mistakes.
    """

    class Twice(Projection):
        name = "twice"
        source = Order

        @on(OrderPaid)
        def one(self, event: OrderPaid, ctx: ProjectionContext) -> None: ...

        @on(OrderPaid)
        def two(self, event: OrderPaid, ctx: ProjectionContext) -> None: ...

    with pytest.raises(WorkflowError, match=r"Twice\.one and .*Twice\.two are both for OrderPaid"):
        make(Twice())
    with pytest.raises(WorkflowError, match="Sums and Sums both have the name 'sums'"):
        make(Sums(), Sums())


@pytest.mark.parametrize("text", ["", "1", "1/", "/1-0", "1/1", "x/1-0", "1/x-0", "4/1-0", "-1/1-0", "1/1-"])
def test_what_is_no_position_is_told(text: str) -> None:
    """
    An example of one is in the sentence.
    """
    assert (3, "17-0") == position_of("3/17-0", controls.PARTITIONS)
    with pytest.raises(UsageError, match="is no position; an accepted outcome has one, such as"):
        position_of(text, controls.PARTITIONS)
