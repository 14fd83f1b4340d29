"""`memory_events.json` of the tool that this grew out of, read as if it were a trace."""

import json
import sys

import pytest

from wanflow.errors import InputError
from wanflow.trace.memory_log import is_memory_log, read_memory_log
from wanflow.trace.report import markdown
from wanflow.trace.report.facts import facts_of

GB = 2**30
ORIGINAL = [
    {"event": "load_t5", "timestamp": 100.0, "memory_allocated": int(10.58 * GB),
     "max_memory_allocated": int(10.58 * GB)},
    {"event": "load_vae", "timestamp": 102.0, "memory_allocated": int(11.05 * GB),
     "max_memory_allocated": int(11.05 * GB)},
    {"event": "load_dit", "timestamp": 105.0, "memory_allocated": int(16.36 * GB),
     "max_memory_allocated": int(16.36 * GB)},
    {"event": "denoise", "step": 0, "timestamp": 109.0, "memory_allocated": int(16.4 * GB),
     "max_memory_allocated": int(26.27 * GB)},
    {"event": "denoise", "step": 1, "timestamp": 112.0, "memory_allocated": int(16.37 * GB),
     "max_memory_allocated": int(26.27 * GB)},
]  # fmt: skip


@pytest.fixture
def log(tmp_path):
    """Write a log."""

    def write(data):
        path = tmp_path / "memory_events.json"
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return path

    return write


class TestOriginal:
    """The figures of the original's README."""

    def test_models_and_peak(self, log) -> None:
        """T5 has 64.7 % of 16.4 GiB, the peak is 26.3 GiB, 9.9 GiB of it activations."""
        header, events = read_memory_log(log(ORIGINAL))
        found = facts_of(lambda: events, header)
        assert [model.model for model in found.models] == ["text", "dit", "vae"]
        assert pytest.approx(found.models[0].weights_bytes / GB, abs=0.001) == 10.58
        assert pytest.approx(found.peak.resident_bytes / GB, abs=0.001) == 26.27
        assert pytest.approx(found.peak.by_kind.workspace_bytes / GB, abs=0.001) == 9.91
        assert found.summary.seconds == 12.0

    def test_what_loads_is_its_own_stage(self, log) -> None:
        """A log says in whose turn a model was loaded: that of the row itself, none comes later."""
        header, events = read_memory_log(log(ORIGINAL))
        stages = facts_of(lambda: events, header).summary.stages
        peaks = {stage.stage: stage.peak_bytes / GB for stage in stages}
        assert peaks == pytest.approx(
            {"load_t5": 10.58, "load_vae": 11.05, "load_dit": 16.36, "denoise": 26.27}, abs=0.001
        )

    def test_steps(self, log) -> None:
        """What each step adds; the peak is the first's, it did not grow in the second."""
        header, events = read_memory_log(log(ORIGINAL))
        first, second = facts_of(lambda: events, header).steps
        assert (first.index, second.index, first.seconds, second.seconds) == (0, 1, 4.0, 3.0)
        assert first.peak_bytes > second.peak_bytes
        assert pytest.approx(second.delta_bytes / GB, abs=0.001) == -0.03

    def test_bytes_add_up(self, log) -> None:
        """As in any trace."""
        header, events = read_memory_log(log(ORIGINAL))
        peak = facts_of(lambda: events, header).peak
        assert peak.resident_bytes == sum(o.nbytes for o in peak.objects)
        assert "64.7%" in markdown(facts_of(lambda: events, header))


class TestForms:
    """What people write."""

    @pytest.mark.parametrize(
        "row",
        [
            {"name": "a", "allocated_gb": 2.0, "peak_gb": 3},
            {"tag": "a", "allocated_MB": 2048, "max_MB": 3072},
            {"event": "a", "allocated_bytes": 2 * GB, "peak_bytes": 3 * GB},
        ],
    )
    def test_units(self, log, row) -> None:
        """By the end of the key."""
        header, events = read_memory_log(log({"events": [row], "budget_bytes": 4 * GB}))
        found = facts_of(lambda: events, header)
        assert (found.summary.peak_bytes, found.summary.budget_bytes) == (3 * GB, 4 * GB)

    @pytest.mark.parametrize(
        "data",
        ["", "{", "[]", "{}", "[1, null, {}]", '[{"allocated": true}]', '[{"allocated": 1e999}]',
         "[" * sys.getrecursionlimit(), '[{"allocated": -5}]'],
    )  # fmt: skip
    def test_refused(self, log, data) -> None:
        """What has no points is no log."""
        with pytest.raises(InputError):
            read_memory_log(log(data))

    def test_is_told_from_a_trace(self, log, write, run) -> None:
        """By its first letter."""
        assert is_memory_log(log(ORIGINAL))
        assert not is_memory_log(write(run))
