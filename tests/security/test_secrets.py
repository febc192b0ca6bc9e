"""
What is secret in a URL is in no output, no log, no error and no list of processes, whatever goes wrong.
"""

import contextlib
import logging
import os
import re
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from benchmarks.recovery import family
from holdfast import RedisStore, Settings, Supervisor, connect, connect_async
from holdfast.actors import wiring
from holdfast.actors.logs import FieldFormatter
from holdfast.brokers.checkup import examine
from holdfast.brokers.redis_link import RedisLink
from holdfast.cli import main
from holdfast.runtime.errors import HoldfastError, SettingsError
from holdfast.runtime.redaction import hide_password, redact
from tests.cli.conftest import name
from tests.cli.desk import APP, ROOT
from tests.cli.shop import Post, app
from tests.security.conftest import PASSWORD, QUOTED, Vault
from tests.support.processes import eventually

#: What must not be anywhere: as it is and as it is in a URL, whole and in the piece that both have.
SECRETS = (PASSWORD, QUOTED, "sesame")

BELLS = "tests.flow.bells:small_app"
WEIGHTS = "tests.cli.weights:app"
#: Every command, with what it takes to get as far as a server.
COMMANDS: dict[str, list[str]] = {
    "demo": [],
    "dev": [APP],
    "worker": [APP, "--patience", "0"],
    "send": [APP, "Post", '{"parcel_id":"p-1","grams":1}'],
    "state": [APP, "parcel", "p-1"],
    "history": [APP, "parcel", "p-1"],
    "trace": [APP, "parcel", "p-1"],
    "list": [APP, "parcel"],
    "diagram": [APP, "parcel", "--key", "p-1"],
    "pools": [],
    "stuck": [APP],
    "timers": [],
    "schedules list": [BELLS],
    "schedules show": [BELLS, "daily"],
    "schedules pause": [BELLS, "daily"],
    "schedules resume": [BELLS, "daily"],
    "schedules trigger": [BELLS, "daily"],
    "schedules backfill": [BELLS, "daily", "--from", "2026-01-01", "--to", "2026-01-02"],
    "schedules remove": [BELLS, "daily"],
    "projections list": [WEIGHTS],
    "projections lag": [WEIGHTS],
    "projections rebuild": [WEIGHTS, "weights", "--no-wait"],
    "projections parked": [WEIGHTS],
    "projections retry": [WEIGHTS, "weights"],
    "projections skip": [WEIGHTS, "weights", "parcel", "bad"],
    "projections remove": [WEIGHTS, "weights"],
    "dead list": [],
    "dead show": ["0.x"],
    "dead retry": ["0.x"],
    "dead discard": ["0.x"],
    "dead edit": [APP, "0.x", "{}"],
    "dead count": [],
    "doctor": [],
    "pause": [APP, "parcel", "p-1"],
    "resume": [APP, "parcel", "p-1"],
    "cancel": [APP, "parcel", "p-1"],
    "delete-data": [APP, "parcel", "p-1"],
    "observations": [APP, "letter", "1"],
    "sizes": [APP],
    "rewrap": [],
    "check-histories": [APP],
}


def every_command() -> Iterator[str]:
    ctx = click.Context(main)
    for word in main.list_commands(ctx):
        command = main.get_command(ctx, word)
        if isinstance(command, click.Group):
            yield from (f"{word} {inner}" for inner in command.commands)
        else:
            yield word


class Kept(logging.Handler):
    """
    Keeps all that is logged, with all facts and tracebacks.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(FieldFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def kept() -> Iterator[Kept]:
    """
    Everything that is logged, down to the libraries' own notes.
    """
    root, handler = logging.getLogger(), Kept()
    former = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(former)


def nothing_secret(text: str, where: object) -> None:
    found = [secret for secret in SECRETS if secret in text]
    at = text.find(found[0]) if found else 0
    assert not found, f"{where} tells {found}: ...{text[max(0, at - 200) : at + 100]}..."


class Case(NamedTuple):
    """
    Settings with which nothing works.
    """

    redis_url: str
    amqp_url: str


def cases(vault: Vault) -> dict[str, Case]:
    user = f"clerk:{QUOTED}"
    right = f"redis://{user}@127.0.0.1:{vault.redis.port}/0"
    return {
        "nobody listens to Redis": Case(f"redis://{user}@127.0.0.1:1/0", ""),
        "Redis refuses the password": Case(
            f"redis://clerk:x{QUOTED}@127.0.0.1:{vault.redis.port}/0", f"amqp://{user}@127.0.0.1:1/"
        ),
        "the password as an argument": Case(f"redis://127.0.0.1:1/0?password={QUOTED}", ""),
        "an argument that is wrong": Case(f"redis://{user}@127.0.0.1:{vault.redis.port}/0?nonsense=1", ""),
        "a certificate that is not trusted": Case(f"rediss://{user}@127.0.0.1:{vault.redis.tls_port}/0", ""),
        "a password that was not escaped": Case(f"redis://clerk:{PASSWORD}@127.0.0.1:1/0", ""),
        "nobody listens to RabbitMQ": Case(right, f"amqp://{user}@127.0.0.1:1/"),
        "RabbitMQ refuses the password": Case(
            right, f"amqp://clerk:x{QUOTED}@127.0.0.1:{vault.rabbit.port}/"
        ),
        "no such virtual host": Case(right, f"amqp://{user}@127.0.0.1:{vault.rabbit.port}/nowhere"),
        "an argument for RabbitMQ that is wrong": Case(
            right, f"amqp://{user}@127.0.0.1:{vault.rabbit.port}/?heartbeat=often&ssl_options={QUOTED}"
        ),
    }


CASES = [
    "nobody listens to Redis",
    "Redis refuses the password",
    "the password as an argument",
    "a certificate that is not trusted",
    "a password that was not escaped",
    "nobody listens to RabbitMQ",
    "RabbitMQ refuses the password",
    "no such virtual host",
]


def test_every_command_is_tried() -> None:
    """
    A new command has to be added to those above.
    """
    assert set(every_command()) == set(COMMANDS)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES)
def test_no_command_tells_a_secret(
    case: str, vault: Vault, kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whatever is wrong with the servers, output, logs and the errors behind them are free of it.
    """
    settings = cases(vault)[case]
    monkeypatch.chdir(tmp_path)
    name(monkeypatch, **settings._asdict(), namespace=f"t{uuid.uuid4().hex[:8]}")
    errors: list[BaseException] = []
    former = click.Group.main

    def recording(self: click.Group, *args: Any, **kwargs: Any) -> Any:
        try:
            return former(self, *args, **kwargs)
        except BaseException as error:
            errors.append(error)
            raise

    monkeypatch.setattr(click.Group, "main", recording)
    for words in every_command():
        if words in ("demo", "dev"):
            continue  # they bring servers of their own
        kept.lines.clear()
        errors.clear()
        result = CliRunner().invoke(main, [*words.split(), *COMMANDS[words]])
        told = "".join("".join(traceback.format_exception(error)) + repr(error) for error in errors)
        nothing_secret(result.output + told + "\n".join(kept.lines), (case, words))


@pytest.mark.parametrize(
    "call",
    [
        lambda settings: wiring.open_ports(settings).close(),
        wiring.open_transport,
        lambda settings: connect(app, settings),
        lambda settings: connect_async(app, settings),
        lambda settings: [*examine(settings)],
    ],
)
def test_no_call_tells_a_secret(call: Callable[[Settings], Any], vault: Vault, kept: Kept) -> None:
    """
    So are the errors of the calls, with all that led to them, and what they return.
    """
    for case, values in cases(vault).items():
        told = ""
        try:
            told = repr(call(Settings.of(**values._asdict(), namespace="secrets", partitions="4")))
        except HoldfastError as error:
            told = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__cause__)
        nothing_secret(told + "\n".join(kept.lines), case)


def test_nothing_shows_a_secret_of_itself(vault: Vault) -> None:
    """
    Settings, links and clients can be printed.
    """
    settings = Settings.of(
        redis_url=f"redis://clerk:{QUOTED}@127.0.0.1:{vault.redis.port}/0",
        amqp_url=f"amqp://clerk:{QUOTED}@127.0.0.1:{vault.rabbit.port}/",
        encryption_keys="k1:c2VzYW1lc2VzYW1lc2VzYW1lc2VzYW1lc2VzYW1lMTI=",
    )
    shown = f"{settings!r} {settings} {[settings]} {settings.durability}"
    # rich, in its tracebacks too, asks a value for its fields.
    shown += pretty_repr({"settings": settings, "store": RedisStore(settings.redis_url)})
    shown += repr(RedisStore(settings.redis_url))
    with RedisLink(settings) as link:
        shown += f"{link!r} {link.where} {vars(link)!r}"

    nothing_secret(shown, "a repr")
    assert "c2VzYW" not in shown
    assert "redis://clerk:***@127.0.0.1" in repr(settings)
    assert repr(Settings()) == "Settings()"


def test_workers_that_lose_their_password(vault: Vault, tmp_path: Path) -> None:
    """
    While a crew works, its command lines show nothing; when both passwords are changed under it, neither do its logs.
    """
    settings = Settings.of(
        redis_url=f"redis://runner:{QUOTED}@127.0.0.1:{vault.redis.port}/0",
        amqp_url=f"amqp://runner:{QUOTED}@127.0.0.1:{vault.rabbit.port}/",
        namespace=f"t{uuid.uuid4().hex[:8]}",
        partitions="4",
        heartbeat_ms="100",
        member_ttl_ms="10000",
    )
    log = tmp_path / "log"
    with vault.redis.client() as client:
        client.execute_command("ACL", "SETUSER", "runner", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        vault.rabbit.ctl("add_user", "runner", PASSWORD)
        vault.rabbit.ctl("set_permissions", "runner", ".*", ".*", ".*")
        with Supervisor(APP, settings, processes=1, folder=ROOT, log_file=log):
            with connect(app, settings) as sender:
                sender.execute(Post("p-1", 1), timeout=40)
            lines = command_lines()
            assert any("holdfast.actors.worker:boot" in line for line in lines)
            nothing_secret("\n".join(lines), "ps")
            vault.rabbit.ctl("change_password", "runner", "changed")
            client.execute_command("ACL", "SETUSER", "runner", "resetpass", ">changed")
            client.execute_command("CLIENT", "KILL", "USER", "runner")
            eventually(lambda: "refuses the user" in log.read_text() or "WRONGPASS" in log.read_text(), 40)
        client.execute_command("ACL", "DELUSER", "runner")
    vault.rabbit.ctl("delete_user", "runner")
    nothing_secret(log.read_text(), "the workers' log")


def command_lines() -> list[str]:
    """
    Return the command lines of this process and of all that it has started: what others on this machine run is theirs.
    """
    found = []
    for pid in family(os.getpid()):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    # Of the tests' own tools one sets the passwords.
    return [line for line in found if "rabbitmqctl" not in line and "beam" not in line]


# -- the one place


@given(st.text(min_size=4), st.text())
def test_a_password_in_any_form_is_taken_out(password: str, around: str) -> None:
    """
    As it stands in the URL and as it was decoded, in whatever a library says.
    """
    if password in ("guest", "****") or password in around or "*" in password or password in "redis://u@h/0 ":
        return
    for quoted in (quote(password, safe=""), quote_plus(password)):
        url = f"redis://u:{quoted}@h:6379/0"
        said = redact(f"{around} {url} {password} {quoted} {password!r}", url)
        assert password not in said.replace(around, "", 1)
        assert hide_password(url) == "redis://u:***@h:6379/0"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at redis://a:b@c/0, twice amqp://d:e@f/", "at redis://a:***@c/0, twice amqp://d:***@f/"),
        ("amqp://guest:guest@h/ refuses guest", "amqp://guest:***@h/ refuses guest"),
        ("nothing to hide", "nothing to hide"),
        ("to rediss://h/0?ssl_password=x&db=1 in vain", "to rediss://h/0?ssl_password=***&db=1 in vain"),
        ("no port: redis://:sesame/0", "no port: redis://:***"),
    ],
)
def test_urls_in_a_text(text: str, shown: str) -> None:
    """
    Any URL with a password in it is found in a text, whoever's it is.
    """
    assert redact(text) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:sesame", "redis://:***"),
        ("redis://:sesame/with/slashes", "redis://:***"),
        ("amqp://guest:sesame/", "amqp://guest:***"),
        ("redis+cluster://one:6379,two:sesame", "redis+cluster://one:6379,two:***"),
        ("redis://:123456789", "redis://:***"),
        ("clerk:sesame", "clerk:***"),
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("redis+cluster://one:6379,two:6380", "redis+cluster://one:6379,two:6380"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("unix:///run/redis:6/redis.sock", "unix:///run/redis:6/redis.sock"),
        ("cache:6379", "cache:6379"),
        ("memory://", "memory://"),
    ],
)
def test_a_url_whose_host_was_forgotten(url: str, shown: str) -> None:
    """
    Where a port should be, only a port is shown: whoever forgets the host behind a password has the password there.
    """
    assert shown == hide_password(url)


@pytest.mark.parametrize("url", ["redis://:sesame", "redis://:sesame/0", "clerk:sesame"])
def test_a_setting_without_its_host(url: str) -> None:
    """
    What is said of it shows no password.
    """
    with pytest.raises(SettingsError, match=r"\*\*\*") as caught:
        Settings(redis_url=url)

    assert "sesame" not in str(caught.value)


def test_every_url_is_named_through_the_one_place() -> None:
    """
    No code formats a URL of the settings into a sentence by itself.
    """
    for path in (*ROOT.glob("brokers/*.py"), *ROOT.glob("actors/*.py"), *ROOT.glob("holdfast/**/*.py")):
        for line in path.read_text().splitlines():
            if re.search(r"\{[^}]*(redis_url|amqp_url)[^}]*\}", line):
                assert "hide_password(" in line or "redact(" in line, f"{path.name}: {line}"
