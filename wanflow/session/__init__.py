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
    from wanflow.session.batch.batch_folder import is_batch
    from wanflow.session.planning.advise import advise
    from wanflow.session.planning.explain import Explained, explain
    from wanflow.session.planning.planned import Planned, plan, sweep
    from wanflow.session.planning.replay import Replayed, replay
    from wanflow.session.ranks.explain import explain_ranks
    from wanflow.session.ranks.plan import RankedPlan, plan_ranks
    from wanflow.session.request import Request
    from wanflow.session.running.run import resume, run
    from wanflow.session.running.trace_header import write_prediction as predict

__all__ = [
    "Explained",
    "Planned",
    "RankedPlan",
    "Replayed",
    "Request",
    "advise",
    "explain",
    "explain_ranks",
    "is_batch",
    "plan",
    "plan_ranks",
    "predict",
    "replay",
    "resume",
    "run",
    "sweep",
]

# Where each name is: what runs loads PyTorch, what only plans may do without.
_HOMES = {
    "batch.batch_folder": ("is_batch",),
    "planning.advise": ("advise",),
    "planning.explain": ("Explained", "explain"),
    "planning.planned": ("Planned", "plan", "sweep"),
    "planning.replay": ("Replayed", "replay"),
    "ranks.explain": ("explain_ranks",),
    "ranks.plan": ("RankedPlan", "plan_ranks"),
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
