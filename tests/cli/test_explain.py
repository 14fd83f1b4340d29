"""`wanflow explain`: on one page why a stage is planned as it is."""

import json
from types import SimpleNamespace

import pytest

TINY = ["explain", "t2v-tiny", "denoise", "--device", "cpu", "--vram", "22MiB"]


@pytest.fixture(scope="module")
def explained():
    """The report of the tiny graph's denoise stage."""
    from wanflow.session import Request, explain

    return explain(Request("t2v-tiny", device="cpu", vram="22MiB"), "denoise").report


class TestPage:
    def test_fits_80_columns(self, explained, wanflow_here, monkeypatch):
        """What was chosen, what it beat, what fills the peak, what would change it."""
        answer = SimpleNamespace(report=explained, problem=None)
        monkeypatch.setattr("wanflow.session.explain", lambda _request, _stage: answer)
        code, out, err = wanflow_here(*TINY)
        assert (code, err) == (0, "")
        assert max(map(len, out.splitlines())) <= 80
        assert out.startswith("denoise (denoise) on cpu, budget 22.0 MiB\nchosen: the fastest of ")
        for words in ("considered, for the whole graph", "at its peak", "would change"):
            assert f"\n{words}" in out
        assert out.count("chosen\n") == 1

    def test_one_that_does_not_fit(self, wanflow_here):
        """Exit 3, as `plan`, and the page all the same."""
        code, out, err = wanflow_here(*TINY[:-1], "1MiB")
        assert code == 3
        assert "nothing fits: this is the smallest plan" in " ".join(out.split())
        assert "error: 1MiB (1048576 bytes) can't hold it" in err

    def test_unknown_stage(self, wanflow_here, monkeypatch):
        """Exit 2 with what was probably meant, and nothing is planned for it."""
        monkeypatch.setattr("wanflow.session.planning.explain.plan_prepared", None)
        code, out, err = wanflow_here("explain", "t2v-tiny", "denois", "--device", "cpu")
        assert (code, out) == (2, "")
        assert err.splitlines() == [
            "error: graph 't2v-tiny' has no stage 'denois'",
            "hint: did you mean 'denoise'?",
        ]


class TestReport:
    def test_is_json(self, explained):
        """As it stands."""
        assert json.loads(json.dumps(explained, allow_nan=False)) == explained

    def test_exactly_one_was_chosen(self, explained):
        """The fastest of those that fit."""
        (chosen,) = (row for row in explained["considered"] if row["chosen"])
        fitting = [row["seconds"] for row in explained["considered"] if row["fits"]]
        assert chosen["seconds"] == pytest.approx(min(fitting))

    def test_the_peak_is_all_there(self, explained):
        """Its parts add up to what the plan says of the stage."""
        peak = explained["at_peak"]
        assert sum(peak["parts"].values()) == peak["nbytes"] == explained["stage"]["peak_bytes"]

    def test_one_more_segment(self):
        """From the budget that is told on, more of the stage stays."""
        from wanflow.session import Request, explain

        words = {"device": "cpu", "pins": ("decode.strips=whole",)}
        found = explain(Request("t2v-tiny", vram="22MiB", **words), "decode").report
        more = found["would_change"]["next_segment_bytes"]
        assert more is not None
        after = explain(Request("t2v-tiny", vram=f"{more}B", **words), "decode").report
        kept = "resident_weights_bytes"
        assert after["stage"][kept] > found["stage"][kept]
