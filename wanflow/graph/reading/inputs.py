"""The `inputs` section: declarations of inputs, standard ones and the graph's own."""

from __future__ import annotations

import math

import attrs

from wanflow.graph.inputs import INPUT_TYPES, STANDARD, InputSpec
from wanflow.graph.reading.draft import Draft
from wanflow.graph.reading.nodes import Listing, Scalar
from wanflow.graph.reading.scalars import resolve
from wanflow.graph.reading.tables import Fields, KeyEntry, is_empty, read_table
from wanflow.graph.values import STAGE_ID, ValueType
from wanflow.graph.wanted import MisfitError, fit
from wanflow.graph.wording import quoted

KEYS = ("type", "default", "min", "max", "choices", "like", "about")

# What may be like a file of a type.
_LIKE = {
    ValueType.IMAGE: (ValueType.SIZE,),
    ValueType.VIDEO: (ValueType.SIZE, ValueType.INT),
}


def read_inputs(fields: Fields, draft: Draft) -> None:
    """Read every declaration; a wrong one is told, and left out."""
    for name, entry in fields:
        draft.input_names.add(name)
        spec = _input(name, entry, draft)
        if spec is not None:
            draft.inputs[name] = spec


def _input(name: str, entry: KeyEntry, draft: Draft) -> InputSpec | None:
    if not STAGE_ID.fullmatch(name):
        message = f"input name {quoted(name)} wants small letters, digits and '_'"
        draft.problems.add("bad-name", message, entry.key.mark)
        return None
    fields = read_table(entry.value, f"input '{name}'", draft.problems, entry.key.mark)
    if fields is None or not fields.check_keys(KEYS, required=("type",)):
        return None
    kind = _type(name, fields)
    if kind is None:
        return None
    base = STANDARD.get(name) or InputSpec(name=name, type=kind)
    spec = attrs.evolve(
        base,
        about=fields.text("about", base.about),
        choices=_choices(fields, kind) or base.choices,
        minimum=_bound(fields, "min", kind, base.minimum),
        maximum=_bound(fields, "max", kind, base.maximum),
        like=_like(fields, kind, draft),
        mark=entry.key.mark,
    )
    return _with_default(spec, fields) if _range_is_sane(spec, fields) else None


def _type(name: str, fields: Fields) -> ValueType | None:
    word = fields.text("type")
    if word not in INPUT_TYPES:
        if isinstance(fields.literal("type"), str):
            message = f"input '{name}' has unknown type {quoted(word)}"
            fields.problems.add(
                "unknown-type", message, fields.place("type"), word=word, names=INPUT_TYPES
            )
        elif is_empty(fields.entries["type"].value):
            fields.tell("wrong-type", f"input '{name}': 'type' is empty", fields.mark)
        return None
    kind = ValueType(word)
    standard = STANDARD.get(name)
    if standard is not None and kind is not standard.type:
        message = f"input '{name}' has type {standard.type} in every graph, not {kind}"
        fields.tell("input-type", message, fields.place("type"), f"write '{standard.type}'")
        return None
    return kind


def _bound(fields: Fields, key: str, kind: ValueType, default: float | None) -> float | None:
    value = fields.literal(key)
    if value is None:
        return default
    if kind not in (ValueType.INT, ValueType.FLOAT):
        message = f"{fields.what}: '{key}' is for numbers, this input is {kind}"
        fields.tell("wrong-type", message, fields.place(key))
        return default
    if isinstance(value, bool | str) or not math.isfinite(value):
        message = f"{fields.what}: '{key}' wants a number"
        fields.tell("wrong-type", message, fields.place(key))
        return default
    return value


def _range_is_sane(spec: InputSpec, fields: Fields) -> bool:
    low, high = spec.minimum, spec.maximum
    if low is None or high is None or low <= high:
        return True
    message = f"{fields.what}: min {low} is above max {high}"
    fields.tell("bad-range", message, fields.place("min" if "min" in fields.entries else "max"))
    return False


def _like(fields: Fields, kind: ValueType, draft: Draft) -> str:
    """Read the name of the picture or video whose shape a size takes on, or whose length."""
    name = fields.text("like")
    if not name:
        return ""
    spec = draft.inputs.get(name) or STANDARD.get(name)
    if spec is None or kind not in _LIKE.get(spec.type, ()):
        message = f"{fields.what}: 'like' wants an image or video input, for an input of type size"
        hint = "write 'like: image'; an int may be like a video"
        fields.tell("wrong-type", message, fields.place("like"), hint)
        return ""
    return name


def _choices(fields: Fields, kind: ValueType) -> tuple[str, ...]:
    entry = fields.entries.get("choices")
    if entry is None or is_empty(entry.value):
        return ()
    items = entry.value.items if isinstance(entry.value, Listing) else []
    words = [resolve(item) for item in items if isinstance(item, Scalar)]
    texts = tuple(word for word in words if isinstance(word, str))
    if kind is not ValueType.TEXT or not items or len(texts) != len(items):
        message = f"{fields.what}: 'choices' wants a list of text, for an input of type text"
        fields.tell("wrong-type", message, entry.value.mark)
        return ()
    return texts


def _with_default(spec: InputSpec, fields: Fields) -> InputSpec | None:
    """Check the default; a standard one that a narrower range excludes is no default any more."""
    entry = fields.entries.get("default")
    if entry is None or is_empty(entry.value):
        return attrs.evolve(spec, default=spec.default if _default_fits(spec) else None)
    if not isinstance(entry.value, Scalar):
        fields.literal("default")
        return None
    try:
        default = fit(resolve(entry.value), spec)
    except MisfitError as misfit:
        message = f"default of input '{spec.name}' {misfit.message}"
        fields.tell(misfit.code, message, entry.value.mark, misfit.suggestion)
        return None
    return attrs.evolve(spec, default=default, default_mark=entry.value.mark)


def _default_fits(spec: InputSpec) -> bool:
    try:
        return spec.default is None or fit(spec.default, spec) is not None
    except MisfitError:
        return False
