"""
Whatever is typed wrongly, or not as the servers are: an exit code and one sentence, never a traceback.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

import holdfast
from holdfast import Settings
from tests.cli.conftest import name
from tests.cli.desk import APP, NOWHERE, ROOT, run
from tests.support.servers import RedisServer

READING = [
    ("state", APP, "parcel", "p-1"),
    ("history", APP, "parcel", "p-1"),
    ("list", APP),
    ("diagram", APP, "parcel", "--key", "p-1"),
    ("pools",),
    ("stuck", APP),
    ("dead", "list"),
    ("dead", "count"),
    ("dead", "show", "0.x"),
    ("projections", "list", APP),
    ("pause", APP, "parcel", "p-1"),
    ("sizes", APP),
]
WRITING = [
    ("send", APP, "Post", '{"parcel_id":"p-1","grams":1}'),
    ("dead", "retry", "0.x"),
]


def test_the_version_is_told() -> None:
    """
    `holdfast --version` is how a bug report begins.
    """
    assert run("--version").out == f"holdfast {holdfast.__version__}\n"


def test_help_names_every_command() -> None:
    """
    The list of commands is one --help away.
    """
    said = run("--help").out

    for command in (
        "demo",
        "dev",
        "worker",
        "send",
        "state",
        "history",
        "list",
        "diagram",
        "pools",
        "stuck",
        "timers",
        "schedules",
        "projections",
        "dead",
        "doctor",
        "pause",
        "sizes",
    ):
        assert re.search(rf"^  {command} ", said, re.MULTILINE)


def test_help_tells_the_exit_codes() -> None:
    """
    In one place, for all commands.
    """
    said = run("--help").out

    for code, meaning in enumerate(("done", "failed: ", "wrong usage: ")):
        assert f"  {code}  {meaning}" in said


@pytest.mark.parametrize(
    "command",
    [
        "state",
        "history",
        "list",
        "pools",
        "stuck",
        "dead list",
        "dead show",
        "doctor",
        "send",
        "projections list",
        "projections lag",
        "projections parked",
        "projections rebuild",
        "pause",
        "sizes",
        "observations",
        "dead count",
        "dead retry",
    ],
)
def test_what_json_prints_is_documented(command: str) -> None:
    """
    Whoever parses --json finds the names in --help.
    """
    assert "--json prints" in run(*command.split(), "--help").out


def test_nothing_at_all_is_answered_with_help() -> None:
    """
    A newcomer who types `holdfast` sees what there is; a script that does so failed.
    """
    said = run(code=2)

    assert said.out == ""
    assert "Commands:" in said.err


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["serve"], "No such command 'serve' (see holdfast --help)"),
        (["state"], "Missing argument 'APP' (see holdfast state --help)"),
        (["state", APP, "parcel"], "Missing argument 'KEY' (see holdfast state --help)"),
        (["list", APP, "--all"], "--all' (see holdfast list --help)"),
        (["dead", "list", "--kind", "bogus"], "'bogus' is not one of 'command', 'ingress', 'effect'"),
        (
            ["pause", APP, "parcel", "p-1", "--for", "2h", "--until", "2030-01-01T00:00Z"],
            "give --for or --until, not both",
        ),
        (["dead", "bury"], "No such command 'bury' (see holdfast dead --help)"),
        (["dead", "retry"], "name dead letters, or say --all (see holdfast dead retry --help)"),
        (["worker", APP, "--pool", "cooking"], "there is no pool 'cooking'; there are: command"),
        (["worker", APP, "--processes", "0"], "0 is not in the range x>=1 (see"),
        (["demo", "--orders", "some"], "'some' is not a valid integer range (see"),
    ],
)
def test_wrong_usage_is_told_in_one_sentence(args: list[str], expected: str) -> None:
    """
    It says what is wrong and where to read how it should be.
    """
    assert expected in run(*args, code=2).sentence


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        ("shop", "'shop' names no app; write module:name, as in shop.orders:app"),
        ("shop:", "names no app"),
        (":app", "names no app"),
        ("", "names no app"),
        ("no.such.shop:app", "there is no module 'no' in this folder or installed"),
        ("tests.cli.nothing:app", "there is no module 'tests.cli.nothing'"),
        (
            "tests.cli.shop.py:app",
            "'tests.cli.shop.py:app' names a file; write its module, tests.cli.shop:app",
        ),
        ("./tests/cli/shop.py:app", "names a file; write its module, tests.cli.shop:app"),
        ("./shop:app", "names a file; write its module, shop:app"),
        (".shop:app", "names a file; write its module, shop:app"),
        ("../shop.py:app", "names a file; go to its folder and write its module, shop:app"),
        ("/srv/shop.py:app", "names a file; go to its folder and write its module, shop:app"),
        ("tests.cli.shop:application", "'application' in tests.cli.shop is nothing, not an App; it has app"),
        ("tests.cli.shop:Parcel", "'Parcel' in tests.cli.shop is a ABCMeta, not an App; it has app"),
        ("tests.cli.desk:ROOT", "not an App; it has no App at all"),
    ],
)
@pytest.mark.parametrize("command", ["state", "send", "worker", "dev"])
def test_a_wrong_app_is_told(app: str, expected: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Every command that takes APP says what it looked for and what there is instead, before it touches any server.
    """
    monkeypatch.chdir(ROOT)
    name(monkeypatch, redis_url=NOWHERE)
    rest = {"state": ["parcel", "p-1"], "send": ["Post", "{}"]}.get(command, [])

    assert expected in run(command, app, *rest, code=2).sentence


@pytest.mark.parametrize(
    ("source", "code", "expected"),
    [
        (
            "app = App()",
            2,
            "the module 'broken_0' cannot be imported: NameError: name 'App' is not defined (",
        ),
        (
            "app = (",
            2,
            "the module 'broken_1' cannot be imported: SyntaxError: '(' was never closed (broken_1.py, line 1)",
        ),
        (
            "import nothing_here",
            2,
            "the module 'broken_2' cannot be imported: No module named 'nothing_here'",
        ),
        (
            "from holdfast import Apple",
            2,
            "the module 'broken_3' cannot be imported: ImportError: cannot import name 'Apple'",
        ),
        ("from holdfast import App\napp = App(workflows=[])", 1, "an app needs at least one workflow"),
    ],
)
def test_an_app_that_does_not_load_is_told(
    source: str, code: int, expected: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    """
    A mistake in the user's module is named with its place, without our traceback around it.
    """
    number = request.node.callspec.indices["source"]
    (folder / f"broken_{number}.py").write_text(source)

    assert expected in run("list", f"broken_{number}:app", code=code).sentence


@pytest.mark.parametrize("args", READING)
def test_reading_where_nothing_is_says_so(args: tuple[str, ...], folder: Path) -> None:
    """
    A reading command in the wrong folder does not make an installation of it.
    """
    assert "nothing is kept in .holdfast yet: run `holdfast dev APP`" in run(*args, code=1).sentence
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("args", [*READING, *WRITING])
def test_memory_cannot_be_shared(args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """
    With everything in memory there is nothing to read or send to from outside, and no worker is started for it.
    """
    name(monkeypatch, redis_url="memory://")

    assert "HOLDFAST_REDIS_URL is memory://" in run(*args, code=1).sentence


@pytest.mark.parametrize("args", [*READING, *WRITING, ("worker", APP, "--patience", "0")])
def test_a_server_that_is_away_is_told(args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The sentence names the server, and keeps the password.
    """
    name(monkeypatch, redis_url=NOWHERE)

    said = run(*args, code=1)

    assert "Redis at redis://:***@127.0.0.1:1/0 does not answer" in said.sentence
    assert "sesame" not in said.out + said.err


def test_a_rabbitmq_that_is_away_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The same for RabbitMQ, without the library's own lines around it.
    """
    name(monkeypatch, amqp_url="amqp://me:sesame@127.0.0.1:1/")

    said = run(*WRITING[0], code=1)

    assert "RabbitMQ at amqp://me:***@127.0.0.1:1/ cannot be reached" in said.sentence
    assert "sesame" not in said.out + said.err


@pytest.mark.parametrize("password", ["", ":sesame@", "me:sesame@"])
def test_a_refused_password_is_told(
    password: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A missing or wrong password is the operator's to correct: exit code 1, at once, and it is not shown.
    """
    with redis_server.client() as client:
        client.config_set("requirepass", "open")
    name(monkeypatch, redis_url=redis_server.url.replace("://", f"://{password}"))

    for args in (*READING, *WRITING, ("worker", APP)):
        said = run(*args, code=1)
        assert "refuses the user or password in HOLDFAST_REDIS_URL" in said.sentence
        assert "sesame" not in said.err


def test_a_password_that_rabbitmq_refuses_is_told(
    settings: Settings, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The same for RabbitMQ.
    """
    parts = urlsplit(amqp_url)
    wrong = parts._replace(netloc=f"guest:sesame@{parts.netloc.rpartition('@')[2]}")
    name(monkeypatch, amqp_url=urlunsplit(wrong))

    for args in (WRITING[0], ("worker", APP)):
        said = run(*args, code=1)
        assert "refuses the user or password in HOLDFAST_AMQP_URL" in said.sentence
        assert "sesame" not in said.err


@pytest.mark.parametrize("args", [*READING, *WRITING, ("worker", APP), ("dev", APP)])
def test_another_number_of_partitions_is_refused(
    args: tuple[str, ...], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Keys would be looked for in the wrong place, so nothing is.
    """
    run("dead", "list")
    name(monkeypatch, partitions="5")

    assert "was created with 4 partitions, but HOLDFAST_PARTITIONS is 5" in run(*args, code=1).sentence


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("HOLDFAST_REDDIS_URL", "redis://localhost", "HOLDFAST_REDDIS_URL is no setting of Holdfast"),
        (
            "HOLDFAST_REDIS_URL",
            "http://me:sesame@localhost",
            "HOLDFAST_REDIS_URL is 'http://me:***@localhost'; it must",
        ),
        (
            "HOLDFAST_REDIS_URL",
            "redis://localhost:sixty",
            # What stands there may be a password whose host was forgotten.
            "HOLDFAST_REDIS_URL is 'redis://localhost:***', which is no URL",
        ),
        ("HOLDFAST_PARTITIONS", "many", "HOLDFAST_PARTITIONS is wrong"),
        ("HOLDFAST_DURABILITY", "eternal", "HOLDFAST_DURABILITY is 'eternal'; it must be memory, everysec"),
        ("HOLDFAST_AMQP_URL", "amqp://localhost", "HOLDFAST_AMQP_URL is set but HOLDFAST_REDIS_URL is not"),
    ],
)
def test_a_wrong_setting_is_told(
    setting: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It is named, whatever the command.
    """
    monkeypatch.setenv(setting, value)

    for args in (*READING, *WRITING, ("worker", APP), ("dev", APP), ("doctor",)):
        said = run(*args, code=1)
        assert expected in said.sentence
        assert "sesame" not in said.err


@pytest.mark.parametrize("arguments", ["socket_timeout=soon", "nonsense=1"])
def test_wrong_arguments_in_the_url_of_redis_are_told(
    arguments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The clients take some in the query of the URL; what they do not take is named, without the password.
    """
    name(monkeypatch, redis_url=f"redis://:sesame@127.0.0.1:1/0?{arguments}")

    for args in (*READING, *WRITING, ("worker", APP), ("dev", APP), ("doctor",)):
        said = run(*args, code=1)
        assert "HOLDFAST_REDIS_URL is redis://:***@127.0.0.1:1/0?" in said.sentence
        assert arguments.partition("=")[0] in said.sentence
        assert "sesame" not in said.err


@pytest.mark.parametrize("arguments", ["heartbeat=soon", "nonsense=1", "ssl_options=x"])
def test_wrong_arguments_in_the_url_of_rabbitmq_are_told(
    arguments: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The same for RabbitMQ.
    """
    name(monkeypatch, amqp_url=f"amqp://me:sesame@127.0.0.1:1/?{arguments}")

    for args in (WRITING[0], ("worker", APP)):
        said = run(*args, code=1)
        assert "HOLDFAST_AMQP_URL is amqp://me:***@127.0.0.1:1/?" in said.sentence
        assert "sesame" not in said.err


def test_a_durability_that_the_server_cannot_give_is_refused(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A worker refuses at once to promise what a restart of Redis would break, and says what to run.
    """
    with redis_server.client() as client:
        client.config_set("appendonly", "no")
    name(monkeypatch, redis_url=redis_server.url)

    for command in ("worker", "dev"):
        sentence = run(command, APP, code=1).sentence
        assert "durability everysec needs the append-only file" in sentence
        assert "CONFIG SET appendonly yes" in sentence


@pytest.mark.parametrize("url", ["", "memory://"])
def test_a_worker_needs_servers(url: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """
    What has no server is for `holdfast dev`.
    """
    if url:
        name(monkeypatch, redis_url=url)
    monkeypatch.chdir(ROOT)

    assert "a worker needs servers: set HOLDFAST_REDIS_URL" in run("worker", APP, code=1).sentence
