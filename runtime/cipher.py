"""Cipher: payloads that nobody can read who reads the servers' memory, files or queues.

    master key (a key ring, not on our servers)  --wraps-->  data key of an instance (in Redis, beside it)
                                                                  |
                                                              encrypts payloads

Each instance has a data key of its own, made at random when it is first needed. Deleting an instance's data replaces
that key, and what is left of its payloads anywhere (in queues, feeds, dead letters, in the history of Redis's file)
can never be read again. Turning to another master key does not touch a payload: only data keys are wrapped anew.

What is encrypted begins with C1, the one byte that no msgpack begins with. Then follows a msgpack array:

    C1 | [ data key's id, name of the message's class or "", nonce, ciphertext ]

The ciphertext is bound to where it belongs: namespace, instance, what it is, and which one. Moved elsewhere it cannot
be opened. What cannot be opened stays as it is, with a note of why, and is handed on unchanged: nothing is lost.
"""

from __future__ import annotations

import base64
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from holdfast.runtime.clock import monotonic
from holdfast.runtime.errors import HoldfastError, NotDurable, SetupError, Unopened
from holdfast.runtime.keys import Ref
from holdfast.runtime.message import TAG_FIELD

log = logging.getLogger(__name__)

#: No msgpack begins with this byte.
MARK = b"\xc1"
#: What text begins with that is encrypted; what follows is base64.
TEXT_MARK = "\x00C1:"

KEY_BYTES = 32
ID_BYTES = 8
#: A salt, from which each payload's own key is made, and the nonce itself. So the number of payloads that one data key
#: may encrypt has no limit that could be reached.
NONCE_BYTES = 28

#: How many data keys a process remembers, and for how long: one that was shredded is forgotten after that.
KEPT_MAX = 20_000
KEPT_S = 300.0

#: How often a data key is read or made anew because another server came before it was safe.
LASTING_ATTEMPTS = 3

#: What belongs to no instance: answers to callers, and what cannot be read at all.
NOWHERE = Ref(-1, "", "")


class Wrapped(NamedTuple):
    """A data key as the key ring wrapped it, and by which master key."""

    master: str
    data: bytes


class KeyRing(Protocol):
    """Keeps the master keys. Implement it for your key management service, and name it in HOLDFAST_KEYRING.

    It is asked once for each instance and process, not for each payload. `context` names what the data key is for; it
    must be authenticated with it.
    """

    @property
    def current(self) -> str:
        """The id of the master key that wraps from now on."""
        ...

    def wrap(self, key: bytes, context: bytes) -> Wrapped:
        """Wrap a data key with the current master key."""
        ...

    def unwrap(self, wrapped: Wrapped, context: bytes) -> bytes:
        """Return a data key.

        Raises:
            LookupError: The master key is not on this ring.
            ValueError: The bytes are not what was wrapped, or not for this.
        """
        ...


class Aead(Protocol):
    """Authenticated encryption of one payload."""

    def seal(self, key: bytes, nonce: bytes, data: bytes, context: bytes) -> bytes:
        """Return the ciphertext."""
        ...

    def open(self, key: bytes, nonce: bytes, data: bytes, context: bytes) -> bytes:
        """Return the payload.

        Raises:
            ValueError: Something of it is not what was sealed.
        """
        ...


class Secrets(Protocol):
    """Keeps wrapped data keys beside the instances; proved by tests/contract/test_secrets.py."""

    def secrets(self, refs: Sequence[Ref]) -> list[bytes | None]:
        """Return what is kept for instances."""
        ...

    def keep(self, new: Sequence[tuple[Ref, bytes]]) -> list[bytes]:
        """Keep something for instances that have nothing yet, and return what they have then."""
        ...

    def replace(self, ref: Ref, old: bytes, new: bytes) -> bool:
        """Replace what is kept for an instance, unless it is not `old` any more; return whether it was."""
        ...

    def all(self, partition: int) -> Iterable[tuple[Ref, bytes]]:
        """Yield what is kept in a partition."""
        ...


class Secret(msgspec.Struct, frozen=True, array_like=True):
    """An instance's data key, as it is kept: a msgpack array, to which fields are added at the end."""

    id: bytes
    #: The id of the master key, and what that made of the data key.
    master: str
    wrapped: bytes
    #: The ids of data keys that were shredded.
    gone: tuple[bytes, ...] = ()


class _Sealed(msgspec.Struct, frozen=True, array_like=True):
    """What follows the mark."""

    key_id: bytes
    tag: str
    nonce: bytes
    data: bytes
    #: Why it could not be opened; only within a process.
    why: str = ""


class Place(NamedTuple):
    """Where a payload belongs."""

    ref: Ref
    #: record, state, command, effect, dead-letter, observation, refusal, answer, note or parked.
    kind: str
    #: Which one of its kind: the sequence number, the command's id.
    which: str | int = ""


class DataShredded(HoldfastError):
    """The data key was shredded when the instance's data was deleted."""


#: Arrays of four fields, and of five.
_ARRAYS = (b"\x94", b"\x95")
_secret_decoder = msgspec.msgpack.Decoder(Secret)
_sealed_decoder = msgspec.msgpack.Decoder(_Sealed)
_encode = msgspec.msgpack.Encoder().encode


class _Tagged(msgspec.Struct):
    """Of a message as it is stored, only what it is."""

    tag: str = msgspec.field(name=TAG_FIELD, default="")


_tag_decoder = msgspec.msgpack.Decoder(_Tagged)


def is_sealed(data: bytes) -> bool:
    """Return whether bytes are encrypted."""
    return data[:1] == MARK and data[1:2] in _ARRAYS


def tag_in(payload: bytes) -> str:
    """Return the name of a stored message's class without knowing the class; empty where it cannot be read."""
    try:
        return (
            _sealed_decoder.decode(payload[1:]).tag
            if is_sealed(payload)
            else _tag_decoder.decode(payload).tag
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def check_open(payload: bytes, what: str) -> None:
    """Raise Unopened where bytes are still encrypted; to be asked where they turned out to be no message."""
    if is_sealed(payload):
        message = f"{what} is encrypted: {_why(payload)}"
        raise Unopened(message)


def was_shredded(payload: bytes) -> bool:
    """Return whether bytes could not be opened because the data of their instance was deleted."""
    return is_sealed(payload) and _why(payload) == _SHREDDED


def without_note(data: bytes) -> bytes:
    """Return what could not be opened as it was before that was tried."""
    try:
        found = _sealed_decoder.decode(data[1:])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return data
    return MARK + _encode(msgspec.structs.replace(found, why="")) if found.why else data


def _why(data: bytes) -> str:
    try:
        return _sealed_decoder.decode(data[1:]).why or _NO_KEYS
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _DAMAGED


_NO_KEYS = "this process has no keys; set HOLDFAST_ENCRYPTION_KEYS, as for those who wrote it"
_DAMAGED = "its bytes are damaged"
_SHREDDED = "its key was destroyed when the data of its instance was deleted"


class Cipher:
    """Encrypts and decrypts payloads, for any number of threads.

    Args:
        namespace: Whose payloads they are.
        ring: Keeps the master keys.
        store: Keeps the data keys.
        aead: Encrypts.
        epoch: Returns a number that has changed when another server answers the store, as `Losses.epoch`. That server
            may lack data keys that were read before: whoever has one puts it there before he writes with it again.
        lasting: Waits until a data key that was kept or read is as durable as what will be encrypted with it; returns
            False where another server came meanwhile. Whoever commits on the store's connection waits then, and needs none.
    """

    def __init__(
        self,
        namespace: str,
        ring: KeyRing,
        store: Secrets,
        aead: Aead,
        *,
        epoch: Callable[[], int] = lambda: 0,
        lasting: Callable[[], bool] = lambda: True,
    ) -> None:
        self._namespace = namespace
        self._ring = ring
        self._store = store
        self._aead = aead
        self._epoch = epoch
        self._lasting = lasting
        self._lock = threading.RLock()
        #: By instance: when it was read, what is kept, and its data key (None where that cannot be unwrapped).
        self._known: OrderedDict[str, tuple[float, Secret, bytes | None, str]] = OrderedDict()
        #: The epoch of now, and when it began: what was read before is read again.
        self._at, self._since = epoch(), 0.0

    # -- payloads

    def seal(self, place: Place, data: bytes, tag: str = "") -> bytes:
        """Return a payload encrypted; what is so already comes back as it was.

        Raises:
            SetupError: The data key cannot be unwrapped.
        """
        if is_sealed(data):
            return without_note(data)
        with self._lock:
            _, secret, key, why = self._current(place.ref)
        if key is None:
            message = f"nothing can be encrypted for {place.ref}: {why}"
            raise SetupError(message)
        nonce = secrets.token_bytes(NONCE_BYTES)
        text = self._aead.seal(key, nonce, data, self._context(place))
        return MARK + _encode(_Sealed(secret.id, tag, nonce, text))

    def open(self, place: Place, data: bytes) -> bytes:
        """Return a payload; what is not encrypted as it is, and what cannot be opened with a note of why."""
        if not is_sealed(data):
            return data
        try:
            found = _sealed_decoder.decode(data[1:])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return data
        try:
            return self._aead.open(
                self._key(place.ref, found.key_id), found.nonce, found.data, self._context(place)
            )
        except DataShredded:
            why = _SHREDDED
        except LookupError as error:
            why = str(error.args[0]) if error.args else "its key is not on the key ring"
        except ValueError:
            why = "it was changed, or is not what belongs here"
        return MARK + _encode(msgspec.structs.replace(found, why=why))

    def seal_text(self, place: Place, text: str) -> str:
        """Return a text encrypted, as text; an empty one stays empty."""
        if not text or text.startswith(TEXT_MARK):
            return text
        try:
            return TEXT_MARK + base64.b64encode(self.seal(place, text.encode())).decode()
        except SetupError:
            # Text is for people: that it is missing must hold up nothing.
            return "(left out, since it could not be encrypted)"

    def open_text(self, place: Place, text: str) -> str:
        """Return a text; what cannot be opened as a word about that."""
        if not text.startswith(TEXT_MARK):
            return text
        try:
            sealed = base64.b64decode(text.removeprefix(TEXT_MARK), validate=True)
        except ValueError:
            return f"(encrypted: {_DAMAGED})"
        found = self.open(place, sealed)
        return f"(encrypted: {_why(found)})" if is_sealed(found) else found.decode("utf-8", "replace")

    def seal_with(self, secret: bytes, place: Place, data: bytes) -> bytes:
        """Return a payload encrypted with a data key that is not kept yet; see `renewed`."""
        found = _secret_decoder.decode(secret)
        context = self._key_context(place.ref, found.id)
        key = self._ring.unwrap(Wrapped(found.master, found.wrapped), context)
        nonce = secrets.token_bytes(NONCE_BYTES)
        return MARK + _encode(
            _Sealed(found.id, "", nonce, self._aead.seal(key, nonce, data, self._context(place)))
        )

    # -- data keys

    def check(self) -> None:
        """Look whether the keys are those of the namespace, or make it theirs.

        Raises:
            SetupError: They are not.
        """
        with self._lock:
            _, _, key, why = self._current(NOWHERE)
        if key is None:
            message = f"payloads of namespace {self._namespace!r} cannot be read: {why}"
            raise SetupError(message)

    def prepare(self, refs: Iterable[Ref]) -> None:
        """Have the data keys of instances at hand, in one round trip."""
        with self._lock:
            missing = [ref for ref in dict.fromkeys(refs) if not self._fresh(ref)]
            if missing:
                for ref, data in zip(missing, self._kept(missing), strict=True):
                    if data is not None:
                        self._learn(ref, data)

    def forget(self, refs: Iterable[Ref]) -> None:
        """Forget the data keys of instances."""
        with self._lock:
            for ref in refs:
                self._known.pop(ref.scope, None)

    def renewed(self, ref: Ref) -> bytes:
        """Return what is to be kept for an instance whose data is deleted: a new data key, and that the old is gone."""
        with self._lock:
            (data,) = self._kept([ref])
        old = _secret_decoder.decode(data) if data else None
        gone = (*old.gone, old.id) if old else ()
        return self._made(ref, gone)

    def kept(self, partition: int) -> Iterable[tuple[Ref, bytes]]:
        """Yield the data keys that are kept in a partition, wrapped; the namespace's own in that of NOWHERE."""
        return self._store.all(partition)

    def rewrap(self, ref: Ref, data: bytes) -> bool:
        """Wrap an instance's data key with the current master key; return whether that was another one.

        Raises:
            LookupError, ValueError: It cannot be unwrapped.
        """
        secret = _secret_decoder.decode(data)
        if secret.master == self._ring.current:
            return False
        context = self._key_context(ref, secret.id)
        try:
            key = self._ring.unwrap(Wrapped(secret.master, secret.wrapped), context)
        except LookupError as error:
            message = f"the master key {secret.master!r} is not on the key ring"
            raise LookupError(message) from error
        wrapped = self._ring.wrap(key, context)
        new = msgspec.structs.replace(secret, master=wrapped.master, wrapped=wrapped.data)
        return self._store.replace(ref, data, _encode(new))

    def _key(self, ref: Ref, key_id: bytes) -> bytes:
        with self._lock:
            found = self._fresh(ref)
            if found is None or found[1].id != key_id:
                (data,) = self._kept([ref])
                if data is None:
                    message = f"the data key of {ref} is not in Redis: it was lost, or restored without it"
                    raise LookupError(message)
                found = self._learn(ref, data)
            _, secret, key, why = found
        if secret.id != key_id:
            if key_id in secret.gone:
                raise DataShredded
            message = "it is encrypted with a data key that this instance never had"
            raise LookupError(message)
        if key is None:
            raise LookupError(why)
        return key

    def _current(self, ref: Ref) -> tuple[float, Secret, bytes | None, str]:
        found = self._fresh(ref)
        if found is not None:
            return found
        for _ in range(LASTING_ATTEMPTS):
            (data,) = self._kept([ref])
            data = data or self._store.keep([(ref, self._made(ref, ()))])[0]
            if self._lasting():
                return self._learn(ref, data)
        message = f"the data key of {ref} did not last: one server after another came"
        raise NotDurable(message)

    def _fresh(self, ref: Ref) -> tuple[float, Secret, bytes | None, str] | None:
        epoch = self._epoch()
        if epoch != self._at:
            self._at, self._since = epoch, monotonic()
        found = self._known.get(ref.scope)
        fresh = found is not None and found[0] >= self._since and monotonic() - found[0] < KEPT_S
        return found if fresh else None

    def _kept(self, refs: Sequence[Ref]) -> list[bytes | None]:
        """Return what is kept for instances; what the server has lost of that, and this process knows, is put back.

        Where another process has made a new data key meanwhile, that stands.
        """
        found = self._store.secrets(refs)
        lost = [
            (ref, _encode(self._known[ref.scope][1]))
            for ref, data in zip(refs, found, strict=True)
            if data is None and ref.scope in self._known
        ]
        if not lost:
            return found
        log.warning("data keys are not in Redis any more, and put back", extra={"instances": len(lost)})
        back = dict(zip((ref for ref, _ in lost), self._store.keep(lost), strict=True))
        return [data or back.get(ref) for ref, data in zip(refs, found, strict=True)]

    def _learn(self, ref: Ref, data: bytes) -> tuple[float, Secret, bytes | None, str]:
        secret = _secret_decoder.decode(data)
        key, why = None, ""
        try:
            key = self._ring.unwrap(Wrapped(secret.master, secret.wrapped), self._key_context(ref, secret.id))
        except LookupError:
            why = f"the master key {secret.master!r} is not on the key ring of this process"
        except ValueError:
            why = f"the master key {secret.master!r} of this process is not the one that its data key was wrapped with"
        found = self._known[ref.scope] = (monotonic(), secret, key, why)
        self._known.move_to_end(ref.scope)
        while len(self._known) > KEPT_MAX:
            self._known.popitem(last=False)
        return found

    def _made(self, ref: Ref, gone: tuple[bytes, ...]) -> bytes:
        key_id = secrets.token_bytes(ID_BYTES)
        wrapped = self._ring.wrap(secrets.token_bytes(KEY_BYTES), self._key_context(ref, key_id))
        return _encode(Secret(key_id, wrapped.master, wrapped.data, gone))

    def _context(self, place: Place) -> bytes:
        ref = place.ref
        return _encode((self._namespace, place.kind, ref.workflow, ref.key, place.which))

    def _key_context(self, ref: Ref, key_id: bytes) -> bytes:
        return _encode((self._namespace, "data key", ref.workflow, ref.key, key_id))


def events_of(entry: bytes) -> tuple[list[Any], bytes] | None:
    """Return the fields of a record's bytes, each as msgpack, and those of its events; None where it is no record."""
    try:
        fields = _fields_decoder.decode(entry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return (fields, bytes(fields[EVENTS])) if len(fields) > EVENTS else None


def with_events(fields: list[Any], events: bytes) -> bytes:
    """Return a record's bytes with other events."""
    return _encode([*fields[:EVENTS], msgspec.Raw(events), *fields[EVENTS + 1 :]])


def check_record_open(entry: bytes, what: str) -> None:
    """Raise Unopened where the events of a record are still encrypted."""
    found = events_of(entry)
    if found is not None and found[1][:1] in _BINARY:
        check_open(msgspec.msgpack.decode(found[1]), what)


#: Which of a record's fields holds the events.
EVENTS = 4
#: What bytes begin with in msgpack.
_BINARY = (b"\xc4", b"\xc5", b"\xc6")
_fields_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])


def seal_record(cipher: Cipher, ref: Ref, seq: int, entry: bytes) -> bytes:
    """Return a record with its events encrypted; one without events has nothing to hide."""
    found = events_of(entry)
    if found is None or found[1] == b"\x90" or found[1][:1] in _BINARY:
        return entry
    fields, events = found
    return with_events(fields, _encode(cipher.seal(Place(ref, "record", seq), events)))


def open_record(cipher: Cipher, ref: Ref, seq: int, entry: bytes, *, forgetting: bool = False) -> bytes:
    """Return a record with its events as they were; with none, where `forgetting` and its instance's data is deleted."""
    found = events_of(entry)
    if found is None or found[1][:1] not in _BINARY:
        return entry
    fields, events = found
    opened = cipher.open(Place(ref, "record", seq), msgspec.msgpack.decode(events))
    if not is_sealed(opened):
        return with_events(fields, opened)
    return with_events(fields, b"\x90" if forgetting and was_shredded(opened) else _encode(opened))
