"""Inputs: standard ones, a graph's own, and what a declaration changes."""

from __future__ import annotations

from wanflow.graph.inputs import STANDARD
from wanflow.graph.values import ValueType


def test_names_are_the_contract() -> None:
    """Users and front ends count on them."""
    assert [*STANDARD] == [
        "prompt", "negative_prompt", "size", "frames", "steps", "guidance", "shift",
        "guidance_high", "guidance_low", "boundary", "strength", "control_scale", "seed", "fps",
        "image", "last_image", "video", "mask", "reference_images",
    ]  # fmt: skip


def test_standard_input_needs_no_declaration(edited) -> None:
    """`$seed` in the small graph is declared nowhere."""
    spec = edited().spec.inputs["seed"]
    assert (spec.default, spec.mark) == (0, None)


def test_unused_standard_inputs_are_not_the_graphs(edited) -> None:
    """What can't change anything can't be given."""
    assert "guidance" not in edited().spec.inputs


def test_declaration_overrides_the_default(edited) -> None:
    """And keeps the rest of the built-in one."""
    spec = edited().spec.inputs["frames"]
    assert spec.default == 17
    assert spec.about == STANDARD["frames"].about
    assert spec.maximum == STANDARD["frames"].maximum


def test_declaration_without_default_keeps_the_standard_one(edited) -> None:
    """`frames: {type: int}` is 81 frames."""
    assert edited((", default: 17", "")).spec.inputs["frames"].default == 81


def test_standard_default_outside_a_narrower_range_is_none(edited) -> None:
    """Then the user must say."""
    graph = edited((", default: 17", ", max: 33"))
    assert graph.spec.inputs["frames"].default is None


def test_own_input_with_choices(edited) -> None:
    """Text inputs may be limited to some words."""
    graph = edited(
        ("  size:", "  how: {type: text, default: euler, choices: [euler, unipc]}\n  size:"),
        ("sampler: unipc", "sampler: $how"),
    )
    assert graph.spec.inputs["how"].choices == ("euler", "unipc")


def test_default_is_checked_where_it_is_used(refused) -> None:
    """A word that no sampler has, in an input without choices of its own."""
    error = refused(
        ("  size:", "  how: {type: text, default: ddim}\n  size:"),
        ("sampler: unipc", "sampler: $how"),
    )
    assert error.code == "bad-choice"
    assert error.problems[0].line == 5


def test_int_feeds_a_float(edited) -> None:
    """But not the other way round."""
    graph = edited(
        ("  size:", "  rate: {type: int, default: 8}\n  size:"), ("fps: $fps", "fps: $rate")
    )
    assert graph.spec.inputs["rate"].type is ValueType.INT


def test_literal_needs_no_input(edited) -> None:
    """A port takes a plain value too."""
    graph = edited(("size: $size", "size: 32*32"), ("seed: $seed", "seed: 3"))
    assert "seed" not in graph.spec.inputs


def test_unused_declared_input_may_stay(edited) -> None:
    """A graph can keep an input while its stage is commented out."""
    assert "mood" in edited(("  size:", "  mood: {type: text}\n  size:")).spec.inputs


def test_like_a_video(edited, refused) -> None:
    """Size and frames may be like a video; nothing else may."""
    graph = edited(
        ("{type: size", "{type: size, like: video"), ("{type: int", "{type: int, like: video")
    )
    assert {graph.spec.inputs[name].like for name in ("size", "frames")} == {"video"}
    assert refused(("{type: text", "{type: text, like: video")).code == "wrong-type"


def test_size_like_a_picture(edited, refused) -> None:
    """A size may be like an image input, and like nothing else."""
    graph = edited(("{type: size", "{type: size, like: image"))
    assert graph.spec.inputs["size"].like == "image"
    assert refused(("{type: size", "{type: size, like: prompt")).code == "wrong-type"
    assert refused(("{type: int", "{type: int, like: image")).code == "wrong-type"
