"""Run benchmarks one after another, each on servers of its own, and write the page: `make bench`.

    python -m benchmarks [--runs 3] [--only throughput,latency] [--with celery,dbos] [--page-only]

What was not run this time keeps its last figures, with their date and commit.
"""

from __future__ import annotations

import importlib
import subprocess
import sys

import click

from benchmarks import page, results
from benchmarks.catalogue import Benchmark, chosen
from benchmarks.ground import ROOT


def run(benchmark: Benchmark, runs: int) -> bool:
    """Run a benchmark in a process of its own and keep its rows; return whether it came to an end."""
    try:
        module = importlib.import_module(benchmark.module)
        if hasattr(module, "__path__"):
            module = importlib.import_module(f"{benchmark.module}.__main__")
        main: click.Command = module.main
    except ImportError as error:
        click.echo(f"{benchmark.name} cannot be run: {error}", err=True)
        return False
    command = [sys.executable, "-m", benchmark.module, "--json", *benchmark.arguments]
    if any(parameter.name == "runs" for parameter in main.params):
        command += ["--runs", str(1 if benchmark.once else runs)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        click.echo(f"{benchmark.name} failed; its figures are those of before", err=True)
        return False
    results.replace(done.stdout.splitlines(), benchmark.name)
    return True


def write_page() -> None:
    """Write the page and its drawings from what is kept."""
    from benchmarks.plots import draw

    found = results.read()
    drawn = {
        name: drawing
        for name, rows in found.items()
        if (drawing := draw(name, page.of(rows), results.FOLDER, page.benchmark_of(name).curve))
    }
    page.FILE.write_text(page.page(found, drawn), encoding="utf-8")


@click.command()
@click.option(
    "--runs", default=3, show_default=True, help="How often each is measured, in turn with its rivals."
)
@click.option("--only", default="", help="Names with commas between them; all without.")
@click.option(
    "--with",
    "rivals",
    default="",
    help="Other systems that benchmarks/rivals/ measures, with commas between them.",
)
@click.option("--page-only", is_flag=True, help="Write the page from the figures that are there.")
def main(runs: int, only: str, rivals: str, page_only: bool) -> None:
    """Run benchmarks, and write benchmarks/results/ and benchmarks/RESULTS.md."""
    try:
        wanted = [] if page_only else chosen(only, rivals)
    except LookupError as error:
        raise click.UsageError(str(error)) from error
    went_well = [run(benchmark, runs) for benchmark in wanted]
    write_page()
    if not all(went_well):
        sys.exit(1)


if __name__ == "__main__":
    main()
