"""
Rolling upgrades: workers of the last release and of this code do the same work together, forward and back.
"""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.chaos.history import History
from tests.chaos.load import Load
from tests.chaos.mill import BELL, ENV_FOLDER, Milling
from tests.chaos.plant import MANY, hush, read_errands, read_lines, strange_letters
from tests.conftest import ON_CLUSTER
from tests.flow.house import ROOT, nothing_wrong, quick
from tests.flow.releases import PATIENCE_S, Fleet, Signed, fleet, last_release, said
from tests.support.servers import redis_client

KEYS = [f"m-{number}" for number in range(200)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(ON_CLUSTER, reason="the last release does not know Redis Cluster")
def test_the_last_release_and_this_code_work_together(
    transport: str,
    redis_url: str,
    amqp_url: str,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Workers of the last release are replaced by workers of this code under load, brought back, and replaced again, one of
    them by SIGKILL: no command, effect, timer, tick or event of the read model is lost, doubled or out of order, and
    each version goes on with what the other began.
    """
    codes = {"old": last_release(tmp_path / "old"), "new": ROOT}
    settings = quick(
        namespace,
        redis_url,
        amqp_url if transport == "rabbitmq" else "",
        snapshot_every=20,
        partitions=8,
        # One worker is killed; who only stands still for a while is not to be taken for dead.
        heartbeat_s=20,
        member_ttl_ms=8_000,
        lease_ms=8_000,
    )
    monkeypatch.setenv(ENV_FOLDER, str(tmp_path))
    with fleet(settings, tmp_path, codes) as it:
        it.start("old-1", "old-2")
        files = {name: codes[name] / "holdfast" / "__init__.py" for name in codes}
        assert files["old"] == it.hosts["old-1"].code()
        assert files["new"] != files["old"]
        per_key = 4 if transport == "rabbitmq" else 1
        with Load(it.client, KEYS, senders=1, callers=1, per_key=per_key) as load:
            it.await_progress()
            replace(it, ("old-1", "old-2"), ("new-1", "new-2"), kill=True)
            replace(it, ("new-1", "new-2"), ("old-3", "old-4"))
            if transport == "rabbitmq":  # once forward again is enough: each worker costs seconds
                replace(it, ("old-3", "old-4"), ("new-3", "new-4"))
        check(it, load, transport, redis_url)
        check_both(it, files)
        assert "Traceback" not in said(tmp_path), "a worker met an error that nobody expected"


def replace(it: Fleet, before: tuple[str, str], after: tuple[str, str], *, kill: bool = False) -> None:
    """
    Start two workers, and end the two that were there in good order, one after another; of the second one the process is
    killed before, if that is wanted, and its supervisor replaces it.
    """
    it.start(*after)
    it.await_progress()
    it.stop(before[0])
    it.await_progress()
    if kill:
        it.strike_down(before[1])
        it.await_progress()
    it.stop(before[1])
    it.await_progress()


def check(it: Fleet, load: Load, transport: str, redis_url: str) -> None:
    """
    Hold what clients were told against the logs, the lines that effects left, and the read model.
    """
    last = Load(it.client, KEYS[:10], seed="last-", senders=0, callers=0, wardens=0).probe(PATIENCE_S)
    hush(it.client, PATIENCE_S)
    it.await_idle()
    with redis_client(redis_url) as looking:
        lines = read_lines(it.folder, "sqlite", it.client, looking)
    history = History(
        load.ops,
        dict(it.client.histories(Milling, [*KEYS, BELL])),
        dead={one.command_id for one in it.client.dead_letters.list(limit=MANY) if one.kind == "command"},
        errands=read_errands(it.folder),
        lines=lines,
        every=timedelta(seconds=1),
        last=last,
    )
    nothing_wrong(history.wrongs())
    nothing_wrong(strange_letters(it.client))


def check_both(it: Fleet, files: dict[str, Path]) -> None:
    """
    See that each version did some of everything, and went on with what the other had begun.
    """
    signed = Signed.read(it.folder)
    for one, other in (("old", "new"), ("new", "old")):
        theirs = {what: signed.alone(what, files[other]) for what in signed.by}
        decided = signed.alone("decided", files[one])
        assert len(decided) >= 50, f"the {one} version decided too little"
        assert len(decided & theirs["ran"]) >= 5, (
            f"no effects of the {one} version were run by the {other} one"
        )
        assert decided & (theirs["rang"] | theirs["brought"]), f"what the {one} version began was not ended"
        assert theirs["applied"], f"the {other} version applied nothing"
    assert set(map(str, files.values())) == set().union(*signed.by["began"].values())
