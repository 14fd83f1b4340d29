"""`wanflow doctor` and `plan` on nine computers: the right sentence, and the way out."""

import json
from pathlib import Path

import pytest
import torch

from tests.posed import posing

RELEASE = torch.__version__.partition("+")[0]
INDEX = "--index-url https://download.pytorch.org/whl"
CU126 = f"pip install torch=={RELEASE}+cu126 {INDEX}/cu126"
CU130 = f"pip install torch=={RELEASE}+cu130 {INDEX}/cu130"
# What is said where something is wrong: the sentence, and what to do.
SAID = {
    "rtx4060": None,
    "h200": None,
    "rtx2080": ("NVIDIA GeForce RTX 2080 (compute 7.5) has no bf16", "--precision fp16"),
    "t4": ("Tesla T4 (compute 7.5) has no bf16", "--precision fp16"),
    "p40": (f"PyTorch {RELEASE}+cu130 has no kernels for Tesla P40 (compute 6.1)", CU126),
    "mi300x": (f"AMD Instinct MI300X: PyTorch {RELEASE}+rocm7.0 is for AMD's", "--device cpu"),
    "cpu-wheel": (f"PyTorch {RELEASE}+cpu is a build without CUDA", CU130),
    "old-driver": (
        f"is too old for PyTorch {RELEASE}+cu130: it runs CUDA 12.4, CUDA 13.0 needs 580 or later",
        f"update NVIDIA's driver to 580 or later, or {CU126}",
    ),
    "wsl": None,
}


@pytest.fixture
def pose(emulate, emulator_library, tmp_path):
    """Pose as a named machine, below a folder of the test's own."""
    return lambda name, **changes: posing(emulate, emulator_library, tmp_path, name, **changes)


class TestNineMachines:
    """Each says what is wrong with it."""

    @pytest.mark.parametrize("name", SAID)
    def test_doctor(self, pose, wanflow_here, name):
        """It ends well whatever there is, in text and in JSON."""
        with pose(name):
            code, text, _ = wanflow_here("doctor")
            assert code == 0
            code, content, _ = wanflow_here("doctor", "--json")
        report = json.loads(content)
        if SAID[name] is None:
            assert (code, report["problems"]) == (0, [])
            assert "problems none found" in " ".join(text.split())
            return
        sentence, cure = SAID[name]
        (problem,) = report["problems"]
        assert sentence in problem
        assert cure in problem.partition("; ")[2]
        assert sentence in " ".join(text.split())
        assert any(line.strip().startswith(cure) for line in text.splitlines())

    def test_wsl(self, pose, wanflow_here):
        """What its driver refuses was tried, and what goes on without it is said."""
        with pose("wsl"):
            report = json.loads(wanflow_here("doctor", "--json")[1])
        card = report["devices"][1]
        assert report["wsl"]
        assert card["expandable_segments"] == "refused: CUDA driver error: operation not supported"
        assert [*card["pinned"]] == ["64.0 MiB", "1.00 GiB"]
        assert all("operation not supported" in text for text in card["pinned"].values())
        segments, memory = report["notes"]
        assert "plain segments" in segments
        assert "wsl --update" in segments
        assert ".wslconfig" in memory

    def test_a_card_that_works(self, pose, wanflow_here):
        """Driver, builds, capability, what was tried, and what other programs hold."""
        with pose("rtx4060", used_bytes=2**30) as emulator:
            report = json.loads(wanflow_here("doctor", "--json")[1])
            assert torch.cuda.memory_allocated() == 0
            assert not emulator.registered
        card = report["devices"][1]
        assert (card["name"], card["capability"]) == ("cuda:0", "8.9")
        assert card["expandable_segments"] == "works"
        assert card["pinned"] == {"64.0 MiB": "works", "1.00 GiB": "works"}
        assert card["held_bytes"] == 2**30
        assert report["driver"]["version"] == "580.95.05"
        assert (report["pytorch"]["cuda"], report["pytorch"]["cudnn"]) == ("13.0", "9.19.0")
        assert report["notes"] == []

    def test_old_cudnn(self, pose, wanflow_here):
        """Wheels of CUDA 12.6 have one without which PyTorch convolves."""
        with pose("rtx4060", cudnn=91002):
            text = wanflow_here("doctor")[1]
        assert "note: cuDNN 9.10.2: before 9.15 PyTorch" in text
        assert "leave the VAE in fp32" in text


class TestPlan:
    """Told before anything is planned."""

    @pytest.mark.parametrize("name", ["p40", "mi300x"])
    def test_a_card_that_runs_nothing(self, pose, wanflow_here, name):
        """Refused before a context is made."""
        with pose(name) as emulator:
            code, _, err = wanflow_here("plan", "t2v-tiny")
            assert emulator.contexts == set()
        sentence, cure = SAID[name]
        assert code == 2
        assert f"error: {sentence}" in err
        assert f"hint: {cure}" in err

    @pytest.mark.parametrize(
        ("graph", "models"), [("t2v-1.3b", ("text", "dit")), ("t2v-a14b", ("text", "high", "low"))]
    )
    def test_bf16_on_an_old_card(self, pose, wanflow_here, graph, models):
        """The models that the graph has in bf16 are named, and no other; with fp32 nothing is."""
        with pose("t4"):
            code, _, err = wanflow_here("plan", graph)
        options = " ".join(f"--precision {model}=fp16" for model in models)
        assert code == 2
        assert err.endswith(f"hint: {options}\n")

    def test_bf16_by_the_official_command(self, pose, wanflow_here, tmp_path):
        """It has one precision for all."""
        words = ["generate", "--task", "t2v-1.3B", "--size", "832*480", "--prompt", "a circle"]
        (tmp_path / "weights").mkdir()
        with pose("t4"):
            code, _, err = wanflow_here(*words, "--ckpt_dir", tmp_path / "weights")
        assert code == 2
        assert err.endswith("hint: --precision fp16\n")

    def test_fp16_on_an_old_card(self, pose, wanflow_here):
        """A graph in fp32 is planned there, and one with what the hint says."""
        with pose("rtx2080"):
            assert wanflow_here("plan", "t2v-tiny")[0] == 0
            assert wanflow_here("plan", "t2v-tiny", "--precision", "dit=bf16")[0] == 2
            assert wanflow_here("plan", "t2v-tiny", "--precision", "dit=fp16")[0] == 0

    @pytest.mark.parametrize("name", ["cpu-wheel", "old-driver"])
    def test_a_card_that_is_not_used(self, pose, wanflow_here, name):
        """`auto` plans for the CPU and says why, `cuda` is refused for the same reason."""
        sentence, cure = SAID[name]
        with pose(name):
            code, text, _ = wanflow_here("plan", "t2v-tiny")
            assert code == 0
            (note,) = [line for line in text.splitlines() if line.startswith("note: ")]
            assert note.startswith("note: on the CPU, not on NVIDIA's card: ")
            assert f"{sentence}; {cure}" in note
            code, _, err = wanflow_here("plan", "t2v-tiny", "--device", "cuda")
        assert code == 2
        assert f"{sentence}\nhint: {cure}" in err

    def test_wsl(self, pose, wanflow_here):
        """Planned the plain ways, which the plan says."""
        with pose("wsl"):
            code, text, _ = wanflow_here("plan", "t2v-tiny")
            report = json.loads(wanflow_here("plan", "t2v-tiny", "--json")[1])
        assert code == 0
        assert "of the peak, plain segments" in text
        assert "for weights on their way, not pinned" in text
        assert (report["expandable_segments"], report["pinned_memory"]) == (False, False)
        assert [note[:27] for note in report["notes"]] == [
            "the driver refuses expandab", "the driver refuses to pin h",
        ]  # fmt: skip

    def test_a_named_machine_asks_nothing_of_the_card(self, pose, wanflow_here):
        """Not even whether it is there."""
        with pose("p40") as emulator:
            assert wanflow_here("plan", "t2v-tiny", "--machine", "rtx4060")[0] == 0
            assert emulator.contexts == set()
            assert not emulator.calls


def test_the_posed_files_are_the_tests_own(pose, tmp_path):
    """Nothing of this computer is looked at."""
    from wanflow import system

    with pose("wsl"):
        seen = system.look()
    assert seen.wsl
    assert Path(tmp_path / "dev/dxg").exists()
