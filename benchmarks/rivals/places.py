"""Where the rivals' own packages are: in folders that scripts/make-rival fills, never in the project's environment."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
DRIVERS = Path(__file__).parent / "drivers"
#: A folder for each rival, ignored by git.
RIVALS = ROOT / ".rivals"
#: scripts/make-rival makes it when all else is done, so that half an installation is none.
READY = ".ready"


def python_of(name: str, rivals: Path = RIVALS) -> Path:
    """Return the interpreter of a rival's environment."""
    return rivals / name / "venv" / "bin" / "python"


def not_installed(name: str, rivals: Path = RIVALS) -> str | None:
    """Say what to do where a rival's packages are not there; nothing where they are."""
    if (rivals / name / READY).exists() and python_of(name, rivals).exists():
        return None
    return f"its packages are not here; `scripts/make-rival {name}` installs them"
