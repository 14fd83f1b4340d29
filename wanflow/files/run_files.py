"""What the files of a run folder and of a batch's are called."""

from __future__ import annotations

RUN = "run.json"
REQUEST = "request.json"
PLAN = "plan.json"
TRACE = "trace.msgpack"
STATE = "state"
RANKS = "ranks"  # the folder of the ranks' own traces, while they run
BATCH = "batch.json"
BATCH_REQUEST = "batch-request.json"
