"""Installation: the servers that a command works on, and the ports to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from holdfast.actors import wiring
from holdfast.actors.dead_letters import DeadLetterDesk, Means
from holdfast.actors.reader import Reader
from holdfast.actors.wiring import Ports
from holdfast.brokers.embedded import EmbeddedRedis, EmbeddedUnavailable
from holdfast.cli.ending import Failed
from holdfast.runtime.app import App
from holdfast.runtime.config import MEMORY_URL, Settings
from holdfast.runtime.ports import DeadLetters

ALONE = "everything would be kept in the memory of one process, where no other can send to it or read it"


@contextmanager
def join(*, create: bool = False) -> Iterator[Settings]:
    """Join the servers of the settings; without any, the private one of this folder, which is started if need be.

    Args:
        create: Whether there may be nothing in the folder yet.

    Raises:
        Failed: There is nothing that could be joined.
        SettingsError: A setting is wrong.
    """
    settings = Settings.from_environment()
    if settings.redis_url == MEMORY_URL:
        raise Failed(f"HOLDFAST_REDIS_URL is {MEMORY_URL}: {ALONE}")
    if not settings.embedded:
        yield settings
        return
    if not create and not settings.data_dir.is_dir():
        raise Failed(nothing_yet(settings))
    try:
        with EmbeddedRedis(settings.data_dir, fsync=settings.durability.level == "fsync") as server:
            yield msgspec.structs.replace(settings, redis_url=server.url)
    except EmbeddedUnavailable as error:
        raise Failed(f"{error} Without a server {ALONE}.") from error


def nothing_yet(settings: Settings) -> str:
    """Return the sentence for a folder where nothing was ever kept."""
    return (
        f"nothing is kept in {settings.data_dir} yet: run `holdfast dev APP` in this folder, "
        "or name your servers in HOLDFAST_REDIS_URL and HOLDFAST_AMQP_URL"
    )


@contextmanager
def opened(settings: Settings) -> Iterator[Ports]:
    """Open the ports."""
    ports = wiring.open_ports(settings)
    try:
        yield ports
    finally:
        ports.close()


@contextmanager
def reading(app: App) -> Iterator[tuple[Ports, Reader]]:
    """Join, and open what instances are read with. No worker is started and no lease is touched."""
    with join() as settings, opened(settings) as ports:
        yield ports, Reader(app, settings.partitions, lambda: ports.journal)


@contextmanager
def dead_letters() -> Iterator[DeadLetters]:
    """Join, and open the dead letters."""
    with join() as settings, opened(settings) as ports:
        yield ports.dead_letters


@contextmanager
def desk(app: App | None = None) -> Iterator[DeadLetterDesk]:
    """Join, and open what it takes to send dead letters again, with confirms; with the app, what to edit them."""
    with join() as settings, opened(settings) as ports:
        publisher = wiring.open_transport(settings).publisher()
        try:
            means = Means(publisher, settings.partitions, app, ports.parking, settings.payload_bytes_max)
            yield DeadLetterDesk(ports.dead_letters, means)
        finally:
            publisher.close()
