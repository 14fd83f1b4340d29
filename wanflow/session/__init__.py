"""Load, plan, run: the Python API, which the command line uses too.

An example::

    from wanflow.session import Request, plan, run

    request = Request("t2v-tiny", inputs={"prompt": "a red circle moves right"}, vram="24MiB")
    print(plan(request).report["predicted_peak_bytes"])
    print(run(request)["video"])
"""

from wanflow.session.planning.advise import advise
from wanflow.session.planning.explain import Explained, explain
from wanflow.session.planning.planned import Planned, plan, sweep
from wanflow.session.planning.replay import Replayed, replay
from wanflow.session.request import Request
from wanflow.session.running.run import resume, run
from wanflow.session.running.trace_header import write_prediction as predict

__all__ = [
    "Explained",
    "Planned",
    "Replayed",
    "Request",
    "advise",
    "explain",
    "plan",
    "predict",
    "replay",
    "resume",
    "run",
    "sweep",
]
