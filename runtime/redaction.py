"""Redaction: the one place that takes secrets out of text. Whatever names a server to a person goes through it."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus, urlsplit

_SCHEME_FORM = re.compile(r"[A-Za-z0-9+.-]*:?//")
#: Arguments of a URL whose value is a secret, or has one in it.
_SECRET_ARGUMENT_FORM = re.compile(r"(?i)((?:password|passwd|secret|ssl_options)=)[^&#]*")
#: What stands where a port should, and is none: a password behind which somebody forgot the host.
_NO_PORT_FORM = re.compile(r"(?s)([^/?#\[\]]*?:)(?!\d{0,5}(?:[/?#,]|$)).*")
#: A URL with a user, no host or a secret argument in it, wherever it stands in a text.
_URL_FORM = re.compile(
    r"(?i)[a-z][a-z0-9+.-]*://(?=:|[^\s'\"<>]*(?:@|(?:password|passwd|secret|ssl_options)=))[^\s'\"<>]*"
)

#: What stands in place of a secret.
HIDDEN = "***"


def hide_password(url: str) -> str:
    """Return a URL, or what should have been one, without the password in it."""
    url = _SECRET_ARGUMENT_FORM.sub(rf"\1{HIDDEN}", url)
    before, at, host = url.rpartition("@")
    scheme = _SCHEME_FORM.match(url)
    start = scheme.end() if scheme else 0
    if not at:
        no_port = _NO_PORT_FORM.match(url, start)
        return f"{url[:start]}{no_port[1]}{HIDDEN}" if no_port else url
    user, colon, _ = before[start:].partition(":")
    return f"{before[:start]}{user}{colon and ':' + HIDDEN}@{host}"


def redact(text: str, *urls: str) -> str:
    """Return a text, such as what a library says of a failure, without the secrets of these URLs or in any other.

    A library may quote a URL as a whole, or the password alone, as it was written or decoded.
    """
    text = _URL_FORM.sub(lambda found: hide_password(found[0]), text)
    for secret in sorted({form for url in urls for form in _forms(url)}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _forms(url: str) -> set[str]:
    """Return every form in which the secrets of a URL may turn up."""
    found: set[str] = set()
    try:
        parts = urlsplit(url)
        secrets = [parts.password or ""]
    except ValueError:
        return found
    secrets += [value for name, value in parse_qsl(parts.query) if _SECRET_ARGUMENT_FORM.match(f"{name}=")]
    for secret in secrets:
        for plain in (secret, unquote(secret), unquote_plus(secret)):
            found |= {plain, quote(plain), quote(plain, safe=""), quote_plus(plain), repr(plain)[1:-1]}
    # What is as short as this stands in many a text by chance; "guest" is everybody's.
    return {form for form in found if len(form) > 3 and form != "guest"}
