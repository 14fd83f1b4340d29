"""The variables of the environment: one table, in the code and in the docs."""

import re
from pathlib import Path

import pytest

from wanflow import environment
from wanflow.environment import CHECK, MODELS, PROMPT_CACHE, VARIABLES, VRAM
from wanflow.errors import InputError
from wanflow.files.folders import PACKAGE
from wanflow.session import Request, plan

PAGE = Path(__file__).resolve().parent.parent / "docs" / "commands.md"


class TestValue:
    @pytest.mark.parametrize("variable", [VRAM, MODELS, CHECK, PROMPT_CACHE])
    def test_default(self, variable, monkeypatch):
        """Unset and empty are the same."""
        monkeypatch.delenv(variable.name, raising=False)
        assert variable.value == variable.default
        monkeypatch.setenv(variable.name, "")
        assert variable.value == variable.default

    @pytest.mark.parametrize(("variable", "hint"), [(CHECK, "0 or 1"), (PROMPT_CACHE, "on or off")])
    def test_refused(self, variable, hint, monkeypatch):
        """Exit 2 with what is allowed, before anything is planned."""
        monkeypatch.setenv(variable.name, "yes")
        with pytest.raises(InputError, match=f"^{variable.name}='yes'$") as caught:
            plan(Request("t2v-tiny", device="cpu"))
        assert (caught.value.exit_code, caught.value.hint) == (2, hint)


class TestTable:
    def test_is_that_of_the_page(self):
        """Each variable, what it is for, its default."""
        rows = re.findall(
            r"^\| `([A-Z_]+)` \| (.*) \| (?:`(.*)`)? ?\|$", PAGE.read_text(), re.MULTILINE
        )
        assert rows == [(v.name, v.about, v.default) for v in VARIABLES]

    def test_has_all_that_are_named(self):
        """Ours are asked for in one file, PyTorch's where they matter; no name is missing."""
        texts = {path: path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
        asking = [path.stem for path, text in texts.items() if re.search(r"environ\b|getenv", text)]
        names = {name for text in texts.values() for name in re.findall(r"WANFLOW_[A-Z_]+", text)}
        assert sorted(asking) == ["compiling", "environment", "heap", "kernels_here"]
        assert names == {v.name for v in VARIABLES if v.name.startswith("WANFLOW_")}

    def test_is_what_doctor_tells(self, monkeypatch):
        """Those that are set, and no other variable."""
        for name in ("HF_TOKEN", *(v.name for v in VARIABLES)):
            monkeypatch.setenv(name, name.lower())
        assert environment.in_force() == {v.name: v.name.lower() for v in VARIABLES}
