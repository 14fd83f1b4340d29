"""Load, plan, run: the Python API, which the command line uses too.

An example::

    from wanflow.session import Request, plan, run

    request = Request("t2v-tiny", inputs={"prompt": "a red circle moves right"}, vram="24MiB")
    print(plan(request).report["predicted_peak_bytes"])
    print(run(request)["video"])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# Where each name is: what runs loads PyTorch, what only plans may do without.
_HOMES = {
    "planning.advise": ("advise",),
    "planning.explain": ("Explained", "explain"),
    "planning.planned": ("Planned", "plan", "sweep"),
    "planning.replay": ("Replayed", "replay"),
    "request": ("Request",),
    "running.run": ("resume", "run"),
}


def __getattr__(name: str) -> Any:
    """Load what is asked for when it first is."""
    if name == "predict":
        from wanflow.session.running.trace_header import write_prediction

        return write_prediction
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
