"""
Keep one command running for exactly as long as the process that asked for it lives, however that process ends.

    owner ── starts ──> keeper ── starts ──> command
      │                 │    └─ stops it when the owner is gone, or when told to (SIGTERM)
      └─ dies           └─ dies: the kernel sends SIGTERM to the command

A small process in between is the one arrangement that survives everything we can do to it:

- an exit handler does not run when the owner is killed with SIGKILL;
- asking the kernel for a signal at the parent's death (PR_SET_PDEATHSIG) fires when the *thread* that forked ends, so
  only a single-threaded parent may use it. The keeper is one; the owner seldom is;
- a pipe whose closing tells of the owner's death is inherited by every process that the owner forks.

So the keeper watches its owner through a pidfd (or, where there is none, by asking who its parent is), and
PR_SET_PDEATHSIG guards against the death of the keeper itself.

A lock file may be named. It is held by the keeper and by the command, not by the owner, until the last of them is gone:
who gets the lock knows that nothing runs there.

This file is also run as a script, by path and without site-packages, so it imports nothing but the standard library.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

#: How long a command may take to end after SIGTERM before it is killed.
GRACE_SECONDS = 20.0
#: How often to look for the owner where the kernel cannot tell of its death.
LOOK_SECONDS = 0.5
#: What the keeper reports instead of a process id when somebody else holds the lock.
BUSY = "busy"

PR_SET_PDEATHSIG = 1


class Kept:
    """
    A command that runs, seen from its owner.
    """

    def __init__(self, keeper: subprocess.Popen[bytes], pid: int) -> None:
        self._keeper = keeper
        #: The process id of the command itself.
        self.pid = pid

    def alive(self) -> bool:
        """
        Say whether the command still runs.
        """
        return self._keeper.poll() is None

    def stop(self) -> None:
        """
        End the command with SIGTERM, or with SIGKILL if it does not heed that, and wait until it is gone.
        """
        self._keeper.terminate()
        try:
            self._keeper.wait(GRACE_SECONDS + 10)
        except subprocess.TimeoutExpired:
            # The keeper itself is stuck (stopped, perhaps). Its end makes the kernel end the command.
            self.kill()

    def kill(self) -> None:
        """
        End the command with SIGKILL, as a crash would, and wait until it is gone.
        """
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        try:
            self._keeper.wait(10)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()


def keep(
    command: Sequence[str],
    *,
    folder: Path,
    log: Path,
    lock: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Kept | None:
    """
    Start `command` in `folder`, its output appended to `log`, and keep it for as long as this process lives.

    Returns None when somebody else holds `lock`.

    Raises:
        OSError: the command cannot be started; the reason is in `log` too.
    """
    script = str(Path(__file__).resolve())
    with log.open("ab") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", script, str(os.getpid()), str(lock or ""), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            cwd=folder,
            env=env,
            start_new_session=True,  # Ctrl-C at the owner's terminal is for the owner
        )
    assert keeper.stdout is not None  # noqa: S101 - it is a pipe, as asked for above
    with keeper.stdout as report:
        said = report.readline().decode().strip()
    if said.isdecimal():
        return Kept(keeper, int(said))
    keeper.wait()
    if said == BUSY:
        return None
    raise OSError(said or f"{command[0]} could not be started")


def _main(owner: int, lock: str, command: Sequence[str]) -> int:
    """
    Be the keeper.
    """
    held: IO[bytes] | None = None
    if lock:
        held = Path(lock).open("ab")  # noqa: SIM115 - open until this process ends; that is the point of it
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(BUSY, flush=True)  # noqa: T201 - this is how the keeper answers
            return 0

    told, tell = os.pipe()
    for end in (told, tell):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(tell)
    stop_wanted = False

    def note(number: int, _frame: FrameType | None) -> None:
        nonlocal stop_wanted
        stop_wanted = stop_wanted or number != signal.SIGCHLD

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, note)

    poll = select.poll()
    poll.register(told, select.POLLIN)
    owner_fd = _watch(owner)
    if owner_fd is not None:
        poll.register(owner_fd, select.POLLIN)

    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            pass_fds=[held.fileno()] if held else [],
            preexec_fn=_end_with(os.getpid()),  # noqa: PLW1509 - safe: this process has one thread
        )
    except OSError as error:
        print(error, flush=True)  # noqa: T201
        return 1
    print(child.pid, flush=True)  # noqa: T201
    # The owner reads one line and goes its way.
    os.dup2(2, 1)

    timeout_ms = None if owner_fd is not None else LOOK_SECONDS * 1000
    owner_gone = False
    while child.poll() is None:
        # Asked before the first wait as well: the owner may have died before we could watch it.
        if stop_wanted or owner_gone or os.getppid() != owner:
            _end(child)
            break
        ready = {fd for fd, _ in poll.poll(timeout_ms)}
        owner_gone = owner_fd in ready
        if told in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(told, 4096)
    return int(abs(child.returncode))


def _watch(owner: int) -> int | None:
    """
    Return a descriptor that becomes readable when the owner is gone; None where there is no such thing.
    """
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(owner)
    except OSError:
        # Already gone (asking for the parent will say so), or an old kernel or a container forbids it.
        return None


def _end_with(keeper: int) -> Callable[[], None] | None:
    """
    Return what the new process calls before it becomes the command, so that it cannot outlive the keeper.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask_the_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != keeper:  # it died before we could ask
            os._exit(1)

    return ask_the_kernel


def _end(child: subprocess.Popen[bytes]) -> None:
    """
    End the command: politely, then not.
    """
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


if __name__ == "__main__":
    sys.exit(_main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
