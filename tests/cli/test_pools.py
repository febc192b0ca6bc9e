"""
`holdfast pools` and `holdfast stuck`.
"""

import os
from typing import Any

import pytest

from holdfast import Client, Settings, connect
from holdfast.actors import wiring
from holdfast.runtime.instance import RunState
from holdfast.runtime.keys import Ref
from holdfast.runtime.ports import POOLS
from tests import controls
from tests.cli import shop
from tests.cli.desk import APP, run
from tests.support.processes import eventually

HOSTILE = "\x1b]0;owned\x07[red]x[/red]\u202e\n"


def lines(*args: str) -> list[Any]:
    """
    Return what `holdfast pools` says, as JSON.
    """
    return run("pools", "--json", *args).lines


# -- pools


def test_who_serves_what_is_shown(office: Client) -> None:
    """
    Each partition of each pool with its member, where that runs and since when; this process serves one pool.
    """
    office.execute(shop.Post("p-1", 5))
    found = lines()

    assert [(pool, partition) for pool in POOLS for partition in range(4)] == [
        (one["pool"], one["partition"]) for one in found
    ]
    names = ["pool", "partition", "member", "host", "pid", "since", "waiting", "more", "oldest"]
    assert all(list(one) == names for one in found)
    eventually(lambda: {os.getpid()} == {one["pid"] for one in lines("--pool", "command")})
    eventually(lambda: {0} == {one["waiting"] for one in lines("--pool", "command")})


def test_what_waits_is_shown_where_it_waits(settings: Settings) -> None:
    """
    Commands that nobody takes are counted, and said to be nobody's work.
    """
    with connect(shop.app, settings) as client:
        client.send_many([shop.Post("p-1", number) for number in range(1, 6)])

    assert [5] == [one["waiting"] for one in lines("--pool", "command") if one["waiting"]]

    said = run("pools")

    assert "nobody serves the command pool, and something waits for it" in said.sentence
    assert any(line.split()[0] == "effect" and "0-3" in line for line in said.out.splitlines())


def test_pools_over_rabbitmq(amqp_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The depths are those of the queues.
    """
    monkeypatch.setenv("HOLDFAST_AMQP_URL", amqp_url)
    with connect(shop.app) as client:
        client.send_many([shop.Post("p-1", number) for number in range(1, 6)])

    eventually(lambda: [5] == [one["waiting"] for one in lines("--pool", "command") if one["waiting"]])


# -- stuck


def stuck(count: int) -> bool:
    """
    Say whether so much is stuck; with another exit code nothing is.
    """
    try:
        return count == len(run("stuck", APP, "--older", "0s", "--json", code=1).lines)
    except AssertionError:
        return False


def test_nothing_is_stuck(office: Client) -> None:
    """
    The exit code is 0 where all is well: a workflow that was just moved, and one that is finished. It is said what
    counts as stuck.
    """
    office.execute(shop.Post("p-1", 5))
    office.execute(shop.Deliver("p-2"))

    assert "nothing is stuck for 10m or longer (see --older)" == run("stuck", APP).sentence
    assert (
        "nothing is stuck for 90m or longer (see --older)" == run("stuck", APP, "--older", "5400s").sentence
    )
    assert "" == run("stuck", APP, "--json").out


def test_what_does_not_move_is_told(office: Client) -> None:
    """
    The exit code is 1; each item says what it waits for and since when, for people and as JSON.
    """
    office.execute(shop.Post("p-1", 5))
    office.execute(shop.StampLetter(7))
    eventually(lambda: stuck(2))
    said = run("stuck", APP, "--older", "0s", "--json", "--type", "Parcel", code=1).json

    assert ["workflow", "key", "name", "run_state", "since", "waits_for"] == list(said)
    assert ("parcel", "p-1", None, "running") == (
        said["workflow"],
        said["key"],
        said["name"],
        said["run_state"],
    )
    assert [{"kind": "command", "what": "a command", "since": said["since"], "until": None}] == said[
        "waits_for"
    ]
    assert "parcel/p-1" in run("stuck", APP, "--older", "0s", code=1).out


def test_a_pause_is_told_with_its_end(office: Client) -> None:
    """
    Where it ends by itself, it is said when, and its timer is nothing else that is waited for.
    """
    for key in ("p-1", "p-2"):
        office.execute(shop.Post(key, 5))
    run("pause", APP, "parcel", "p-1", "--until", "2099-01-01T00:00Z")
    run("pause", APP, "parcel", "p-2")
    eventually(lambda: stuck(2))

    found = {
        one["key"]: one["waits_for"] for one in run("stuck", APP, "--older", "0s", "--json", code=1).lines
    }
    told = {
        key: [(wait["kind"], wait["what"], wait["until"]) for wait in waits] for key, waits in found.items()
    }
    assert {
        "p-1": [("resume", "its pause to end", "2099-01-01T00:00:00Z")],
        "p-2": [("resume", "somebody to resume it", None)],
    } == told


def test_no_worker_is_told(settings: Settings) -> None:
    """
    Work that waits for nobody is found at once, however young it is thought to be.
    """
    with connect(shop.app, settings) as client:
        client.send(shop.Post("p-1", 5))
    said = run("stuck", APP, "--json", code=1).json

    assert ("pool command", "worker") == (said["name"], said["waits_for"][0]["kind"])


def test_only_what_is_asked_for_is_told(settings: Settings) -> None:
    """
    By what it waits for; and no character of a key or an error reaches the terminal as it is.
    """
    ports = wiring.open_ports(settings)
    ref = Ref(0, "parcel", HOSTILE)
    ports.journal.commit([controls.commit(ref, "c-1", run_state=RunState.PAUSED)], "a")
    ports.dead_letters.add([controls.dead_letter("0.x", workflow="parcel", key="p", error=HOSTILE)])
    ports.close()

    assert 1 == len(run("stuck", APP, "--older", "0s", "--for", "resume", "--json", code=1).lines)
    assert 1 == len(run("stuck", APP, "--older", "0s", "--for", "dead-letter", "--json", code=1).lines)
    said = run("stuck", APP, "--older", "0s", code=1).out
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "[red]" in said


def test_more_than_the_limit_is_told(settings: Settings) -> None:
    """
    What was left out is said to be.
    """
    ports = wiring.open_ports(settings)
    for ref in controls.refs(5, "parcel"):
        ports.journal.commit([controls.commit(ref, "c-1")], "a")
    ports.close()

    assert (
        "there is more than was looked at"
        in run("stuck", APP, "--older", "0s", "--limit", "3", code=1).sentence
    )


@pytest.mark.parametrize("age", ["", "5", "m", "-5m", "5w", "five m"])
def test_a_wrong_age_is_told(age: str) -> None:
    """
    Before anything is looked at.
    """
    assert (
        "is no length of time; write 30s, 10m, 2h or 7d" in run("stuck", APP, "--older", age, code=2).sentence
    )
