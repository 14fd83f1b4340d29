"""Of a repository what a graph needs is named, and nothing else."""

from wanflow.models.weights.wanted_files import wanted

OFFICIAL = [
    "config.json", "diffusion_pytorch_model.safetensors", "google/umt5-xxl/tokenizer.json",
    "google/umt5-xxl/spiece.model", "models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth",
]  # fmt: skip
DIFFUSERS = [
    "model_index.json", "text_encoder/config.json", "text_encoder/model-00001-of-00002.safetensors",
    "text_encoder/model-00002-of-00002.safetensors", "text_encoder/model.safetensors.index.json",
    "tokenizer/tokenizer.json", "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors", "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]  # fmt: skip
BESIDE = [
    ".gitattributes", "LICENSE.txt", "README.md", "assets/logo.png", "examples/i2v_input.JPG",
    "assets/config.json", "xlm-roberta-large/sentencepiece.bpe.model", "extra/vae.safetensors",
]  # fmt: skip


class TestWanted:
    def test_official(self):
        """Weights, config and tokenizer of Wan2.1's layout, without pictures and prose."""
        assert sorted(OFFICIAL) == wanted([*OFFICIAL, *BESIDE])

    def test_official_with_pictures(self):
        """CLIP comes too where it is there."""
        clip = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
        assert clip in wanted([*OFFICIAL, clip])

    def test_diffusers(self):
        """Every shard, the index and the configs of diffusers' layout."""
        assert sorted(DIFFUSERS) == wanted([*DIFFUSERS, *BESIDE])

    def test_two_experts(self):
        """Both, every shard of each with its index and configuration, and what they share."""
        experts = [
            f"{name}_noise_model/{file}"
            for name in ("high", "low")
            for file in (
                "config.json", "diffusion_pytorch_model-00001-of-00002.safetensors",
                "diffusion_pytorch_model-00002-of-00002.safetensors",
                "diffusion_pytorch_model.safetensors.index.json",
            )
        ]  # fmt: skip
        shared = OFFICIAL[2:]
        assert sorted([*experts, *shared]) == wanted([*experts, *shared, *BESIDE])
        second = [path.replace("transformer/", "transformer_2/") for path in DIFFUSERS]
        both = sorted({*DIFFUSERS, *second})
        assert both == wanted([*both, *BESIDE])

    def test_other_autoencoder(self):
        """Wan2.2's, where it is the one there."""
        names = [*OFFICIAL[:-1], "Wan2.2_VAE.pth"]
        assert sorted(names) == wanted([*names, *BESIDE])

    def test_once(self):
        """A part that is there as safetensors and as a pickle comes as safetensors."""
        made = "models_t5_umt5-xxl-enc-bf16.safetensors"
        names = wanted([*OFFICIAL, made])
        assert made in names
        assert "models_t5_umt5-xxl-enc-bf16.pth" not in names

    def test_nothing(self):
        """Without a part of a model even a config is not wanted."""
        assert wanted(["config.json", *BESIDE]) == []
