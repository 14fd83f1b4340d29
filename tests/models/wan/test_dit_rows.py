"""A chunk of rows at a time, the transformer gives what its plain forward gives."""

import copy

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch.utils._python_dispatch import TorchDispatchMode

from wanflow.models.wan import dit, dit_heads, dit_rows
from wanflow.models.wan.dit_rows import Rows
from wanflow.models.wan.rope import Grid, make_rope

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Relative to the largest number of the prediction. bf16: three roundings of 2^-8.
BOUNDS = {"fp32": 1e-5, "bf16": 3 * 2**-8, "fp16": 3 * 2**-11}
SMALL = {
    "num_attention_heads": 3, "attention_head_dim": 32, "text_dim": 24, "freq_dim": 32,
    "ffn_dim": 160, "num_layers": 2,
}  # fmt: skip
FORMS = {
    "t2v": {},
    "i2v": {"in_channels": 36, "image_dim": 20, "added_kv_proj_dim": 96},
    "ti2v": {"in_channels": 48, "out_channels": 48},
}
IMAGE_TOKENS = 7


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model():
    """Make a small transformer of a form, in the dtypes upstream loads it in."""
    made = {}

    def make(form="t2v", precision="fp32", **fields):
        key = (form, precision, tuple(fields.items()))
        if key not in made:
            torch.manual_seed(1)
            module = WanTransformer3DModel(**{**SMALL, **FORMS[form], **fields}).eval()
            kept = module._keep_in_fp32_modules
            for name, parameter in module.named_parameters():
                if not any(part in kept for part in name.split(".")):
                    parameter.data = parameter.data.to(PRECISIONS[precision])
            made[key] = module.requires_grad_(requires_grad=False)
        return made[key]

    return make


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Case:
    """Inputs of a forward, and the two ways to run it."""

    def __init__(self, module, form, shape, *, batch=1, tokens=512):
        config, dtype = module.config, module.patch_embedding.weight.dtype
        self.module = module
        self.latents = noise(batch, config.in_channels, *shape).to(dtype)
        self.text = noise(batch, tokens, config.text_dim, seed=1).to(dtype)
        self.image = None
        if form == "i2v":
            self.image = noise(batch, IMAGE_TOKENS, config.image_dim, seed=2).to(dtype)
        self.grid = Grid.of(module, self.latents.shape)
        self.timestep = torch.full((batch,), 731)
        if form == "ti2v":  # the first latent frame is given: it has no noise
            first = self.grid.height * self.grid.width
            self.timestep = torch.full((batch, self.grid.tokens), 731)
            self.timestep[:, :first] = 0

    def plain(self):
        return self.module(self.latents, self.timestep, self.text, self.image, return_dict=False)[0]

    def by_rows(self, size, groups=0):
        module, rows = self.module, Rows(size)
        times, index = self.timestep, None
        if times.ndim == 2:
            times, index = torch.unique(times, return_inverse=True)
        rope = make_rope(module, self.grid, torch.device("cpu"))
        made = dit_rows.embed(module, self.latents, times, self.text, rows, self.image)
        hidden = made.hidden
        for block in module.blocks:
            scaled = dit_rows.scales(block, made.modulation, index)
            if groups:
                dit_heads.attend(block, hidden, scaled, rope, rows, groups)
            else:
                dit_rows.attend(block, hidden, scaled, rope, rows)
            dit_rows.cross(block, hidden, made.context, rows)
            dit_rows.feed(block, hidden, scaled, rows)
        shape = tuple(self.latents.shape)
        return dit_rows.head(module, hidden, made.time, shape, rows, index)


def difference(made, expected):
    """The largest one, relative to the largest number."""
    assert made.shape == expected.shape
    assert made.dtype == expected.dtype
    return ((made.float() - expected.float()).abs().max() / expected.float().abs().max()).item()


class Twice(torch.nn.Module):
    """A Linear in a wrapper that changes what it gives."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, x):
        return 2 * self.linear(x)


class Ops(TorchDispatchMode):
    """Names of the ops that run."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func.overloadpacket.__name__)
        return func(*args, **kwargs or {})


class TestForward:
    @pytest.mark.parametrize("precision", PRECISIONS)
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize(
        "shape", [(1, 6, 10), (2, 8, 6), (3, 2, 14), (5, 6, 4)], ids=["1", "5", "9", "17"]
    )
    @pytest.mark.parametrize("batch", [1, 2])
    def test_agrees(self, model, precision, form, shape, batch) -> None:
        """Frames 1 to 17, no square, chunks that don't divide the sequence."""
        case = Case(model(form, precision), form, shape, batch=batch)
        assert difference(case.by_rows(8), case.plain()) <= BOUNDS[precision]

    @pytest.mark.parametrize("tokens", [1, 2, 77, 512])
    def test_text_of_any_length(self, model, tokens) -> None:
        """The context needs no padding."""
        case = Case(model(), "t2v", (2, 4, 6), tokens=tokens)
        assert difference(case.by_rows(4), case.plain()) <= BOUNDS["fp32"]

    @pytest.mark.parametrize("precision", PRECISIONS)
    @pytest.mark.parametrize("form", FORMS)
    def test_one_chunk_has_the_same_bits(self, model, precision, form) -> None:
        """With all rows in a chunk no kernel sees other shapes, but for a time a token."""
        case = Case(model(form, precision), form, (3, 6, 10))
        made, expected = case.by_rows(4096), case.plain()
        assert torch.equal(made, expected) or form == "ti2v"
        assert difference(made, expected) <= BOUNDS[precision]

    def test_without_a_norm_before_cross_attention(self, model) -> None:
        """`norm2` is then nothing at all, and the hidden state isn't written to too early."""
        case = Case(model(cross_attn_norm=False), "t2v", (2, 4, 6))
        assert difference(case.by_rows(4), case.plain()) <= BOUNDS["fp32"]

    def test_a_time_of_its_own_for_each_sample(self, model) -> None:
        """A batch of two at two timesteps."""
        case = Case(model(), "t2v", (2, 4, 6), batch=2)
        case.timestep = torch.tensor([3, 900])
        assert difference(case.by_rows(4), case.plain()) <= BOUNDS["fp32"]

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_attention_is_one_kernel(self, model, precision) -> None:
        """Two of them a chunk and block; the score matrix is never there."""
        case = Case(model("t2v", precision), "t2v", (3, 6, 10))
        with Ops() as ops:
            case.by_rows(16)
        count = len(list(Rows(16).chunks(case.grid.tokens)))
        assert ops.seen.count("_scaled_dot_product_flash_attention_for_cpu") == 2 * 2 * count
        assert not {"_softmax", "bmm", "baddbmm"} & set(ops.seen)


class TestRows:
    @pytest.mark.parametrize("size", [16, 48, 256, 1024, 4096])
    @pytest.mark.parametrize("tokens", [1, 15, 300, 1023, 2550, 32760])
    def test_chunks(self, size, tokens) -> None:
        """They cover the sequence in order, none smaller than asked for but by half a chunk."""
        chunks = list(Rows(size).chunks(tokens))
        assert [t for c in chunks for t in range(c.start, c.stop)] == list(range(tokens))
        sizes = [c.stop - c.start for c in chunks]
        assert len(chunks) == 1 or max(sizes) < 2 * size
        assert all(c.start % min(size & -size, 256) == 0 for c in chunks)

    def test_full_size(self) -> None:
        """480p and 720p at 81 frames: chunks of 1,024."""
        assert {1024, 1016} == {c.stop - c.start for c in Rows(1024).chunks(32760)}
        assert max(c.stop - c.start for c in Rows(1024).chunks(75600)) <= 1280


class TestRope:
    def test_is_upstream_s(self, model) -> None:
        """Every chunk is turned to the same bits."""
        module = model()
        latents = noise(1, 16, 3, 6, 10)
        grid = Grid.of(module, latents.shape)
        cos, sin = dit.rotary_tables(module, latents, latents.device)
        rope = make_rope(module, grid, latents.device)
        x = noise(2, grid.tokens, 3, 32).bfloat16()
        one, two = x.unflatten(-1, (-1, 2)).unbind(-1)
        wide, high = cos[..., 0::2], sin[..., 1::2]
        expected = torch.stack((one * wide - two * high, one * high + two * wide), -1).flatten(-2)
        parts = list(Rows(16).chunks(grid.tokens))
        assert len(parts) > 1
        made = torch.cat([rope.turned(x[:, part], part) for part in parts], dim=1)
        assert torch.equal(made, expected.bfloat16())

    def test_is_short(self, model) -> None:
        """As many rows as the longest side has places."""
        rope = make_rope(model(), Grid(3, 5, 2), torch.device("cpu"))
        assert rope.table.shape == (5, 16, 2)
        assert (rope.places.shape, rope.places.dtype) == ((3, 30), torch.int32)


class TestHeads:
    @pytest.mark.parametrize("precision", PRECISIONS)
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize(("batch", "groups"), [(1, 2), (2, 3), (1, 1), (1, 8)])
    def test_agrees(self, model, precision, form, batch, groups) -> None:
        """Groups of one and of two heads; no more than there are."""
        case = Case(model(form, precision), form, (3, 6, 10), batch=batch)
        assert difference(case.by_rows(16, groups), case.plain()) <= BOUNDS[precision]

    def test_plain_linears_only(self, model) -> None:
        """A wrapped one would not be called."""
        module = copy.deepcopy(model())
        assert dit_heads.can_group(module)
        module.blocks[1].attn1.to_v = torch.nn.Sequential(module.blocks[1].attn1.to_v)
        assert not dit_heads.can_group(module)


class TestWrapped:
    def test_every_linear_is_called(self, model) -> None:
        """What stands in for a Linear of a block (LoRA, quantised) is what runs."""
        module = copy.deepcopy(model("i2v"))
        for block in module.blocks:
            for attn in (block.attn1, block.attn2):
                for name in ("to_q", "to_k", "to_v"):
                    setattr(attn, name, Twice(getattr(attn, name)))
                attn.to_out[0] = Twice(attn.to_out[0])
            for name in ("add_k_proj", "add_v_proj"):
                setattr(block.attn2, name, Twice(getattr(block.attn2, name)))
            block.ffn.net[2] = Twice(block.ffn.net[2])
        case = Case(module, "i2v", (2, 4, 6))
        assert difference(case.by_rows(4), case.plain()) <= BOUNDS["fp32"]
        assert difference(Case(model("i2v"), "i2v", (2, 4, 6)).plain(), case.plain()) > 1e-3
