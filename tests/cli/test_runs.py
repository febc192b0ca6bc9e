"""
`holdfast pause`, `resume`, `cancel`, `delete-data` and `sizes`.
"""

from datetime import timedelta

import click
import pytest

from holdfast import Client, Settings
from holdfast.cli.runs import span
from tests.cli import shop
from tests.cli.desk import APP, run, working


def test_a_run_is_paused_resumed_cancelled_and_emptied(office: Client) -> None:
    """
    Each says what became of it; what is not legal is a sentence and an exit code.
    """
    office.execute(shop.Post("r-1", 5))

    assert (
        run("pause", APP, "parcel", "r-1", "--reason", "strike", "--for", "2h").out
        == "accepted as record 2\n"
    )
    assert "accepted as record 2" not in run("pause", APP, "parcel", "r-1", code=1).out
    said = run("send", APP, "Post", '{"parcel_id":"r-1","grams":6}', "--wait", code=1).out
    assert "kept until the instance is resumed; it is paused: strike" in said
    shown = run("state", APP, "parcel", "r-1").out
    assert "paused (strike), 1 commands kept" in shown
    as_json = run("state", APP, "parcel", "r-1", "--json").json
    assert ("paused", "strike", 1) == (as_json["run_state"], as_json["reason"], as_json["parked"])

    assert run("resume", APP, "Parcel", "r-1", "--json").json["outcome"]["kind"] == "accepted"
    said = run("resume", APP, "parcel", "r-1", code=1).out
    assert said == "rejected: the instance is running already\n"
    assert len(office.history(shop.Parcel, "r-1")) == 4
    assert "accepted" in run("cancel", APP, "parcel", "r-1", "--reason", "lost").out
    assert "cannot become running" in run("resume", APP, "parcel", "r-1", code=1).out
    history = run("history", APP, "parcel", "r-1")
    assert "pause: strike" in history.out
    assert "cancel: lost" in history.out

    assert "accepted" in run("delete-data", APP, "parcel", "r-1", "--reason", "asked for").out
    assert (
        "the data of parcel/r-1 was deleted with record 6"
        in run("state", APP, "parcel", "r-1", code=1).sentence
    )
    history = run("history", APP, "parcel", "r-1", "--json")
    assert history.sentence == "records 1 to 5 were deleted"
    (line,) = history.lines
    assert run("delete-data", APP, "parcel", "r-1").out == "the data of parcel/r-1 is deleted already\n"
    outcome = run("delete-data", APP, "parcel", "r-1", "--json").json["outcome"]
    assert outcome == {"kind": "completed", "run_state": "data-deleted", "duplicate": False}
    assert [line] == run("history", APP, "parcel", "r-1", "--json").lines
    assert "not decided" in run("send", APP, "Deliver", '{"parcel_id":"r-1"}', "--wait", code=1).out
    assert line["control"] == {"verb": "delete-data", "reason": "asked for", "resume_at_ms": 0}


def test_what_was_kept_for_a_cancelled_instance_is_not_decided(office: Client) -> None:
    """
    As the README says: it is neither in the history nor a dead letter, and who asks again is told that it is over.
    """
    office.execute(shop.StampLetter(7))
    run("pause", APP, "letter", "7")
    ask = ("send", APP, "letter/Stamp", '{"number":7}', "--id", "kept", "--wait", "--json")
    assert "parked" == run(*ask, code=1).json["outcome"]["kind"]
    assert 1 == run("state", APP, "letter", "7", "--json").json["parked"]

    run("cancel", APP, "letter", "7")

    outcome = run(*ask, code=1).json["outcome"]
    assert ("completed", "cancelled") == (outcome["kind"], outcome["run_state"])
    assert "kept" not in [line["command_id"] for line in run("history", APP, "letter", "7", "--json").lines]
    assert {"count": 0} == run("dead", "count", "--json").json
    seen = run("observations", APP, "letter", "7", "--json").lines
    assert {"parked", "completed"} == {one["outcome"] for one in seen if one["command_id"] == "kept"}


def test_one_that_is_not_there_is_told(office: Client) -> None:
    """
    It is refused by the worker, as every other move that is not legal.
    """
    assert "there is no parcel/never" in run("pause", APP, "parcel", "never", code=1).out


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "delete-data"])
def test_what_was_not_answered_can_be_asked_again(verb: str, settings: Settings) -> None:
    """
    Nobody is there to answer: the id is told, on standard output with --json, and with it the outcome is learned later.
    """
    asked = (verb, APP, "parcel", "p-1", "--timeout", "0.2")
    said = run(*asked, "--json", code=1)

    assert list(said.json) == ["id", "outcome"]
    assert said.json["outcome"] is None
    assert f"ask again with id={said.json['id']!r}" in said.sentence
    assert "ask again with id='mine'" in run(*asked, "--id", "mine", code=1).sentence

    with working(shop.app, settings):
        told = run(verb, APP, "parcel", "p-1", "--json", "--id", said.json["id"], code=1).json
    assert (said.json["id"], "there is no parcel/p-1") == (told["id"], told["outcome"]["reason"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", timedelta(seconds=90)), ("1.5h", timedelta(hours=1.5)), ("3d", timedelta(days=3))],
)
def test_lengths_of_time(text: str, expected: timedelta) -> None:
    """
    A number and a unit.
    """
    assert expected == span(text)


@pytest.mark.parametrize("text", ["", "0s", "5", "h", "-3m", "1w", "9" * 20 + "d"])
def test_what_is_no_length_of_time_is_told(text: str) -> None:
    """
    With examples of what is.
    """
    with pytest.raises(click.BadParameter, match="write 90s, 15m, 2h or 3d"):
        span(text)


def test_sizes_are_shown(office: Client) -> None:
    """
    For each workflow, and the largest instances; as JSON too.
    """
    for number in range(5):
        office.execute(shop.Post(f"s-{number}", 5, "x" * 2_000 if number == 3 else ""))

    said = run("sizes", APP).out
    parcel, letter = run("sizes", APP, "--sample", "50", "--json").lines

    assert "parcel" in said
    assert ("parcel", 5, 5, "s-3") == (
        parcel["workflow"],
        parcel["instances"],
        parcel["sampled"],
        parcel["largest"][0]["key"],
    )
    assert ("letter", 0, []) == (letter["workflow"], letter["bytes"], letter["largest"])


def test_both_ends_of_a_pause_are_refused(settings: Settings, office: Client) -> None:
    """
    It ends after a while, or at a time.
    """
    args = ("--for", "2h", "--until", "2099-01-01T00:00Z")
    assert "not both" in run("pause", APP, "parcel", "p-1", *args, code=2).sentence


def test_what_came_is_shown(office: Client) -> None:
    """
    The newest first, for workflows that want it kept; of others, it is said that they do not.
    """
    office.execute(shop.StampLetter(7), id="one")
    office.execute(shop.StampLetter(7), id="one")
    office.execute(shop.Post("o-1", 5))

    shown = run("observations", APP, "letter", "7").out
    newest, oldest = run("observations", APP, "letter", "7", "--json").lines

    assert "Stamp one" in shown
    assert (["duplicate", "accepted"], {"type": "Stamp", "number": 7}, 1) == (
        [newest["outcome"], oldest["outcome"]],
        oldest["payload"],
        oldest["seq"],
    )
    assert newest["outcome"] == office.observations(shop.Letter, 7)[0].outcome
    assert "Parcel.observe_inputs is off" in run("observations", APP, "parcel", "o-1").sentence
