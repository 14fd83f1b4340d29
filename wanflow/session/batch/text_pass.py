"""The prompts of many rows, encoded in one pass through their text encoder.

A pass is a run of the graph's encoding stages alone: it is planned, held to the budget and traced
as any other. Each half layer is used for all prompts before the next one, so that the encoder's
weights are read once, and what they give is kept beside the rows until these have read it.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from wanflow.errors import BudgetError
from wanflow.session.planning.planned import Planned, plan_prepared
from wanflow.session.preparing.prepared import Prepared
from wanflow.session.preparing.prompt_cache import Prompts, text_stores
from wanflow.session.running.run import carry_out
from wanflow.stages.encode_text import MORE, TOKENS, EncodeText
from wanflow.trace import TraceSink

if TYPE_CHECKING:
    import torch

    from wanflow.stages.base import KeptText, KeptTexts, Tokens

_LARGEST_BYTES, _MOST_FILES = 2**62, 2**31  # of a batch's own texts: they go with its rows


@attrs.frozen
class BatchTexts:
    """The encoded prompts of a batch, and behind them those that are kept for all runs."""

    own: Prompts
    shared: KeptTexts | None

    def find(self, tokens: Tokens) -> KeptText | None:
        """Look for a prompt."""
        found = self.own.find(tokens)
        return found if found is not None or self.shared is None else self.shared.find(tokens)

    def keep(self, tokens: Tokens, rows: torch.Tensor) -> None:
        """Keep it for the rows of this batch, and for other runs where these may have it."""
        self.own.keep(tokens, rows)
        if self.shared is not None:
            self.shared.keep(tokens, rows)


def texts_folder(folder: Path) -> Path:
    """Where a batch keeps them."""
    return folder / "texts"


def with_texts(prepared: Prepared, folder: Path) -> Prepared:
    """Give a row the texts of its batch."""
    stores = text_stores(prepared.graph, prepared.models, prepared.place, texts_folder(folder))
    texts = {
        name: BatchTexts(
            attrs.evolve(own, largest_bytes=_LARGEST_BYTES, most_files=_MOST_FILES),
            prepared.prompts.get(name),
        )
        for name, own in stores.items()
    }
    return attrs.evolve(prepared, prompts={**prepared.prompts, **texts})


def encode(
    rows: Sequence[Prepared], folder: Path, sink: TraceSink | None, make_room: Callable[[], None]
) -> None:
    """Encode what the texts of *rows*, rows of the same stages, lack.

    As many prompts in a pass as the budget holds, which *make_room* empties before; BudgetError
    where one is too much.
    """
    for stage in rows[0].graph.stages:
        if stage.op.name != "encode_text" or stage.name not in rows[0].prompts:
            continue
        way = rows[0].knob_settings()[stage.name].all[0][stage.name][TOKENS.name]
        missing = [*dict.fromkeys(_missing(rows, stage.name, way))]
        while missing:
            make_room()
            planned = _fitting(rows[0], stage.name, missing)
            carry_out(planned, _pass_folder(folder), sink, overwrite=True)
            missing = missing[len(planned.prepared.texts) :]


def forget(folder: Path) -> None:
    """Remove the texts of a batch: its rows are made."""
    shutil.rmtree(texts_folder(folder), ignore_errors=True)


def _missing(rows: Iterable[Prepared], stage: str, way: str) -> Iterator[str]:
    for prepared in rows:
        if any(bound.name == stage for bound in prepared.graph.stages):
            yield from EncodeText(prepared.setup_of(stage)).unkept(way)


def _fitting(row: Prepared, stage: str, prompts: Sequence[str]) -> Planned:
    """Plan a pass over the first of *prompts*: all, or half as many until the budget holds it."""
    count = len(prompts)
    while True:
        planned = plan_prepared(_only(row, stage, prompts[:count]))
        if planned.problem is None:
            return planned
        if count == 1:
            raise _too_small(planned)
        count //= 2


def _too_small(planned: Planned) -> BudgetError:
    problem = planned.problem
    if problem is None:
        raise AssertionError("the plan is feasible")
    return problem


def _only(row: Prepared, stage: str, prompts: Sequence[str]) -> Prepared:
    """A graph of the encoding stage alone, with these prompts."""
    stages = tuple(bound for bound in row.graph.stages if bound.name == stage)
    models = {name: row.models[name] for name in row.models if name == stages[0].model}
    graph = attrs.evolve(row.graph, stages=stages, outputs={})
    texts = {f"{MORE}@{number}": prompt for number, prompt in enumerate(prompts)}
    return attrs.evolve(row, graph=graph, models=models, texts=texts, repeated=False, until=None)


def _pass_folder(folder: Path) -> Path:
    """A folder that no pass has had."""
    paths = (folder / f"prompts-{number}" for number in itertools.count(1))
    path = next(path for path in paths if not path.exists())
    path.mkdir(parents=True)
    return path
