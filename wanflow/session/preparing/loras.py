"""The LoRAs of a request: which file, how strong, for which transformers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from wanflow.environment import MODELS
from wanflow.errors import InputError, WeightsError
from wanflow.graph.spec import ModelSpec
from wanflow.graph.wording import did_you_mean
from wanflow.models.bound import LocatedModel

if TYPE_CHECKING:
    from wanflow.models.adapters.of_model import Lora

_FORM = "[MODEL=]FILE[@WEIGHT]"


@attrs.frozen
class LoraOption:
    """One `--lora`: no model means every transformer that it fits."""

    model: str | None
    path: Path
    weight: float

    @property
    def text(self) -> str:
        """The words that say it from any folder."""
        return f"{self.model}=" * bool(self.model) + f"{self.path.resolve()}@{self.weight!r}"


def parse_loras(texts: Sequence[str], models: Mapping[str, str]) -> tuple[LoraOption, ...]:
    """Read `[MODEL=]FILE[@WEIGHT]`; *models* has the part of each. A weight of 0 is no LoRA.

    InputError for an unknown model, one that is no transformer, or a weight that is no number.
    """
    options = [_parsed(text, models) for text in texts]
    return tuple(option for option in options if option.weight != 0)


def _parsed(text: str, models: Mapping[str, str]) -> LoraOption:
    head, separator, rest = text.partition("=")
    model = head if separator and head in models else None
    file = rest if model is not None else text
    path, at, weight = file.rpartition("@")
    if not at or Path(file).expanduser().exists():
        path, weight = file, "1"
    if model is None and separator and "/" not in head and not Path(path).exists():
        names = [name for name, part in models.items() if part == "transformer"]
        raise InputError(
            f"--lora {text!r}: the graph has no model {head!r}",
            hint=did_you_mean(head, names) or f"its transformers are {', '.join(names)}",
            code="unknown-model",
        )
    if model is not None and models[model] != "transformer":
        raise InputError(
            f"--lora {text!r}: {model!r} is a {models[model]}; a LoRA is for a transformer",
            code="lora-part",
        )
    if not path:
        raise InputError(f"--lora {text!r} is not {_FORM}", code="bad-lora")
    return LoraOption(model, Path(path).expanduser(), _weight(text, weight))


def _weight(text: str, word: str) -> float:
    try:
        weight = float(word)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise InputError(
            f"--lora {text!r}: {word!r} is no weight",
            hint=f"write {_FORM}, the weight a number: @0.8",
            code="bad-lora",
        )
    return weight


def graph_loras(specs: Iterable[ModelSpec], file: Path) -> tuple[LoraOption, ...]:
    """The LoRAs that a graph's models have: in WANFLOW_MODELS, or else beside the graph."""
    return tuple(
        LoraOption(spec.name, _beside(file, path), weight)
        for spec in specs
        for path, weight in spec.loras
        if weight != 0
    )


def _beside(file: Path, path: str) -> Path:
    folder = MODELS.value
    kept = Path(folder).expanduser() / path if folder else None
    return kept if kept is not None and kept.exists() else file.parent / Path(path).expanduser()


def loras_of(
    spec: ModelSpec, options: Sequence[LoraOption], *, partial: bool, alone: bool
) -> tuple[Lora, ...]:
    """Open the LoRAs of a model. One for any is optional, unless the transformer is *alone*."""
    if spec.part != "transformer" or not options:
        return ()
    from wanflow.models.adapters.lora_file import open_lora
    from wanflow.models.adapters.of_model import Lora

    return tuple(
        Lora(open_lora(o.path), o.weight, partial=partial, optional=o.model is None and not alone)
        for o in options
        if o.model in (None, spec.name)
    )


def check_taken(options: Sequence[LoraOption], models: Mapping[str, LocatedModel]) -> None:
    """WeightsError for a LoRA that fits none of the transformers."""
    given = {lora.file.path for located in models.values() for lora in located.adapters.loras}
    for option in options:
        if option.path not in given and option.model in (None, *models):
            names = [n for n, located in models.items() if located.spec.part == "transformer"]
            raise WeightsError(
                f"{option.path}: fits no transformer of this graph ({', '.join(names) or 'none'})",
                hint=f"--lora MODEL={option.path} says what is wrong with it for one",
                code="lora-keys",
            )
