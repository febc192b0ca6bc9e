"""The desk where a person deals with dead letters."""

from __future__ import annotations

from holdfast.runtime.dead_letter import DeadLetter
from holdfast.runtime.errors import UsageError
from holdfast.runtime.ports import DeadLetters, Publisher


class DeadLetterDesk:
    """Lists, shows, retries and discards dead letters."""

    def __init__(self, dead_letters: DeadLetters, publisher: Publisher, partitions: int) -> None:
        self._dead_letters = dead_letters
        self._publisher = publisher
        self._partitions = partitions

    def list(
        self,
        *,
        workflow: str | None = None,
        key: str | None = None,
        kind: str | None = None,
        limit: int = 100,
    ) -> list[DeadLetter]:
        """Return dead letters, newest first."""
        return self._dead_letters.list(workflow=workflow, key=key, kind=kind, limit=limit)

    def count(self, *, workflow: str | None = None, key: str | None = None, kind: str | None = None) -> int:
        """Return how many dead letters there are."""
        return self._dead_letters.count(workflow=workflow, key=key, kind=kind)

    def get(self, id: str) -> DeadLetter | None:  # noqa: A002 - the field's name
        """Return one dead letter, or None if there is none of this id."""
        return self._dead_letters.get(id)

    def retry(self, id: str) -> bool:  # noqa: A002 - the field's name
        """Send a dead letter's command again, byte for byte, and then forget the letter; False if there is none.

        A crash in between sends it twice: it still has its id, so it is decided once.

        Raises:
            UsageError: It is no command: a foreign message must be sent again by whoever can make it right.
            PublishFailed: It was not confirmed; the dead letter is still there.
        """
        letter = self._dead_letters.get(id)
        if letter is None:
            return False
        if letter.kind != "command" or not letter.command_id:
            message = f"dead letter {id} holds no command that could be sent again: {letter.error}"
            raise UsageError(message)
        self._publisher.publish(letter.partition, letter.body).result()
        return self._dead_letters.remove(id)

    def discard(self, id: str) -> bool:  # noqa: A002 - the field's name
        """Forget a dead letter; False if there is none."""
        return self._dead_letters.remove(id)
