"""What is planned of each scenario and calculated of what was published: into planned.json.

This is the heavy part: two dozen plans and a decode on fake tensors, some minutes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from benchmarks.lib.environment import ROOT
from scripts.memory_tables.accounts import Accounts
from scripts.memory_tables.published import loaded, upstream_decode_bytes
from wanflow.session import plan
from wanflow.session.scenarios.reading import read_scenarios
from wanflow.session.scenarios.spec import Scenario

FILES = {
    "rows": ROOT / "tests" / "configs" / "memory-tables.yaml",
    "cards": ROOT / "tests" / "configs" / "cards.yaml",
}
STORE = Path(__file__).with_name("planned.json")
_KEPT = ("stage", "seconds", "peak_bytes", "weights_bytes", "resident_weights_bytes", "knobs")


def digests() -> dict[str, str]:
    """What tells whether the scenarios are those that were planned."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in FILES.items()}


def scenarios_of(name: str) -> tuple[Scenario, ...]:
    """The scenarios of one of the files."""
    return read_scenarios(FILES[name]).scenarios


def row(scenario: Scenario) -> dict[str, Any]:
    """Plan a scenario: its figures, the most of each model and of activations on the card."""
    planned = plan(scenario.request)
    report, accounts = planned.report, Accounts.of(planned.plan)
    stages: Any = report["stages"]
    kept = ("feasible", "budget_bytes", "overhead_bytes", "predicted_peak_bytes",
            "predicted_seconds", "minimum_bytes", "minimum_cause", "host_bytes")  # fmt: skip
    return {
        "scenario": scenario.name,
        **{name: report[name] for name in kept},
        "weights_bytes": dict(sorted(accounts.weights_bytes.items())),
        "activation_bytes": accounts.activation_bytes,
        "stages": [{name: stage[name] for name in _KEPT} for stage in stages],
    }


def make(say: Callable[[str], None] = print) -> dict[str, Any]:
    """Plan and calculate all of it, and keep it."""
    made: dict[str, Any] = {"digests": digests()}
    for name in FILES:
        made[name] = []
        for scenario in scenarios_of(name):
            say(f"planning {scenario.name}")
            made[name].append(row(scenario))
    say("decoding on fake tensors")
    made["loaded"] = attrs.asdict(loaded())
    made["upstream_decode_bytes"] = upstream_decode_bytes()
    STORE.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return made


def stored() -> dict[str, Any]:
    """What was planned last."""
    return dict(json.loads(STORE.read_text(encoding="utf-8")))
