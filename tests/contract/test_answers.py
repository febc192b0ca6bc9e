"""
Answers: what callers are told, and refusals that stay refused.
"""

import threading
from dataclasses import replace

import pytest

from holdfast.brokers.redis_link import RedisLink
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import Overloaded, SettingsError
from holdfast.runtime.ports import Committed, Conflict
from tests import controls
from tests.contract.threads import begin, together
from tests.contract.worlds import RedisWorld, World, log_of, opened
from tests.support.processes import eventually

REF = controls.ref()
SECONDS_MAX = 40


# -- refusals


def test_what_was_remembered_is_recalled(world: World) -> None:
    """
    Refusals come back byte for byte, in the order of the question, to whoever asks; None for commands that were not refused.
    """
    world.desk().remember([(0, "c-1", b"no\x00\xff"), (3, "c-2", b""), (0, "日本 {}", b"nein")])
    found = world.desk().recall([(3, "c-2"), (0, "c-9"), (0, "日本 {}"), (0, "c-1"), (3, "c-1")])

    assert [b"", None, b"nein", b"no\x00\xff", None] == found


def test_nothing_is_remembered_and_recalled(world: World) -> None:
    """
    Empty batches are nothing.
    """
    desk = world.desk()
    desk.remember([])
    desk.reply([])
    desk.clear([])

    assert ([], []) == (desk.recall([]), desk.begin([]))


def test_remembering_again_is_no_error(world: World) -> None:
    """
    A worker that is not sure whether it remembered a refusal does so again.
    """
    desk = world.desk()
    desk.remember([(0, "c-1", b"no")])
    desk.remember([(0, "c-1", b"no"), (0, "c-2", b"no")])

    assert [b"no", b"no"] == desk.recall([(0, "c-1"), (0, "c-2")])


def test_many_refusals_at_once(world: World) -> None:
    """
    A batch as large as a turn's is remembered as a whole.
    """
    refusals = [(number % controls.PARTITIONS, f"c-{number}", b"%d" % number) for number in range(1_000)]
    world.desk().remember(refusals)

    assert [answer for _, _, answer in refusals] == world.desk().recall(
        [(partition, command_id) for partition, command_id, _ in refusals]
    )


@pytest.mark.parametrize("count", [0, 2])
def test_a_commit_remembers_what_it_refuses(world: World, count: int) -> None:
    """
    With records or with none: with the view, or not at all.
    """
    journal, ids = world.journal(), [f"c-{number}" for number in range(1, count + 1)]
    refused = [controls.refusal("r-1"), controls.refusal("r-2")]
    view = opened(journal.open([REF], "a")[0])
    assert [Committed] == [
        type(one) for one in journal.commit([controls.commit(view, *ids, refusals=refused)], "a")
    ]
    assert [answer for _, answer in refused] == world.desk().recall(
        [(REF.partition, name) for name, _ in refused]
    )

    other = replace(controls.commit(view, "late", refusals=[controls.refusal("r-3")]), seq=7)
    assert [Conflict(count)] == journal.commit([other], "a")
    assert [None] == world.desk().recall([(REF.partition, controls.refusal("r-3")[0])])


@pytest.mark.parametrize("leases", [True, False])
@pytest.mark.parametrize("first", ["commit", "desk"])
def test_what_another_has_refused_is_not_committed(world: World, first: str, leases: bool) -> None:
    """
    Whatever the view: nothing of such a commit is written, and the others are not hindered.
    """
    journal, other = world.journal(leases=leases), controls.ref("o-2")
    (name, answer), (mine, _) = controls.refusal("c-1"), controls.refusal("c-2")
    views = [opened(one) for one in journal.open([REF, other], "a")]
    if first == "commit":
        journal.commit([controls.commit(views[0], refusals=[(name, answer)])], "a")
    else:
        world.desk().remember([(REF.partition, name, answer)])
    before = log_of(journal, REF)
    commits = [
        controls.commit(views[0], "c-1", unless_refused=[mine, name], refusals=[controls.refusal("r-9")]),
        controls.commit(views[1], "d-1", unless_refused=[mine]),
    ]
    replies = journal.commit(commits, "a")

    assert [Conflict(0), Committed] == [replies[0], type(replies[1])]
    assert before == log_of(journal, REF)
    assert [None] == world.desk().recall([(REF.partition, controls.refusal("r-9")[0])])
    assert [Committed] == [
        type(one) for one in journal.commit([controls.commit(views[0], "c-2", unless_refused=[mine])], "a")
    ]


def test_a_command_refused_and_decided_in_one_commit_is_no_conflict(world: World) -> None:
    """
    What a commit refuses itself does not stand against it.
    """
    journal = world.journal()
    name, answer = controls.refusal("c-1")
    commit = controls.commit(REF, "c-2", refusals=[(name, answer)], unless_refused=[name])

    assert [Committed] == [type(one) for one in journal.commit([commit], "a")]
    assert [answer] == world.desk().recall([(REF.partition, name)])


def test_old_refusals_are_forgotten(world: World) -> None:
    """
    A refusal is kept for its time and not much longer, as long as new ones come in.
    """
    if not world.features.refusals_expire:
        pytest.skip("refusals in memory stay")
    desk = world.desk(refusals_s=1)
    desk.remember([(0, f"old-{number}", b"no") for number in range(150)])

    assert b"no" == desk.recall([(0, "old-0")])[0]

    def forgotten() -> bool:
        desk.remember([(0, "new", b"no")])
        return set(desk.recall([(0, f"old-{number}") for number in range(150)])) == {None}

    eventually(forgotten)

    assert [b"no"] == desk.recall([(0, "new")])


def test_refusing_commits_forget_old_refusals(world: World) -> None:
    """
    As they come: nobody else would forget them.
    """
    if not world.features.refusals_expire:
        pytest.skip("refusals in memory stay")
    journal, desk = world.journal(refusals_s=1), world.desk()
    old = [controls.refusal(f"old-{number}") for number in range(150)]
    journal.commit([controls.commit(REF, refusals=old)], "a")
    assert [answer for _, answer in old] == desk.recall([(REF.partition, name) for name, _ in old])

    def forgotten() -> bool:
        journal.commit([controls.commit(REF, refusals=[controls.refusal("new")])], "a")
        return set(desk.recall([(REF.partition, name) for name, _ in old])) == {None}

    eventually(forgotten)

    name, answer = controls.refusal("new")
    assert [answer] == desk.recall([(REF.partition, name)])


# -- replies


def test_a_caller_is_told(world: World) -> None:
    """
    An answer ends the future of whoever waits for it, byte for byte.
    """
    address, future = world.mailbox().expect("c-1")
    world.desk().reply([(address, b"yes\x00\xff")])

    assert b"yes\x00\xff" == future.result(SECONDS_MAX)


def test_each_caller_gets_its_own_answer(world: World) -> None:
    """
    Many callers of many processes wait at once, and each gets what it asked for.
    """
    mailboxes = [world.mailbox() for _ in range(3)]
    ids = ["plain", "with/slash", "a b", "日本", "{x}:y", "."]
    waiting = {
        (number, command_id): mailbox.expect(f"{number}{command_id}")
        for number, mailbox in enumerate(mailboxes)
        for command_id in ids
    }
    world.desk().reply([(address, f"{who}".encode()) for who, (address, _) in waiting.items()])

    assert {who: f"{who}".encode() for who in waiting} == {
        who: future.result(SECONDS_MAX) for who, (_, future) in waiting.items()
    }


def test_nobody_need_be_listening(world: World) -> None:
    """
    Answers to callers that have gone, or never were, harm nobody else's.
    """
    mailbox = world.mailbox()
    gone, _ = mailbox.expect("c-1")
    mailbox.forget("c-1")
    mailbox.forget("never")
    address, future = mailbox.expect("c-2")
    world.desk().reply([(gone, b"1"), ("", b"?"), ("nobody/c-2", b"?"), (address, b"2"), (address, b"3")])

    assert b"2" == future.result(SECONDS_MAX)


def test_a_caller_that_gave_up_harms_no_other(world: World) -> None:
    """
    A future that was cancelled, as an asyncio task's is, ends nothing but itself.
    """
    mailbox = world.mailbox()
    cancelled, future = mailbox.expect("c-1")
    future.cancel()
    address, other = mailbox.expect("c-2")
    world.desk().reply([(cancelled, b"1"), (address, b"2")])

    assert b"2" == other.result(SECONDS_MAX)

    address, other = mailbox.expect("c-3")
    world.desk().reply([(address, b"3")])

    assert b"3" == other.result(SECONDS_MAX)


def test_callers_come_and_go_on_many_threads(world: World) -> None:
    """
    One mailbox serves every thread of a process.
    """
    mailbox = world.mailbox()

    def ask(number: int) -> list[bytes]:
        desk = world.desk()
        found = []
        for step in range(20):
            address, future = mailbox.expect(f"c-{number}-{step}")
            desk.reply([(address, b"%d %d" % (number, step))])
            found.append(future.result(SECONDS_MAX))
        return found

    assert [[b"%d %d" % (number, step) for step in range(20)] for number in range(6)] == together(6, ask)


def test_a_mailbox_comes_back(redis_world: RedisWorld) -> None:
    """
    A caller whose connection broke is told so, to ask again, and hears answers from then on.
    """
    told: list[bool] = []
    mailbox = redis_world.mailbox(on_reconnect=lambda: told.append(True))
    address, future = mailbox.expect("c-1")
    for client in redis_world.client.client_list(_type="pubsub"):
        if client["name"] == f"holdfast-{redis_world.settings.namespace}":
            redis_world.client.client_kill_filter(_id=client["id"])
    eventually(lambda: bool(told))
    redis_world.desk().reply([(address, b"yes")])

    assert b"yes" == future.result(SECONDS_MAX)


def test_a_mailbox_outlives_what_is_no_answer(redis_world: RedisWorld) -> None:
    """
    Whatever is said on its channel, and by whom: the listener goes on, and hears the next answer.
    """
    address, future = redis_world.mailbox().expect("c-1")
    channel = redis_world.keys.replies(address.partition("/")[0])
    for said in (b"", b"\xc1", b"\x92\xa1a", b"\x92\x01\x02", b"\x92\xa2\xff\xff\xc4\x00"):
        assert 1 == redis_world.client.publish(channel, said)
    redis_world.desk().reply([(address, b"yes")])

    assert b"yes" == future.result(SECONDS_MAX)


def test_a_mailbox_comes_back_to_what_was_not_ready(
    redis_world: RedisWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A certificate that is missing when the line breaks, and a sender that takes nothing when it is back, are tried again.
    """
    trouble = threading.Event()
    tries: list[str] = []
    told: list[bool] = []

    def link(settings: Settings) -> RedisLink:
        if trouble.is_set():
            tries.append("no link")
            raise SettingsError("HOLDFAST_TLS_CA_FILE is a.pem, which cannot be read")
        return RedisLink(settings)

    def ask_again() -> None:
        told.append(True)
        if len(told) == 1:
            raise Overloaded

    mailbox = redis_world.mailbox(on_reconnect=ask_again)
    address, future = mailbox.expect("c-1")
    monkeypatch.setattr("holdfast.brokers.redis_answers.RedisLink", link)
    trouble.set()
    for client in redis_world.client.client_list(_type="pubsub"):
        if client["name"] == f"holdfast-{redis_world.settings.namespace}":
            redis_world.client.client_kill_filter(_id=client["id"])
    eventually(lambda: len(tries) >= 2)
    trouble.clear()
    eventually(lambda: len(told) >= 2)
    redis_world.desk().reply([(address, b"yes")])

    assert b"yes" == future.result(SECONDS_MAX)


# -- suspects


def test_turns_are_counted(world: World) -> None:
    """
    Each turn that is begun counts one more, each command by itself, for whoever asks, until its turn comes to an end.
    """
    commands = [(0, "c-1"), (0, "c-2"), (3, "c-1")]

    assert [1, 1, 1] == world.desk().begin(commands)
    assert [2, 2] == world.desk().begin(commands[:2])

    world.desk().clear([(0, "c-1"), (2, "never")])

    assert [1, 3, 2] == world.desk().begin(commands)


def test_turns_are_counted_once_each(world: World) -> None:
    """
    Many workers that count at once miss none.
    """
    desks = [world.desk() for _ in range(6)]
    found = together(6, lambda number: [desks[number].begin([(1, "c-1")])[0] for _ in range(20)])

    assert list(range(1, 121)) == sorted(count for counts in found for count in counts)
    assert all(counts == sorted(counts) for counts in found)


def test_suspects_and_refusals_do_not_mix(world: World) -> None:
    """
    A command may be both, and one knows nothing of the other.
    """
    desk = world.desk()
    desk.begin([(0, "c-1")])
    waiting = begin(lambda: desk.recall([(0, "c-1")]))

    assert [None] == waiting.result(SECONDS_MAX)
