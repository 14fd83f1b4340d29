"""Say what a LoRA's file is: its naming, its kinds, ranks, and which models it fits."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from wanflow.errors import WeightsError
from wanflow.graph.configs import KNOWN, known_config
from wanflow.models.adapters.fitting import fit
from wanflow.models.adapters.folded import folded
from wanflow.models.adapters.lora_file import LoraFile, open_lora
from wanflow.models.adapters.names import PREFIXES, Known, known_in
from wanflow.models.adapters.suffixes import KINDS, told
from wanflow.models.segments.build import build
from wanflow.models.weights.file_kind import index_file


@attrs.frozen
class InspectedLora:
    """What a LoRA is. `kinds`, `ranks`, `alphas` and `dtypes` count modules, and bytes.

    `fits` names every known model of which it changes something and nothing of it is left; where
    there is none, `nearest` is the one that takes the most and `refused` what that does not take.
    """

    path: str
    naming: str
    tensors: int
    nbytes: int
    kinds: Mapping[str, int]
    ranks: Mapping[int, int]
    alphas: Mapping[float, int]
    dtypes: Mapping[str, int]
    fits: tuple[str, ...]
    nearest: str = ""
    refused: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def refused_in_words(self) -> str:
        """Those that the nearest model does not take, folded."""
        return folded(self.refused)


def is_lora(path: Path) -> bool:
    """Whether most of a file's tensors are a LoRA's; False for what is no file of weights."""
    try:
        names = index_file(path) if path.is_file() else {}
    except WeightsError:
        return False
    return sum(told(name) is not None for name in names) * 2 > len(names)


def inspect_lora(path: Path) -> InspectedLora:
    """Look at a LoRA; of its numbers only alphas are read."""
    lora = open_lora(path)
    refused = {name: _refused(lora, known) for name, known in _transformers()}
    taking = {name: kinds for name, kinds in refused.items() if kinds is not None}
    nearest = min(taking, key=lambda name: len(taking[name]), default="")
    fits = tuple(name for name, kinds in taking.items() if not kinds)
    dtypes: Counter[str] = Counter()
    for entry in lora.checkpoint.entries.values():
        dtypes[entry.dtype_name] += entry.nbytes
    return InspectedLora(
        str(path),
        naming=_naming(lora),
        tensors=len(lora.checkpoint.entries),
        nbytes=lora.nbytes,
        kinds=_kinds(lora),
        ranks=Counter(
            lora.entry(r["down"]).shape[0] for r in lora.groups.values() if _ranked(lora, r)
        ),
        alphas=Counter(lora.number(r["alpha"]) for r in lora.groups.values() if "alpha" in r),
        dtypes=dtypes,
        fits=fits,
        nearest="" if fits else nearest,
        refused={} if fits else taking.get(nearest, {}),
    )


def _ranked(lora: LoraFile, roles: Mapping[str, str]) -> bool:
    return "down" in roles and bool(lora.entry(roles["down"]).shape)


def _kinds(lora: LoraFile) -> Counter[str]:
    """How many modules have a change of each kind."""
    kinds: Counter[str] = Counter()
    for roles in lora.groups.values():
        found = {KINDS[r.partition("_")[0] if r[:2] == "lo" else r] for r in roles if r != "alpha"}
        kinds.update(found - {"low rank"} if "DoRA" in found else found)
    return kinds


def _naming(lora: LoraFile) -> str:
    """What people call the names that most modules have."""
    prefixes = [p for p in sorted(PREFIXES, key=len, reverse=True) if p]
    counts = Counter(next((p for p in prefixes if path.startswith(p)), "") for path in lora.groups)
    prefix = counts.most_common(1)[0][0]
    return f"{PREFIXES[prefix]} ({prefix})" if prefix else PREFIXES[""]


def _transformers() -> Iterator[tuple[str, Known]]:
    for name, parts in KNOWN.items():
        if "transformer" in parts:
            fields = known_config(name, "transformer")
            yield name, _known(json.dumps(fields, sort_keys=True))


@functools.cache  # several models have one shape
def _known(fields: str) -> Known:
    return known_in(build("transformer", json.loads(fields)))


def _refused(lora: LoraFile, known: Known) -> dict[str, str] | None:
    """What a model takes nothing of; None where it takes nothing at all."""
    made = fit(lora, known, 1.0, 0)
    return made.refused if made.linears or made.read else None
