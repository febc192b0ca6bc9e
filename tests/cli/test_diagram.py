"""
`holdfast diagram`.
"""

from holdfast import App, Client, Settings
from holdfast.actors import wiring
from holdfast.runtime.keys import partition_of
from tests import controls
from tests.cli import shop
from tests.cli.desk import APP, ORDERS, run

app = App(workflows=[controls.Order])
CONTROLS = "tests.cli.test_diagram:app"


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
