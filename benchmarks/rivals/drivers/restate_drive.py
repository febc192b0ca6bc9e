"""Submits to Restate over its HTTP ingress: many connections in one event loop, no client library that costs time."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable

import post

INGRESS = int(os.environ["RIVAL_INGRESS_PORT"])
ADMIN = int(os.environ["RIVAL_ADMIN_PORT"])
CONNECTIONS = 64


class Line:
    """One HTTP/1.1 connection that stays open."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> Line:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def post(self, path: str, body: str = "", headers: str = "") -> bytes:
        """Post, and return the body of the answer."""
        kind = "content-type: application/json\r\n" if body else ""
        self._writer.write(
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{kind}{headers}content-length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        if b"transfer-encoding: chunked" in head.lower():
            answer = await self._chunks()
        else:
            answer = await self._reader.readexactly(length) if length else b""
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201", b"HTTP/1.1 202")):
            raise RuntimeError(f"{path}: {head.decode()}{answer.decode(errors='replace')}")
        return answer

    async def _chunks(self) -> bytes:
        found = b""
        while size := int(await self._reader.readline(), 16):
            found += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readline()
        return found

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class Driver:
    """A client of the ingress."""

    def increments(self, count: int, keys: int) -> dict[str, object]:
        """Submit increments over so many keys."""
        return asyncio.run(self._sent(lambda number: (f"/Counter/k{number % keys}/add/send", ""), count))

    def increments_answered(self, count: int) -> dict[str, object]:
        """Call one at a time."""
        return asyncio.run(self._timed(lambda _: ("/Counter/alone/add", ""), count))

    def processes(self, count: int) -> dict[str, object]:
        """Submit processes of three steps."""
        return asyncio.run(self._sent(lambda number: ("/Process/run/send", str(number)), count))

    def processes_answered(self, count: int) -> dict[str, object]:
        """Call one at a time."""
        return asyncio.run(self._timed(lambda number: ("/Process/run", str(number)), count))

    def timers(self, count: int, at: float) -> dict[str, object]:
        """Send delayed calls."""

        def one(number: int) -> tuple[str, str]:
            return f"/Alarm/a{number}/ring/send?delay={int((at - time.time()) * 1000)}ms", str(number)

        return asyncio.run(self._sent(one, count))

    def total(self) -> dict[str, object]:
        """Say what all counters add up to."""
        return asyncio.run(self._total())

    def register(self, port: int) -> dict[str, object]:
        """Tell Restate where the services are."""
        return asyncio.run(self._register(port))

    @staticmethod
    async def _register(port: int) -> dict[str, object]:
        line = await Line(ADMIN).open()
        body = json.dumps({"uri": f"http://127.0.0.1:{port}/", "force": True})
        await line.post("/deployments", body)
        line.close()
        return {}

    @staticmethod
    async def _total() -> dict[str, object]:
        line = await Line(ADMIN).open()
        query = "SELECT value_utf8 FROM state WHERE service_name = 'Counter' AND service_key LIKE 'k%'"
        said = json.loads(
            await line.post("/query", json.dumps({"query": query}), "accept: application/json\r\n")
        )
        line.close()
        return {"total": sum(int(row["value_utf8"]) for row in said["rows"])}

    @staticmethod
    async def _sent(one: Callable[[int], tuple[str, str]], count: int) -> dict[str, object]:
        lines = [await Line(INGRESS).open() for _ in range(min(CONNECTIONS, count))]
        numbers = iter(range(count))

        async def worker(line: Line) -> None:
            for number in numbers:
                await line.post(*one(number))

        began = time.time()
        await asyncio.gather(*(worker(line) for line in lines))
        ended = time.time()
        for line in lines:
            line.close()
        return {"began": began, "ended": ended}

    @staticmethod
    async def _timed(one: Callable[[int], tuple[str, str]], count: int) -> dict[str, object]:
        line = await Line(INGRESS).open()
        times = []
        for number in range(count):
            began = time.perf_counter()
            await line.post(*one(number))
            times.append((time.perf_counter() - began) * 1000)
        line.close()
        return {"times_ms": times}


if __name__ == "__main__":
    post.serve(Driver())
