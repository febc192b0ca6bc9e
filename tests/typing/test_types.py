"""
The face is typed: what should pass does, and every mistake is found.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

#: The first run of mypy has no cache: it takes a minute or two on a busy machine.
pytestmark = pytest.mark.timeout(600)

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
IGNORE = re.compile(r"  # type: ignore\[(?P<codes>[\w,-]+)\]")

#: A file, a line and what kind of mistake is on it.
Mistake = tuple[str, int, str]


def expected() -> Iterator[Mistake]:
    """
    Yield the mistakes that refused.py says it makes.
    """
    for number, line in enumerate((HERE / "refused.py").read_text().splitlines(), 1):
        found = IGNORE.search(line)
        if found:
            yield from (("bare.py", number, code) for code in found["codes"].split(","))


@pytest.fixture(name="found", scope="module")
def _found(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> set[Mistake]:
    """
    What strict mypy finds in the files here, and in a copy of refused.py that asks for no mercy.
    """
    bare = tmp_path_factory.mktemp("types") / "bare.py"
    bare.write_text(IGNORE.sub("", (HERE / "refused.py").read_text()))
    cache = pytestconfig.cache.mkdir("mypy")
    files = [str(HERE / "held.py"), str(HERE / "refused.py"), str(bare)]
    options = [
        "--strict",
        "--follow-imports=silent",
        "--no-pretty",
        "--no-error-summary",
        f"--cache-dir={cache}",
    ]

    run = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "" == run.stderr
    lines = [line for line in run.stdout.splitlines() if ": note: " not in line]
    return {
        (Path(line[1]).name, int(line[2]), line[3])
        for line in (
            re.fullmatch(r"(.+?):(\d+): error: .*\[([\w-]+)\]", text) or pytest.fail(text) for text in lines
        )
    }


def test_what_should_pass_passes(found: set[Mistake]) -> None:
    """
    A workflow, a client, a scenario: all typed through and through, without a cast and without Any.
    """
    assert set() == {mistake for mistake in found if mistake[0] == "held.py"}


def test_every_mistake_is_found(found: set[Mistake]) -> None:
    """
    On its line, as what it is, and nothing else is complained about.
    """
    assert set(expected()) == {mistake for mistake in found if mistake[0] == "bare.py"}


def test_no_mistake_is_excused_for_nothing(found: set[Mistake]) -> None:
    """
    The file as it stands passes the project's own type check.
    """
    assert set() == {mistake for mistake in found if mistake[0] == "refused.py"}
