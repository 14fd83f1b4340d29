"""Whether a run that goes on is to stop before the step that it is at already."""

from __future__ import annotations

from wanflow.errors import InputError
from wanflow.session.preparing.prepared import Prepared
from wanflow.session.running.saved_state import Boundary


def check_until(prepared: Prepared, saved: Boundary | None) -> None:
    """InputError where what is *saved* is as far as the step that it should stop after."""
    until = prepared.until
    if until is None or saved is None:
        return
    order = [stage.name for stage in prepared.graph.stages]
    if saved.stage not in order:
        return
    if (order.index(saved.stage), saved.step) >= (order.index(until.stage), until.step):
        raise InputError(
            f"--until {until}: {saved.stage} has done step {saved.step + 1} already",
            hint="name a later step, or leave it out",
            code="past-until",
        )
