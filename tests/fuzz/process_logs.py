"""
Process logs: XES files, which are XML, compressed or not.
"""

import gzip
import os
import resource
import tempfile
from pathlib import Path

from examples.process_log.xes import LogError, read
from tests.fuzz.draw import Draw

_EVENT = b'<event><string key="concept:name" value="Register"/><date key="time:timestamp" value="2011-10-11T13:45:40+02:00"/></event>'
_LOG = b'<log><trace><string key="concept:name" value="A-7"/>' + _EVENT * 2 + b"</trace></log>"
_BOMB = (
    b'<!DOCTYPE log [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
    + b']><log><trace><string key="concept:name" value="&j;"/></trace></log>'
)
#: What a small file may make this process grow by.
_GROWTH_KB_MAX = 512 * 1024

SEEDS = [
    b"\x00" + _LOG,
    b"\x01" + _LOG,
    b"\x02\x20" + _LOG,
    b"\x00" + _BOMB,
    b"\x00" + b"<log>" + b"<trace>" * 1_000,
    b"\x00" + b'<log><trace><string key="concept:name" value="' + b"x" * 10_000 + b'"/></trace></log>',
    b"\x00" + b'<log xmlns="http://www.xes-standard.org/">' + _EVENT + b"</log>",
    b'\x00<!DOCTYPE log SYSTEM "file:///etc/passwd"><log/>',
]


def check(data: bytes) -> None:
    """
    A file is read to its end, or LogError says on one line why not; it does not make the process grow.
    """
    draw = Draw(data)
    kind = draw.below(3)
    if kind == 0:
        content = draw.rest()
    elif kind == 1:
        content = gzip.compress(draw.rest(), mtime=0)
    else:
        cut = draw.below(256)
        content = gzip.compress(draw.rest(), mtime=0)
        content = content[: max(2, len(content) - cut)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    handle, name = tempfile.mkstemp(suffix=".xes")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        for trace in read(Path(name)):
            assert trace.name is None or isinstance(trace.name, str)
            assert all(event.at is None or isinstance(event.at, str) for event in trace.events)
    except LogError as error:
        assert "\n" not in str(error)
    finally:
        Path(name).unlink()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _GROWTH_KB_MAX
