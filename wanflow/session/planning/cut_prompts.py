"""Prompts that are longer than what a text encoder is given."""

from __future__ import annotations

from wanflow.session.preparing.prepared import Prepared

_SHOWN = 60  # characters of the rest


def cut_prompts(prepared: Prepared) -> list[dict[str, object]]:
    """Say of each prompt that is cut how long it is, and from which words on it does not count.

    Without a tokenizer nothing is known.
    """
    cuts: list[dict[str, object]] = []
    for stage in prepared.graph.stages:
        tokenizer = prepared.tokenizer(stage, to_run=False)
        if tokenizer is None:
            continue
        from wanflow.stages.encode_text import clean

        ports = ("prompt", "negative_prompt") if prepared.wants_negative(stage) else ("prompt",)
        most = int(str(stage.params["max_tokens"]))
        for port in ports:
            text = clean(str(stage.inputs.get(port) or ""))
            cut = tokenizer.cut(text, most)
            if cut is not None:
                where = {"stage": stage.name, "prompt": port, "cut_from": cut.rest[:_SHOWN]}
                figures = {"tokens": cut.tokens, "max_tokens": most}
                cuts.append({**where, **figures, "cut_at": len(text) - len(cut.rest)})
    return cuts
