"""`wanflow scenarios`: plan or run what files of scenarios name, and hold it against them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from wanflow.cli.options import Json
from wanflow.cli.output import note, present
from wanflow.errors import DiffExceeded

if TYPE_CHECKING:
    from wanflow.session.scenarios.spec import Scenario

Names = list[str] | None


def scenarios(
    files: Annotated[list[Path], Argument(metavar="FILE...", help="YAML: docs/scenarios.md.")],
    only: Annotated[
        Names, Option(metavar="NAME", help="This one, and those it is compared with; repeatable.")
    ] = None,
    out: Annotated[
        Path | None, Option(metavar="DIR", help="Keep the run folders of those that are run.")
    ] = None,
    *,
    force: Annotated[bool, Option("--force", help="Use folders that hold something.")] = False,
    json: Json = False,
) -> int:
    """Plan or run the scenarios of files; exit 5 where one does not hold what it must."""
    from wanflow.cli.render_scenarios import render
    from wanflow.session.scenarios.play import chosen, play
    from wanflow.session.scenarios.reading import read_scenarios

    read = [chosen(read_scenarios(file).scenarios, tuple(only or ())) for file in files]
    count, begun = sum(map(len, read)), iter(range(1, 1 + sum(map(len, read))))

    def begins(scenario: "Scenario") -> None:
        if not json:
            did = "run" if scenario.runs else "plan"
            note(f"{next(begun)} of {count}: {did} {scenario.name}")

    results = [
        result
        for scenarios_of_file in read
        for result in play(scenarios_of_file, out=out, force=force, begins=begins)
    ]
    rows = [result.report for result in results]
    present(rows, lambda console: render(rows, console), json=json)
    broken = [str(row["scenario"]) for row in rows if not row["holds"]]
    if broken:
        raise DiffExceeded(
            f"{len(broken)} of {count} scenarios do not hold: {', '.join(broken)}",
            code="scenario-broken",
            detail={"scenarios": broken},
        )
    return 0
