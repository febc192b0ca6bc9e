"""Needs: which pools an app has work for."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.runtime.app import App

#: Pools that not every app has work for.
NEEDED: dict[str, Callable[[App], bool]] = {
    "effect": lambda app: any(definition.effect_classes for definition in app.definitions),
    "projection": lambda app: bool(app.projections),
}


def has_work(app: App, pool: str) -> bool:
    """Return whether an app has work for a pool."""
    return pool not in NEEDED or NEEDED[pool](app)
