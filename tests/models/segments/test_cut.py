"""Segments: every weight in exactly one, at upstream's dtype, gone when it is unbound."""

import weakref
from collections import Counter

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5EncoderModel

from wanflow.graph.configs import known_config
from wanflow.models.bound import segmentation_of
from wanflow.models.segments.build import build
from wanflow.models.segments.cut import ALIGNMENT_BYTES, cut
from wanflow.models.wan import umt5

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
UNUSED = {  # parameters that no stage runs with as a whole
    "text_encoder": ("shared.",),  # its rows are gathered
    "transformer": (),
    "vae": ("encoder.", "quant_conv."),
}
UPSTREAM = {
    "text_encoder": lambda path, dtype: UMT5EncoderModel.from_pretrained(path, dtype=dtype),
    "transformer": lambda path, dtype: WanTransformer3DModel.from_pretrained(
        path, torch_dtype=dtype
    ),
    "vae": lambda path, dtype: AutoencoderKLWan.from_pretrained(path, torch_dtype=dtype),
}


@pytest.fixture(params=["wan-tiny", "wan2.1-t2v-1.3b", "wan2.1-t2v-14b"])
def config(request):
    return request.param


@pytest.fixture(params=UNUSED)
def part(request):
    return request.param


class TestCut:
    """A model is cut without gaps and without overlaps."""

    def test_every_weight_once(self, part, config):
        """A weight that a stage runs with is in one segment, every other in none."""
        module = build(part, known_config(config, part))
        found = segmentation_of(part, module)
        needed = [n for n, _ in module.named_parameters() if not n.startswith(UNUSED[part])]
        for granularity in (found.segments, found.finest):
            segments = cut(module, granularity, "bf16")
            names = Counter(t.name for s in segments.values() for t in s.tensors)
            assert names == Counter(needed)

    def test_no_buffers_are_lost(self, part):
        """What modules keep besides parameters is only what the drivers make anew."""
        module = build(part, known_config("wan-tiny", part))
        assert {n for n, _ in module.named_buffers()} <= {"rope.freqs_cos", "rope.freqs_sin"}

    def test_slab(self, located, part):
        """Tensors lie in the slab aligned, one after the other, and end inside it."""
        for segment in located(part, "bf16").model.segments.values():
            end = 0
            for tensor in segment.tensors:
                assert tensor.offset >= end
                assert tensor.offset % ALIGNMENT_BYTES == 0
                end = tensor.offset + tensor.nbytes
            assert end <= segment.nbytes < end + ALIGNMENT_BYTES

    @pytest.mark.parametrize("precision", DTYPES)
    def test_dtypes_are_upstreams(self, tiny, located, part, precision):
        """A weight has the dtype that `from_pretrained` gives it, the ones kept in fp32 too."""
        upstream = UPSTREAM[part](tiny / part, DTYPES[precision])
        theirs = {n: p.dtype for n, p in upstream.named_parameters()}
        segments = located(part, precision).model.segments.values()
        ours = {t.name: t.dtype for s in segments for t in s.tensors}
        assert ours == {name: theirs[name] for name in ours}

    @pytest.mark.parametrize("precision", DTYPES)
    def test_gathered_rows_have_upstreams_dtype(self, tiny, located, precision):
        """A row of the embedding has the dtype of upstream's table."""
        upstream = UPSTREAM["text_encoder"](tiny / "text_encoder", DTYPES[precision])
        row = located("text_encoder", precision).model.rows(umt5.EMBEDDING)
        table = upstream.get_parameter(umt5.EMBEDDING)
        assert (row.dtype, row.shape, row.nbytes) == (table.dtype, table[0].shape, table[0].nbytes)


class TestBind:
    """Bound tensors are the module's parameters; afterwards nothing holds them."""

    @pytest.fixture
    def model(self, located):
        return located("transformer", "bf16").model

    @pytest.fixture
    def tensors(self, model):
        segment = model.segments["block.3"]
        return {t.name: torch.zeros(t.shape, dtype=t.dtype) for t in segment.tensors}

    def test_no_copy(self, model, tensors):
        """A parameter has the storage it was given."""
        model.bind("block.3", tensors)
        for name, tensor in tensors.items():
            assert model.module.get_parameter(name).data_ptr() == tensor.data_ptr()

    def test_no_gradient(self, model, tensors):
        """A bound parameter wants no gradient."""
        model.bind("block.3", tensors)
        assert not any(model.module.get_parameter(name).requires_grad for name in tensors)

    def test_unbind_leaves_nothing(self, model):
        """After `unbind` the slab's storage is gone."""
        segment = model.segments["block.3"]
        slab = torch.zeros(segment.nbytes, dtype=torch.uint8)
        views = {
            t.name: slab[t.offset : t.offset + t.nbytes].view(t.dtype).view(t.shape)
            for t in segment.tensors
        }
        gone = weakref.ref(slab.untyped_storage())
        model.bind(segment.name, views)
        del slab, views
        assert gone() is not None
        model.unbind(segment.name)
        assert gone() is None

    def test_unbind_keeps_the_shapes(self, model, tensors):
        """An unbound module is what was built: on meta, with its dtypes."""
        model.bind("block.3", tensors)
        model.unbind("block.3")
        for name, tensor in tensors.items():
            parameter = model.module.get_parameter(name)
            assert parameter.is_meta
            assert (parameter.shape, parameter.dtype) == (tensor.shape, tensor.dtype)

    @pytest.mark.parametrize("change", [lambda t: t.double(), lambda t: t[None]])
    def test_wrong_tensor(self, model, tensors, change):
        """A wrong dtype or shape is our own fault and doesn't pass in silence."""
        name = next(iter(tensors))
        with pytest.raises(AssertionError, match=name):
            model.bind("block.3", {**tensors, name: change(tensors[name])})

    def test_a_part_takes_nothing_from_its_segment(self, model, tensors):
        """A parameter of two bound segments lives as long as either, in any order."""
        part = "block.3.ffn"
        again = {t.name: tensors[t.name].clone() for t in model.segments[part].tensors}
        model.bind("block.3", tensors)
        model.bind(part, again)
        model.unbind(part)
        for name in again:
            assert model.module.get_parameter(name).data_ptr() == tensors[name].data_ptr()
        model.unbind("block.3")
        assert all(model.module.get_parameter(name).is_meta for name in tensors)


class TestSegmentOf:
    """A stage asks for a segment by the module paths that it is about to run."""

    @pytest.fixture
    def model(self, located):
        return located("transformer").model

    @pytest.mark.parametrize(
        ("paths", "segment"),
        [
            (("patch_embedding", "condition_embedder"), "in"),
            (("blocks.3",), "block.3"),
            (("blocks.3.attn1.to_q", "blocks.3.ffn"), "block.3"),
            (("proj_out", "scale_shift_table"), "head"),
        ],
    )
    def test_whole(self, model, paths, segment):
        """The segment that has all of their weights."""
        assert segment == model.segment_of(*paths)

    @pytest.mark.parametrize(
        ("paths", "segment"),
        [
            (("blocks.3.attn1", "blocks.3.scale_shift_table"), "block.3.attn1"),
            (("blocks.3.attn2", "blocks.3.norm2"), "block.3.attn2"),
            (("blocks.3.ffn",), "block.3.ffn"),
        ],
    )
    def test_part(self, model, paths, segment):
        """Small weights go with the part that they are used with."""
        assert segment == model.segment_of(*paths, part=True)

    @pytest.mark.parametrize("paths", [("blocks",), ("blocks.3", "proj_out"), ("rope",)])
    def test_not_in_one(self, model, paths):
        """A call has one segment: more, or none, is our own fault."""
        with pytest.raises(AssertionError, match=paths[0]):
            model.segment_of(*paths)
