"""What a trace records: one frozen record per kind of event. Times are ns since the run's start.

A simulated run and a real one write the same events. `resident_bytes` is what the tier holds
*after* the event, workspaces included, so the memory over time can be read off the events alone.
A field that was added later stands last and has a default, which older files are read with.
"""

from __future__ import annotations

from enum import StrEnum

import attrs

# No slots: to be frozen and have them, a record goes round its own lock for each field it sets,
# which takes twice as long, and a trace may hold millions.


class Verb(StrEnum):
    """The four transitions; the words are the same in code, trace, docs and CLI."""

    PLACE = "place"  # bytes come to a tier, from a lower one or newly made
    OFFLOAD = "offload"  # bytes go to a lower tier
    STREAM = "stream"  # weights come to a tier for one use only
    FREE = "free"  # bytes leave a tier


class Kind(StrEnum):
    """What is moved."""

    WEIGHTS = "weights"
    VALUE = "value"
    STATE = "state"
    WORKSPACE = "workspace"


@attrs.frozen(slots=False)
class Move:
    """A transition of one object. `source` is a tier name, or "" when the bytes were just made."""

    verb: Verb
    kind: Kind
    name: str
    stage: str
    step: int
    source: str
    tier: str
    nbytes: int
    resident_bytes: int
    began_ns: int
    ended_ns: int
    waited_ns: int
    cause: str


@attrs.frozen(slots=False)
class Transfer:
    """The bytes of a Move arrived: how long they were on their way, and how long compute waited.

    `queue` is what carried them: `disk`, or `copy` where they were on the host already.
    """

    name: str
    stage: str
    step: int
    queue: str
    tier: str
    nbytes: int
    began_ns: int
    ended_ns: int
    waited_ns: int


@attrs.frozen(slots=False)
class Workspace:
    """What one call needed while it ran: reserved, then released; `resident_bytes` at its peak.

    `slack_bytes` of `nbytes` are the allocator's: rounding and fragments.
    """

    name: str
    stage: str
    step: int
    tier: str
    nbytes: int
    resident_bytes: int
    began_ns: int
    ended_ns: int
    slack_bytes: int = 0


@attrs.frozen(slots=False)
class Step:
    """One turn of a repeating stage ended. `measured_peak_bytes` is 0 where nothing measures.

    `exchanging_ns` of it its calls stood still to exchange tensors with other ranks; 0 where nobody
    can tell.
    """

    stage: str
    index: int
    total: int
    began_ns: int
    ended_ns: int
    resident_bytes: int
    measured_peak_bytes: int
    exchanging_ns: int = 0


@attrs.frozen(slots=False)
class StageSpan:
    """A stage ended. Knobs in force are written `name=value`."""

    stage: str
    op: str
    began_ns: int
    ended_ns: int
    peak_bytes: int
    knobs: tuple[str, ...]


@attrs.frozen(slots=False)
class Memory:
    """Memory as somebody else counts it (`allocator`, `reserved`, `context`, `tracked`, `rss`).

    A card's allocator counts too how often it gave back what it held to ask again, and in vain.
    """

    source: str
    tier: str
    now_bytes: int
    peak_bytes: int
    at_ns: int
    alloc_retries: int = 0
    alloc_failures: int = 0


@attrs.frozen(slots=False)
class Note:
    """Something a reader should know: out of memory, a re-plan, a warning."""

    topic: str
    text: str
    at_ns: int


@attrs.frozen(slots=False)
class Preview:
    """A preview was made of the latents of a step: its files are in the run folder.

    So many `frames`, each of `width` times `height` latents, a pixel each.
    """

    stage: str
    step: int
    frames: int
    width: int
    height: int
    at_ns: int


@attrs.frozen(slots=False)
class FootprintRows:
    """A part of what the run was planned from, so that a trace can be planned again.

    Rows are JSON arrays; `section` says of what. A footprint at other knobs is another `variant`.
    """

    variant: int
    section: str
    rows: tuple[str, ...]


Event = Move | Transfer | Workspace | Step | StageSpan | Memory | Note | Preview | FootprintRows
