"""
Real servers that a test may do anything to.

Each listens on free loopback ports, keeps its data in a folder of its own, runs as the current user and is gone when
the test process is, even if that is killed. A server on a default port is never touched.
"""

import contextlib
import os
import pwd
import random
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, cast

import pika
import pika.exceptions
import psycopg
import psycopg.sql
import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from holdfast.brokers import keeper

#: Above what is well known and below what Linux (from 32768 on) and others (from 49152 on) give to outgoing connections.
PORTS = (15_000, 32_000)
#: The processes of a test run each choose from a share of their own: nobody listens yet on a port that was just chosen,
#: nor on that of a server which is stopped for a while, so another process would find it free.
PORT_SHARES = 16
#: What this process has chosen before, which it does not choose again.
_chosen: set[int] = set()

REDIS_START_SECONDS_MAX = 120.0
#: A cold Erlang machine on a busy two-core runner takes its time.
RABBIT_START_SECONDS_MAX = 180.0
POSTGRES_START_SECONDS_MAX = 120.0
#: RabbitMQ's own tool is a cold Erlang machine each time.
CTL_SECONDS_MAX = 150.0
#: Of a server that runs: more than a busy machine lets a process stand still.
ANSWER_SECONDS_MAX = 20.0
#: Far more than it takes, also where the node stands still for some seconds.
NAMES_SECONDS_MAX = 20.0
LOOK_SECONDS = 0.02

#: Where distributions put server programs that are not for users' PATHs.
SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def find_redis() -> str | None:
    """
    Return the path of a redis-server or valkey-server, if there is one.
    """
    return shutil.which("redis-server", path=SYSTEM_PATH) or shutil.which("valkey-server", path=SYSTEM_PATH)


def find_rabbit() -> str | None:
    """
    Return the path of the real rabbitmq-server script, if there is one.

    Debian's /usr/sbin/rabbitmq-server is a wrapper that changes to the user rabbitmq and to the system's folders;
    the script that it wraps runs as anybody, wherever it is told to.
    """
    real = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    return str(real) if real.exists() else shutil.which("rabbitmq-server", path=SYSTEM_PATH)


def find_postgres() -> str | None:
    """
    Return the folder of PostgreSQL's server programs, the newest if there are several.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return str(found[-1].parent)
    on_path = shutil.which("initdb", path=SYSTEM_PATH)
    return str(Path(on_path).parent) if on_path else None


def free_ports(count: int) -> list[int]:
    """
    Return different loopback ports that nobody listens on.

    They are below those that systems give to outgoing connections: a server that is stopped for a while comes back to
    its port, and others, in this test run and in those beside it, must not have got it meanwhile. By chance, so that
    test runs which look at the same time do not find the same.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(*_own_ports())
        if port not in _chosen and _is_free(port):
            _chosen.add(port)
            found.append(port)
    return found


def _own_ports() -> tuple[int, int]:
    """
    Return the first port of this process's share, and the one behind the last.
    """
    first, end = PORTS
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    size = (end - first) // PORT_SHARES
    number = int(worker) % PORT_SHARES if worker.isdecimal() else 0
    if len(_chosen) > size // 2:
        _chosen.clear()  # those of long ago are free again
    return first + number * size, first + (number + 1) * size


def free_run(count: int) -> int:
    """
    Return the first of so many ports in a row that nobody listens on, chosen as those of `free_ports`.
    """
    while True:
        (first,) = free_ports(1)
        others = range(first + 1, first + count)
        if all(port not in _chosen and _is_free(port) for port in others):
            _chosen.update(others)
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Server(ABC):
    """
    What all of them can do. The ports are chosen once, so a server comes back where it was.
    """

    #: What clients connect to.
    url: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._kept: keeper.Kept | None = None
        self._paused = False

    @property
    def pid(self) -> int:
        """
        The process id of the server itself.
        """
        assert self._kept is not None, "the server is not running"
        return self._kept.pid

    @property
    def running(self) -> bool:
        """
        Whether the process is there (it may be paused).
        """
        return self._kept is not None and self._kept.alive()

    @property
    @abstractmethod
    def log(self) -> Path:
        """
        Where the process writes what it has to say.
        """

    @abstractmethod
    def start(self) -> Self:
        """
        Start, on the same port and data as before, and wait until clients are served.
        """

    def stop(self) -> None:
        """
        End the server as an operator would, with SIGTERM, and wait until it is gone; the data stay.
        """
        if self._kept is not None:
            if self.running:
                self.cont()
            self._kept.stop()
            self._kept = None

    def kill(self) -> None:
        """
        End the server as a crash would, with SIGKILL, and wait until it is gone; the data stay as they are.
        """
        assert self._kept is not None, "the server is not running"
        self._kept.kill()
        self._kept = None

    def restart(self) -> Self:
        """
        Stop and start again.
        """
        self.stop()
        return self.start()

    def pause(self) -> None:
        """
        Freeze the process: connections stay open, nothing is answered.
        """
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True

    def cont(self) -> None:
        """
        Let a frozen process go on.
        """
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _keep(self, command: list[str], env: dict[str, str] | None = None) -> None:
        assert not self.running, "the server is running already"
        self._paused = False
        self._kept = keeper.keep(command, folder=self.folder, log=self.log, env=env)

    def _await(self, serves: Callable[[], bool], seconds_max: float) -> None:
        until = time.monotonic() + seconds_max
        while not serves():
            if not self.running or time.monotonic() > until:
                ended = "did not answer in time" if self.running else "ended at once"
                self.stop()
                said = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{type(self).__name__} {ended}. Its last words:\n{said}")
            time.sleep(LOOK_SECONDS)


class Tls(NamedTuple):
    """
    What a server shows on its TLS port, beside its plain one; whom it trusts must sign a client's certificate.
    """

    certificate: Path
    key: Path
    authority: Path

    def for_redis(self, port: int) -> dict[str, str | int]:
        """
        Return the settings of Redis.
        """
        return {
            "tls-port": port,
            "tls-cert-file": str(self.certificate),
            "tls-key-file": str(self.key),
            "tls-ca-cert-file": str(self.authority),
            "tls-auth-clients": "yes",
        }

    def for_rabbit(self, port: int) -> str:
        """
        Return the settings of RabbitMQ.
        """
        return (
            f"listeners.ssl.1 = 127.0.0.1:{port}\n"
            f"ssl_options.cacertfile = {self.authority}\n"
            f"ssl_options.certfile = {self.certificate}\n"
            f"ssl_options.keyfile = {self.key}\n"
            "ssl_options.verify = verify_peer\n"
            "ssl_options.fail_if_no_peer_cert = true\n"
        )


class RedisServer(Server):
    """
    A redis-server with the settings that Holdfast wants; keyword arguments override (`_` for `-`).

    They may be changed between a stop and a start through `config`.
    """

    def __init__(self, folder: Path, **config: str | int) -> None:
        super().__init__(folder)
        self.port, self.tls_port = free_ports(2)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.config: dict[str, str | int] = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "stream-node-max-bytes": 256,
            # What takes so many microseconds is remembered: who holds times against one another looks there.
            "slowlog-log-slower-than": 100_000,
            "slowlog-max-len": 10_000,
            **{name.replace("_", "-"): value for name, value in config.items()},
        }

    def secure(self, tls: Tls) -> Self:
        """
        Have it speak TLS as well, from its next start on.
        """
        self.config |= tls.for_redis(self.tls_port)
        return self

    @property
    def log(self) -> Path:
        return self.folder / "redis.log"

    def start(self) -> Self:
        binary = find_redis()
        assert binary is not None, "redis-server is not installed"
        config = self.config | {"dir": str(self.folder), "port": self.port, "bind": "127.0.0.1"}
        self._keep([binary, *(part for name, value in config.items() for part in (f"--{name}", str(value)))])
        self._await(self._serves, REDIS_START_SECONDS_MAX)
        return self

    def client(self) -> redis.Redis:
        """
        Return a client that answers text and does not try again by itself.
        """
        return redis.Redis.from_url(
            self.url, decode_responses=True, socket_timeout=ANSWER_SECONDS_MAX, retry=Retry(NoBackoff(), 0)
        )

    def _serves(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping()) and client.info("server")["process_id"] == self.pid
        except (redis.RedisError, OSError):
            return False


class PostgresServer(Server):
    """
    A PostgreSQL cluster of its own, that trusts whoever connects over loopback and does not care about power loss.

    It refuses to run as root, so root runs it as somebody else, in a folder that this somebody can reach.
    """

    def __init__(self) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="holdfast-postgres-")))
        (self.port,) = free_ports(1)
        self.url = f"postgresql+psycopg://holdfast@127.0.0.1:{self.port}/postgres"
        self._as: list[str] = []
        if os.getuid() == 0:
            somebody = pwd.getpwnam("nobody")
            os.chown(self.folder, somebody.pw_uid, somebody.pw_gid)
            ids = [f"--reuid={somebody.pw_uid}", f"--regid={somebody.pw_gid}", "--clear-groups"]
            self._as = ["setpriv", *ids]

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    def start(self) -> Self:
        binaries = find_postgres()
        assert binaries is not None, "postgresql is not installed"
        data = self.folder / "data"
        if not data.exists():
            command = [f"{binaries}/initdb", "-D", str(data), "-U", "holdfast", "-A", "trust", "--no-sync"]
            subprocess.run([*self._as, *command, "-E", "UTF8"], check=True, capture_output=True, cwd="/")
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "60",
        }
        given = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self._keep([*self._as, f"{binaries}/postgres", "-D", str(data), *given])
        self._await(self._serves, POSTGRES_START_SECONDS_MAX)
        return self

    def stop(self) -> None:
        """
        End the server with SIGINT: at SIGTERM it would wait until all clients have gone.
        """
        if self.running:
            os.kill(self.pid, signal.SIGINT)
        super().stop()

    def close(self) -> None:
        """
        Stop, and leave nothing behind.
        """
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def database(self, name: str) -> str:
        """
        Make an empty database, and return its URL.
        """
        with psycopg.connect(self._plain(), autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
        return f"{self.url.rpartition('/')[0]}/{name}"

    def _plain(self) -> str:
        return self.url.replace("+psycopg", "")

    def _serves(self) -> bool:
        try:
            psycopg.connect(self._plain(), connect_timeout=2).close()
        except psycopg.Error:
            return False
        return True


class RabbitServer(Server):
    """
    A RabbitMQ node of its own: with its own epmd, cookie, data, log and configuration, and no plugins.
    """

    def __init__(self, folder: Path, *, tls: Tls | None = None) -> None:
        super().__init__(folder)
        self.port, self.tls_port, self._dist_port, self._epmd_port = free_ports(4)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"
        self._tls = tls
        self._epmd: keeper.Kept | None = None

    @property
    def log(self) -> Path:
        return self.folder / "rabbit.log"

    def start(self) -> Self:
        script = find_rabbit()
        assert script is not None, "rabbitmq-server is not installed"
        self._write_config()
        self._start_epmd()
        self._keep([script], self._environ())
        self._await(self._serves, RABBIT_START_SECONDS_MAX)
        return self

    def stop(self) -> None:
        super().stop()
        self._stop_epmd()

    def kill(self) -> None:
        """
        End the node as a crash would, with SIGKILL, once the names of its quorum queues are on disk.

        RabbitMQ 3.10 writes the name of a new quorum queue about a second after the declaration was answered. A node
        that is killed before comes back with a queue that never elects a leader: whoever uses it hangs.
        """
        until = time.monotonic() + NAMES_SECONDS_MAX
        # A paused node never gets there.
        while not self._paused and not self._names_are_written() and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        super().kill()
        self._stop_epmd()

    def _names_are_written(self) -> bool:
        for names in self.folder.glob("data/*/quorum/*/names.dets"):
            known = names.read_bytes()
            if any(queue.name.encode() not in known for queue in names.parent.iterdir() if queue.is_dir()):
                return False
        return True

    @property
    def epmd_pid(self) -> int:
        """
        The process id of the node's own port mapper.
        """
        assert self._epmd is not None, "the server is not running"
        return self._epmd.pid

    def connect(self) -> pika.BlockingConnection:
        """
        Return a connection.
        """
        parameters = pika.URLParameters(self.url)
        parameters.socket_timeout = parameters.blocked_connection_timeout = ANSWER_SECONDS_MAX
        return pika.BlockingConnection(parameters)

    def _serves(self) -> bool:
        # pika reports each refused connection in many lines, so first a handshake by hand.
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                probe.sendall(b"AMQP\0\0\x09\x01")
                if not probe.recv(1):
                    return False
            self.connect().close()
        except (pika.exceptions.AMQPError, OSError):
            return False
        return True

    def _write_config(self) -> None:
        (self.folder / "home").mkdir(exist_ok=True)
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            # An almost full disk, or other users of the memory, must not silently block publishers.
            "disk_free_limit.absolute = 50MB\n"
            "vm_memory_high_watermark.relative = 0.8\n"
            "log.file = false\n"
            "log.console = true\n"
            "log.console.level = warning\n"
            + (self._tls.for_rabbit(self.tls_port) if self._tls is not None else "")
        )

    def ctl_script(self, folder: Path) -> str:
        """
        Return a script that is to the node what rabbitmqctl is to the system's.
        """
        script = folder / "rabbitmqctl"
        given = " ".join(f"{name}={shlex.quote(value)}" for name, value in self._environ().items())
        real = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
        ctl = str(real) if real.exists() else str(shutil.which("rabbitmqctl", path=SYSTEM_PATH))
        script.write_text(f'#!/bin/sh\nexec env -i {given} {ctl} -n holdfast@localhost "$@"\n')
        script.chmod(0o755)
        return str(script)

    def ctl(self, *args: str) -> str:
        """
        Run rabbitmqctl against the node, and return what it said.
        """
        script = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
        ctl = str(script) if script.exists() else str(shutil.which("rabbitmqctl", path=SYSTEM_PATH))
        done = subprocess.run(
            [ctl, "-q", "-n", "holdfast@localhost", *args],
            env=self._environ(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=CTL_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _environ(self) -> dict[str, str]:
        ours = {key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "ERL_"))}
        # systemd's own tests would otherwise be told that the node is ready.
        ours.pop("NOTIFY_SOCKET", None)
        return ours | {
            "PATH": SYSTEM_PATH,
            # The Erlang cookie is made here.
            "HOME": str(self.folder / "home"),
            # The script then becomes the Erlang machine instead of waiting for it, so that our process id is the node's.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            # Not the system's /etc/rabbitmq/rabbitmq-env.conf.
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            # The name is only known to our own epmd.
            "RABBITMQ_NODENAME": "holdfast@localhost",
            "RABBITMQ_PID_FILE": str(self.folder / "rabbit.pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def _start_epmd(self) -> None:
        # Erlang would start one itself: as a daemon that outlives the node, and on all interfaces.
        binary = shutil.which("epmd", path=SYSTEM_PATH)
        assert binary is not None, "epmd is not installed (it comes with Erlang)"
        command = [binary, "-port", str(self._epmd_port), "-address", "127.0.0.1"]
        self._epmd = keeper.keep(command, folder=self.folder, log=self.folder / "epmd.log")
        self._await_epmd()

    def _await_epmd(self) -> None:
        until = time.monotonic() + REDIS_START_SECONDS_MAX
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self._epmd_port), timeout=1).close()
            except OSError:
                time.sleep(LOOK_SECONDS)
            else:
                return
        raise RuntimeError(f"epmd did not answer: {(self.folder / 'epmd.log').read_text()}")

    def _stop_epmd(self) -> None:
        if self._epmd is not None:
            self._epmd.stop()
            self._epmd = None


def redis_client(url: str, **options: Any) -> redis.Redis:
    """
    Return redis-py's own client of a server, or of a cluster: what looks at it beside Holdfast.
    """
    if not url.startswith("redis+cluster://"):
        return redis.Redis.from_url(url, **options)
    first = url.replace("+cluster", "", 1).split(",")[0]
    return cast("redis.Redis", redis.RedisCluster.from_url(first, **options))


class ClusterNode(RedisServer):
    """
    One server of a cluster. Redis wants a second port of it, which the tests choose too.
    """

    def __init__(self, folder: Path, **config: str | int) -> None:
        super().__init__(folder, **config)
        (bus,) = free_ports(1)
        self.config |= {
            "cluster-enabled": "yes",
            "cluster-port": bus,
            "cluster-config-file": "nodes.conf",
            "repl-diskless-sync-delay": 0,
        }

    @property
    def announced(self) -> int:
        """
        The port at which clients are told to find it.
        """
        return int(self.config.get("cluster-announce-port", self.port))

    @property
    def bus(self) -> int:
        """
        The port on which the servers of the cluster talk to each other.
        """
        return int(self.config["cluster-port"])


class RedisCluster:
    """
    A Redis Cluster: three primaries, each with as many replicas as wanted, all slots covered.
    """

    def __init__(
        self, folder: Path, *, replicas: int = 1, node_timeout_ms: int = 60_000, **config: str | int
    ) -> None:
        # Longer than a busy machine lets a process stand still: where it is not the point, no server may be given up.
        self.folder = folder
        self.nodes = [
            ClusterNode(folder / f"node-{number}", **{"cluster_node_timeout": node_timeout_ms} | config)
            for number in range(3 * (1 + replicas))
        ]
        self.primaries, self.replicas = self.nodes[:3], self.nodes[3:]
        self._made = False

    def announce(self, ports: Sequence[int]) -> None:
        """
        Have the servers, which do not run yet, say that they are at these ports.
        """
        for node, port in zip(self.nodes, ports, strict=True):
            node.config["cluster-announce-port"] = port

    @property
    def url(self) -> str:
        """
        What clients are told: two of the servers, of which one may be away.
        """
        return f"redis+cluster://127.0.0.1:{self.nodes[0].announced},127.0.0.1:{self.nodes[1].announced}"

    def start(self) -> Self:
        """
        Start all, join them at the first time, and wait until the cluster takes writes.
        """
        for node in self.nodes:
            node.start()
        if not self._made:
            self._make()
            self._made = True
        self.await_ok()
        return self

    def _make(self) -> None:
        step = 16_384 // 3
        for index, node in enumerate(self.primaries):
            first, last = index * step, 16_383 if index == 2 else (index + 1) * step - 1
            with node.client() as client:
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", index + 1)
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
        with self.nodes[0].client() as client:
            for node in self.nodes[1:]:
                client.execute_command("CLUSTER MEET", "127.0.0.1", node.port, node.bus)
        self._until(lambda: all(len(self._known(node)) == len(self.nodes) for node in self.nodes))
        for index, node in enumerate(self.replicas):
            with self.primaries[index % 3].client() as client:
                whose = client.execute_command("CLUSTER MYID")
            with node.client() as client:
                client.execute_command("CLUSTER REPLICATE", whose)

    @staticmethod
    def _known(node: ClusterNode) -> dict[str, object]:
        with node.client() as client:
            return dict(client.execute_command("CLUSTER NODES"))

    def await_ok(self, *, replicated: bool = True) -> None:
        """
        Wait until every server that runs finds all slots served, and every replica is up to date.
        """
        self._until(lambda: all(self._ok(node, replicated) for node in self.nodes if node.running))

    def _ok(self, node: ClusterNode, replicated: bool) -> bool:
        with node.client() as client:
            state = client.execute_command("CLUSTER INFO")
            replication = client.info("replication")
        if replicated and replication["role"] == "slave" and replication["master_link_status"] != "up":
            return False
        return bool(state["cluster_state"] == "ok" and int(state["cluster_slots_assigned"]) == 16_384)

    def _until(self, true: Callable[[], bool], seconds_max: float = 60.0) -> None:
        until = time.monotonic() + seconds_max
        while time.monotonic() < until:
            with contextlib.suppress(redis.RedisError, OSError):
                if true():
                    return
            time.sleep(LOOK_SECONDS)
        raise RuntimeError("the cluster did not come about in time")

    def primary_of(self, key: str) -> ClusterNode:
        """
        Return the server that has a key now.
        """
        slot = key_slot(key.encode())
        for node in self.nodes:
            if not node.running:
                continue
            with node.client() as client:
                found = client.execute_command("CLUSTER SLOTS")
                for first, last, primary, *_ in found:
                    if first <= slot <= last:
                        return next(one for one in self.nodes if one.announced == primary[1])
        raise RuntimeError("nobody has this key")

    def await_primary(self, key: str, *, other_than: ClusterNode) -> ClusterNode:
        """
        Wait until another server than the former primary has a key, and return that.
        """
        self._until(lambda: self.primary_of(key) is not other_than)
        return self.primary_of(key)

    def stop(self) -> None:
        """
        Stop all of it.
        """
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
