"""
`holdfast state`, `history` and `list`.
"""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import redis

from holdfast import App, Client, Settings, connect
from holdfast.actors import wiring
from holdfast.brokers.keys import Keys
from holdfast.cli import history, output
from holdfast.runtime.codec import encode
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.ports import Commit
from holdfast.runtime.record import Entry
from tests.cli import shop
from tests.cli.conftest import name
from tests.cli.desk import APP, ROOT, SCRIPT, run, working
from tests.support.processes import eventually
from tests.support.servers import RedisServer, redis_client

HOSTILE = "\x1b]0;owned\x07\x9b31m[red]x[/red]\u202e\n"


def post(client: Client, key: str, *grams: int, label: str = "") -> None:
    """
    Have parcels posted and decided.
    """
    client.send_many([shop.Post(key, number, label) for number in grams])
    client.wait(shop.Parcel, key, until=lambda state: state.posted == len(grams))


# -- state


@pytest.mark.parametrize("type_", ["parcel", "Parcel"])
def test_the_state_is_shown(type_: str, office: Client) -> None:
    """
    By the workflow's type or its class: where it is in its life, its last record, and every field.
    """
    post(office, "p-1", 5, 6)

    said = run("state", APP, type_, "p-1").out

    assert "parcel/p-1  running  record 2 of 20" in said
    assert "grams 6" in said
    assert 'shelves\n    └── [1,2] "here"' in said


def test_the_state_as_json(office: Client) -> None:
    """
    One document with the names of --help; what JSON has no form for is text.
    """
    post(office, "p-1", 5)

    said = run("state", APP, "parcel", "p-1", "--json").json

    assert list(said) == ["workflow", "key", "seq", "run_state", "reason", "parked", "at", "state"]
    assert (said["workflow"], said["key"], said["seq"], said["run_state"]) == ("parcel", "p-1", 1, "running")
    assert datetime.now(UTC) - datetime.fromisoformat(said["at"]) < timedelta(minutes=1)
    assert said["state"] == {
        "posted": 1,
        "grams": 5,
        "label": "",
        "delivered": False,
        "seal": "AP8=",
        "shelves": {"[1,2]": "here"},
    }


def test_the_state_of_then(office: Client) -> None:
    """
    After a record, or at a time; what came later does not show, nor does the run state of now.
    """
    post(office, "p-1", 5)
    between = datetime.now().astimezone() + timedelta(milliseconds=1)
    eventually(lambda: datetime.now().astimezone() > between + timedelta(milliseconds=2))
    office.execute(shop.Post("p-1", 6))

    for at in (
        "1",
        between.isoformat(),
        between.replace(tzinfo=None).isoformat(),
        between.astimezone(UTC).isoformat(),
    ):
        said = run("state", APP, "parcel", "p-1", "--at", at, "--json").json
        assert (said["seq"], said["run_state"], said["state"]["grams"]) == (1, None, 5)
    assert "parcel/p-1  record 1 of 20" in run("state", APP, "parcel", "p-1", "--at", "1").out


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["parcel", "nobody"], "there is no parcel 'nobody'"),
        (["parcel", "nobody", "--at", "1"], "there is no parcel 'nobody', or there was none yet at record 1"),
        (["parcel", "p-1", "--at", "0"], "there is no parcel 'p-1', or there was none yet at record 0"),
        (["parcel", "p-1", "--at", "2001-01-01"], "there was none yet at 2001-01-01 00:00:00.000"),
        (["parcel", "p-1", "--at", "7"], "parcel/p-1 has only 1 records"),
    ],
)
def test_what_is_not_there_is_told(args: list[str], expected: str, office: Client) -> None:
    """
    Exit code 1, and a sentence that says what there is not.
    """
    post(office, "p-1", 5)

    assert expected in run("state", APP, *args, code=1).sentence


@pytest.mark.parametrize("command", ["state", "history"])
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["ledger", "p-1"], "'ledger' is no workflow of this app; it has: parcel (Parcel), letter (Letter)"),
        (["parcel", ""], "is empty"),
        (["parcel", "p" * 513], "is 513 bytes long; the limit is 512"),
        (["parcel", "\udcff"], "cannot be written as UTF-8"),
    ],
)
def test_a_wrong_name_is_told(command: str, args: list[str], expected: str, settings: Settings) -> None:
    """
    Exit code 2: no installation has such a thing.
    """
    assert expected in run(command, APP, *args, code=2).sentence


@pytest.mark.parametrize("at", ["yesterday", "-1", "2025-13-01", ""])
def test_a_wrong_time_is_told(at: str, settings: Settings) -> None:
    """
    With an example of a right one.
    """
    assert (
        "is no time; write 2025-01-31T12:00"
        in run("state", APP, "parcel", "p-1", "--at", at, code=2).sentence
    )


@pytest.mark.parametrize("args", [("state", APP, "parcel"), ("history", APP, "parcel"), ("list", APP)])
def test_what_users_wrote_cannot_play_with_the_terminal(args: tuple[str, ...], office: Client) -> None:
    """
    Keys and contents come from anybody: escapes are shown, not sent, as text and as JSON, and markup is not read.
    """
    post(office, HOSTILE, 5, label=HOSTILE)
    key = (HOSTILE,) if len(args) > 2 else ()

    for options in ((), ("--json",)):
        said = run(*args, *key, *options).out
        assert [char for char in said if char != "\n" and not char.isprintable()] == []
        assert "[red]x[/red]" in said


# -- history


def test_the_history_is_shown(office: Client) -> None:
    """
    One line per record: its number, its time, its command and its events.
    """
    post(office, "p-1", 5, 6)

    head, first, second = run("history", APP, "Parcel", "p-1").out.splitlines()

    assert head.split() == ["seq", "at", "command", "events"]
    assert first.startswith("1    20")
    assert 'Posted grams=5 label=""' in first
    assert second.startswith("2    20")


def test_the_history_as_json(office: Client) -> None:
    """
    One line per record, with the names of --help.
    """
    post(office, "p-1", 5)
    record = office.history(shop.Parcel, "p-1")[0]

    (said,) = run("history", APP, "parcel", "p-1", "--json").lines

    assert said == {
        "seq": 1,
        "at": record.at.isoformat().replace("+00:00", "Z"),
        "command_id": record.command_id,
        "command": "Post",
        "events": [{"type": "Posted", "grams": 5, "label": ""}],
        "token": record.token,
        "cause": None,
        "trace": None,
        "control": None,
        "asked": None,
        "attempts": 0,
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [1, 2, 3, 4, 5]),
        (["--after", "3"], [4, 5]),
        (["--limit", "2"], [1, 2]),
        (["--after", "1", "--limit", "3"], [2, 3, 4]),
        (["--after", "5"], []),
        (["--limit", "99"], [1, 2, 3, 4, 5]),
    ],
)
def test_a_part_of_the_history(
    options: list[str], expected: list[int], office: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    However long the log is, it is read a page at a time, and nothing is left out between pages.
    """
    monkeypatch.setattr(history, "PAGE", 2)
    post(office, "p-1", 1, 2, 3, 4, 5)

    said = run("history", APP, "parcel", "p-1", "--json", *options)

    assert expected == [record["seq"] for record in said.lines]


@pytest.mark.parametrize("options", [[], ["--after", "3"], ["--limit", "1"]])
def test_no_history_is_told(options: list[str], settings: Settings) -> None:
    """
    An instance that does not exist is not one without records.
    """
    assert run("history", APP, "parcel", "nobody", *options, code=1).sentence == "there is no parcel 'nobody'"


@pytest.mark.parametrize("options", [["--after", "-1"], ["--limit", "0"], ["--limit", "all"]])
def test_wrong_numbers_are_told(options: list[str], settings: Settings) -> None:
    """
    Exit code 2.
    """
    assert options[0] in run("history", APP, "parcel", "p-1", *options, code=2).sentence


@pytest.mark.parametrize("command", ["state", "history"])
def test_a_log_that_this_code_cannot_read_is_told(command: str, settings: Settings) -> None:
    """
    An event of other code ends in a sentence that says which record and what to do; nothing is changed.
    """
    ref = Ref(partition_of("parcel", "p-1", settings.partitions), "parcel", "p-1")
    entry: Entry[object] = Entry("c-1", "Post", 1_000, 0, ({"type": "Lost"},))
    ports = wiring.open_ports(settings)
    ports.journal.commit([Commit(ref, 0, "", 0, [encode(entry)], "c-1")], "owner")
    ports.close()

    said = run(command, APP, "parcel", "p-1", code=1)

    assert "record 1 of parcel/p-1 cannot be read by this code" in said.sentence


@pytest.mark.parametrize(
    "wrong", ["the log of parcel/p-1 goes from 2 to 4", "record 6 of parcel/p-1 is none: that entry"]
)
def test_a_log_that_was_tampered_with_is_told(
    wrong: str, office: Client, settings: Settings, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Records that are gone from its middle, and entries that are none, end in a sentence; a page of the log is no reason
    not to see it.
    """
    post(office, "p-1", 1, 2, 3, 4, 5)
    log = Keys(settings.namespace).log(
        Ref(partition_of("parcel", "p-1", settings.partitions), "parcel", "p-1")
    )
    with redis_client(redis_url) as client:
        if "none" in wrong:
            client.xadd(log, {"x": "y"}, id="6-0")
        else:
            client.xdel(log, "3-0")

    for page in (1, 2, 3, 500):
        monkeypatch.setattr(history, "PAGE", page)
        assert wrong in run("history", APP, "parcel", "p-1", "--json", code=1).err


# -- a full Redis


@pytest.mark.parametrize(
    "command",
    [
        ("list", APP),
        ("state", APP, "parcel", "p-1"),
        ("history", APP, "parcel", "p-1"),
        ("dead", "list"),
        ("sizes", APP),
        ("stuck", APP),
        ("doctor", "--json"),
    ],
    ids=lambda command: command[0],
)
def test_a_full_redis_can_be_looked_into(
    command: tuple[str, ...], redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whoever wants to know what fills a Redis that takes no writes any more is not turned away for want of memory.
    """
    name(monkeypatch, redis_url=redis_server.url, namespace=namespace)
    with working(shop.app, Settings.from_environment()) as office:
        post(office, "p-1", 5)
    with redis_server.client() as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) // 2)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("any", "thing")

    if command[0] == "doctor":
        findings = run(*command, code=1).out
        assert "maxmemory" in findings
        assert "has reached its maxmemory" not in findings
    else:
        run(*command)


# -- list


def test_instances_are_listed(office: Client) -> None:
    """
    The latest changed first, of one workflow or of all.
    """
    post(office, "p-1", 5)
    office.execute(shop.StampLetter(7))
    office.execute(shop.Deliver("p-2"))

    every = run("list", APP).out.splitlines()
    parcels = run("list", APP, "Parcel").out.splitlines()

    assert [line.split()[:3] for line in every[1:]] == [
        ["parcel", "p-2", "completed"],
        ["letter", "7", "running"],
        ["parcel", "p-1", "running"],
    ]
    assert [line.split()[1] for line in parcels[1:]] == ["p-2", "p-1"]


def test_instances_as_json(office: Client) -> None:
    """
    One document with the names of --help.
    """
    post(office, "p-1", 5, 6)
    listed = office.instances(shop.Parcel).instances[0]

    assert run("list", APP, "parcel", "--json").json == {
        "instances": [
            {
                "workflow": "parcel",
                "key": "p-1",
                "run_state": "running",
                "seq": 2,
                "created": output.plain(listed.created),
                "updated": output.plain(listed.updated),
            }
        ],
        "cursor": None,
    }


def test_filters(office: Client) -> None:
    """
    By run state and by time of last change.
    """
    post(office, "p-1", 5)
    office.execute(shop.Deliver("p-2"))
    first, second = reversed(
        [listed.updated.isoformat() for listed in office.instances(shop.Parcel).instances]
    )

    def keys(*options: str) -> list[str]:
        return [one["key"] for one in run("list", APP, "parcel", "--json", *options).json["instances"]]

    assert keys("--state", "completed") == ["p-2"]
    assert keys("--state", "paused") == []
    assert keys("--since", second) == ["p-2"]
    assert keys("--until", first) == ["p-1"]
    assert keys("--since", first, "--until", second) == ["p-2", "p-1"]


@pytest.mark.parametrize("type_", [["parcel"], []])
@pytest.mark.parametrize("limit", [1, 5])
def test_every_instance_is_on_one_page(type_: list[str], limit: int, office: Client) -> None:
    """
    Following the cursor shows each instance exactly once, over all workflows too, even if two share key and moment.
    """
    office.send_many([shop.Post(str(number), 1) for number in range(6)])
    office.send_many([shop.StampLetter(number) for number in range(6)])
    expected = {("parcel", str(number)) for number in range(6)}
    expected |= set() if type_ else {("letter", str(number)) for number in range(6)}
    eventually(lambda: len(run("list", APP, *type_, "--json").json["instances"]) == len(expected))

    found, cursor = [], None
    while True:
        page = run(
            "list", APP, *type_, "--json", "--limit", str(limit), *(["--cursor", cursor] if cursor else [])
        ).json
        found += [(one["workflow"], one["key"]) for one in page["instances"]]
        cursor = page["cursor"]
        if cursor is None:
            break

    assert sorted(expected) == sorted(found)


def test_more_and_none_are_told(office: Client) -> None:
    """
    Beside the table: how to see more, or that there is nothing.
    """
    assert run("list", APP).sentence == "no instances"
    post(office, "p-1", 5)
    post(office, "p-2", 5)
    assert "there are more: --cursor " in run("list", APP, "--limit", "1").sentence


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["ledger"], "'ledger' is no workflow of this app"),
        (["--state", "asleep"], "'asleep' is not one of 'initiated', 'running'"),
        (["--since", "today"], "'today' is no time"),
        (["--limit", "0"], "0 is not in the range 1<=x<=10000"),
        (["--cursor", "here"], "'here' is no cursor; use the one that the page before gave"),
        (["--cursor", "\udcff"], "is no cursor"),
    ],
)
def test_wrong_filters_are_told(options: list[str], expected: str, settings: Settings) -> None:
    """
    Exit code 2.
    """
    assert expected in run("list", APP, *options, code=2).sentence


def test_a_reader_that_has_seen_enough_is_no_error(office: Client) -> None:
    """
    `holdfast list | head -1` ends without a word.
    """
    office.send_many([shop.Post(f"parcel-{number}-{'x' * 80}", 1) for number in range(500)])
    with connect(App(workflows=[shop.Parcel])) as client:
        eventually(lambda: client.pending() == 0)

    found = subprocess.run(
        f"{sys.executable} -c '{SCRIPT}' list {APP} --limit 500 --json | head -c 10",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.stdout == '{"instance'
    assert found.stderr == ""
