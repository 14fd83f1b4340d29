"""Compile what `--pin STAGE.compile=on` asks for, before a run: `torch.compile`, kept on disk."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs
import torch

from wanflow.errors import InputError
from wanflow.files.folders import cache_folder
from wanflow.graph import BoundStage
from wanflow.models.wan.first_calls import FirstCalls
from wanflow.scheduler.knobs import Knobs
from wanflow.session.preparing.prepared import Prepared
from wanflow.stages.denoise import COMPILE

# Read by PyTorch (`torch/_inductor/config.py`, `runtime/cache_dir_utils.py`). One thread: kernels
# are few and small, and processes that were started to compile them would stay.
_FOLDER, _THREADS = "TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS"


@attrs.frozen
class Compiled:
    """What was compiled, or found compiled: by stage, and what all of it took."""

    kernels: Mapping[str, int]
    seconds: float

    def __str__(self) -> str:
        """Say it to a person."""
        counts = ", ".join(f"{count} kernels of {name}" for name, count in self.kernels.items())
        return f"{counts} in {self.seconds:.1f} s, before the first call"


def check_compiler(knobs: Knobs, device: torch.device) -> None:
    """Refuse, exit 2, what could not be compiled here; a plan for elsewhere asks nothing of this.

    On a CPU PyTorch needs a C++ compiler, on a card Triton, which needs one of C.
    """
    stages = [stage for stage, chosen in knobs.items() if chosen.get(COMPILE.name) == "on"]
    if not stages:
        return
    where = f"--pin {stages[0]}.{COMPILE.name}=on"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise InputError(
            f"{where}: on a card kernels are compiled by Triton, which is not installed",
            hint="pip install triton, or leave the pin out",
            code="no-compiler",
        )
    variable, names = ("CC", ("gcc", "clang")) if device.type == "cuda" else ("CXX", ("g++",))
    tried = (os.environ[variable],) if os.environ.get(variable) else names
    if not any(map(shutil.which, tried)):
        raise InputError(
            f"{where}: there is no compiler here: {' or '.join(tried)} not found",
            hint=f"install one, name it in {variable}, or leave the pin out",
            code="no-compiler",
        )


def compile_stages(prepared: Prepared, knobs: Knobs) -> Compiled | None:
    """Compile the kernels of every stage that asks for them; None where none does."""
    asked = [
        stage
        for stage in prepared.graph.stages
        if knobs.get(stage.name, {}).get(COMPILE.name) == "on"
    ]
    if not asked:
        return None
    began = time.perf_counter()
    with _kept_on_disk():
        counts = {stage.name: _compile(prepared, stage) for stage in asked}
    return Compiled(counts, time.perf_counter() - began)


def _compile(prepared: Prepared, stage: BoundStage) -> int:
    if stage.model is None:
        raise AssertionError(f"{stage.name} has nothing to compile")
    model = prepared.models[stage.model].model
    dtypes = {t.name: t.dtype for s in model.segments.values() for t in s.tensors}
    by_token = stage.params["token_timesteps"] == "own"  # noqa: S105 - none of a password
    calls = FirstCalls(model.module, dtypes.__getitem__, prepared.place.device, by_token)
    try:
        return calls.make()
    except RuntimeError as error:  # the compiler's own words are among those of PyTorch
        if not type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
            raise
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"stage {stage.name}: its kernels can't be compiled here: {first}",
            hint=f"leave --pin {stage.name}.{COMPILE.name}=on out",
            code="compile-failed",
        ) from error


@contextmanager
def _kept_on_disk() -> Iterator[None]:
    """Have PyTorch keep what it compiles with our other caches, unless it was told where."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    ours = {_FOLDER: str(cache_folder() / "compiled"), _THREADS: "1"}
    before = {name: os.environ.get(name) for name in ours}
    # PyTorch writes its default into the environment when it first looks there.
    defaults = {_FOLDER: (None, default_cache_dir()), _THREADS: (None,)}
    os.environ.update({n: text for n, text in ours.items() if before[n] in defaults[n]})
    try:
        yield
    finally:
        for name, text in before.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text
