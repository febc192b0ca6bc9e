"""
The servers that benchmarks run on, and the meter that tells who used what.
"""

import os
import subprocess
import sys

import pytest
import redis

from benchmarks.counter import app
from benchmarks.crew import namespace
from benchmarks.facts import facts
from benchmarks.ground import Ground
from benchmarks.meter import Meter, cpu_seconds, tree


@pytest.mark.slow
def test_the_servers_have_the_settings_of_deploy(where: Ground) -> None:
    """
    What deploy/redis.conf says is what Redis says.
    """
    with redis.Redis.from_url(where.redis_url, decode_responses=True) as client:
        found = client.config_get("append*", "maxmemory-policy", "stream-node-max-bytes")

    assert ("yes", "everysec") == (found["appendonly"], found["appendfsync"])
    assert ("noeviction", "256") == (found["maxmemory-policy"], found["stream-node-max-bytes"])


@pytest.mark.slow
def test_the_meter_tells_workers_from_servers(where: Ground) -> None:
    """
    A process that this one starts is a worker, whatever runs beside the servers is not, and its memory is its own.
    """
    before = Meter(where).row("nobody", "nothing", 1)
    hold = "kept = bytearray(192 * 1024 * 1024); print(flush=True); input()"
    worker = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        during = Meter(where).row("one", "192 MiB", 1)
        worker.communicate(b"\n")

    # Other tests of this process may have servers of their own, which nobody told the meter of and which may take or give
    # back some memory meanwhile.
    assert 128 <= during["workers_mb"] - before["workers_mb"] < 320  # type: ignore[operator]  # numbers
    assert where.redis_pid in tree(os.getpid())


def test_what_ended_children_used_is_not_lost() -> None:
    """
    A server that ends a helper meanwhile has not used less than nothing: its time is still counted, once.
    """
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    run = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); print(flush=True); input()"
    parent = subprocess.Popen([sys.executable, "-c", run], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert [parent.pid] == tree(parent.pid)
        assert cpu_seconds([parent.pid]) >= 0.3
        parent.communicate(b"\n")


@pytest.mark.slow
def test_facts_name_the_servers_and_the_code(where: Ground) -> None:
    """
    A figure can be told where it came from.
    """
    found = facts(where)

    assert "facts" == found["what"]
    assert str(found["redis"])[0].isdecimal()
    assert "Erlang/OTP" in str(found["rabbitmq"])
    assert "dramatiq 2." in str(found["packages"])
    assert os.cpu_count() == found["cores"]


@pytest.mark.slow
def test_a_namespace_leaves_nothing_behind(where: Ground) -> None:
    """
    The next measurement finds the servers empty.
    """
    with namespace(where, app) as client:
        name = client.settings.namespace
        client.pending()

    with redis.Redis.from_url(where.redis_url) as server:
        assert [] == list(server.scan_iter(match=f"*{name}*"))
