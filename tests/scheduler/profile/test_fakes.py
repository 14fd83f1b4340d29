"""Fakes against real tensors: what is made, how it lies, and whose storage it is."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as f

from wanflow.scheduler.profile import fakes
from wanflow.scheduler.profile.fake_rules import RULES
from wanflow.scheduler.profile.fakes import Fake, FakeMode
from wanflow.scheduler.profile.recorder import storage_key

FLOATS = (torch.float32, torch.bfloat16)
_aten = torch.ops.aten


@st.composite
def laid_out(draw, *, dims=(1, 2, 3, 4, 5), dtypes=FLOATS):
    """A tensor whose dimensions lie in any order, cut, spread or with steps between."""
    count = draw(st.sampled_from(dims))
    sizes = [draw(st.integers(1, 4)) for _ in range(count)]
    order = draw(st.permutations(range(count)))
    whole = torch.zeros([2 * size for size in sizes], dtype=draw(st.sampled_from(dtypes)))
    tensor = whole.permute(order)
    for dim in range(count):
        size, way = tensor.shape[dim] // 2, draw(st.sampled_from("wwwcse"))
        if way == "c":
            tensor = tensor.narrow(dim, size, size)
        if way == "s":
            tensor = tensor[(slice(None),) * dim + (slice(None, None, 2),)]
        if way == "e":
            tensor = tensor.narrow(dim, 0, 1)
            shape = list(tensor.shape)
            shape[dim] = size
            tensor = tensor.expand(shape) if draw(st.booleans()) else tensor
    return tensor.clone(memory_format=torch.preserve_format) if draw(st.booleans()) else tensor


def fake_of(tensor: torch.Tensor) -> Fake:
    """A fake that lies as *tensor* does."""
    empty = fakes.empty(
        (max(tensor.untyped_storage().nbytes() // tensor.itemsize, 1),), tensor.dtype
    )
    with FakeMode():
        return empty.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def facts(tensor: torch.Tensor) -> tuple[object, ...]:
    """All that decides what comes of a tensor, and what it takes."""
    return (
        tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.storage_offset(),
        tensor.untyped_storage().nbytes(), tensor.device.type,
    )  # fmt: skip


def check(run, *tensors):
    """Run on real tensors and on fakes; both make tensors of the same facts."""
    with torch.no_grad():
        real = run(*tensors)
        with FakeMode():
            fake = run(*map(fake_of, tensors))
    reals, fake_ones = ((x,) if isinstance(x, torch.Tensor) else tuple(x) for x in (real, fake))
    assert all(isinstance(x, Fake) for x in fake_ones)
    assert list(map(facts, fake_ones)) == list(map(facts, reals))


class TestPointwise:
    """Operations that go number by number, whose layout is that of their operands."""

    @given(laid_out(), st.sampled_from([
        torch.abs, torch.neg, torch.exp, torch.rsqrt, torch.sigmoid, torch.logical_not, f.silu,
        f.gelu, torch.clone, torch.empty_like, torch.zeros_like, lambda x: x * 2, lambda x: x / 3,
        lambda x: x > 0, lambda x: x.clamp_min(1), lambda x: x**2, lambda x: 2**x, lambda x: 1 - x,
        lambda x: x.float(), lambda x: x.contiguous(),
    ]))  # fmt: skip
    def test_of_one(self, tensor, run) -> None:
        """As real ones lie, whatever the layout."""
        check(run, tensor)

    @given(
        laid_out(), st.data(),
        st.sampled_from([
            torch.add, torch.sub, torch.mul, torch.div, torch.maximum, torch.eq,
            lambda x, y: torch.where(x > 0, x, y),
        ]),
    )  # fmt: skip
    def test_of_two(self, tensor, data, run) -> None:
        """With one of the same shape, in another order, or one that is spread."""
        other = data.draw(st.permutations(range(tensor.dim())))
        back = [other.index(dim) for dim in range(tensor.dim())]
        second = torch.zeros_like(tensor.permute(other), memory_format=torch.contiguous_format)
        second = second.permute(back)
        for dim in range(tensor.dim()):
            if data.draw(st.integers(0, 3)) == 0:
                second = second.narrow(dim, 0, 1)
        check(run, *data.draw(st.permutations([tensor, second])))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
    def test_of_two_dtypes(self, dtype) -> None:
        """The one that holds both; a number, or a tensor that is one, decides little."""
        halves, others = torch.zeros(2, 3, dtype=torch.bfloat16), torch.zeros(2, 3, dtype=dtype)
        for run in (torch.add, torch.mul, torch.maximum, torch.gt):
            check(run, halves, others)
            check(run, halves, others[0, 0])
            check(run, others[0, 0], halves)
        check(torch.div, others, halves)
        check(lambda x: x * 0.5, others)

    @given(laid_out())
    def test_in_place(self, tensor) -> None:
        """The tensor itself comes back."""
        fake = fake_of(tensor.clone())
        with FakeMode():
            assert fake.mul_(2) is fake
            assert fake.add_(fake_of(tensor)) is fake
            assert fake.clamp_min_(0) is fake


class TestOthers:
    @given(laid_out(dims=(2, 3, 4, 5)), st.data())
    def test_put_together(self, tensor, data) -> None:
        """In each dimension."""
        dim = data.draw(st.integers(0, tensor.dim() - 1))
        check(lambda x: torch.cat([x, x, x], dim), tensor)

    @given(laid_out(dims=(1, 2, 3)), st.data())
    def test_stacked(self, tensor, data) -> None:
        """In a new one."""
        dim = data.draw(st.integers(0, tensor.dim()))
        check(lambda x: torch.stack([x, x], dim), tensor)

    @given(laid_out(dims=(4, 5)), st.lists(st.integers(0, 2), min_size=4, max_size=4))
    def test_padded(self, tensor, pads) -> None:
        """Or copied, where nothing is added."""
        check(lambda x: f.pad(x, pads), tensor)

    @given(laid_out(dims=(2, 3, 4)), st.booleans())
    def test_summed_up(self, tensor, keep) -> None:
        """Means and norms."""
        check(lambda x: x.mean(-1, keepdim=keep), tensor)
        check(lambda x: torch.linalg.vector_norm(x, 2, 1, keep), tensor)

    @given(laid_out(dims=(2,)), st.integers(1, 5))
    def test_products(self, tensor, width) -> None:
        """With a bias and without; a batch of rows too."""
        weight = torch.zeros(width, tensor.shape[1], dtype=tensor.dtype)
        check(f.linear, tensor, weight)
        check(f.linear, tensor, weight, weight[:, 0])

    @given(laid_out(dims=(4, 5)), st.data())
    def test_convolutions(self, tensor, data) -> None:
        """In the layout of the kernel that a CPU takes for them."""
        kernel = [data.draw(st.integers(1, 2)) for _ in tensor.shape[2:]]
        weight = torch.zeros(3, tensor.shape[1], *kernel, dtype=tensor.dtype)
        if data.draw(st.booleans()):
            last = torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d
            tensor = tensor.contiguous(memory_format=last)
        convolve = f.conv2d if tensor.dim() == 4 else f.conv3d
        check(lambda x, w: convolve(x, w, padding=1), tensor, weight)

    @given(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.sampled_from(FLOATS))
    def test_attention(self, rows, keys, turned, dtype) -> None:
        """One kernel, with heads that lie behind rows as before them."""
        given = [torch.zeros(2, 4, n, 8, dtype=dtype) for n in (rows, keys, keys)]
        if turned:
            given = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in given]
        check(f.scaled_dot_product_attention, *given)

    @given(laid_out(dims=(2, 3)))
    def test_layer_norm(self, tensor) -> None:
        """Over the last dimension."""
        check(lambda x: f.layer_norm(x, x.shape[-1:]), tensor)

    @pytest.mark.parametrize("bounds", [(7,), (2, 9), (0, 9, 2), (0.0, 3.0, 0.4)])
    def test_counted(self, bounds) -> None:
        """Whole numbers from whole numbers."""
        check(lambda: torch.arange(*bounds))

    def test_enlarged_and_looked_up(self) -> None:
        """Pixels, and rows of a table."""
        check(
            lambda x: f.interpolate(x, scale_factor=2.0, mode="nearest-exact"),
            torch.zeros(2, 3, 4, 5),
        )
        check(f.embedding, torch.zeros(2, 3, dtype=torch.int64), torch.zeros(9, 4))

    def test_one_of_a_size(self) -> None:
        """A dimension of one has the stride that PyTorch gives it, and decides what comes next."""
        rows = torch.zeros(1, 60, 8)
        check(lambda x: x.permute(0, 2, 1).reshape(1, 8, 6, 10), rows)
        check(
            lambda x, w: f.conv2d(x.permute(0, 2, 1).reshape(1, 8, 6, 10), w),
            rows, torch.zeros(8, 8, 1, 1),
        )  # fmt: skip

    def test_every_rule_is_tried(self) -> None:
        """What a rule says nothing of is left to PyTorch: a few of them have to say something."""
        assert len(RULES) == len(set(RULES)) > 50


class TestStorages:
    def test_views_share_one(self) -> None:
        """And hold it."""
        fake = fakes.empty((4, 6), torch.float32)
        with FakeMode():
            view = fake[1:].t()
        assert storage_key(view) == storage_key(fake) != storage_key(fakes.like(fake))
        assert view.untyped_storage().nbytes() == math.prod((4, 6, 4))

    def test_of_real_tensors(self) -> None:
        """Views of one share one while there is any."""
        real = torch.zeros(3, 5)
        with FakeMode():
            first, second = real[:2].view(10), real.t()
        assert storage_key(first) == storage_key(second)

    def test_made_without_a_tensor(self) -> None:
        """In the mode all is fake."""
        with FakeMode():
            made = [torch.zeros(3), torch.tensor([1, 2]), torch.ones(2, dtype=torch.int32)]
        assert [type(tensor) for tensor in made] == [Fake] * 3


class TestRefused:
    def test_values(self) -> None:
        """There are none."""
        with FakeMode(), pytest.raises(AssertionError, match="may not depend on values"):
            torch.ones(1).item()

    def test_weights_that_are_not_bound(self) -> None:
        """They are on meta."""
        weight = torch.empty(4, 3, device="meta")
        with FakeMode(), pytest.raises(AssertionError, match="no bound segment"):
            f.linear(torch.ones(2, 3), weight)


@pytest.mark.parametrize("where", ["machine='rtx4090'", "device='cpu', probe=False"])
def test_nothing_of_the_compiler_is_imported(tmp_path, where) -> None:
    """A plan of a graph that was never planned: it takes a second and a half to import."""
    code = (
        "import sys; from wanflow.session import Request; from wanflow.session.planning.planned "
        f"import plan; plan(Request('t2v-1.3b', {{'frames': 5}}, vram='8GiB', {where})); "
        "print([m for m in ('torch', 'torch._dynamo', 'sympy') if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        env={"XDG_CACHE_HOME": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert ran.stdout.strip() == "['torch']"
