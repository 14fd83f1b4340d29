"""`wanflow explain`: why a stage is planned as it is, and what would change it."""

from typing import TYPE_CHECKING, Annotated

import attrs
from typer import Argument, Option

from wanflow.cli.options import Json, takes_request
from wanflow.cli.output import present

if TYPE_CHECKING:
    from wanflow.session import Request


@takes_request
def explain(
    request: "Request",
    stage: Annotated[str, Argument(metavar="STAGE", help="A stage of the graph.")],
    machine: Annotated[
        str | None, Option(metavar="NAME", help="Plan for a named machine, not for this one.")
    ] = None,
    *,
    json: Json = False,
) -> int:
    """Say why the plan of a STAGE is what it is."""
    from wanflow import session
    from wanflow.cli.render_explain import render

    request = attrs.evolve(request, machine=machine)
    if request.devices:
        from wanflow.cli.render_ranks import render_explained

        shared = session.explain_ranks(request, stage)
        present(shared.report, lambda console: render_explained(shared.report, console), json=json)
        if shared.problem is not None:
            raise shared.problem
        return 0
    explained = session.explain(request, stage)
    present(explained.report, lambda console: render(explained.report, console), json=json)
    if explained.problem is not None:
        raise explained.problem
    return 0
