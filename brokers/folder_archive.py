"""An archive in a folder: what retention deletes, as lines of JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from holdfast.runtime.checks import said
from holdfast.runtime.errors import WorkflowError
from holdfast.runtime.retention import Archived


class FolderArchive:
    """Appends instances to files of a folder, one per workflow and month: `order-2026-01.jsonl`, a line each.

    An instance may be there twice, after a crash: the last line counts.
    """

    def __init__(self, folder: str | Path) -> None:
        given: Any = folder
        if not isinstance(given, str | Path):
            message = f'FolderArchive({said(given)}): it takes a folder, such as FolderArchive("archive")'
            raise WorkflowError(message)
        self._folder = Path(folder)

    def __call__(self, archived: Archived) -> None:
        """Append an instance, and return once the line is on the disk."""
        self._folder.mkdir(parents=True, exist_ok=True)
        last = archived.records[-1].at if archived.records else None
        month = f"{last:%Y-%m}" if last else "unknown"
        with (self._folder / f"{archived.workflow}-{month}.jsonl").open("ab") as file:
            file.write(line_of(archived) + b"\n")
            file.flush()
            os.fsync(file.fileno())


def line_of(archived: Archived) -> bytes:
    """Return an instance as one line of JSON."""
    values = {
        "workflow": archived.workflow,
        "key": archived.key,
        "run_state": archived.run_state,
        "state": archived.state,
        "records": archived.records,
    }
    return msgspec.json.encode(values, enc_hook=repr)
