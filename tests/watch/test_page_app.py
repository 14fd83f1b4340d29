"""What is served: files by the names that were found, texts as they are, never a way out."""

import json
import os
import re

import pytest
from PIL import Image

from tests.watch.conftest import HEADER, MIB, events, handles, write_run, write_trace
from wanflow.cli import main
from wanflow.trace.events import Kind, Move, Note, Step, Verb
from wanflow.watch import trace_pages
from wanflow.watch.tree import Tree

HOSTILE = "<img src=x onerror=alert(1)>\u202e\x1b]0;x\x07\"';--"
CLIMBS = (
    "..", "../run.json", "../../secret", "..%2f..%2fsecret", "%2e%2e/secret", "./run.json",
    "/etc/passwd", "%2fetc%2fpasswd", "trace.msgpack/../run.json", "run.json/", "lock", "state",
    "request.json", "frames/../run.json", "run.json%00.png", "secret.png", "inner/secret.png",
    "\\..\\secret",
)  # fmt: skip


class TestFiles:
    """Files of a run."""

    def test_all_that_are_offered(self, runs, page) -> None:
        """With their types, and their bytes."""
        folder = write_run(runs / "a")
        (folder / "video.mp4").write_bytes(bytes(range(256)))
        Image.new("RGB", (4, 4)).save(folder / "preview.webp")
        (folder / "frames").mkdir()
        Image.new("RGB", (4, 4)).save(folder / "frames" / "00000.png")
        run = page.json(f"/api/runs/{page.key('a')}")
        assert {name: file["kind"] for name, file in run["files"].items()} == {
            "video.mp4": "video", "preview.webp": "preview", "frames/00000.png": "frame",
            "trace.msgpack": "trace", "run.json": "told", "plan.json": "told",
        }  # fmt: skip
        types = {}
        for name in run["files"]:
            answer = page.get(f"/runs/{run['key']}/files/{name}")
            assert answer.content == (folder / name).read_bytes()
            types[name] = answer.headers["content-type"]
        assert types["video.mp4"] == "video/mp4"
        assert types["preview.webp"] == "image/webp"
        assert types["trace.msgpack"] == "application/octet-stream"

    def test_ranges(self, runs, page) -> None:
        """A video is sought in."""
        folder = write_run(runs / "a")
        (folder / "video.mp4").write_bytes(bytes(range(256)))
        path = f"/runs/{page.key('a')}/files/video.mp4"
        part = page.get(path, headers={"range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
        assert part.headers["content-range"] == "bytes 10-19/256"
        assert page.get(path, headers={"range": "bytes=-6"}).content == bytes(range(250, 256))
        assert page.get(path, headers={"range": "bytes=900-"}).status_code == 416
        assert page.get(path, headers={"range": "bytes=x"}).status_code == 400
        many = "bytes=" + ",".join(f"{number}-{number}" for number in range(0, 400, 2))
        assert page.get(path, headers={"range": many}).status_code in (200, 206, 416)

    def test_handles_are_closed(self, runs, page) -> None:
        """After each answer, whole or in part."""
        folder = write_run(runs / "a")
        (folder / "video.mp4").write_bytes(bytes(300_000))
        path = f"/runs/{page.key('a')}/files/video.mp4"
        page.get(path)
        before = handles()
        for _ in range(20):
            page.get(path, headers={"range": "bytes=10-19"})
            page.client.head(path)
        assert handles() == before

    @pytest.mark.parametrize("name", CLIMBS)
    def test_paths_that_climb(self, tmp_path, runs, page, name) -> None:
        """A name that was not found in the folder is none."""
        (tmp_path / "secret").write_text("secret")
        folder = write_run(runs / "a")
        (folder / "inner").mkdir()
        (folder / "inner" / "secret.png").write_text("secret")
        status, text = page.raw(f"/runs/{page.key('a')}/files/{name}")
        assert (status, json.loads(text)) == (404, {"error": "there is nothing here"})

    @pytest.mark.parametrize("key", ["..", "a", "0" * 16, "%2e%2e", "", "a/../a"])
    @pytest.mark.parametrize(
        "path", ["/runs/{}/files/run.json", "/runs/{}/report", "/runs/{}/views/check",
                 "/api/runs/{}x", "/api/batches/{}y"],
    )  # fmt: skip
    def test_keys_that_are_none(self, runs, page, key, path) -> None:
        """A run is found by the key that we made for it."""
        write_run(runs / "a")
        page.json("/api/runs")
        assert page.raw(path.format(key))[0] == 404

    def test_links(self, tmp_path, runs, page) -> None:
        """Out of the folder or within it: none is offered, none is followed."""
        (tmp_path / "secret.png").write_text("secret")
        folder = write_run(runs / "a")
        (folder / "picture.png").symlink_to(tmp_path / "secret.png")
        (folder / "other.png").symlink_to(folder / "run.json")
        (folder / "frames").symlink_to(tmp_path)
        key = page.key("a")
        assert not {"picture.png", "other.png", "frames/00000.png"} & set(
            page.json(f"/api/runs/{key}")["files"]
        )
        assert page.get(f"/runs/{key}/files/picture.png").status_code == 404

    def test_a_link_that_came_since(self, tmp_path, runs, page) -> None:
        """What was a file when it was found may be a link by now, and so may its folder."""
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret" / "video.mp4").write_text("secret")
        folder = write_run(runs / "a")
        (folder / "video.mp4").write_text("video")
        path = f"/runs/{page.key('a')}/files/video.mp4"
        assert page.client.get(path).text == "video"
        (folder / "video.mp4").unlink()
        (folder / "video.mp4").symlink_to(tmp_path / "secret" / "video.mp4")
        assert page.client.get(path).status_code == 404
        folder.rename(runs / "b")
        folder.symlink_to(tmp_path / "secret")
        assert page.client.get(path).status_code == 404

    def test_reports_of_links(self, tmp_path, runs, page) -> None:
        """A trace that is a link is none."""
        folder = write_run(runs / "a", trace=False)
        write_trace(tmp_path / "other.msgpack")
        (folder / "trace.msgpack").symlink_to(tmp_path / "other.msgpack")
        key = page.key("a")
        assert page.get(f"/runs/{key}/report").status_code == 404
        assert page.json(f"/api/runs/{key}").get("summary") is None

    def test_pipes(self, runs, page) -> None:
        """What is no file keeps nobody waiting."""
        folder = write_run(runs / "a", trace=False)
        for name in ("trace.msgpack", "picture.png"):
            os.mkfifo(folder / name)
        key = page.key("a")
        assert "picture.png" not in page.json(f"/api/runs/{key}")["files"]
        assert page.get(f"/runs/{key}/report").status_code == 404

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0b"])
    def test_names_of_our_own(self, runs, name) -> None:
        """Below the page, too, a name is one."""
        tree = Tree(runs)
        with pytest.raises(ValueError, match="is no name"):
            tree.open_file((), name)
        with pytest.raises(ValueError, match="is no name"):
            tree.open_file((name,), "run.json")


class TestInjection:
    """Names and texts that anybody wrote."""

    def test_stay_text(self, runs, page) -> None:
        """In what the script is told: JSON with nothing a screen obeys; it makes text of it."""
        name = "we<b>ird & \"name' \u202e"
        folder = write_run(runs / name, "failed", prompt=HOSTILE, error=HOSTILE, graph=HOSTILE)
        made = [
            Step(HOSTILE, 0, 1, 0, 1, MIB, 0),
            Note(HOSTILE, HOSTILE, 3),
            Move(Verb.PLACE, Kind.VALUE, HOSTILE, HOSTILE, 0, "", "cpu", 1, 1, 0, 1, 0, ""),
        ]
        write_trace(folder / "trace.msgpack", made, {**HEADER, "graph": HOSTILE, "device": HOSTILE})
        (key,) = [run["key"] for run in page.json("/api/runs")["runs"]]
        for path in ("/api/runs", f"/api/runs/{key}", "/api/now"):
            answer = page.get(path)
            assert answer.headers["content-type"] == "application/json"
            texts = "".join(_texts(answer.json()))
            assert "\u202e" not in texts
            assert "\x1b" not in texts
        assert "<img src=x" in "".join(_texts(page.json(f"/api/runs/{key}")))  # shown as it is

    def test_in_reports_and_views(self, runs, page) -> None:
        """A report is markup: there it is escaped. A view is plain text."""
        folder = write_run(runs / "a")
        write_trace(folder / "trace.msgpack", [*events(2, HOSTILE)], {**HEADER, "graph": HOSTILE})
        key = page.key("a")
        report = page.get(f"/runs/{key}/report")
        assert "&lt;img" in report.text
        assert not re.search("<(img|script)", report.text)
        view = page.get(f"/runs/{key}/views/summary")
        assert view.headers["content-type"].startswith("text/plain")
        assert "\x1b" not in view.text

    def test_names_that_are_no_text(self, runs, page) -> None:
        """Linux lets a name be any bytes."""
        (runs / os.fsdecode(b"\xff\xfe")).mkdir()
        (runs / os.fsdecode(b"\xff\xfe") / "run.json").write_text('{"status": "done"}')
        (run,) = page.json("/api/runs")["runs"]
        assert run["name"] == "\\udcff\\udcfe"
        assert page.get(f"/runs/{run['key']}/files/run.json").status_code == 200

    def test_long_texts(self, runs, page) -> None:
        """They are cut: a list stays a list."""
        write_run(runs / "a", "failed", prompt="x" * 10**6, error="y" * 10**6)
        assert len(page.get("/api/runs").content) < 5000


def _texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


class TestTraces:
    """The report and the views."""

    def test_report(self, runs, page) -> None:
        """In either language, of a killed run too."""
        write_run(runs / "a", None)
        key = page.key("a")
        assert "Memory report" in page.get(f"/runs/{key}/report").text
        report = page.get(f"/runs/{key}/report?lang=zh&trace=trace.msgpack")
        assert "显存分析报告" in report.text
        assert "/proc/" not in report.text

    @pytest.mark.parametrize("view", list(trace_pages.VIEWS))
    def test_views(self, runs, page, view, capsys) -> None:
        """What the command line prints of it."""
        folder = write_run(runs / "a")
        text = page.get(f"/runs/{page.key('a')}/views/{view}").text
        assert "denoise" in text or view == "check"
        assert "/proc/" not in text
        assert main.run(["trace", view, str(folder)]) == 0
        out = capsys.readouterr().out
        words = {word for word in out.split() if re.fullmatch("[a-z]{4,}", word)} - {"hint"}
        assert len(words & set(text.split())) > len(words) * 0.7

    def test_no_trace(self, runs, page) -> None:
        """Said, with the name that the file has in its folder."""
        folder = write_run(runs / "a")
        (folder / "trace.msgpack").write_text("no trace")
        key = page.key("a")
        answer = page.get(f"/runs/{key}/report")
        assert answer.status_code == 422
        assert answer.json() == {"error": "trace.msgpack is not a wanflow-trace file"}
        (folder / "trace.msgpack").unlink()
        assert page.get(f"/runs/{key}/views/peak").status_code == 404
        assert page.get(f"/runs/{key}/views/events").status_code == 404

    def test_too_large(self, runs, page, monkeypatch) -> None:
        """The command line reads it."""
        monkeypatch.setattr(trace_pages, "_MOST_TRACE_BYTES", 100)
        write_run(runs / "a")
        assert page.get(f"/runs/{page.key('a')}/report").status_code == 422

    def test_are_kept(self, runs, page, monkeypatch) -> None:
        """A report is written once while its trace is the same."""
        folder = write_run(runs / "a")
        path, made = f"/runs/{page.key('a')}/report", []
        write = trace_pages._report
        monkeypatch.setattr(trace_pages, "_report", lambda *a: made.append(a) or write(*a))
        assert page.get(path).text == page.get(path).text
        assert len(made) == 1
        write_trace(folder / "trace.msgpack", events(5))
        page.get(path)
        assert len(made) == 2


class TestLists:
    """Lists in parts."""

    def test_parts(self, runs, page) -> None:
        """From the newest on; no more than a page's worth at once."""
        for number in range(5):
            write_run(runs / f"{number}", "failed" if number == 3 else "done", trace=False)
            os.utime(runs / f"{number}" / "request.json", (number, number))
        part = page.json("/api/runs?first=1&most=2")
        assert (part["count"], [run["name"] for run in part["runs"]]) == (5, ["3", "2"])
        assert [run["name"] for run in page.json("/api/runs?state=failed")["runs"]] == ["3"]

    @pytest.mark.parametrize(
        "query", ["first=-1", "most=x", "first=9999999999999", "most=1e3", "first=٣"]
    )
    def test_numbers_that_are_none(self, page, query) -> None:
        """Refused, with a line of text."""
        answer = page.get(f"/api/runs?{query}")
        assert (answer.status_code, answer.json()) == (400, {"error": "that is not a number"})

    def test_a_folder_that_went_away(self, runs, page) -> None:
        """Said, and seen again when it is back."""
        runs.rename(runs.with_name("gone"))
        assert page.get("/api/runs").status_code == 404
        runs.with_name("gone").rename(runs)
        assert page.json("/api/runs")["runs"] == []


class TestResume:
    """The command that goes on with a run."""

    def test_is_said(self, runs, page) -> None:
        """With a path that a shell takes as it is; of what is done there is none."""
        write_run(runs / "a b", None)
        write_run(runs / "c")
        command = page.json(f"/api/runs/{page.key('a b')}")["resume"]
        assert command == f"wanflow resume '{runs}/a b'"
        assert page.json(f"/api/runs/{page.key('c')}")["resume"] == ""


def test_static_files_are_asked_again_by_their_tag(page) -> None:
    """And sent once."""
    first = page.get("/static/main.js")
    again = page.get("/static/main.js", headers={"if-none-match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert page.raw("/static/../page_app.py")[0] == 404
    assert page.raw("/static/%2e%2e%2fpage_app.py")[0] == 404


def test_what_a_request_says_is_read_only(runs, page) -> None:
    """No answer changes a byte or a time in the folder."""
    write_run(runs / "a", None)
    write_run(runs / "b")
    seen = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in runs.rglob("*") if p.is_file()}
    for name in ("a", "b"):
        key = page.key(name)
        for path in (f"/api/runs/{key}", f"/runs/{key}/report", f"/runs/{key}/views/check"):
            page.get(path)
    assert {
        p: (p.stat().st_mtime_ns, p.read_bytes()) for p in runs.rglob("*") if p.is_file()
    } == seen
    assert json.loads((runs / "b" / "run.json").read_text())["status"] == "done"
