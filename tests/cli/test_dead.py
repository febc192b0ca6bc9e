"""
`holdfast dead`: what was given up on, dealt with from the command line.
"""

import base64
from collections.abc import Iterator

import msgspec
import pytest

from holdfast import Client, DeadLetter, Settings
from holdfast.actors import wiring
from holdfast.actors.wiring import Ports
from holdfast.runtime.codec import decode_envelope, encode, encode_envelope
from holdfast.runtime.keys import partition_of
from holdfast.runtime.message import Envelope
from tests.cli import shop
from tests.cli.conftest import name
from tests.cli.desk import APP, run
from tests.support.processes import eventually

HOSTILE = b"\x1b[2J\x07\x9b31m[bold]x[/bold]\xe2\x80\xae\\\n\xff"


@pytest.fixture
def ports(settings: Settings) -> Iterator[Ports]:
    """
    The ports that dead letters are put down through.
    """
    found = wiring.open_ports(settings)
    yield found
    found.close()


def letter(number: int, body: bytes = b"bytes", **facts: object) -> DeadLetter:
    """
    Return a dead letter; the higher its number, the newer.
    """
    known = {"command_id": f"c-{number}", "workflow": "parcel", "key": f"p-{number}", "message_type": "Post"}
    values = {"kind": "command", "error": "RuntimeError: oh", "traceback": "", "attempts": 3} | known | facts
    return DeadLetter(id=f"1.l{number}", partition=1, body=body, at_ms=1_700_000_000_000 + number, **values)  # type: ignore[arg-type]  # by name


def stumble(office: Client, key: str) -> DeadLetter:
    """
    Have a command become a dead letter.
    """
    office.execute(shop.Stumble(key))
    (found,) = office.dead_letters.list(key=key)
    return found


def test_dead_letters_are_listed(ports: Ports) -> None:
    """
    The newest first; no app is needed, since what they are for may be gone.
    """
    ports.dead_letters.add([letter(1), letter(2, workflow="", key="", kind="ingress", message_type="")])

    head, newest, oldest = run("dead", "list").out.splitlines()

    assert head.split() == ["id", "at", "for", "command", "tries", "error"]
    assert newest.split()[0] == "1.l2"
    assert " ingress " in newest
    assert oldest.split()[0] == "1.l1"
    assert "parcel/p-1" in oldest
    assert "RuntimeError: oh" in oldest


def test_dead_letters_as_json(ports: Ports) -> None:
    """
    One line per letter, with the names of --help.
    """
    ports.dead_letters.add([letter(1, b"12345")])

    assert run("dead", "list", "--json").lines == [
        {
            "id": "1.l1",
            "kind": "command",
            "at": "2023-11-14T22:13:20.001000Z",
            "workflow": "parcel",
            "key": "p-1",
            "command": "Post",
            "command_id": "c-1",
            "attempts": 3,
            "error": "RuntimeError: oh",
            "size": 5,
        }
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["1.l3", "1.l2", "1.l1"]),
        (["--workflow", "letter"], ["1.l2"]),
        (["--key", "p-1"], ["1.l1"]),
        (["--kind", "ingress"], ["1.l3"]),
        (["--workflow", "parcel", "--key", "p-2"], []),
        (["--limit", "2"], ["1.l3", "1.l2"]),
    ],
)
def test_filters(options: list[str], expected: list[str], ports: Ports) -> None:
    """
    By what they are for and by kind; and no more than is asked for, which is told.
    """
    ports.dead_letters.add([letter(1), letter(2, workflow="letter"), letter(3, kind="ingress")])

    said = run("dead", "list", "--json", *options)

    assert expected == [one["id"] for one in said.lines]
    assert run("dead", "list", "--limit", "1").sentence == "these are the newest 1 of 3; see --limit"


def test_none_is_told(settings: Settings) -> None:
    """
    An empty list is good news, and no error.
    """
    assert run("dead", "list").sentence == "no dead letters"
    assert run("dead", "list", "--json") == ("", "")


def test_one_is_shown_whole(office: Client) -> None:
    """
    Why it was given up, where that was raised, the envelope and the command in it.
    """
    id_ = stumble(office, "p-1").id

    said = run("dead", "show", id_).out

    assert "RuntimeError: \\x1b[31mstumbled [bold]here[/bold]" in said
    assert "in decide" in said
    assert 'key "p-1"' in said
    assert 'type "Stumble"' in said


def test_one_as_json(office: Client) -> None:
    """
    The names of --help; the body byte for byte.
    """
    found = stumble(office, "p-1")

    said = run("dead", "show", found.id, "--json").json

    summary = run("dead", "list", "--json").lines[0]
    assert list(said) == [*summary, "partition", "traceback", "history", "body", "envelope"]
    assert summary == {name: said[name] for name in summary}
    assert base64.b64decode(said["body"]) == found.body
    assert list(said["envelope"]) == [
        "id",
        "workflow",
        "key",
        "sent",
        "reply_to",
        "cause",
        "trace",
        "payload",
    ]
    assert said["envelope"]["payload"] == {"type": "Stumble", "parcel_id": "p-1"}


@pytest.mark.parametrize(
    "body",
    [
        HOSTILE,
        encode_envelope(Envelope("c-1", "parcel", HOSTILE[:-1].decode("latin-1"), HOSTILE)),
        encode_envelope(Envelope("c-1", "parcel", "p", encode({"label": HOSTILE.decode("latin-1")}))),
        encode_envelope(Envelope("c-1", "parcel", "p", encode([1, {(2, 3): HOSTILE}]), sent_ms=10**17)),
        b"",
        encode_envelope(Envelope("c-1", "parcel", "p", b"\x91" * 300 + b"\x01")),
        encode_envelope(Envelope("c-1", "parcel", "p", b"\x91" * 100_000)),
        encode_envelope(Envelope("c-1", "parcel", "p", encode({"what": msgspec.msgpack.Ext(5, HOSTILE)}))),
        b"\x9f" * 10_000,
    ],
)
def test_untrusted_bytes_cannot_play_with_the_terminal(body: bytes, ports: Ports) -> None:
    """
    Whatever the letter holds is shown escaped, is not read as markup, and cannot make showing it fail.
    """
    text = HOSTILE.decode("latin-1")
    facts = {
        "error": text,
        "traceback": text,
        "key": text,
        "message_type": text,
        "history": (text,),
        "command_id": text,
    }
    ports.dead_letters.add([letter(1, body, **facts)])

    for args in (("list",), ("list", "--json"), ("show", "1.l1"), ("show", "1.l1", "--json")):
        said = run("dead", *args).out
        assert [char for char in said if char != "\n" and not char.isprintable()] == []
        assert "[bold]x[/bold]" in said


def test_a_long_body_is_cut_for_people_only(ports: Ports) -> None:
    """
    A page of a megabyte helps nobody; JSON has all of it.
    """
    ports.dead_letters.add([letter(1, b"x" * 100_000)])

    said = run("dead", "show", "1.l1").out

    assert "100,000 bytes" in said
    assert "... and 96,000 bytes more" in said
    assert len(base64.b64decode(run("dead", "show", "1.l1", "--json").json["body"])) == 100_000


def test_a_retried_command_is_decided(office: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Once what was wrong is mended, the command goes its way with its own id, and the letter is gone.
    """
    found = stumble(office, "p-1")
    monkeypatch.setattr(shop, "mended", True)

    assert run("dead", "retry", found.id).out == f"{found.id} sent again\n"

    eventually(lambda: len(office.history(shop.Parcel, "p-1")) == 1)
    assert office.history(shop.Parcel, "p-1")[0].command_id == found.command_id
    assert office.dead_letters.count() == 0


def test_retrying_keeps_the_order_of_the_call(
    settings: Settings, ports: Ports, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Over RabbitMQ too: each is confirmed before its letter goes, in the order in which they were named.
    """
    name(monkeypatch, amqp_url=amqp_url)
    settings = Settings.from_environment()
    partition = partition_of("parcel", "p", settings.partitions)
    letters = []
    for number in (1, 2, 3):
        envelope = Envelope(f"c-{number}", "parcel", "p", encode(shop.Post("p", number)))
        values = {"id": f"{partition}.l{number}", "partition": partition}
        plain = letter(number, encode_envelope(envelope))
        letters.append(
            DeadLetter(**{field: getattr(plain, field) for field in plain.__struct_fields__} | values)
        )
    ports.dead_letters.add(letters)

    said = run("dead", "retry", *(one.id for one in letters))

    assert said.out.count("sent again") == 3
    consumer = wiring.open_transport(settings).consumer()
    consumer.assign(partition)
    bodies: list[bytes] = []
    eventually(lambda: len(bodies.__iadd__([one.body for one in consumer.take(10, 0.1)])) >= 3)
    consumer.close()
    again = [decode_envelope(body) for body in bodies]
    assert [one.body for one in letters] == [
        encode_envelope(msgspec.structs.replace(envelope, history=())) for envelope in again
    ]
    assert all(
        envelope.history[0].endswith("retried after 3 attempts: RuntimeError: oh") for envelope in again
    )
    assert ports.dead_letters.count() == 0


def test_one_that_fails_does_not_stop_the_others(office: Client, ports: Ports) -> None:
    """
    Each is told; the exit code says that not all was done. A foreign message is for its sender to make right.
    """
    found = stumble(office, "p-1")
    ports.dead_letters.add([letter(9, kind="ingress", command_id="")])

    said = run("dead", "retry", "0.nobody", "1.l9", found.id, code=1)

    assert said.out == f"{found.id} sent again\n"
    assert "there is no dead letter '0.nobody'" in said.err
    assert "dead letter 1.l9 holds no command that could be sent again" in said.err
    assert ports.dead_letters.get("1.l9") is not None


def test_discarding_forgets(ports: Ports) -> None:
    """
    For good, and only those that were named.
    """
    ports.dead_letters.add([letter(1), letter(2), letter(3)])

    said = run("dead", "discard", "1.l1", "1.l3")

    assert said.out == "1.l1 discarded\n1.l3 discarded\n"
    assert [one["id"] for one in run("dead", "list", "--json").lines] == ["1.l2"]


@pytest.mark.parametrize("id_", ["1.nobody", "nobody", "", "99.x", "\udcff", "\x1b[2J"])
@pytest.mark.parametrize("command", ["show", "retry", "discard"])
def test_an_unknown_letter_is_told(command: str, id_: str, settings: Settings) -> None:
    """
    Exit code 1, and a sentence.
    """
    assert "there is no dead letter" in run("dead", command, id_, code=1).sentence


def test_a_dead_letter_of_the_ingress_is_told_apart(ports: Ports) -> None:
    """
    What nobody could decode has no envelope, and says so in JSON.
    """
    ports.dead_letters.add([letter(1, b"not even msgpack")])

    assert run("dead", "show", "1.l1", "--json").json["envelope"] is None
    assert APP not in run("dead", "list").out


def test_many_are_counted_and_discarded_by_filter(ports: Ports) -> None:
    """
    The filters of the list go for counting and for dealing with many; without --all they are refused.
    """
    ports.dead_letters.add(
        [letter(number, message_type="Post" if number % 2 else "Weigh") for number in range(7)]
    )

    assert run("dead", "count", "--type", "Post").out == "3\n"
    assert run("dead", "count", "--since", "2023-11-14T22:13:20.004Z", "--json").json == {"count": 3}
    assert "filters are for --all" in run("dead", "discard", "1.l1", "--type", "Post", code=2).sentence
    assert "not both" in run("dead", "discard", "1.l1", "--all", code=2).sentence
    assert run("dead", "discard", "--all", "--type", "Post", "--json").json == {"count": 3, "failed": 0}
    assert run("dead", "count").out == "4\n"


def test_an_edited_command_is_decided(office: Client) -> None:
    """
    With the fields that were given, where they fit; what does not fit is refused, and the letter stays.
    """
    found = stumble(office, "e-1")

    refused = run(
        "dead", "edit", APP, found.id, '{"type": "Post", "parcel_id": "e-1", "grams": "many"}', code=2
    )
    assert "grams" in refused.sentence
    assert "no JSON" in run("dead", "edit", APP, found.id, "{", code=2).sentence
    said = run("dead", "edit", APP, found.id, '{"type": "Post", "parcel_id": "e-1", "grams": 7}')

    assert "edited and sent again" in said.out
    eventually(lambda: len(office.history(shop.Parcel, "e-1")) == 1)
    assert [found.command_id] == [record.command_id for record in office.history(shop.Parcel, "e-1")]
    assert office.dead_letters.count() == 0
    assert "no dead letter" in run("dead", "edit", APP, found.id, "{}", code=1).sentence


def test_the_history_of_a_letter_travels_with_its_command(office: Client) -> None:
    """
    What failed again says when it was retried before, and why it was there.
    """
    found = stumble(office, "h-1")
    run("dead", "retry", found.id)
    eventually(lambda: bool(office.dead_letters.list(key="h-1")))

    (again,) = office.dead_letters.list(key="h-1")
    assert again.id != found.id
    (line,) = again.history
    assert f"retried after 3 attempts: {found.error}" in line
    assert f"before: {line[:40]}" in run("dead", "show", again.id).out
