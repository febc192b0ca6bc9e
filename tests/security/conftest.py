"""
Two servers that speak TLS and want to know who their clients are.
"""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from holdfast import Settings
from holdfast.actors import wiring
from holdfast.runtime.errors import HoldfastError
from tests.conftest import need
from tests.support.certificates import Authority, Paper
from tests.support.servers import RabbitServer, RedisServer, Tls, find_rabbit, find_redis

#: Percent-encoded in a URL it looks like nothing of itself.
PASSWORD = "open/sesame@42%"
QUOTED = "open%2Fsesame%4042%25"


class Vault(NamedTuple):
    """
    Both servers, whom to trust, and our own certificate.
    """

    redis: RedisServer
    rabbit: RabbitServer
    authority: Authority
    stranger: Authority
    ours: Paper

    def settings(self, namespace: str, **others: Any) -> Settings:
        """
        Return settings that are right, but for what is named.
        """
        return Settings.of(**(self.values(namespace) | others))

    def values(self, namespace: str) -> dict[str, Any]:
        """
        Return those settings as text.
        """
        return {
            "namespace": namespace,
            "redis_url": f"rediss://clerk:{QUOTED}@localhost:{self.redis.tls_port}/0",
            "amqp_url": f"amqps://clerk:{QUOTED}@localhost:{self.rabbit.tls_port}/%2F",
            "tls_ca_file": str(self.authority.file),
            "tls_cert_file": str(self.ours.certificate),
            "tls_key_file": str(self.ours.key),
            "partitions": "4",
            "heartbeat_ms": "100",
            # Nobody dies here: longer than a busy machine lets a process stand still.
            "member_ttl_ms": "10000",
        }


@pytest.fixture
def secret_namespace(vault: Vault) -> Iterator[str]:
    """
    A namespace on these servers.
    """
    found = f"t{uuid.uuid4().hex[:8]}"
    yield found
    with contextlib.suppress(HoldfastError):
        wiring.remove_namespace(vault.settings(found))


@pytest.fixture(scope="session")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """
    Servers over TLS, with a user who has a password.
    """
    need("redis-server", find_redis())
    need("rabbitmq-server", find_rabbit())
    folder: Path = tmp_path_factory.mktemp("vault")
    authority = Authority(folder / "authority")
    stranger = Authority(folder / "stranger", "somebody else's authority")
    # For the name alone: who connects to 127.0.0.1 is at the wrong address.
    host = authority.sign("localhost")
    tls = Tls(host.certificate, host.key, authority.file)
    with (
        RedisServer(folder / "redis").secure(tls) as redis,
        RabbitServer(folder / "rabbit", tls=tls) as rabbit,
    ):
        with redis.client() as client:
            client.execute_command("ACL", "SETUSER", "clerk", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        rabbit.ctl("add_user", "clerk", PASSWORD)
        rabbit.ctl("set_permissions", "clerk", ".*", ".*", ".*")
        yield Vault(redis, rabbit, authority, stranger, authority.sign("clerk", use="client"))
