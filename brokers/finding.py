"""Finding: one thing that a checkup looked at, what it found there, and what to do unless that is well."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """How well something is. An error breaks a promise; a warning costs something, or may break one later."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(NamedTuple):
    """One thing that was looked at."""

    check: str
    status: Status
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    """Return that something is well."""
    return Finding(check, Status.OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Return that something should be otherwise."""
    return Finding(check, Status.WARNING, found, remedy)


def error(check: str, found: str, remedy: str) -> Finding:
    """Return that something must be otherwise."""
    return Finding(check, Status.ERROR, found, remedy)


def worst(findings: Iterable[Finding]) -> Status:
    """Return the worst status of all."""
    found = {finding.status for finding in findings}
    return next((status for status in (Status.ERROR, Status.WARNING) if status in found), Status.OK)


def numbers(version: str) -> tuple[int, ...]:
    """Return a version as numbers that can be compared; what is no number ends it."""
    parts: list[int] = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        parts.append(int(part))
    return tuple(parts)
