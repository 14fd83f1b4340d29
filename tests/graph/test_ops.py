"""The table of ops holds together."""

from __future__ import annotations

import pytest

from wanflow.graph.configs import PARTS
from wanflow.graph.inputs import STANDARD
from wanflow.graph.ops import OPS, OpSpec, PortType
from wanflow.graph.wanted import MisfitError, fit

MADE = {
    PortType.TEXT_EMBEDDING, PortType.IMAGE_EMBEDDING, PortType.LATENTS, PortType.MASK,
    PortType.FRAMES, PortType.CONTROL, PortType.HISTORY,
}  # fmt: skip


def test_ops_of_the_contract() -> None:
    """Each has code in wanflow/stages."""
    assert set(OPS) == {
        "encode_text", "encode_image", "encode_frames", "noise", "denoise", "decode_frames",
        "write_video", "write_frames", "write_picture", "encode_control",
    }  # fmt: skip


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
class TestOp:
    """Rules for every op."""

    def test_defaults_fit_their_own_rules(self, op: OpSpec) -> None:
        """A param left out is never out of range."""
        for param in op.params.values():
            assert fit(param.default, param) == param.default

    def test_ports_are_literal_or_made(self, op: OpSpec) -> None:
        """What stages make has no literal; the rest says what a literal must be."""
        for port in op.inputs.values():
            assert (port.type in MADE) is (port.wanted is None)

    def test_everything_is_explained(self, op: OpSpec) -> None:
        """`graph show` and the schema print it."""
        assert op.about
        assert all(port.about for port in op.inputs.values())
        assert all(param.about for param in op.params.values())

    def test_part_and_repeats_are_known(self, op: OpSpec) -> None:
        """No word that nobody reads."""
        assert op.model_part in {None, *PARTS}
        assert op.repeats in {"", "steps", "latent_frames"}


def test_streams() -> None:
    """Decoded frames are a stream, at both of its ends."""
    assert OPS["decode_frames"].stream_outputs == ("frames",)
    assert OPS["write_video"].stream_inputs == ("frames",)
    assert OPS["denoise"].stream_inputs == OPS["denoise"].stream_outputs == ()


def test_standard_inputs_agree_with_the_ports_they_feed() -> None:
    """`steps` means the same at the input and at the op."""
    for name, op, where in [
        ("steps", "denoise", "params"), ("guidance", "denoise", "params"),
        ("shift", "denoise", "params"), ("fps", "write_video", "params"),
    ]:  # fmt: skip
        spec, param = STANDARD[name], getattr(OPS[op], where)[name]
        assert (spec.type, spec.minimum, spec.maximum, spec.default) == (
            param.type, param.minimum, param.maximum, param.default,
        )  # fmt: skip
    for name in ("size", "frames", "seed"):
        wanted = OPS["noise"].inputs[name].wanted
        assert wanted is not None
        spec = STANDARD[name]
        assert (spec.type, spec.minimum, spec.maximum, spec.rule) == (
            wanted.type, wanted.minimum, wanted.maximum, wanted.rule,
        )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", ".mp4", "/x.mp4", "a/b.mp4", "a\\b.mp4", "../x.mp4", "~/x.mp4", "x\0.mp4",
        "x .mp4", "é.mp4", "x.mp4\n", "a" * 97 + ".mp4", "con.mp4", "NUL.mp4", "com1.mp4", "x.MP4",
        "x.avi", "video", "C:x.mp4", "x.mp4/", "$HOME.mp4", "%2e%2e.mp4", "-\u202e.mp4",
    ],
)  # fmt: skip
def test_file_name_stays_in_the_run_folder(name: str) -> None:
    """A name from a graph becomes a path."""
    with pytest.raises(MisfitError) as caught:
        fit(name, OPS["write_video"].params["name"])
    assert caught.value.code == "bad-file-name"
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("name", ["plan.json", "RUN.json", "trace.msgpack", "lock", "..", "a/b"])
def test_folder_name_does_not_clash(name: str) -> None:
    """The run folder has files of its own."""
    with pytest.raises(MisfitError):
        fit(name, OPS["write_frames"].params["name"])


@pytest.mark.parametrize("name", ["video.mp4", "a-b_c.1.mp4", "a" * 96 + ".mp4"])
def test_plain_file_name_is_taken(name: str) -> None:
    """Up to a hundred characters."""
    assert fit(name, OPS["write_video"].params["name"]) == name
