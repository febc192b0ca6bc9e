"""Cursors: where a listing stopped, as opaque text."""

import base64
import binascii

from holdfast.runtime.errors import UsageError


def encode_cursor(score: int, member: str) -> str:
    """Return a cursor that points behind a line."""
    return base64.urlsafe_b64encode(f"{score}:{member}".encode()).decode()


def decode_cursor(cursor: str) -> tuple[int, str]:
    """Return the line that a cursor points behind.

    Raises:
        UsageError: It is no cursor.
    """
    try:
        score, member = base64.urlsafe_b64decode(cursor.encode()).decode().split(":", 1)
        return int(score), member
    except (ValueError, binascii.Error):
        message = f"{cursor[:60]!r} is no cursor; use the one that the page before gave"
        raise UsageError(message) from None
