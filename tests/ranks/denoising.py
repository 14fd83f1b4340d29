"""A stage that denoises, all its weights there: driven on one device, or by ranks as threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch

from tests.models.conftest import with_weights
from tests.ranks.threads import ThreadExchange, together
from wanflow.models.wan.dit import TEXT_TOKENS
from wanflow.scheduler.profile.counted_exchange import CountedExchange
from wanflow.scheduler.program import Call
from wanflow.scheduler.ranks import Exchange, Rank
from wanflow.scheduler.run.meter import Reports
from wanflow.session import Request, plan_ranks
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare
from wanflow.session.preparing.prepared import Prepared
from wanflow.stages import StageSetup, make_program

Tensors = Mapping[str, torch.Tensor]
Shapes = dict[str, tuple[int, ...]]
_SMALL_BYTES = 64  # a look at what is made, a sampler's few numbers


@attrs.frozen
class Making:
    """What a call took and made, by name, and the most bytes that came on top while it ran."""

    kind: str
    takes: Shapes
    makes: Shapes
    nbytes: int


@attrs.frozen
class Denoising:
    """The stage `denoise` of a graph. What comes into it is drawn, but for its shapes."""

    prepared: Prepared

    @classmethod
    def of(cls, request: Request) -> Denoising:
        """Read the weights."""
        prepared = prepare(request, find_place(request), to_run=False)
        with_weights(prepared.models["dit"])
        return cls(prepared)

    def alone(self, **knobs: str) -> list[Tensors]:
        """What is there after each step on one device: latents and states."""
        return _driven(self.prepared.setup_of("denoise"), self._given(), knobs)

    def shared(self, count: int, **knobs: str) -> list[list[Tensors]]:
        """The same of each of several ranks."""
        return together(count, lambda index, exchange: self._rank(index, count, exchange, knobs))

    def makes(self, index: int, count: int, **knobs: str) -> list[Making]:
        """What a rank's calls make and take, in order.

        Nothing is exchanged, so that the numbers mean nothing.
        """
        found: list[Making] = []

        def run(call: Call, taken: Tensors) -> Tensors:
            reports.begin()
            made = call.run(taken)
            room, _ = reports.take()
            found.append(Making(call.kind, _shapes(taken), _shapes(made), room))
            return made

        reports = Reports()
        reports.open()
        try:
            _driven(self._setup(index, count, CountedExchange(index)), self._given(), knobs, run)
        finally:
            reports.close()
        return found

    def _rank(
        self, index: int, count: int, exchange: ThreadExchange, knobs: Mapping[str, str]
    ) -> list[Tensors]:
        return _driven(self._setup(index, count, exchange), self._given(), knobs)

    def _setup(self, index: int, count: int, exchange: Exchange) -> StageSetup:
        setup = self.prepared.setup_of("denoise")
        around = attrs.evolve(setup.around, rank=Rank(index, count, "cpu"), exchange=exchange)
        return attrs.evolve(setup, around=around)

    def _given(self) -> dict[str, torch.Tensor]:
        graph, generator = self.prepared.graph, torch.Generator().manual_seed(5)
        noise = next(p for p in self.prepared.programs(None) if p.stage == "noise")
        shape: Any = noise.latent_shape  # type: ignore[attr-defined]
        config = self.prepared.models["dit"].model.module.config
        shapes = {"noise.latents": shape}
        for name in ("positive", "negative"):
            shapes[f"encode.text.{name}"] = (1, TEXT_TOKENS, config.text_dim)
        if any(stage.name == "control" for stage in graph.stages):
            shapes["control.control"] = (1, config.vace_in_channels, *shape[2:])
        return {name: torch.randn(s, generator=generator) for name, s in shapes.items()}


def _shapes(tensors: Tensors) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@torch.no_grad()
def _driven(
    setup: StageSetup,
    values: dict[str, torch.Tensor],
    knobs: Mapping[str, str],
    run: Callable[[Call, Tensors], Tensors] = lambda call, taken: call.run(taken),
) -> list[Tensors]:
    """Run the calls as the executor does; what is there after each step."""
    after: dict[int, Tensors] = {}
    for call in make_program(setup).calls(knobs, lambda name: tuple(values[name].shape)):
        values.update(run(call, {n: values[n] for n in call.reads if n in values}))
        if call.kind.startswith("sample."):
            after[call.step] = {n: t.clone() for n, t in values.items() if _stays(n)}
    return [after[step] for step in sorted(after)]


def _stays(name: str) -> bool:
    return name == "denoise.latents" or name.startswith("denoise.state.")


def unlike(found: list[Tensors], wanted: list[Tensors]) -> list[str]:
    """Name what is not the same, bit for bit, after each step."""
    assert len(found) == len(wanted)
    return [
        f"{name} after {step}"
        for step, (one, other) in enumerate(zip(found, wanted, strict=True))
        for name in one.keys() | other.keys()
        if name not in one or name not in other or not torch.equal(one[name], other[name])
    ]


def unplanned(stage: Denoising, count: int, **knobs: str) -> dict[object, tuple[int, int]]:
    """The calls that take other room than that rank's plan has: bytes, and those of the plan."""
    request, knobs = stage.prepared.request, {"rows": "all", **knobs}
    pins = tuple(f"denoise.{name}={value}" for name, value in knobs.items())
    asked = attrs.evolve(request, device="auto", devices=f"cpu*{count}", pins=pins, exact=True)
    found = {}
    for index, rank in enumerate(plan_ranks(asked).chosen.ranks):
        records = [c for c in rank.planned.plan.footprint.calls if c.stage == "denoise"]
        made = stage.makes(index, count, **knobs)
        assert [call.kind for call in records] == [one.kind for one in made]
        for record, one in zip(records, made, strict=True):
            planned = record.cost.workspace_bytes
            if not 0 <= planned - one.nbytes <= _SMALL_BYTES:
                found[index, one.kind] = (one.nbytes, planned)
    return found
