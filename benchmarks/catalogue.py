"""The catalogue: every benchmark that `make bench` runs, in the order of the page. A new one is listed here, and nowhere else.

A benchmark is a module with a click command `main` that takes --json, and --runs where it measures several times.
"""

from __future__ import annotations

from typing import NamedTuple


class Benchmark(NamedTuple):
    """One module, and how its rows are drawn."""

    name: str
    #: Draw the second column over the first, a line for each system; without, bars of rates and latencies.
    curve: tuple[str, str] | None = None
    #: What its command line is given, beside --json and --runs.
    arguments: tuple[str, ...] = ()
    #: Whether it is run once, however often others are.
    once: bool = False

    @property
    def module(self) -> str:
        """What Python runs; it may be a package that has a `__main__`."""
        return f"benchmarks.{self.name}"


CATALOGUE = (
    Benchmark("throughput"),
    Benchmark("latency"),
    Benchmark("process"),
    Benchmark("limit"),
    Benchmark("timers"),
    Benchmark("replay"),
    Benchmark("recovery"),
    Benchmark("projection"),
    Benchmark("memory"),
    Benchmark("scaling"),
    Benchmark("durability"),
    # Sizes are measured in turn within each of its rounds already.
    Benchmark("growth", once=True),
    Benchmark("tracing"),
)

#: Where other systems are measured, those that are asked for.
RIVALS = "rivals"


def chosen(only: str, rivals: str) -> list[Benchmark]:
    """Return the benchmarks with these names, all where none is named, and what measures the other systems that were asked for."""
    names = [name for name in only.replace(",", " ").split() if name]
    unknown = set(names) - {benchmark.name for benchmark in CATALOGUE}
    if unknown:
        message = (
            f"there is no benchmark {min(unknown)!r}; there are: {', '.join(one.name for one in CATALOGUE)}"
        )
        raise LookupError(message)
    found = [benchmark for benchmark in CATALOGUE if not names or benchmark.name in names]
    systems = ",".join(rivals.replace(",", " ").split())
    return found + ([Benchmark(RIVALS, arguments=("--with", systems))] if systems else [])
