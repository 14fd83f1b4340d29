"""What every profile rests on."""

import shutil
from pathlib import Path

import pytest
import torch

import wanflow
from wanflow.scheduler.profile import cache_key as module
from wanflow.scheduler.profile.cache_key import conditions, sources_digest

PACKAGE = Path(wanflow.__file__).parent


class TestConditions:
    def test_repeat(self) -> None:
        """Nothing of a moment is in them."""
        assert conditions("cpu") == conditions("cpu")

    def test_device(self) -> None:
        """Its table of workspaces."""
        assert conditions("cpu") != conditions("cuda")

    def test_threads(self, monkeypatch) -> None:
        """Kernels take room for each."""
        before = conditions("cpu")
        monkeypatch.setattr(torch, "get_num_threads", lambda: 77)

        assert conditions("cpu") != before

    def test_processor(self, monkeypatch) -> None:
        """Kernels are chosen by its instructions."""
        before = conditions("cpu")
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "ABACUS")

        assert conditions("cpu") != before

    @pytest.mark.parametrize("name", ["torch", "diffusers", "transformers", "wanflow"])
    def test_versions(self, monkeypatch, name) -> None:
        """Of all whose code is run."""
        before, versions = conditions("cpu"), module._versions()
        monkeypatch.setattr(module, "_versions", lambda: {**versions, name: "0"})

        assert name in versions
        assert conditions("cpu") != before


class TestSources:
    @pytest.fixture
    def copy(self, tmp_path):
        """Copy the package to where it may be changed."""
        return shutil.copytree(PACKAGE, tmp_path / "wanflow")

    def test_same_sources_same_digest(self, copy) -> None:
        """Wherever they lie."""
        assert sources_digest(PACKAGE) == sources_digest(copy)

    @pytest.mark.parametrize(
        "name", ["stages/denoise.py", "models/dit.py", "scheduler/workspace.py", "stages/new.py"]
    )
    def test_any_change_shows(self, copy, name) -> None:
        """In whatever can shape a call or count it."""
        with (copy / name).open("a") as file:
            file.write("# changed\n")

        assert sources_digest(PACKAGE) != sources_digest(copy)
