"""With compiled kernels a block gives its own numbers nearly; all blocks and sizes share them."""

import attrs
import pytest
import torch
from torch._dynamo.utils import counters

from wanflow.models.wan import dit, dit_compiled, dit_rows, kernels
from wanflow.models.wan.dit_rows import Rows
from wanflow.models.wan.first_calls import FirstCalls
from wanflow.models.wan.rope import Grid, WholeRope, make_rope
from wanflow.scheduler.profile.kernel_workspace import workspace_of
from wanflow.scheduler.profile.recorder import Recorder

CPU = torch.device("cpu")
KERNELS = 7
ROUNDINGS = 4  # of bf16, over the largest number


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@attrs.frozen
class Case:
    """A tiny transformer whose kernels are compiled, with what its blocks are given."""

    module: torch.nn.Module

    def given(self, height, width):
        latents = torch.randn(1, 16, 2, height, width)
        text = torch.randn(1, 512, self.module.config.text_dim)
        made = dit.embed(self.module, latents, torch.tensor([500]), text)
        rope = make_rope(self.module, Grid.of(self.module, tuple(latents.shape)), CPU)
        return made, rope

    def by_rows(self, forms, made, rope, size):
        hidden = made.hidden.clone()
        rows = Rows(size)
        for block in self.module.blocks:
            scaled = dit_rows.scales(block, made.modulation)
            forms.attend(block, hidden, scaled, rope, rows)
            forms.cross(block, hidden, made.context, rows)
            forms.feed(block, hidden, scaled, rows)
        return hidden


@pytest.fixture(scope="module")
def case(request):
    """In bf16, of the tiny model's own weights."""
    from diffusers import WanTransformer3DModel

    from wanflow.models.backends import attend_natively
    from wanflow.models.weights.locate import BUNDLED

    folder = BUNDLED / "wan-tiny" / "transformer"
    module = WanTransformer3DModel.from_pretrained(folder, torch_dtype=torch.bfloat16).eval()
    attend_natively(module.requires_grad_(requires_grad=False))
    dtypes = {name: p.dtype for name, p in module.named_parameters()}
    torch._dynamo.reset()
    counters.clear()
    assert FirstCalls(module, dtypes.__getitem__, CPU, by_token=False).make() == KERNELS
    return Case(module)


class TestBlocks:
    """All of them, by chunks of rows."""

    @pytest.mark.parametrize("size", [64, 256, 1 << 30])
    def test_nearly_the_same(self, case, size):
        """Within some roundings of bf16 of the blocks op by op; rows make no difference to that."""
        made, rope = case.given(16, 24)
        expected = case.by_rows(dit_rows, made, rope, size).float()
        found = case.by_rows(dit_compiled, made, WholeRope.of(rope), size).float()
        error = (found - expected).abs().max() / expected.abs().max()
        assert 0 < error <= ROUNDINGS * 2**-8

    def test_one_graph_a_kernel(self, case):
        """Every block, at sizes and chunks that differ: nothing is compiled any more."""
        for height, width, size in ((16, 24, 64), (8, 10, 1 << 30), (30, 6, 32)):
            made, rope = case.given(height, width)
            case.by_rows(dit_compiled, made, WholeRope.of(rope), size)
        assert counters["stats"]["unique_graphs"] == KERNELS

    def test_a_timestep_a_token(self, case):
        """Each token takes the modulation that it names, as op by op; kernels run as written."""
        made, rope = case.given(8, 12)
        block = case.module.blocks[1]
        modulation = torch.randn(2, 6, made.hidden.shape[2])
        index = torch.randint(2, made.hidden.shape[:2])
        found = []
        with torch.compiler.set_stance("force_eager"):
            for forms, turns in ((dit_rows, rope), (dit_compiled, WholeRope.of(rope))):
                hidden = made.hidden.clone()
                scaled = dit_rows.scales(block, modulation, index)
                forms.attend(block, hidden, scaled, turns, Rows(32))
                forms.feed(block, hidden, scaled, Rows(32))
                found.append(hidden.float())
        expected, own = found
        assert (own - expected).abs().max() <= ROUNDINGS * 2**-8 * expected.abs().max()

    def test_counted_without_being_run(self, case):
        """Where memory is predicted, a kernel is what it makes, and no number is computed."""
        made, rope = case.given(16, 24)
        whole, hidden = WholeRope.of(rope), made.hidden.clone()
        block = case.module.blocks[0]
        scaled = dit_rows.scales(block, made.modulation)
        with Recorder([hidden, *block.parameters()], workspace_of("cpu")) as recorder:
            dit_compiled.attend(block, hidden, scaled, whole, Rows(64))
        assert torch.equal(hidden, made.hidden)
        assert recorder.peak_bytes > 2 * hidden.nbytes  # keys and values of all rows


class TestWholeRope:
    def test_same_turns(self, case):
        """Swapped halves times a signed sine: the short tables' turns."""
        _, rope = case.given(6, 8)
        whole, part = WholeRope.of(rope), slice(3, 17)
        x = torch.randn(1, 14, 4, 32)
        cos, sin = whole.rows(part)
        swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        expected = rope.turned(x, part)
        assert torch.allclose(x * cos[:, None] + swapped * sin[:, None], expected, atol=1e-6)


class TestKernels:
    @pytest.mark.parametrize("approximate", ["tanh", "none"])
    def test_gelu(self, approximate):
        """Written with a sigmoid, it is PyTorch's, up to the last digits."""
        x, bias = torch.linspace(-8, 8, 4096).reshape(16, 256), torch.full((256,), 0.25)
        expected = torch.nn.functional.gelu(x + bias, approximate=approximate)
        made = x.clone()
        kernels._gelu(made, bias, approximate)
        assert torch.allclose(made, expected, rtol=0, atol=1e-6)
