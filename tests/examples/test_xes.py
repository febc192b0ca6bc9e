"""
The reader of process logs: exact with what it can read, and clear about what it cannot.
"""

import gzip
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples.process_log.xes import Activity, LogError, Trace, read
from tests.examples.logs import NAMESPACE, ODD, ODD_COMMANDS, ODD_INSTANCES, ROOT, event, write, xml

ANY_TEXT = st.text(
    st.characters(
        exclude_categories=["Cs", "Cc"], include_characters="\t\n\r", exclude_characters="\ufffe\uffff"
    )
)
ACTIVITIES = st.builds(Activity, *[st.none() | ANY_TEXT] * 4)
TRACES = st.builds(Trace, st.none() | ANY_TEXT, st.lists(ACTIVITIES, max_size=5))

BOMB = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))

MEASURE = """
import re, sys
from pathlib import Path
from examples.process_log.xes import read
count = sum(len(trace.events) for trace in read(Path(sys.argv[1])))
print(count, re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def log_of(body: str, opening: str = "<log>") -> str:
    return f'<?xml version="1.0"?>{opening}{body}</log>'


def test_all_that_is_said_of_an_event_is_read(tmp_path: Path) -> None:
    """
    Activity, lifecycle, resource and timestamp come as the file has them.
    """
    expected = [
        Trace("A-7", [event("Register", "2011-10-11T13:45:40.276+02:00", lifecycle="start", resource="Ann")])
    ]

    path = write(tmp_path / "log.xes", xml(expected))

    assert expected == list(read(path))


@pytest.mark.parametrize("namespace", [NAMESPACE, None, "http://code.deckfour.org/xes"])
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16", "ISO-8859-1", "windows-1252"])
@pytest.mark.parametrize("compressed", [True, False])
def test_form_does_not_matter(
    tmp_path: Path, namespace: str | None, encoding: str, *, compressed: bool
) -> None:
    """
    The same log is read with any namespace or none, in any encoding, and compressed or not whatever it is called.
    """
    expected = [Trace("Ünder", [event("a"), event("é")]), Trace(None, []), Trace("中", [event("🦀")])]

    name = "log.xes" if compressed else "log.xes.gz"
    path = write(
        tmp_path / name, xml(expected, namespace=namespace, encoding=encoding), compressed=compressed
    )

    assert expected == list(read(path))


def test_a_prefix_does_not_matter(tmp_path: Path) -> None:
    """
    A namespace may also be written with a prefix.
    """
    path = write(
        tmp_path / "log.xes",
        f'<x:log xmlns:x="{NAMESPACE}"><x:trace><x:string key="concept:name" value="A"/>'
        '<x:event><x:string key="concept:name" value="a"/></x:event></x:trace></x:log>',
    )

    assert [Trace("A", [event("a")])] == list(read(path))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(TRACES, max_size=5), st.booleans(), st.sampled_from([NAMESPACE, None]))
def test_what_is_written_is_read(traces: list[Trace], compressed: bool, namespace: str | None) -> None:
    """
    Any traces with any text survive the way through a file.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "log.xes"), xml(traces, namespace=namespace), compressed=compressed)

        assert traces == list(read(path))


def test_odd_things_are_read(tmp_path: Path) -> None:
    """
    Of everything that a log may have, what belongs to the events is found, and what only looks like it is not.
    """
    traces = list(read(write(tmp_path / "odd.xes", ODD)))
    names = [trace.name for trace in traces]
    (nested,) = [trace for trace in traces if trace.name == "nested"]
    (weird,) = [trace for trace in traces if trace.name and trace.name.startswith("{a}")]

    assert [event("the event's"), event("7", resource="Ann")] == nested.events
    assert "{a}:b/c%20*?[d]\n\t\"&<>' ÅŸ中🦀\u200b " == weird.name == weird.events[0].activity
    assert " 2020-01-01T12:00:00.123456789+14:00 " == weird.events[0].at
    assert Trace(None, [event("of nobody", "yesterday"), event(None, "2020-01-01"), event(None)]) == traces[3]
    assert Trace("", [event("", resource=""), event(None)]) == traces[5]
    assert Trace(None, [event("of no case"), event("of no case either")]) == traces[-1]
    assert 3 == names.count(None)
    assert ODD_INSTANCES == sum(1 for trace in traces if trace.events)
    assert ODD_COMMANDS == sum(len(trace.events) for trace in traces)


def test_the_last_of_two_attributes_of_one_name_counts(tmp_path: Path) -> None:
    """
    XES forbids them; they are read as its own library reads them.
    """
    twice = '<string key="concept:name" value="a"/><string key="concept:name" value="b"/>'

    traces = read(write(tmp_path / "log.xes", log_of(f"<trace>{twice}<event>{twice}</event></trace>")))

    assert [Trace("b", [event("b")])] == list(traces)


def test_a_harmless_doctype_is_allowed(tmp_path: Path) -> None:
    """
    A document type is not loaded, and does not hinder.
    """
    path = write(
        tmp_path / "log.xes", '<!DOCTYPE log SYSTEM "nowhere.dtd"><log><trace><event/></trace></log>'
    )

    assert [Trace(None, [event(None)])] == list(read(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not well-formed XML"),
        (b"\0\1\2", "not well-formed XML"),
        (b"PK\3\4 a zip file", "not well-formed XML"),
        (b"case,activity\n1,Register\n", "not well-formed XML"),
        (b"<log><trace><event></trace></log>", "not well-formed XML"),
        (b"<log><trace><event/></trace>", "not well-formed XML"),
        (b"<log/><log/>", "not well-formed XML"),
        (b"<log><trace name='\xff'/></log>", "not well-formed XML"),
        (b"<?xml version='1.0' encoding='klingon'?><log/>", "not well-formed XML"),
        (b"<log><trace name='&nbsp;'/></log>", "not well-formed XML"),
        (b"<html><body/></html>", "begins with <html>"),
        (b"<html><log><trace><event/></trace></log></html>", "begins with <html>"),
        (b"<trace><event/></trace>", "begins with <trace>"),
        (b"<!DOCTYPE log [<!ENTITY a 'b'>]><log><trace x='&a;'/></log>", "declares entities"),
        (
            b"<!DOCTYPE log [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><log><trace>&a;</trace></log>",
            "entities",
        ),
        (f"<!DOCTYPE log [<!ENTITY e0 'ha'>{BOMB}]><log><trace x='&e9;'/></log>".encode(), "entit"),
        (b"<!DOCTYPE log SYSTEM 'nowhere.dtd'><log><trace x='&a;'/></log>", "does not declare"),
        (gzip.compress(b"<log><trace/></log>", mtime=0)[:-9], "cut off"),
        (gzip.compress(b"<log><trace/></log>", mtime=0) + b"more", "damaged"),
        (gzip.compress(b"<log><trace/></log>", mtime=0)[:10] + b"\xff" * 20, "damaged"),
        (b"\x1f\x8b", "cut off"),
        (b"\x1f\x8bnot gzip after all", "damaged"),
        (gzip.compress(b"no XML", mtime=0), "not well-formed XML"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """
    Each kind of bad file has an error of one line that says what is wrong.
    """
    path = write(tmp_path / "bad.xes.gz", content)

    with pytest.raises(LogError, match=said) as error:
        list(read(path))

    assert 1 == len(str(error.value).splitlines())


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    """
    A path without a file says so.
    """
    with pytest.raises(LogError, match="No such file"):
        list(read(tmp_path / "missing.xes"))
    with pytest.raises(LogError, match="Is a directory"):
        list(read(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the most memory that was used")
@pytest.mark.parametrize("opening", ["<log>", f'<log xmlns="{NAMESPACE}">'])
def test_memory_is_bounded(tmp_path: Path, opening: str) -> None:
    """
    A file of 200 MB, in one trace or in many, takes hardly more memory than what is kept of it.
    """
    an_event = (
        f'<event><string key="concept:name" value="a"/><string key="junk" value="{"x" * 2_000}"/></event>'
    )
    path = tmp_path / "large.xes.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write(f"{opening}<trace>")
        file.writelines(an_event for _ in range(50_000))
        file.write("</trace>")
        file.writelines(f"<trace>{an_event}</trace>" for _ in range(50_000))
        file.write("</log>")

    said = subprocess.run(
        [sys.executable, "-c", MEASURE, path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    count, kilobytes = map(int, said.stdout.split())

    assert 100_000 == count
    assert kilobytes < 120_000
