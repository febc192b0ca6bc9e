"""Checkup: whether the servers of the settings are as the promises need them.

Nothing is changed, but for queues in RabbitMQ that are missing: those are declared.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence

import msgspec

from holdfast.brokers import rabbitmq_checkup, redis_checkup
from holdfast.brokers.aes import AesGcm, key_ring
from holdfast.brokers.embedded import EmbeddedRedis, EmbeddedUnavailable, find_server
from holdfast.brokers.finding import Finding, Status, error, ok, warning
from holdfast.brokers.redis_link import RedisLink
from holdfast.brokers.redis_secrets import RedisSecrets
from holdfast.brokers.redis_transport import RedisTransport
from holdfast.runtime.cipher import NOWHERE, Cipher
from holdfast.runtime.config import MEMORY_URL, Settings
from holdfast.runtime.errors import HoldfastError, SetupError


def examine(settings: Settings, workflows: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield everything that is to be said of the servers, as it is found; with workflows, whether all workers know them."""
    if settings.redis_url == MEMORY_URL:
        what = "everything is kept in the memory of one process, and nothing will survive it"
        yield warning("redis", what, "set HOLDFAST_REDIS_URL to a server, or unset it for a private one")
    elif not settings.embedded:
        yield from _examine_servers(settings, workflows)
    elif not settings.data_dir.is_dir():
        yield _binary(settings)
    else:
        try:
            with EmbeddedRedis(settings.data_dir, fsync=settings.durability.level == "fsync") as server:
                yield ok("embedded", server.describe())
                yield from _examine_servers(
                    msgspec.structs.replace(settings, redis_url=server.url), workflows
                )
        except EmbeddedUnavailable as failure:
            yield error("embedded", str(failure), "do as it says, or name a server in HOLDFAST_REDIS_URL")


def _binary(settings: Settings) -> Finding:
    """Return what a private server would be, without starting one for nothing."""
    try:
        binary = find_server()
    except EmbeddedUnavailable as absence:
        return warning(
            "embedded", "no server is named, and none is installed: nothing will survive", str(absence)
        )
    return ok("embedded", f"nothing is kept yet; {binary} will keep its data in {settings.data_dir}")


def _examine_servers(settings: Settings, workflows: Sequence[str]) -> Iterator[Finding]:
    with RedisLink(settings) as link:
        try:
            reached = False
            for finding in redis_checkup.examine_server(settings, link):
                yield finding
                reached = reached or finding.check != "redis" or finding.status is not Status.ERROR
            if not reached:
                if settings.amqp_url:
                    yield rabbitmq_checkup.examine_server(settings)
                return
            finding, partitions = redis_checkup.examine_partitions(settings, link)
            yield finding
            yield _encryption(settings, link)
            # From here on as it really is: wrong queues would not be missed by anybody.
            settings = msgspec.structs.replace(settings, partitions=partitions)
            waiting = yield from _examine_queues(settings)
            yield from redis_checkup.examine_work(settings, link, waiting)
            yield from redis_checkup.examine_apps(settings, link, workflows)
        except HoldfastError as failure:
            yield error("checkup", f"it ended early: {failure}", "put that right, and look again")


def _encryption(settings: Settings, link: RedisLink) -> Finding:
    """Return whether payloads are encrypted, and with keys that go with the namespace."""
    store = RedisSecrets(settings, link)
    if not settings.encrypted:
        if store.secrets([NOWHERE])[0] is None:
            return ok("encryption", "off")
        found = f"payloads of namespace {settings.namespace!r} are encrypted, and no keys are set"
        return error(
            "encryption", found, "set HOLDFAST_ENCRYPTION_KEYS, or where your keys are, as for the workers"
        )
    try:
        ring = key_ring(settings)
        if store.secrets([NOWHERE])[0] is not None:  # else it would make one, and looking changes nothing
            Cipher(settings.namespace, ring, store, AesGcm()).check()
    except SetupError as failure:
        return error("encryption", str(failure), "correct the keys; the first one writes, all of them read")
    return ok("encryption", f"on; {ring.current} is the master key that writes")


def _examine_queues(settings: Settings) -> Generator[Finding, None, int]:
    """Yield what is to be said of what carries the commands, and return how many wait."""
    if settings.amqp_url:
        finding = rabbitmq_checkup.examine_server(settings)
        yield finding
        if finding.status is Status.ERROR:
            return 0
        findings = list(rabbitmq_checkup.examine_queues(settings))
        yield from findings
        if any(one.status is Status.ERROR for one in findings):
            return 0
        yield rabbitmq_checkup.examine_rights(settings)
        depths = rabbitmq_checkup.waiting(settings)
    else:
        transport = RedisTransport(settings)
        depths = {f"partition {number}": depth for number, depth in enumerate(transport.depths())}
    yield _backlog(depths)
    return sum(depths.values())


def _backlog(depths: Mapping[str, int]) -> Finding:
    deepest = max(depths, key=lambda name: depths[name])
    most = f"; most in {deepest}: {depths[deepest]:,}" if depths[deepest] else ""
    return ok("backlog", f"{sum(depths.values()):,} messages wait{most}")
