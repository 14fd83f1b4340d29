"""Building modules: only known fields within bounds count, nothing in a folder chooses code."""

import json
import sys

import pytest

from wanflow.errors import WeightsError
from wanflow.graph.configs import KNOWN, known_config
from wanflow.models.segments.build import allowed, build, read_config

PARTS = ("text_encoder", "transformer", "vae")
EVIL = {
    "auto_map": {"AutoModel": "evil--modeling.Model"},
    "_attn_implementation_internal": "evil/kernel",
    "_attn_implementation": "evil/kernel",
    "attn_implementation": "evil/kernel",
    "trust_remote_code": True,
    "architectures": ["Evil"],
    "_class_name": "Evil",
    "_name_or_path": "evil/repository",
    "quantization_config": {"quant_method": "evil"},
    "torch_dtype": "float64",
}
WRONG = [
    ("transformer", "num_layers", "8"),
    ("transformer", "num_layers", 8.0),
    ("transformer", "num_layers", True),
    ("transformer", "num_layers", None),
    ("transformer", "cross_attn_norm", 1),
    ("transformer", "patch_size", 2),
    ("transformer", "patch_size", [1, "2", 2]),
    ("transformer", "qk_norm", "evil"),
    ("transformer", "pos_embed_seq_len", "1"),
    ("transformer", "vace_layers", 4),
    ("transformer", "vace_layers", [0, "4"]),
    ("transformer", "vace_in_channels", "96"),
    ("text_encoder", "feed_forward_proj", "gated-evil"),
    ("text_encoder", "layer_norm_epsilon", "small"),
    ("vae", "latents_mean", "0"),
    ("vae", "temperal_downsample", [0, 1, 1]),
    ("vae", "is_residual", "no"),
]
ABSURD = [
    ("transformer", "num_layers", 10**9),
    pytest.param("transformer", "num_layers", 10**400, id="layers-that-no-float-holds"),
    pytest.param("transformer", "eps", -(10**400), id="eps-that-no-float-holds"),
    ("transformer", "num_layers", -1),
    ("transformer", "num_attention_heads", 0),
    ("transformer", "ffn_dim", 2**62),
    ("transformer", "patch_size", [0, 0, 0]),
    ("transformer", "patch_size", [1] * 1000),
    ("transformer", "eps", float("nan")),
    ("transformer", "vace_layers", [0, 10**6]),
    ("transformer", "vace_in_channels", 10**9),
    ("text_encoder", "vocab_size", 10**12),
    ("text_encoder", "layer_norm_epsilon", float("inf")),
    ("vae", "base_dim", 10**7),
    ("vae", "num_res_blocks", 10**6),
    ("vae", "latents_std", [0.0] * 16),
]


def tiny(part, **changes):
    return {**known_config("wan-tiny", part), **changes}


class TestBuild:
    """A module that is built takes no memory and is only ever read."""

    @pytest.mark.parametrize("part", PARTS)
    def test_on_meta(self, part):
        """No parameter takes memory before a segment is bound."""
        assert {p.device.type for p in build(part, tiny(part)).parameters()} == {"meta"}

    @pytest.mark.parametrize("part", PARTS)
    def test_to_run(self, part):
        """Every module in it is in eval mode and no parameter wants a gradient."""
        module = build(part, tiny(part))
        assert not any(m.training for m in module.modules())
        assert not any(p.requires_grad for p in module.parameters())

    @pytest.mark.parametrize("part", PARTS)
    @pytest.mark.parametrize("name", KNOWN)
    def test_known_configs(self, part, name):
        """The published configurations can be built."""
        assert build(part, known_config(name, part))

    @pytest.mark.parametrize("layers", [[0, 4], None])
    def test_vace(self, layers):
        """Blocks beside layers are there where a file has layers, whatever it calls itself."""
        module = build("transformer", tiny("transformer", vace_layers=layers, _class_name="Evil"))
        assert len(getattr(module, "vace_blocks", ())) == len(layers or ())

    @pytest.mark.parametrize("part", PARTS)
    def test_folder_config(self, tiny_config, part):
        """The bundled model's own `config.json` gives the same shapes as the table."""
        shapes = [
            {n: p.shape for n, p in build(part, config).named_parameters()}
            for config in (tiny_config(part), tiny(part))
        ]
        assert shapes[0] == shapes[1]

    @pytest.fixture
    def tiny_config(self, tiny):
        """Read the `config.json` of a bundled part."""
        return lambda part: read_config(tiny / part)


class TestAllowList:
    """What a `config.json` says beyond the known fields has no effect."""

    @pytest.mark.parametrize("part", PARTS)
    def test_other_fields_are_dropped(self, part):
        """No field that could choose code passes."""
        assert allowed(part, tiny(part, **EVIL), "config") == tiny(part)

    def test_attention_stays_ours(self):
        """Neither way of naming an attention kernel reaches the text encoder."""
        module = build("text_encoder", tiny("text_encoder", **EVIL))
        assert "evil" not in str(module.config)

    @pytest.mark.parametrize(("part", "field", "value"), WRONG)
    def test_wrong_type(self, part, field, value):
        """A known field of another type is refused by name."""
        with pytest.raises(WeightsError, match=f"^here: {field} wants"):
            build(part, tiny(part, **{field: value}), "here")

    @pytest.mark.parametrize(("part", "field", "value"), ABSURD)
    def test_absurd_value(self, part, field, value):
        """A value that no model has is refused before anything of its size is made."""
        with pytest.raises(WeightsError, match=f"^here: {field} wants") as caught:
            build(part, tiny(part, **{field: value}), "here")
        assert len(caught.value.message) < 200

    @pytest.mark.parametrize(
        ("part", "field"),
        [("transformer", "num_layers"), ("text_encoder", "d_model"), ("vae", "z_dim")],
    )
    def test_missing_field(self, part, field):
        """A field that shapes depend on must be there."""
        config = tiny(part)
        del config[field]
        with pytest.raises(WeightsError, match=f"^here: {part} config lacks {field}"):
            build(part, config, "here")

    @pytest.mark.parametrize(
        ("part", "changes"),
        [
            ("vae", {"dim_mult": []}),
            ("vae", {"temperal_downsample": []}),
            ("transformer", {"patch_size": [1, 2]}),
            ("transformer", {"vace_layers": [0, 8]}),
            ("transformer", {"vace_layers": []}),
            ("vae", {"in_channels": 12}),
        ],
    )
    def test_contradiction(self, part, changes):
        """Fields that don't fit each other are the file's fault, not a crash."""
        with pytest.raises(WeightsError, match=r"^here: "):
            build(part, tiny(part, **changes), "here")


class TestReadConfig:
    """A `config.json` is data, or it is refused."""

    @pytest.mark.parametrize(
        "text",
        [b"", b"{", b"[]", b'"text"', b"null", b"\xff", b"[" * sys.getrecursionlimit()],
        ids=["empty", "cut", "list", "text", "null", "not text", "deep"],
    )
    def test_no_object(self, tmp_path, text):
        """Anything but a JSON object is refused with the file's name."""
        (tmp_path / "config.json").write_bytes(text)
        with pytest.raises(WeightsError, match=f"^{tmp_path}/config.json: "):
            read_config(tmp_path)

    def test_missing(self, tmp_path):
        """A folder without one says which file it wanted."""
        with pytest.raises(WeightsError, match=r"config\.json: cannot be read"):
            read_config(tmp_path)

    def test_object(self, tmp_path):
        """An object comes as it is."""
        (tmp_path / "config.json").write_text(json.dumps(EVIL))
        assert read_config(tmp_path) == EVIL
