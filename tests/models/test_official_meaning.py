"""Official names mean what they are mapped to: where shapes are alike, only the numbers tell.

The official modules' formulas (github.com/Wan-Video/Wan2.1, wan/modules/t5.py and clip.py), in the
official names, against transformers' modules with weights read through the map.
"""

import pytest
import torch
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from wanflow.models.weights.layouts import open_part

WIDTH, HEADS, LAYERS, TOKENS = 32, 2, 2, 200


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


def read(part, path, module):
    """Give *module* every parameter from the file, through the map."""
    checkpoint = open_part(part, path)
    for name, parameter in module.named_parameters():
        checkpoint.read_into(name, parameter.data, None)
    return module.eval()


def norm(x, weight):
    return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def t5(state, ids, buckets):
    """The official text encoder on one prompt; *buckets* `[n, n]` are T5's relative positions."""
    x = state["token_embedding.weight"][ids]
    for n in range(LAYERS):
        block = {k.removeprefix(f"blocks.{n}."): v for k, v in state.items()}
        y = norm(x, block["norm1.weight"])
        q, k, v = (
            (y @ block[f"attn.{name}.weight"].T).view(len(ids), HEADS, -1).transpose(0, 1)
            for name in "qkv"
        )
        bias = block["pos_embedding.embedding.weight"][buckets].permute(2, 0, 1)
        y = ((q @ k.mT + bias).softmax(-1) @ v).transpose(0, 1).reshape(len(ids), -1)
        x = x + y @ block["attn.o.weight"].T
        y = norm(x, block["norm2.weight"])
        gate = functional.gelu(y @ block["ffn.gate.0.weight"].T, approximate="tanh")
        x = x + (gate * (y @ block["ffn.fc1.weight"].T)) @ block["ffn.fc2.weight"].T
    return norm(x, state["norm.weight"])


def clip(state, image):
    """The official vision tower without its last block, on one image `[3, H, W]`."""
    tower = {k.removeprefix("visual."): v for k, v in state.items()}

    def layer_norm(x, name):
        return functional.layer_norm(x, (WIDTH,), tower[f"{name}.weight"], tower[f"{name}.bias"])

    def linear(x, name):
        return functional.linear(x, tower[f"{name}.weight"], tower[f"{name}.bias"])

    x = functional.conv2d(image[None], tower["patch_embedding.weight"], stride=14)
    x = torch.cat([tower["cls_embedding"], x.flatten(2).mT], dim=1) + tower["pos_embedding"]
    x = layer_norm(x, "pre_norm")[0]
    for n in range(LAYERS - 1):
        name = f"transformer.{n}"
        qkv = linear(layer_norm(x, f"{name}.norm1"), f"{name}.attn.to_qkv")
        q, k, v = qkv.view(len(x), 3, HEADS, -1).permute(1, 2, 0, 3)
        y = functional.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(len(x), -1)
        x = x + linear(y, f"{name}.attn.proj")
        y = functional.gelu(linear(layer_norm(x, f"{name}.norm2"), f"{name}.mlp.0"))
        x = x + linear(y, f"{name}.mlp.2")
    return x


class TestNumbers:
    def test_text_encoder(self, tmp_path, generator):
        """Gate and up projection, query and key, both norms: each is what it is mapped to."""
        shapes = {"token_embedding.weight": (50, WIDTH), "norm.weight": (WIDTH,)}
        for n in range(LAYERS):
            shapes |= {f"blocks.{n}.attn.{name}.weight": (WIDTH, WIDTH) for name in "qkvo"}
            shapes |= {f"blocks.{n}.norm{place}.weight": (WIDTH,) for place in (1, 2)}
            shapes |= {f"blocks.{n}.ffn.{up}.weight": (48, WIDTH) for up in ("gate.0", "fc1")}
            shapes[f"blocks.{n}.ffn.fc2.weight"] = (WIDTH, 48)
            shapes[f"blocks.{n}.pos_embedding.embedding.weight"] = (32, HEADS)
        state = {n: torch.randn(s, generator=generator) * 0.3 for n, s in shapes.items()}
        torch.save(state, tmp_path / "t5.pth")
        module = UMT5EncoderModel(
            UMT5Config(
                vocab_size=50, d_model=WIDTH, d_kv=WIDTH // HEADS, d_ff=48, num_layers=LAYERS,
                num_heads=HEADS, feed_forward_proj="gated-gelu",
            )
        )  # fmt: skip
        read("text_encoder", tmp_path / "t5.pth", module)
        attention = module.encoder.block[0].layer[0].SelfAttention
        places = torch.arange(TOKENS)
        buckets = attention._relative_position_bucket(places[None, :] - places[:, None])
        ids = torch.randint(50, (TOKENS,), generator=generator)
        with torch.no_grad():
            made = module(ids[None]).last_hidden_state[0]
        torch.testing.assert_close(made, t5(state, ids, buckets), rtol=1e-4, atol=1e-4)

    def test_clip(self, tmp_path, generator):
        """Query, key and value of the fused tensor are in this order; the blocks are pre-norm."""
        module = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=LAYERS,
                num_attention_heads=HEADS, image_size=28, patch_size=14, hidden_act="gelu",
            )
        )  # fmt: skip
        shapes = {
            "cls_embedding": (1, 1, WIDTH), "pos_embedding": (1, 5, WIDTH),
            "patch_embedding.weight": (WIDTH, 3, 14, 14),
        }  # fmt: skip
        norms = ["pre_norm", "post_norm"]
        for n in range(LAYERS):
            block = f"transformer.{n}"
            norms += [f"{block}.norm1", f"{block}.norm2"]
            for name, rows, columns in (
                ("attn.to_qkv", 3 * WIDTH, WIDTH), ("attn.proj", WIDTH, WIDTH),
                ("mlp.0", 64, WIDTH), ("mlp.2", WIDTH, 64),
            ):  # fmt: skip
                shapes[f"{block}.{name}.weight"] = (rows, columns)
                shapes[f"{block}.{name}.bias"] = (rows,)
        shapes |= {f"{name}.{kind}": (WIDTH,) for name in norms for kind in ("weight", "bias")}
        state = {
            f"visual.{n}": torch.randn(s, generator=generator) * 0.2 for n, s in shapes.items()
        }
        torch.save(state, tmp_path / "clip.pth")
        read("image_encoder", tmp_path / "clip.pth", module)
        image = torch.randn(3, 28, 28, generator=generator)
        with torch.no_grad():
            made = module(image[None], output_hidden_states=True).hidden_states[-2][0]
        torch.testing.assert_close(made, clip(state, image), rtol=1e-4, atol=1e-5)
