"""The table of known configurations, against the libraries' own defaults."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from wanflow.errors import InputError
from wanflow.graph import known_config
from wanflow.graph.config_fields import (
    FIELDS,
    inconsistencies,
    required_fields,
    shared_fields,
)
from wanflow.graph.configs import KNOWN

DIFFUSERS = "models/autoencoders/autoencoder_kl_wan.py", "AutoencoderKLWan"
VACE = "models/transformers/transformer_wan_vace.py", "WanVACETransformer3DModel"
TRANSFORMER = "models/transformers/transformer_wan.py", "WanTransformer3DModel"


def defaults(file: str, name: str) -> dict[str, Any]:
    """Read the defaults of a class's `__init__` without importing diffusers, and with it torch."""
    spec = importlib.util.find_spec("diffusers")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / file).read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    init = next(n for n in classes[0].body if getattr(n, "name", "") == "__init__")
    assert isinstance(init, ast.FunctionDef)
    names = [arg.arg for arg in init.args.args[1:]]
    return dict(zip(names, map(ast.literal_eval, init.args.defaults), strict=True))


def test_vae_is_diffusers_default() -> None:
    """Wan2.1's VAE is what diffusers builds without a word."""
    ours = known_config("wan2.1-t2v-14b", "vae")
    theirs = defaults(*DIFFUSERS)
    assert {key: theirs[key] for key in ours} == ours
    assert set(theirs) - set(ours) == {"decoder_base_dim"}


def test_transformer_14b_is_diffusers_default() -> None:
    """So is the 14B transformer."""
    ours = {**known_config("wan2.1-t2v-14b", "transformer"), "patch_size": (1, 2, 2)}
    theirs = defaults(*TRANSFORMER)
    assert {key: theirs[key] for key in ours} == ours
    assert set(theirs) == set(ours)


def test_vace_14b_is_diffusers_default() -> None:
    """And VACE's, which has blocks beside some layers."""
    ours = {**known_config("wan2.1-vace-14b", "transformer"), "patch_size": (1, 2, 2)}
    theirs = defaults(*VACE)
    assert {key: theirs[key] for key in ours} == ours
    assert set(theirs) == set(ours)


def test_official_sizes() -> None:
    """The numbers that tell the models apart."""
    small = known_config("wan2.1-t2v-1.3b", "transformer")
    assert (small["num_layers"], small["num_attention_heads"], small["ffn_dim"]) == (30, 12, 8960)
    text = known_config("wan2.1-t2v-1.3b", "text_encoder")
    assert (text["vocab_size"], text["d_model"], text["num_layers"]) == (256384, 4096, 24)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("part", ["text_encoder", "transformer", "vae"])
class TestKnown:
    """Every known configuration keeps the rules that written-out ones must keep."""

    def test_fields_are_the_allowed_ones(self, name: str, part: str) -> None:
        """No field without a rule, no rule without a field."""
        own = {"vace_layers", "vace_in_channels", "decoder_base_dim"}  # which some models have
        config = set(known_config(name, part))
        assert config | own >= set(FIELDS[part]) >= config
        assert set(required_fields(part)) | set(shared_fields(part)) <= config

    def test_values_are_allowed(self, name: str, part: str) -> None:
        """Each in its range, and none against another."""
        config = known_config(name, part)
        assert [FIELDS[part][key].refusal(value) for key, value in config.items() if value] == [
            "" for value in config.values() if value
        ]
        assert inconsistencies(part, config) == []


def test_parts_fit_together() -> None:
    """The text encoder's width is the transformer's, the VAE's channels its channels."""
    for name in KNOWN:
        transformer = known_config(name, "transformer")
        assert known_config(name, "text_encoder")["d_model"] == transformer["text_dim"]
        assert known_config(name, "vae")["z_dim"] == transformer["out_channels"]
        if transformer["image_dim"] is not None:
            assert known_config(name, "image_encoder")["hidden_size"] == transformer["image_dim"]
            assert transformer["in_channels"] == 2 * 16 + 4  # noise, condition, mask


def test_config_is_a_copy() -> None:
    """A caller that changes its lists changes nobody else's."""
    config: Any = known_config("wan-tiny", "vae")
    config["dim_mult"].append(8)
    assert known_config("wan-tiny", "vae")["dim_mult"] == [1, 2, 4, 4]


def test_shared_fields_leave_out_the_sizes() -> None:
    """What a written-out configuration must say is what known ones differ in."""
    assert required_fields("transformer") == [
        "num_attention_heads", "attention_head_dim", "text_dim", "freq_dim", "ffn_dim",
        "num_layers",
    ]  # fmt: skip
    assert required_fields("vae") == ["base_dim"]
    assert shared_fields("vae")["z_dim"] == 16


@pytest.mark.parametrize(
    ("name", "part", "code"),
    [("wan-tinny", "vae", "unknown-config"), ("wan-tiny", "vea", "config-part")],
)
def test_unknown_name_or_part(name: str, part: str, code: str) -> None:
    """With what was meant."""
    with pytest.raises(InputError) as caught:
        known_config(name, part)
    assert caught.value.code == code
    assert caught.value.hint.startswith("did you mean")


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("vae", "base_dim", True), ("vae", "base_dim", 8.0), ("vae", "base_dim", 0),
        ("vae", "base_dim", 10**9), ("vae", "dim_mult", 4), ("vae", "dim_mult", [1, "2"]),
        ("vae", "dim_mult", [1] * 65), ("vae", "is_residual", 1), ("vae", "z_dim", None),
        ("vae", "latents_std", [0.0]), ("transformer", "eps", float("nan")),
        ("transformer", "qk_norm", "os.system"), ("transformer", "num_layers", 10**6),
        ("transformer", "vace_layers", [0, None]),
        ("text_encoder", "relative_attention_num_buckets", 3),
    ],
)  # fmt: skip
def test_field_refuses(part: str, field: str, value: object) -> None:
    """Planning multiplies these numbers: wrong types and absurd sizes stop here."""
    assert FIELDS[part][field].refusal(value) != ""


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("transformer", {"patch_size": [1, 2]}), ("transformer", {"attention_head_dim": 33}),
        ("vae", {"z_dim": 8}), ("vae", {"dim_mult": [1, 2]}), ("vae", {"scale_factor_temporal": 8}),
        ("vae", {"patch_size": 2}), ("vae", {"patch_size": 2, "scale_factor_spatial": 16}),
        ("vae", {"in_channels": 4}), ("vae", {"out_channels": 12}),
        ("transformer", {"vace_layers": [0, 8]}),
        ("transformer", {"vace_layers": [2, 4]}), ("transformer", {"vace_layers": [0, 4, 4]}),
        ("transformer", {"vace_layers": []}),
        ("transformer", {"added_kv_proj_dim": 128}), ("transformer", {"image_dim": 64}),
        ("transformer", {"image_dim": 64, "added_kv_proj_dim": 64}),
        ("text_encoder", {"relative_attention_max_distance": 8}),
    ],
)  # fmt: skip
def test_fields_that_contradict_each_other(part: str, change: dict[str, object]) -> None:
    """Each alone is fine, together they make no model."""
    assert inconsistencies(part, {**known_config("wan-tiny", part), **change})
