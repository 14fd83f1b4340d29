"""The short probe before a first plan: when it is made, what it leaves, and when it stays away."""

import itertools

import attrs
import pytest
import torch

from wanflow.errors import InputError
from wanflow.files.folders import cache_folder
from wanflow.remarks import take_remarks
from wanflow.scheduler.machine import store
from wanflow.scheduler.machine.datasheets import cpu_machine
from wanflow.scheduler.run.probe import QUICK, Sample
from wanflow.session import Request, explain, plan
from wanflow.session.machines import estimate
from wanflow.session.probing import first_probe
from wanflow.session.probing.first_probe import probed_place, quick_probe
from wanflow.units import GIB

CPU = torch.device("cpu")
TINY = Request("t2v-tiny", {"prompt": "x"}, device="cpu")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user of whose computer nothing is known, and who wants it measured."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("WANFLOW_PROBE")
    take_remarks()
    return tmp_path / "config"


@pytest.fixture
def asked(monkeypatch):
    """Stand in for the measuring, which has tests of its own; tell how often it was asked for."""
    bases = []

    def stand_in(base):
        bases.append(base)
        figures = {name: base.figure(name) for name in base.matters}
        return base.with_figures(figures | {"call_seconds": 0.5}, "probed"), 1.8

    monkeypatch.setattr(first_probe, "quick_probe", stand_in)
    return bases


class TestWhen:
    def test_before_the_first_plan_alone(self, asked, home):
        """The next finds it stored."""
        first, second = probed_place(TINY), probed_place(TINY)
        assert first.machine.call_seconds == second.machine.call_seconds == 0.5
        assert len(asked) == 1
        assert store.load("cpu").source("call_seconds") == "probed"
        path = home / "wanflow/machines/cpu.json"
        assert take_remarks() == [f"measured this CPU before its first plan: 1.8 s, kept in {path}"]

    @pytest.mark.parametrize("changes", [{"probe": False}, {"machine": "cpu"}])
    def test_not_where_it_is_not_wanted(self, changes, asked):
        """Nor for another machine."""
        place = probed_place(attrs.evolve(TINY, **changes))
        assert (place.machine.estimated, asked, take_remarks()) == (True, [], [])
        assert store.stored() == []

    def test_the_variable_turns_it_off(self, asked, monkeypatch):
        """As the whole suite does."""
        monkeypatch.setenv("WANFLOW_PROBE", "off")
        assert probed_place(TINY).machine.estimated
        assert asked == []

    def test_not_where_a_machine_is_stored(self, asked):
        """Whatever is known of it."""
        store.save(cpu_machine(GIB))
        assert probed_place(TINY).machine.estimated
        assert asked == []

    def test_a_graph_that_is_none_is_told_first(self, asked):
        """Before a second is spent."""
        with pytest.raises(InputError):
            probed_place(attrs.evolve(TINY, graph="t2v-tinny"))
        assert asked == []

    def test_where_it_can_not_be_kept(self, asked, home):
        """Every plan would measure again: it is said instead."""
        home.write_text("in the way")
        assert probed_place(TINY).machine.estimated
        (said,) = take_remarks()
        assert said.startswith("this CPU was not measured before a plan: it can't be kept: ")
        assert asked == []

    def test_the_cache_without_room(self, monkeypatch):
        """A plan is no worse than without a probe."""
        monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/x")
        assert probed_place(TINY).machine.estimated
        *_, said = take_remarks()  # what was profiled for it is not kept either
        assert said.startswith("this CPU was not measured before a plan: ")

    def test_a_graph_like_it_is_planned_the_same(self, asked):
        """Bits come from the machine on paper: a probe changes none."""
        before = plan(attrs.evolve(TINY, probe=False))
        after = plan(TINY)
        assert len(asked) == 1
        assert before.report["rounding"] == after.report["rounding"]

    def test_explaining_is_planning(self, asked):
        """It measures too."""
        assert explain(TINY, "denoise").report["estimates"] is False
        assert len(asked) == 1


@pytest.mark.usefixtures("own_cache")
class TestStopped:
    def test_nothing_is_left(self, monkeypatch, home):
        """Ctrl-C in the middle: no figures, no scratch."""
        monkeypatch.setattr("wanflow.session.probing.tiny_run.tiny_run", lambda *_: interrupted())
        with pytest.raises(KeyboardInterrupt):
            probed_place(TINY)
        assert store.stored() == []
        assert not list(cache_folder().glob("probe-*"))


def interrupted():
    raise KeyboardInterrupt


@pytest.mark.usefixtures("own_cache")
class TestQuickProbe:
    def test_what_it_measures(self):
        """By a clock that hardly moves all of it, each figure said to be of a short probe."""
        clock = itertools.count(0, 1e-6)
        machine, seconds = quick_probe(estimate(CPU), lambda: next(clock))
        known = {name for name in machine.matters if machine.source(name) == "probed"}
        starting = {"call_seconds", "kernel_seconds", "save_seconds", "video_seconds"}
        assert known >= starting | {"memory_rate", "disk_rate", "small.conv.float32"}
        assert set(machine.sources.values()) == {"probed"}
        assert machine.was == {}
        assert machine.about.endswith(f", in {seconds:.1f} s")
        assert not list(cache_folder().glob("probe-*"))

    def test_a_large_kernel_by_itself_is_a_bound(self, monkeypatch):
        """Ten times the estimate is not believed, a tenth of it is."""
        base = estimate(CPU)
        factors = {"gemm.float32": 10.0, "conv.float32": 0.1}
        samples = {name: Sample.of([base.figure(name) * f]) for name, f in factors.items()}
        large = lambda *words: samples if QUICK in words else {}  # noqa: E731
        monkeypatch.setattr("wanflow.scheduler.run.probe.rates", large)
        monkeypatch.setattr(
            "wanflow.session.probing.tiny_run.tiny_run", lambda machine, *_: machine
        )
        machine, _ = quick_probe(base, lambda: 0.0)
        assert machine.figure("gemm.float32") == base.figure("gemm.float32")
        assert machine.figure("conv.float32") == base.figure("conv.float32") * 0.1

    def test_time_that_is_up(self):
        """What starting takes is measured all the same, and the type that large models come in."""
        clock = itertools.count(0, 10)
        base = estimate(CPU)
        machine, _ = quick_probe(base, lambda: next(clock))
        assert machine.source("call_seconds") == "probed"
        others = machine.flops.keys() - {"gemm.bfloat16", "attention.bfloat16"}
        assert {machine.source(name) for name in others} == {"estimate"}
        assert all(machine.flops[name] == base.flops[name] for name in others)

    def test_a_full_probe_supersedes_it(self):
        """Measured again, nothing of it is left."""
        machine, _ = quick_probe(estimate(CPU), lambda: 0.0)
        again = machine.with_figures({n: machine.figure(n) for n in machine.matters}, "measured")
        assert "probed" not in again.sources.values()
