"""
Projections as they are declared: every mistake is found when the app is made, and told with the class it is in.
"""

from collections.abc import Callable
from typing import Any

import pytest

from holdfast.runtime.app import App
from holdfast.runtime.errors import UsageError, WorkflowError
from holdfast.runtime.feed import position_of
from holdfast.runtime.projection import Projection, ProjectionContext, on
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
            "Wrong.source names 7, which is no workflow of this app; it has: Order, Counter",
        ),
        (changed(source=())(), "Wrong.source names no workflow; write source = Order"),
        (changed(source=Sums)(), "Wrong.source names Sums, which is no workflow of this app"),
        (changed(apply=None)(), "Wrong handles no event; mark a method with @on(SomeEvent)"),
        (changed(apply=7)(), "Wrong.apply is no method"),
        (changed(apply=lambda self: None)(), "must take an event and its context"),
        (changed(retry=3)(), "Wrong.retry is 3; it must be a value such as Retry(attempts=5)"),
        (
            changed(a=on(Added)(lambda self, event, ctx: None))(),
            "Wrong.a is for Added, which is no event of Order",
        ),
        (changed(a=on(7)(lambda self, event, ctx: None))(), "Wrong.a: @on takes event classes, not 7"),  # type: ignore[arg-type]  # what is tested
    ],
)
def test_mistakes_are_found_at_once(projection: Any, words: str) -> None:
    """
    When the app is made, and in words that say what to write instead.
    """
    with pytest.raises(WorkflowError) as caught:
        make(projection)

    assert words in str(caught.value)


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
