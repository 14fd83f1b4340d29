"""Measuring: every figure that matters, in the right order of size, leaving nothing behind."""

import time

import attrs
import pytest
import torch

from wanflow.scheduler.machine.datasheets import cpu_machine
from wanflow.scheduler.machine.figures import LINKS, Machine
from wanflow.scheduler.run import probe as probing
from wanflow.scheduler.run.context_probe import run_one_of_each
from wanflow.scheduler.run.probe import QUICK, Pace, Sample, probe
from wanflow.units import GIB, MIB

FAST = Pace(0.01, 0.01, 0.01, 0.02, 4 * MIB)
CPU = torch.device("cpu")
OF_A_VIDEO = {"video_seconds", "video_rate"}  # a run measures them


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Measure little: the suite shares its cores."""
    monkeypatch.setattr(probing, "THOROUGH", FAST)
    monkeypatch.setattr(probing, "_LONGEST_START_SECONDS", 0.0)
    monkeypatch.setattr(probing, "_CHUNK_BYTES", MIB)
    monkeypatch.setattr(probing, "_TINY_KERNELS", 20)
    monkeypatch.setattr(probing, "_CALLS", 5)


@pytest.fixture
def measured(tmp_path) -> Machine:
    """Measure this CPU."""
    return probe("cpu", cpu_machine(GIB), tmp_path)


class TestCpu:
    """A CPU, where everything that matters can be measured."""

    def test_all_that_matters_is_measured(self, measured) -> None:
        """But what only a run can tell."""
        known = set(measured.matters) - OF_A_VIDEO
        assert {"measured"} == {measured.source(name) for name in known}

    def test_figures_are_sane(self, measured) -> None:
        """Within what processors and disks are made for."""
        assert all(1e5 < rate < 1e16 for rate in measured.flops.values())
        assert all(1e6 < measured.figure(n) < 1e13 for n in ("memory_rate", "disk_rate"))
        assert 0 < measured.kernel_seconds < 0.1
        assert 0 < measured.call_seconds < 1

    def test_the_link_stays_as_it_was(self, measured) -> None:
        """There is none."""
        base = cpu_machine(GIB)
        assert [base.figure(n) for n in LINKS] == [measured.figure(n) for n in LINKS]
        assert {"estimate"} == {measured.source(n) for n in LINKS}

    def test_base_gives_name_and_capacity(self, measured) -> None:
        """They are not measured."""
        assert (measured.name, measured.capacity_bytes, measured.context_bytes) == ("cpu", GIB, 0)

    def test_spreads_and_circumstances_are_told(self, measured) -> None:
        """How far the runs lay apart; torch and threads."""
        assert set(measured.matters) - OF_A_VIDEO == set(measured.spreads)
        assert all(spread >= 0 for spread in measured.spreads.values())
        assert f"torch {torch.__version__}, {torch.get_num_threads()} threads" in measured.about

    def test_nothing_is_left(self, measured, tmp_path) -> None:
        """The scratch file is gone."""
        assert list(tmp_path.iterdir()) == []

    def test_gradients_are_as_before(self, measured) -> None:
        """Whoever measures goes on as they were."""
        assert torch.is_grad_enabled()

    def test_scratch_is_in_the_cache(self, tmp_path, monkeypatch) -> None:
        """Where the user's caches are, made if it is not there."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a" / "cache"))
        with probing.scratch_folder() as folder:
            assert folder.parent == tmp_path / "a" / "cache" / "wanflow"
        assert not folder.exists()


class TestWhatFails:
    """A figure that can't be measured stays an estimate."""

    def test_disk_without_room(self, tmp_path, monkeypatch) -> None:
        """A full disk is no reason to give up."""

        def full(_handle):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        machine = probe("cpu", cpu_machine(GIB), tmp_path)

        assert machine.estimated
        unknown = {n for n in machine.matters if machine.source(n) == "estimate"}
        files = {"disk_rate", "cached_disk_rate", "save_seconds", "save_rate"}
        assert unknown == files | OF_A_VIDEO

    def test_a_kernel_that_is_not_there(self, monkeypatch) -> None:
        """Not every device has one for every dtype."""

        def fail(*_args, **_kwargs):
            raise RuntimeError("not implemented for 'Half'")

        monkeypatch.setattr("torch.nn.functional.conv3d", fail)

        assert probing._class_rates("conv", "float16", CPU, FAST) == {}

    def test_a_kernel_too_large_for_the_memory(self, monkeypatch) -> None:
        """The size before it is the one that counts."""
        sizes = []

        def linear(data, _weight):
            sizes.append(data.shape[0])
            if data.shape[0] > 64:
                raise torch.OutOfMemoryError("no room")

        monkeypatch.setattr("torch.nn.functional.linear", linear)
        found = probing._class_rates("gemm", "float32", CPU, FAST)

        assert found.keys() == {"gemm.float32", "small.gemm.float32"}
        assert {64, 256} == set(sizes)

    def test_a_kernel_too_small_to_tell(self, monkeypatch) -> None:
        """At a quick pace a slow kernel stays small, which says nothing of large ones."""
        pace = attrs.evolve(FAST, least_flops=1e9)
        monkeypatch.setattr(probing, "_fastest", lambda *_: 1.0)

        assert probing._class_rates("conv", "float32", CPU, pace).keys() == {"small.conv.float32"}


def test_a_slow_kernel_is_told_in_short(monkeypatch) -> None:
    """One whose second size takes too long already: slow kernels are what an estimate misses."""
    monkeypatch.setattr(probing, "_may_grow", lambda _seconds, factor, _pace: factor == 16)
    samples = probing.rates(torch.device("cpu"), ("bfloat16",), QUICK, lambda: True, ("gemm",))
    assert samples.keys() == {"gemm.bfloat16", "small.gemm.bfloat16"}


class TestGrowth:
    """Kernels grow until they take long enough."""

    @pytest.mark.parametrize(
        ("seconds", "factor", "may"), [(0.004, 2, True), (0.02, 2, False), (0.001, 11, False)]
    )
    def test_bearable(self, seconds, factor, may) -> None:
        """By what the next one is going to take."""
        assert may == probing._may_grow(seconds, factor, FAST)

    def test_a_short_run_is_mostly_start(self, monkeypatch) -> None:
        """It says little about what the next one is going to take."""
        monkeypatch.setattr(probing, "_LONGEST_START_SECONDS", 0.05)

        assert probing._may_grow(0.02, 20, Pace())
        assert not probing._may_grow(0.06, 20, Pace())


class TestSample:
    """Medians, and how far apart the runs are."""

    def test_middle_half(self) -> None:
        """One run that was disturbed changes neither much."""
        assert Sample.of([1.0, 2.0, 2.0, 2.0, 50.0]) == Sample(2.0, 0.0)
        assert Sample.of([1.0, 2.0, 3.0, 4.0, 5.0]) == Sample(3.0, 2 / 3)

    def test_of_one(self) -> None:
        """A single run has no spread."""
        assert Sample.of([3.0]) == Sample(3.0, 0.0)


def test_an_emulated_card(emulate, tmp_path, monkeypatch) -> None:
    """All but what the emulator pins no memory for; a child of ours would find no card there."""
    monkeypatch.setattr(probing, "_LINK_BYTES", MIB)
    with emulate():
        run_one_of_each(torch.device("cuda", 0))
        monkeypatch.setattr(probing, "taken_by_another_process", lambda _device: (GIB, 64 * MIB))
        machine = probe("cuda:0", scratch=tmp_path)

    guessed = {name for name in machine.matters if machine.source(name) == "estimate"}
    assert guessed <= {"upload_rate", "download_rate"}
    assert (machine.context_bytes, machine.library_bytes) == (GIB, 64 * MIB)


@pytest.mark.gpu(real="rates of copies and kernels, and what a process of its own takes")
def test_cuda(tmp_path) -> None:
    """A card has every figure, and is done soon."""
    began = time.perf_counter()
    machine = probe("cuda:0", scratch=tmp_path)

    assert not machine.estimated
    assert {"measured"} == {machine.source(name) for name in machine.matters}
    assert machine.figure("gemm.bfloat16") > machine.figure("gemm.float32")
    assert machine.upload_rate > machine.upload_pageable_rate
    assert 50 * MIB < machine.context_bytes < 4 * GIB
    assert time.perf_counter() - began < 60
