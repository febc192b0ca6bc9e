"""
`holdfast dev`: a worker and a private server, as at a desk.
"""

import functools
import http.client
import signal
from pathlib import Path

import pytest

from holdfast import Settings, connect
from holdfast.actors import wiring
from holdfast.brokers.embedded import EmbeddedRedis
from holdfast.demo.orders import Order, PlaceOrder, app
from holdfast.runtime.ports import Member
from tests.cli.desk import BARE_SCRIPT, ORDERS, run, running
from tests.support.processes import eventually, gone
from tests.support.servers import free_run

PLACE = ("send", ORDERS, "PlaceOrder", '{"order_id":"o-1","amount":5}')
PLACE_AND_WAIT = (*PLACE, "--wait", "--timeout", "40")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Have workers come and go quickly.
    """
    monkeypatch.setenv("HOLDFAST_HEARTBEAT_MS", "50")


def test_the_desk_of_a_newcomer(folder: Path) -> None:
    """
    What was sent before anything ran waits; one command serves the app; another shell joins its server; Ctrl-C ends it
    and leaves the data, which can be read without it.
    """
    assert run(*PLACE).sentence == "no worker is running; the command waits until one is"
    with running("dev", ORDERS, folder=folder) as dev:
        dev.await_words("1 process serves the command")
        dev.await_words("of holdfast.demo.orders:app")
        pay = run("send", ORDERS, "PayOrder", '{"order_id":"o-1","amount":5}', "--wait", "--timeout", "40")
        assert "accepted as record 2: OrderPaid amount=5" in pay.out
        dev.signal(signal.SIGINT)
        said = dev.await_end()

    assert f"with its data in {folder / '.holdfast'}" in said
    assert said.endswith(f"holdfast: stopped; the data stay in {folder / '.holdfast'}\n")
    assert 'status "paid"' in run("state", ORDERS, "order", "o-1").out


def test_killed_and_started_again_the_work_goes_on(folder: Path) -> None:
    """
    SIGKILL in the middle of the work: what was confirmed before is decided exactly once, and so is what was sent while
    nobody was there.
    """
    orders = [f"o-{number}" for number in range(500)]
    with running("dev", ORDERS, folder=folder) as dev:
        dev.await_words("1 process serves")
        with connect(app) as client:
            sent = [client.submit(PlaceOrder(order, 1)) for order in orders]
            eventually(lambda: bool(client.history(Order, "o-0")), 40)
            worker = worker_pid(client.settings)
            dev.signal(signal.SIGKILL)
            dev.process.wait()
            confirmed = [id_ for id_, future in sent if future.exception(60) is None]
    eventually(lambda: gone(worker), 40)
    run(*PLACE)

    with running("dev", ORDERS, folder=folder) as dev:
        dev.await_words("1 process serves")
        with connect(app) as client:
            eventually(lambda: client.pending() == 0 and bool(client.history(Order, "o-1")), 60)
            logs = dict(client.histories(Order, orders))
        dev.signal(signal.SIGTERM)
        dev.await_end()

    found = [record.command_id for records in logs.values() for record in records]
    assert len(found) == len(set(found))
    assert set(confirmed) <= set(found)
    assert confirmed


def worker_pid(settings: Settings) -> int:
    """
    Return the process of the one worker.
    """
    ports = wiring.open_ports(settings)
    try:
        living: list[Member] = []

        def heard() -> bool:
            # It may have been silent for a moment.
            living[:] = ports.membership.living()
            return bool(living)

        eventually(heard)
    finally:
        ports.close()
    return living[0].pid


def test_a_server_that_a_sender_brought_and_took_along_comes_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    `dev` joined the server of a `send` that then ended: it starts one of its own, and works on. With --data-dir the data
    are elsewhere, and the other commands find them through HOLDFAST_DATA_DIR.
    """
    server = EmbeddedRedis(folder / "elsewhere")
    server.start()
    with running("dev", ORDERS, "--data-dir", "elsewhere", folder=folder) as dev:
        dev.await_words("1 process serves")
        server.stop()
        eventually((folder / "elsewhere" / "server.json").exists, 40)
        monkeypatch.setenv("HOLDFAST_DATA_DIR", "elsewhere")
        assert "accepted as record 1" in run(*PLACE_AND_WAIT).out
        dev.signal(signal.SIGTERM)
        dev.await_end()

    assert not (folder / ".holdfast").exists()


def test_it_serves_metrics_and_health_as_a_worker_does(folder: Path) -> None:
    """
    On a port of each process; lines are written as it is told, though there is no terminal.
    """
    port = free_run(2)
    options = ("--metrics-port", str(port), "--metrics-host", "127.0.0.1", "--log-format", "json")
    with running("dev", ORDERS, "--processes", "2", *options, folder=folder) as dev:
        for number in range(2):
            for path, words in (
                ("/ready", '"status": "serving"'),
                ("/metrics", "holdfast_partitions_owned"),
                ("/health", '"status": "serving"'),
            ):
                eventually(functools.partial(says, port + number, path, words), 40)
        dev.signal(signal.SIGINT)
        said = dev.await_end()

    assert all(line.startswith("{") for line in said.splitlines())
    assert answer(port, "/ready")[0] == 0


def says(port: int, path: str, words: str) -> bool:
    """
    Say whether all is well with the worker on a port, and it says so in these words.
    """
    status, said = answer(port, path)
    return status == 200 and words in said


def answer(port: int, path: str) -> tuple[int, str]:
    """
    Return what is answered on a port: 0 where nobody listens.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        found = connection.getresponse()
        return found.status, found.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


@pytest.mark.parametrize("command", ["dev", "worker"])
def test_ports_that_there_are_not(command: str) -> None:
    """
    Each process needs one.
    """
    said = run(command, ORDERS, "--metrics-port", "65535", "--processes", "2", code=1)

    assert said.sentence.endswith("name a --metrics-port of at most 65,534")


def test_a_machine_without_any_server(folder: Path) -> None:
    """
    It runs all the same, in one process, and says in plain words that nothing will survive.
    """
    with running("dev", ORDERS, "--metrics-port", "9100", folder=folder, script=BARE_SCRIPT) as dev:
        dev.await_words("NOTHING WILL SURVIVE")
        dev.await_words("metrics and health are not served here")
        dev.signal(signal.SIGINT)
        said = dev.await_end()

    assert "no redis-server was found" in said
    assert said.endswith("holdfast: stopped; nothing was kept\n")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A machine without any Redis server.
    """
    monkeypatch.setattr("holdfast.brokers.embedded._candidates", lambda: iter(()))


@pytest.mark.parametrize("command", [PLACE, ("list", ORDERS), ("dead", "list")])
def test_without_any_server_there_is_nothing_to_join(
    command: tuple[str, ...], folder: Path, bare: None
) -> None:
    """
    Sending into the memory of a process that ends at once would be a lie: exit code 1 and what to install.
    """
    (folder / ".holdfast").mkdir()

    said = run(*command, code=1).sentence

    assert "Install redis-server" in said
    assert "Without a server everything would be kept in the memory of one process" in said


def test_data_that_cannot_be_read_are_not_passed_over(folder: Path, bare: None) -> None:
    """
    If there are data and no server for them, beginning anew in memory would look as if they were lost.
    """
    (folder / ".holdfast" / "appendonlydir").mkdir(parents=True)

    assert "Install redis-server" in run("dev", ORDERS, code=1).sentence


def test_a_file_in_the_place_of_the_folder_is_told(folder: Path) -> None:
    """
    A server could be had, just not there: that is an error, and no reason to keep everything in memory.
    """
    (folder / ".holdfast").write_text("in the way")

    assert "cannot keep its data in" in run("dev", ORDERS, code=1).sentence


def test_servers_that_are_named_are_used(redis_url: str, namespace: str, folder: Path) -> None:
    """
    A shell whose environment names servers means those, with `dev` as well; no private one is started.
    """
    named = {"HOLDFAST_REDIS_URL": redis_url, "HOLDFAST_NAMESPACE": namespace}
    with running("dev", ORDERS, folder=folder, **named) as dev:
        dev.await_words(f"logs in {redis_url}, namespace {namespace}")
        dev.signal(signal.SIGTERM)
        assert dev.await_end().endswith("holdfast: stopped\n")

    assert not (folder / ".holdfast").exists()
