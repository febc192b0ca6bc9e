"""
A line between a client and a server that can be cut.
"""

import contextlib
import socket
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

#: What goes through at a time.
CHUNK = 65_536


class Proxy:
    """
    Passes everything on between its own port and a server's, until it is told to cut.

    A cut is what a failing network does: both ends lose their connection, and what was on the line is gone.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._lines: list[socket.socket] = []
        self._down = False
        self._swallowing = False
        self._open = threading.Event()
        self._open.set()
        #: How many bytes more the clients may send before the line is cut by itself; None for no end.
        self._left: int | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """
        End every connection now; new ones are let through.
        """
        with self._lock:
            lines, self._lines = self._lines, []
            for line in lines:
                _end(line)
            # Before anything can come over a new one.
            self._swallowing = False

    def lead_to(self, port: int) -> None:
        """
        Lead new connections to another server; those that there are stay where they are.
        """
        self._server = (self._server[0], port)

    def swallow(self) -> None:
        """
        Let nothing that the server says through to the clients, until the next cut.
        """
        self._swallowing = True

    def hold(self) -> None:
        """
        Let what the server says wait on the line.
        """
        self._open.clear()

    def release(self) -> None:
        """
        Let what the server said through.
        """
        self._open.set()

    def cut_after(self, size: int) -> None:
        """
        End every connection once the clients have sent so many bytes more, and let new ones through.
        """
        with self._lock:
            self._left = size

    def down(self) -> None:
        """
        End every connection and let none through.
        """
        self._down = True
        self.cut()

    def up(self) -> None:
        """
        Let connections through again.
        """
        self._down = False

    @property
    def lines(self) -> int:
        """
        How many connections there are.
        """
        with self._lock:
            return len(self._lines) // 2

    def close(self) -> None:
        """
        End everything.
        """
        self._down = True
        self.release()
        _end(self._listener)
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                _end(client)
                continue
            with self._lock:
                self._lines += [client, server]
            if self._down:
                self.cut()
            for source, target, counted in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass_on, args=(source, target, counted), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if counted and self._used_up(len(data)):
                    self.cut()
                    break
                if not counted:
                    self._open.wait()
                if counted or not self._swallowing:
                    target.sendall(data)
        _end(source)
        _end(target)
        with self._lock:
            self._lines = [line for line in self._lines if line not in (source, target)]

    def _used_up(self, size: int) -> bool:
        with self._lock:
            if self._left is None:
                return False
            self._left -= size
            if self._left > 0:
                return False
            self._left = None
            return True


class Lines:
    """
    Several lines that fail together. They outlive whoever used them.
    """

    def __init__(self, proxies: Sequence[Proxy]) -> None:
        self._proxies = proxies

    def cut(self) -> None:
        """
        As `Proxy.cut`.
        """
        for proxy in self._proxies:
            proxy.cut()

    def down(self) -> None:
        """
        As `Proxy.down`.
        """
        for proxy in self._proxies:
            proxy.down()

    def up(self) -> None:
        """
        As `Proxy.up`.
        """
        for proxy in self._proxies:
            proxy.up()

    def close(self) -> None:
        """
        End the connections that there are.
        """
        self.up()
        self.cut()


def _end(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()
