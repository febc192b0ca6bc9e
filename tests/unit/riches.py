"""
Riches: a workflow whose event has a field of every type that can be stored.
"""

import enum
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Never, NotRequired, TypedDict
from uuid import UUID

import msgspec

from holdfast.runtime.decision import Decision, accept
from holdfast.runtime.message import Command, Event
from holdfast.runtime.workflow import Workflow


class Metal(enum.StrEnum):
    """
    What coins are made of.
    """

    GOLD = "gold"
    SILVER = "silver"


class Size(enum.IntEnum):
    """
    How large a chest is.
    """

    SMALL = 1
    LARGE = 2


@dataclass
class Coin:
    """
    A coin.
    """

    metal: Metal
    worth: Decimal


class Chest(msgspec.Struct, frozen=True):
    """
    A chest, which may hold chests.
    """

    size: Size
    coins: list[Coin]
    within: tuple["Chest", ...] = ()


class Gem(msgspec.Struct, frozen=True, tag="gem"):
    """
    One of two things that lie about.
    """

    carat: float


class Pearl(msgspec.Struct, frozen=True, tag="pearl"):
    """
    The other.
    """

    grams: int


class Place(TypedDict):
    """
    Where it lies.
    """

    island: str
    paces: NotRequired[int]


class Treasure(Event, frozen=True):
    """
    Everything.
    """

    anything: Any
    flag: bool
    maybe: str | None
    count: Annotated[int, msgspec.Meta(ge=0, le=100)]
    dozens: Annotated[int, msgspec.Meta(multiple_of=12)]
    more: Annotated[int, msgspec.Meta(gt=5)]
    less: Annotated[int, msgspec.Meta(lt=-5)]
    weight: Annotated[float, msgspec.Meta(gt=0)]
    share: Annotated[float, msgspec.Meta(ge=0, lt=1)]
    halves: Annotated[float, msgspec.Meta(multiple_of=0.5)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=8)]
    code: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}-[0-9]+$")]
    seal: bytes
    wax: bytearray
    found: datetime
    found_here: Annotated[datetime, msgspec.Meta(tz=True)]
    found_there: Annotated[datetime, msgspec.Meta(tz=False)]
    day: date
    hour: time
    hour_here: Annotated[time, msgspec.Meta(tz=True)]
    took: timedelta
    worth: Decimal
    id: UUID
    kind: Literal["map", "chest", 7]
    metal: Metal
    size: Size
    chest: Chest
    lies_about: Gem | Pearl
    either: int | str | list[int]
    coins: list[Coin]
    pair: tuple[int, str]
    many: Annotated[tuple[int, ...], msgspec.Meta(min_length=2)]
    names: set[str]
    numbers: frozenset[int]
    by_name: Annotated[dict[str, Coin], msgspec.Meta(max_length=3)]
    by_number: dict[int, list[str]]
    place: Place


class Bury(Command, frozen=True):
    """
    Asks for it to be hidden.
    """

    island: str


class Riches(Workflow[dict[str, int], Bury, Treasure, Never]):
    """
    Nothing happens here.
    """

    type = "riches"
    key = "island"

    def initial(self) -> dict[str, int]:
        return {}

    def evolve(self, state: dict[str, int], event: Treasure) -> dict[str, int]:
        return state | {event.name: 1}

    def decide(self, now: datetime, state: dict[str, int], command: Bury) -> Decision[Treasure, Never]:
        return accept(msgspec.convert({}, Treasure))
