"""Printable: the one place where text of unknown origin is made safe for a terminal or a log file.

Keys, messages and errors may hold anything. No character of them gets there that would move the cursor, change
colours, turn the direction of writing or begin a line that nobody wrote.
"""


def printable(text: str) -> str:
    """Return text with everything that is not simply shown, line breaks too, written as an escape."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def printable_lines(text: str) -> str:
    """Return text of several lines with everything but its line breaks as in `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def printable_bytes(data: bytes) -> str:
    r"""Return bytes as text where they are text, and as \xNN where they are not; a backslash is doubled."""
    return printable(data.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace"))
