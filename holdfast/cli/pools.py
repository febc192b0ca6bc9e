"""`holdfast pools`: who serves what, and what waits. No app is needed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import click

from holdfast.actors import wiring
from holdfast.actors.roster import Post, roster
from holdfast.cli import output
from holdfast.cli.installation import join, opened
from holdfast.runtime.clock import from_ms
from holdfast.runtime.ports import POOLS

JSON = """\b
--json prints one line per pool and partition: pool, partition, member, host,
pid, since (when the member started), waiting, more (whether more than these
wait), oldest (when the first of them began to wait).
What is not known, or nobody, is null.
\b
What waits: commands; effects that are not finished; timers that are due;
records that the slowest projection has not read.
"""


@click.command(short_help="Show who serves what, and what waits.", epilog=JSON)
@click.option("--pool", "wanted", type=click.Choice(POOLS), multiple=True, help="Only this pool.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def pools(wanted: tuple[str, ...], as_json: bool) -> None:
    """Show who serves each partition of each pool, since when, and how much waits there."""
    with join() as settings, opened(settings) as ports, output.waiting("looking at the pools"):
        transport = wiring.open_transport(settings)
        posts = roster(ports.backlog, ports.membership, transport, wanted or POOLS)
    if as_json:
        for post in posts:
            output.emit(_as_json(post))
        return
    columns = ("pool", "partitions", "member", "host", "pid", "since", "waiting", "for")
    output.paper().print(output.table(columns, _rows(posts)))
    for pool in dict.fromkeys(post.pool for post in posts if post.deserted):
        output.note(
            f"nobody serves the {pool} pool, and something waits for it: holdfast worker APP --pool {pool}"
        )


def _rows(posts: list[Post]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each partition; neighbours that one member serves, or nobody, and where nothing waits, share one."""

    def alike(post: Post) -> tuple[Any, ...]:
        return post.pool, post.member, post.partition if post.waiting else None

    for _, group in groupby(posts, alike):
        same = list(group)
        first, last = same[0], same[-1]
        span = str(first.partition) if first is last else f"{first.partition}-{last.partition}"
        member = first.member
        who = ("-", "", "", "")
        if member is not None:
            who = (member.id, member.host, str(member.pid), output.time(member.since))
        plus = "+" if first.more else ""
        waited = output.age(first.since_ms, first.now_ms) if first.since_ms else ""
        yield first.pool, span, *who, f"{first.waiting:,}{plus}", waited


def _as_json(post: Post) -> dict[str, Any]:
    member = post.member
    return {
        "pool": post.pool,
        "partition": post.partition,
        "member": member.id if member else None,
        "host": member.host if member else None,
        "pid": member.pid if member else None,
        "since": member.since if member else None,
        "waiting": post.waiting,
        "more": post.more,
        "oldest": from_ms(post.since_ms) if post.since_ms else None,
    }
