"""The README's code is run as it stands: a page that does not work is worse than none."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(folder: Path, *arguments: str) -> str:
    """Run Python in a folder that holds the README's module, on the ports in memory."""
    environment = os.environ | {"HOLDFAST_REDIS_URL": "memory://", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def test_the_workflow_runs(tmp_path: Path) -> None:
    """The complete workflow of the README prints what its comments say."""
    (tmp_path / "shop.py").write_text(BLOCKS[0], encoding="utf-8")

    lines = run(tmp_path, "shop.py").splitlines()

    assert "Rejected(reason='that is more than is due', details={'due': 100})" == lines[0]
    assert "Accepted(seq=2, events=(OrderPaid(amount=100),))" == lines[1]
    assert "OrderState(amount=100, paid=100)" == lines[2]
    assert ["1", "2"] == [line.split()[0] for line in lines[3:]]


def test_the_workflow_is_tested_as_shown(tmp_path: Path) -> None:
    """The README's given, when, then holds, and fails when the promise is another."""
    (tmp_path / "shop.py").write_text(BLOCKS[0], encoding="utf-8")
    imports = "from shop import *\n"

    run(tmp_path, "-c", imports + BLOCKS[1])

    wrong = BLOCKS[1].replace("then(OrderPaid(100))", "then(OrderPaid(99))")
    done = subprocess.run(
        [sys.executable, "-c", imports + wrong],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "AssertionError" in done.stderr


def test_the_workflow_is_simulated_as_shown(tmp_path: Path) -> None:
    """The README's simulation runs, and finds that nothing is wrong on its bad days."""
    (tmp_path / "shop.py").write_text(BLOCKS[0], encoding="utf-8")

    report = run(tmp_path, "-c", "from shop import *\n" + BLOCKS[2])

    assert report.startswith("200 seeds in ")
    assert " crashes\n" in report


def test_links_lead_somewhere() -> None:
    """Every file that a page links to is there."""
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / "deploy").glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "brokers").glob("*.md"),
    ]
    missing = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert [] == missing
