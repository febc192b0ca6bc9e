"""
XES: the file format of process logs, read trace by trace.

    <log>
      <trace>
        <string key="concept:name" value="A-7"/>
        <event>
          <string key="concept:name" value="Register"/>
          <string key="lifecycle:transition" value="complete"/>
          <string key="org:resource" value="Ann"/>
          <date key="time:timestamp" value="2011-10-11T13:45:40.276+02:00"/>
        </event>
      </trace>
    </log>

The rules of this file:

1. Values are the file's own text. Nothing is trimmed, converted or made up: what is compared later must be exact.
2. Elements are freed as soon as they were read; what is kept is four pieces of text for each event.
3. A file that is not wholly readable is refused, never half read.
"""

import gzip
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
from lxml import etree

GZIP_MAGIC = b"\x1f\x8b"

_NAME = "concept:name"
_LIFECYCLE = "lifecycle:transition"
_RESOURCE = "org:resource"
_TIMESTAMP = "time:timestamp"

_UNDECLARED = frozenset(
    {etree.ErrorTypes.ERR_UNDECLARED_ENTITY, etree.ErrorTypes.WAR_UNDECLARED_ENTITY},
)


class LogError(Exception):
    """
    The file cannot be read as a process log; the message says why in one line.
    """


# Not tracked by the garbage collector: there may be millions, and none can be part of a cycle.
class Activity(msgspec.Struct, frozen=True, gc=False):
    """
    One event of a trace; None for what the file does not say.
    """

    activity: str | None
    lifecycle: str | None
    resource: str | None
    at: str | None


class Trace(msgspec.Struct, frozen=True):
    """
    One execution of the process: its name, and its events in the order of the file.
    """

    name: str | None
    events: list[Activity]


def read(path: Path) -> Iterator[Trace]:
    """
    Return the traces of a file, which may be compressed with gzip whatever it is called.

    Events that belong to no trace, which XES allows, come last, together as a trace without a name.

    Raises:
        LogError: it cannot be read, is cut off, is not well-formed, or is not XES.
    """
    try:
        with path.open("rb") as file:
            if file.peek(2).startswith(GZIP_MAGIC):
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield from _traces(unpacked)
            else:
                yield from _traces(file)
    except EOFError:
        raise LogError("the gzip file is cut off") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise LogError(f"the gzip file is damaged: {error}") from None
    except OSError as error:
        raise LogError(f"it cannot be read: {error.strerror or error}") from None
    except etree.XMLSyntaxError as error:
        raise LogError(f"it is not well-formed XML: {' '.join(str(error).split())}") from None


def _traces(file: IO[bytes] | gzip.GzipFile) -> Iterator[Trace]:
    parsing = etree.iterparse(
        file,
        events=("start", "end"),
        tag=("{*}log", "{*}trace", "{*}event"),
        # Neither files nor servers that a document names are for us to open.
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        # A log may be as large as it likes, with any length of text.
        huge_tree=True,
        remove_blank_text=True,
        remove_comments=True,
        remove_pis=True,
    )
    parts: _Parts | None = None
    events: list[Activity] = []
    loose: list[Activity] = []
    for moment, element in parsing:
        if parts is None:
            parts = _Parts(element)
        if moment == "start":
            continue
        parent = element.getparent()
        if parent is None:
            continue
        if element.tag == parts.event and parent.tag == parts.trace:
            events.append(_activity(element))
        elif element.tag == parts.event and parent is parts.log:
            loose.append(_activity(element))
        elif element.tag == parts.trace and parent is parts.log:
            yield Trace(_texts(element).get(_NAME), events)
            events = []
        else:
            continue  # a namesake, somewhere inside an attribute
        _free(element, parent)
    if parts is None:
        raise LogError(f"it is no XES: it begins with <{_name_of(parsing.root)[1]}>, not with <log>")
    if any(entry.type in _UNDECLARED for entry in parsing.error_log):
        raise LogError("it uses an entity that it does not declare")
    if loose:
        yield Trace(None, loose)


class _Parts:
    """
    The root, and what its parts are called in the namespace that it is in, if any.
    """

    def __init__(self, first: Any) -> None:
        root = first.getroottree().getroot()
        namespace, name = _name_of(root)
        if name != "log":
            raise LogError(f"it is no XES: it begins with <{name}>, not with <log>")
        # Older parsers let a few nested entities grow to gigabytes.
        doctype = root.getroottree().docinfo.internalDTD
        if doctype is not None and any(True for _ in doctype.iterentities()):
            raise LogError("it declares entities, which are not resolved here")
        self.log = root
        self.trace = f"{namespace}trace"
        self.event = f"{namespace}event"


def _name_of(element: Any) -> tuple[str, str]:
    """
    Return an element's namespace in braces, empty for none, and its name there.

    A name may have a prefix that stands for nothing; lxml's own QName takes that for no name at all.
    """
    namespace, brace, name = str(element.tag).rpartition("}")
    return namespace + brace, name


def _activity(event: Any) -> Activity:
    texts = _texts(event)
    return Activity(
        _shared(texts.get(_NAME)),
        _shared(texts.get(_LIFECYCLE)),
        _shared(texts.get(_RESOURCE)),
        texts.get(_TIMESTAMP),
    )


def _texts(element: Any) -> dict[str | None, str | None]:
    """
    Return an element's own attributes; those nested in them are about them, not about it.
    """
    return {child.get("key"): child.get("value") for child in element}


def _shared(text: str | None) -> str | None:
    """
    Return the one copy of a text that many events have.
    """
    return sys.intern(text) if text is not None else None


def _free(element: Any, parent: Any) -> None:
    """
    Empty an element, and remove its elder brother.

    The parser may still be at work behind the element itself. Attributes between the brothers stay, since a trace's
    name is one of them.
    """
    element.clear()
    brother = element.getprevious()
    if brother is not None and brother.tag == element.tag:
        parent.remove(brother)
