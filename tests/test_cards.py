"""What a card and a build of PyTorch can do together, and the way out where they can't."""

import pytest
import torch

from wanflow import cards
from wanflow.cards import TorchBuild, TorchCard, no_bf16, no_card, runs_on, unusable
from wanflow.system import Driver, SeenCard, System
from wanflow.units import GIB

INDEX = "--index-url https://download.pytorch.org/whl"
CU126 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
CU130 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")


def build(version="2.13.0+cu130", cuda="13.0", hip=None, arches=CU130, cudnn="9.19.0"):
    return TorchBuild(version, cuda, hip, arches, cudnn)


CPU = build("2.13.0+cpu", None, None, (), "")


def card(name="NVIDIA GeForce RTX 4060", capability=(8, 9)):
    return TorchCard(name, capability, 8 * GIB, "1-2", shares_ram=False)


def system(version="580.65.06", cuda=(13, 0), capability=(8, 9), **others):
    seen = (SeenCard("a card", "GPU-1-2", capability, GIB, GIB),) if capability else ()
    facts = {"nodes": True, "wsl": False, "container": False, **others}
    return System(Driver(version, cuda, seen), **facts)


class TestCode:
    """Which code runs on which card."""

    @pytest.mark.parametrize(
        ("capability", "arches", "runs"),
        [
            ((8, 9), CU130, True),  # sm_86, of the same major version
            ((8, 0), ("sm_86",), False),  # a smaller minor one
            ((9, 0), ("sm_86", "sm_89"), False),
            ((12, 1), ("sm_120",), True),
            ((6, 1), CU130, False),
            ((6, 1), CU126, True),
            ((7, 0), CU130, False),
            ((12, 0), CU126, False),
            ((12, 0), (*CU126, "compute_90"), True),  # PTX: on all that come after
            ((7, 5), ("compute_90",), False),
            ((9, 0), ("sm_90a",), True),
            ((10, 0), ("sm_90a",), False),
            ((10, 3), ("sm_100f",), True),
            ((10, 3), ("sm_100a",), False),
            ((8, 7), ("sm_80", "sm_86"), False),  # a Jetson
            ((8, 7), ("sm_87",), True),
            ((8, 9), ("gfx942",), False),
        ],
    )
    def test_runs(self, capability, arches, runs):
        """By NVIDIA's rule."""
        assert runs_on(arches, capability) is runs

    def test_as_pytorch_has_it(self):
        """PyTorch has the same rule for plain code on every card and build that it names."""
        requirement = torch.cuda.DEVICE_REQUIREMENT
        named = {60, 61, 70, 75, 80, 86, 87, 89, 90, 100, 103, 120, 121}
        for code in named & {*requirement}:
            for own in named:
                mine = runs_on((f"sm_{code}",), divmod(own, 10))
                assert mine is (own in requirement[code]), (code, own)


class TestUnusable:
    """A card that PyTorch shows, and that nothing runs on."""

    def test_good(self):
        """An ordinary card, and a build that doesn't say what it has code for."""
        assert unusable(card(), build()) is None
        assert unusable(card(), build(arches=())) is None

    @pytest.mark.parametrize(
        ("name", "capability", "way"),
        [
            ("Tesla P40", (6, 1), f"pip install torch==2.13.0+cu126 {INDEX}/cu126"),
            ("Tesla V100-SXM2-16GB", (7, 0), f"pip install torch==2.13.0+cu126 {INDEX}/cu126"),
            ("Tesla K80", (3, 7), "--device cpu"),
        ],
    )
    def test_no_kernels(self, name, capability, way):
        """A build without code for it names the one that has, if any."""
        problem = unusable(card(name, capability), build())
        assert problem is not None
        assert f"PyTorch 2.13.0+cu130 has no kernels for {name}" in problem.message
        assert problem.hint == way
        assert problem.error.exit_code == 2

    def test_newer_than_the_build(self):
        """A card of today and a wheel for old ones."""
        problem = unusable(card("NVIDIA GeForce RTX 5090", (12, 0)), build(arches=CU126))
        assert problem is not None
        assert "torch==2.13.0+cu130" in problem.hint

    def test_rocm(self):
        """PyTorch for AMD shows its cards as CUDA's; nothing that is planned holds there."""
        amd = build("2.13.0+rocm6.4", None, "6.4.43483", ("gfx942",))
        problem = unusable(card("AMD Instinct MI300X", (9, 4)), amd)
        assert problem is not None
        assert "AMD" in problem.message
        assert problem.code == "rocm"


class TestPrecision:
    """bf16 begins with Ampere."""

    @pytest.mark.parametrize(
        ("name", "capability"), [("NVIDIA GeForce RTX 2080", (7, 5)), ("Tesla P40", (6, 1))]
    )
    def test_before(self, name, capability):
        """The models in bf16 are named, each with the option that runs it."""
        precisions = {"text": "bf16", "clip": "fp16", "dit": "bf16", "vae": "fp32"}
        problem = no_bf16(card(name, capability), precisions)
        assert problem is not None
        assert ": text and dit would run in it" in problem.message
        assert problem.hint == "--precision text=fp16 --precision dit=fp16"

    def test_keeps_what_was_asked(self):
        """Other precisions that were asked for are in the hint too: it is the whole answer."""
        problem = no_bf16(card("T4", (7, 5)), {"a": "bf16", "b": "fp32"}, ("bf16", "b=fp32"))
        assert problem is not None
        assert problem.hint == "--precision b=fp32 --precision a=fp16"

    @pytest.mark.parametrize(
        ("capability", "precision"), [((7, 5), "fp16"), ((7, 5), "fp32"), ((8, 0), "bf16")]
    )
    def test_fits(self, capability, precision):
        """Nothing is said of others."""
        assert no_bf16(card("a card", capability), {"dit": precision}) is None


class TestNoCard:
    """PyTorch uses none, although there is one."""

    @pytest.mark.parametrize(
        ("computer", "way"),
        [
            (system(), "torch==2.13.0+cu130 "),
            (system("535.104.05", (12, 2)), "torch==2.13.0+cu126 "),
            (system(capability=(6, 1)), "torch==2.13.0+cu126 "),
            (system("550.54.14", (12, 4), (12, 0)), "update NVIDIA's driver to 580"),
            (system(capability=None), "torch==2.13.0+cu130 "),
            (system("", None, None), "torch==2.13.0+cu130 "),
        ],
    )
    def test_cpu_build(self, computer, way):
        """The wheel to install is one that this driver and this card run."""
        problem = no_card(CPU, computer, None, "")
        assert problem is not None
        assert problem.message == "PyTorch 2.13.0+cpu is a build without CUDA"
        assert way in problem.hint

    def test_old_driver(self):
        """The numbers, and both ways: a newer driver, or an older CUDA."""
        problem = no_card(build(), system("535.104.05", (12, 2)), None, "")
        assert problem is not None
        assert problem.message == (
            "the driver (535.104.05) is too old for PyTorch 2.13.0+cu130: it runs CUDA 12.2, "
            "CUDA 13.0 needs 580 or later"
        )
        assert problem.hint.startswith("update NVIDIA's driver to 580 or later, or pip install")
        assert "cu126" in problem.hint

    def test_old_driver_in_wsl(self):
        """There the driver is Windows'."""
        problem = no_card(build(), system("535.104.05", (12, 2), wsl=True), None, "")
        assert problem is not None
        assert "in Windows" in problem.hint

    def test_old_driver_with_a_new_card(self):
        """No older build has code for it."""
        problem = no_card(build(), system("570.86.15", (12, 8), (12, 0)), None, "")
        assert problem is not None
        assert problem.hint == "update NVIDIA's driver to 580 or later"

    @pytest.mark.parametrize("visible", ["", "-1", "NoDevFiles", " "])
    def test_hidden(self, visible):
        """CUDA_VISIBLE_DEVICES names none."""
        problem = no_card(build(), system(), visible, "")
        assert problem is not None
        assert problem.hint == "unset CUDA_VISIBLE_DEVICES"

    @pytest.mark.parametrize("visible", [None, "0", "1,0", "GPU-8932f937", "MIG-1"])
    def test_other_reasons(self, visible):
        """Else PyTorch's own words."""
        problem = no_card(build(), system(), visible, "CUDA unknown error")
        assert problem is not None
        assert problem.message == "CUDA unknown error"

    def test_container(self):
        """The kernel's driver is seen in a container that got no card."""
        computer = system("580.65.06", None, None, nodes=False, container=True)
        problem = no_card(build(), computer, None, "")
        assert problem is not None
        assert "docker run --gpus all" in problem.hint

    def test_updated_and_not_loaded(self):
        """NVML knows of a library that isn't the kernel's."""
        computer = System(Driver(problem="Driver/library version mismatch"), True, False, False)
        problem = no_card(build(), computer, None, "CUDA unknown error")
        assert problem is not None
        assert "version mismatch" in problem.message
        assert problem.hint.startswith("restart the computer")

    def test_none_at_all(self):
        """A computer without a card says nothing, nor does a build for AMD's."""
        assert no_card(CPU, System(Driver(), False, False, False), None, "") is None
        assert no_card(build(cuda=None, hip="6.4"), system(), None, "") is None


class TestPyTorch:
    """What PyTorch here says of itself."""

    def test_build(self):
        """As it is installed."""
        found = cards.torch_build()
        assert found.version == torch.__version__
        assert found.release == torch.__version__.partition("+")[0]

    @pytest.mark.parametrize(
        ("cudnn", "slow"), [("", False), ("9.10.2", True), ("9.15.0", False), ("10.0.0", False)]
    )
    def test_convolutions(self, cudnn, slow):
        """Before 9.15 cuDNN is left out of half-precision convolutions."""
        assert build(cudnn=cudnn).convolves_slowly is slow
