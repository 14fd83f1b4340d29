"""What a card and this build of PyTorch can do together: told before anything is planned on it.

Which code runs on which card is NVIDIA's rule (CUDA C++ programming guide, "Binary compatibility"):
`sm_86` on cards of the same major version and at least that minor, `compute_90` (PTX, compiled by
the driver) on all from there on, an `a` behind it on that card alone, an `f` on its family.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs

from wanflow.errors import InputError
from wanflow.system import System

Capability = tuple[int, int]

_BF16 = (8, 0)  # Ampere: before it no product, convolution or fused attention takes bf16
_TEGRA = ((5, 3), (6, 2), (7, 2), (8, 7))  # run their own code alone, as PyTorch has it
_ARCH = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")
_CONVOLVES = (9, 15)  # cuDNN, which PyTorch trusts with it from here on
# The least driver of each CUDA (NVIDIA's "CUDA compatibility", minor versions), and what PyTorch's
# wheels from 2.11 on have code for (its RELEASE.md): CUDA 12.6 for cards before Turing.
_LEAST_DRIVER = {11: 450, 12: 525, 13: 580}
_WHEELS = {"cu130": ((7, 5), (99, 0)), "cu126": ((5, 0), (9, 9))}
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@attrs.frozen
class CardProblem:
    """Why a card can't be used, and the way out of it."""

    message: str
    hint: str
    code: str

    @property
    def error(self) -> InputError:
        """The same as what ends a command."""
        return InputError(self.message, hint=self.hint, code=self.code)


@attrs.frozen
class TorchBuild:
    """A build of PyTorch: what it was compiled for."""

    version: str
    cuda: str | None
    hip: str | None
    arches: tuple[str, ...]
    cudnn: str  # `9.15.1`

    @property
    def release(self) -> str:
        """Its version without the name of the build."""
        return self.version.partition("+")[0]

    @property
    def convolves_slowly(self) -> bool:
        """Whether PyTorch convolves videos in bf16 and fp16 without cuDNN (pytorch#166643)."""
        return bool(self.cudnn) and tuple(map(int, self.cudnn.split("."))) < _CONVOLVES


@attrs.frozen
class TorchCard:
    """A card as PyTorch sees it."""

    name: str
    capability: Capability
    total_bytes: int
    uuid: str
    shares_ram: bool  # a Jetson's, or of a chip that is processor and card in one


def torch_build() -> TorchBuild:
    """Say what this PyTorch is; nothing is asked of a card."""
    import torch

    cuda, hip = torch.version.cuda, torch.version.hip
    number = 0 if hip else torch.backends.cudnn.version() or 0  # AMD's is MIOpen
    cudnn = f"{number // 10000}.{number % 10000 // 100}.{number % 100}" if number else ""
    return TorchBuild(torch.__version__, cuda, hip, tuple(torch.cuda.get_arch_list()), cudnn)


def cards_there() -> tuple[int, str]:
    """Count the cards that PyTorch can use; where there is none, with its own words why.

    `device_count` alone asks NVML, which counts cards that the driver is too old for.
    """
    import torch

    with _warnings_held() as said:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    words = str(said[0].message) if said and not count else ""
    return count, words.removeprefix("CUDA initialization: ").partition(" (Triggered")[0]


def torch_card(index: int) -> TorchCard:
    """Ask for a card; PyTorch's own warning of one that it has no code for is not passed on."""
    import torch

    with _warnings_held():
        about = torch.cuda.get_device_properties(index)
    return TorchCard(
        str(about.name),
        (int(about.major), int(about.minor)),
        int(about.total_memory),
        str(getattr(about, "uuid", "")),
        bool(getattr(about, "is_integrated", False)),
    )


@contextmanager
def _warnings_held() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield said


def runs_on(arches: tuple[str, ...], capability: Capability) -> bool:
    """Whether a build with code for *arches* has any that runs on a card."""
    return any(_runs(arch, capability) for arch in arches)


def _runs(arch: str, capability: Capability) -> bool:
    parts = _ARCH.fullmatch(arch)
    if parts is None:
        return False
    code = (int(parts[2]), int(parts[3]))
    if parts[4] == "a" or (parts[1] == "sm" and {code, capability} & {*_TEGRA}):
        return capability == code
    if parts[1] == "compute" and not parts[4]:
        return capability >= code
    return capability[0] == code[0] and capability >= code


def unusable(card: TorchCard, build: TorchBuild) -> CardProblem | None:
    """Say why a card that PyTorch shows can't be used by what there is."""
    if build.hip is not None:
        return CardProblem(
            f"{card.name}: PyTorch {build.version} is for AMD's cards, of which nothing here is "
            "known: neither their memory nor their kernels' would be as planned",
            "--device cpu, or a card of NVIDIA's",
            "rocm",
        )
    if build.arches and not runs_on(build.arches, card.capability):
        return CardProblem(
            f"PyTorch {build.version} has no kernels for {card.name} (compute "
            f"{_dotted(card.capability)}): it has {' '.join(build.arches)}",
            _install(build, wheel_for(card.capability, None)) or "--device cpu",
            "no-kernels",
        )
    return None


def no_bf16(
    card: TorchCard, precisions: Mapping[str, str], stated: tuple[str, ...] = ()
) -> CardProblem | None:
    """Say which models can't be computed in bf16 on a card; *stated* options stay in the hint."""
    models = [name for name, precision in precisions.items() if precision == "bf16"]
    if card.capability >= _BF16 or not models:
        return None
    others = [text for text in stated if not text.endswith("bf16")]
    options = [*others, *(f"{model}=fp16" for model in models)]
    return CardProblem(
        f"{card.name} (compute {_dotted(card.capability)}) has no bf16, which begins at compute "
        f"{_dotted(_BF16)}: {_listed(models)} would run in it",
        " ".join(f"--precision {option}" for option in options),
        "no-bf16",
    )


def no_card(
    build: TorchBuild, system: System, visible: str | None, words: str
) -> CardProblem | None:
    """Say why PyTorch uses no card although there is one, or NVIDIA's driver; None without.

    *visible* is `CUDA_VISIBLE_DEVICES`, *words* what PyTorch said itself.
    """
    if not system.has_card or build.hip is not None:
        return None
    driver = system.driver
    if build.cuda is None:
        return CardProblem(
            f"PyTorch {build.version} is a build without CUDA",
            _install(build, _wheel(system)) or _update(system, 13),
            "cpu-build",
        )
    major = int(build.cuda.partition(".")[0])
    if driver.cuda is not None and driver.cuda[0] < major:
        wheel = _wheel(system)
        instead = _install(build, wheel) if wheel and f"cu{driver.cuda[0]}" in wheel else ""
        return CardProblem(
            f"the driver{_version(system)} is too old for PyTorch {build.version}: it runs CUDA "
            f"{_dotted(driver.cuda)}, CUDA {build.cuda} needs {_LEAST_DRIVER.get(major, 'a newer')}"
            f"{' or later' if major in _LEAST_DRIVER else ''}",
            _update(system, major) + (f", or {instead}" if instead else ""),
            "old-driver",
        )
    return _hidden(system, visible, words)


def _hidden(system: System, visible: str | None, words: str) -> CardProblem:
    """The reasons that are neither the build's nor the driver's version."""
    driver = system.driver
    if visible is not None and not _shows(visible):
        return CardProblem(f"{_VISIBLE}={visible!r} hides it", f"unset {_VISIBLE}", "hidden-card")
    if driver.problem:
        text = f"NVIDIA's driver says: {driver.problem}"
        return CardProblem(text, "restart the computer, then see nvidia-smi", "driver")
    if not system.nodes and system.container:
        text = "this container was started without its cards"
        return CardProblem(text, "docker run --gpus all (podman: --device nvidia.com/gpu=all)",
                           "no-card-nodes")  # fmt: skip
    if not system.nodes:
        text = "the driver is loaded and there is no /dev/nvidia0"
        return CardProblem(text, "sudo nvidia-smi, which makes it", "no-card-nodes")
    return CardProblem(words or "PyTorch can't open it", "see what nvidia-smi says", "no-card")


def _shows(visible: str) -> bool:
    """Whether the first of a list of cards could be one: CUDA stops at the first that is none."""
    first = visible.split(",", maxsplit=1)[0].strip()
    return first.isdecimal() or first.startswith(("GPU-", "MIG-"))


def _wheel(system: System) -> str | None:
    """The wheel for this computer's cards and driver, as far as they are known."""
    cards = system.driver.cards
    return wheel_for(cards[0].capability if cards else None, system.driver.cuda)


def wheel_for(capability: Capability | None, driver: Capability | None) -> str | None:
    """Choose the newest of PyTorch's CUDA builds that a card and a driver can run, if any."""
    for wheel, (oldest, newest) in _WHEELS.items():
        runs = capability is None or oldest <= capability <= newest
        if runs and (driver is None or driver[0] >= int(wheel[2:4])):
            return wheel
    return None


def _install(build: TorchBuild, wheel: str | None) -> str:
    """The command that installs a wheel; its name in the version, or pip leaves the other one."""
    if wheel is None:
        return ""
    index = f"https://download.pytorch.org/whl/{wheel}"
    return f"pip install torch=={build.release}+{wheel} --index-url {index}"


def _update(system: System, major: int) -> str:
    where = " in Windows, not here" if system.wsl else ""
    least = f" to {_LEAST_DRIVER[major]} or later" if major in _LEAST_DRIVER else ""
    return f"update NVIDIA's driver{least}{where}"


def _version(system: System) -> str:
    return f" ({system.driver.version})" if system.driver.version else ""


def _dotted(version: Capability) -> str:
    return f"{version[0]}.{version[1]}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
