"""`wanflow plan`: what a run would do, without weights and without a GPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
from typer import Option

from wanflow.cli.options import Json, takes_request
from wanflow.cli.output import present
from wanflow.errors import InputError

if TYPE_CHECKING:
    from wanflow.session import Request


@takes_request
def plan(
    request: "Request",
    machine: Annotated[
        str | None, Option(metavar="NAME", help="Plan for a named machine, not for this one.")
    ] = None,
    *,
    trace: Annotated[
        Path | None, Option(metavar="FILE", help="Write the trace that a run would leave.")
    ] = None,
    force: Annotated[bool, Option("--force", help="Overwrite that trace.")] = False,
    sweep: Annotated[bool, Option("--sweep", help="One row a budget.")] = False,
    json: Json = False,
) -> int:
    """Plan GRAPH in the budget; needs no weights, no GPU."""
    from wanflow import session
    from wanflow.cli.render_plan import render

    request = attrs.evolve(request, machine=machine)
    if request.devices:
        return _on_several(request, json=json, one_alone=bool(trace) or sweep)
    planned = session.sweep(request) if sweep else session.plan(request)
    if trace is not None:
        session.predict(planned, trace, force=force)
    present(planned.report, lambda console: render(planned.report, request, console), json=json)
    if planned.problem is not None:
        raise planned.problem
    return 0


def _on_several(request: "Request", *, json: bool, one_alone: bool) -> int:
    """Plan for several devices that share one video."""
    from wanflow import session
    from wanflow.cli.render_ranks import render

    if one_alone:
        raise InputError(
            "--sweep and --trace are of one device's plan",
            hint="leave them out, or --devices",
            code="devices-and-sweep",
        )
    planned = session.plan_ranks(request)
    present(planned.report, lambda console: render(planned.report, console), json=json)
    if planned.problem is not None:
        raise planned.problem
    return 0
