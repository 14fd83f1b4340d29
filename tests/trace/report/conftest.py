"""Runs to report on: a real one of the tiny graph, and a simulated one at full size."""

import os

import pytest

from wanflow.session import Request, plan, predict, run

SOAK = bool(os.environ.get("SOAK"))


def at_480p(frames, path):
    """Simulate 1.3B on an RTX 4090."""
    inputs = {"frames": frames, "size": "832*480"}
    predict(plan(Request("t2v-1.3b", inputs=inputs, vram="8GiB", machine="rtx4090")), path)
    return path


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """Simulate 480p at the full length."""
    return at_480p(81, tmp_path_factory.mktemp("report") / "plan.msgpack")


@pytest.fixture(scope="session")
def advised_on(request, tmp_path_factory):
    """Simulate 480p in five frames, so that planning all the changes takes seconds; SOAK: in 81."""
    if SOAK:
        return request.getfixturevalue("simulated")
    return at_480p(5, tmp_path_factory.mktemp("report") / "short.msgpack")


@pytest.fixture(scope="session")
def ran(tmp_path_factory):
    """Run the tiny graph for two steps and five frames."""
    folder = tmp_path_factory.mktemp("report") / "run"
    inputs = {"prompt": "a red circle", "frames": 5, "steps": 2, "seed": 1}
    run(Request("t2v-tiny", inputs=inputs, vram="22MiB", device="cpu"), out=folder)
    return folder / "trace.msgpack"
