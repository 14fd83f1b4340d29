"""The page's own files: every word in both languages, nothing inline, nothing from elsewhere."""

import json
import re
from pathlib import Path

import pytest

import wanflow.watch
from wanflow.watch.page_app import _STATIC

PAGE = Path(wanflow.watch.__file__).parent / "page"
SCRIPTS = sorted(PAGE.glob("*.js"))
WORDS = dict(
    re.findall(
        r"^  (?:\"?)([a-z_ ]+?)(?:\"?): (\[.*\]),$", (PAGE / "words.js").read_text(), re.MULTILINE
    )
)


def test_every_file_is_served() -> None:
    """Those that are there, and `index.html` as the page."""
    assert {path.name for path in PAGE.iterdir()} == {"index.html", *_STATIC}


class TestWords:
    """One table."""

    def test_in_both_languages(self) -> None:
        """With the same numbers in them."""
        assert len(WORDS) > 80
        for key, pair in WORDS.items():
            english, chinese = json.loads(pair)
            assert sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", chinese)), (
                key
            )
            if re.search("[a-z]", re.sub(r"{\w+}", "", english)):
                assert re.search("[\u4e00-\u9fff]", chinese), key

    def test_all_that_are_said_are_there(self) -> None:
        """And none is there that nobody says."""
        texts = {path.name: path.read_text() for path in SCRIPTS if path.name != "words.js"}
        said = {key for text in texts.values() for key in re.findall(r'say\("([^"]+)"', text)}
        said |= {key for text in texts.values() for key in re.findall(r'connected\("(\w+)"', text)}
        made = {"state": ("running", "done", "failed", "interrupted", "killed", "waiting")}
        said |= {f"state_{name}" for name in made["state"]}
        said |= {f"view_{name}" for name in ("summary", "stages", "timeline", "peak", "check")}
        said |= {f"{name}_stage" for name in ("done", "open", "not started")}
        said |= {"weights", "state", "value", "workspace", "slack", "other", "cut", "damaged"}
        said |= {"refused", "lost"}
        assert said == set(WORDS)


class TestSafe:
    """What the policy of the page relies on."""

    @pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
    def test_scripts_make_text(self, path) -> None:
        """No markup is made of strings, nothing is evaluated, no attribute handles events."""
        text = path.read_text()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(", text
        )
        assert not re.search(r"srcdoc|javascript:|\.style\b|setAttribute\(\"on", text)

    @pytest.mark.parametrize("path", sorted(PAGE.iterdir()), ids=lambda path: path.name)
    def test_nothing_from_elsewhere(self, path) -> None:
        """No address but names of namespaces."""
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]|url\(|@import", text)

    def test_nothing_inline(self) -> None:
        """Neither a script nor a style nor a handler."""
        text = (PAGE / "index.html").read_text()
        assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", text)
