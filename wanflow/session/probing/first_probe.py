"""The short probe before a first plan on a CPU: two seconds at most, kept with the machines."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from wanflow.environment import PROBE
from wanflow.errors import WanflowError
from wanflow.graph import load
from wanflow.remarks import remark
from wanflow.scheduler.machine.figures import FLOPS, Machine
from wanflow.scheduler.machine.store import folder, path_of, save
from wanflow.session.preparing.place import Place, find_place, place_on
from wanflow.session.request import Request

if TYPE_CHECKING:
    from wanflow.scheduler.run.probe import Sample

_MOST_SECONDS = 1.6  # nothing more is begun after; what is begun takes up to 0.2 s
_LARGE = ("gemm", "attention")  # nearly all that a large transformer computes
_SUBJECT = "this CPU was not measured before a plan"


def probed_place(request: Request) -> Place:
    """Find the place of a request; a CPU that nothing is known of is measured first, and kept.

    Not where another machine is asked for, or no probe, nor where it could not be kept.
    """
    place = find_place(request)
    if not _wants_probe(request, place):
        return place
    load(request.graph)  # a graph that is none is told before a second is spent
    try:
        folder().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remark(_SUBJECT, f"it can't be kept: {folder()}: {error.strerror}")
        return place
    try:
        machine, seconds = quick_probe(place.machine)
        path = save(machine)
    except (WanflowError, OSError) as error:
        remark(_SUBJECT, error)
        return place
    remark("measured this CPU before its first plan", f"{seconds:.1f} s, kept in {path}")
    return place_on(machine, place.device, request)


def _wants_probe(request: Request, place: Place) -> bool:
    wanted = request.probe and request.machine is None and PROBE.value == "on"
    return wanted and place.kind == "cpu" and not path_of(place.machine.name).exists()


def quick_probe(
    base: Machine, clock: Callable[[], float] = time.perf_counter
) -> tuple[Machine, float]:
    """Measure a CPU in about two seconds by *clock*, and say how long it took.

    What starting things costs comes first, then rates; those that no time is left for stay as they
    are in *base*. The libraries that planning loads anyway are loaded before.
    """
    import torch

    from wanflow.scheduler.run.probe import (
        QUICK,
        SMALL,
        about_probe,
        disk,
        memory,
        rates,
        scratch_folder,
        starting,
        with_samples,
    )
    from wanflow.session.probing.tiny_run import prepare_tiny, tiny_run
    from wanflow.session.probing.video_times import video_times

    device = torch.device("cpu")
    about, prepared = about_probe(device), prepare_tiny(base)
    began = clock()

    def more() -> bool:
        return clock() - began < _MOST_SECONDS

    with torch.no_grad(), scratch_folder() as scratch:
        samples = starting(device, scratch, QUICK) | video_times(scratch)
        samples |= rates(device, ("float32",), SMALL, more)
        machine = with_samples(base, samples, "probed", about)
        machine = tiny_run(machine, prepared, scratch, "probed", more)
        # A processor without bf16 instructions takes five times as long in it as in fp32: the type
        # that large models come in is looked at whatever the time.
        samples = rates(device, ("bfloat16",), QUICK, lambda: True, _LARGE)
        samples |= rates(device, ("float32", "float16"), QUICK, more)
        samples |= rates(device, ("bfloat16",), QUICK, more, ("conv",))
        samples |= memory(device, QUICK) if more() else {}
        samples |= disk(scratch, QUICK) if more() else {}
    more_known = {
        name: _bounded(sample, base.figure(name)) if name in (*FLOPS, "memory_rate") else sample
        for name, sample in samples.items()
        if machine.source(name) != "probed"
    }
    seconds = clock() - began
    machine = with_samples(machine, more_known, "probed", f"{about}, in {seconds:.1f} s")
    return attrs.evolve(machine, was={}), seconds


def _bounded(sample: Sample, estimate: float) -> Sample:
    """Take the lower rate: a kernel by itself is a bound, the estimate is of kernels in runs."""
    return attrs.evolve(sample, value=min(sample.value, estimate))
