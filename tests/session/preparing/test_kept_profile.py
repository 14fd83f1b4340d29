"""What was profiled of a graph without weights: found again, and only for the very same graph."""

from __future__ import annotations

import attrs
import pytest

from tests.scheduler.footprints import chain
from wanflow.models.bound import LocatedModel
from wanflow.models.segments.build import build
from wanflow.scheduler.knobs import Knob, ProgramOutline
from wanflow.session import Request
from wanflow.session.preparing.kept_profile import KeptProfile
from wanflow.session.preparing.latents import shapes_of
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare
from wanflow.session.preparing.prepared import Prepared

STRIPS = Knob("strips", {"whole": "bitwise", "strips.8": "rounding"}, "rows", True, {"strips.8": 2})
OUTLINES = (
    ProgramOutline("noise", 1, has_model=False, consumes=None, knobs=()),
    ProgramOutline("decode", 5, has_model=True, consumes="noise", knobs=(STRIPS,)),
)


@pytest.fixture
def kept(tmp_path):
    return KeptProfile.in_folder(tmp_path, "a graph")


def again(tmp_path, identity="a graph") -> KeptProfile:
    return KeptProfile.in_folder(tmp_path, identity)


class TestKeptProfile:
    """The store by itself."""

    def test_gives_back_what_was_kept(self, kept, tmp_path) -> None:
        """To another process too."""
        footprint = chain(blocks=2, staging=9)
        kept.add_outlines(OUTLINES)
        kept.add_footprint([{"decode": {}}, []], footprint)
        kept.store.keep()
        assert again(tmp_path).outlines() == OUTLINES
        assert again(tmp_path).footprint([{"decode": {}}, []]) == footprint

    def test_knows_nothing_else(self, kept, tmp_path) -> None:
        """Other knobs, another graph."""
        kept.add_footprint("key", chain())
        kept.store.keep()
        assert again(tmp_path).footprint("another key") is None
        assert again(tmp_path).outlines() is None
        assert again(tmp_path, "another graph").footprint("key") is None

    @pytest.mark.parametrize("packed", [b"", b"x", b"\xc1"])
    def test_damaged_is_not_there(self, kept, packed) -> None:
        """Whatever is no profile of ours."""
        kept.store.keep()
        store = attrs.evolve(kept.store)
        damaged = KeptProfile(store)
        damaged.add_footprint("key", chain())
        (key,) = store._new
        store._values = {key: packed, b"outlines": packed}
        assert damaged.footprint("key") is None
        assert damaged.outlines() is None


def prepared(tmp_path, text: str) -> Prepared:
    """A graph's text, prepared for a card that is not here."""
    path = tmp_path / "graph.yaml"
    path.write_text(text)
    request = Request(str(path), {"prompt": "x"}, machine="rtx4090")
    return prepare(request, find_place(request), to_run=False)


GRAPH = """
wanflow: 1
name: mine
about: Two frames
inputs:
  prompt: {type: text}
models:
  text: {part: text_encoder, config: wan2.1-t2v-1.3b, path: none, precision: bf16}
  dit: {part: transformer, config: wan2.1-t2v-1.3b, path: none, precision: bf16}
stages:
  encode: {op: encode_text, model: text, in: {prompt: $prompt}}
  noise: {op: noise, in: {size: 64*64, frames: 1, seed: 1}}
  denoise:
    op: denoise
    model: dit
    in: {text: encode.text, latents: noise.latents}
    params: {steps: 2, guidance: 1}
outputs: {latents: denoise.latents}
"""


class TestIdentity:
    """What a graph's profile is found by."""

    @pytest.mark.parametrize(
        ("old", "new", "same"),
        [
            ("about: Two frames", "about: Others", True),
            ("seed: 1", "seed: 2", True),
            ("steps: 2", "steps: 3", True),  # in the key of each footprint
            ("outputs: {", "outputs: {text: encode.text, ", False),
            ("model: dit", "model: other", False),
            ("64*64", "64*96", False),
        ],
    )  # fmt: skip
    def test_of_a_graph(self, tmp_path, old, new, same) -> None:
        """Names of models and what lives to the end are in footprints, so they count."""
        other = GRAPH.replace(old, new)
        if new == "model: other":
            other = other.replace("  dit:", "  other:")
        assert other != GRAPH
        paths = [prepared(tmp_path, text).profile.store.path for text in (GRAPH, other)]
        assert (paths[0] == paths[1]) is same

    def test_of_a_field_that_is_left_out(self) -> None:
        """Upstream fills it in with a value of its own, whatever the known models have."""
        config = {"vocab_size": 64, "d_model": 32, "num_layers": 1, "num_heads": 2}
        left_out, stated = (
            LocatedModel(SPEC, "fp32", fields, None, None, "here", frozenset()).identity
            for fields in (config, {**config, "d_ff": 10240})
        )
        assert build("text_encoder", config).config.d_ff != 10240
        assert left_out != stated


@attrs.frozen
class Spec:
    """As much of a model's spec as is looked at."""

    part: str
    name: str = "model"


SPEC = Spec("text_encoder")
SMALL = {
    "transformer": {
        "num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 1, "text_dim": 8,
    },
    "vae": {"base_dim": 8, "z_dim": 16},
}  # fmt: skip


@pytest.mark.parametrize("part", SMALL)
def test_shapes_are_what_upstream_fills_in(part) -> None:
    """So that a graph's latents are known before its modules are built."""
    located = LocatedModel(Spec(part), "fp32", SMALL[part], None, None, "here", frozenset())
    config = build(part, SMALL[part]).config
    (shapes,) = shapes_of({"model": located}).values()
    assert len(shapes) >= 2
    assert shapes == {
        name: list(value) if isinstance(value := getattr(config, name), tuple) else value
        for name in shapes
    }
