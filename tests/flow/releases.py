"""
Releases: the code of the last one, taken out of the project's own history, and workers of it and of this code.
"""

import contextlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from holdfast import Settings, connect
from holdfast.actors import wiring
from holdfast.brokers.keeper import keep
from holdfast.runtime.ports import POOLS, Member
from tests.chaos import mill
from tests.chaos.plant import idle
from tests.conftest import GIVEN
from tests.flow.house import ROOT
from tests.support.processes import gone

#: There is no release yet. This commit is the last one before losses, clusters, encryption and backpressure changed what
#: workers say to the servers, so it stands for one; the first tag takes its place.
LAST_RELEASE = "1b6afccbf11ae6d440cd1a981d689f813f5c6737"
#: What the package is made of: `holdfast` has links to the others.
PARTS = ("holdfast", "actors", "brokers", "runtime")

APP = "tests.chaos.mill:app"
#: Seconds that anything may take on a busy machine, and between two looks.
PATIENCE_S = 90.0
STEP_S = 0.1


def last_release(folder: Path) -> Path:
    """
    Put the code of the last release into a folder, and return what PYTHONPATH must name to have it.

    Skips the test where the history does not go back that far, as in a shallow clone or a source archive; in continuous
    integration a whole clone must have it.
    """
    made = _git("archive", "--format=tar", LAST_RELEASE, *PARTS)
    if made.returncode:
        whole = (ROOT / ".git").exists() and _git("rev-parse", "--is-shallow-repository").stdout != b"true\n"
        reason = f"no code of the last release, {LAST_RELEASE[:12]}: {made.stderr.decode().strip()}"
        if GIVEN["CI"] and whole:
            pytest.fail(reason)
        pytest.skip(reason)
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """
    Ask the repository that the tests are in, and none that happens to be around it.
    """
    command = ["git", "-C", str(ROOT), *arguments]
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(ROOT.parent), "LC_ALL": "C"}
    try:
        return subprocess.run(command, capture_output=True, check=False, env=environment)
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(command, 127, b"", str(error).encode())


def until(condition: Callable[[], bool]) -> None:
    """
    Wait until a condition holds, and look seldom: the machine is for the workers.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(STEP_S)


class Host:
    """
    `holdfast worker` of one version, as a service manager would run it.
    """

    def __init__(self, name: str, code: Path, folder: Path, settings: Settings) -> None:
        self.name = name
        usual = Settings().to_environment()
        # The last release refuses settings that it does not know, so only what is not as usual is set.
        own = {key: value for key, value in settings.to_environment().items() if usual.get(key) != value}
        self._environment = (
            os.environ
            | own
            | {
                # The app is in the tests, which stand behind the code of the version.
                "PYTHONPATH": os.pathsep.join([str(code), str(ROOT)]),
                mill.ENV_FOLDER: str(folder),
                mill.ENV_SIGNED: name,
            }
        )
        self._folder = folder
        # The first of a pair serves everything, the second nothing but commands: so in the middle of each change one
        # version decides what the other one has to carry out.
        pools = [] if int(name.rpartition("-")[2]) % 2 else ["--pool", "command"]
        command = [sys.executable, "-m", "holdfast.cli", "worker", APP, *pools]
        kept = keep(command, folder=folder, log=folder / "workers.log", env=self._environment)
        assert kept is not None
        self._kept = kept

    def code(self) -> Path:
        """
        Return where a process of this host has the package from.
        """
        command = [sys.executable, "-c", "import holdfast; print(holdfast.__file__)"]
        said = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, check=True, text=True
        )
        return Path(said.stdout.strip())

    def stop(self) -> None:
        """
        End it in good order.
        """
        self._kept.stop()


@dataclass(slots=True)
class Signed:
    """
    Which versions did what, by the lines that workers left: the versions are the paths of the package.
    """

    #: By kind of work and by mark.
    by: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    #: By host.
    pids: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def read(cls, folder: Path) -> Self:
        found = cls()
        # Behind the last end of a line there may be half of one.
        for line in (folder / "signed").read_text().split("\n")[:-1]:
            what, mark, host, code = line.split(" ", 3)
            if what == "began":
                found.pids[host].add(int(mark))
            found.by[what][mark].add(code)
        return found

    def alone(self, what: str, code: Path) -> set[str]:
        """
        Return the marks of what only this version did.
        """
        return {mark for mark, codes in self.by[what].items() if codes == {str(code)}}


class Fleet:
    """
    Hosts of both versions on one namespace.
    """

    def __init__(self, settings: Settings, folder: Path, codes: Mapping[str, Path]) -> None:
        self.settings = settings
        self.folder = folder
        #: By name of a version, what PYTHONPATH must name.
        self.codes = codes
        self.hosts: dict[str, Host] = {}
        self.client = connect(mill.app, settings)
        self._ports = wiring.open_ports(settings)
        self._transport = wiring.open_transport(settings)

    def close(self) -> None:
        for host in self.hosts.values():
            host.stop()
        until(lambda: not self.members())
        self._ports.close()
        self.client.close()

    # -- hosts

    def start(self, *names: str) -> None:
        """
        Start hosts, named `<version>-<number>`, and wait until they share the work with those that run already.
        """
        for name in names:
            self.hosts[name] = Host(name, self.codes[name.split("-")[0]], self.folder, self.settings)
        self.await_served()

    def stop(self, name: str) -> None:
        """
        End a host in good order, and wait until the others have its work.
        """
        self.hosts.pop(name).stop()
        self.await_served()

    def strike_down(self, name: str) -> None:
        """
        Kill a host's worker process with SIGKILL; its supervisor starts another.
        """
        own = Signed.read(self.folder).pids[name]
        found: list[Member] = []

        def there() -> bool:
            # Who was silent for a moment is believed dead.
            found[:] = [one for one in self.members() if one.pid in own]
            return bool(found)

        until(there)
        os.kill(found[0].pid, signal.SIGKILL)
        until(lambda: gone(found[0].pid))
        self.await_served()

    def members(self) -> list[Member]:
        return [member for member in self._ports.membership.living() if not gone(member.pid)]

    def await_served(self) -> None:
        """
        Wait until there is one worker for each host, and each of them serves something.
        """

        def served() -> bool:
            living = {member.id for member in self.members()}
            if len(living) != len(self.hosts):
                return False
            owners = [set(self._ports.membership.owners(pool)) for pool in POOLS]
            return all(pool <= living for pool in owners) and set.union(*owners) == living

        until(served)

    # -- what they do

    def decided(self) -> int:
        """
        Return how many records there are of all mills.
        """
        return sum(one.seq for one in self.client.instances(mill.Milling, limit=1_000).instances)

    def await_progress(self, more: int = 60) -> None:
        """
        Wait until so many more commands are decided.
        """
        enough = self.decided() + more
        until(lambda: self.decided() >= enough)

    def await_idle(self) -> None:
        """
        Wait until nothing is left to be done.
        """
        until(lambda: idle(self.client, self._ports, self._transport, self.settings.partitions))


@contextlib.contextmanager
def fleet(settings: Settings, folder: Path, codes: Mapping[str, Path]) -> Iterator[Fleet]:
    """
    Open a fleet, and end it; what its workers said is shown by pytest when the test failed.
    """
    it = Fleet(settings, folder, codes)
    try:
        yield it
    finally:
        sys.stderr.write("\n".join(said(folder).splitlines()[-150:]))
        it.close()


def said(folder: Path) -> str:
    """
    Return what the workers wrote into their log.
    """
    log = folder / "workers.log"
    return log.read_text(errors="replace") if log.exists() else ""
