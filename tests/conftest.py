"""One setting for every test: a fixed terminal, no leftovers of the caller's environment."""

import itertools
import os

import hypothesis
import pytest

pytest_plugins = ["tests.cost"]

# Before torch is imported. The table of workspaces is to the byte for AVX-512; with AMX's tiles it
# is an upper bound, which test_kernel_workspace.py holds to in a process of its own.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
# As `make test` has it: a fork of a process with OpenMP's threads waits for them for ever.
os.environ.setdefault("OMP_NUM_THREADS", "1")

hypothesis.settings.register_profile(
    "fixed", derandomize=True, deadline=None, max_examples=100, database=None
)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("soak" if os.environ.get("SOAK") else "fixed")


_NUMBERS = itertools.count()


@pytest.fixture(autouse=True, scope="session")
def no_configuration(tmp_path_factory, pytestconfig):
    """Keep fixtures that outlive a test, too, from what this computer has stored.

    Footprints are shared by all tests, by both workers, and by the next run of the suite: the
    sources that decide them are in their keys. A test of the caches takes `own_cache`.
    """
    nowhere = tmp_path_factory.getbasetemp() / "no-configuration"
    keeps = pytestconfig.pluginmanager.has_plugin("cacheprovider")
    cache = pytestconfig.cache.mkdir("footprints") if keeps else nowhere / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(nowhere))
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.setenv("XDG_DATA_HOME", str(nowhere / "data"))
        patch.setenv("WANFLOW_PROMPT_CACHE", "off")
        patch.setenv("WANFLOW_PROBE", "off")
        yield


@pytest.fixture(scope="session")
def measured_runs(tmp_path_factory):
    """Run a request under torch.profiler, once in this process; see `tests.jobs.MeasuredRuns`."""
    from tests.jobs import MeasuredRuns

    return MeasuredRuns(tmp_path_factory.mktemp("measured"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Write a tiny model that is not bundled, once; a folder of diffusers or an official one."""
    from tests.folders import make_model
    from tests.official import write_official

    base = tmp_path_factory.mktemp("models")

    def make(config, *, experts=False, official=False):
        folder = base / f"{config}{'-experts' * experts}"
        if not folder.exists():
            make_model(config, folder, experts=experts)
            write_official(folder.with_name(f"{folder.name}-official"), folder)
        return folder.with_name(f"{folder.name}-official") if official else folder

    return make


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache folder for this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own-cache"))
    return tmp_path / "own-cache"


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch, tmp_path_factory):
    """Fix what a rendering depends on; `COLUMNS` may be set again by a test."""
    from wanflow.remarks import take_remarks

    take_remarks()  # nor what another test went on without
    # No machine from this computer, and none that a test leaves to the next.
    nowhere = tmp_path_factory.getbasetemp() / f"no-configuration-{next(_NUMBERS)}"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(nowhere))
    monkeypatch.setenv("XDG_DATA_HOME", str(nowhere / "data"))
    for name in [n for n in os.environ if n.startswith("WANFLOW_")] + ["FORCE_COLOR", "LINES"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANFLOW_PROMPT_CACHE", "off")  # its own tests turn it on
    monkeypatch.setenv("WANFLOW_PROBE", "off")  # the same
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")


def _has_card():
    import torch

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items):
    """Skip where there is no card what the emulated one can't stand in for, with the reason."""
    marks = [(item, item.get_closest_marker("gpu")) for item in items]
    real = [(item, mark.kwargs["real"]) for item, mark in marks if mark and "real" in mark.kwargs]
    if real and not _has_card():
        for item, reason in real:
            item.add_marker(pytest.mark.skip(reason=f"needs a real CUDA card: {reason}"))


@pytest.fixture(autouse=True)
def _card_of_gpu_tests(request):
    """Give tests marked `gpu` a card."""
    if request.node.get_closest_marker("gpu"):
        request.getfixturevalue("card")


@pytest.fixture(scope="session")
def emulator_library(pytestconfig, tmp_path_factory):
    """The library of the CUDA emulator, built once; skips where it can't be."""
    from tests.cuda_emulator import build

    if reason := build.why_not():
        pytest.skip(reason)
    keeps = pytestconfig.pluginmanager.has_plugin("cacheprovider")
    folder = pytestconfig.cache.mkdir("cuda-emulator") if keeps else tmp_path_factory.getbasetemp()
    return build.library(folder)


@pytest.fixture
def emulate(emulator_library):
    """Give what makes a context in which `torch.cuda` has a card; see tests/cuda_emulator."""
    from tests.cuda_emulator.card import Card
    from tests.cuda_emulator.emulated import emulated

    return lambda card=None: emulated(emulator_library, card or Card())


@pytest.fixture
def emulator(emulate):
    """A card of 8 GB for this test."""
    with emulate() as device:
        yield device


@pytest.fixture
def card(request):
    """A card to run on: None where there is a real one, else the emulator that stands in for it."""
    return None if _has_card() else request.getfixturevalue("emulator")
