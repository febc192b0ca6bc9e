"""
Payload encryption on real servers: whoever reads Redis, its file or RabbitMQ sees nothing of what commands, events,
states, effects and errors contain; keys can be turned; and what was deleted can never be read again.
"""

import base64
import contextlib
import itertools
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pika
import pytest
import redis

from holdfast import (
    Accepted,
    AlreadyCompleted,
    Client,
    HistoryError,
    Rejected,
    Settings,
    Supervisor,
    connect,
)
from holdfast.actors import wiring
from holdfast.actors.replies import Replies
from holdfast.brokers.memory import MemoryAnswers
from holdfast.runtime.cipher import Place, is_sealed, was_shredded
from holdfast.runtime.codec import encode
from holdfast.runtime.errors import DataDeleted, Unavailable, Unopened
from holdfast.runtime.keys import Ref, partition_of
from holdfast.runtime.outcome import Answer
from holdfast.runtime.sealed import SealedAnswers
from tests import controls
from tests.cli.conftest import name
from tests.cli.desk import ROOT, run
from tests.conftest import need
from tests.security.boxes import ENV_SEEN, Box, Close, Put, Refuse, Stumble, app
from tests.support.processes import eventually
from tests.support.servers import RabbitServer, RedisServer, find_rabbit, find_redis

BOXES = "tests.security.boxes:app"
#: In everything that users say; nowhere else.
MARKER = "xyzzy-plugh"
PARTITIONS = 2


def key(number: int) -> str:
    return f"k{number}:{base64.b64encode(bytes([number]) * 32).decode()}"


class Safe:
    """
    Both servers, and how to look at every byte that they keep.
    """

    def __init__(self, server: RedisServer, rabbit: RabbitServer) -> None:
        self.redis = server
        self.rabbit = rabbit

    def settings(self, keys: str, namespace: str, **others: Any) -> Settings:
        values: dict[str, Any] = {
            "redis_url": self.redis.url,
            "amqp_url": self.rabbit.url,
            "namespace": namespace,
            "partitions": PARTITIONS,
            "heartbeat_ms": 100,
            # Nobody dies here: longer than a busy machine lets a process stand still.
            "member_ttl_ms": 10_000,
            "snapshot_every": 3,
            "patience_s": 1.0,
            "encryption_keys": keys,
        }
        return Settings.of(**(values | others))

    def in_redis(self, words: bytes) -> list[str]:
        """
        Return the keys whose values have these words in them, and the files of Redis that do.
        """
        found = []
        with redis.Redis.from_url(self.redis.url) as client:
            for one in client.scan_iter(count=1_000):
                dumped: Any = client.dump(one) or b""  # it may have gone meanwhile
                if words in one or words in dumped:
                    found.append(one.decode())
        return found

    def in_files(self, words: bytes) -> list[str]:
        return in_files_of(self.redis.folder, words)

    def in_rabbit(self, words: bytes) -> list[str]:
        """
        Return the files of RabbitMQ that have these words in them.
        """
        return in_files_of(self.rabbit.folder / "data", words)

    def bodies(self, namespace: str, count: int) -> list[bytes]:
        """
        Return the messages that wait, as soon as there are so many; they stay.
        """
        queues = [f"{namespace}.commands.{number}" for number in range(PARTITIONS)]
        found = []
        connection = self.rabbit.connect()
        channel = connection.channel()

        def waiting(queue: str) -> int:
            return int(channel.queue_declare(queue, passive=True).method.message_count)

        # What a queue says of itself may be a moment old.
        eventually(lambda: sum(map(waiting, queues)) >= count)
        for queue, messages in [(queue, waiting(queue)) for queue in queues]:
            taken = connection.channel().consume(queue, inactivity_timeout=40)
            found += [body for _, _, body in itertools.islice(taken, messages) if body is not None]
        connection.close()
        return found


def in_files_of(folder: Path, words: bytes) -> list[str]:
    """
    Return the files that have these words in them; the server writes new ones meanwhile, and removes old ones.
    """
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and words in path.read_bytes():
                found.append(path.name)
    return found


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Safe]:
    need("redis-server", find_redis())
    need("rabbitmq-server", find_rabbit())
    folder = tmp_path_factory.mktemp("safe")
    with (
        RedisServer(folder / "redis", rdbcompression="no") as server,
        RabbitServer(folder / "rabbit") as rabbit,
    ):
        yield Safe(server, rabbit)


@pytest.fixture
def namespace() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def crew(settings: Settings, tmp_path: Path, **others: str) -> Iterator[Supervisor]:
    former = {word: os.environ.get(word) for word in others}
    os.environ.update(others)
    try:
        with Supervisor(BOXES, settings, processes=1, folder=ROOT, log_file=tmp_path / "log") as supervisor:
            yield supervisor
    finally:
        for word, value in former.items():
            if value is None:
                del os.environ[word]
            else:
                os.environ[word] = value


def everything(client: Client, seen: Path) -> None:
    """
    Have a payload with the marker in every place that payloads can be in.
    """
    first = client.execute(Put("b-1", f"{MARKER} cup"), timeout=40)
    assert isinstance(first, Accepted)
    assert first.events[0].item == f"{MARKER} cup"
    refused = client.execute(Refuse("b-1", MARKER), id="refused-1", timeout=40)
    assert isinstance(refused, Rejected)
    assert refused.reason == f"no {MARKER} here"
    assert refused.details == {"item": MARKER}
    for item in ("slow", "hopeless", "unlucky", "later"):
        client.send(Put("b-1", f"{MARKER} {item}"))
    client.send(Stumble("b-2", MARKER))
    client.wait(Box, "b-1", until=lambda box: len(box.items) == 5 and len(box.prices) == 4, timeout=40)
    client.wait(Box, "b-1", until=lambda box: box.reminders == 4, timeout=40)
    eventually(lambda: len(client.dead_letters.list()) == 3)  # stumbled, hopeless, unlucky
    eventually(lambda: seen.read_text().count(MARKER) >= 1)
    client.pause(Box, "b-1", timeout=40)
    client.send(Put("b-1", f"{MARKER} kept"))
    client.execute(Put("b-3", f"{MARKER} other"), timeout=40)
    # Whatever it leads to is through as well, and not in a queue when the workers end.
    client.wait(Box, "b-3", until=lambda box: box.prices != () and box.reminders == 1, timeout=40)
    eventually(lambda: client.instances(Box).instances != [] and _parked(client, "b-1") == 1)


def ref_of(key_: str) -> Ref:
    return Ref(partition_of("box", key_, PARTITIONS), "box", key_)


def items(client: Client, key_: str) -> tuple[str, ...]:
    """
    Return what is in a box.
    """
    state = client.state(Box, key_)
    assert state is not None
    return state.items


def _parked(client: Client, key_: str) -> int:
    return client._ports().journal.read([ref_of(key_)])[0].parked


@pytest.mark.parametrize("keys", [key(1), ""], ids=["encrypted", "plain"])
def test_nothing_that_users_say_is_on_the_servers(
    keys: str, safe: Safe, namespace: str, tmp_path: Path
) -> None:
    """
    Not in a key's value, not in the append-only file, not in a queue; and everything works. Without keys it is there,
    so that it would be found.
    """
    settings = safe.settings(keys, namespace)
    seen = tmp_path / "seen"
    seen.touch()
    with connect(app, settings) as client:
        with crew(settings, tmp_path, **{ENV_SEEN: str(seen)}):
            everything(client, seen)
            # What is kept goes on, in order, and refusals are remembered with what they said.
            again = client.execute(Refuse("b-1", MARKER), id="refused-1", timeout=40)
            assert MARKER in str(again)
        for number in range(3):
            client.send(Put("b-4", f"{MARKER} {number}"))

        in_redis = safe.in_redis(MARKER.encode())
        mine = [one for one in in_redis if one.startswith(f"{{{namespace}")]
        bodies = safe.bodies(namespace, 3)
        assert len(bodies) >= 3  # a schedule may have ticked when the workers ended
        assert bool(keys) is not any(MARKER.encode() in body for body in bodies)
        if keys:
            assert mine == []
            assert safe.in_files(MARKER.encode()) == [], "somebody else's test left something plain"
            assert safe.in_rabbit(MARKER.encode()) == []
        else:
            kinds = {one.split(":")[1] for one in mine}
            assert {"log", "snap", "feed", "timers", "dead-letters", "refused", "observations"} <= kinds
            assert {"parked-bodies"} <= kinds
        letters = client.dead_letters.list()
        assert len(letters) == 3
        assert all(MARKER in letter.error for letter in letters), letters
        assert all(MARKER.encode() in letter.body for letter in letters), letters
        assert MARKER in items(client, "b-1")[0]
        assert MARKER in str(client.history(Box, "b-1"))

        with crew(settings, tmp_path, **{ENV_SEEN: str(seen)}):
            client.resume(Box, "b-1", timeout=40)
            client.wait(Box, "b-1", until=lambda box: len(box.items) == 6, timeout=40)
            client.wait(Box, "b-4", until=lambda box: len(box.items) == 3, timeout=40)
    wiring.remove_namespace(settings)
    if not keys:
        # Not to be found by the test beside this one.
        with redis.Redis.from_url(safe.redis.url) as plain:
            plain.bgrewriteaof()
            eventually(lambda: safe.in_files(MARKER.encode()) == [])


def test_the_tools_show_what_they_may(
    safe: Safe, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    With the keys the command line shows payloads; without, names and numbers, and why there is no more.
    """
    settings = safe.settings(key(1), namespace)
    with connect(app, settings) as client, crew(settings, tmp_path):
        client.execute(Put("b-1", f"{MARKER} later"), timeout=40)
        client.send(Stumble("b-1", MARKER))
        eventually(lambda: len(client.dead_letters.list()) == 1)

    say(monkeypatch, settings)
    assert MARKER in run("state", BOXES, "box", "b-1").out
    assert MARKER in run("history", BOXES, "box", "b-1").out
    assert MARKER in run("dead", "list").out
    assert MARKER in run("observations", BOXES, "box", "b-1").out
    assert "Remind" in run("timers").out
    id_ = run("dead", "list", "--json").lines[0]["id"]
    assert MARKER in run("dead", "show", id_).out

    for keys, sentence in (
        ("", f"payloads of namespace '{namespace}' are encrypted"),
        (key(2), "cannot be read: the master key 'k1' is not on the key ring of this process"),
        ("k1:" + key(2).partition(":")[2], "is not the one that its data key was wrapped with"),
        (
            "k1:sesame",
            "HOLDFAST_ENCRYPTION_KEYS: key 1 must be an id of its own, a colon and 32 bytes in base64",
        ),
    ):
        say(monkeypatch, msgspec.structs.replace(settings, encryption_keys=keys))
        for words in (("state", BOXES, "box", "b-1"), ("dead", "list"), ("timers",)):
            assert sentence in run(*words, code=1).sentence
        findings = {one["check"]: one for one in run("doctor", "--json", code=1).json["findings"]}
        assert "error" == findings["encryption"]["status"]
        assert "sesame" not in str(findings)
        assert key(2)[3:] not in str(findings)
    say(monkeypatch, settings)
    findings = {one["check"]: one for one in run("doctor", "--json").json["findings"]}
    assert "on; k1 is the master key that writes" == findings["encryption"]["found"]


def say(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    values = {
        "redis_url": settings.redis_url,
        "amqp_url": settings.amqp_url,
        "namespace": settings.namespace,
        "partitions": str(settings.partitions),
        "encryption_keys": settings.encryption_keys,
    }
    monkeypatch.delenv("HOLDFAST_ENCRYPTION_KEYS", raising=False)
    name(monkeypatch, **{field: value for field, value in values.items() if value})


def test_workers_without_the_key_lose_nothing(safe: Safe, namespace: str, tmp_path: Path) -> None:
    """
    What they cannot open they keep back, and give up in the end as a dead letter; with the key it is decided after all.
    """
    settings, plain = safe.settings(key(1), namespace), safe.settings("", namespace)
    with crew(plain, tmp_path):  # since before there were keys
        with connect(app, plain) as client:
            client.execute(Put("b-2", "plain"), timeout=40)
        with connect(app, settings) as client:
            client.send(Put("b-1", f"{MARKER} one"), id="c-1")
            eventually(lambda: len(client.dead_letters.list()) == 1, 40)
            (letter,) = client.dead_letters.list()
            assert ("c-1", "b-1", "Put") == (letter.command_id, letter.key, letter.message_type or "Put")
            assert "is encrypted: this process has no keys; set HOLDFAST_ENCRYPTION_KEYS" in letter.error
    assert [one for one in safe.in_redis(MARKER.encode()) if namespace in one] == []
    with connect(app, settings) as client, crew(settings, tmp_path):
        assert client.dead_letters.retry(letter.id)
        client.wait(Box, "b-1", until=lambda box: box.items == (f"{MARKER} one",), timeout=40)
        assert items(client, "b-2") == ("plain",)
    assert MARKER not in (tmp_path / "log").read_text()


def test_foreign_messages_are_taken_and_encrypted(safe: Safe, namespace: str, tmp_path: Path) -> None:
    """
    What another program puts into the ingress queue is decided as without keys, and stored encrypted.
    """
    settings = safe.settings(key(1), namespace)
    body = msgspec.json.encode({"type": "Put", "box": "b-1", "item": f"{MARKER} foreign"})
    with connect(app, settings) as client, crew(settings, tmp_path):
        client.execute(Put("b-2", "plain"), timeout=40)
        with safe.rabbit.connect() as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish(
                "", f"{namespace}.ingress", body, pika.BasicProperties(message_id="f-1"), mandatory=True
            )
        client.wait(Box, "b-1", until=lambda box: box.items == (f"{MARKER} foreign",), timeout=40)
    assert [one for one in safe.in_redis(MARKER.encode()) if namespace in one] == []


def test_workers_with_another_key_do_not_start(
    safe: Safe, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It is said at once, and what waits goes on waiting.
    """
    with connect(app, safe.settings(key(1), namespace)) as client:
        client.send(Put("b-1", f"{MARKER} one"))
        say(monkeypatch, safe.settings(key(2), namespace))
        assert "the master key 'k1' is not on the key ring" in run("worker", BOXES, code=1).sentence
        assert 1 == client.pending()
        assert [] == client.dead_letters.list()


def test_an_instance_whose_data_key_is_lost(safe: Safe, namespace: str, tmp_path: Path) -> None:
    """
    Nothing of it is made up anew: its commands become dead letters as they are, and the others go on.
    """
    settings = safe.settings(key(1), namespace)
    with connect(app, settings) as client, crew(settings, tmp_path):
        client.execute(Put("b-1", "one"), timeout=40)
        client.wait(Box, "b-1", until=lambda box: len(box.prices) == 1 and box.reminders == 1, timeout=40)
    with connect(app, settings) as client:
        client.send(Put("b-1", "two"), id="c-2")
    lost = f"{{{namespace}.{ref_of('b-1').partition}}}:secrets"
    with redis.Redis.from_url(safe.redis.url) as raw:
        kept = raw.hget(lost, ref_of("b-1").scope) or b""
        raw.hdel(lost, ref_of("b-1").scope)
        with connect(app, settings) as client, crew(settings, tmp_path):
            client.execute(Put("b-2", "fine"), timeout=40)
            eventually(lambda: len(client.dead_letters.list(key="b-1")) == 1, 40)
        raw.hset(lost, ref_of("b-1").scope, kept)
    with connect(app, settings) as client, crew(settings, tmp_path):
        (letter,) = client.dead_letters.list(key="b-1")
        assert client.dead_letters.retry(letter.id)
        client.wait(Box, "b-1", until=lambda box: box.items == ("one", "two"), timeout=40)


def test_turning_to_another_master_key(
    safe: Safe, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A new key writes while the old one still reads; once all data keys are wrapped anew the old one can go.
    """
    old = safe.settings(key(1), namespace)
    both = safe.settings(f"{key(2)},{key(1)}", namespace)
    new = safe.settings(key(2), namespace)
    with connect(app, old) as client, crew(old, tmp_path):
        client.execute(Put("b-1", "before"), timeout=40)
    with connect(app, both) as client, crew(both, tmp_path):
        client.execute(Put("b-1", "after"), timeout=40)
        client.execute(Put("b-2", "new"), timeout=40)
    say(monkeypatch, new)
    assert "the master key 'k1' is not on the key ring" in run("state", BOXES, "box", "b-1", code=1).sentence
    assert run("rewrap", "--json", code=1).json["failed"] >= 1
    say(monkeypatch, both)
    counts = run("rewrap", "--json").json
    assert counts["rewrapped"] >= 2  # b-1 and the namespace's own
    assert counts["unchanged"] >= 1
    assert run("rewrap", "--json").json["rewrapped"] == 0
    with connect(app, new) as client:
        assert items(client, "b-1") == ("before", "after")
    say(monkeypatch, msgspec.structs.replace(new, encryption_keys=""))
    assert "no keys are set" in run("rewrap", code=1).sentence


def test_what_was_deleted_can_never_be_read_again(safe: Safe, namespace: str, tmp_path: Path) -> None:
    """
    Whoever kept a copy of every byte, and has the master key, has nothing: neither from Redis, nor from a queue.
    """
    settings = safe.settings(key(1), namespace)
    ref = ref_of("b-1")
    with connect(app, settings) as client, crew(settings, tmp_path):
        client.execute(Put("b-1", f"{MARKER} one"), timeout=40)
        client.execute(Put("b-2", f"{MARKER} stays"), timeout=40)
        with redis.Redis.from_url(safe.redis.url) as raw:
            log = f"{{{namespace}.{ref.partition}}}:log:box:b-1"
            ((_, kept),) = raw.xrange(log, "1-0", "1-0")
            secrets = f"{{{namespace}.{ref.partition}}}:secrets"
            secret = raw.hget(secrets, ref.scope)
            assert isinstance(secret, bytes)
        client.execute(Close("b-1"), timeout=40)
    with connect(app, settings) as late:
        late.send(Put("b-1", f"{MARKER} too late"))  # waits in RabbitMQ, under the old data key
    with connect(app, settings) as client:
        with crew(settings, tmp_path):
            client.delete_data(Box, "b-1", timeout=40)
            client.wait(Box, "b-2", until=lambda box: bool(box.items), timeout=40)
            with pytest.raises(DataDeleted):
                client.state(Box, "b-1")
            assert isinstance(client.execute(Put("b-1", "again"), timeout=40), AlreadyCompleted)
            eventually(lambda: client.pending() == 0)
        cipher, close = wiring.open_cipher(settings)
        events: Any = msgspec.msgpack.decode(kept[b"r"])[4]
        assert is_sealed(events)
        opened = cipher.open(Place(ref, "record", 1), events)
        assert was_shredded(opened)
        close()
        assert items(client, "b-2") == (f"{MARKER} stays",)
        assert client.dead_letters.list() == []
        with redis.Redis.from_url(safe.redis.url) as raw:
            assert raw.hget(secrets, ref.scope) != secret
            assert safe.in_redis(secret) == []
            # The file of Redis forgets the old data key when it is written anew.
            raw.bgrewriteaof()
            eventually(lambda: safe.in_files(secret[:60]) == [])


def test_bytes_that_were_moved_cannot_be_read(safe: Safe, namespace: str, tmp_path: Path) -> None:
    """
    Whoever may write to Redis cannot show one instance's past as another's, nor one record as the next.
    """
    settings = safe.settings(key(1), namespace)
    with connect(app, settings) as client, crew(settings, tmp_path):
        for box in ("b-1", "b-2", "b-3"):
            client.execute(Put(box, "later"), timeout=40)
            client.wait(Box, box, until=lambda state: len(state.prices) == 1, timeout=40)
    own = [f"{{{namespace}.{ref_of(box).partition}}}" for box in ("b-1", "b-2", "b-3")]
    with redis.Redis.from_url(safe.redis.url) as raw:
        raw.copy(f"{own[0]}:log:box:b-1", f"{own[1]}:log:box:b-2", replace=True)
        # Even with the other's data key.
        raw.hset(
            f"{own[1]}:secrets",
            ref_of("b-2").scope,
            raw.hget(f"{own[0]}:secrets", ref_of("b-1").scope) or b"",
        )
        first, second = (fields[b"r"] for _, fields in raw.xrange(f"{own[2]}:log:box:b-3"))
        raw.delete(f"{own[2]}:log:box:b-3")
        for seq, data in ((1, second), (2, first)):
            raw.xadd(f"{own[2]}:log:box:b-3", {"r": data}, id=f"{seq}-0")
    with connect(app, settings) as client:
        assert items(client, "b-1") == ("later",)
        for box in ("b-2", "b-3"):
            with pytest.raises(HistoryError, match="cannot be read by this process"):
                client.state(Box, box)


def test_an_answer_is_for_one_caller_alone() -> None:
    """
    Whoever may publish to a caller cannot show him another's answer as the one that he waits for.
    """
    settings = controls.settings(namespace=f"t{uuid.uuid4().hex[:8]}", encryption_keys=key(1))
    raw = MemoryAnswers(wiring.memory_server(settings))
    said: list[tuple[str, bytes]] = []

    class Tapped:
        def reply(self, answers: Sequence[tuple[str, bytes]]) -> None:
            said.extend(answers)

    cipher, close = wiring.open_cipher(settings)
    replies = Replies(app, settings, lambda *_: None)
    one, his = replies.expect("c-1", "box", 1)
    other, hers = replies.expect("c-2", "box", 1)
    answer = encode(Answer("c-1", "rejected", reason="no"))
    tapped: Any = Tapped()
    SealedAnswers(tapped, cipher, settings.partitions).reply([(one, answer)])
    ((_, sealed),) = said
    raw.reply([(other, sealed), (one, sealed)])
    close()
    replies.close()

    assert Rejected("no") == his.result(40)
    with pytest.raises(Unopened, match="not what belongs here"):
        hers.result(40)


def test_a_namespace_that_was_plain(safe: Safe, namespace: str, tmp_path: Path) -> None:
    """
    Keys can be set at any time: what was written before is read as it is, what comes after is encrypted.
    """
    plain = safe.settings("", namespace)
    with connect(app, plain) as client, crew(plain, tmp_path):
        client.execute(Put("b-1", "early"), timeout=40)
    settings = safe.settings(key(1), namespace)
    with connect(app, settings) as client, crew(settings, tmp_path):
        client.execute(Put("b-1", "secret-word"), timeout=40)
        assert items(client, "b-1") == ("early", "secret-word")
    assert [one for one in safe.in_redis(b"secret-word") if namespace in one] == []


def test_redis_away_for_a_moment(safe: Safe, namespace: str, tmp_path: Path) -> None:
    """
    A sender is told, as ever; workers go on when it is back, and nothing is lost.
    """
    settings = safe.settings(key(1), namespace)
    with connect(app, settings) as client, crew(settings, tmp_path):
        client.execute(Put("b-1", "one"), timeout=40)
        safe.redis.stop()
        with pytest.raises(Unavailable):
            client.send(Put("b-9", "nobody has met"))
        client.send(Put("b-1", "two"))
        safe.redis.start()
        client.wait(Box, "b-1", until=lambda box: box.items[-1] == "two", timeout=40)
