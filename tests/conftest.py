"""
Servers and names for every test.

A test that asks for `redis_url` or `amqp_url` gets the server that HOLDFAST_REDIS_URL or HOLDFAST_AMQP_URL names, else
a private one that all tests of the session share. It works under a `namespace` of its own and leaves nothing behind;
no server is ever flushed.
"""

import os
import signal
import uuid
from collections.abc import Iterator

import pika
import pika.exceptions
import pytest
from hypothesis import HealthCheck, settings

from holdfast import AsyncClient, Client
from tests.support.processes import SECONDS_MAX
from tests.support.servers import (
    PostgresServer,
    RabbitServer,
    RedisCluster,
    RedisServer,
    find_postgres,
    find_rabbit,
    find_redis,
    redis_client,
)

#: Queues that a namespace may have had: the partitions up to the most that any test configures.
PARTITIONS_MAX = 64

#: Read once, before any test has its environment cleaned.
GIVEN = {name: os.environ.get(name, "") for name in ("HOLDFAST_REDIS_URL", "HOLDFAST_AMQP_URL", "CI")}

#: With HOLDFAST_TEST_REDIS=cluster whatever shares a Redis shares a cluster instead.
ON_CLUSTER = os.environ.get("HOLDFAST_TEST_REDIS") == "cluster"

# A shell that runs us in the background has us ignore SIGINT, and what is ignored stays so in every process that we
# start: they could not be interrupted. What is handled here is theirs to handle anew.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run; HYPOTHESIS_PROFILE=explore looks for new ones. Neither how long an example takes nor
# how long it takes to make one up says anything on a busy machine.
BUSY = [HealthCheck.too_slow]
settings.register_profile(
    "holdfast", deadline=None, database=None, derandomize=True, suppress_health_check=BUSY
)
settings.register_profile(
    "explore", deadline=None, database=None, max_examples=3_000, suppress_health_check=BUSY
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "holdfast"))


def be_patient() -> None:
    """
    Have clients of this process wait as long as tests do where no time is named: what answers may stand still for longer
    than the seconds that are enough elsewhere.
    """
    for kind in (Client, AsyncClient):
        for method in vars(kind).values():
            defaults = getattr(method, "__kwdefaults__", None) or {}
            if "timeout" in defaults:
                defaults["timeout"] = max(SECONDS_MAX, defaults["timeout"])


be_patient()


def need(program: str, found: str | None) -> None:
    """
    Skip the test where the server cannot be had; fail where somebody counts on it.
    """
    if found is not None:
        return
    reason = f"{program} is not installed; scripts/ensure-servers installs it or says how"
    if GIVEN["CI"]:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Keep the settings of whoever runs the tests out of them.
    """
    for name in list(os.environ):
        if name.startswith(("HOLDFAST_", "OTEL_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """
    The URL of a Redis that may be shared with other tests.
    """
    if GIVEN["HOLDFAST_REDIS_URL"]:
        yield GIVEN["HOLDFAST_REDIS_URL"]
        return
    if ON_CLUSTER:
        yield request.getfixturevalue("cluster_url")
        return
    need("redis-server", find_redis())
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """
    The URL of a Redis Cluster of three primaries that may be shared with other tests.
    """
    need("redis-server", find_redis())
    # Nobody dies here, and a server that stands still for a moment is not to be taken for dead.
    with RedisCluster(tmp_path_factory.mktemp("cluster"), replicas=0, node_timeout_ms=60_000) as cluster:
        yield cluster.url


@pytest.fixture(scope="session")
def amqp_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """
    The URL of a RabbitMQ that may be shared with other tests.
    """
    if GIVEN["HOLDFAST_AMQP_URL"]:
        yield GIVEN["HOLDFAST_AMQP_URL"]
        return
    need("rabbitmq-server", find_rabbit())
    with RabbitServer(tmp_path_factory.mktemp("rabbit")) as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """
    A PostgreSQL that tests share, each with a database of its own. A test that stops it starts it again.
    """
    need("postgresql", find_postgres())
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """
    A running Redis that the test may kill, pause and restart.
    """
    need("redis-server", find_redis())
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def rabbit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """
    A running RabbitMQ that the test may kill, pause and restart. It takes five seconds to start.
    """
    need("rabbitmq-server", find_rabbit())
    with RabbitServer(tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """
    A namespace of the test's own; what it leaves on the shared servers is removed.
    """
    # Asked for first, so that the servers outlive the clean-up.
    asked = set(request.fixturenames)
    shared = [request.getfixturevalue(one) for one in ("redis_url", "cluster_url") if one in asked]
    amqp_shared = request.getfixturevalue("amqp_url") if "amqp_url" in asked else None
    name = f"t{uuid.uuid4().hex[:8]}"
    yield name
    for url in shared:
        remove_keys(url, name)
    if amqp_shared is not None:
        remove_queues(amqp_shared, name)


def remove_keys(url: str, name: str) -> None:
    """
    Remove the namespace's keys, and only those.
    """
    with redis_client(url) as client:
        for pattern in (f"{{{name}.*}}:*", f"{{{name}}}:*"):
            keys = list(client.scan_iter(pattern, count=10_000))
            for start in range(0, len(keys), 1_000):
                pipe = client.pipeline(transaction=False)
                for key in keys[start : start + 1_000]:
                    pipe.unlink(key)
                pipe.execute()


def remove_queues(url: str, name: str) -> None:
    """
    Remove the namespace's queues and exchanges, and only those; deleting what is not there is allowed.
    """
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    partitions = [f"{name}.commands.{partition}" for partition in range(PARTITIONS_MAX)]
    for queue in (*partitions, f"{name}.ingress", f"{name}.dead"):
        channel.queue_delete(queue)
    for exchange in (f"{name}.commands", f"{name}.ingress", f"{name}.dead"):
        channel.exchange_delete(exchange)
    connection.close()
