"""
The shape of the house: what ships, and which way the arrows point.
"""

import ast
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: The folders that ship, and the import name of each.
LAYERS = {
    "holdfast": "holdfast",
    "runtime": "holdfast.runtime",
    "brokers": "holdfast.brokers",
    "actors": "holdfast.actors",
}

#: Arrows point one way: actors -> brokers -> runtime. Only the face sees them all.
FORBIDDEN = {
    "runtime": ["holdfast.actors", "holdfast.brokers", "holdfast.cli", "holdfast.demo"],
    "brokers": ["holdfast.actors", "holdfast.cli", "holdfast.demo", "dramatiq"],
    "actors": ["holdfast.cli", "holdfast.demo"],
}

#: What does I/O, or makes others do it: not for the heart.
OUTSIDE_WORLD = [
    "asyncio.streams",
    "dramatiq",
    "fcntl",
    "http",
    "pika",
    "redis",
    "select",
    "selectors",
    "socket",
    "sqlalchemy",
    "sqlite3",
    "ssl",
    "subprocess",
    "urllib.request",
]

#: The one file of the heart that may read the machine's clock; everybody else is handed one.
CLOCK = Path("runtime/clock.py")
CLOCK_CALLS = {
    *(f"time.{name}" for name in ("time", "time_ns", "monotonic", "monotonic_ns", "sleep")),
    *(f"datetime.{name}" for name in ("now", "utcnow", "today")),
    "date.today",
}


def files(layer: str, ending: str = ".py") -> Iterator[Path]:
    """
    Yield the layer's files, relative to the root; links to other layers are not followed.
    """
    for folder, folders, names in os.walk(ROOT / layer):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (Path(folder, name).relative_to(ROOT) for name in names if name.endswith(ending))


def imports(file: Path) -> Iterator[str]:
    """
    Yield the dotted names that a file imports, also those inside functions.

    `from a import b` may mean the module a.b, so it counts as both.
    """
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, packages: list[str]) -> bool:
    """
    Say whether a dotted name is one of the packages or inside one.
    """
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_every_folder_of_code_ships() -> None:
    """
    The packages that are listed are the packages that exist, each under its import name and from its folder.
    """
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    tree = {
        str(file.parent).replace(layer, name, 1).replace(os.sep, "."): file.parent.as_posix()
        for layer, name in LAYERS.items()
        for file in files(layer, "__init__.py")
    }

    assert tree == setuptools["package-dir"]
    assert sorted(tree) == setuptools["packages"]


def test_the_links_lead_to_the_layers() -> None:
    """
    An uninstalled checkout, editors and type checkers find the layers under the one name.
    """
    expected = {"runtime": "../runtime", "brokers": "../brokers", "actors": "../actors"}

    assert expected == {name: str((ROOT / "holdfast" / name).readlink()) for name in expected}


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_arrows_point_one_way(layer: str) -> None:
    """
    No layer imports one that is above it.
    """
    upward = [
        f"{file} imports {name}"
        for file in files(layer)
        for name in imports(file)
        if within(name, FORBIDDEN[layer])
    ]

    assert upward == []


def test_the_heart_does_no_io() -> None:
    """
    Nothing in runtime/ can reach a server, a socket or a process.
    """
    reached = [
        f"{file} imports {name}"
        for file in files("runtime")
        for name in imports(file)
        if within(name, OUTSIDE_WORLD)
    ]

    assert reached == []


def test_the_heart_is_handed_its_clock() -> None:
    """
    Only one file of runtime/ reads the machine's clock, and none sleeps.
    """
    read = [
        f"{file}:{node.lineno} calls {ast.unparse(node.func)}"
        for file in files("runtime")
        if file != CLOCK
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CLOCK_CALLS
    ]

    assert read == []
