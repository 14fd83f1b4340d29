"""Wan's autoencoder as a tree of modules: names, shapes and sums of `diffusers.AutoencoderKLWan`.

Importing it from there takes nearly three seconds, for loaders and compilers that no run uses.
After diffusers 0.42, `models/autoencoders/autoencoder_kl_wan.py`; Apache 2.0. The list `feat_cache`
has a place for each causal convolution (`models/wan/vae.py` says what is in one), and `feat_idx[0]`
the number of the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

from wanflow.models.trees.channel_norm import normalize
from wanflow.models.trees.convolution import conv3d

CACHE_T = 2  # frames of its input that a convolution keeps
REPEAT = "Rep"  # the place of an upsampler that has seen one frame
# What diffusers' constructors fill in.
_DEFAULTS: Mapping[str, Any] = {
    "base_dim": 96, "decoder_base_dim": None, "z_dim": 16, "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2, "attn_scales": [], "temperal_downsample": [False, True, True],
    "latents_mean": [
        -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715,
        0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
    ],
    "latents_std": [
        2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652,
        1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
    ],
    "is_residual": False, "in_channels": 3, "out_channels": 3, "patch_size": None,
    "scale_factor_temporal": 4, "scale_factor_spatial": 8,
}  # fmt: skip

Cache = list[Any]


class AvgDown3D(nn.Module):
    """Means of what comes together where frames and rows get fewer."""

    def __init__(self, in_channels: int, out_channels: int, factor_t: int, factor_s: int) -> None:
        super().__init__()
        factor = factor_t * factor_s * factor_s
        if in_channels * factor % out_channels:
            raise ValueError(f"{in_channels} channels times {factor} are no {out_channels}'s")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.factor_t, self.factor_s, self.factor = factor_t, factor_s, factor
        self.group_size = in_channels * factor // out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, C, F, H, W]` to fewer of all but channels; frames are padded in front."""
        time, side = self.factor_t, self.factor_s
        x = F.pad(x, (0, 0, 0, 0, (time - x.shape[2] % time) % time, 0))
        batch, channels, frames, height, width = x.shape
        fewer = (frames // time, height // side, width // side)
        x = x.view(batch, channels, fewer[0], time, fewer[1], side, fewer[2], side)
        x = x.permute(0, 1, 3, 5, 7, 2, 4, 6).contiguous()
        x = x.view(batch, channels * self.factor, *fewer)
        return x.view(batch, self.out_channels, self.group_size, *fewer).mean(dim=2)


class DupUp3D(nn.Module):
    """Channels repeated to more frames and rows."""

    def __init__(self, in_channels: int, out_channels: int, factor_t: int, factor_s: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.factor_t, self.factor_s = factor_t, factor_s
        self.factor = factor_t * factor_s * factor_s
        if out_channels * self.factor % in_channels:
            raise ValueError(f"{out_channels} channels times {self.factor} are no {in_channels}'s")
        self.repeats = out_channels * self.factor // in_channels

    def forward(self, x: torch.Tensor, first_chunk: bool | None = False) -> torch.Tensor:
        """`[B, C, F, H, W]` to more; of a clip's first frame one remains."""
        time, side = self.factor_t, self.factor_s
        x = x.repeat_interleave(self.repeats, dim=1)
        batch, _, frames, height, width = x.shape
        x = x.view(batch, self.out_channels, time, side, side, frames, height, width)
        x = x.permute(0, 1, 5, 2, 6, 3, 7, 4).contiguous()
        x = x.view(batch, self.out_channels, frames * time, height * side, width * side)
        return x[:, :, time - 1 :] if first_chunk else x


class WanCausalConv3d(nn.Conv3d):
    """A convolution that sees no later frame; those before it may be given."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int, int],
        stride: int | tuple[int, int, int] = 1,
        padding: int | tuple[int, int, int] = 0,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding)
        time, rows, columns = (int(n) for n in self.padding)
        self._padding = (columns, columns, rows, rows, 2 * time, 0)
        self.padding = (0, 0, 0)

    def forward(self, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
        """Convolve `[B, C, F, H, W]`, after the frames of *cache_x*."""
        padding = list(self._padding)
        if cache_x is not None and self._padding[4] > 0:
            x = torch.cat([cache_x.to(x.device), x], dim=2)
            padding[4] -= cache_x.shape[2]
        x = F.pad(x, padding)  # what was put together is gone by the time it is convolved
        if self.stride != (1, 1, 1) or self.bias is None:
            return super().forward(x)
        return conv3d(x, self.weight, self.bias)


class WanRMSNorm(nn.Module):
    """Scale each pixel by the length of its channels."""

    def __init__(self, dim: int, *, images: bool = True) -> None:
        super().__init__()
        self.scale = dim**0.5
        self.gamma = nn.Parameter(torch.ones((dim, 1, 1) if images else (dim, 1, 1, 1)))
        self.bias = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise dimension 1, at half precision in fp32."""
        half = x.dtype in (torch.float16, torch.bfloat16)
        normalized = normalize(x.float() if half else x).to(x.dtype)
        return torch.as_tensor(normalized * self.scale * self.gamma + self.bias)


class WanUpsample(nn.Upsample):
    """Twice the rows and columns, computed in fp32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run it."""
        return super().forward(x.float()).type_as(x)


class WanResample(nn.Module):
    """More or fewer rows and columns, and in the `3d` modes frames."""

    def __init__(self, dim: int, mode: str, upsample_out_dim: int | None = None) -> None:
        super().__init__()
        self.dim, self.mode = dim, mode
        if mode.startswith("upsample"):
            self.resample = nn.Sequential(
                WanUpsample(scale_factor=(2.0, 2.0), mode="nearest-exact"),
                nn.Conv2d(dim, upsample_out_dim or dim // 2, 3, padding=1),
            )
        else:
            self.resample = nn.Sequential(
                nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(dim, dim, 3, stride=(2, 2))
            )
        if mode == "upsample3d":
            self.time_conv = WanCausalConv3d(dim, dim * 2, (3, 1, 1), padding=(1, 0, 0))
        elif mode == "downsample3d":
            self.time_conv = WanCausalConv3d(dim, dim, (3, 1, 1), stride=(2, 1, 1))

    def forward(self, x: torch.Tensor, feat_cache: Cache, feat_idx: list[int]) -> torch.Tensor:
        """Run it on the next frames."""
        if self.mode == "upsample3d":
            x = self._more_frames(x, feat_cache, feat_idx)
        batch, channels, frames, height, width = x.shape
        x = x.permute(0, 2, 1, 3, 4).reshape(batch * frames, channels, height, width)
        x = self.resample(x)
        x = x.view(batch, frames, *x.shape[1:]).permute(0, 2, 1, 3, 4)
        return self._fewer_frames(x, feat_cache, feat_idx) if self.mode == "downsample3d" else x

    def _more_frames(self, x: torch.Tensor, places: Cache, index: list[int]) -> torch.Tensor:
        before = places[index[0]]
        if before is None:
            places[index[0]] = REPEAT
            index[0] += 1
            return x
        repeats = isinstance(before, str)
        kept = x[:, :, -CACHE_T:].clone()
        if kept.shape[2] < CACHE_T:
            last = torch.zeros_like(kept) if repeats else before[:, :, -1].unsqueeze(2)
            kept = torch.cat([last.to(kept.device), kept], dim=2)
        batch, channels, frames, height, width = x.shape
        x = self.time_conv(x) if repeats else self.time_conv(x, before)
        places[index[0]] = kept
        index[0] += 1
        x = x.reshape(batch, 2, channels, frames, height, width)
        x = torch.stack((x[:, 0], x[:, 1]), 3)
        return x.reshape(batch, channels, frames * 2, height, width)

    def _fewer_frames(self, x: torch.Tensor, places: Cache, index: list[int]) -> torch.Tensor:
        before = places[index[0]]
        if before is None:
            places[index[0]] = x.clone()
        else:
            kept = x[:, :, -1:].clone()
            x = self.time_conv(torch.cat([before[:, :, -1:], x], 2))
            places[index[0]] = kept
        index[0] += 1
        return x


class WanResidualBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.in_dim, self.out_dim = in_dim, out_dim
        self.nonlinearity = nn.SiLU()
        self.norm1 = WanRMSNorm(in_dim, images=False)
        self.conv1 = WanCausalConv3d(in_dim, out_dim, 3, padding=1)
        self.norm2 = WanRMSNorm(out_dim, images=False)
        self.conv2 = WanCausalConv3d(out_dim, out_dim, 3, padding=1)
        self.conv_shortcut: nn.Module = nn.Identity()
        if in_dim != out_dim:
            self.conv_shortcut = WanCausalConv3d(in_dim, out_dim, 1)

    def forward(self, x: torch.Tensor, feat_cache: Cache, feat_idx: list[int]) -> torch.Tensor:
        """Run it on the next frames."""
        h = self.conv_shortcut(x)
        x = self.nonlinearity(self.norm1(x))
        x = _with_cache(self.conv1, x, feat_cache, feat_idx)
        x = self.nonlinearity(self.norm2(x))
        return torch.as_tensor(_with_cache(self.conv2, x, feat_cache, feat_idx) + h)


def _with_cache(conv: nn.Module, x: torch.Tensor, places: Cache, index: list[int]) -> torch.Tensor:
    """Convolve after the frames at the next place, and leave the last ones there."""
    before = places[index[0]]
    kept = x[:, :, -CACHE_T:].clone()
    if kept.shape[2] < CACHE_T and before is not None:
        kept = torch.cat([before[:, :, -1].unsqueeze(2).to(kept.device), kept], dim=2)
    x = conv(x, before)
    places[index[0]] = kept
    index[0] += 1
    return x


class WanAttentionBlock(nn.Module):
    """Attention of one head within each frame."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.norm = WanRMSNorm(dim)
        self.to_qkv = nn.Conv2d(dim, dim * 3, 1)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add what it makes to `[B, C, F, H, W]`."""
        identity = x
        batch, channels, frames, height, width = x.shape
        x = x.permute(0, 2, 1, 3, 4).reshape(batch * frames, channels, height, width)
        x = self.norm(x)
        qkv = self.to_qkv(x).reshape(batch * frames, 1, channels * 3, -1)
        query, key, value = qkv.permute(0, 1, 3, 2).contiguous().chunk(3, dim=-1)
        x = F.scaled_dot_product_attention(query, key, value)
        x = x.squeeze(1).permute(0, 2, 1).reshape(batch * frames, channels, height, width)
        x = self.proj(x).view(batch, frames, channels, height, width)
        return x.permute(0, 2, 1, 3, 4) + identity


class WanMidBlock(nn.Module):
    """Residual blocks with an attention between two."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([WanAttentionBlock(dim)])
        self.resnets = nn.ModuleList([WanResidualBlock(dim, dim), WanResidualBlock(dim, dim)])

    def forward(self, x: torch.Tensor, feat_cache: Cache, feat_idx: list[int]) -> torch.Tensor:
        """Run it on the next frames."""
        x = self.resnets[0](x, feat_cache, feat_idx)
        for attention, resnet in zip(self.attentions, self.resnets[1:], strict=True):
            x = resnet(attention(x), feat_cache, feat_idx)
        return x


class WanResidualDownBlock(nn.Module):
    """Wan 2.2's block of the encoder: with a shortcut of means."""

    def __init__(self, in_dim: int, out_dim: int, blocks: int, *, fewer: bool, slow: bool) -> None:
        super().__init__()
        self.avg_shortcut = AvgDown3D(in_dim, out_dim, 2 if slow else 1, 2 if fewer else 1)
        dims = [in_dim, *[out_dim] * (blocks - 1)]
        self.resnets = nn.ModuleList([WanResidualBlock(dim, out_dim) for dim in dims])
        mode = "downsample3d" if slow else "downsample2d"
        self.downsampler = WanResample(out_dim, mode) if fewer else None

    def forward(self, x: torch.Tensor, feat_cache: Cache, feat_idx: list[int]) -> torch.Tensor:
        """Run it on the next frames."""
        before = x.clone()
        for resnet in self.resnets:
            x = resnet(x, feat_cache, feat_idx)
        if self.downsampler is not None:
            x = self.downsampler(x, feat_cache, feat_idx)
        return torch.as_tensor(x + self.avg_shortcut(before))


class WanEncoder3d(nn.Module):
    """The encoder; `models/wan/vae_encoder.py` runs it part by part."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.nonlinearity = nn.SiLU()
        dims = [config.base_dim * factor for factor in [1, *config.dim_mult]]
        self.conv_in = WanCausalConv3d(config.in_channels, dims[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(_down_blocks(config, dims))
        self.mid_block = WanMidBlock(dims[-1])
        self.norm_out = WanRMSNorm(dims[-1], images=False)
        self.conv_out = WanCausalConv3d(dims[-1], config.z_dim * 2, 3, padding=1)


def _down_blocks(config: Any, dims: Sequence[int]) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    scale, last = 1.0, len(config.dim_mult) - 1
    for number, (in_dim, out_dim) in enumerate(pairwise(dims)):
        fewer = number != last
        slow = fewer and config.temperal_downsample[number]
        if config.is_residual:
            count = config.num_res_blocks
            blocks.append(WanResidualDownBlock(in_dim, out_dim, count, fewer=fewer, slow=slow))
            continue
        for index in range(config.num_res_blocks):
            blocks.append(WanResidualBlock(out_dim if index else in_dim, out_dim))
            if scale in config.attn_scales:
                blocks.append(WanAttentionBlock(out_dim))
        if fewer:
            blocks.append(WanResample(out_dim, "downsample3d" if slow else "downsample2d"))
            scale /= 2.0
    return blocks


class WanUpBlock(nn.Module):
    """A block of the decoder; Wan 2.2's has a shortcut of repeats, and another list's name."""

    def __init__(
        self, in_dim: int, out_dim: int, blocks: int, mode: str | None, *, is_residual: bool
    ) -> None:
        super().__init__()
        self.in_dim, self.out_dim, self.is_residual = in_dim, out_dim, is_residual
        if is_residual:
            time = 2 if mode == "upsample3d" else 1
            self.avg_shortcut = DupUp3D(in_dim, out_dim, time, 2) if mode is not None else None
        dims = [in_dim, *[out_dim] * blocks]
        self.resnets = nn.ModuleList([WanResidualBlock(dim, out_dim) for dim in dims])
        if is_residual:
            self.upsampler = WanResample(out_dim, mode, out_dim) if mode is not None else None
        else:
            self.upsamplers = None
            if mode is not None:
                self.upsamplers = nn.ModuleList([WanResample(out_dim, mode)])

    def forward(
        self,
        x: torch.Tensor,
        feat_cache: Cache,
        feat_idx: list[int],
        first_chunk: bool | None = None,
    ) -> torch.Tensor:
        """Run it on the next frame."""
        before = x.clone() if self.is_residual else x
        for resnet in self.resnets:
            x = resnet(x, feat_cache, feat_idx)
        upsampler = self._upsampler()
        if upsampler is not None:
            x = upsampler(x, feat_cache, feat_idx)
        if self.is_residual and self.avg_shortcut is not None:
            x = x + self.avg_shortcut(before, first_chunk=first_chunk)
        return x

    def _upsampler(self) -> Any:
        if self.is_residual:
            return self.upsampler
        return None if self.upsamplers is None else self.upsamplers[0]


class WanDecoder3d(nn.Module):
    """The decoder; `models/wan/vae.py` runs it part by part."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.nonlinearity = nn.SiLU()
        base, factors = config.decoder_base_dim or config.base_dim, config.dim_mult
        dims = [base * factor for factor in [factors[-1], *factors[::-1]]]
        slows = config.temperal_downsample[::-1]
        self.conv_in = WanCausalConv3d(config.z_dim, dims[0], 3, padding=1)
        self.mid_block = WanMidBlock(dims[0])
        self.up_blocks = nn.ModuleList()
        for number, (in_dim, out_dim) in enumerate(pairwise(dims)):
            halved = number > 0 and not config.is_residual
            mode = None
            if number != len(factors) - 1:
                mode = "upsample3d" if slows[number] else "upsample2d"
            dim = in_dim // 2 if halved else in_dim
            blocks, residual = config.num_res_blocks, config.is_residual
            self.up_blocks.append(WanUpBlock(dim, out_dim, blocks, mode, is_residual=residual))
        self.norm_out = WanRMSNorm(dims[-1], images=False)
        self.conv_out = WanCausalConv3d(dims[-1], config.out_channels, 3, padding=1)


class WanAutoencoder(nn.Module):
    """All of it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = own = SimpleNamespace(**{**_DEFAULTS, **config})
        self.encoder = WanEncoder3d(own)
        self.quant_conv = WanCausalConv3d(own.z_dim * 2, own.z_dim * 2, 1)
        self.post_quant_conv = WanCausalConv3d(own.z_dim, own.z_dim, 1)
        self.decoder = WanDecoder3d(own)


def patchify(x: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Put the pixels of patches into channels: `[B, C p p, F, H / p, W / p]`."""
    if patch_size == 1:
        return x
    batch, channels, frames, height, width = x.shape
    rows, columns = height // patch_size, width // patch_size
    x = x.view(batch, channels, frames, rows, patch_size, columns, patch_size)
    x = x.permute(0, 1, 6, 4, 2, 3, 5).contiguous()
    return x.view(batch, channels * patch_size * patch_size, frames, rows, columns)


def unpatchify(x: torch.Tensor, patch_size: int) -> torch.Tensor:
    """The other way round."""
    if patch_size == 1:
        return x
    batch, stacked, frames, height, width = x.shape
    channels = stacked // (patch_size * patch_size)
    x = x.view(batch, channels, patch_size, patch_size, frames, height, width)
    x = x.permute(0, 1, 4, 5, 3, 6, 2).contiguous()
    return x.view(batch, channels, frames, height * patch_size, width * patch_size)
