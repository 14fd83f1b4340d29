"""A group of heads at a time, UMT5's attention gives transformers' bits."""

import pytest
import torch
from transformers import UMT5Config, UMT5EncoderModel

from wanflow.models.wan import umt5, umt5_heads

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
TOKENS = (1, 7, 16, 32, 64, 129, 192, 255, 512)  # the kernel's blocks change at 192
# heads, head width, width, feed-forward: tiny, as wide as XXL's, an odd number, odd widths
SHAPES = ((4, 32, 128, 256), (16, 64, 128, 320), (7, 64, 96, 700), (3, 40, 96, 200))


def made(shape, dtype):
    heads, head_width, width, inner = shape
    config = UMT5Config(
        vocab_size=8, d_model=width, d_kv=head_width, d_ff=inner, num_heads=heads, num_layers=1,
        feed_forward_proj="gated-gelu", attn_implementation="sdpa",
    )  # fmt: skip
    module = UMT5EncoderModel(config).to(dtype).eval()
    torch.manual_seed(heads)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


class TestAttend:
    @pytest.mark.parametrize("threads", [1, 2])
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    @torch.no_grad()
    def test_same_bits(self, shape, dtype, threads):
        """At every length, with padding masked or without."""
        module, before = made(shape, dtype), torch.get_num_threads()
        layer = module.encoder.block[0].layer[0]
        torch.set_num_threads(threads)
        try:
            for tokens in TOKENS:
                hidden = torch.randn(1, tokens, shape[2]).to(dtype)
                seen = (torch.arange(tokens) < max(tokens - 5, 1)).long()[None]
                for ids_mask in (seen, torch.ones_like(seen)):
                    mask = umt5.attention_mask(module, hidden, ids_mask)
                    expected = layer(hidden, mask)[0]
                    assert torch.equal(expected, umt5_heads.attend(layer, hidden, mask))
        finally:
            torch.set_num_threads(before)

    @pytest.mark.parametrize("tokens", TOKENS)
    @torch.no_grad()
    def test_bias_by_distance(self, tokens):
        """Spread out it is upstream's, with what is hidden at the dtype's smallest number."""
        attn = made(SHAPES[0], torch.bfloat16).encoder.block[0].layer[0].SelfAttention
        shown = torch.rand(1, 1, tokens, tokens) > 0.3
        least = torch.finfo(torch.bfloat16).min
        bias = umt5_heads._bias_by_distance(attn, tokens)
        assert torch.equal(
            torch.where(shown, attn.compute_bias(tokens, tokens), least),
            umt5_heads._spread(bias, tokens, ~shown),
        )


class TestGroups:
    @pytest.mark.parametrize(("tokens", "sizes"), [(64, [4]), (100, [2, 2]), (512, [1] * 4)])
    def test_no_more_than_a_feed_forward(self, tokens, sizes):
        """As many heads as have no more scores a token than the feed-forward has numbers."""
        attn = made(SHAPES[0], torch.float32).encoder.block[0].layer[0].SelfAttention
        parts = list(umt5_heads.groups(attn, tokens))
        assert [part.stop - part.start for part in parts] == sizes
        assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
