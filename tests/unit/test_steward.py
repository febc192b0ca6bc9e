"""
The steward: what it claimed without hearing so is given back, or nobody could have it as long as it lives.
"""

from collections.abc import Sequence

import pytest

from holdfast.actors.partitions import Steward
from holdfast.brokers.memory import MemoryJournal, MemoryMembership, MemoryServer
from holdfast.runtime.errors import Unavailable
from holdfast.runtime.keys import Ref
from holdfast.runtime.shares import shares
from tests.controls import member
from tests.support.processes import eventually


class Lane:
    """
    Holds partitions and has nothing to do in them.
    """

    def __init__(self) -> None:
        self.assigned: set[int] = set()
        #: All that was said of partitions, in order.
        self.told: list[tuple[str, int]] = []

    def assign(self, partition: int) -> None:
        self.assigned.add(partition)
        self.told.append(("assign", partition))

    def renew(self, partition: int) -> None:
        self.told.append(("renew", partition))

    def revoke(self, partition: int) -> None:
        self.assigned.discard(partition)
        self.told.append(("revoke", partition))

    def drained(self, _partition: int) -> bool:
        return True

    def forget(self, _partition: int) -> list[tuple[Ref, int]]:
        return []

    def stop(self) -> None:
        pass


class Deaf(MemoryMembership):
    """
    A membership that answers the first claim too late.
    """

    heard = False

    def claim(self, partition: int, pool: str, member_id: str, living: Sequence[str]) -> bool:
        found = super().claim(partition, pool, member_id, living)
        if not self.heard:
            self.heard = True
            raise Unavailable
        return found


class Noticed(MemoryMembership):
    """
    A membership that says when a claim was refused.
    """

    refused = False

    def claim(self, partition: int, pool: str, member_id: str, living: Sequence[str]) -> bool:
        found = super().claim(partition, pool, member_id, living)
        self.refused = self.refused or not found
        return found


def steward(
    server: MemoryServer, name: str, membership: MemoryMembership, lane: Lane, heartbeat_ms: int = 100
) -> Steward:
    """
    A steward of one partition of the command pool.
    """
    return Steward(
        member(name)._replace(host=name),
        membership,
        MemoryJournal(server),
        {"command": lambda _partition: [lane]},
        partitions=1,
        heartbeat_ms=heartbeat_ms,
        ttl_ms=600_000,
        drain_s=1.0,
    )


def test_a_claim_without_an_answer_keeps_nobody_out() -> None:
    """
    Its answer was lost, and by the next time the partition is another's: he gets it, though the first still lives.
    """
    server, lanes = MemoryServer(1), [Lane(), Lane()]
    other = next(name for name in map(str, range(100)) if shares(["deaf", name], 1) == {0: name})
    deaf = steward(server, "deaf", Deaf(server), lanes[0])
    second = steward(server, other, MemoryMembership(server), lanes[1])

    with pytest.raises(Unavailable):
        deaf._step()
    for _ in range(3):
        second._step()
        deaf._step()

    assert [other] == MemoryMembership(server).owners("command")
    assert [set(), {0}] == [lane.assigned for lane in lanes]


def test_a_claim_without_an_answer_is_made_again() -> None:
    """
    Where the partition stays one's own, it is served from the next heartbeats on.
    """
    server, lane = MemoryServer(1), Lane()
    deaf = steward(server, "deaf", Deaf(server), lane)

    with pytest.raises(Unavailable):
        deaf._step()
    for _ in range(2):
        deaf._step()

    assert {0} == lane.assigned
    assert ["deaf"] == MemoryMembership(server).owners("command")


class Stumbling(Lane):
    """
    A lane whose server does not answer when it is first given a partition.
    """

    stumbled = False

    def assign(self, partition: int) -> None:
        if not self.stumbled:
            self.stumbled = True
            raise Unavailable
        super().assign(partition)


def test_what_could_not_be_begun_is_claimed_anew() -> None:
    """
    A partition that is one's own and that nobody takes from would be lost as long as one lives.
    """
    server, lane = MemoryServer(1), Stumbling()
    one = steward(server, "one", MemoryMembership(server), lane)

    with pytest.raises(Unavailable):
        one._step()
    assert [("revoke", 0)] == lane.told
    one._step()

    assert {0} == lane.assigned
    assert ["one"] == MemoryMembership(server).owners("command")


def test_what_is_handed_over_is_not_left_alone_until_the_next_heartbeat() -> None:
    """
    Who waits for a partition looks for it more often than it says that it lives: nobody serves it meanwhile.
    """
    server, lanes = MemoryServer(1), [Lane(), Lane()]
    other = next(name for name in map(str, range(100)) if shares(["first", name], 1) == {0: name})
    first = steward(server, "first", MemoryMembership(server), lanes[0])
    membership = Noticed(server)
    second = steward(server, other, membership, lanes[1], heartbeat_ms=60_000)
    first._step()

    second.start()
    try:
        eventually(lambda: membership.refused)
        first._step()
        eventually(lambda: lanes[1].assigned == {0})
    finally:
        second.stop()


def emptied(server: MemoryServer) -> None:
    """
    Have a server forget who lives and who serves what, as after FLUSHALL.
    """
    server.members.clear()
    server.owners.clear()


def test_what_the_server_forgot_is_claimed_again(caplog: pytest.LogCaptureFixture) -> None:
    """
    What is served is claimed again, told once, and not interrupted.
    """
    server, lane = MemoryServer(1), Lane()
    one = steward(server, "one", MemoryMembership(server), lane)
    one._step()
    emptied(server)
    for _ in range(3):
        one._step()

    assert ["one"] == MemoryMembership(server).owners("command")
    assert [("assign", 0), ("renew", 0)] == lane.told
    assert ["the namespace was emptied, or restored from an earlier state"] == [
        record.message for record in caplog.records
    ]


def test_what_the_server_forgot_is_renewed_although_an_answer_was_lost() -> None:
    """
    The claim went through, and nobody heard: whoever has to know of it is told the next time.
    """
    server, lane = MemoryServer(1), Lane()
    membership = Deaf(server)
    membership.heard = True
    deaf = steward(server, "deaf", membership, lane)
    deaf._step()
    emptied(server)
    membership.heard = False

    with pytest.raises(Unavailable):
        deaf._step()
    deaf._step()

    assert [("assign", 0), ("renew", 0)] == lane.told


def test_what_another_has_meanwhile_is_let_go_of() -> None:
    """
    Where another claimed it first, it is his: what was served is finished and given up.
    """
    server, lane = MemoryServer(1), Lane()
    membership = MemoryMembership(server)
    one = steward(server, "one", membership, lane)
    one._step()
    emptied(server)
    membership.beat(member("other"), 600_000)
    membership.claim(0, "command", "other", ["other"])
    one._step()

    assert ["other"] == membership.owners("command")
    assert [("assign", 0), ("revoke", 0)] == lane.told


def test_who_beats_first_on_an_emptied_server_leaves_the_others_theirs() -> None:
    """
    He is alone there until the others beat: their partitions are not taken from them meanwhile.
    """
    server, names = MemoryServer(8), ["first", "second"]
    lanes = {name: Lane() for name in names}
    stewards = [
        Steward(
            member(name)._replace(host=name),
            MemoryMembership(server),
            MemoryJournal(server),
            {"command": lambda _partition, name=name: [lanes[name]]},  # type: ignore[misc]
            partitions=8,
            heartbeat_ms=60_000,
            ttl_ms=600_000,
            drain_s=1.0,
        )
        for name in names
    ]
    for _ in range(3):
        for one in stewards:
            one._step()
    shared = MemoryMembership(server).owners("command")
    for lane in lanes.values():
        lane.told.clear()
    emptied(server)
    for one in stewards:
        one._step()

    assert shared == MemoryMembership(server).owners("command")
    assert {"renew"} == {what for lane in lanes.values() for what, _ in lane.told}


def test_it_says_which_workflows_are_known_here() -> None:
    """
    Whoever looks can tell workers of another app by that.
    """
    server = MemoryServer(1)
    membership = MemoryMembership(server)
    one = Steward(
        member("one"),
        membership,
        MemoryJournal(server),
        {},
        partitions=1,
        heartbeat_ms=100,
        ttl_ms=600_000,
        drain_s=1.0,
        knows=("loan",),
    )
    one._step()

    assert {"one": {"loan"}} == membership.known()
