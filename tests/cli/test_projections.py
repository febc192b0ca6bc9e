"""
`holdfast projections`: read models, looked after from the command line.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import Client, Settings
from tests.cli import weights
from tests.cli.desk import run, running, working
from tests.cli.shop import Post
from tests.support.processes import eventually

APP = "tests.cli.weights:app"
BARE = "tests.cli.shop:app"


@pytest.fixture
def choking(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """
    A post office whose projection has parked one parcel.
    """
    monkeypatch.setattr(weights.Weights, "choking", True)
    with working(weights.app, settings) as client:
        for key, grams in (("good", 1), ("bad", 13), ("bad", 2)):
            client.execute(Post(key, grams))
        desk = client.projections
        eventually(lambda: any(one.given_up for _, one in desk.parked("weights")))
        yield client


def test_projections_are_listed(choking: Client) -> None:
    """
    With how far they are; for people, and with the names of --help.
    """
    choking.wait_for("weights", choking.execute(Post("good", 2)))
    eventually(lambda: all(one.percent == 100 for one in choking.projections.list()))
    head, line = run("projections", "list", APP).out.splitlines()
    (status,) = run("projections", "lag", APP, "weights", "--json").lines

    assert "records behind" in head
    assert line.split() == ["weights", "1", "live", "0", "0.0", "100", "%", "1"]
    assert status == {
        "name": "weights",
        "generation": 1,
        "state": "live",
        "known": True,
        "records": 0,
        "seconds": 0.0,
        "percent": 100.0,
        "parked": 1,
    }


def test_parked_instances_are_shown_and_tried_again(choking: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Nothing of an error reaches the terminal as it is; a retry that works out leaves nothing parked.
    """
    line = run("projections", "parked", APP, "weights").out.splitlines()[1]
    (facts,) = run("projections", "parked", APP, "weights", "--key", "bad", "--json").lines

    assert "parcel/bad" in line
    assert "\\x1b[31munlucky" in line
    assert ("parcel", "bad", 1, 0, "Posted", "handler", 2, True, 1) == tuple(
        facts[name]
        for name in (
            "workflow",
            "key",
            "seq",
            "index",
            "event",
            "kind",
            "attempts",
            "given_up",
            "generation",
        )
    )
    monkeypatch.setattr(weights.Weights, "choking", False)
    assert run("projections", "retry", APP, "weights").out == "1 to be tried again\n"
    eventually(lambda: not choking.projections.parked("weights"))
    assert "nothing is parked" in run("projections", "parked", APP, "weights").err
    assert run("projections", "retry", APP, "weights", "parcel", "bad", code=1).out == "0 to be tried again\n"


def test_an_event_is_skipped(choking: Client) -> None:
    """
    By workflow and key; what is not parked cannot be.
    """
    assert (
        "the event of parcel/bad will be left out"
        in run("projections", "skip", APP, "weights", "Parcel", "bad").out
    )
    eventually(lambda: not choking.projections.parked("weights"))
    sentence = run("projections", "skip", APP, "weights", "parcel", "bad", code=1).sentence
    assert "weights has not parked parcel/bad" in sentence


def test_a_rebuild_shows_its_progress(choking: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    And ends when the rebuilt read model has taken over; a second one meanwhile is refused.
    """
    monkeypatch.setattr(weights.Weights, "choking", False)
    assert run("projections", "rebuild", APP, "weights", "--json").json == {
        "name": "weights",
        "generation": 2,
    }
    (status,) = run("projections", "list", APP, "--json").lines
    assert (2, "live") == (status["generation"], status["state"])

    monkeypatch.setattr(weights.Weights, "choking", True)
    assert "is being built" in run("projections", "rebuild", APP, "weights", "--no-wait").out
    eventually(lambda: bool(choking.projections.parked("weights")))
    sentence = run("projections", "rebuild", APP, "weights", code=1).sentence
    assert "'weights' is being rebuilt already, as generation 3" in sentence


def test_a_rebuild_says_what_it_waits_for(
    choking: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    Which instance is parked and why, and what to do about it; when that is done, it comes to its end.
    """
    choking.execute(Post("worse\x1b[31m", 13))

    with running("projections", "rebuild", APP, "weights", folder=tmp_path) as rebuild:
        rebuild.await_words(r"parcel/worse\x1b[31m at record 1 (")
        rebuild.await_words("parcel/bad at record 1 (")
        rebuild.await_words(f"projections retry {APP} weights; or leave the event out: ")
        monkeypatch.setattr(weights.Weights, "choking", False)
        run("projections", "retry", APP, "weights")
        said = rebuild.await_end()

    assert "generation 2 does not take over while anything of it is parked: parcel/" in said
    assert f"holdfast projections skip {APP} weights TYPE KEY" in said
    assert "\x1b" not in said
    assert said.endswith("weights generation 2 is live\n")


def test_one_that_is_gone_is_removed(settings: Settings) -> None:
    """
    Only when the app has it no more; a name that never was is told.
    """
    with working(weights.app, settings) as client:
        client.wait_for("weights", client.execute(Post("p", 1)))
        assert "'weights' is in the app" in run("projections", "remove", APP, "weights", code=1).sentence
    said = run("projections", "list", BARE)
    assert "weights is not in the app and keeps the feed from being trimmed" in said.err
    assert run("projections", "remove", BARE, "weights").out == "weights removed\n"
    assert "no projections" in run("projections", "list", BARE).err
    assert "'weights' is no projection" in run("projections", "lag", BARE, "weights", code=2).sentence
