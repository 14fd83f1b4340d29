"""The record of a run: events, their file, and what can be told from it. No torch, no networkx.

`wanflow.trace.events` has the records, `wanflow.trace.views` the summary on a terminal (rich).
"""

from wanflow.trace.listing import EventFilter, event_dict, render_events
from wanflow.trace.reader import State, TraceFile, TraceReader, inspect, read
from wanflow.trace.summary import Summary, summarise, summarise_events
from wanflow.trace.writer import MemorySink, Tee, TraceSink, TraceWriter

__all__ = [
    "EventFilter",
    "MemorySink",
    "State",
    "Summary",
    "Tee",
    "TraceFile",
    "TraceReader",
    "TraceSink",
    "TraceWriter",
    "event_dict",
    "inspect",
    "read",
    "render_events",
    "summarise",
    "summarise_events",
]
