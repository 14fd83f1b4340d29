"""The pages for people say what is there: snippets run, links lead somewhere, commands exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from wanflow.cli.app import app
from wanflow.graph import describe, load, load_text

ROOT = Path(__file__).resolve().parent.parent
READMES = (ROOT / "README.md", ROOT / "README.zh.md")
PAGES = (*READMES, *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# A word after `wanflow` at the start of a line of code, after `$ `, or after a backtick.
COMMAND = re.compile(
    r"(?:^[ ]*(?:\$ )?|`|next: |hint: )wanflow ([a-z]+)(?: ([a-z]+))?", re.MULTILINE
)


def named(paths: tuple[Path, ...]) -> list[object]:
    """Make a case a page, called by its place in the repository."""
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths]


def block(path: Path, language: str) -> str:
    """Give the one fenced block of a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
    return found


def anchors(path: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing_commands(text: str) -> Iterator[str]:
    """Give the commands in *text* that the command line doesn't have."""
    commands = get_command(app).commands
    for name, verb in COMMAND.findall(text):
        if name not in commands:
            yield name
        elif verb and verb not in getattr(commands[name], "commands", {verb}):
            yield f"{name} {verb}"


@pytest.mark.parametrize("readme", named(READMES))
class TestReadme:
    def test_python_runs(self, readme, tmp_path, monkeypatch, capsys) -> None:
        """The plan fits, and the video is where the snippet says."""
        monkeypatch.chdir(tmp_path)
        exec(block(readme, "python"), {})  # noqa: S102

        planned, done = capsys.readouterr().out.splitlines()
        assert planned.startswith("True ")
        assert (tmp_path / done.split()[0]).is_file()

    def test_graph_is_the_shipped_one(self, readme) -> None:
        """All but the comments."""
        shown, shipped = describe(load_text(block(readme, "yaml"))), describe(load("t2v-1.3b"))
        assert {**shown, "file": ""} == {**shipped, "file": ""}

    def test_exit_codes_are_those_of_the_help(self, readme) -> None:
        """Each code of `--help` has its row."""
        codes = set(re.findall(r"^ +(\d+)  ", app.info.epilog, re.MULTILINE))
        assert codes - {"130"} <= set(re.findall(r"^\| (\d+) \|", readme.read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", named(PAGES))
class TestPages:
    def test_links_lead_somewhere(self, page) -> None:
        """Relative ones; the part after `#` is a heading there."""
        for link in LINK.findall(page.read_text()):
            if re.match(r"[a-z]+:", link):
                continue
            file, _, anchor = link.partition("#")
            target = (page.parent / file).resolve() if file else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link

    def test_commands_exist(self, page) -> None:
        """Every `wanflow ...` is a command, or a group and one of its commands."""
        assert not list(missing_commands(page.read_text()))


def test_absent_commands_are_seen() -> None:
    """The check finds what it is for."""
    text = (
        "`wanflow never`\n    wanflow trace never x\n$ wanflow plan t2v-tiny\nhint: wanflow never"
    )
    assert list(missing_commands(text)) == ["never", "trace never", "never"]
