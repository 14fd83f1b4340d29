"""A plan that was made before is made from what was kept, and loads none of what runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

HEAVY = {"torch", "diffusers", "transformers"}
PROGRAM = """
import json, sys
from wanflow.session import Request, plan
request = Request("t2v-14b", {"size": "832*480", "frames": 5, "steps": 3}, vram="8GiB",
                  machine="rtx4090", pins=tuple(sys.argv[1:]))
report = plan(request).report
print(json.dumps([sorted(sys.modules), report]))
"""


def planned(cache, *pins: str) -> tuple[set[str], dict[str, object]]:
    """Plan in a process of its own: the modules that it loaded, and the report."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *pins], capture_output=True, text=True, check=True,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "WANFLOW_MODELS": str(cache / "none")},
    )  # fmt: skip
    modules, report = json.loads(done.stdout)
    return set(modules), report


def test_loads_no_torch_the_second_time(tmp_path) -> None:
    """The same plan, and neither PyTorch nor the models' libraries."""
    cold, first = planned(tmp_path)
    warm, second = planned(tmp_path)

    assert cold >= {"torch"}
    assert not warm & HEAVY
    assert second == first


def test_another_choice_is_not_taken_for_it(tmp_path) -> None:
    """What is kept of a choice is of its pins alone."""
    _, first = planned(tmp_path)
    _, second = planned(tmp_path, "denoise.weights=stream")
    _, third = planned(tmp_path)

    assert second["plan_id"] != first["plan_id"]
    assert third == first
