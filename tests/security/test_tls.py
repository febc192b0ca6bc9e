"""
TLS and passwords: with the right ones everything works; with a wrong one, one sentence says which and what to do.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast import Accepted, Settings, SettingsError, SetupError, Supervisor, connect, connect_async
from holdfast.actors import wiring
from tests.cli.conftest import name
from tests.cli.desk import APP, ROOT, run
from tests.cli.shop import Parcel, Post, app
from tests.security.conftest import Vault
from tests.support.processes import eventually


def test_workers_and_clients_over_tls(vault: Vault, secret_namespace: str, tmp_path: Path) -> None:
    """
    A crew and both kinds of client work over TLS with passwords and certificates, and the two URLs say nothing more.
    """
    settings = vault.settings(secret_namespace)
    with Supervisor(APP, settings, processes=2, folder=ROOT, log_file=tmp_path / "log"):
        with connect(app, settings) as client:
            client.send_many([Post("p-1", grams, "x" * 5_000) for grams in range(1, 50)])
            client.wait(Parcel, "p-1", until=lambda state: state.posted == 49, timeout=40)
            assert isinstance(client.execute(Post("p-2", 1), timeout=40), Accepted)

        async def ask() -> None:
            async with connect_async(app, settings) as client:
                await client.send(Post("p-2", 2))
                await client.wait(Parcel, "p-2", until=lambda state: state.posted == 2, timeout=40)

        asyncio.run(ask())


def test_a_file_that_is_missing_for_a_moment(
    vault: Vault, secret_namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Certificates are renewed under a running process: a connection that breaks just then comes back once they are there,
    and what was sent meanwhile goes on its way.
    """
    authority = tmp_path / "authority.pem"
    authority.write_bytes(vault.authority.file.read_bytes())
    settings = vault.settings(secret_namespace, tls_ca_file=str(authority))
    transport = wiring.open_transport(settings)
    publisher, consumer = transport.publisher(), transport.consumer()
    consumer.assign(0)
    publisher.publish(0, b"before").result(40)
    (found,) = consumer.take(10, 40)
    consumer.ack([found])
    kept = authority.read_bytes()
    authority.unlink()
    vault.rabbit.ctl("close_all_connections", "for a test")
    eventually(
        lambda: sum("TLS_CA_FILE" in str(record.__dict__.get("error")) for record in caplog.records) >= 2
    )
    future = publisher.publish(0, b"meanwhile")
    authority.write_bytes(kept)

    future.result(40)
    eventually(lambda: b"meanwhile" in [one.body for one in consumer.take(10, 1)])
    publisher.close()
    consumer.close()


def test_a_name_that_need_not_be_right(vault: Vault, secret_namespace: str) -> None:
    """
    Where somebody says so, the name in the certificate is not looked at; who signed it still is.
    """
    values = vault.values(secret_namespace)
    urls = {
        field: values[field].replace("@localhost", "@127.0.0.1").replace("%2F?", "%2F")
        for field in ("redis_url", "amqp_url")
    }
    wiring.open_ports(vault.settings(secret_namespace, **urls, tls_check_hostname="0")).close()
    wiring.open_transport(vault.settings(secret_namespace, **urls, tls_check_hostname="0"))


def plain(url: str) -> str:
    return url.replace("rediss://", "redis://").replace("amqps://", "amqp://")


#: By what is wrong: the settings, what the sentence says, and what doctor says of what to do.
WRONG: dict[str, tuple[Any, str]] = {
    "the wrong authority": (
        lambda vault, _url: {"tls_ca_file": str(vault.stranger.file)},
        "set HOLDFAST_TLS_CA_FILE to the certificate of the authority that signed it",
    ),
    "no authority": (
        lambda vault, _url: {"tls_ca_file": ""},
        "set HOLDFAST_TLS_CA_FILE to the certificate of the authority that signed it",
    ),
    "the wrong host name": (
        lambda vault, url: {"URL": url.replace("@localhost", "@127.0.0.1")},
        "connect by a name that is in it",
    ),
    "plain text to a TLS port": (
        lambda vault, url: {"URL": plain(url)},
        "speaks TLS on this port: begin HOLDFAST_",
    ),
    "TLS to a plain port": (
        lambda vault, url: {
            "URL": url.replace(str(vault.redis.tls_port), str(vault.redis.port)).replace(
                str(vault.rabbit.tls_port), str(vault.rabbit.port)
            )
        },
        "does not speak TLS on this port: name its TLS port, or begin the URL with ",
    ),
    "the wrong password": (
        lambda vault, url: {"URL": url.replace("sesame", "barley")},
        "refuses the user or password in HOLDFAST_",
    ),
    "no certificate of ours": (
        lambda vault, _url: {"tls_cert_file": "", "tls_key_file": ""},
        "wants a certificate of ours: set HOLDFAST_TLS_CERT_FILE",
    ),
    "a stranger's certificate": (
        lambda vault, _url: dict(
            zip(
                ("tls_cert_file", "tls_key_file"),
                map(str, vault.stranger.sign("clerk", use="client")),
                strict=True,
            )
        ),
        "does not accept the certificate in HOLDFAST_TLS_CERT_FILE",
    ),
}


@pytest.mark.parametrize("server", ["redis", "amqp"])
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said(
    wrong: str, server: str, vault: Vault, secret_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Each mistake is one sentence, the same from a client, a command and doctor; trying again would not help.
    """
    monkeypatch.setattr(
        "holdfast.brokers.tls.PROBE_S", 7.0
    )  # on a busy machine a server may be slow to say so
    change, sentence = WRONG[wrong]
    values = vault.values(secret_namespace)
    field = f"{server}_url"
    changed = change(vault, values[field])
    if "URL" in changed:
        changed[field] = changed.pop("URL")
    else:
        # Only the one server is asked over TLS, so that it is the one that complains.
        other = "amqp" if server == "redis" else "redis"
        values[f"{other}_url"] = vault.rabbit.url if other == "amqp" else vault.redis.url
    values |= changed
    settings = Settings.of(**values)

    with pytest.raises(SetupError) as caught:
        wiring.open_ports(settings) if server == "redis" else wiring.open_transport(settings)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)

    name(monkeypatch, **values)
    found = {finding["check"]: finding for finding in run("doctor", "--json", code=1).json["findings"]}
    said = found["redis" if server == "redis" else "rabbitmq"]
    assert said["status"] == "error"
    assert sentence in said["found"]
    assert said["remedy"]
    if server == "redis":
        assert sentence in run("dead", "list", code=1).sentence
    else:
        assert sentence in run("send", APP, "Post", '{"parcel_id":"p","grams":1}', code=1).sentence


@pytest.mark.parametrize(
    ("field", "content", "sentence"),
    [
        ("tls_ca_file", None, "HOLDFAST_TLS_CA_FILE is {path}, which cannot be read: No such file"),
        ("tls_ca_file", "hello", "HOLDFAST_TLS_CA_FILE is {path}, which is no PEM file"),
        ("tls_cert_file", "-----BEGIN nothing", "are not a certificate and its key in PEM"),
    ],
)
def test_files_that_are_no_use(
    field: str, content: str | None, sentence: str, vault: Vault, secret_namespace: str, tmp_path: Path
) -> None:
    """
    A file that is missing or something else is named, with its variable, before anything is connected.
    """
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content)
    settings = vault.settings(secret_namespace, **{field: str(path)})

    for opened in (wiring.open_ports, wiring.open_transport):
        with pytest.raises(SettingsError) as caught:
            opened(settings)
        assert sentence.format(path=path) in str(caught.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"redis_url": "redis://h/0", "tls_ca_file": "/ca.pem"}, "no server is reached over TLS"),
        ({"redis_url": "rediss://h/0", "tls_key_file": "/k"}, "a key goes with a certificate"),
    ],
)
def test_settings_that_would_do_nothing(values: dict[str, str], sentence: str) -> None:
    """
    Who sets them believes that he is safe; so they are refused.
    """
    with pytest.raises(SettingsError, match=sentence):
        Settings.of(**values)
