"""
`holdfast doctor` of a cluster: every primary is looked at, and what they have in common is said once.
"""

from pathlib import Path

import pytest

from holdfast.actors.wiring import open_ports
from holdfast.brokers.checkup import examine
from holdfast.brokers.finding import Status
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import SetupError
from tests import controls
from tests.contract.worlds import RedisWorld
from tests.support.processes import eventually
from tests.support.servers import RedisCluster, RedisServer


def findings(url: str, **others: str) -> dict[str, list[tuple[Status, str]]]:
    """
    What the doctor finds, by check.
    """
    found: dict[str, list[tuple[Status, str]]] = {}
    for one in examine(Settings.of(redis_url=url, namespace="doctored", **others)):
        found.setdefault(one.check, []).append((one.status, one.found))
    return found


def test_every_primary_is_looked_at(tmp_path: Path) -> None:
    """
    A cluster with replicas is well; one primary that evicts is named; one without a replica is told of.
    """
    # None that stands still for some seconds is replaced.
    with RedisCluster(tmp_path, node_timeout_ms=60_000) as cluster:
        # Each server hears of the others' replicas when it is told by and by.
        eventually(lambda: findings(cluster.url)["cluster"][0][0] is Status.OK)
        well = findings(cluster.url, durability="replicated(1)")

        assert [Status.OK] == [status for status, _ in well["cluster"]]
        assert "each has a replica" in well["cluster"][0][1]
        assert [(Status.OK, "noeviction (3 primaries)")] == well["eviction"]
        assert [Status.OK] == [status for status, _ in well["durability"]]

        odd = cluster.primaries[1]
        odd.client().config_set("maxmemory-policy", "allkeys-lru")
        cluster.replicas[2].stop()

        ill = findings(cluster.url)
        (named,) = [text for status, text in ill["eviction"] if status is Status.ERROR]
        assert f":{odd.port}: maxmemory-policy allkeys-lru" in named


def test_a_cluster_without_replicas_is_told_of(cluster_url: str) -> None:
    """
    Nothing takes the place of a primary that has no replica.
    """
    ((status, found),) = findings(cluster_url)["cluster"]

    assert Status.WARNING is status
    assert "some have no replica" in found


def test_a_server_of_a_cluster_is_no_single_one(cluster_url: str) -> None:
    """
    Who names one server of a cluster as if it were alone is told how to name the cluster.
    """
    single = cluster_url.replace("+cluster", "", 1).split(",")[0]
    world = RedisWorld(single)

    with pytest.raises(SetupError, match=r"redis\+cluster://"):
        for number in range(50):
            world.membership().claim(number, "command", "m-1", ["m-1"])
    world.close()


def test_a_single_server_is_no_cluster(redis_server: RedisServer) -> None:
    """
    And the other way round.
    """
    url = redis_server.url.replace("redis://", "redis+cluster://")
    with pytest.raises(SetupError, match="is no cluster"):
        open_ports(controls.settings(redis_url=url))


def test_names_of_clusters() -> None:
    """
    A cluster is named by one or several of its servers, with whatever a single server's URL may have.
    """
    settings = controls.settings(
        redis_url="rediss+cluster://me:pw@one:7000,two:7001,[::1]:7002?ssl_cert_reqs=none"
    )

    assert settings.clustered
    assert settings.redis_seeds == [
        "rediss://me:pw@one:7000?ssl_cert_reqs=none",
        "rediss://me:pw@two:7001?ssl_cert_reqs=none",
        "rediss://me:pw@[::1]:7002?ssl_cert_reqs=none",
    ]
