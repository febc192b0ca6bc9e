"""
`holdfast diagram`.
"""

import pytest

from holdfast import App, Client, Settings
from holdfast.actors import wiring
from holdfast.runtime.keys import partition_of
from tests import controls
from tests.cli import shop
from tests.cli.desk import APP, ORDERS, run, working
from tests.support.processes import eventually

app = App(workflows=[controls.Order])
CONTROLS = "tests.cli.test_diagram:app"


class BriefParcel(shop.Parcel):
    """
    Keeps one record behind a snapshot, and its state when its data is deleted.
    """

    keep_records = 1

    def scrub(self, state: shop.ParcelState) -> shop.ParcelState:
        return state


class BriefLetter(shop.Letter):
    """
    Keeps no record behind a snapshot.
    """

    keep_records = 0


brief_app = App(workflows=[BriefParcel, BriefLetter])
BRIEF = "tests.cli.test_diagram:brief_app"


def test_a_workflow_is_drawn_without_a_server() -> None:
    """
    By its type or its class, in either language; nothing is on standard output but the diagram.
    """
    said = run("diagram", ORDERS, "Order")

    assert said.out.startswith('---\ntitle: "order"\n---\nstateDiagram-v2\n')
    assert "s_placed --> s_paid: PayOrder / OrderPaid\n" in said.out
    assert said.err == ""

    said = run("diagram", ORDERS, "order", "--format", "dot", "--direction", "TB")

    assert said.out.startswith('digraph "order" {\n')
    assert "rankdir=TB;" in said.out


def test_what_was_not_seen_is_told() -> None:
    """
    On standard error, where it does not spoil the diagram; an example brings it to light.
    """
    said = run("diagram", APP, "parcel")

    assert said.sentence == "never seen, and so not drawn: Stumble, Stamp, Stumbled (see --example)"
    assert "%% never seen: Stumble\n" in said.out

    shop.mended = True
    try:
        said = run("diagram", APP, "parcel", "--example", "Stumble", '{"parcel_id":"p"}')
    finally:
        shop.mended = False

    assert "s_new --> s_Stumbled: Stumble\n" in said.out


def test_an_instance_is_marked(office: Client) -> None:
    """
    Where it is and how it came there, in the whole machine or alone.
    """
    office.execute(shop.Post("p-1", 5))
    office.execute(shop.Post("p-1", 6))

    said = run("diagram", APP, "parcel", "--key", "p-1").out

    assert 'title: "parcel/p-1 (running)"' in said
    assert "s_new --> s_Posted: (1) Post\n" in said
    assert "s_Posted --> s_Posted: (2) Post\n" in said
    assert "s_Posted --> s_Delivered: Deliver\n" in said
    assert "class s_Posted here\n" in said

    said = run("diagram", APP, "parcel", "--key", "p-1", "--history", "--format", "dot").out

    assert 's_Posted -> s_Posted [label="(2) Post", ' in said
    assert "Delivered" not in said


def test_an_instance_whose_data_was_deleted_is_told(office: Client) -> None:
    """
    It is nowhere any more, and least of all at its beginning.
    """
    office.execute(shop.Post("p-1", 5))
    office.execute(shop.Deliver("p-1"))
    office.delete_data(shop.Parcel, "p-1")

    sentence = run("diagram", APP, "parcel", "--key", "p-1", code=1).sentence

    assert "the data of parcel/p-1 was deleted with record 3; its history says when and why" == sentence


def test_an_instance_is_where_its_snapshot_has_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Where the beginning of its log was deleted, one step stands for that; the rest is followed as ever. What nobody
    knows any more is not made up.
    """
    monkeypatch.setenv("HOLDFAST_SNAPSHOT_EVERY", "2")
    with working(brief_app, Settings.from_environment()) as client:
        for number in range(3):
            client.execute(shop.Post("p-1", 5 + number))
        for _ in range(2):
            client.execute(shop.StampLetter(7))
        eventually(lambda: [2, 3] == [one.seq for one in client.history(BriefParcel, "p-1")])
        eventually(lambda: not client.history(BriefLetter, 7))

        parcel = run("diagram", BRIEF, "parcel", "--key", "p-1", "--history").out
        letter = run("diagram", BRIEF, "letter", "--key", "7").out

        assert "s_new --> s_Posted: (1) records 1 to 2\n" in parcel
        assert "s_Posted --> s_Posted: (2) Post\n" in parcel
        assert "class s_Posted here\n" in parcel
        assert "s_new --> s_record_2: (1) records 1 to 2\n" in letter
        assert "class s_record_2 here\n" in letter

        client.execute(shop.Deliver("p-1"))
        client.delete_data(BriefParcel, "p-1")
        scrubbed = run("diagram", BRIEF, "parcel", "--key", "p-1", "--history").out

        assert 'title: "parcel/p-1 (data-deleted)"' in scrubbed
        assert "s_new --> s_record_5: (1) records 1 to 5\n    s_record_5 --> [*]\n" in scrubbed
        assert "class s_record_5 here\n" in scrubbed


def test_what_an_instance_waits_for_is_shown(settings: Settings) -> None:
    """
    Its effects and its timers, and none of another instance of the same partition.
    """
    key = next(
        f"o-{n}"
        for n in range(2, 100)
        if partition_of("order", f"o-{n}", 4) == partition_of("order", "o-1", 4)
    )
    ports = wiring.open_ports(settings)
    entry = controls.entry("c-1", controls.OrderPlaced(5))
    for name in ("o-1", key):
        ref = controls.ref(name)
        commit = controls.commit(
            ref,
            "c-1",
            effects=[controls.effect("c-1:0", of=ref)],
            timers=[controls.timer(f"{ref.scope}/expiry")],
        )
        commit.entries[:] = [entry]
        ports.journal.commit([commit], "a")
    ports.close()

    said = run("diagram", CONTROLS, "order", "--key", "o-1").out

    assert 1 == said.count("effect ChargeCard\n")
    assert 1 == said.count("(expiry)\n")


def test_what_is_not_there_is_told(settings: Settings) -> None:
    """
    One sentence for an instance that does not exist, and for a history of nothing in particular.
    """
    assert "there is no parcel 'nobody'" == run("diagram", APP, "parcel", "--key", "nobody", code=1).sentence
    assert "say which with --key" in run("diagram", APP, "parcel", "--history", code=2).sentence
    assert "is no workflow of this app" in run("diagram", APP, "nothing", code=2).sentence
