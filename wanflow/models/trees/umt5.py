"""UMT5's encoder as a tree of modules: names, shapes and sums of `transformers.UMT5EncoderModel`.

Importing it from there takes two seconds and a hundred megabytes, for generation and quantisers
that no encoder uses. After transformers 5.23, `models/umt5/modeling_umt5.py`, its `sdpa` attention
(`integrations/sdpa_attention.py`) and `gelu_new` (`activations.py`); Apache 2.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

# What transformers' configuration fills in.
_DEFAULTS: Mapping[str, Any] = {
    "d_kv": 64, "d_ff": 1024, "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
}  # fmt: skip


def _embedding(rows: int, width: int) -> nn.Embedding:
    """A table without first values: drawing them on `meta` imports PyTorch's compiler."""
    table: nn.Embedding = nn.Embedding.from_pretrained(torch.empty(rows, width))
    return table


class UMT5Norm(nn.Module):
    """Scale by the root of the mean square over the width, summed in fp32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.variance_epsilon = eps

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Normalise `[..., width]`."""
        variance = hidden.to(torch.float32).pow(2).mean(-1, keepdim=True)
        hidden = hidden * torch.rsqrt(variance + self.variance_epsilon)
        if self.weight.dtype in (torch.float16, torch.bfloat16):
            hidden = hidden.to(self.weight.dtype)
        return torch.as_tensor(self.weight * hidden)


class GeluNew(nn.Module):
    """GELU by its tanh, spelt out: another rounding than torch's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give it of every number."""
        inner, root = 0.044715, math.sqrt(2.0 / math.pi)
        return 0.5 * x * (1.0 + torch.tanh(root * (x + inner * torch.pow(x, 3.0))))


class UMT5Gated(nn.Module):
    """The gated feed-forward."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wi_1 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)
        self.act = GeluNew()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Run it; `wo` may be kept in fp32 where the others are not."""
        gate = self.act(self.wi_0(hidden))
        hidden = gate * self.wi_1(hidden)
        dtype = getattr(getattr(self.wo, "weight", None), "dtype", hidden.dtype)
        if dtype not in (hidden.dtype, torch.int8):
            hidden = hidden.to(dtype)
        return torch.as_tensor(self.wo(hidden))


class UMT5Feed(nn.Module):
    """A layer's second half."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.DenseReluDense = UMT5Gated(config)
        self.layer_norm = UMT5Norm(config.d_model, config.layer_norm_epsilon)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Add what it makes."""
        return torch.as_tensor(hidden + self.DenseReluDense(self.layer_norm(hidden)))


class UMT5Attention(nn.Module):
    """Attention with a bias by distance, no scale; `models/wan/umt5_heads.py` runs it."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.scaling = config, 1.0
        self.n_heads, self.key_value_proj_dim = config.num_heads, config.d_kv
        self.relative_attention_num_buckets = config.relative_attention_num_buckets
        self.relative_attention_max_distance = config.relative_attention_max_distance
        inner = self.n_heads * self.key_value_proj_dim
        self.q = nn.Linear(config.d_model, inner, bias=False)
        self.k = nn.Linear(config.d_model, inner, bias=False)
        self.v = nn.Linear(config.d_model, inner, bias=False)
        self.o = nn.Linear(inner, config.d_model, bias=False)
        self.relative_attention_bias = _embedding(self.relative_attention_num_buckets, self.n_heads)

    def _relative_position_bucket(self, distance: torch.Tensor) -> torch.Tensor:
        """Which bucket a distance falls in: near ones have one each, far ones share by the log."""
        buckets = self.relative_attention_num_buckets // 2
        found = 0 + (distance > 0).to(torch.long) * buckets
        distance = torch.abs(distance)
        exact = buckets // 2
        is_small = distance < exact
        ratio = torch.log(distance.float() / exact)
        ratio = ratio / math.log(self.relative_attention_max_distance / exact)
        far = exact + (ratio * (buckets - exact)).to(torch.long)
        far = torch.min(far, torch.full_like(far, buckets - 1))
        found += torch.where(is_small, distance, far)
        return torch.as_tensor(found)

    def compute_bias(
        self, query_length: int, key_length: int, device: torch.device | None = None
    ) -> torch.Tensor:
        """The bias `[1, heads, queries, keys]`."""
        if device is None:
            device = self.relative_attention_bias.weight.device
        at = torch.arange(query_length, dtype=torch.long, device=device)[:, None]
        seen = torch.arange(key_length, dtype=torch.long, device=device)[None, :]
        values = self.relative_attention_bias(self._relative_position_bucket(seen - at))
        return torch.as_tensor(values.permute([2, 0, 1]).unsqueeze(0))


class UMT5SelfAttention(nn.Module):
    """A layer's first half."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.SelfAttention = UMT5Attention(config)
        self.layer_norm = UMT5Norm(config.d_model, config.layer_norm_epsilon)


class UMT5Block(nn.Module):
    """A layer."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.layer = nn.ModuleList([UMT5SelfAttention(config), UMT5Feed(config)])


class UMT5Stack(nn.Module):
    """The layers and the norm after them."""

    def __init__(self, config: Any, embedding: nn.Embedding) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = embedding
        self.block = nn.ModuleList([UMT5Block(config) for _ in range(config.num_layers)])
        self.final_layer_norm = UMT5Norm(config.d_model, config.layer_norm_epsilon)


class UMT5Encoder(nn.Module):
    """All of it; how it is run is `models/wan/umt5.py`."""

    _keep_in_fp32_modules = ("wo",)
    keeps_fp32_at = ("fp16",)  # as transformers has it, at bf16 all of it is bf16

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = SimpleNamespace(**{**_DEFAULTS, **config})
        self.shared = _embedding(self.config.vocab_size, self.config.d_model)
        self.encoder = UMT5Stack(self.config, self.shared)
