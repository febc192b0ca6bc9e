"""
From what runs measured to what people read: medians, spread, ratios, targets, tables and lines.
"""

import importlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks import __main__ as everything
from benchmarks import ground, page, plots, report, results
from benchmarks.catalogue import CATALOGUE, Benchmark, chosen
from benchmarks.report import cell, columns_of, command, table
from benchmarks.rows import Row, compared, latencies, quantile, summary
from benchmarks.targets import TARGETS, judged


def test_both_places_have_what_benchmarks_need() -> None:
    """
    A benchmark gets rows and what makes them from the ground or from the report, as it likes.
    """
    for name in ("Meter", "Row", "latencies", "median", "quantile", "summary"):
        assert getattr(ground, name) is getattr(report, name)


def test_a_quantile_is_one_of_the_values() -> None:
    """
    Nothing is made up between two measurements.
    """
    assert [1, 51, 100, 100] == [quantile(range(1, 101), share) for share in (0, 0.5, 0.99, 1)]
    assert 7 == quantile([7], 0.99)


def test_times_become_a_row() -> None:
    """
    The middle, the slowest hundredth, and the slowest.
    """
    expected = {"system": "s", "what": "w", "p50_ms": 2.0, "p99_ms": 3.25, "max_ms": 3.25}

    assert expected == latencies("s", "w", [1.0, 2.0, 3.25])


def test_runs_become_medians_with_their_spread() -> None:
    """
    What is measured alike becomes one row; figures that only some runs have are of those.
    """
    rows: list[Row] = [
        {"system": "a", "what": "x", "per_second": 10},
        {"system": "b", "what": "x", "per_second": 5, "p50_ms": 1.5},
        {"system": "a", "what": "x", "per_second": 30},
        {"system": "b", "what": "x", "per_second": 7},
        {"system": "a", "what": "x", "per_second": 12, "ratio": 2.0},
    ]

    assert [
        {
            "system": "a",
            "what": "x",
            "per_second": 12,
            "ratio": 2.0,
            "per_second_min": 10,
            "per_second_max": 30,
            "ratio_min": 2.0,
            "ratio_max": 2.0,
        },
        {
            "system": "b",
            "what": "x",
            "per_second": 6,
            "p50_ms": 1.5,
            "per_second_min": 5,
            "per_second_max": 7,
            "p50_ms_min": 1.5,
            "p50_ms_max": 1.5,
        },
    ] == summary(rows)


def test_one_run_has_no_spread() -> None:
    """
    A row that was measured once stays as it is, whatever its columns are.
    """
    row: Row = {"store": "redis", "size": 3}

    assert [row] == summary([row])


def test_rates_are_compared_with_the_rival_of_the_same_load() -> None:
    """
    The rival itself, latencies, and what it was not measured at have no ratio.
    """
    rows: list[Row] = [
        {"system": "plain", "what": "x", "per_second": 4},
        {"system": "holdfast", "what": "x", "per_second": 10},
        {"system": "holdfast", "what": "y", "per_second": 10},
        {"system": "holdfast", "what": "x", "p50_ms": 1.0},
    ]

    assert [None, 2.5, None, None] == [row.get("ratio") for row in compared(rows, "plain")]


def test_targets_say_whether_they_are_reached() -> None:
    """
    A ratio must be at least so much, a latency below; a row with two targets that differ says both.
    """
    load = {"system": "holdfast", "what": "queue full"}
    alone = {"system": "holdfast", "what": "alone, publish to commit"}

    (enough, short) = judged("throughput", [load | {"ratio": 5.0}, load | {"ratio": 4.99}])
    (both, one) = judged("latency", [alone | {"p50_ms": 1, "p99_ms": 9}, alone | {"p50_ms": 2, "p99_ms": 9}])

    assert ("5x plain dramatiq", "yes") == (enough["target"], enough["reached"])
    assert "no" == short["reached"]
    assert ("p50 under 2 ms, p99 under 10 ms", "yes") == (both["target"], both["reached"])
    assert "no, yes" == one["reached"]
    assert [{"system": "dramatiq", "what": "queue full", "ratio": 9.0}] == judged(
        "throughput", [{"system": "dramatiq", "what": "queue full", "ratio": 9.0}]
    )


def test_targets_are_of_benchmarks_that_there_are() -> None:
    """
    A renamed benchmark takes its targets along.
    """
    assert {target.benchmark for target in TARGETS} <= {benchmark.name for benchmark in CATALOGUE}


def test_a_table_has_the_columns_of_all_rows_and_the_spread_in_brackets() -> None:
    """
    Rows with other columns leave cells empty, and the same load stands together.
    """
    rows: list[Row] = [
        {"system": "a", "what": "x", "per_second": 1234, "per_second_min": 1000, "per_second_max": 2000},
        {"system": "a", "what": "y", "p50_ms": 1.25, "redis_mb": 3, "redis_mb_min": 1, "redis_mb_max": 4},
        {"system": "b", "what": "x", "per_second": 7},
    ]
    console = Console(width=200, file=io.StringIO(), record=True)

    assert ["what", "system", "per_second", "p50_ms", "redis_mb"] == columns_of(rows)
    assert ["1,234 (1,000..2,000)", "", "3", "7"] == [
        cell(rows[0], "per_second"),
        cell(rows[0], "p50_ms"),
        cell(rows[1], "redis_mb"),
        cell(rows[2], "per_second"),
    ]
    console.print(table("some", rows))
    lines = [line.split() for line in console.export_text().splitlines() if "│" in line]
    assert [["x", "a"], ["x", "b"], ["y", "a"]] == [[line[1], line[3]] for line in lines]


@dataclass(frozen=True)
class Options:
    """
    What the benchmark under test can be told.
    """

    commands: int = 5
    store: str = "redis"


@pytest.mark.slow
def test_a_command_measures_as_often_as_it_is_told_and_prints_lines() -> None:
    """
    Options are those of the dataclass; the first line has the facts, each line names the benchmark.
    """
    seen: list[tuple[Options, dict[str, str]]] = []

    def measure(where: ground.Ground, options: Options) -> list[Row]:
        seen.append((options, dict(where.environment)))
        return [{"system": "holdfast", "what": "x", "per_second": len(seen)}]

    def after(rows: Sequence[Row]) -> list[Row]:
        return [row | {"verdict": f"{row['per_second']} in the middle"} for row in rows]

    main: click.Command = command("some", "How many?\n\nRun it.", measure, Options, after=after)
    done = CliRunner().invoke(
        main, ["--runs", "3", "--commands", "9", "--env", "OTEL_A=b=c", "--json"], catch_exceptions=False
    )

    facts, row = (json.loads(line) for line in done.stdout.splitlines())
    assert [(Options(9, "redis"), {"OTEL_A": "b=c"})] * 3 == seen
    assert ("some", "facts", "How many?", 3) == (
        *(facts[k] for k in ("benchmark", "what", "question", "runs")),
    )
    expected = {"system": "holdfast", "what": "x", "per_second": 2, "per_second_min": 1, "per_second_max": 3}
    assert {"benchmark": "some", **expected, "verdict": "2 in the middle"} == row


def test_results_replace_those_of_the_same_benchmark_alone(tmp_path: Path) -> None:
    """
    What was not run this time keeps its figures; rows that name no benchmark get the name that they were run by.
    A benchmark that shows its runs one by one has them summed up.
    """
    file = tmp_path / "results" / "results.jsonl"

    results.replace(['{"what": "old"}'], "one", file)
    results.replace(['{"what": "kept"}'], "two", file)
    results.replace(['{"what": "new", "took": 1}', '{"what": "new", "took": 3}'], "one", file)

    assert {
        "one": [{"benchmark": "one", "what": "new", "took": 2, "took_min": 1, "took_max": 3}],
        "two": [{"benchmark": "two", "what": "kept"}],
    } == results.read(file)


def test_the_page_has_facts_targets_and_a_table_for_each_benchmark() -> None:
    """
    Benchmarks stand in the order of the catalogue, those that it does not list behind them.
    """
    figures: Row = {
        "what": "queue full",
        "system": "holdfast",
        "ratio": 5.5,
    }
    found: dict[str, list[Row]] = {
        "celery": [{"what": "x", "system": "celery", "per_second": 2400}],
        "throughput": [
            {"what": "facts", "system": "environment", "machine": "M", "cores": 2, "question": "How many?"},
            figures,
        ],
    }

    text = page.page(found, {"throughput": results.FOLDER / "throughput.svg"})

    assert "| cores | 2 |" in text
    assert "| throughput | queue full | holdfast | 5x plain dramatiq | ratio 5.5 | yes |" in text
    assert "| recovery | restarted at once | holdfast | under 2 s | not measured |  |" in text
    assert "## throughput\n\nHow many?\n" in text
    assert "| what | system | ratio |\n| --- | --- | --- |\n| queue full | holdfast | 5.5 |\n" in text
    assert "![throughput](results/throughput.svg)" in text
    assert text.index("## throughput") < text.index("## celery")
    assert "| x | celery | 2,400 |" in text


@pytest.mark.parametrize(
    ("name", "row", "reached"),
    [
        ("replay", {"what": "whole log, 10,000 events", "worker_ms": 49.9}, "yes"),
        ("replay", {"what": "whole log, 10,000 events", "worker_ms": 50}, "no"),
        ("recovery", {"what": "restarted at once", "last_s": 1.99}, "yes"),
        ("recovery", {"what": "another machine's taken over", "last_s": 15.1}, "no"),
        ("memory", {"what": "running, 1 event", "bytes": 1_023}, "yes"),
        ("timers", {"what": "at one instant", "p99_ms": 501}, "no"),
        ("growth", {"what": "a turn", "ratio": 1.1}, None),
    ],
)
def test_every_kind_of_target_is_held_against(name: str, row: Row, reached: str | None) -> None:
    """
    Milliseconds, seconds, bytes and ratios; what nothing was asked of has no answer.
    """
    (found,) = judged(name, [{"system": "holdfast", **row}])

    assert reached == found.get("reached")


@pytest.mark.parametrize("benchmark", CATALOGUE, ids=lambda benchmark: benchmark.name)
def test_every_benchmark_says_where_and_how_often_it_measured(benchmark: Benchmark) -> None:
    """
    All have the one command line, which prints facts, medians and spread.
    """
    main = importlib.import_module(benchmark.module).main

    assert {"runs", "as_json", "env"} <= {parameter.name for parameter in main.params}
    assert main.name == benchmark.name
    assert main.help.endswith("?")


def test_only_what_is_asked_for_is_run() -> None:
    """
    All without a name, rivals only by name, and an unknown name is said.
    """
    assert [*CATALOGUE] == chosen("", "")
    assert [("benchmarks.latency", ()), ("benchmarks.rivals", ("--with", "celery,dbos"))] == [
        (one.module, one.arguments) for one in chosen("latency", "celery, dbos")
    ]
    refused = CliRunner().invoke(everything.main, ["--only", "latencies"])
    assert "there is no benchmark 'latencies'" in refused.output


def test_a_drawing_is_the_same_for_the_same_rows(tmp_path: Path) -> None:
    """
    A page that was made again differs only where figures do.
    """
    rows: list[Row] = [
        {"what": "x", "system": "dramatiq", "per_second": 5, "per_second_min": 4, "per_second_max": 7},
        {"what": "x", "system": "holdfast", "p50_ms": 1.5, "p99_ms": 3.0, "events": 10},
    ]

    files = [plots.draw("some", rows, tmp_path / str(number)) for number in range(2)]
    files.append(plots.draw("curve", rows, tmp_path, ("events", "p50_ms")))
    *drawn, curve = [file.read_text() for file in files if file is not None]

    assert drawn[0] == drawn[1]
    assert "x: dramatiq" in drawn[0]
    assert "holdfast" in curve
    assert plots.draw("none", [{"what": "x"}], tmp_path) is None
