"""The variables of the environment that matter: what each is for, and what those of ours may be."""

from __future__ import annotations

import os

import attrs

from wanflow.errors import InputError


@attrs.frozen
class Variable:
    """A variable that we read, or that a library below us does. `allowed` are all its values."""

    name: str
    about: str
    default: str = ""
    allowed: tuple[str, ...] = ()

    @property
    def value(self) -> str:
        """Its text, where it is unset or empty the default; InputError for what is not allowed."""
        text = os.environ.get(self.name) or self.default
        if self.allowed and text not in self.allowed:
            hint = " or ".join(self.allowed)
            raise InputError(f"{self.name}={text!r}", hint=hint, code="bad-option")
        return text

    @property
    def stated(self) -> str | None:
        """Its text as it is set, empty or not; None where it is unset."""
        return os.environ.get(self.name)


VRAM = Variable("WANFLOW_VRAM", "the default of `--vram`", "auto")
DEVICE = Variable("WANFLOW_DEVICE", "the default of `--device`", "auto")
MODELS = Variable("WANFLOW_MODELS", "a folder with weights")
CHECK = Variable(
    "WANFLOW_CHECK", "`1`: check the accounts after every move, `0`: don't", "0", ("0", "1")
)
PROMPT_CACHE = Variable(
    "WANFLOW_PROMPT_CACHE",
    "`on`: keep encoded prompts and read them, `off`: encode anew",
    "on",
    ("on", "off"),
)
PROBE = Variable(
    "WANFLOW_PROBE",
    "`on`: measure a CPU before its first plan, two seconds at most, `off`: don't",
    "on",
    ("on", "off"),
)
CONFIG_HOME = Variable("XDG_CONFIG_HOME", "where machines are kept", "~/.config")
CACHE_HOME = Variable("XDG_CACHE_HOME", "where footprints and prompts are kept", "~/.cache")
DATA_HOME = Variable("XDG_DATA_HOME", "where downloads go", "~/.local/share")
ALLOC_CONF = Variable("PYTORCH_ALLOC_CONF", "PyTorch's allocator on a card")
CUDA_ALLOC_CONF = Variable("PYTORCH_CUDA_ALLOC_CONF", "the same by its old name")
VISIBLE_CARDS = Variable("CUDA_VISIBLE_DEVICES", "the cards that are seen")
ONEDNN_ISA = Variable("ONEDNN_MAX_CPU_ISA", "what oneDNN may use of a CPU")
GLOO_INTERFACE = Variable(
    "GLOO_SOCKET_IFNAME", "where `--devices cpu*2` meets; `lo`: this computer alone", "lo"
)
RAY_USAGE = Variable("RAY_USAGE_STATS_ENABLED", "`1`: Ray tells its makers how it is used", "0")

# What we don't read ourselves is here for `doctor`, and for who reads its report.
VARIABLES = (
    VRAM, DEVICE, MODELS, CHECK, PROMPT_CACHE, PROBE,
    VISIBLE_CARDS, ALLOC_CONF, CUDA_ALLOC_CONF,
    Variable("OMP_NUM_THREADS", "threads of the kernels on a CPU"), ONEDNN_ISA,
    Variable("THP_MEM_ALLOC_ENABLE", "`0`: PyTorch asks for no large pages on a CPU", "1"),
    GLOO_INTERFACE, RAY_USAGE,
    Variable("HF_HOME", "where the hub's token is"),
    Variable("HF_HUB_OFFLINE", "`1`: nothing is fetched"),
    Variable("NO_COLOR", "no colours on a terminal"), CONFIG_HOME, CACHE_HOME, DATA_HOME,
)  # fmt: skip


def set_default(variable: Variable) -> None:
    """Set a library's variable to our default, unless the user has set it."""
    os.environ.setdefault(variable.name, variable.default)


def in_force() -> dict[str, str]:
    """Give those that are set, never the whole environment."""
    return {v.name: os.environ[v.name] for v in VARIABLES if v.name in os.environ}
