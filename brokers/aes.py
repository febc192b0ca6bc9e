"""AES-GCM by the library `cryptography`, and the key ring of those who keep their master keys in a setting or a file."""

from __future__ import annotations

import base64
import binascii
import hmac
import importlib
import re
import secrets
from pathlib import Path
from typing import Any

from holdfast.runtime.cipher import KEY_BYTES, KeyRing, Wrapped
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import SettingsError, SetupError

_ID_FORM = re.compile(r"[A-Za-z0-9._-]{1,40}")
_SALT_BYTES = 16
_GCM_NONCE_BYTES = 12


def _aesgcm() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        message = "encryption needs the library cryptography: pip install 'holdfast[encryption]'"
        raise SetupError(message) from error
    return AESGCM


class AesGcm:
    """AES-256-GCM, each payload under a key of its own that is made from the data key and the payload's salt."""

    def __init__(self) -> None:
        self._aesgcm = _aesgcm()

    def seal(self, key: bytes, nonce: bytes, data: bytes, context: bytes) -> bytes:
        """Return the ciphertext."""
        salt, number = nonce[:_SALT_BYTES], nonce[_SALT_BYTES:]
        found: bytes = self._aesgcm(hmac.digest(key, salt, "sha256")).encrypt(number, data, context)
        return found

    def open(self, key: bytes, nonce: bytes, data: bytes, context: bytes) -> bytes:
        """Return the payload."""
        salt, number = nonce[:_SALT_BYTES], nonce[_SALT_BYTES:]
        try:
            found: bytes = self._aesgcm(hmac.digest(key, salt, "sha256")).decrypt(number, data, context)
        except Exception as error:
            # InvalidTag has nothing to say, and a damaged nonce or key is as bad.
            message = "not what was sealed"
            raise ValueError(message) from error
        return found


class LocalKeyRing:
    """Master keys that this process knows: the first one wraps, all unwrap."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._aesgcm = _aesgcm()
        self._keys = keys
        self._current = next(iter(keys))

    @property
    def current(self) -> str:
        """The id of the first key."""
        return self._current

    def wrap(self, key: bytes, context: bytes) -> Wrapped:
        """Wrap a data key."""
        nonce = secrets.token_bytes(_GCM_NONCE_BYTES)
        return Wrapped(
            self._current, nonce + self._aesgcm(self._keys[self._current]).encrypt(nonce, key, context)
        )

    def unwrap(self, wrapped: Wrapped, context: bytes) -> bytes:
        """Return a data key."""
        master = self._keys[wrapped.master]
        nonce, data = wrapped.data[:_GCM_NONCE_BYTES], wrapped.data[_GCM_NONCE_BYTES:]
        try:
            found: bytes = self._aesgcm(master).decrypt(nonce, data, context)
        except Exception as error:
            message = "not what was wrapped"
            raise ValueError(message) from error
        return found

    def __repr__(self) -> str:
        """Return the ids, and nothing of the keys."""
        return f"LocalKeyRing({', '.join(self._keys)})"


def key_ring(settings: Settings) -> KeyRing:
    """Return the key ring of the settings.

    Raises:
        SettingsError: A key is malformed, or there is no such file or ring; the message shows no key.
        SetupError: The library is not installed.
    """
    if settings.keyring:
        return _named(settings.keyring)
    if settings.encryption_keys_file:
        name, path = "HOLDFAST_ENCRYPTION_KEYS_FILE", Path(settings.encryption_keys_file)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            message = f"{name} is {path}, which cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}"
            raise SettingsError(message) from None
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    else:
        name, lines = "HOLDFAST_ENCRYPTION_KEYS", settings.encryption_keys.split(",")
    return LocalKeyRing(_read(name, lines))


def _read(name: str, lines: list[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        id_, colon, text = line.strip().partition(":")
        try:
            key = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not colon or not _ID_FORM.fullmatch(id_) or len(key) != KEY_BYTES or id_ in found:
            message = (
                f"{name}: key {number} must be an id of its own, a colon and {KEY_BYTES} bytes in base64, such as "
                "k1:<what `openssl rand -base64 32` prints>"
            )
            raise SettingsError(message)
        found[id_] = key
    if not found:
        message = f"{name} has no key"
        raise SettingsError(message)
    return found


def _named(path: str) -> KeyRing:
    module, _, name = path.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), name)
        ring = found() if isinstance(found, type) else found
    except (ImportError, AttributeError, ValueError) as error:
        message = f"HOLDFAST_KEYRING is {path!r}; it must be module:name of a KeyRing: {error}"
        raise SettingsError(message) from error
    if not all(hasattr(ring, verb) for verb in ("current", "wrap", "unwrap")):
        message = (
            f"HOLDFAST_KEYRING is {path!r}, which is no KeyRing: it needs `current`, `wrap` and `unwrap`"
        )
        raise SettingsError(message)
    checked: KeyRing = ring
    return checked
