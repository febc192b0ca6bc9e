"""
Health: what /health and /ready say from the start of a worker to its end, and when servers or parts of it are away.
"""

import signal
from pathlib import Path

from holdfast.actors.telemetry.health import HANG_S, ROUND_GRACE_S, SILENT_S, Health
from holdfast.actors.telemetry.probe import Probe
from holdfast.actors.telemetry.vitals import Vitals
from tests.flow.house import CALM, quick
from tests.support.processes import eventually
from tests.support.servers import RedisServer
from tests.telemetry.house import PATIENCE_S, stand
from tests.telemetry.kiosk import ENV_LET_GO, Buy

TTL_S = 5.0


class Heart:
    """
    A steward that says what the test wants.
    """

    def __init__(self) -> None:
        self.beaten_at: float | None = None
        self.round_at: float | None = None
        self.alive = True
        self.stopping = False
        self.serving = frozenset({("command", 0), ("timer", 1), ("command", 2)})
        self.leaving: frozenset[tuple[str, int]] = frozenset()


class Ward:
    """
    A worker on a clock of the test's.
    """

    def __init__(self) -> None:
        self.now = 1_000.0
        self.heart = Heart()
        self.lane = Vitals("command.0", lambda: self.now)
        self.health = Health(int(TTL_S * 1000), lambda: self.now)
        self.health.attach(self.heart, [self.lane], [])
        self.beat()

    def beat(self) -> None:
        self.heart.beaten_at = self.heart.round_at = self.now

    def verdict(self) -> tuple[str, bool, bool]:
        report = self.health.report()
        return report["status"], report["healthy"], report["ready"]


def test_a_worker_is_ready_from_its_first_heartbeat_to_its_end() -> None:
    """
    And healthy all the time: who starts or ends is not dead.
    """
    assert Health(5_000).report() == {"status": "starting", "healthy": True, "ready": False, "parts": {}}
    ward = Ward()
    ward.heart.beaten_at = None
    assert ward.verdict() == ("starting", True, False)
    ward.beat()
    assert ward.verdict() == ("serving", True, True)
    assert ward.health.report()["parts"]["partitions"]["serving"] == {"command": [0, 2], "timer": [1]}
    ward.heart.stopping = True
    assert ward.verdict() == ("draining", True, False)


def test_a_steward_that_cannot_be_heard_is_away_and_one_that_stands_still_is_dead() -> None:
    """
    The first goes on trying, and a restart would not help.
    """
    ward = Ward()
    ward.now += TTL_S + 0.1
    ward.heart.round_at = ward.now
    assert ward.verdict() == ("unwell", True, False)
    ward.now += TTL_S + ROUND_GRACE_S + 0.1
    assert ward.verdict() == ("unwell", False, False)
    ward.beat()
    assert ward.verdict() == ("serving", True, True)
    ward.heart.alive = False
    assert ward.verdict() == ("unwell", False, False)


def test_a_lane_that_hangs_or_has_lost_its_threads_is_dead() -> None:
    """
    One that waits for work is not, however long, as long as it looks for it.
    """
    ward = Ward()
    for _ in range(10):
        ward.now += SILENT_S / 2
        ward.beat()
        ward.lane.begin("taking")
        assert ward.verdict() == ("serving", True, True)
    ward.lane.begin("working")
    for doing, bound_s in (("working", HANG_S), ("settling", SILENT_S), ("waiting", SILENT_S)):
        ward.lane.begin(doing)
        ward.now += bound_s - 1
        ward.beat()
        assert ward.verdict() == ("serving", True, True)
        ward.now += 2
        ward.beat()
        assert ward.verdict() == ("unwell", False, False)
        assert ward.health.report()["parts"]["lanes"]["command.0"]["status"] == "dead"
    assert ward.lane.turned_at is not None


def test_a_lane_that_waits_for_a_server_is_not_dead() -> None:
    """
    It has as long as ever from when the server is back.
    """
    ward = Ward()
    answers = [False]

    def ask() -> None:
        if not answers[0]:
            raise ConnectionError("refused at redis://:sesame@h/0")

    probe = Probe("redis", 0.01, ask, urls=["redis://:sesame@h/0"])
    ward.health.attach(ward.heart, [ward.lane], [probe])
    probe.start()
    try:
        eventually(lambda: "error" in probe.report())
        ward.lane.begin("working")
        ward.now += 10 * HANG_S
        ward.beat()
        assert ward.verdict() == ("unwell", True, False)
        assert "sesame" not in str(ward.health.report())
        answers[0] = True
        eventually(lambda: ward.verdict() == ("serving", True, True))
    finally:
        probe.stop()


def test_a_worker_says_how_it_is_until_its_end(
    redis_server: RedisServer, namespace: str, tmp_path: Path
) -> None:
    """
    Ready once it serves, not while Redis is away, again when that is back, and not while it drains. It is healthy
    throughout, and Redis's password is told nowhere.
    """
    # It is not unwell for having stood still, nor is the end of what runs waited for in vain.
    settings = quick(namespace, redis_server.url, **CALM, drain_s=60.0)
    let_go = tmp_path / "let-go"
    with stand(settings, tmp_path, **{ENV_LET_GO: str(let_go)}) as it:
        eventually(lambda: it.status("/ready") == 200, PATIENCE_S)
        it.client.execute(Buy("k-1", "nothing"), timeout=PATIENCE_S)
        report = it.report()
        assert report["status"] == "serving"
        assert sorted(report["parts"]) == ["lanes", "partitions", "redis", "steward"]
        assert sorted(report["parts"]["lanes"]) == [
            "command.0",
            "command.1",
            "effect",
            "projection.sales",
            "timer.0",
        ]
        eventually(lambda: any(one["turns"] for one in it.report()["parts"]["lanes"].values()))
        assert it.ask("/nothing")[0] == 404

        redis_server.stop()
        eventually(lambda: it.status("/ready") == 503, PATIENCE_S)
        eventually(lambda: it.report()["parts"]["redis"]["status"] == "away", PATIENCE_S)
        assert it.ask("/health")[0] == 200
        redis_server.start()
        eventually(lambda: it.status("/ready") == 200, PATIENCE_S)

        it.client.send(Buy("k-1", "hold"))  # what runs is waited for
        it.worker.await_words("kiosk holds")
        it.worker.signal(signal.SIGTERM)
        eventually(lambda: it.status("/ready") == 503, PATIENCE_S)
        eventually(lambda: it.report("/ready")["status"] == "draining", PATIENCE_S)
        assert it.report("/ready")["healthy"]
        let_go.touch()
        it.worker.await_end()
        assert it.status("/ready") == 0


def test_a_port_that_is_taken_stops_no_work(redis_url: str, namespace: str, tmp_path: Path) -> None:
    """
    It is said once, and tried again.
    """
    settings = quick(namespace, redis_url)
    with stand(settings, tmp_path) as first:
        eventually(lambda: first.status("/ready") == 200, PATIENCE_S)
        with stand(settings, tmp_path, "--metrics-port", str(first.port)) as second:
            second.worker.await_words("metrics and health cannot be served here; trying again")
            first.worker.signal(signal.SIGTERM)
            first.worker.await_end()
            first.client.execute(Buy("k-1", "nothing"), timeout=PATIENCE_S)
            eventually(lambda: first.status("/ready") == 200, PATIENCE_S)
            assert second.worker.said().count("cannot be served here") == 1


def test_one_who_asks_slowly_holds_up_nobody(redis_url: str, namespace: str, tmp_path: Path) -> None:
    """
    Many connections that say nothing are dropped or wait apart; commands are decided meanwhile.
    """
    import socket

    settings = quick(namespace, redis_url)
    with stand(settings, tmp_path) as it:
        eventually(lambda: it.status("/ready") == 200, PATIENCE_S)
        idle = [socket.create_connection(("127.0.0.1", it.port)) for _ in range(40)]
        it.client.execute(Buy("k-1", "nothing"), timeout=PATIENCE_S)
        eventually(lambda: it.status("/ready") == 200, PATIENCE_S)
        for one in idle:
            one.close()
