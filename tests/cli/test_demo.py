"""
`holdfast demo`.
"""

import re
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from holdfast import Settings
from holdfast.cli import demo, output
from holdfast.demo.orders import CancelOrder, Order, Status, app
from holdfast.demo.proof import Kill, Proof, prove
from holdfast.demo.show import Told
from holdfast.demo.story import interleaved, order_id, sendings
from tests.cli.desk import BARE_SCRIPT, run, running, working
from tests.support.processes import eventually


def test_orders_survive_a_killed_worker(tmp_path: Path) -> None:
    """
    All claims hold, in well under a minute, and nothing is left behind.
    """
    with running("demo", folder=tmp_path, TMPDIR=str(tmp_path)) as it:
        said = it.await_end()

    assert re.findall(r"^  (ok|NO) ", said, re.MULTILINE) == ["ok"] * 7
    assert "600 orders, 3,030 commands, 300 of them sent twice on purpose" in said
    assert "3,000 records read back cold: every accepted command once, in the order sent" in said
    assert "0 missing, 0 duplicates" in said
    assert "30 cancellations that came too late were refused" in said
    killed = re.search(r"worker (\d+) is killed with SIGKILL; it served (\d+) of 16", said)
    assert killed is not None
    assert (
        f"worker {killed[1]} was killed in the middle; the work on its {killed[2]} partitions went on" in said
    )
    assert re.search(r"[\d,]+ commands per second in the last rush", said)
    assert [path for path in tmp_path.iterdir() if path.name.startswith("holdfast-demo")] == []


def test_the_data_can_be_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    With a folder of one's own the logs stay, and it says how to look at them. Servers that the environment names, and
    the data of whoever runs it, are left alone.
    """
    args = ("demo", "--orders", "20", "--processes", "1", "--data-dir", "kept")
    with running(*args, folder=folder, HOLDFAST_REDIS_URL="redis://127.0.0.1:1/0") as it:
        said = it.await_end()
    kept = re.search(r"HOLDFAST_DATA_DIR=kept HOLDFAST_NAMESPACE=(\S+) holdfast list (\S+)", said)
    assert kept is not None

    monkeypatch.setenv("HOLDFAST_DATA_DIR", "kept")
    monkeypatch.setenv("HOLDFAST_NAMESPACE", kept[1])
    assert len(run("list", kept[2], "--state", "completed").out.splitlines()) == 21
    assert not (folder / ".holdfast").exists()


def test_without_any_server_nobody_is_killed(tmp_path: Path) -> None:
    """
    In memory a killed worker would take the data along: it says so, and proves the rest.
    """
    with running("demo", "--orders", "40", folder=tmp_path, script=BARE_SCRIPT) as it:
        said = it.await_end()

    assert "So no worker is killed here" in said
    assert re.findall(r"^  (ok|NO) ", said, re.MULTILINE) == ["ok"] * 6


def test_an_interrupted_demonstration_leaves_nothing_behind(tmp_path: Path) -> None:
    """
    SIGTERM ends it as Ctrl-C does, with one sentence; its folder, server and workers go with it.
    """
    # So many that it does not come to its end before it is told to.
    with running("demo", "--orders", "20000", folder=tmp_path, TMPDIR=str(tmp_path)) as it:
        it.await_words("orders come in")
        it.signal(signal.SIGTERM)
        said = it.await_end(1)

    assert said.endswith("holdfast: interrupted\n")
    assert [path for path in tmp_path.iterdir() if path.name.startswith("holdfast-demo")] == []


def test_the_story_tells_every_order_in_order() -> None:
    """
    Interleaved with the others, each order's commands keep their own order, and all ids are different.
    """
    told = list(interleaved(range(25)))

    assert len({sending.id for sending in told}) == len(told)
    for number in range(25):
        assert sendings(number) == [one for one in told if one.id.startswith(order_id(number))]


def test_what_is_missing_doubled_or_overtaken_is_found(settings: Settings) -> None:
    """
    The proof is one: with logs that are not as they must be it says what is wrong, and the exit code would be 1.
    """
    with working(app, settings) as client:
        first, second = sendings(0), sendings(1)
        for sending in (*first[:3], *first[4:], *second[:2]):
            client.send(sending.command, id=sending.id)
        client.send(CancelOrder(order_id(1)), id="stray")
        client.wait(Order, order_id(1), until=lambda state: state.status is Status.CANCELLED)
        eventually(lambda: client.pending() == 0)
        proof = prove(settings, 3, None)

    assert (proof.orders, proof.right, proof.delivered) == (3, 0, 0)
    assert proof.missing == 2 + 3 + 5
    assert "order-0000 should have" in proof.differences[0]
    assert not demo._tell(output.paper(), proof, Told(commands=1, seconds=1.0), 2)


@pytest.mark.parametrize(
    ("changes", "fine"),
    [
        ({}, True),
        ({"right": 2}, False),
        ({"missing": 1}, False),
        ({"duplicates": 1}, False),
        ({"refused": 0}, False),
        ({"delivered": 2}, False),
        ({"completed": 2}, False),
        ({"waiting": 1}, False),
        ({"dead_letters": 1}, False),
        ({"went_on_s": None}, False),
        ({"went_on_s": 16.0}, False),
    ],
)
def test_every_claim_counts(changes: dict[str, Any], fine: bool) -> None:
    """
    Anything that is not as promised makes it a failure.
    """
    now = datetime.now(UTC)
    good = {
        "sent": 16,
        "records": 15,
        "right": 3,
        "refused": 1,
        "delivered": 3,
        "completed": 3,
        "went_on_s": 0.5,
    }
    told = Told(Kill(1, frozenset({1}), now, now), 10, 1.0)

    assert demo._tell(output.paper(), Proof(3, **(good | changes)), told, 2) is fine
