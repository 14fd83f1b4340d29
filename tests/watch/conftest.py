"""Run folders written as runs write them, and a client that asks the page in this process."""

import asyncio
import fcntl
import json
import os
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest
from starlette.testclient import TestClient

from wanflow.trace import TraceWriter
from wanflow.trace.events import Kind, Move, StageSpan, Step, Verb, Workspace
from wanflow.watch.answers import Answers
from wanflow.watch.guard import Access
from wanflow.watch.page_app import page_app
from wanflow.watch.readings import Readings
from wanflow.watch.shelf import Shelf
from wanflow.watch.tree import Tree

MIB = 2**20
SECOND = 10**9
HEADER = {
    "graph": "t2v-tiny", "device": "cpu", "budget_tier": "cpu", "budget_bytes": 12 * MIB,
    "overhead_bytes": MIB, "predicted_peak_bytes": 9 * MIB, "predicted_seconds": 3.0,
    "stages": ["denoise"],
}  # fmt: skip


def events(count=3, stage="denoise", total=None):
    """Make steps of a stage: a segment comes, a call needs room, a step ends."""
    for step in range(count):
        at = step * SECOND
        yield Move(Verb.PLACE, Kind.WEIGHTS, f"dit/{step}", stage, step, "disk", "cpu", MIB,
                   (step + 1) * MIB, at, at, 0, "next")  # fmt: skip
        yield Workspace(f"{stage}.block", stage, step, "cpu", 2 * MIB, (step + 3) * MIB,
                        at + 10, at + SECOND // 2)  # fmt: skip
        yield Step(stage, step, total or count, at, at + SECOND, (step + 1) * MIB, 0)
    if total is None:
        end = count * SECOND
        yield StageSpan(stage, stage, 0, end, (count + 2) * MIB, ("rows=all",))


def write_trace(path, made=None, header=HEADER, *, status="done"):
    """Write a trace; without a *status* it ends as a killed run's does."""
    writer = TraceWriter(path, header, overwrite=True)
    for event in events() if made is None else made:
        writer.emit(event)
    if status is None:
        writer.sync()
        os.close(writer._fd)
        writer._fd = None
    else:
        writer.close(status, {})


def write_run(folder, status="done", *, trace=True, prompt="a red circle", **told):
    """Write a run's folder; *status* None is a run that was killed."""
    folder.mkdir(parents=True)
    request = {"graph": "t2v-tiny", "inputs": {"prompt": prompt}, "device": "cpu"}
    (folder / "request.json").write_text(json.dumps({"request": request, "fingerprint": {}}))
    stages = [{"stage": "denoise", "seconds": 3.0, "peak_bytes": 9 * MIB}]
    (folder / "plan.json").write_text(json.dumps({"stages": stages, "calls": []}))
    (folder / "lock").write_text("1\n")
    if trace:
        write_trace(folder / "trace.msgpack", status=status)
    if status is not None:
        report = {
            "graph": "t2v-tiny", "status": status, "device": "cpu", "seconds": 3.5,
            "peak_bytes": 6 * MIB, "budget_bytes": 12 * MIB, "predicted_peak_bytes": 9 * MIB,
            "inputs": {"prompt": prompt, "seed": 0}, **told,
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(report))
    return folder


@contextmanager
def held(folder):
    """Hold a folder's lock, as a run that goes on does."""
    with (folder / "lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def handles():
    """Count the files that this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def settle(shelf):
    """Have the next look happen now, with folders that changed long enough ago."""
    shelf._next = 0.0


class Page:
    """The page over a folder, asked in this process."""

    def __init__(self, root, *, token="", local=True):
        self.tree = Tree(root)
        self.shelf = Shelf(self.tree)
        self.readings = Readings(self.tree)
        app = page_app(
            Answers(self.shelf, self.readings, root), Access(token, local, "wanflow-test")
        )
        self.client = TestClient(app, base_url="http://localhost:8014", follow_redirects=False)

    def get(self, path, **options):
        """Ask."""
        settle(self.shelf)
        return self.client.get(path, **options)

    def raw(self, path):
        """Ask for a path as it is: clients take the dots out of one. Status and body."""
        said = []

        async def receive():
            return {"type": "http.request", "body": b""}

        async def send(message):
            said.append(message)

        scope = {
            "type": "http", "method": "GET", "path": unquote(path), "raw_path": path.encode(),
            "query_string": b"", "headers": [(b"host", b"localhost")], "http_version": "1.1",
            "scheme": "http", "root_path": "", "asgi": {"version": "3.0", "spec_version": "2.4"},
        }  # fmt: skip
        asyncio.run(self.client.app(scope, receive, send))
        body = b"".join(message.get("body", b"") for message in said[1:])
        return said[0]["status"], body.decode()

    def json(self, path):
        """Ask for what the page's script asks for."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def key(self, name):
        """Find a run's key by the way that a browser does."""
        runs = self.json("/api/runs?most=200")["runs"]
        return next(run["key"] for run in runs if run["name"] == name)

    def whole(self, key, trace=""):
        """Ask for a run until its trace is read."""
        for _ in range(100):
            run = self.json(f"/api/runs/{key}{trace}")
            if not (run.get("head") or {}).get("reading"):
                return run
            time.sleep(0.01)
        raise AssertionError("the trace is never read")


@pytest.fixture
def runs(tmp_path):
    """The folder that `page` is over, with nothing in it."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def page(runs):
    """A page over a folder."""
    made = Page(runs)
    yield made
    made.readings.close()
