"""`holdfast rewrap`: have every data key wrapped with the master key of today."""

from __future__ import annotations

import click

from holdfast.actors import wiring
from holdfast.cli import output
from holdfast.cli.ending import DONE, FAILED, Failed
from holdfast.cli.installation import join
from holdfast.runtime.cipher import NOWHERE

JSON = """\b
--json prints: rewrapped, unchanged, failed (how many),
failures (the first of them: workflow, key, error).
"""
#: Failures that are named.
NAMED_MAX = 20


@click.command(short_help="Wrap data keys with the current master key.", epilog=JSON)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def rewrap(*, as_json: bool) -> int:
    """Wrap the data key of every instance with the first of the master keys, so that the others can be put away.

    No payload is touched, and workers go on meanwhile. Run it once all of them have the new key, and take the old one
    out of the settings when it says that nothing failed. Exit code 1 where something did.
    """
    counts = {"rewrapped": 0, "unchanged": 0, "failed": 0}
    failures: list[dict[str, str]] = []
    with join() as settings:
        if not settings.encrypted:
            raise Failed(
                "no keys are set: HOLDFAST_ENCRYPTION_KEYS, HOLDFAST_ENCRYPTION_KEYS_FILE or HOLDFAST_KEYRING"
            )
        cipher, close = wiring.open_cipher(settings)
        try:
            for partition in (NOWHERE.partition, *range(settings.partitions)):
                for ref, data in cipher.kept(partition):
                    try:
                        counts["rewrapped" if cipher.rewrap(ref, data) else "unchanged"] += 1
                    except (LookupError, ValueError) as error:
                        counts["failed"] += 1
                        failures.append({"workflow": ref.workflow, "key": ref.key, "error": str(error)})
        finally:
            close()
    if as_json:
        output.emit(counts | {"failures": failures[:NAMED_MAX]})
    else:
        for one in failures[:NAMED_MAX]:
            output.note(f"{one['workflow']}/{one['key']}: {one['error']}")
        told = ", ".join(f"{count:,} {what}" for what, count in counts.items())
        output.paper().print(output.text(told))
    return FAILED if failures else DONE
