"""
The caretaker: what was kept long enough is archived, and then deleted as if somebody had asked for it.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.actors.caretaker import Caretaker
from holdfast.actors.reader import Reader
from holdfast.brokers.folder_archive import FolderArchive
from holdfast.brokers.memory import MemoryDirectory, MemoryTransport
from holdfast.runtime.app import App
from holdfast.runtime.control import Cancel
from holdfast.runtime.errors import HistoryError, WorkflowError
from holdfast.runtime.instance import RunState
from holdfast.runtime.retention import Archived, Retention
from tests import controls
from tests.unit import trouble
from tests.unit.desk import Desk, ref, sent
from tests.unit.trouble import Do, Troublemaker

DAY = timedelta(days=1)


class Office:
    """
    A desk with a caretaker.
    """

    def __init__(self, retention: Retention, keep_records: int | None = None) -> None:
        trouble.app()
        values = {"type": "trouble", "retention": retention, "keep_records": keep_records}
        self.desk = Desk(App(workflows=[type("Kept", (Troublemaker,), values)]))
        server = self.desk.server
        reader = Reader(self.desk.app, controls.PARTITIONS, lambda: self.desk.journal)
        self.caretaker = Caretaker(
            self.desk.app,
            controls.PARTITIONS,
            MemoryDirectory(server),
            reader,
            MemoryTransport(server).publisher(),
            self.desk.clock,
        )
        self.reader = reader

    def finish(self, key: str, *, cancel: bool = False) -> None:
        """
        Have an instance that is over.
        """
        self.desk.run(sent(Do(key, "" if cancel else "end"), f"{key}-1"))
        if cancel:
            self.desk.run(sent(Cancel(), f"{key}-2", key=key))

    def pass_(self, days: int) -> None:
        """
        Let time go by, and the caretaker and the worker do what they do.
        """
        self.desk.clock.advance(days * DAY)
        self.caretaker.step()
        for queue in self.desk.server.queues.values():
            self.desk.run(*queue)
            queue.clear()

    def run_states(self, *keys: str) -> list[str]:
        return [str(self.desk.opened(ref(key)).run_state) for key in keys]


def test_what_is_finished_goes_after_a_while() -> None:
    """
    By run state and age; what is unfinished never does, and once is enough.
    """
    office = Office(Retention(completed=10 * DAY, cancelled=20 * DAY))
    office.finish("done")
    office.finish("stopped", cancel=True)
    office.desk.run(sent(Do("running"), "r-1"))

    office.pass_(9)
    assert ["completed", "cancelled", "running"] == office.run_states("done", "stopped", "running")
    office.pass_(2)
    assert ["data-deleted", "cancelled", "running"] == office.run_states("done", "stopped", "running")
    office.pass_(10)
    assert ["data-deleted", "data-deleted", "running"] == office.run_states("done", "stopped", "running")
    assert 0 == office.caretaker.step()
    (entry,) = office.desk.log(ref("done"))
    assert entry.control is not None
    assert "kept long enough" == entry.control.reason


def test_some_are_kept_always() -> None:
    """
    Where a workflow says so.
    """
    office = Office(Retention(completed=None))
    office.finish("done")
    office.pass_(10_000)

    assert ["completed"] == office.run_states("done")


def test_it_is_on_by_default() -> None:
    """
    Thirty days, for every workflow that says nothing else.
    """
    assert {timedelta(days=30)} == set(controls.Order.retention.spans.values())


def test_the_archive_comes_first() -> None:
    """
    It is given everything; while it cannot take an instance, that stays, and others go.
    """
    taken: list[Archived] = []

    def archive(archived: Archived) -> None:
        if archived.key == "bad" and office.desk.clock.now() < controls.NOW + 40 * DAY:
            message = "no room"
            raise OSError(message)
        assert "completed" == office.run_states(archived.key)[0]
        taken.append(archived)

    office = Office(Retention(archive=archive))
    office.finish("good")
    office.finish("bad")

    office.pass_(31)
    assert ["data-deleted", "completed"] == office.run_states("good", "bad")
    office.pass_(31)

    assert ["good", "bad"] == [one.key for one in taken]
    first = taken[0]
    assert ("trouble", RunState.COMPLETED, 1) == (first.workflow, first.run_state, len(first.records))
    assert trouble.Mood(1, ended=True) == first.state


@pytest.mark.parametrize("error", [trouble.Unspeakable(), SystemExit(1)])
def test_whatever_an_archive_raises_hurts_nobody(error: BaseException) -> None:
    """
    What it cannot take stays, and others go.
    """

    def archive(archived: Archived) -> None:
        if archived.key == "bad":
            raise error

    office = Office(Retention(archive=archive))
    for key in ("bad", "good"):
        office.finish(key)

    office.pass_(31)

    assert ["data-deleted", "completed"] == office.run_states("good", "bad")


def test_many_are_done_in_steps() -> None:
    """
    A step is bounded; the next one goes on.
    """
    office = Office(Retention())
    keys = [f"k-{number}" for number in range(120)]
    for key in keys:
        office.finish(key)
    for expected in (50, 100, 120):
        office.pass_(31)
        assert expected == office.run_states(*keys).count("data-deleted")


def test_a_folder_is_an_archive(tmp_path: Path) -> None:
    """
    A line of JSON for each instance, in a file of its workflow and month.
    """
    office = Office(Retention(archive=FolderArchive(tmp_path / "archive")))
    office.finish("a")
    office.finish("b")
    office.pass_(31)

    (file,) = (tmp_path / "archive").iterdir()
    assert "trouble-2026-01.jsonl" == file.name
    lines: list[Any] = [msgspec.json.decode(line) for line in file.read_bytes().splitlines()]
    assert {"a", "b"} == {line["key"] for line in lines}
    assert {"total": 1, "ended": True} == lines[0]["state"]
    assert ["Done", "Ended"] == [event["type"] for event in lines[0]["records"][0]["events"]]


async def later(archived: Any) -> None:
    """
    An archive that nobody would wait for.
    """


@pytest.mark.parametrize("wrong", [{"retention": 30}, {"keep_records": -1}, {"keep_records": "many"}])
def test_wrong_declarations_are_told(wrong: dict[str, Any]) -> None:
    """
    When the app is made.
    """
    with pytest.raises(WorkflowError, match=next(iter(wrong))):
        App(workflows=[type("Wrong", (Troublemaker,), {"type": "wrong", **wrong})])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"completed": 30},
            r"Retention\(completed=...\) is 30; it must be a timedelta, .*, or None to keep instances",
        ),
        (
            {"cancelled": timedelta},
            r"Retention\(cancelled=...\) is the class timedelta; it must be a timedelta",
        ),
        ({"completed": timedelta(-1)}, "is -1 day, 0:00:00; the least is 0:00:00 and the most 36500 days"),
        ({"completed": timedelta.max}, "the most 36500 days, 0:00:00, or None to keep instances always"),
        (
            {"archive": "archive"},
            r"Retention\(archive=...\) is 'archive', which cannot be called; write def archive\(",
        ),
        (
            {"archive": FolderArchive},
            r"is the class FolderArchive; .*, or archive=FolderArchive\(\"archive\"\)",
        ),
        (
            {"archive": lambda: None},
            r"takes \(\), but is called with \(archived\); write def archive\(archived\)",
        ),
        ({"archive": later}, "is async, but nobody awaits it"),
    ],
)
def test_a_wrong_retention_is_told(arguments: dict[str, Any], words: str) -> None:
    """
    When it is made.
    """
    with pytest.raises(WorkflowError, match=words):
        Retention(**arguments)


@pytest.mark.parametrize("folder", [None, 5, b"archive"])
def test_an_archive_needs_a_folder(folder: Any) -> None:
    """
    A path, or the text of one.
    """
    with pytest.raises(WorkflowError, match=r"it takes a folder, such as FolderArchive\(\"archive\"\)"):
        FolderArchive(folder)


def test_long_logs_are_trimmed_behind_their_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The state is as it was, cold as well, duplicates are known, and the history begins where it is still there.
    """
    monkeypatch.setattr("holdfast.runtime.turn.SNAPSHOT_SHARE", 1_000)
    office = Office(Retention(), keep_records=5)
    desk = office.desk
    desk.turn._limits = type(desk.turn._limits)(snapshot_every=10)
    for number in range(25):
        desk.run(sent(Do("t-1"), f"c-{number}"))
    desk.forget()

    assert trouble.Mood(25) == desk.state(ref())
    assert list(range(16, 26)) == [record.seq for record in office.reader.history("trouble", "t-1", 0, None)]
    desk.run(sent(Do("t-1"), "c-3"))
    assert trouble.Mood(25) == desk.state(ref())
    with pytest.raises(HistoryError, match="records 1 to 15 of trouble/t-1 were deleted"):
        office.reader.state("trouble", "t-1", 3)
