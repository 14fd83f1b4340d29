"""Write numbered events flat out until killed: argv is the path, and a limit in bytes or 0."""

import resource
import signal
import sys
from itertools import count

from wanflow.trace import TraceWriter
from wanflow.trace.events import Kind, Move, Verb

path, limit = sys.argv[1], int(sys.argv[2])
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
writer = TraceWriter(path, {"graph": "t2v-tiny"})
for n in range(1000) if limit else count():
    name = f"dit.blocks.{n % 40}"
    writer.emit(
        Move(Verb.STREAM, Kind.WEIGHTS, name, "denoise", n, "cpu", "cuda:0", 1, 1, n, n, 0, "next")
    )
writer.close("done", {})
print(writer.records, writer.problem, sep="\n")  # noqa: T201
