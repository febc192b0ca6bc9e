"""
The app of these tests: a post office. Two of its workflows have a command of one name.
"""

from datetime import datetime
from typing import Never

import msgspec

from holdfast import App, Command, Decision, Event, Workflow, accept, reject

#: While it is not set, `Stumble` makes `decide` raise.
mended = False


class Post(Command, frozen=True):
    parcel_id: str
    grams: int
    label: str = ""
    until: datetime | None = None


class Stumble(Command, frozen=True):
    parcel_id: str


class Deliver(Command, frozen=True):
    parcel_id: str


class StampParcel(Command, frozen=True, tag="Stamp"):
    parcel_id: str


class Posted(Event, frozen=True):
    grams: int
    label: str = ""


class Stumbled(Event, frozen=True):
    pass


class Delivered(Event, frozen=True):
    pass


class ParcelState(msgspec.Struct, frozen=True):
    posted: int = 0
    grams: int = 0
    label: str = ""
    delivered: bool = False
    seal: bytes = b"\x00\xff"
    shelves: dict[tuple[int, int], str] = {}


class Parcel(
    Workflow[ParcelState, Post | Stumble | Deliver | StampParcel, Posted | Stumbled | Delivered, Never]
):
    type = "parcel"
    key = "parcel_id"

    def initial(self) -> ParcelState:
        return ParcelState()

    def evolve(self, state: ParcelState, event: Posted | Stumbled | Delivered) -> ParcelState:
        match event:
            case Posted(grams=grams, label=label):
                shelves = {(1, 2): "here"}
                return ParcelState(state.posted + 1, grams, label, shelves=shelves)
            case Delivered():
                return msgspec.structs.replace(state, delivered=True)
            case Stumbled():
                return state

    def decide(
        self, now: datetime, state: ParcelState, command: Post | Stumble | Deliver | StampParcel
    ) -> Decision[Posted | Stumbled | Delivered, Never]:
        match command:
            case Post(grams=grams) if grams <= 0:
                return reject("too light", {"grams": grams})
            case Post(grams=grams, label=label):
                return accept(Posted(grams, label))
            case Stumble() if not mended:
                raise RuntimeError("\x1b[31mstumbled [bold]here[/bold]")
            case Stumble():
                return accept(Stumbled())
            case Deliver():
                return accept(Delivered())
            case StampParcel():
                return reject("parcels take no stamps")

    def is_terminal(self, state: ParcelState) -> bool:
        return state.delivered


class StampLetter(Command, frozen=True, tag="Stamp"):
    number: int


class Stamped(Event, frozen=True):
    pass


class Letter(Workflow[int, StampLetter, Stamped, Never]):
    type = "letter"
    key = "number"
    observe_inputs = True

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Stamped) -> int:
        return state + 1

    def decide(self, now: datetime, state: int, command: StampLetter) -> Decision[Stamped, Never]:
        return accept(Stamped())


app = App(workflows=[Parcel, Letter])
