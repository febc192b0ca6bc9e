"""A link to Redis: one connection for one thread, made when it is first used and again when it breaks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from holdfast.runtime.config import Settings, hide_password
from holdfast.runtime.errors import SettingsError, SetupError, Unavailable

#: Long enough for a server that rewrites its AOF, short enough that a dead one is noticed.
SOCKET_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0


class RedisLink:
    """One connection to the server of the settings. Not to be used by two threads at once.

    It never repeats a call by itself: whether a broken call was carried out is for the caller to find out.
    """

    def __init__(self, settings: Settings, *, timeout_s: float | None = SOCKET_TIMEOUT_S) -> None:
        self.where = hide_password(settings.redis_url)
        try:
            self._pool = redis.ConnectionPool.from_url(
                settings.redis_url,
                max_connections=2,
                protocol=2,
                socket_timeout=timeout_s,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                health_check_interval=0,
                retry=Retry(NoBackoff(), 0),
                client_name=f"holdfast-{settings.namespace}",
            )
            # Nothing is connected by this, but an argument in the URL that there is not is found.
            self._pool.connection_class(**self._pool.connection_kwargs)
        except (ValueError, TypeError, redis.exceptions.RedisError) as error:
            message = f"HOLDFAST_REDIS_URL is {self.where}, which cannot be used: {error}"
            raise SettingsError(message) from error
        self.client: redis.Redis = redis.Redis(connection_pool=self._pool)

    def close(self) -> None:
        """Close the connection."""
        self.client.close()
        self._pool.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def unavailable(link: RedisLink) -> Iterator[None]:
    """Turn what redis-py raises into what Holdfast raises.

    Raises:
        SetupError: The server refuses our credentials or our rights; trying again would not help.
        Unavailable: Anything else that went wrong between us and the server.
    """
    try:
        yield
    except (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError) as error:
        message = f"Redis at {link.where} refuses the user or password in HOLDFAST_REDIS_URL: {error}"
        raise SetupError(message) from error
    except redis.exceptions.NoPermissionError as error:
        message = f"Redis at {link.where} does not allow this user what Holdfast needs: {error}"
        raise SetupError(message) from error
    except redis.exceptions.ResponseError as error:
        if str(error).startswith(("NOAUTH", "WRONGPASS")) or "without any password" in str(error):
            message = f"Redis at {link.where} refuses the user or password in HOLDFAST_REDIS_URL: {error}"
            raise SetupError(message) from error
        message = f"Redis at {link.where} refused: {error}"
        raise Unavailable(message) from error
    except (redis.exceptions.RedisError, OSError) as error:
        message = f"Redis at {link.where} does not answer: {error}"
        raise Unavailable(message) from error


def info(link: RedisLink, section: str) -> dict[str, Any]:
    """Return a section of the server's INFO."""
    with unavailable(link):
        found: dict[str, Any] = link.client.info(section)
        return found
