"""`wanflow plan` on a computer that nothing is known of: it measures first, and says so."""

import json

import pytest

from wanflow.session.probing import first_probe


@pytest.fixture(autouse=True)
def asked(monkeypatch, tmp_path):
    """Stand in for the measuring, which has tests of its own; tell how often it was asked for."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("WANFLOW_PROBE")
    bases = []

    def stand_in(base):
        bases.append(base)
        return base.with_figures({n: base.figure(n) for n in base.matters}, "probed"), 1.8

    monkeypatch.setattr(first_probe, "quick_probe", stand_in)
    return bases


def test_plan_says_it(asked, wanflow_here, tmp_path):
    """On stderr, and with the estimate that it serves."""
    code, out, err = wanflow_here("plan", "t2v-tiny", "--device", "cpu")
    path = tmp_path / "config/wanflow/machines/cpu.json"
    assert (code, err) == (0, f"measured this CPU before its first plan: 1.8 s, kept in {path}\n")
    assert "(28 of 28 rates measured, in short)" in out
    assert wanflow_here("plan", "t2v-tiny", "--device", "cpu")[2] == ""
    assert len(asked) == 1


def test_json_is_as_without(asked, wanflow_here):
    """One value, and nothing beside it."""
    code, out, err = wanflow_here("plan", "t2v-tiny", "--device", "cpu", "--json")
    assert (code, err, len(asked)) == (0, "", 1)
    assert set(json.loads(out)["machine_sources"].values()) == {"probed"}


def test_no_probe(asked, wanflow_here):
    """The command that comes next has it too."""
    code, out, err = wanflow_here("plan", "t2v-tiny", "--device", "cpu", "--no-probe")
    assert (code, err, asked) == (0, "", [])
    assert out.splitlines()[-1].endswith("--no-probe")


def test_a_named_machine(asked, wanflow_here):
    """It is not this one."""
    assert wanflow_here("plan", "t2v-tiny", "--machine", "cpu")[0] == 0
    assert asked == []


def test_ctrl_c(asked, wanflow_here, monkeypatch, tmp_path):
    """Exit 130, nothing kept."""

    def interrupted(_base):
        raise KeyboardInterrupt

    monkeypatch.setattr(first_probe, "quick_probe", interrupted)
    assert wanflow_here("plan", "t2v-tiny", "--device", "cpu")[0] == 130
    assert list((tmp_path / "config/wanflow/machines").iterdir()) == []
