"""
Settings: one value, checked in every way it is made, and clear about what is wrong.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.runtime.config import Durability, LogFormat, Settings, TransportKind
from holdfast.runtime.errors import SettingsError
from holdfast.runtime.redaction import hide_password

SERVERS = {
    "HOLDFAST_REDIS_URL": "redis://localhost:6379/0",
    "HOLDFAST_AMQP_URL": "amqp://guest:guest@localhost:5672/",
}

#: What must never be in a message.
SECRET = "correct-horse"


def refused(environment: Mapping[str, str]) -> str:
    """
    The sentence with which an environment is refused.
    """
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environment)
    return str(caught.value)


# -- reading


def test_without_any_setting_the_embedded_server_is_used() -> None:
    """
    Nothing has to be set to begin.
    """
    settings = Settings.from_environment({})

    assert Settings() == settings
    assert (True, TransportKind.REDIS, Durability("everysec")) == (
        settings.embedded,
        settings.transport,
        settings.durability,
    )


def test_every_setting_is_read() -> None:
    """
    HOLDFAST_<FIELD>, in text form.
    """
    environment = {
        **SERVERS,
        "HOLDFAST_REDIS_URL": "rediss://localhost:6379/0",
        "HOLDFAST_TLS_CA_FILE": "/etc/ca.pem",
        "HOLDFAST_TLS_CERT_FILE": "/etc/us.pem",
        "HOLDFAST_TLS_KEY_FILE": "/etc/us.key",
        "HOLDFAST_TLS_CHECK_HOSTNAME": "0",
        "HOLDFAST_ENCRYPTION_KEYS": "k1:AAAA",
        "HOLDFAST_NAMESPACE": "shop_2",
        "HOLDFAST_PARTITIONS": "32",
        "HOLDFAST_DURABILITY": "replicated(2)",
        "HOLDFAST_DATA_DIR": "/var/lib/holdfast",
        "HOLDFAST_LEASE_MS": "5000",
        "HOLDFAST_LEASES": "0",
        "HOLDFAST_HEARTBEAT_MS": "250",
        "HOLDFAST_MEMBER_TTL_MS": "3000",
        "HOLDFAST_BATCH_MAX": "100",
        "HOLDFAST_PREFETCH": "50",
        "HOLDFAST_PAYLOAD_BYTES_MAX": "2048",
        "HOLDFAST_PATIENCE_S": "1.5",
        "HOLDFAST_SNAPSHOT_EVERY": "7",
        "HOLDFAST_DELIVERIES_MAX": "3",
        "HOLDFAST_REFUSALS_S": "60",
        "HOLDFAST_EFFECT_THREADS": "8",
        "HOLDFAST_EFFECT_TASKS": "90",
        "HOLDFAST_DRAIN_S": "2",
        "HOLDFAST_SEND_WAIT_S": "0.5",
        "HOLDFAST_TRACE_PAYLOADS": "1",
        "HOLDFAST_LOG_FORMAT": "json",
        "HOLDFAST_METRICS_PORT": "9100",
        "HOLDFAST_METRICS_HOST": "0.0.0.0",
    }

    # There is one place for the keys, but three settings that can name it.
    others = {"HOLDFAST_ENCRYPTION_KEYS_FILE", "HOLDFAST_KEYRING"}
    assert {f"HOLDFAST_{name.upper()}" for name in Settings.__struct_fields__} == set(environment) | others
    assert Settings(
        redis_url="rediss://localhost:6379/0",
        amqp_url="amqp://guest:guest@localhost:5672/",
        tls_ca_file="/etc/ca.pem",
        tls_cert_file="/etc/us.pem",
        tls_key_file="/etc/us.key",
        tls_check_hostname=False,
        encryption_keys="k1:AAAA",
        namespace="shop_2",
        partitions=32,
        durability=Durability("replicated", 2),
        data_dir=Path("/var/lib/holdfast"),
        lease_ms=5_000,
        leases=False,
        heartbeat_ms=250,
        member_ttl_ms=3_000,
        batch_max=100,
        prefetch=50,
        payload_bytes_max=2_048,
        patience_s=1.5,
        snapshot_every=7,
        deliveries_max=3,
        refusals_s=60,
        effect_threads=8,
        send_wait_s=0.5,
        effect_tasks=90,
        drain_s=2.0,
        trace_payloads=True,
        log_format=LogFormat.JSON,
        metrics_port=9100,
        metrics_host="0.0.0.0",
    ) == Settings.from_environment(environment)


def test_overrides_stand_in_front_of_the_environment() -> None:
    """
    What the caller says counts, as a value or as text.
    """
    settings = Settings.from_environment(
        {"HOLDFAST_PARTITIONS": "8", "HOLDFAST_NAMESPACE": "a"}, partitions=4, durability="fsync"
    )

    assert (4, "a", Durability("fsync")) == (settings.partitions, settings.namespace, settings.durability)


def test_the_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Unless another one is handed in; and it is read when it is asked for, not at import.
    """
    monkeypatch.setenv("HOLDFAST_NAMESPACE", "from_outside")

    assert "from_outside" == Settings.from_environment().namespace
    assert "holdfast" == Settings.from_environment({}).namespace


def test_other_variables_are_no_matter() -> None:
    """
    Only HOLDFAST_* is looked at.
    """
    assert Settings() == Settings.from_environment(
        {"PATH": "/bin", "holdfast_partitions": "x", "MY_HOLDFAST_X": "1"}
    )


@pytest.mark.parametrize(
    "name",
    [
        "HOLDFAST_SERVICE_HOST",
        "HOLDFAST_SERVICE_PORT",
        "HOLDFAST_SERVICE_PORT_HTTP",
        "HOLDFAST_PORT",
        "HOLDFAST_PORT_8080_TCP",
        "HOLDFAST_PORT_8080_TCP_PROTO",
        "HOLDFAST_PORT_8080_TCP_PORT",
        "HOLDFAST_PORT_8080_TCP_ADDR",
        "HOLDFAST_REDIS_SERVICE_HOST",
        "HOLDFAST_REDIS_SERVICE_PORT",
        "HOLDFAST_REDIS_PORT",
        "HOLDFAST_REDIS_PORT_6379_TCP_ADDR",
        "HOLDFAST_WEB_UI_SERVICE_PORT_HTTPS",
    ],
)
def test_what_kubernetes_adds_is_passed_over(name: str) -> None:
    """
    A Service called holdfast, or holdfast-something, adds these to every container of its namespace.
    """
    assert Settings() == Settings.from_environment({name: "tcp://10.0.0.1:8080"})


@pytest.mark.parametrize("name", ["HOLDFAST_WORKER_ID", "HOLDFAST_WORKER_LANES"])
def test_what_the_supervisor_adds_is_passed_over(name: str) -> None:
    """
    Workers are told their part by variables that are no settings.
    """
    assert Settings() == Settings.from_environment({name: "1"})


# -- refusing


@pytest.mark.parametrize(
    "name", ["HOLDFAST_PARTITION", "HOLDFAST_REDISURL", "HOLDFAST_", "HOLDFAST_redis_url_2"]
)
def test_a_setting_that_does_not_exist_is_refused(name: str) -> None:
    """
    A slip of the pen is found, and the message lists what there is.
    """
    message = refused({name: "1"})

    assert message.startswith(f"{name} is no setting of Holdfast; there are: HOLDFAST_REDIS_URL, ")
    assert "HOLDFAST_PARTITIONS" in message


def test_an_override_that_does_not_exist_is_refused() -> None:
    """
    So is one in code.
    """
    with pytest.raises(SettingsError, match="'partition' is no setting of Holdfast; there are: redis_url, "):
        Settings.of(partition=4)


#: Wrong values by setting: one beyond each end of its range, and one of another kind.
WRONG: dict[str, list[Any]] = {
    "partitions": ["0", "1025", "-1", "x", "1.5", ""],
    "lease_ms": ["99", "0", "86400001", "x"],
    "leases": ["maybe", "2", ""],
    "tls_check_hostname": ["maybe", "2", ""],
    "trace_payloads": ["maybe", "2", ""],
    "heartbeat_ms": ["49", "x"],
    "member_ttl_ms": ["199", "x"],
    "batch_max": ["0", "5001", "x"],
    "prefetch": ["0", "2001", "x"],
    "payload_bytes_max": ["1023", "67108865", "x"],
    "patience_s": ["-0.1", "inf", "nan", "x"],
    "snapshot_every": ["0", "x"],
    "deliveries_max": ["1", "101", "x"],
    "refusals_s": ["0", "9" * 20, "x"],
    "drain_s": ["0", "-1", "x", "nan", "inf"],
    "log_format": ["", "JSON", "xml"],
    "metrics_port": ["-1", "65536", "x", "1.5"],
    "metrics_host": ["", " ", "a b", "127.0.0.1:9100/"],
    "effect_threads": ["0", "1001", "x"],
    "effect_tasks": ["0", "10001", "x"],
    "send_wait_s": ["-1", "nan", "inf", "1e6", "x"],
    "durability": [
        "",
        "always",
        "fsync ",
        "FSYNC",
        "replicated",
        "replicated()",
        "replicated(0)",
        "replicated(100)",
    ],
    "namespace": ["", "1a", "a b", "a.b", "a:b", "{a}", "a" * 41, "ä"],
    "redis_url": [
        "localhost",
        "localhost:6379",
        "redis://localhost:6379/abc",
        "redis://localhost:6379/1/2",
        "rediss://localhost:6379/-1",
        "redis://localhost:6379/0?db=abc",
        "unix:///run/redis.sock?db=abc",
        "http://localhost",
        "redis://",
        "redis:///0",
        "redis://host:port",
        "redis://host:99999",
        "unix://",
        "redis://[::1",
    ],
    "amqp_url": [
        "localhost",
        "http://localhost",
        "amqp://",
        "amqp:///",
        "amqp://host:port/",
        "redis://localhost",
    ],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in WRONG for value in WRONG[field]])
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(field: str, value: str) -> None:
    """
    Every bad value names the variable that it is in.
    """
    servers = SERVERS if field.endswith("_url") else {}
    name = f"HOLDFAST_{field.upper()}"

    assert name in refused({**servers, name: value}).partition(" is ")[0]


def test_every_setting_with_a_limit_is_tried() -> None:
    """
    Only a path and nothing else has no wrong value.
    """
    paths = {"data_dir", "tls_ca_file", "tls_cert_file", "tls_key_file", "encryption_keys_file"}
    # Read where it is used: whoever makes settings for others need not have it.
    assert paths | {"encryption_keys", "keyring"} == set(Settings.__struct_fields__) - set(WRONG)


@pytest.mark.parametrize(
    "values",
    [
        {"partitions": 0},
        {"partitions": "16"},
        {"leases": 1},
        {"drain_s": -1.0},
        {"namespace": "a b"},
        {"durability": "fsync"},
        {"durability": Durability("always")},
        {"data_dir": ".holdfast"},
        {"redis_url": None},
        {"redis_url": "localhost"},
        {"amqp_url": "amqp://localhost/"},
        {"heartbeat_ms": 5_000},
    ],
)
def test_settings_made_by_hand_are_checked_as_well(values: dict[str, Any]) -> None:
    """
    There is no way to settings that were not checked.
    """
    with pytest.raises(SettingsError):
        Settings(**values)


def test_changed_settings_are_checked_as_well() -> None:
    """
    A copy with another value is made like the first.
    """
    with pytest.raises(SettingsError):
        msgspec.structs.replace(Settings(), partitions=0)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"HOLDFAST_AMQP_URL": SERVERS["HOLDFAST_AMQP_URL"]},
            "HOLDFAST_AMQP_URL is set but HOLDFAST_REDIS_URL is not",
        ),
        (
            SERVERS | {"HOLDFAST_REDIS_URL": "memory://"},
            "HOLDFAST_REDIS_URL=memory:// keeps everything in one process; it does not go with HOLDFAST_AMQP_URL",
        ),
        (
            {"HOLDFAST_HEARTBEAT_MS": "2000"},
            "HOLDFAST_MEMBER_TTL_MS must be at least three times HOLDFAST_HEARTBEAT_MS",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(environment: dict[str, str], words: str) -> None:
    """
    The message names both.
    """
    assert words in refused(environment)


def test_settings_do_not_change() -> None:
    """
    What was checked stays as it was.
    """
    with pytest.raises(AttributeError):
        Settings().partitions = 4  # type: ignore[misc]  # the mistake


# -- kinds


@pytest.mark.parametrize(
    ("redis_url", "amqp_url", "transport", "embedded"),
    [
        ("", "", TransportKind.REDIS, True),
        ("memory://", "", TransportKind.MEMORY, False),
        ("redis://h", "", TransportKind.REDIS, False),
        ("rediss://h", "amqps://h", TransportKind.RABBITMQ, False),
        ("unix:///run/redis.sock", "amqp://h", TransportKind.RABBITMQ, False),
    ],
)
def test_the_urls_say_what_carries_commands(
    redis_url: str, amqp_url: str, transport: TransportKind, embedded: bool
) -> None:
    """
    RabbitMQ where its URL is set, else the journal's own server.
    """
    settings = Settings.of(redis_url=redis_url, amqp_url=amqp_url)

    assert (transport, embedded) == (settings.transport, settings.embedded)


@pytest.mark.parametrize("text", ["memory", "everysec", "fsync", "replicated(1)", "replicated(99)"])
def test_a_durability_reads_as_it_was_written(text: str) -> None:
    """
    Every level goes there and back.
    """
    assert text == str(Durability.parse(text))


# -- to other processes


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(
            leases=False, durability=Durability("replicated", 3), data_dir=Path("/a b/c"), patience_s=0.25
        ),
        Settings(redis_url="redis://:p%40ss@h/1", amqp_url="amqps://u:p@h/v%2F", namespace="n", drain_s=1e-9),
        Settings(redis_url="memory://", partitions=1, prefetch=2_000),
    ],
)
def test_a_started_process_has_the_same_settings(settings: Settings) -> None:
    """
    What is handed to a worker as its environment makes the very same settings there.
    """
    environment = settings.to_environment()

    assert settings == Settings.from_environment(environment)
    assert all(isinstance(value, str) for value in environment.values())
    assert set(environment) <= {f"HOLDFAST_{name.upper()}" for name in Settings.__struct_fields__}


@given(
    partitions=st.integers(1, 1_024),
    patience_s=st.floats(0, 3e7, allow_nan=False),
    lease_ms=st.integers(100, 24 * 60 * 60 * 1000),
    leases=st.booleans(),
    replicas=st.integers(1, 99),
)
def test_no_number_is_lost_on_the_way(replicas: int, **values: Any) -> None:
    """
    Text is a form of every number in range.
    """
    settings = Settings(**values, durability=Durability("replicated", replicas))

    assert settings == Settings.from_environment(settings.to_environment())


# -- passwords


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:1/0", "redis://host:1/0"),
        ("amqp://guest@host/", "amqp://guest@host/"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        (f"redis://:{SECRET}@host:1/0", "redis://:***@host:1/0"),
        (f"amqp://user:{SECRET}@host/v", "amqp://user:***@host/v"),
        (f"amqp://user:{SECRET}@{SECRET}@host/v", "amqp://user:***@host/v"),
        (f"amqp//user:{SECRET}@host", "amqp//user:***@host"),
        (f"user:{SECRET}@host", "user:***@host"),
        (f"redis://:{SECRET}/{SECRET}@host", "redis://:***@host"),
        (f"redis://:{SECRET}//{SECRET}@host", "redis://:***@host"),
        (f"redis://host/0?password={SECRET}&db=1", "redis://host/0?password=***&db=1"),
    ],
)
def test_a_password_is_hidden(url: str, shown: str) -> None:
    """
    In a URL, and in what should have been one: that is when it is in a message.
    """
    assert shown == hide_password(url)


@pytest.mark.parametrize("field", ["redis_url", "amqp_url"])
@pytest.mark.parametrize(
    "form",
    [
        "http://user:{}@host",
        "user:{}@host:1",
        "redis//user:{}@host",
        "amqp://user:{}/x@host/",
        "redis://:{}#x@host:1",
        "amqp://user:{}@host:port/",
        "redis://user:{}@[::1",
        "redis://user:{}@",
    ],
)
def test_no_refusal_shows_a_password(field: str, form: str) -> None:
    """
    However the URL is wrong, the message shows neither the password nor a part of it.
    """
    name = f"HOLDFAST_{field.upper()}"
    environment = {**SERVERS, name: form.format(SECRET)}

    message = refused(environment)

    assert name in message
    assert not any(part in message for part in SECRET.split("-"))


@given(st.text(st.characters(codec="ascii", exclude_characters=" "), min_size=8, max_size=12))
def test_a_quoted_password_never_shows(password: str) -> None:
    """
    Whatever the password is, as long as it is quoted as a URL asks for.
    """
    quoted = quote(password, safe="")

    assert "redis://user:***@host/0" == hide_password(f"redis://user:{quoted}@host/0")


def test_the_tests_begin_without_settings() -> None:
    """
    Whoever runs the tests has settings of his own; none of them reaches a test.
    """
    assert [] == [name for name in os.environ if name.startswith("HOLDFAST_")]
