"""
`holdfast check-histories`: the first instance, record and event that today's code does not read or fold as before.
"""

import sys
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Never

import msgspec
import pytest

from holdfast import (
    App,
    Archived,
    Client,
    Command,
    Decision,
    Event,
    FolderArchive,
    Settings,
    Workflow,
    accept,
)
from tests.cli.desk import run, working


class Add(Command, frozen=True):
    count_id: str
    by: int


class Added(Event, frozen=True):
    by: int


class Count(Workflow[int, Add, Added, Never]):
    type = "count"
    key = "count_id"
    snapshot_every: ClassVar[int] = 2

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Added) -> int:
        return state + event.by

    def decide(self, now: datetime, state: int, command: Add) -> Decision[Added, Never]:
        return accept(Added(command.by), Added(0))

    def is_terminal(self, state: int) -> bool:
        return False


class Choking(Count):
    """
    Its `evolve` cannot take 3 any more.
    """

    def evolve(self, state: int, event: Added) -> int:
        if event.by == 3:
            message = "never a three"
            raise ValueError(message)
        return state + event.by


class Doubling(Count):
    """
    Comes to other states from the same events.
    """

    def evolve(self, state: int, event: Added) -> int:
        return state + 2 * event.by


class Versioned(Doubling):
    """
    And says so.
    """

    state_version = 2


class Summed(Event, frozen=True):
    total: int


class Forgetful(Workflow[int, Add, Summed, Never]):
    """
    Has forgotten an event.
    """

    type = "count"
    key = "count_id"

    def initial(self) -> int:
        return 0

    def evolve(self, state: int, event: Summed) -> int:
        return event.total

    def decide(self, now: datetime, state: int, command: Add) -> Decision[Summed, Never]:
        return accept(Summed(state + command.by))

    def is_terminal(self, state: int) -> bool:
        return False


CODES: dict[str, type[Workflow[Any, Any, Any, Any]]] = {
    "same": Count,
    "choking": Choking,
    "doubling": Doubling,
    "versioned": Versioned,
    "forgetful": Forgetful,
}


@pytest.fixture(autouse=True)
def codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Apps of today, each under a name of its own.
    """
    module = ModuleType("codes")
    for code, kind in CODES.items():
        setattr(module, code, App(workflows=[kind]))
    monkeypatch.setitem(sys.modules, "codes", module)


@pytest.fixture
def stored(settings: Settings) -> None:
    """
    Two counts, one with a snapshot at its fourth record.
    """
    with working(App(workflows=[Count]), msgspec.structs.replace(settings, snapshot_every=4)) as client:
        fill(client)


def fill(client: Client) -> None:
    for by in (1, 2, 3, 4, 5):
        client.execute(Add("a", by), timeout=40)
    client.execute(Add("b", 1), timeout=40)


@pytest.mark.parametrize("code", ["same", "choking", "doubling", "versioned", "forgetful"])
def test_what_is_stored(code: str, stored: None) -> None:
    """
    A record that is not read, an event that is not taken, a state that comes out otherwise: each is named.
    """
    wrong = code in ("choking", "doubling", "forgetful")
    found = run("check-histories", f"codes:{code}", "--json", code=int(wrong)).json

    if not wrong:
        # Only one of the two is long enough for a snapshot, and that is of a former state_version for "versioned".
        compared = int(code == "same")
        assert {"checked": 2, "compared": compared, "difference": None} == found
        assert (
            "2 histories can be read and folded by this code" in run("check-histories", f"codes:{code}").out
        )
        return
    difference = found["difference"]
    if code == "choking":
        assert ("a", 3, 0, "Added") == tuple(
            difference[one] for one in ("key", "seq", "event_index", "event")
        )
        assert "never a three" in difference["what"]
        sentence = run("check-histories", "codes:choking", code=1).sentence
        assert sentence.startswith(
            "count/a, record 3, event 0 (Added): evolve failed: ValueError: never a three"
        )
    if code == "doubling":
        assert ("a", 4) == (difference["key"], difference["seq"])
        assert "the state after it is 20; the snapshot of then has 10" in difference["what"]
    if code == "forgetful":
        assert ("b", 1) == (difference["key"], difference["seq"])
        assert "no message 'Added'" in difference["what"]


def test_only_some(stored: None) -> None:
    """
    The latest changed, those of a workflow, those since a time.
    """
    assert 1 == run("check-histories", "codes:choking", "--sample", "1", "--json").json["checked"]
    assert 0 == run("check-histories", "codes:same", "--since", "2999-01-01T00:00Z", "--json").json["checked"]
    assert 2 == run("check-histories", "codes:same", "--workflow", "count", "--json").json["checked"]
    assert (
        "is no workflow of this app"
        in run("check-histories", "codes:same", "--workflow", "x", code=2).sentence
    )


@pytest.mark.parametrize("code", list(CODES))
def test_an_archive(code: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The same without any server, from a folder that retention has written.
    """
    app = App(workflows=[Count])
    with working(app, settings) as client:
        fill(client)
        for key in ("a", "b"):
            records = tuple(client.history(Count, key))
            state: Any = client.state(Count, key)
            for _ in range(2):  # as after a crash
                archived = Archived("count", key, "completed", state, records)  # type: ignore[arg-type]  # as text
                FolderArchive(tmp_path)(archived)
    monkeypatch.setenv("HOLDFAST_REDIS_URL", "redis://127.0.0.1:1/0")
    wrong = code != "same"

    found = run(
        "check-histories", f"codes:{code}", "--archive", str(tmp_path), "--json", code=int(wrong)
    ).json

    if not wrong:
        assert {"checked": 2, "compared": 2, "difference": None} == found
        return
    difference = found["difference"]
    if code == "choking":
        assert ("a", 3, 0, "Added") == tuple(
            difference[one] for one in ("key", "seq", "event_index", "event")
        )
    if code in ("doubling", "versioned"):
        assert ("b", "the state after it is 2; in the archive it is 1") == (
            difference["key"],
            difference["what"],
        )
    if code == "forgetful":
        assert ("b", 1, 0, "Added") == tuple(
            difference[one] for one in ("key", "seq", "event_index", "event")
        )


def test_archives_that_are_none(tmp_path: Path) -> None:
    """
    A folder without files and a line of something else are said.
    """
    assert (
        "no .jsonl files" in run("check-histories", "codes:same", "--archive", str(tmp_path), code=1).sentence
    )
    (tmp_path / "x.jsonl").write_text("hello\n")
    assert "line 1 of " in run("check-histories", "codes:same", "--archive", str(tmp_path), code=1).sentence
