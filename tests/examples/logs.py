"""
Process logs for tests: written by hand where the form matters, built from traces where the content does.
"""

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lxml import etree

from examples.process_log.xes import Activity, Trace

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "http://www.xes-standard.org/"

_FIELDS = (
    ("activity", "string", "concept:name"),
    ("lifecycle", "string", "lifecycle:transition"),
    ("resource", "string", "org:resource"),
    ("at", "date", "time:timestamp"),
)

#: Everything that a log may have and nobody expects: 12 instances and 30 commands.
ODD = f"""<?xml version="1.0" encoding="UTF-8"?>
<!-- a comment before, <trace> and all -->
<log xes.version="1.0" xmlns="{NAMESPACE}">
  <extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
  <global scope="event"><string key="concept:name" value="UNKNOWN"/></global>
  <classifier name="Activity" keys="concept:name"/>
  <string key="concept:name" value="the log's own name"/>
  <trace>
    <string key="concept:name" value="plain"/>
    <event><string key="concept:name" value="late"/><date key="time:timestamp" value="2020-01-02T00:00:00+02:00"/></event>
    <event><string key="concept:name" value="early"/><date key="time:timestamp" value="2020-01-01T00:00:00Z"/></event>
    <event><string key="concept:name" value="late"/><date key="time:timestamp" value="2020-01-02T00:00:00+02:00"/></event>
    <event><string key="concept:name" value="late"/><date key="time:timestamp" value="2020-01-02T00:00:00+02:00"/></event>
  </trace>
  <trace>
    <string key="concept:name" value="plain"/>
    <event><string key="concept:name" value="of a namesake"/></event>
  </trace>
  <trace>
    <string key="concept:name" value="plain (2)"/>
    <event><string key="concept:name" value="of one who is called as the namesake might be"/></event>
  </trace>
  <trace>
    <event><string key="concept:name" value="of nobody"/><date key="time:timestamp" value="yesterday"/></event>
    <event><date key="time:timestamp" value="2020-01-01"/></event>
    <event/>
  </trace>
  <trace>
    <string key="concept:name" value="trace 4"/>
    <event><string key="concept:name" value="of one who is called as nobody might be"/></event>
  </trace>
  <trace>
    <string key="concept:name" value=""/>
    <event><string key="concept:name" value=""/><string key="org:resource" value=""/></event>
    <event><string key="concept:name"/></event>
  </trace>
  <trace><string key="concept:name" value="nothing ever happened"/></trace>
  <trace/>
  <trace>
    <string key="concept:name" value="{"long" * 200}"/>
    <event><string key="concept:name" value="first"/></event>
    <event><string key="concept:name" value="second"/></event>
  </trace>
  <trace>
    <string key="concept:name" value="{"long" * 200}"/>
    <event><string key="concept:name" value="{"much to do " * 1000}"/></event>
  </trace>
  <trace>
    <string key="concept:name" value="{{a}}:b/c%20*?[d]&#10;&#9;&quot;&amp;&lt;&gt;' ÅŸ中🦀&#x200B; "/>
    <event>
      <string key="concept:name" value="{{a}}:b/c%20*?[d]&#10;&#9;&quot;&amp;&lt;&gt;' ÅŸ中🦀&#x200B; "/>
      <string key="lifecycle:transition" value="中"/>
      <string key="org:resource" value="🦀"/>
      <date key="time:timestamp" value=" 2020-01-01T12:00:00.123456789+14:00 "/>
    </event>
  </trace>
  <trace>
    <event>
      <list key="team"><values><string key="concept:name" value="not the event's"/></values></list>
      <string key="concept:name" value="the event's"><string key="org:resource" value="not the event's"/></string>
    </event>
    <string key="concept:name" value="nested"><string key="concept:name" value="not the trace's"/></string>
    <list key="events"><event><string key="concept:name" value="no event"/></event><trace/></list>
    <event><int key="concept:name" value="7"/><string key="org:resource" value="Ann"/></event>
    <other:event xmlns:other="urn:other"><string key="concept:name" value="no event"/></other:event>
  </trace>
  <trace>
    <string key="concept:name" value="without time"/>
    {'<event><string key="concept:name" value="again"/><string key="lifecycle:transition" value="start"/></event>' * 10}
  </trace>
  <event><string key="concept:name" value="of no case"/></event>
  <event><string key="concept:name" value="of no case either"/></event>
</log>
<!-- a comment behind -->
"""
ODD_INSTANCES, ODD_COMMANDS = 12, 30


def event(activity: str | None = "Register", at: str | None = None, **others: str) -> Activity:
    """
    An event of which only what matters is said.
    """
    return Activity(activity, others.get("lifecycle"), others.get("resource"), at)


def xml(traces: Iterable[Trace], *, namespace: str | None = NAMESPACE, encoding: str = "UTF-8") -> bytes:
    """
    Return the traces as XES.
    """

    def tag(name: str) -> str:
        return etree.QName(namespace, name).text

    nsmap: Any = {None: namespace}  # the stubs do not know the default namespace
    log = etree.Element(tag("log"), nsmap=nsmap if namespace else None)
    for trace in traces:
        element = etree.SubElement(log, tag("trace"))
        if trace.name is not None:
            etree.SubElement(element, tag("string"), key="concept:name", value=trace.name)
        for one in trace.events:
            child = etree.SubElement(element, tag("event"))
            for field, kind, key in _FIELDS:
                value = getattr(one, field)
                if value is not None:
                    etree.SubElement(child, tag(kind), key=key, value=value)
    written: bytes = etree.tostring(log, xml_declaration=True, encoding=encoding, pretty_print=True)  # type: ignore[assignment]  # text only for encoding="unicode"
    return written


def write(path: Path, content: str | bytes, *, compressed: bool = False) -> Path:
    """
    Write a log, and return its path.
    """
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if compressed else data)
    return path
