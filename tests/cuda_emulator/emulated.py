"""`torch.cuda` on the emulator's device: stood in for within `emulated`, put back after."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils import _device

from tests.cuda_emulator import streams
from tests.cuda_emulator.card import Card
from tests.cuda_emulator.clocks import Clocks
from tests.cuda_emulator.device import Emulator
from tests.cuda_emulator.thread_order import watch_threads
from wanflow import system
from wanflow.session.preparing import card as session_card


def _empty(emulator: Emulator) -> Callable[..., torch.Tensor]:
    """Stand in for `torch.empty`: memory of the host may be pinned, and may run out."""
    plain = torch.empty

    def empty(*args: Any, pin_memory: bool = False, **kwargs: Any) -> torch.Tensor:
        if kwargs.get("device") is None and (error := emulator.fails("host memory", 0)):
            raise error
        memory = plain(*args, **kwargs)
        if pin_memory:
            emulator.pinned(memory.data_ptr(), memory.nbytes)
        return memory

    return empty


def _about_the_card(emulator: Emulator) -> dict[str, Any]:
    """What stands in for the questions of `torch.cuda`: which card, which build."""
    card = emulator.card
    about = [
        SimpleNamespace(
            name=card.name, major=card.capability[0], minor=card.capability[1],
            total_memory=card.total_bytes, multi_processor_count=card.processors,
            uuid=f"{index}0000000-0000-0000-0000-000000000000", is_integrated=False,
        )
        for index in range(card.count)
    ]  # fmt: skip

    def is_available() -> bool:
        if card.unusable:
            warnings.warn(card.unusable, stacklevel=2)
        return emulator.is_usable

    def properties(device: Any = None) -> SimpleNamespace:
        initialize()
        index = streams.index_of(device)
        if index >= card.count:
            raise AssertionError("Invalid device id")
        return about[index]

    def initialize() -> None:
        if card.cuda is None and card.hip is None:
            raise AssertionError("Torch not compiled with CUDA enabled")
        if card.unusable:
            raise RuntimeError(card.unusable.removeprefix("CUDA initialization: "))

    return {
        "init": initialize,
        "_lazy_init": initialize,
        "is_available": is_available,
        "is_initialized": lambda: bool(emulator.contexts),
        "_is_compiled": lambda: card.cuda is not None or card.hip is not None,
        "device_count": lambda: card.count if emulator.is_usable else 0,
        "get_device_properties": properties,
        "get_device_capability": lambda device=None: card.capability,
        "get_device_name": lambda device=None: card.name,
        "get_arch_list": lambda: list(card.arch_list) if emulator.is_usable else [],
        "is_bf16_supported": lambda including_emulation=True: (
            including_emulation or card.capability >= (8, 0)
        ),
    }


def _work_of_the_card(emulator: Emulator) -> dict[str, Any]:
    """What stands in for what `torch.cuda` does and counts."""

    def counter(name: str) -> Callable[..., int]:
        return lambda device=None: emulator.counters(device)[name]

    return {
        "current_device": emulator.current_device,
        "set_device": lambda device: emulator.set_device(streams.index_of(device)) and None,
        "_exchange_device": emulator.set_device,
        "_maybe_exchange_device": emulator.set_device,
        "Stream": streams.Stream,
        "Event": streams.Event,
        "stream": streams.stream,
        "set_stream": streams.set_stream,
        "current_stream": streams.current_stream,
        "default_stream": streams.default_stream,
        "synchronize": streams.synchronize,
        "cudart": lambda: emulator,
        "empty_cache": emulator.empty_cache,
        "memory_allocated": counter("allocated"),
        "max_memory_allocated": counter("allocated_peak"),
        "memory_reserved": counter("reserved"),
        "max_memory_reserved": counter("reserved_peak"),
        "reset_peak_memory_stats": emulator.reset_peaks,
        "memory_stats": lambda device=None: _statistics(emulator.counters(device)),
        "mem_get_info": emulator.mem_get_info,
        "set_per_process_memory_fraction": emulator.set_fraction,
        "get_per_process_memory_fraction": lambda device=None: emulator.fractions.get(
            streams.index_of(device), 1.0
        ),
    }


def _statistics(counters: dict[str, int]) -> dict[str, int]:
    """The allocator's statistics under PyTorch's names."""
    return {
        "num_alloc_retries": counters["retries"],
        "num_ooms": counters["failures"],
        "allocated_bytes.all.current": counters["allocated"],
        "allocated_bytes.all.peak": counters["allocated_peak"],
        "reserved_bytes.all.current": counters["reserved"],
        "reserved_bytes.all.peak": counters["reserved_peak"],
    }


@contextmanager
def emulated(library: Path, card: Card) -> Iterator[Emulator]:
    """Give `torch.cuda` a card; everything that is patched is put back."""
    from wanflow.session.preparing.card import own_context

    _import_who_keeps_functions_of_torch()
    own_context.cache_clear()  # a process has one a card, and here each card is another one
    settings = torch._C._accelerator_getAllocatorSettings()
    emulator = Emulator(library, card)
    emulator.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, stand_in in {
                **_about_the_card(emulator),
                **_work_of_the_card(emulator),
            }.items():
                patch.setattr(torch.cuda, name, stand_in)
            patch.setattr(torch, "empty", _empty(emulator))
            patch.setattr(torch.version, "cuda", card.cuda)
            patch.setattr(torch.version, "hip", card.hip)
            patch.setattr(torch.backends.cudnn, "version", lambda: card.cudnn)
            patch.setattr(torch.Tensor, "record_stream", lambda _tensor, _stream: None)
            # The driver of this computer, if it has one, is not asked.
            patch.setattr(system.look, "__defaults__", (Path("/"), str(library)))
            session_card.own_context.cache_clear()
            watch_threads(emulator.clocks, patch)
            _watch_host(emulator.clocks, patch)
            yield emulator
    finally:
        session_card.own_context.cache_clear()
        emulator.stop()
        own_context.cache_clear()
        torch._C._accelerator_setAllocatorSettings(settings)


def _watch_host(clocks: Clocks, patch: pytest.MonkeyPatch) -> None:
    """Tell the clocks what the host itself does with its memory: no operation of torch shows it."""
    from wanflow.models.weights.checkpoint import Checkpoint
    from wanflow.scheduler.run.spilled_values import HostValues

    read_into, read_each = Checkpoint.read_into, Checkpoint.read_each_into
    kept = HostValues.kept

    @functools.wraps(read_into)
    def reading(source: Any, name: str, target: torch.Tensor, staging: Any) -> None:
        clocks.host(f"reading {name}", target.data_ptr(), target.nbytes, written=True)
        read_into(source, name, target, staging)

    @functools.wraps(read_each)
    def reading_each(source: Any, targets: Any, staging: Any) -> None:
        for name, target in targets.items():
            clocks.host(f"reading {name}", target.data_ptr(), target.nbytes, written=True)
        read_each(source, targets, staging)

    @functools.wraps(kept)
    def looked_at(values: Any, number: int) -> torch.Tensor | None:
        tensor = kept(values, number)
        if tensor is not None:
            storage = tensor.untyped_storage()
            clocks.host("the host's copy", storage.data_ptr(), storage.nbytes(), written=False)
        return tensor

    patch.setattr(Checkpoint, "read_into", reading)
    patch.setattr(Checkpoint, "read_each_into", reading_each)
    patch.setattr(HostValues, "kept", looked_at)


def _import_who_keeps_functions_of_torch() -> None:
    """Import what asks `torch.cuda` at import, or keeps `torch.empty`, while both are PyTorch's."""
    import diffusers  # noqa: F401
    import transformers  # noqa: F401

    _device._device_constructors()
