"""Transformers of diffusers in the smallest shapes they take, with what their forwards want."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import diffusers
import torch

MASK = torch.bool
IDS = torch.int64


@attrs.frozen
class Tiny:
    """A model's fields, the shapes of its inputs (and dtypes, where not fp32), and the rest."""

    name: str
    fields: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype] = {}
    others: Mapping[str, Any] = {}

    def build(self, device: str = "meta") -> torch.nn.Module:
        """Build it, with random weights where there is memory for them."""
        torch.manual_seed(0)
        with torch.device(device):
            module = getattr(diffusers, self.name)(**self.fields)
        return module.eval()

    def inputs(self, device: str = "meta") -> dict[str, Any]:
        """Make the keyword arguments of a forward."""
        made = {
            name: torch.ones(shape, dtype=self.dtypes.get(name, torch.float32), device=device)
            for name, shape in self.shapes.items()
        }
        return {**made, **self.others}


TINY = (
    Tiny(
        "WanTransformer3DModel",
        {"num_attention_heads": 2, "attention_head_dim": 12, "text_dim": 32, "freq_dim": 32,
         "ffn_dim": 64, "num_layers": 3},
        {"hidden_states": (1, 16, 2, 8, 8), "timestep": (1,),
         "encoder_hidden_states": (1, 512, 32)},
        {"timestep": IDS},
    ),
    Tiny(
        "FluxTransformer2DModel",
        {"in_channels": 4, "num_layers": 2, "num_single_layers": 3, "attention_head_dim": 16,
         "num_attention_heads": 2, "joint_attention_dim": 32, "pooled_projection_dim": 32,
         "axes_dims_rope": (4, 4, 8)},
        {"hidden_states": (1, 64, 4), "encoder_hidden_states": (1, 16, 32),
         "pooled_projections": (1, 32), "timestep": (1,), "img_ids": (64, 3), "txt_ids": (16, 3)},
    ),
    Tiny(
        "SD3Transformer2DModel",
        {"sample_size": 16, "patch_size": 2, "in_channels": 4, "num_layers": 3,
         "attention_head_dim": 8, "num_attention_heads": 4, "joint_attention_dim": 32,
         "caption_projection_dim": 32, "pooled_projection_dim": 64, "out_channels": 4,
         "pos_embed_max_size": 16},
        {"hidden_states": (1, 4, 16, 16), "encoder_hidden_states": (1, 20, 32),
         "pooled_projections": (1, 64), "timestep": (1,)},
    ),
    Tiny(
        "LTXVideoTransformer3DModel",
        {"in_channels": 8, "out_channels": 8, "num_attention_heads": 4, "attention_head_dim": 8,
         "cross_attention_dim": 32, "num_layers": 3, "caption_channels": 32},
        {"hidden_states": (1, 32, 8), "encoder_hidden_states": (1, 16, 32), "timestep": (1,),
         "encoder_attention_mask": (1, 16)},
        others={"num_frames": 2, "height": 4, "width": 4},
    ),
    Tiny(
        "CogVideoXTransformer3DModel",
        {"num_attention_heads": 4, "attention_head_dim": 8, "in_channels": 4, "out_channels": 4,
         "time_embed_dim": 8, "text_embed_dim": 32, "num_layers": 3, "sample_width": 8,
         "sample_height": 8, "sample_frames": 9, "patch_size": 2, "max_text_seq_length": 8},
        {"hidden_states": (1, 3, 4, 8, 8), "encoder_hidden_states": (1, 8, 32), "timestep": (1,)},
        {"timestep": IDS},
    ),
    Tiny(
        "HunyuanVideoTransformer3DModel",
        {"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 16,
         "num_layers": 2, "num_single_layers": 2, "num_refiner_layers": 2, "patch_size": 1,
         "patch_size_t": 1, "guidance_embeds": True, "text_embed_dim": 16,
         "pooled_projection_dim": 8, "rope_axes_dim": (4, 4, 8)},
        {"hidden_states": (1, 4, 3, 8, 8), "timestep": (1,), "encoder_hidden_states": (1, 12, 16),
         "encoder_attention_mask": (1, 12), "pooled_projections": (1, 8), "guidance": (1,)},
        {"timestep": IDS},
    ),
    Tiny(
        "QwenImageTransformer2DModel",
        {"patch_size": 2, "in_channels": 16, "out_channels": 4, "num_layers": 3,
         "attention_head_dim": 16, "num_attention_heads": 3, "joint_attention_dim": 16,
         "axes_dims_rope": (8, 4, 4)},
        {"hidden_states": (1, 16, 16), "encoder_hidden_states": (1, 7, 16), "timestep": (1,)},
        others={"img_shapes": [[(1, 4, 4)]]},
    ),
    Tiny(
        "CogView4Transformer2DModel",
        {"patch_size": 2, "in_channels": 4, "num_layers": 3, "attention_head_dim": 8,
         "num_attention_heads": 4, "out_channels": 4, "text_embed_dim": 32, "time_embed_dim": 8,
         "condition_dim": 4, "rope_axes_dim": (4, 4)},
        {"hidden_states": (1, 4, 8, 8), "encoder_hidden_states": (1, 8, 32), "timestep": (1,),
         "original_size": (1, 2), "target_size": (1, 2), "crop_coords": (1, 2)},
    ),
    Tiny(
        "SanaTransformer2DModel",
        {"patch_size": 1, "in_channels": 4, "out_channels": 4, "num_layers": 2,
         "attention_head_dim": 4, "num_attention_heads": 2, "num_cross_attention_heads": 2,
         "cross_attention_head_dim": 4, "cross_attention_dim": 8, "caption_channels": 8,
         "sample_size": 32},
        {"hidden_states": (1, 4, 32, 32), "encoder_hidden_states": (1, 8, 8), "timestep": (1,)},
    ),
)  # fmt: skip

# Its forward asks which tokens of the mask are set.
MOCHI = Tiny(
    "MochiTransformer3DModel",
    {"patch_size": 2, "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2,
     "pooled_projection_dim": 16, "in_channels": 4, "text_embed_dim": 16, "time_embed_dim": 4,
     "max_sequence_length": 16},
    {"hidden_states": (1, 4, 2, 8, 8), "encoder_hidden_states": (1, 16, 16), "timestep": (1,),
     "encoder_attention_mask": (1, 16)},
    {"timestep": IDS, "encoder_attention_mask": MASK},
)  # fmt: skip
