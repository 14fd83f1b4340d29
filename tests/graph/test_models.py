"""Models of a graph: named and written-out configurations."""

from __future__ import annotations

from wanflow.graph import VideoRules, known_config

VAE = "part: vae, config: wan-tiny"


def test_named_config_is_filled_in(edited) -> None:
    """Whoever plans finds the fields, and the name beside them."""
    model = edited().spec.models["vae"]
    assert model.config == "wan-tiny"
    assert model.fields == known_config("wan-tiny", "vae")


def test_written_out_config_takes_what_all_share(edited) -> None:
    """Only what tells models apart must be written; the latents' statistics are Wan's own."""
    model = edited((VAE, "part: vae, config: {base_dim: 8}")).spec.models["vae"]
    assert model.config == ""
    assert model.fields == {**known_config("wan2.1-t2v-14b", "vae"), "base_dim": 8}


def test_without_config_the_weights_say_it(edited) -> None:
    """The fields are None, and sizes are not checked yet."""
    graph = edited((VAE, "part: vae, path: weights"))
    assert graph.spec.models["vae"].fields is None
    assert graph.spec.models["vae"].path == "weights"
    assert graph.rules is None


def test_precision_is_fp32_unless_said(edited) -> None:
    """The precision that needs no thought."""
    graph = edited((VAE, VAE + ", precision: bf16"))
    assert graph.spec.models["vae"].precision == "bf16"
    assert graph.spec.models["dit"].precision == "fp32"


def test_rules_come_from_the_models(edited) -> None:
    """Patches of 2 by 2 latents of 8 by 8 pixels; four frames to a latent frame."""
    assert edited().rules == VideoRules(size_multiple=16, frame_multiple=4)


def test_latents_must_be_as_wide_as_the_vae_wants(refused) -> None:
    """Told where the two models meet."""
    written = (
        "part: vae, config: {base_dim: 8, z_dim: 2, latents_mean: [0, 0], latents_std: [1, 1]}"
    )
    error = refused((VAE, written))
    assert error.code == "model-mismatch"
    assert "wants latents 2 wide, 'dit' gives 16" in error.message


def test_graph_without_models_needs_no_section(edited) -> None:
    """Ops without weights make a graph too."""
    small = edited().source.text
    start, end = small.index("models:"), small.index("stages:")
    encode, noise = small.index("  encode:"), small.index("  noise:")
    rest = small.index("  denoise:"), small.index("outputs:")
    graph = edited(
        (small[start:end], ""), (small[encode:noise], ""), (small[rest[0] : rest[1]], ""),
        ("video: write.file", "noise: noise.latents"),
    )  # fmt: skip
    assert graph.order == ("noise",)


def test_loras_have_weights(edited) -> None:
    """One without a weight has 1; their order is kept."""
    dit = "part: transformer, config: wan-tiny"
    graph = edited((dit, dit + ", loras: [b.safetensors@-0.5, a.safetensors]"))
    assert graph.spec.models["dit"].loras == (("b.safetensors", -0.5), ("a.safetensors", 1.0))
    assert graph.spec.models["vae"].loras == ()
