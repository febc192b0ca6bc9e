"""Whether Redis is as the promises need it."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis

from holdfast.brokers.durability import shortfall_of
from holdfast.brokers.finding import Finding, error, numbers, ok, warning
from holdfast.brokers.keys import Keys
from holdfast.brokers.redis_cluster import ClusterClient
from holdfast.brokers.redis_dead_letters import RedisDeadLetters
from holdfast.brokers.redis_link import RedisLink, Spot, info, unavailable
from holdfast.brokers.redis_membership import RedisMembership
from holdfast.brokers.redis_namespace import stored_partitions
from holdfast.brokers.scripts import Script
from holdfast.runtime.config import Settings
from holdfast.runtime.errors import HoldfastError, SetupError
from holdfast.runtime.loss import KIND as LOST

#: The oldest Redis whose streams and scripts do what we ask of them.
OLDEST = (6, 2)
#: What `stream-node-max-bytes` should be: with the default of 4096 an idle instance costs 4.3 KB, with these 1 to
#: 1.25 KB. Less saves nothing more.
NODE_BYTES = (256, 512)
#: Shares of the memory limit.
MEMORY_HIGH, MEMORY_FULL = 0.75, 0.95
#: How far the clocks may be apart: `decide` is told this machine's time, timers fire by Redis's.
SKEW_S, SKEW_WRONG_S = 1.0, 60.0
#: The time is asked for so often: the quickest answer tells most.
CLOCK_TRIES = 5


def examine_server(
    settings: Settings, link: RedisLink, clock: Callable[[], float] = time.time
) -> Iterator[Finding]:
    """Yield what is to be said of the server, or of all primaries of a cluster; nothing after it cannot be asked."""
    if link.cluster is None:
        yield from _examine(settings, link, clock)
        return
    try:
        with unavailable(link):
            spots = link.spots()
            cluster = list(_cluster(settings, link.cluster, spots))
        found = [list(_examine(settings, spot, clock)) for spot in spots]
    except SetupError as refusal:
        yield error("redis", str(refusal), _remedy(refusal))
        return
    except HoldfastError as absence:
        yield error("redis", str(absence), "start the cluster, or correct HOLDFAST_REDIS_URL")
        return
    yield from _together([spot.where for spot in spots], found)
    yield from cluster


def _remedy(refusal: SetupError) -> str:
    if "TLS" in str(refusal) or "certificate" in str(refusal):
        return "correct the HOLDFAST_TLS_* settings or the URL; deploy/README.md has an example"
    return "correct HOLDFAST_REDIS_URL, or give that user the rights (ACL)"


def _together(where: Sequence[str], found: Sequence[Sequence[Finding]]) -> Iterator[Finding]:
    """Yield what all servers have in common once, and anything else with the server's name."""
    said = [
        [one._replace(found=one.found.replace(f" at {place}", "")) for one in findings]
        for place, findings in zip(where, found, strict=True)
    ]
    for check in dict.fromkeys(one.check for findings in said for one in findings):
        each = [[one for one in findings if one.check == check] for findings in said]
        if all(those == each[0] for those in each):
            yield from (one._replace(found=f"{one.found} ({len(where)} primaries)") for one in each[0])
            continue
        for place, those in zip(where, each, strict=True):
            yield from (one._replace(found=f"{place}: {one.found}") for one in those)


def _cluster(settings: Settings, cluster: ClusterClient, spots: Sequence[Spot]) -> Iterator[Finding]:
    """Yield whether a cluster is whole, and what it would do without one of its servers."""
    keys = Keys(settings.namespace)
    state: Any = cluster.execute_command("CLUSTER INFO")
    facts = state if isinstance(state, dict) else dict(line.split(":") for line in _text(state).split())
    shares = Counter(cluster.address_of(keys.feed(p)) for p in range(settings.partitions))
    count = ", ".join(str(shares[address]) for address in cluster.primaries())
    found = f"{len(cluster.primaries())} primaries have {count} of the {settings.partitions} partitions"
    if facts.get("cluster_state") != "ok":
        yield error("cluster", f"{found}; its state is {facts.get('cluster_state')}", "look at CLUSTER NODES")
    elif not all(int(info(spot, "replication").get("connected_slaves", 0)) for spot in spots):
        yield warning(
            "cluster",
            f"{found}; some have no replica: when one is gone, its partitions stand still until it is back",
            "give each primary a replica: redis-cli --cluster add-node ... --cluster-slave",
        )
    else:
        yield ok("cluster", f"{found}; each has a replica")


def _examine(settings: Settings, link: Spot, clock: Callable[[], float]) -> Iterator[Finding]:
    try:
        server = info(link, "server")
    except SetupError as refusal:
        yield error("redis", str(refusal), _remedy(refusal))
        return
    except HoldfastError as absence:
        yield error("redis", str(absence), "start Redis, or correct HOLDFAST_REDIS_URL")
        return
    yield _version(server, link.where)
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "role": lambda: _role(link),
        "durability": lambda: _durability(settings, link),
        "aof": lambda: _aof(link),
        "eviction": lambda: _eviction(link),
        "memory": lambda: _memory(link),
        "stream-nodes": lambda: _stream_nodes(link),
        "clock": lambda: _clocks(link, clock),
        "rights": lambda: _rights(settings, link),
    }
    for name, check in checks.items():
        try:
            yield from check()
        except HoldfastError as failure:
            yield error(name, str(failure), "let this user run INFO, CONFIG GET, COMMAND and TIME")


def _version(server: dict[str, Any], where: str) -> Finding:
    version = str(server.get("redis_version", "unknown"))
    name = (
        f"Valkey {server['valkey_version']} (as Redis {version})"
        if "valkey_version" in server
        else f"Redis {version}"
    )
    if numbers(version) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        return warning(
            "redis", f"{name} at {where} is older than {needed}", f"upgrade to Redis {needed} or newer"
        )
    return ok("redis", f"{name} at {where}")


def _role(link: Spot) -> Iterator[Finding]:
    replication = info(link, "replication")
    if replication.get("role") != "master":
        primary = f"{replication.get('master_host')}:{replication.get('master_port')}"
        yield error(
            "role", "a replica, which takes no writes", f"name the primary in HOLDFAST_REDIS_URL: {primary}"
        )


def _durability(settings: Settings, link: Spot) -> Iterator[Finding]:
    problem = shortfall_of(settings.durability, link)
    if problem:
        found, _, remedy = problem.partition(". ")
        yield error("durability", found, remedy)
    elif settings.durability.level == "memory":
        yield warning(
            "durability",
            "memory: a restart of Redis may lose everything",
            "set HOLDFAST_DURABILITY=everysec or more",
        )
    else:
        yield ok("durability", f"{settings.durability}, and the server gives it")


def _aof(link: Spot) -> Iterator[Finding]:
    persistence = info(link, "persistence")
    failed = [
        name
        for name in ("aof_last_write_status", "aof_last_bgrewrite_status")
        if str(persistence.get(name, "ok")) != "ok"
    ]
    if str(persistence.get("aof_enabled", "0")) == "1" and failed:
        yield error("aof", f"{' and '.join(failed)}: not ok", "look at Redis's log; is its disk full?")


def _eviction(link: Spot) -> Iterator[Finding]:
    policy = str(info(link, "memory").get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        yield ok("eviction", "noeviction")
    else:
        yield error(
            "eviction",
            f"maxmemory-policy {policy}: Redis may throw logs away when its memory is full",
            "run CONFIG SET maxmemory-policy noeviction and put it into redis.conf",
        )


def _memory(link: Spot) -> Iterator[Finding]:
    memory = info(link, "memory")
    used, limit = int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0))
    whose = "maxmemory"
    if not limit:
        limit, whose = (
            int(memory.get("total_system_memory", 0)),
            "the machine's memory (maxmemory is not set)",
        )
    if not limit:
        yield ok("memory", f"{_size(used)} used")
        return
    found = f"{_size(used)} used of {_size(limit)}, {whose}"
    remedy = "give Redis more memory before it is full: then commands wait, undecided"
    if used >= MEMORY_FULL * limit:
        yield error("memory", found, remedy)
    elif used >= MEMORY_HIGH * limit:
        yield warning("memory", found, remedy)
    else:
        yield ok("memory", found)


def _size(count: int) -> str:
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1024:.0f} KB"


def _stream_nodes(link: Spot) -> Iterator[Finding]:
    low, high = NODE_BYTES
    remedy = f"run CONFIG SET stream-node-max-bytes {low} and put it into redis.conf"
    with unavailable(link):
        try:
            found: Any = link.client.config_get("stream-node-max-bytes")
        except redis.exceptions.ResponseError:
            found = {}
    value = found.get("stream-node-max-bytes")
    if value is None:
        what = "the server does not tell; by default an idle instance costs 4.3 KB"
        yield warning("stream-nodes", what, f"have stream-node-max-bytes set to {low} to {high}")
    elif low <= int(value) <= high:
        yield ok("stream-nodes", f"stream-node-max-bytes {value}")
    else:
        cost = ": an idle instance costs 4.3 KB, not 1" if int(value) == 4096 else ""
        yield warning("stream-nodes", f"stream-node-max-bytes {value}{cost}", remedy)


#: How the scripts call Redis; and what calls the scripts.
_CALL = re.compile(r"redis\.p?call\('([A-Z]+)'")
_CALLERS = ("EVALSHA", "EVAL")
#: What follows the name of a command that is several.
_SUBCOMMANDS = {"XINFO": ("STREAM",)}


def _rights(settings: Settings, link: Spot) -> Iterator[Finding]:
    """Yield whether the user may run what the scripts do: one who may not would be stopped in the middle of one."""
    names = sorted({*_CALLERS, *(name for script in Script for name in _CALL.findall(script.source))})
    client, key = link.client, f"{{{settings.namespace}.0}}:doctor"
    with unavailable(link):
        try:
            user: Any = client.execute_command("ACL", "WHOAMI")
            known: Any = client.execute_command("COMMAND", "INFO", *names)
            # The number of arguments must be right; what they are is not looked at, but for the keys.
            facts = list(known.values()) if isinstance(known, dict) else known
            arities = {name: _arity(fact) for name, fact in zip(names, facts, strict=True)}
            pipe = client.pipeline(transaction=False)
            for name in names:
                words = (name, *_SUBCOMMANDS.get(name, ()), *[key] * (arities[name] - 1))
                pipe.execute_command("ACL", "DRYRUN", user, *words)
            answers = pipe.execute(raise_on_error=False)
        except redis.exceptions.ResponseError:
            remedy = f"let it run ACL WHOAMI and ACL DRYRUN, or see to it that it may run {', '.join(names)}"
            yield warning("rights", "whether this user may run all that is needed cannot be asked", remedy)
            return
    if any(isinstance(answer, redis.exceptions.ResponseError) for answer in answers):
        return  # a server older than 7.0, which cannot be asked
    missing = [name for name, answer in zip(names, answers, strict=True) if answer not in (b"OK", "OK")]
    if missing:
        found = f"user {_text(user)!r} may not run {', '.join(missing)} on keys of {settings.namespace!r}"
        rights = " ".join(f"+{name.lower()}" for name in missing)
        patterns = f"~{{{settings.namespace}}}:* ~{{{settings.namespace}.*}}:*"
        yield error("rights", found, f"run ACL SETUSER {_text(user)} {rights} {patterns}")
    else:
        yield ok("rights", f"user {_text(user)!r} may run all that is needed")


def _arity(fact: Any) -> int:
    """Return how many words a call has at least; clients give what the server says in one of two forms."""
    return abs(int(fact["arity"] if isinstance(fact, dict) else fact[1]))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _clocks(link: Spot, clock: Callable[[], float]) -> Iterator[Finding]:
    quickest, skew = float("inf"), 0.0
    for _ in range(CLOCK_TRIES):
        with unavailable(link):
            began, start = clock(), time.monotonic()
            seconds, microseconds = link.client.time()
            took = time.monotonic() - start
        if took < quickest:
            quickest, skew = took, seconds + microseconds / 1e6 - (began + took / 2)
    found = (
        f"Redis's clock is {abs(skew) * 1000:,.0f} ms {'ahead of' if skew >= 0 else 'behind'} this machine's"
    )
    remedy = "have both machines follow an NTP server"
    if abs(skew) >= SKEW_WRONG_S:
        yield error("clock", found, remedy)
    elif abs(skew) >= SKEW_S:
        yield warning("clock", found, remedy)
    else:
        yield ok("clock", found)


def examine_partitions(settings: Settings, link: RedisLink) -> tuple[Finding, int]:
    """Return what is to be said of the number of partitions, and how many there really are."""
    stored = stored_partitions(settings, link)
    if stored is None:
        return ok(
            "partitions", f"namespace {settings.namespace!r} is new; it will have {settings.partitions}"
        ), settings.partitions
    if stored == settings.partitions:
        return ok("partitions", f"{stored}, as namespace {settings.namespace!r} was created"), stored
    found = f"namespace {settings.namespace!r} was created with {stored}, but HOLDFAST_PARTITIONS is {settings.partitions}"
    remedy = f"set HOLDFAST_PARTITIONS={stored}, or use another HOLDFAST_NAMESPACE"
    return error("partitions", found, remedy), stored


def examine_work(settings: Settings, link: RedisLink, waiting: int) -> Iterator[Finding]:
    """Yield who lives and serves what, and what was given up on."""
    membership = RedisMembership(settings, link)
    members = {member.id: member for member in membership.living() if "command" in member.pools}
    served = Counter(owner for owner in membership.owners("command") if owner in members)
    if not members:
        found = f"nobody serves the command pool; {waiting:,} commands wait"
        yield warning("workers", found, "run `holdfast worker APP`, or `holdfast dev APP` at a desk")
    else:
        shares = ", ".join(f"process {member.pid}: {served[id_]}" for id_, member in members.items())
        left = settings.partitions - sum(served.values())
        found = f"{len(members)} serve the command pool ({shares} of {settings.partitions} partitions)"
        if left:
            yield warning(
                "workers", f"{found}; {left} are served by nobody", "look again: a handover takes a moment"
            )
        else:
            yield ok("workers", found)
    count = RedisDeadLetters(settings, link).count()
    if count:
        yield warning("dead-letters", f"{count:,}", "look at them with `holdfast dead list`")
        lost = RedisDeadLetters(settings, link).count(kind=LOST)
        if lost:
            found = f"{lost:,} times an instance was found to have lost records, after a failover or a power failure"
            yield error(
                "losses", found, "look at them with `holdfast dead list --kind lost`, and discard them"
            )
    else:
        yield ok("dead-letters", "none")


def examine_apps(settings: Settings, link: RedisLink, workflows: Sequence[str]) -> Iterator[Finding]:
    """Yield which members serve partitions in which commands of these workflows wait, since they do not know them."""
    membership = RedisMembership(settings, link)
    known = {name: set(workflows) - types for name, types in membership.known().items()}
    strange = {name: sorted(missing) for name, missing in known.items() if missing}
    if not strange:
        return
    owners, found = membership.owners("command"), []
    for member in membership.living():
        served = [str(partition) for partition, owner in enumerate(owners) if owner == member.id]
        if member.id in strange and served:
            missing = ", ".join(strange[member.id])
            found.append(
                f"process {member.pid} of another app or version serves partition {', '.join(served)} and does not know: {missing}"
            )
    if found:
        remedy = "give each app a HOLDFAST_NAMESPACE of its own; during a rolling deploy, wait until the old workers have gone"
        yield warning("apps", "; ".join(found), remedy)
