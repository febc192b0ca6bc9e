"""Diagram: a state machine as text, in Mermaid and in DOT, and where in it an instance is.

Pure: a machine and perhaps an instance go in, text comes out. Every label is escaped for the language that it goes
into: keys, statuses and names may hold anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

#: How many of an instance's pending timers and effects are drawn.
PENDING_MAX = 8


@dataclass(frozen=True, slots=True)
class Transition:
    """One arrow: what leads from one status to another, and what it asks for."""

    source: str
    command: str
    target: str
    #: Events that are recorded, effects and timers that are asked for, by name.
    events: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()
    timers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    """A state machine: what is known of a workflow's statuses and of the ways between them."""

    title: str
    initial: str
    #: In the order in which they were found; the initial one first.
    statuses: tuple[str, ...]
    terminal: frozenset[str]
    transitions: tuple[Transition, ...]
    #: Commands and events that are declared, but were never seen.
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where one instance is in its machine, how it came there, and what it waits for."""

    name: str
    status: str
    #: The arrows that it went, in order.
    path: tuple[Transition, ...] = ()
    #: Pending timers and effects, one line each.
    timers: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()
    #: Where it is in its life, if that says more than the machine.
    run_state: str = ""


class Direction(StrEnum):
    """Which way the arrows run."""

    LEFT_RIGHT = "LR"
    RIGHT_LEFT = "RL"
    TOP_BOTTOM = "TB"
    BOTTOM_TOP = "BT"


class Format(StrEnum):
    """The languages that a diagram can be written in."""

    MERMAID = "mermaid"
    DOT = "dot"


def draw(
    machine: Machine,
    form: Format = Format.MERMAID,
    *,
    place: Place | None = None,
    direction: Direction = Direction.LEFT_RIGHT,
) -> str:
    """Return a machine as text, with an instance marked in it if there is one."""
    write = to_mermaid if form is Format.MERMAID else to_dot
    return write(machine, place=place, direction=direction)


# -- Mermaid


def to_mermaid(
    machine: Machine, *, place: Place | None = None, direction: Direction = Direction.LEFT_RIGHT
) -> str:
    """Return a Mermaid `stateDiagram-v2`.

    An arrow says its command, its effects in brackets, and its timers behind a clock sign.
    """
    names = _ids(machine.statuses)
    lines = [
        "---",
        f'title: "{_yaml(_title(machine, place))}"',
        "---",
        "stateDiagram-v2",
        f"    direction {direction}",
    ]
    lines += [f'    state "{_mermaid(status)}" as {names[status]}' for status in machine.statuses]
    lines.append(f"    [*] --> {names[machine.initial]}")
    steps = _steps(place)
    for arrow in machine.transitions:
        label = _mermaid(_label(arrow, steps.get(_way(arrow), ())))
        lines.append(f"    {names[arrow.source]} --> {names[arrow.target]}: {label}")
    lines += [f"    {names[status]} --> [*]" for status in machine.statuses if status in machine.terminal]
    if place is not None and place.status in names:
        waits = _waits(place)
        if waits:
            lines.append(f"    note right of {names[place.status]}")
            lines += [f"        {_mermaid(line)}" for line in waits]
            lines.append("    end note")
        lines += [
            "    classDef here fill:#ffd54f,stroke:#e65100,stroke-width:3px,color:#000",
            "    classDef been stroke:#e65100,stroke-width:2px",
            f"    class {names[place.status]} here",
        ]
        been = [names[status] for status in _visited(machine, place) if status != place.status]
        if been:
            lines.append(f"    class {','.join(been)} been")
    lines += [f"    %% never seen: {_comment(name)}" for name in machine.unseen]
    return "\n".join(lines) + "\n"


def _mermaid(text: str) -> str:
    """Return text for a Mermaid label: all that has a meaning there is an entity, of which the sign is #code;."""
    return _SPECIAL.sub(
        lambda found: "<br/>" if found[0] == "\n" else "".join(f"#{ord(char)};" for char in found[0]), text
    )


#: What does not stand for itself in every label of Mermaid: a colon or semicolon ends some of them, `--` is an arrow.
_SPECIAL = re.compile(r"--+>?|[^\w .,+*/()\[\]=!?'@\u23f0-]")


def _yaml(text: str) -> str:
    return "".join(
        f"\\{char}" if char in '"\\' else char if char.isprintable() else f"\\U{ord(char):08x}"
        for char in text
    )


def _comment(text: str) -> str:
    """Return text that stays on its line, and opens no directive of Mermaid's."""
    return "".join(char if char.isprintable() and char not in "{}" else " " for char in text)


# -- DOT


def to_dot(
    machine: Machine, *, place: Place | None = None, direction: Direction = Direction.LEFT_RIGHT
) -> str:
    """Return a directed graph for Graphviz: boxes, the terminal ones doubled, and a point before the first."""
    names = _ids(machine.statuses)
    visited = set() if place is None else _visited(machine, place)
    lines = [
        f'digraph "{_dot(machine.title)}" {{',
        f'    label="{_dot(_title(machine, place))}"; labelloc=t; rankdir={direction};',
        '    node [shape=box, style=rounded, fontname="sans-serif"];',
        '    edge [fontname="sans-serif", fontsize=10];',
        '    start [shape=point, width=0.2, label=""];',
    ]
    for status in machine.statuses:
        marks = [f'label="{_dot(status)}"']
        if status in machine.terminal:
            marks.append("peripheries=2")
        if place is not None and status == place.status:
            marks.append('style="rounded,filled", fillcolor="#ffd54f", color="#e65100", penwidth=3')
        elif status in visited:
            marks.append('color="#e65100", penwidth=2')
        lines.append(f"    {names[status]} [{', '.join(marks)}];")
    lines.append(f"    start -> {names[machine.initial]};")
    steps = _steps(place)
    for arrow in machine.transitions:
        taken = steps.get(_way(arrow), ())
        marks = [f'label="{_dot(_label(arrow, taken))}"']
        if taken:
            marks.append('color="#e65100", penwidth=2')
        lines.append(f"    {names[arrow.source]} -> {names[arrow.target]} [{', '.join(marks)}];")
    if place is not None and place.status in names and (waits := _waits(place)):
        label = "".join(f"{_dot(line)}\\l" for line in waits)
        lines += [
            f'    waits [shape=note, style=solid, label="{label}"];',
            f"    {names[place.status]} -> waits [style=dotted, arrowhead=none];",
        ]
    lines += [f"    // never seen: {_line(name)}" for name in machine.unseen]
    lines.append("}")
    return "\n".join(lines) + "\n"


def _dot(text: str) -> str:
    r"""Return text for a quoted string of DOT; a backslash there begins an escape of its own, such as \N."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in escaped)


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


# -- what both say


def _title(machine: Machine, place: Place | None) -> str:
    if place is None:
        return machine.title
    return f"{place.name} ({place.run_state})" if place.run_state else place.name


def _ids(statuses: Iterable[str]) -> dict[str, str]:
    """Return a name for each status that is a name in both languages, readable where it can be."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for status in statuses:
        plain = "".join(char if char.isascii() and char.isalnum() else "_" for char in status)
        wanted = name = f"s_{plain}"
        number = 1
        while name in taken:
            number += 1
            name = f"{wanted}_{number}"
        found[status] = name
        taken.add(name)
    return found


def _label(arrow: Transition, steps: tuple[int, ...]) -> str:
    """Return what an arrow says: the steps of the path that went it, the command, the events, effects and timers."""
    first = f"{_numbers(steps)} {arrow.command}" if steps else arrow.command
    # What is called like its status says nothing more.
    if events := [event for event in arrow.events if event != arrow.target]:
        first += f" / {', '.join(events)}"
    lines = [first]
    if arrow.effects:
        lines.append(f"[{', '.join(arrow.effects)}]")
    if arrow.timers:
        lines.append(f"\N{ALARM CLOCK} {', '.join(arrow.timers)}")
    return "\n".join(lines)


#: How many steps of a path are numbered on one arrow.
STEPS_MAX = 5


def _numbers(steps: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, steps[:STEPS_MAX]))
    return f"({shown}, ...)" if len(steps) > STEPS_MAX else f"({shown})"


_Way = tuple[str, str, str, tuple[str, ...]]


def _way(arrow: Transition) -> _Way:
    """Return what tells an arrow from others: what it asks for does not."""
    return arrow.source, arrow.command, arrow.target, arrow.events


def _steps(place: Place | None) -> dict[_Way, tuple[int, ...]]:
    """Return by arrow which steps of the path went it, from 1."""
    found: dict[_Way, tuple[int, ...]] = {}
    for number, arrow in enumerate(place.path if place else (), 1):
        found[_way(arrow)] = (*found.get(_way(arrow), ()), number)
    return found


def _visited(machine: Machine, place: Place) -> list[str]:
    been = {status for arrow in place.path for status in (arrow.source, arrow.target)}
    return [status for status in machine.statuses if status in been]


def _waits(place: Place) -> list[str]:
    """Return the lines of what an instance waits for."""
    return [
        *_shown("\N{ALARM CLOCK}", place.timers),
        *_shown("effect", place.effects),
    ]


def _shown(sign: str, lines: tuple[str, ...]) -> list[str]:
    shown = [f"{sign} {line}" for line in lines[:PENDING_MAX]]
    more = len(lines) - PENDING_MAX
    return [*shown, f"{sign} and {more} more"] if more > 0 else shown


def merge(machine: Machine, transitions: Iterable[Transition], terminal: Callable[[str], bool]) -> Machine:
    """Return a machine with more arrows in it, such as those of a real instance's log.

    Arrows that it has stay as they are, except that what they ask for is put together.
    """
    arrows = {_way(arrow): arrow for arrow in machine.transitions}
    statuses = dict.fromkeys(machine.statuses)
    seen: set[str] = set()
    for arrow in transitions:
        known = arrows.get(_way(arrow))
        arrows[_way(arrow)] = arrow if known is None else joined(known, arrow)
        statuses |= dict.fromkeys((arrow.source, arrow.target))
        seen |= {arrow.command, *arrow.events}
    new = [status for status in statuses if status not in machine.statuses]
    return Machine(
        machine.title,
        machine.initial,
        tuple(statuses),
        machine.terminal | {status for status in new if terminal(status)},
        tuple(arrows.values()),
        tuple(name for name in machine.unseen if name not in seen),
    )


def joined(one: Transition, other: Transition) -> Transition:
    """Return one arrow for two of the same way: it asks for what either asks for."""
    return Transition(
        one.source,
        one.command,
        one.target,
        one.events,
        tuple(dict.fromkeys((*one.effects, *other.effects))),
        tuple(dict.fromkeys((*one.timers, *other.timers))),
    )
