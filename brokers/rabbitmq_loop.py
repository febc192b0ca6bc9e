"""A connection to RabbitMQ that lives on a thread of its own and comes back when it breaks.

pika's blocking connection waits for each confirm and is pumped by whoever calls it; this one is pumped all the time,
so heartbeats are answered whatever the rest of the process does. Everything that touches a channel runs on the thread.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import pika
import pika.exceptions
from pika.adapters.utils.connection_workflow import (
    AMQPConnectorException,
    AMQPConnectorStackTimeout,
)

from holdfast.brokers import tls
from holdfast.brokers.rabbitmq_connection import Connection
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import SettingsError, SetupError, Unavailable
from holdfast.runtime.redaction import hide_password, redact

log = logging.getLogger(__name__)

#: Two missed ones cut the link: this bounds how long the queue of a process that is gone stays taken.
HEARTBEAT_S = 5
#: What pika says when the broker refused us. Where it only says that the connection ended while we were let in, that
#: may be a broker, or what stands before it, that is just going away.
_REFUSED = re.compile(r"ConnectionClosedByBroker: \((403|530)\)")
#: AMQP's numbers for why a channel is closed: a right is missing, or a queue or exchange.
ACCESS_REFUSED, NOT_FOUND = 403, 404
#: Where it is written which rights there must be.
RIGHTS = "deploy/rabbitmq-users.sh"
#: Waits between attempts to connect: at once, then longer.
RECONNECT_S = (0.05, 0.2, 0.5, 1.0, 2.0)
CONNECT_TIMEOUT_S = 10.0
#: How much longer than that is waited for the first connection: pika, when its time is up, knows how far it came.
CONNECT_GRACE_S = 2.0

#: What pika raises where there is no connection, or none any more. A server that does not answer is no `AMQPError`.
CONNECTION_ERRORS = (pika.exceptions.AMQPError, AMQPConnectorException, OSError)
#: What pika's timeout for the whole of a connection ends with: a blocking one, and one of a loop.
_TOO_LATE = (AMQPConnectorStackTimeout, pika.exceptions.ConnectionOpenAborted)
#: What it says where nobody has accepted the connection.
_NOT_ACCEPTED = "connecting socket"
#: What pika makes of an answer that is not AMQP, or that ends before it begins.
_OTHER_TONGUE = (
    pika.exceptions.IncompatibleProtocolError,
    pika.exceptions.ProtocolSyntaxError,
    pika.exceptions.UnexpectedFrameError,
)


class Handler(Protocol):
    """What is done over the connection."""

    def opened(self, channel: Any) -> None:
        """Use a fresh channel; called on the connection's thread."""
        ...

    def lost(self) -> None:
        """Forget the channel: the connection broke. Called on the connection's thread."""
        ...


def parameters(settings: Settings, purpose: str) -> pika.URLParameters:
    """Return pika's form of the settings' URL.

    Raises:
        SettingsError: It has an argument that there is not, or that is wrong.
    """
    try:
        found = pika.URLParameters(settings.amqp_url)
    except (ValueError, TypeError, SyntaxError, OSError) as error:
        text = redact(str(error), settings.amqp_url)
        message = f"HOLDFAST_AMQP_URL is {hide_password(settings.amqp_url)}, which cannot be used: {text}"
        raise SettingsError(message) from None
    # What is said in the URL itself comes before the settings.
    if found.ssl_options is not None and "ssl_options=" not in settings.amqp_url:
        found.ssl_options = pika.SSLOptions(tls.context(settings), found.host)
    if "heartbeat=" not in settings.amqp_url:
        found.heartbeat = HEARTBEAT_S
    found.socket_timeout = CONNECT_TIMEOUT_S
    found.stack_timeout = CONNECT_TIMEOUT_S
    found.blocked_connection_timeout = None
    found.client_properties = {"connection_name": f"holdfast {settings.namespace} {purpose}"}
    return found


def explain(settings: Settings, error: BaseException) -> Unavailable | SetupError:
    """Return what a failed connection means for whoever runs Holdfast."""
    where = hide_password(settings.amqp_url)
    causes: list[BaseException] = [error]
    causes += [cause for cause in (error.__cause__, *error.args) if isinstance(cause, BaseException)]
    for attempt in list(causes):
        inner = getattr(attempt, "exception", None)
        if isinstance(inner, BaseException):
            causes.append(inner)
    for cause in causes:
        refused = _REFUSED.search(str(cause))
        if isinstance(cause, pika.exceptions.AuthenticationError) or (
            refused and isinstance(cause, pika.exceptions.ProbableAuthenticationError)
        ):
            return SetupError(f"RabbitMQ at {where} refuses the user or password in HOLDFAST_AMQP_URL")
        if refused and isinstance(cause, pika.exceptions.ProbableAccessDeniedError):
            return SetupError(
                f"RabbitMQ at {where} does not let this user into the virtual host of HOLDFAST_AMQP_URL"
            )
    server = f"RabbitMQ at {where}"
    found = tls.trouble(settings, error, server=server, plain="amqp")
    if found is None and tls.closed(error):
        found = _wrong_port(settings, server)
    if found is not None:
        return SetupError(found)
    text = _no_rabbit(list(tls.causes(error)))
    if text is None:
        text = next((str(cause) for cause in reversed(causes) if str(cause)), type(error).__name__)
    return Unavailable(f"RabbitMQ at {where} cannot be reached: {redact(text, settings.amqp_url)}")


def _no_rabbit(causes: list[BaseException]) -> str | None:
    """Return what is wrong where somebody accepted the connection and did not speak AMQP; None where that is not so."""
    accepted = "something accepted the connection, but"
    for cause in causes:
        if isinstance(cause, _TOO_LATE) and "Timeout" in str(cause) and _NOT_ACCEPTED not in str(cause):
            return f"{accepted} did not answer within {CONNECT_TIMEOUT_S:g} s; is this a RabbitMQ?"
        if isinstance(cause, _OTHER_TONGUE):
            return f"{accepted} does not speak AMQP; is this a RabbitMQ?"
    return None


def _wrong_port(settings: Settings, server: str) -> str | None:
    """Return what is wrong where a server, or something else, ended the connection at once."""
    parts = urlsplit(settings.amqp_url)
    host, port = parts.hostname or "localhost", parts.port or (5671 if parts.scheme == "amqps" else 5672)
    if parts.scheme == "amqp":
        speaks = tls.speaks(host, port)
        return f"{server} speaks TLS on this port: begin HOLDFAST_AMQP_URL with amqps://" if speaks else None
    said = tls.look(settings, host, port)
    return None if said is None else tls.trouble(settings, said, server=server, plain="amqp")


class RabbitLoop:
    """Keeps one connection with one channel, and tells its handler when they come and go.

    Args:
        settings: Where the broker is.
        handler: Who is told.
        purpose: What the connection is for, for people.
        prepare: Called before each connection but the first, on the connection's thread: the broker that comes back may
            have lost what it was told shortly before it went away. It may raise `Unavailable`.
    """

    def __init__(
        self,
        settings: Settings,
        handler: Handler,
        purpose: str,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        self._settings = settings
        self._handler = handler
        self._purpose = purpose
        self._prepare = prepare
        self._connection: Any = None
        self._channel: Any = None
        self._closing = False
        self._failures = 0
        #: When the channel was opened; never, while there is none.
        self._opened_at = math.inf
        self._first = threading.Event()
        self._error: BaseException | None = None
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"holdfast-rabbitmq-{purpose}", daemon=True)

    def wait_open(self) -> None:
        """Begin, and wait for the first connection.

        Not before: the handler, which has the loop only when it is made, may be called at once.

        Raises:
            SetupError: The server refuses us.
            Unavailable: It cannot be reached.
        """
        self._thread.start()
        self._first.wait(CONNECT_TIMEOUT_S + CONNECT_GRACE_S)
        if self._channel is None:
            error = self._error or TimeoutError(f"no connection within {CONNECT_TIMEOUT_S:g} s")
            self.close()
            if isinstance(error, SetupError):
                raise error
            raise explain(self._settings, error) from error

    def call(self, action: Callable[[], None]) -> bool:
        """Run something on the connection's thread; return False if there is no connection."""
        connection = self._connection
        if connection is None or not connection.is_open:
            return False
        try:
            connection.ioloop.add_callback_threadsafe(action)
        except (pika.exceptions.AMQPError, RuntimeError, AttributeError, OSError):
            return False  # it closed between the question and the call; `lost` tells the handler
        return True

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Run something on the connection's thread after a while; to be called on that thread."""
        if self._connection is not None and self._connection.is_open:
            self._connection.ioloop.call_later(delay_s, action)

    def close(self) -> None:
        """Close the connection and end the thread."""
        self._closing = True
        self._wake.set()
        self.call(self._close_connection)
        if self._thread is not threading.current_thread():
            self._thread.join(CONNECT_TIMEOUT_S)

    def _close_connection(self) -> None:
        if self._connection is not None and self._connection.is_open:
            self._connection.close()

    def _run(self) -> None:
        while not self._closing:
            if self._failures and not self._prepared():
                continue
            self._connection = None
            try:
                # Certificates are read anew each time, and may be missing just while they are renewed.
                self._connection = Connection(
                    parameters(self._settings, self._purpose),
                    on_open_callback=self._on_open,
                    on_open_error_callback=self._on_open_error,
                    on_close_callback=self._on_close,
                )
                self._connection.ioloop.start()
            except Exception as error:  # noqa: BLE001 - pika lets socket errors of every kind through
                log.warning(
                    "rabbitmq connection failed",
                    extra={"purpose": self._purpose, "error": redact(repr(error), self._settings.amqp_url)},
                )
                self._gone(error)
            if self._connection is not None:
                self._connection.ioloop.close()
            self._pause()

    def _pause(self) -> None:
        if not self._closing:
            self._wake.wait(RECONNECT_S[min(self._failures, len(RECONNECT_S)) - 1])

    def _prepared(self) -> bool:
        """Return whether it is worth while to connect; wait if it is not."""
        try:
            self._prepare()
        except SetupError as error:
            # What is there may do all the same; what does not is said where it is used.
            log.warning("rabbitmq queues cannot be declared", extra={"error": str(error)})
        except Exception as error:  # noqa: BLE001 - as above: nothing may end the thread
            if not isinstance(error, Unavailable):
                log.warning(
                    "rabbitmq connection failed",
                    extra={"purpose": self._purpose, "error": redact(repr(error), self._settings.amqp_url)},
                )
            self._gone(error)
            self._pause()
            return False
        return True

    def _on_open(self, connection: Any) -> None:
        if self._closing:
            connection.close()
            return
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        self._channel = channel
        self._opened_at = time.monotonic()
        channel.add_on_close_callback(self._on_channel_closed)
        self._handler.opened(channel)
        self._first.set()

    def _on_channel_closed(self, _channel: Any, reason: BaseException) -> None:
        if not self._closing:
            log.warning("rabbitmq channel closed", extra={"purpose": self._purpose, "error": str(reason)})
        self._error = reason
        self._close_connection()

    def _on_open_error(self, connection: Any, error: BaseException) -> None:
        self._gone(error)
        connection.ioloop.stop()

    def _on_close(self, connection: Any, reason: BaseException) -> None:
        if not self._closing:
            log.warning("rabbitmq connection closed", extra={"purpose": self._purpose, "error": str(reason)})
        self._gone(reason)
        connection.ioloop.stop()

    def _gone(self, error: BaseException) -> None:
        # A connection that breaks again and again as soon as it is there is a failure all the same.
        if time.monotonic() - self._opened_at > RECONNECT_S[-1]:
            self._failures = 0
        self._opened_at = math.inf
        self._failures += 1
        self._error = error
        self._channel = None
        self._handler.lost()
        self._first.set()
