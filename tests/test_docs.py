"""The pages for people say what is there: snippets run, links lead somewhere, commands exist."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.exceptions import TyperException
from typer.main import get_command

from wanflow.cli.app import app
from wanflow.graph import describe, load, load_text

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
READMES = (ROOT / "README.md", ROOT / "README.zh.md")
# A page and the same in Chinese beside it.
TRANSLATED = (ROOT / "README.md", DOCS / "tutorial.md", DOCS / "commands.md")
OTHERS = ("CHANGELOG.md", "SECURITY.md", "benchmarks/README.md")
PAGES = (*READMES, *sorted(DOCS.glob("*.md")), *(ROOT / name for name in OTHERS))
# A file of the repository by its whole path, maybe with a pattern in it.
FILE = re.compile(r"`((?:tests|docs|scripts|benchmarks|wanflow|graphs)/[\w./*-]+\.(?:py|md|yaml))`")
# What may be Chinese in a block of code: remarks, and prompts.
SAID = re.compile(r' +# .*|(?<=--prompt ")[^"]*')
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# A word after `wanflow` at the start of a line of code, after `$ `, or after a backtick.
COMMAND = re.compile(
    r"(?:^[ ]*(?:\$ )?|`|next: |hint: )wanflow ([a-z]+)(?: ([a-z][a-z-]*))?", re.MULTILINE
)


def command_lines(page: Path) -> list[str]:
    """The lines of code that are commands, but for those with `[--option]` or `a|b` in them."""
    lines = "\n".join(parts(page)[1]).splitlines()
    bare = [re.split(" #| > ", line.strip().removeprefix("$ "))[0] for line in lines]
    commands = [line for line in bare if line.startswith("wanflow ")]
    return [line for line in commands if not re.search(r"\[--|\||   ", line)]


def parse(words: Sequence[str]) -> None:
    """Read a command line as the program does, and do nothing.

    Raises what that raises, and LookupError for a word that is no command.
    """
    command, rest = get_command(app), list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context("wanflow", rest)


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

    def test_files_exist(self, page) -> None:
        """Those that are named by their paths."""
        for name in FILE.findall(page.read_text()):
            assert any(ROOT.glob(name.rstrip("/"))), name

    def test_command_lines_are_taken(self, page) -> None:
        """Every whole one in a block of code: the command line knows its options."""
        for line in command_lines(page):
            try:
                parse(shlex.split(line)[1:])
            except (TyperException, LookupError) as error:
                pytest.fail(f"{line}: {error}")

    def test_commands_exist(self, page) -> None:
        """Every `wanflow ...` is a command, or a group and one of its commands."""
        assert not list(missing_commands(page.read_text()))


def parts(page: Path) -> tuple[list[str], list[str], list[str]]:
    """A page's headings by their levels, its blocks of code, its rows of tables by their widths."""
    text = page.read_text()
    blocks = re.findall(r"^```(?s:.*?)^```$|(?:^    \S.*\n)+", text, re.MULTILINE)
    prose = FENCED.sub("", text)
    headings = re.findall(r"^(#+) ", prose, re.MULTILINE)
    tables = [str(line.count(" | ")) for line in prose.splitlines() if line.startswith("|")]
    return headings, blocks, tables


def pages_linked(page: Path) -> set[str]:
    """The files and sites that a page leads to, Chinese pages by the names of the English."""
    links = LINK.findall(page.read_text())
    return {link.partition("#")[0].replace(".zh.md", ".md") for link in links}


def codes(page: Path) -> set[str]:
    """What stands in backticks outside blocks of code."""
    paragraphs = re.split(r"\n\s*\n", FENCED.sub("", page.read_text()))
    return {" ".join(code.split()) for text in paragraphs for code in re.findall("`([^`]+)`", text)}


@pytest.mark.parametrize("page", named(TRANSLATED))
class TestChinese:
    """README, tutorial and commands, in Chinese beside the English."""

    def test_structure_is_that_of_the_english(self, page) -> None:
        """The same headings, tables and blocks of code, byte for byte.

        Only remarks and prompts may be Chinese: the model reads both languages.
        """
        english, chinese = parts(page), parts(page.with_suffix(".zh.md"))
        assert chinese[0] == english[0]
        assert chinese[2] == english[2]
        bare = [[SAID.sub("", b) for b in blocks] for blocks in (english[1], chinese[1])]
        assert bare[1] == bare[0]

    def test_says_all_that_the_english_says(self, page) -> None:
        """Every option, key, file and command that the English names in backticks."""
        assert codes(page) - codes(page.with_suffix(".zh.md")) == set()

    def test_each_leads_to_the_other(self, page) -> None:
        """By the first link."""
        chinese = page.with_suffix(".zh.md")
        assert LINK.findall(page.read_text())[0] == chinese.name
        assert LINK.findall(chinese.read_text())[0] == page.name

    def test_links_lead_to_the_same_pages(self, page) -> None:
        """But for anchors, and Chinese pages for English ones."""
        english, chinese = (
            {
                link.partition("#")[0].replace(".zh.md", ".md")
                for link in LINK.findall(p.read_text())
            }
            for p in (page, page.with_suffix(".zh.md"))
        )
        assert english == chinese


class TestIndex:
    """docs/README.md, which says what to read when."""

    def test_has_every_page(self) -> None:
        """Once each, Chinese ones beside the English."""
        links = LINK.findall((DOCS / "README.md").read_text())
        pages = [link for link in links if not re.search("[/#]", link)]
        assert sorted(pages) == sorted(p.name for p in DOCS.glob("*.md") if p.name != "README.md")

    def test_is_found(self) -> None:
        """The README leads there."""
        for readme in READMES:
            assert "docs/README.md" in LINK.findall(readme.read_text()), readme


TESTED = re.compile(r"`(tests/[\w./]+\.py)((?:::\w+)*)`")


def security_rows() -> list[tuple[str, list[tuple[str, str]]]]:
    """What comes in, and the tests that are named for it, of each row of SECURITY.md."""
    lines = (ROOT / "SECURITY.md").read_text("utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|") and not line.startswith("|--")]
    cells = [row.strip("|").split("|") for row in rows if "| what comes in |" not in row]
    return [(row[0].strip(), TESTED.findall(row[-1])) for row in cells]


@pytest.mark.parametrize(
    ("danger", "tests"), [pytest.param(*row, id=row[0]) for row in security_rows()]
)
def test_every_danger_has_its_test(danger: str, tests: list[tuple[str, str]]) -> None:
    """A row names tests that are there: a class or a function in its file."""
    assert tests, danger
    for file, names in tests:
        found = ast.parse((ROOT / file).read_text("utf-8")).body
        for name in names.split("::")[1:]:
            (node,) = [node for node in found if getattr(node, "name", "") == name]
            assert isinstance(node, ast.ClassDef | ast.FunctionDef)
            found = node.body


def test_every_command_has_its_section() -> None:
    """In docs/commands.md, by its name."""
    headings = re.findall(
        r"^## `wanflow ([a-z]+)", (DOCS / "commands.md").read_text(), re.MULTILINE
    )
    assert sorted(headings) == sorted(get_command(app).commands)


def test_every_option_is_explained() -> None:
    """Each of every command stands in docs/commands.md."""
    text = (DOCS / "commands.md").read_text()
    for name, command in _leaves(get_command(app)):
        for options in ([*p.opts, *p.secondary_opts] for p in command.params):
            named = [option for option in options if option.startswith("--")]
            assert not named or any(re.search(rf"{o}(?![\w-])", text) for o in named), (name, named)


def _leaves(group: Any, name: str = "wanflow") -> Iterator[tuple[str, Any]]:
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


@pytest.mark.parametrize(
    "words", ["run t2v-tiny --never", "trace never x", "plan", "run x --seed y"]
)
def test_wrong_words_are_seen(words) -> None:
    """The reading of command lines finds what it is for."""
    with pytest.raises((TyperException, LookupError)):
        parse(words.split())


def test_absent_commands_are_seen() -> None:
    """The check finds what it is for."""
    text = (
        "`wanflow never`\n    wanflow trace never x\n$ wanflow plan t2v-tiny\nhint: wanflow never"
    )
    assert list(missing_commands(text)) == ["never", "trace never", "never"]
