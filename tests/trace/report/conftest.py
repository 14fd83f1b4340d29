"""Runs to report on: a real one of the tiny graph, and a simulated one at full size."""

import sys
from pathlib import Path

import pytest

from wanflow.session import Request, plan, predict, run

# `derive` lies beside the tests that share it.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """Simulate 480p on an RTX 4090; five frames, so that planning takes seconds."""
    path = tmp_path_factory.mktemp("report") / "plan.msgpack"
    request = Request(
        "t2v-1.3b", inputs={"frames": 5, "size": "832*480"}, vram="8GiB", machine="rtx4090"
    )
    predict(plan(request), path)
    return path


@pytest.fixture(scope="session")
def ran(tmp_path_factory):
    """Run the tiny graph for two steps and five frames."""
    folder = tmp_path_factory.mktemp("report") / "run"
    inputs = {"prompt": "a red circle", "frames": 5, "steps": 2, "seed": 1}
    run(Request("t2v-tiny", inputs=inputs, vram="22MiB", device="cpu"), out=folder)
    return folder / "trace.msgpack"
