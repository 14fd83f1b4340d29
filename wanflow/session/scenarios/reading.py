"""A file of scenarios: YAML read as graph files are, every mistake told with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from wanflow.errors import InputError
from wanflow.graph.load import read_source, shipped_graphs
from wanflow.graph.problems import ProblemList
from wanflow.graph.reading.file import GRAPH_NAME
from wanflow.graph.reading.tables import Fields, KeyEntry, read_table
from wanflow.graph.reading.tree import read_tree
from wanflow.graph.source import Mark, Source
from wanflow.graph.wording import quoted, what_is
from wanflow.session.request import Request
from wanflow.session.scenarios.expectations import KINDS, Expectation
from wanflow.session.scenarios.keys import ALL_MODELS, NOTHING, ScenarioKeys, read_keys
from wanflow.session.scenarios.outcome import DOES_NOT_FIT, DONE
from wanflow.session.scenarios.spec import Scenario, ScenarioFile

VERSION = 1
KEYS = ("wanflow_scenarios", "about", "defaults", "scenarios")


def read_scenarios(path: Path) -> ScenarioFile:
    """Read a file; GraphError with every problem of it, InputError where it can't be read."""
    if not path.is_file():
        raise InputError(f"no file of scenarios {quoted(str(path))}", code="no-file")
    return of_source(read_source(path, "scenarios"))


def of_source(source: Source) -> ScenarioFile:
    """Read what a file holds; GraphError with every problem of it."""
    problems = ProblemList(source)
    root = read_tree(problems, "see docs/scenarios.md")
    fields = read_table(root, "a file of scenarios", problems, Mark(1, 1))
    about = ""
    scenarios: tuple[Scenario, ...] = ()
    if fields is not None:
        fields.check_keys(KEYS, required=("wanflow_scenarios", "scenarios"))
        _check_version(fields)
        about, scenarios = fields.text("about"), tuple(_scenarios(fields))
    if fields is not None and not problems.count:  # else a name may be there that was not read
        _check_expectations(scenarios, fields)
    problems.raise_any()
    return ScenarioFile(source, about, scenarios)


def _check_version(fields: Fields) -> None:
    version = fields.literal("wanflow_scenarios")
    if "wanflow_scenarios" in fields.entries and (version != VERSION or isinstance(version, bool)):
        place = fields.place("wanflow_scenarios")
        message = f"'wanflow_scenarios' is the version of the format, {VERSION}, not "
        fields.tell("bad-version", message + what_is(version), place, f"write {VERSION}")


def _scenarios(fields: Fields) -> Iterator[Scenario]:
    table, before = fields.table("scenarios", "'scenarios'"), fields.problems.count
    defaults = fields.table("defaults", "'defaults'")
    common = read_keys(defaults) if defaults else NOTHING
    if table is None or not table.entries:
        if "scenarios" in fields.entries and fields.problems.count == before:
            fields.tell("empty-section", "a file has a scenario", fields.place("scenarios"))
        return
    for name, entry in table:
        found = _scenario(name, entry, common, fields.problems)
        if found is not None:
            yield found


def _scenario(
    name: str, entry: KeyEntry, common: ScenarioKeys, problems: ProblemList
) -> Scenario | None:
    mark, what = entry.key.mark, f"scenario '{name}'"
    if not GRAPH_NAME.fullmatch(name):
        message = f"scenario name {quoted(name)} wants small letters, digits, '.', '_' and '-'"
        problems.add("bad-name", message, mark)
        return None
    fields = read_table(entry.value, what, problems, mark)
    if fields is None:
        return None
    asked = read_keys(fields).over(common)
    graph, runs = asked.words.get("graph"), asked.words.get("do") == "run"
    if graph is None:
        problems.add("missing-key", f"{what} has no 'graph'", mark)
        return None
    if runs and asked.words.get("machine") is not None:
        message = f"{what} is run, which happens where it happens, and names a machine"
        place = fields.place("machine" if "machine" in fields.entries else "do")
        problems.add("machine-in-run", message, place, suggestion="write 'do: plan'")
    return Scenario(
        name=name, about=asked.words.get("about") or "", runs=runs,
        request=_request(asked, _graph(graph, problems.source.path)),
        expects=tuple(_expected(asked.expects, mark, runs=runs)), mark=mark,
    )  # fmt: skip


def _graph(text: str, file: Path | None) -> str:
    """A shipped graph by name; else a path, relative to the file of scenarios."""
    return text if text in shipped_graphs() or file is None else str(file.parent / text)


def _request(asked: ScenarioKeys, graph: str) -> Request:
    """The request that the command line makes of the same words; videos hold no metadata."""
    words, flags = asked.words, asked.flags
    return Request(
        graph,
        dict(asked.tables.get("inputs", {})),
        vram=words.get("vram") or "auto",
        ram=words.get("ram"),
        device=words.get("device") or "auto",
        machine=words.get("machine"),
        weights=_options(asked, "weights"),
        precision=_options(asked, "precision"),
        settings=_options(asked, "settings"),
        pins=_options(asked, "pins"),
        exact=flags.get("exact", False),
        prompt_cache=flags.get("prompt_cache", True),
        probe=False,
        metadata=False,
    )


def _options(asked: ScenarioKeys, name: str) -> tuple[str, ...]:
    """`NAME=VALUE` texts as on the command line."""
    table = asked.tables.get(name, {})
    return tuple(v if k == ALL_MODELS else f"{k}={v}" for k, v in table.items())


def _expected(
    written: Mapping[str, Expectation], mark: Mark, *, runs: bool
) -> Iterator[Expectation]:
    """What is written, and what goes without saying: the exit code, and a run's budget."""
    if "exit" not in written:
        never = "fits" in written and written["fits"].wanted is False
        yield Expectation("exit", DOES_NOT_FIT if never else DONE, mark)
    code = written["exit"].wanted if "exit" in written else DONE
    if runs and code == DONE and not {"within_budget", "fits"} & written.keys():
        yield Expectation("within_budget", wanted=True, mark=mark)
    yield from written.values()


def _check_expectations(scenarios: tuple[Scenario, ...], fields: Fields) -> None:
    """Tell what nothing can hold: what is of runs in what is planned, of scenarios that aren't."""
    runs = {scenario.name: scenario.runs for scenario in scenarios}
    for scenario in scenarios:
        for expected in scenario.expects:
            _check_expectation(scenario, expected, runs, fields)


def _check_expectation(
    scenario: Scenario, expected: Expectation, runs: Mapping[str, bool], fields: Fields
) -> None:
    kind, what = KINDS[expected.kind], f"scenario '{scenario.name}'"
    if kind.of_runs and not scenario.runs:
        message = f"{what} is planned, '{expected.kind}' is of a run"
        fields.tell("expect-of-run", message, expected.mark, "write 'do: run'")
    if not expected.compares:
        return
    names = [name for name in runs if name != scenario.name]
    if expected.wanted not in names:
        message = f"{what}: '{expected.kind}' names no other scenario: {quoted(expected.wanted)}"
        fields.problems.add(
            "unknown-scenario", message, expected.mark, word=expected.wanted, names=names
        )
    elif runs[expected.wanted] != scenario.runs:
        message = f"{what} and '{expected.wanted}': one is planned, the other run"
        fields.tell("unlike-scenarios", message, expected.mark)
