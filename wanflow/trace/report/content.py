"""What the report says, as paragraphs and tables; how they look is another file's matter."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import attrs

from wanflow.terminal.safe import printable
from wanflow.trace.by_kind import KINDS
from wanflow.trace.exports.curve import Curves
from wanflow.trace.report.advice import Advice, Advised
from wanflow.trace.report.facts import Facts, StepFact
from wanflow.trace.report.wording import Lang, phrases
from wanflow.trace.summary import Summary
from wanflow.units import format_bytes, format_seconds

_OBJECTS = 10
_ENDS = 12  # steps shown from the start and from the end of a long stage
_MODELS = {"text": "T5 (text)", "dit": "DiT", "vae": "VAE", "clip": "CLIP"}


@attrs.frozen
class Paragraph:
    """A sentence or two; `strong` when nobody should miss it, `code` when it is to be copied."""

    text: str
    strong: bool = False
    code: bool = False


@attrs.frozen
class Table:
    """Rows under heads; the columns in `words` hold words, the others numbers."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[int] = frozenset({0})


@attrs.frozen
class Chart:
    """Memory over time."""

    summary: Summary
    curves: Curves


Block = Paragraph | Table | Chart


@attrs.frozen
class Section:
    """A heading and what is under it; the name is an anchor."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@attrs.frozen
class Writer:
    """Says facts and advice in a language."""

    facts: Facts
    advised: Advised | None
    lang: Lang
    say: dict[str, str] = attrs.field(init=False)

    @say.default
    def _phrases(self) -> dict[str, str]:
        return phrases(self.lang)

    def sections(self) -> tuple[Section, ...]:
        """Write all of it."""
        parts = {
            "run": self._run(),
            "models": self._models(),
            "peak": self._peak(),
            "over_time": iter([Chart(self.facts.summary, self.facts.curves)]),
            "stages": self._stages(),
            "steps": self._steps(),
            "waiting": self._waiting(),
            "advice": self._advice(),
            "notes": self._notes(),
        }
        written = ((name, tuple(blocks)) for name, blocks in parts.items())
        return tuple(Section(n, self.say[n], blocks) for n, blocks in written if blocks)

    def _run(self) -> Iterator[Block]:
        s, say = self.facts.summary, self.say
        if s.state != "whole":
            said = say["damage"].format(state=say[s.state], problem=printable(s.problem))
            yield Paragraph(said, strong=True)
        status = "simulated" if s.simulated else s.status or "unfinished"
        rows = [(say["graph"], s.graph or "-"), (say["status"], say.get(status, status))]
        rows += [(say["where"], s.device)] if s.device else []
        if s.budget_bytes is not None:
            rows.append((say["budget"], f"{format_bytes(s.budget_bytes)}, {self._verdict()}"))
        rows.append((say["peak_of"], self._peaks()))
        if s.alloc_retries or s.alloc_failures:
            said = say["again"].format(again=s.alloc_retries, vain=s.alloc_failures)
            rows.append((say["allocator"], said))
        time = format_seconds(s.seconds)
        if s.predicted_seconds:
            time += f" ({say['predicted']} {format_seconds(s.predicted_seconds)})"
        rows.append((say["time"], time))
        rows += [(say["plan"], s.plan_id)] if s.plan_id else []
        if s.versions:
            rows.append((say["versions"], ", ".join(f"{n} {v}" for n, v in s.versions.items())))
        rows.append((say["trace"], say["events"].format(count=f"{s.events:,}")))
        shown = tuple((name, printable(str(value))) for name, value in rows)
        yield Table(("", ""), shown, frozenset({0, 1}))

    def _peaks(self) -> str:
        s, parts = self.facts.summary, [format_bytes(self.facts.summary.whole_peak_bytes)]
        if s.predicted_peak_bytes is not None:
            parts.append(f"{self.say['predicted']} {format_bytes(s.predicted_peak_bytes)}")
        if s.measured_peak_bytes is not None:
            measured, by = format_bytes(s.measured_peak_bytes), str(s.measured_source)
            if s.measured_beside_bytes:
                key = "beside_all" if s.measured_with_others else "beside"
                by += self.say[key].format(bytes=format_bytes(s.measured_beside_bytes))
            parts.append(f"{self.say['measured']} {measured} ({by})")
        return ", ".join(parts)

    def _verdict(self) -> str:
        s = self.facts.summary
        if s.over_budget_bytes:
            return self.say["over"].format(bytes=format_bytes(s.over_budget_bytes))
        spare = (s.budget_bytes or 0) - max(s.whole_peak_bytes, s.measured_peak_bytes or 0)
        return self.say["within"].format(bytes=format_bytes(spare))

    def _models(self) -> Iterator[Block]:
        models, say = self.facts.models, self.say
        if not models:
            yield Paragraph(say["no_models"])
            return
        total = format_bytes(sum(model.weights_bytes for model in models))
        most = self._model(models[0].model)
        yield Paragraph(say["models_text"].format(
            bytes=total, model=most, share=f"{models[0].share:.1%}"))  # fmt: skip
        heads = ("model", "segments", "weights", "share", "at_once", "loaded", "waited")
        rows = tuple(
            (
                self._model(m.model), str(m.segments), format_bytes(m.weights_bytes),
                f"{m.share:.1%}", format_bytes(m.most_bytes), format_bytes(m.loaded_bytes),
                format_seconds(m.waited_seconds),
            )
            for m in models
        )  # fmt: skip
        yield Table(tuple(say[head] for head in heads), rows)

    def _model(self, name: str) -> str:
        return _MODELS.get(name) or printable(name)

    def _peak(self) -> Iterator[Block]:
        moment, say = self.facts.peak, self.say
        if moment is None:
            yield Paragraph(say["no_peak"])
            return
        yield Paragraph(say["peak_text"].format(
            bytes=format_bytes(moment.resident_bytes), tier=printable(moment.tier),
            time=format_seconds(moment.at_seconds), stage=self._stage(moment.stage),
            step=moment.step,
        ))  # fmt: skip
        kinds = [(say[kind], moment.by_kind[kind]) for kind in KINDS]
        aside = self.facts.summary.overhead_bytes
        if aside:
            yield Paragraph(say["aside_text"].format(bytes=format_bytes(aside)))
        stages = [(self._stage(name), nbytes) for name, nbytes in moment.by_stage.items()]
        for head, parts in (("kind", kinds), ("for_stage", stages)):
            parts_rows = tuple(
                (name, format_bytes(nbytes), f"{nbytes / moment.resident_bytes:.1%}")
                for name, nbytes in parts
                if nbytes
            )
            yield Table((say[head], say["bytes"], say["share"]), parts_rows)
        yield Paragraph(say["largest"])
        rows = tuple(
            (printable(o.name), say[o.kind], self._stage(o.stage), format_bytes(o.nbytes),
             format_seconds(o.since_seconds))
            for o in moment.objects[:_OBJECTS]
        )  # fmt: skip
        heads = ("object", "kind", "for_stage", "bytes", "since")
        yield Table(tuple(say[head] for head in heads), rows, frozenset({0, 1, 2}))

    def _stage(self, name: str) -> str:
        return printable(name) or "(run)"

    def _stages(self) -> Iterator[Block]:
        say = self.say
        heads = ("stage", "wall", "share", "compute", "waited", "peak_of", *KINDS)
        rows = []
        for load in self.facts.stages:
            s = load.summary
            held = [format_bytes(load.by_kind[kind]) for kind in KINDS]
            rows.append(
                (
                    self._stage(s.stage), format_seconds(s.seconds), f"{s.share:.1%}",
                    format_seconds(s.compute_seconds), format_seconds(s.waited_seconds),
                    format_bytes(s.whole_peak_bytes), *held,
                )
            )  # fmt: skip
        if rows:
            yield Table(tuple(say[head] for head in heads), tuple(rows))

    def _steps(self) -> Iterator[Block]:
        say = self.say
        by_stage: dict[str, list[StepFact]] = {}
        for step in self.facts.steps:
            by_stage.setdefault(step.stage, []).append(step)
        several = {name: steps for name, steps in by_stage.items() if len(steps) > 1}
        if not several:
            yield Paragraph(say["no_steps"])
        for name, steps in several.items():
            first, last = (format_bytes(step.resident_bytes) for step in (steps[0], steps[-1]))
            yield Paragraph(say["steps_text"].format(
                stage=self._stage(name), count=len(steps), first=first, last=last))  # fmt: skip
            hidden = max(0, len(steps) - 2 * _ENDS)
            shown = [*steps[:_ENDS], *steps[-_ENDS:]] if hidden else steps
            heads = ("step", "time", "peak_of", "resident", "change")
            yield Table(tuple(say[head] for head in heads), tuple(map(_step_row, shown)))
            if hidden:
                yield Paragraph(say["skipped"].format(count=hidden))

    def _waiting(self) -> Iterator[Block]:
        facts, say = self.facts, self.say
        if not facts.waited_seconds:
            yield Paragraph(say["no_waiting"])
            return
        share = facts.waited_seconds / facts.summary.seconds if facts.summary.seconds else 0.0
        yield Paragraph(say["waiting_text"].format(
            time=format_seconds(facts.waited_seconds), share=f"{share:.1%}"))  # fmt: skip
        rows = tuple(
            (printable(w.name), str(w.loads), format_seconds(w.waited_seconds)) for w in facts.waits
        )
        if rows:
            yield Table((say["object"], say["loads"], say["waited"]), rows)

    def _advice(self) -> Iterator[Block]:
        advised, say = self.advised, self.say
        if advised is None:
            return
        if advised.reason:
            yield Paragraph(say["not_planned"].format(reason=printable(advised.reason)))
            return
        yield Paragraph(say["advice_text"].format(
            machine=printable(advised.machine), bytes=format_bytes(advised.peak_bytes),
            time=format_seconds(advised.seconds),
        ))  # fmt: skip
        yield Paragraph(say["base"])
        yield Paragraph(printable(advised.command), code=True)
        if not advised.advice:
            yield Paragraph(say["no_advice"])
            return
        heads = ("priority", "add", "saves", "costs", "peak_of", "time", "picture")
        rows = tuple(map(self._advice_row, advised.advice))
        yield Table(tuple(say[head] for head in heads), rows, frozenset({0, 1, 6}))

    def _advice_row(self, advice: Advice) -> tuple[str, ...]:
        picture = "another" if advice.picture == "other" else advice.picture
        return (
            self.say[advice.priority], printable(shlex.join(advice.options)),
            signed(advice.saves_bytes), _signed_time(advice.costs_seconds),
            format_bytes(advice.peak_bytes), format_seconds(advice.seconds), self.say[picture],
        )  # fmt: skip

    def _notes(self) -> Iterator[Block]:
        notes = self.facts.summary.notes
        if notes:
            rows = tuple(
                (format_seconds(n.at_seconds), f"{printable(n.topic)}: {printable(n.text)}")
                for n in notes
            )
            yield Table((self.say["at"], self.say["note"]), rows, frozenset({1}))


def signed(nbytes: int) -> str:
    """Write bytes with their sign; nothing has none."""
    return ("+" if nbytes > 0 else "") + format_bytes(nbytes)


def _signed_time(seconds: float) -> str:
    return ("-" if seconds < 0 else "+") + format_seconds(abs(seconds))


def _step_row(step: StepFact) -> tuple[str, ...]:
    return (
        str(step.index), format_seconds(step.seconds), format_bytes(step.peak_bytes),
        format_bytes(step.resident_bytes), signed(step.delta_bytes),
    )  # fmt: skip
