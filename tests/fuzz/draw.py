"""
Draw: values of all kinds made of bytes, so that whoever finds bytes finds values.
"""

import struct
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

#: Characters that mean something to somebody: separators, wild cards, escapes, digits that are none, ends of text.
TRICKY = (
    *"{}:%/\\*?[]~|.-_@#&=+,;'\" \t\n\r\x00\x7f0a",
    "\u00b2",
    "\u0661",
    "\u0130",
    "\u2028",
    "\ufeff",
    "\U0001f980",
    "\ud800",
)


class Draw:
    """
    Takes values off the front of some bytes; when they are used up everything is nothing.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """
        How many bytes are not used up.
        """
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        """
        Return the next bytes, as many as there are.
        """
        taken = self._data[self._at : self._at + count]
        self._at += len(taken)
        return taken

    def rest(self) -> bytes:
        """
        Return all that is left.
        """
        return self.take(self.left)

    def below(self, end: int) -> int:
        """
        Return a whole number from 0 to below `end`.
        """
        size = 1 if end <= 256 else (end.bit_length() + 7) // 8
        return int.from_bytes(self.take(size), "big") % end

    def whether(self) -> bool:
        """
        Return yes or no.
        """
        return self.below(2) == 1

    def pick(self, choices: Sequence[T]) -> T:
        """
        Return one of several.
        """
        return choices[self.below(len(choices))]

    def number(self) -> int:
        """
        Return a whole number of any size and sign: near a power of two where numbers stop to fit.
        """
        power = self.pick((0, 3, 7, 8, 15, 16, 31, 32, 53, 62, 63, 64, 127))
        return (self.below(7) - 3 + (1 << power)) * self.pick((1, -1))

    def text(self, most: int = 64) -> str:
        """
        Return text of any characters, those that UTF-8 has no form for among them.
        """
        size = self.below(most + 1)
        match self.below(4):
            case 0:
                return self.take(size).decode("ascii", "replace")
            case 1:
                return self.take(size).decode("utf-8", "surrogateescape")
            case 2:
                return "".join(
                    map(chr, struct.unpack(f"<{size // 2}H", self.take(size // 2 * 2).ljust(size // 2 * 2)))
                )
            case _:
                return "".join(self.pick(TRICKY) for _ in range(min(size, self.left)))
