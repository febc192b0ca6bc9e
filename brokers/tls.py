"""TLS: how both servers are connected to, and what a failed handshake means for whoever runs Holdfast."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from holdfast.runtime.config import Settings
from holdfast.runtime.errors import SettingsError

#: How long it is looked whether a port speaks TLS.
PROBE_S = 2.0

#: OpenSSL's numbers for a certificate that is another host's.
_WRONG_NAME = (ssl.SSLCertVerificationError, (62, 64))
_NOT_TLS = re.compile(r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|record layer failure", re.IGNORECASE)
_WANTS_OURS = re.compile(
    r"ALERT_CERTIFICATE_REQUIRED|ALERT_HANDSHAKE_FAILURE|ALERT_BAD_CERTIFICATE|alert certificate required",
    re.IGNORECASE,
)
_REFUSES_OURS = re.compile(r"ALERT_(UNKNOWN_CA|CERTIFICATE_(UNKNOWN|EXPIRED|REVOKED))", re.IGNORECASE)
_UNTRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED", re.IGNORECASE)
_WRONG_NAME_TEXT = re.compile(r"Hostname mismatch|IP address mismatch|doesn't match", re.IGNORECASE)
_EXPIRED_TEXT = re.compile(r"has expired|not yet valid", re.IGNORECASE)
#: How a connection ends that the other side would not have.
_CLOSED = re.compile(
    r"closed by server|connection reset|EOF|StreamLost|Broken pipe|IncompatibleProtocol", re.IGNORECASE
)


def context(settings: Settings) -> ssl.SSLContext:
    """Return what TLS connections are made with.

    Raises:
        SettingsError: A file is missing or is not what it should be.
    """
    authority = _file("TLS_CA_FILE", settings.tls_ca_file) or None
    try:
        made = ssl.create_default_context(cafile=authority)
    except (ssl.SSLError, OSError) as error:
        message = f"HOLDFAST_TLS_CA_FILE ({authority}) has no certificate of an authority in PEM: {error}"
        raise SettingsError(message) from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = settings.tls_check_hostname
    if settings.tls_cert_file:
        certificate = _file("TLS_CERT_FILE", settings.tls_cert_file)
        key = _file("TLS_KEY_FILE", settings.tls_key_file) or None
        try:
            # Without a password of its own: OpenSSL would ask for one on the terminal.
            made.load_cert_chain(certificate, key, password=lambda: "")
        except (ssl.SSLError, OSError) as error:
            message = (
                f"HOLDFAST_TLS_CERT_FILE and HOLDFAST_TLS_KEY_FILE ({certificate}, {key or 'the same'}) are not a "
                f"certificate and its key in PEM, without a password: {error}"
            )
            raise SettingsError(message) from None
    return made


def check_files(settings: Settings) -> None:
    """Raise SettingsError where a file of the TLS settings cannot be used."""
    context(settings)


def _file(name: str, path: str) -> str:
    if not path:
        return ""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        message = f"HOLDFAST_{name} is {path}, which cannot be read: {error.strerror or error}"
        raise SettingsError(message) from None
    if b"-----BEGIN" not in text:
        message = f"HOLDFAST_{name} is {path}, which is no PEM file"
        raise SettingsError(message)
    return path


def trouble(settings: Settings, failure: BaseException, *, server: str, plain: str) -> str | None:
    """Return what a failure means where TLS, or the lack of it, is the cause; None where it is not.

    Args:
        settings: Those that were connected with.
        failure: What the library raised.
        server: The server in words: `Redis at rediss://cache:6380/0`.
        plain: The scheme of a URL without TLS.
    """
    found = list(causes(failure))
    text = " ".join(f"{cause} {cause!r}" for cause in found)
    if any(isinstance(cause, _WRONG_NAME[0]) and cause.verify_code in _WRONG_NAME[1] for cause in found) or (
        _UNTRUSTED.search(text) and _WRONG_NAME_TEXT.search(text)
    ):
        return (
            f"{server} shows a certificate for another host: connect by a name that is in it, "
            "or have one made for this name"
        )
    if _UNTRUSTED.search(text):
        if _EXPIRED_TEXT.search(text):
            return f"{server} shows a certificate that is out of date: have it renewed, and look at this machine's clock"
        where = settings.tls_ca_file or "this system"
        return (
            f"{server} shows a certificate that nobody signed whom {where} trusts: set HOLDFAST_TLS_CA_FILE to the "
            "certificate of the authority that signed it"
        )
    if _REFUSES_OURS.search(text):
        return f"{server} does not accept the certificate in HOLDFAST_TLS_CERT_FILE: have it signed by an authority that the server trusts"
    if _WANTS_OURS.search(text):
        return f"{server} wants a certificate of ours: set HOLDFAST_TLS_CERT_FILE and HOLDFAST_TLS_KEY_FILE"
    if _NOT_TLS.search(text):
        return (
            f"{server} does not speak TLS on this port: name its TLS port, or begin the URL with {plain}://"
        )
    return None


def closed(failure: BaseException) -> bool:
    """Return whether the other side ended the connection."""
    return any(
        isinstance(cause, ConnectionResetError | BrokenPipeError) or _CLOSED.search(f"{cause} {cause!r}")
        for cause in causes(failure)
    )


def speaks(host: str, port: int) -> bool:
    """Return whether a port answers to TLS, whatever certificate it shows."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    return _greet(trusting, host, port)[0]


def look(settings: Settings, host: str, port: int) -> BaseException | None:
    """Return what a server says of our handshake when it is left to speak first, None if it has nothing against it.

    Since TLS 1.3 a server that refuses our certificate says so after the handshake. A client that writes meanwhile is
    told only that the connection is gone.
    """
    return _greet(context(settings), host, port)[1]


def answers_plainly(host: str, port: int, greeting: bytes, answers: tuple[bytes, ...]) -> bool:
    """Return whether a port answers to a greeting without TLS."""
    try:
        with socket.create_connection((host, port), timeout=PROBE_S) as plain:
            plain.sendall(greeting)
            return plain.recv(16).startswith(answers)
    except OSError:
        return False


def _greet(with_: ssl.SSLContext, host: str, port: int) -> tuple[bool, BaseException | None]:
    """Shake hands, and return whether that came about and what failed then or before."""
    shaken = False
    try:
        with (
            socket.create_connection((host, port), timeout=PROBE_S) as plain,
            with_.wrap_socket(plain, server_hostname=host) as secure,
        ):
            shaken = True
            # Where nobody objects, it waits for us to speak.
            with contextlib.suppress(TimeoutError):
                secure.recv(1)
    except (OSError, ValueError) as failure:
        return shaken, failure
    return shaken, None


def causes(failure: BaseException) -> Iterator[BaseException]:
    """Yield a failure and whatever it came from, as far as libraries tell: each does so in another way."""
    todo, seen = [failure], set[int]()
    while todo:
        cause = todo.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = [cause.__cause__, cause.__context__, getattr(cause, "exception", None), *cause.args]
        inner += getattr(cause, "exceptions", None) or ()
        todo += [one for one in inner if isinstance(one, BaseException)]
