"""Packed weights: what they are when open, in each dtype, whole and in part."""

import pytest
import torch

from wanflow.models.packing.form import PACKED
from wanflow.models.packing.linear import OpenLinear, opened
from wanflow.models.packing.made import form_of, pack
from wanflow.models.packing.scaled import ROTATED, SCALE, Scaled, rotation

OUT, IN = 12, 512


@pytest.fixture
def weight():
    """Rows of very different sizes, one of zeros."""
    torch.manual_seed(0)
    rows = torch.randn(OUT, IN) * torch.logspace(-3, 1, OUT)[:, None]
    rows[5] = 0
    return rows


def packed(shape, dtype, scale_shape, rotated=False):
    """A form with random pieces."""
    torch.manual_seed(1)
    form = Scaled(shape, dtype, scale_shape, rotated)
    pieces = {PACKED: torch.randint(-100, 100, shape).to(torch.float32).to(dtype)}
    if scale_shape is not None:
        pieces[SCALE] = torch.rand(scale_shape) / 64
    return form, pieces


class TestOpening:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("of", [torch.int8, torch.float8_e4m3fn, torch.float8_e5m2])
    @pytest.mark.parametrize("scale_shape", [None, (), (OUT, 1), (OUT, 8, 1)])
    def test_is_number_times_scale(self, of, scale_shape, dtype) -> None:
        """Up to the rounding of the scale and of the product."""
        form, pieces = packed((OUT, IN), of, scale_shape)
        numbers = pieces[PACKED].double()
        if scale_shape:
            numbers = (numbers.view(*scale_shape[:-1], -1) * pieces[SCALE].double()).view(OUT, IN)
        elif scale_shape is not None:
            numbers = numbers * pieces[SCALE].double()

        whole = form.open(pieces, dtype).whole()
        assert (whole.dtype, whole.shape) == (dtype, (OUT, IN))
        bound = {torch.float32: 2e-7, torch.bfloat16: 8e-3, torch.float16: 1e-3}[dtype]
        assert torch.allclose(whole.double(), numbers, rtol=bound, atol=1e-6)

    def test_a_rotation_is_undone(self, weight) -> None:
        """The matrix is its own inverse, so packing what was turned gives the weight again."""
        matrix = rotation(torch.float64, torch.device("cpu"))
        assert torch.equal(matrix, matrix.T)
        assert torch.allclose(matrix @ matrix, torch.eye(ROTATED, dtype=torch.float64))
        turned = (weight.view(OUT, -1, ROTATED) @ matrix.float()).view(OUT, IN)

        form = Scaled((OUT, IN), torch.int8, (OUT, 1), rotated=True)
        whole = form.open(pack("int8", turned), torch.float32).whole()
        error = (whole - weight).norm(dim=1) / weight.norm(dim=1).clamp_min(1e-9)
        assert error.max() < 0.012

    @pytest.mark.parametrize("rotated", [False, True])
    @pytest.mark.parametrize("scale_shape", [None, (), (OUT, 1), (OUT, 8, 1)])
    def test_some_rows(self, scale_shape, rotated) -> None:
        """They are the rows of the whole, in bits."""
        form, pieces = packed((OUT, IN), torch.int8, scale_shape, rotated and scale_shape != ())
        rows = slice(3, 8)
        part = form.part(rows).open(form.cut(pieces, rows), torch.bfloat16).whole()
        assert torch.equal(part, form.open(pieces, torch.bfloat16).whole()[rows])


class TestPacking:
    @pytest.mark.parametrize(("kind", "bound"), [("int8", 0.012), ("fp8", 0.03)])
    def test_error(self, weight, kind, bound) -> None:
        """Of each row by itself, however small its numbers; a row of zeros stays one."""
        whole = form_of(kind, (OUT, IN)).open(pack(kind, weight), torch.float32).whole()
        error = (whole - weight).norm(dim=1) / weight.norm(dim=1).clamp_min(1e-9)
        assert error.max() < bound
        assert not whole[5].any()

    @pytest.mark.parametrize("kind", ["int8", "fp8"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_rows_are_independent(self, weight, kind, dtype) -> None:
        """Some rows at a time are packed as all at once; what is given stays as it is."""
        weight = weight.to(dtype)
        before, whole = weight.clone(), pack(kind, weight)
        parts = [pack(kind, weight[start : start + 5]) for start in range(0, OUT, 5)]
        for name, piece in whole.items():
            together = torch.cat([part[name].float() for part in parts])
            assert torch.equal(together, piece.float()), name
        assert torch.equal(weight, before)

    def test_scales_are_bfloat16(self, weight) -> None:
        """So that no dtype rounds them; the largest number still fits."""
        pieces = pack("int8", weight)
        assert torch.equal(pieces[SCALE], pieces[SCALE].bfloat16().float())
        assert pieces[PACKED].abs().max() <= 127

    def test_what_is_not_finite_is_named(self, weight) -> None:
        weight[7, 3] = float("nan")
        with pytest.raises(ValueError, match="row 7"):
            pack("int8", weight)


class TestOpenLinear:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("kind", ["int8", "fp8"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_is_the_linear_of_the_open_weight(self, weight, dtype, kind, bias) -> None:
        """To a few roundings; a part of its outputs are those of the whole."""
        form, pieces = form_of(kind, (OUT, IN)), pack(kind, weight)
        linear = OpenLinear(
            form, torch.nn.Parameter(torch.randn(OUT).to(dtype)) if bias else None, dtype
        )
        for name, piece in pieces.items():
            setattr(linear, name, torch.nn.Parameter(piece, requires_grad=False))
        x = torch.randn(7, IN).to(dtype)
        whole = form.open(pieces, torch.float32).whole()
        with torch.no_grad():
            wanted = torch.nn.functional.linear(
                x.float(), whole, linear.bias.float() if bias else None
            )
            y, part = linear(x), opened(linear, slice(2, 9))(x)

        assert y.dtype == dtype
        bound = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
        assert torch.allclose(y.float(), wanted, rtol=bound, atol=bound * float(wanted.abs().max()))
        assert torch.allclose(part.float(), y[:, 2:9].float(), rtol=1e-2, atol=1e-2)
        assert linear.weight.dtype == dtype  # upstream asks for it
