"""
`benchmarks.durability`.
"""

import pytest
import redis

from benchmarks.durability import Options, measure, servers
from benchmarks.ground import Ground
from tests.benchmarks.figures import check, figure, named
from tests.benchmarks.rows import assert_sane

pytestmark = pytest.mark.slow


def test_levels_are_measured(where: Ground) -> None:
    """
    Commands a second and the latency of one for each, and what the disk takes.
    """
    rows = measure(where, Options(300, 20, alone=5, levels="memory|fsync"))

    check(rows)
    assert [row["system"] for row in rows] == [
        "the disk",
        *["holdfast, memory"] * 2,
        *["holdfast, fsync"] * 2,
    ]
    assert_sane(rows[1:])
    assert all(figure(row, "per_second") > 10 for row in named(rows, "queue full"))


@pytest.mark.parametrize(
    ("level", "appendonly", "appendfsync"),
    [
        ("memory", "no", "everysec"),
        ("everysec", "yes", "everysec"),
        ("fsync", "yes", "always"),
        ("replicated(1)", "yes", "everysec"),
    ],
)
def test_each_level_has_the_server_it_demands(level: str, appendonly: str, appendfsync: str) -> None:
    """
    Nothing more than it needs, and for replicated(1) a replica that is there.
    """
    with servers(level) as (url, _), redis.Redis.from_url(url, decode_responses=True) as client:
        found = client.config_get("append*")
        assert (found["appendonly"], found["appendfsync"]) == (appendonly, appendfsync)
        assert client.info("replication")["connected_slaves"] == (level == "replicated(1)")
