"""Load, plan, run: the Python API, which the command line uses too.

An example::

    from wanflow.session import Request, plan, run

    request = Request("t2v-tiny", inputs={"prompt": "a red circle moves right"}, vram="24MiB")
    print(plan(request).report["predicted_peak_bytes"])
    print(run(request)["video"])
"""

from wanflow.session.advising import advise
from wanflow.session.explaining import Explained, explain
from wanflow.session.modules import plan_module
from wanflow.session.planning import Planned, plan, sweep
from wanflow.session.replaying import Replayed, replay
from wanflow.session.request import Request
from wanflow.session.running import resume, run
from wanflow.session.tracing import write_prediction as predict

__all__ = [
    "Explained",
    "Planned",
    "Replayed",
    "Request",
    "advise",
    "explain",
    "plan",
    "plan_module",
    "predict",
    "replay",
    "resume",
    "run",
    "sweep",
]
