"""`wanflow graph`: look at graph files without running them."""

from typing import Annotated

import attrs
import typer
from typer import Argument, Option

from wanflow.cli.options import Json
from wanflow.cli.output import say, say_json
from wanflow.cli.render_error import Failure, render
from wanflow.errors import InputError
from wanflow.terminal.safe import clean

app = typer.Typer(
    name="graph", help="Check and show graph files.", no_args_is_help=True, rich_markup_mode=None
)
Graph = Annotated[str, Argument(metavar="GRAPH", help="A path, or a shipped graph's name.")]
Graphs = Annotated[list[str], Argument(metavar="GRAPH...", help="Paths or shipped graphs' names.")]


@app.command()
def check(graphs: Graphs, *, json: Json = False) -> int:
    """Check graph files; tell all that is wrong in all of them."""
    checks = [_check(graph) for graph in graphs]
    wrong = [result.error for result in checks if result.error]
    if json:
        say_json({"ok": not wrong, "graphs": [result.as_dict() for result in checks]})
    else:
        for result in checks:
            if result.error is None:
                say(clean(f"ok: {result.file} ({result.stages} stage{'s'[: result.stages != 1]})"))
    if wrong:
        raise together(wrong)
    return 0


@app.command()
def show(
    graph: Graph,
    *,
    json: Json = False,
    mermaid: Annotated[bool, Option("--mermaid", help="As a Mermaid flowchart.")] = False,
) -> int:
    """Show a graph: its stages in running order, wires and parameters."""
    from wanflow.graph import as_mermaid, describe, load
    from wanflow.graph.show import as_text

    if json and mermaid:
        raise InputError("--json and --mermaid don't go together", code="usage")
    checked = load(graph)
    if json:
        say_json(describe(checked))
    else:
        say(as_mermaid(checked).rstrip("\n") if mermaid else as_text(checked))
    return 0


@app.command()
def schema() -> int:
    """Print the JSON Schema of graph files, for editors."""
    from wanflow.graph.schema import schema_text

    say(schema_text().rstrip("\n"))
    return 0


@attrs.frozen
class Check:
    """What came of checking one file."""

    file: str
    stages: int = 0
    error: InputError | None = None

    def as_dict(self) -> dict[str, object]:
        """Give the check as JSON data."""
        wrong = problems(self.error) if self.error else []
        return {
            "file": self.file,
            "ok": self.error is None,
            "stages": self.stages,
            "problems": wrong,
        }


def problems(error: InputError) -> list[object]:
    """List the problems of an error; one that is about no place in a file is one problem."""
    listed = error.detail.get("problems")
    if isinstance(listed, list):
        return listed
    return [{"code": error.code, "message": error.message, "hint": error.hint}]


def together(errors: list[InputError]) -> InputError:
    """Make one error of the errors of many files."""
    if len(errors) == 1:
        return errors[0]
    pages = [render(Failure.of(error), as_json=False) for error in errors]
    everything = [problem for error in errors for problem in problems(error)]
    message = f"{len(errors)} graphs are wrong"
    return InputError(
        "\n".join([*pages, message]),
        code=errors[0].code,
        detail={"message": message, "problems": everything},
    )


def _check(graph: str) -> Check:
    from wanflow.graph import load

    try:
        checked = load(graph)
    except InputError as error:
        return Check(graph, error=error)
    return Check(checked.source.file, len(checked.order))
