"""
`holdfast send`.
"""

import signal
from pathlib import Path

import pytest

from holdfast import Client, Settings, connect
from tests.cli import shop
from tests.cli.conftest import name
from tests.cli.desk import APP, run, running
from tests.support.processes import eventually

POST = '{"parcel_id":"p-1","grams":5}'


def test_a_command_that_is_sent_is_decided(office: Client) -> None:
    """
    What is printed is the id, alone on its line for scripts, and the record has it.
    """
    said = run("send", APP, "Post", POST)

    assert said.err == ""
    (command_id,) = said.out.splitlines()
    office.wait(shop.Parcel, "p-1", until=lambda state: state.grams == 5)
    assert [command_id] == [record.command_id for record in office.history(shop.Parcel, "p-1")]


def test_without_a_worker_the_command_waits(settings: Settings) -> None:
    """
    It is accepted, and the sender is told that nobody is there yet.
    """
    said = run("send", APP, "Post", POST, "--id", "mine")

    assert said.out == "mine\n"
    assert said.sentence == "no worker is running; the command waits until one is"


def test_the_fields_may_come_from_standard_input(office: Client) -> None:
    """
    `-` reads the JSON that another program wrote.
    """
    said = run("send", APP, "Post", "-", "--wait", stdin=POST + "\n")

    assert "accepted as record 1: Posted grams=5" in said.out


@pytest.mark.parametrize("stdin", [b"", b"{", b'{"parcel_id":"\xff","grams":5}', POST.encode("utf-16")])
def test_standard_input_that_is_no_json_is_told(stdin: bytes, settings: Settings) -> None:
    """
    Whatever bytes come through the pipe, there is a sentence and exit code 2.
    """
    assert (
        "Post takes a JSON object with parcel_id"
        in run("send", APP, "Post", "-", code=2, stdin=stdin).sentence
    )


@pytest.mark.parametrize(
    ("command", "fields", "code", "expected"),
    [
        (
            "Post",
            '{"parcel_id":"p","grams":5,"label":"a b"}',
            0,
            'accepted as record 1: Posted grams=5 label="a b"',
        ),
        ("Post", '{"parcel_id":"p","grams":0}', 1, 'rejected: too light {"grams":0}'),
        ("parcel/Stamp", '{"parcel_id":"p"}', 1, "rejected: parcels take no stamps"),
        ("Letter/Stamp", '{"number":7}', 0, "accepted as record 1: Stamped"),
        ("Stumble", '{"parcel_id":"p"}', 1, "RuntimeError: \\x1b[31mstumbled [bold]here[/bold]"),
    ],
)
def test_waiting_shows_the_outcome(
    command: str, fields: str, code: int, expected: str, office: Client
) -> None:
    """
    The exit code says whether it was accepted; the line after the id says what became of it, with nothing in it that
    a terminal would obey.
    """
    id_, outcome = run("send", APP, command, fields, "--wait", "--id", "x", code=code).out.splitlines()

    assert id_ == "x"
    assert expected in outcome


def test_a_finished_instance_takes_no_command(office: Client) -> None:
    """
    It was not decided, so the exit code says failed.
    """
    run("send", APP, "Deliver", '{"parcel_id":"p"}', "--wait")

    said = run("send", APP, "Deliver", '{"parcel_id":"p"}', "--wait", code=1)

    assert said.out.splitlines()[1] == "not decided: the instance is completed"


@pytest.mark.parametrize(
    ("grams", "code", "expected"),
    [
        (5, 0, "duplicate: accepted as record 1: Posted grams=5"),
        (0, 1, "duplicate: rejected: too light"),
    ],
)
def test_a_duplicate_ends_as_the_first_one_did(grams: int, code: int, expected: str, office: Client) -> None:
    """
    A script that sends again with the same id gets the first outcome, in words and as exit code.
    """
    args = ("send", APP, "Post", f'{{"parcel_id":"p","grams":{grams}}}', "--wait", "--id", "same")

    run(*args, code=code)

    assert expected in run(*args, code=code).out


def test_no_answer_in_time_is_a_failure(settings: Settings) -> None:
    """
    The sentence says that it may still be decided, and with which id to ask again.
    """
    said = run("send", APP, "Post", POST, "--wait", "--timeout", "0.1", "--id", "x", code=1)

    assert said.out == "x\n"
    assert "no answer to Post within 0.1 s; is a worker running?" in said.sentence
    assert "id='x'" in said.sentence


@pytest.mark.parametrize(
    ("fields", "code", "expected"),
    [
        (
            '{"parcel_id":"p","grams":5}',
            0,
            {
                "kind": "accepted",
                "seq": 1,
                "events": [{"type": "Posted", "grams": 5, "label": ""}],
                "duplicate": False,
            },
        ),
        (
            '{"parcel_id":"p","grams":0}',
            1,
            {"kind": "rejected", "reason": "too light", "details": {"grams": 0}, "duplicate": False},
        ),
    ],
)
def test_json_has_the_outcome(fields: str, code: int, expected: object, office: Client) -> None:
    """
    The names are those of --help.
    """
    said = run("send", APP, "Post", fields, "--wait", "--json", "--id", "x", code=code)

    assert {"id": "x", "outcome": expected} == said.json


def test_json_of_the_rarer_outcomes(office: Client) -> None:
    """
    A duplicate is marked, a finished instance names its run state, a dead letter its id; without --wait there is none.
    """
    deliver = ("send", APP, "Deliver", '{"parcel_id":"p"}', "--json", "--wait")

    first = run(*deliver, "--id", "x").json["outcome"]
    again = run(*deliver, "--id", "x").json["outcome"]
    late = run(*deliver, code=1).json["outcome"]
    dead = run("send", APP, "Stumble", '{"parcel_id":"q"}', "--json", "--wait", code=1).json["outcome"]
    unknown = run("send", APP, "Post", POST, "--json", "--id", "y").json

    assert again == first | {"duplicate": True}
    assert late == {"kind": "completed", "run_state": "completed", "duplicate": False}
    assert dead["kind"] == "dead"
    assert office.dead_letters.get(dead["dead_letter"]) is not None
    assert unknown == {"id": "y", "outcome": None}


@pytest.mark.parametrize(
    ("command", "fields", "expected"),
    [
        ("Past", "{}", "'Past' is no command of this app; it has: Deliver, Post, Stamp, Stumble"),
        ("letter/Post", "{}", "'Post' is no command of this app; it has: Stamp"),
        (
            "ledger/Post",
            "{}",
            "'ledger' is no workflow of this app; it has: parcel (Parcel), letter (Letter)",
        ),
        ("Stamp", "{}", "'Stamp' is a command of several workflows; write parcel/Stamp or letter/Stamp"),
        (
            "Post",
            "{parcel_id}",
            "Post takes a JSON object with parcel_id, grams, label, until; this is no JSON",
        ),
        ("Post", "", "this is no JSON"),
        ("Post", "\udcff", "this is no JSON"),
        ("Post", "[" * 5_000, "this is no JSON"),
        ("Post", "[1]", "this is a JSON array"),
        ("Post", "null", "this is a JSON null"),
        ("Post", '"p"', "this is a JSON string"),
        ("Post", "1", "this is a JSON number"),
        ("Post", '{"grams":1}', "Object missing required field `parcel_id`"),
        ("Post", '{"parcel_id":"p","grams":"1"}', "Expected `int`, got `str` - at `$.grams`"),
        (
            "Post",
            '{"parcel_id":"p","grams":1,"until":"soon"}',
            "Invalid RFC3339 encoded datetime - at `$.until`",
        ),
        ("Post", '{"parcel_id":"p","grams":1,"lable":"x"}', "it has no 'lable'"),
        ("Post", '{"type":"Deliver","parcel_id":"p","grams":1}', "the field `type` in it says otherwise"),
        ("Post", '{"parcel_id":"","grams":1}', "the key of Post.parcel_id is empty"),
        ("Post", f'{{"parcel_id":"{"p" * 513}","grams":1}}', "is 513 bytes long; the limit is 512"),
        ("Post", f'{{"parcel_id":"p","grams":1,"label":"{"x" * 2_000}"}}', "bytes; the limit is 1,024"),
    ],
)
def test_a_wrong_command_is_refused_before_anything_is_sent(
    command: str, fields: str, expected: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It says what it takes and what was wrong with what it got; exit code 2.
    """
    name(monkeypatch, payload_bytes_max="1024")

    said = run("send", APP, command, fields, code=2)

    assert said.out == ""
    assert expected in said.sentence


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--timeout", "5"], "--timeout is for --wait"),
        (["--wait", "--timeout", "0"], "0.0 is not in the range x>0"),
        (["--wait", "--timeout", "soon"], "'soon' is not a valid float"),
        (["--id", ""], "a command id is text of 1 to 128 bytes"),
        (["--id", "x" * 129], "a command id is text of 1 to 128 bytes"),
    ],
)
def test_wrong_options_are_refused(options: list[str], expected: str, settings: Settings) -> None:
    """
    Before anything is sent.
    """
    assert expected in run("send", APP, "Post", POST, *options, code=2).sentence


def test_an_interrupted_wait_says_so(settings: Settings, tmp_path: Path) -> None:
    """
    Ctrl-C while nobody answers: one sentence, no traceback, exit code 1. The command was sent, and its id is known.
    """
    with running("send", APP, "Post", POST, "--wait", "--timeout", "60", "--id", "x", folder=tmp_path) as it:
        with connect(shop.app) as client:
            eventually(lambda: client.pending() == 1, 40)
        it.signal(signal.SIGINT)
        said = it.await_end(1)

    assert said.split() == ["holdfast:", "interrupted"]


def test_over_rabbitmq_too(
    settings: Settings, amqp_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    With RabbitMQ named the command waits in the queue of its partition.
    """
    name(monkeypatch, amqp_url=amqp_url)

    run("send", APP, "Post", POST)

    with Client(shop.app) as client:
        eventually(lambda: client.pending() == 1)
