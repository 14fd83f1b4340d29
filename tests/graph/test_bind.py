"""Binding the user's values to a checked graph."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from wanflow.errors import InputError
from wanflow.graph import BoundGraph, PortRef, Size, VideoRules, bind, load, load_text

ALLOWED = (
    "allowed: attention, cache, cache_coefficients, cache_k, cache_ratios, cache_retention, "
    "cache_threshold, control_scale, grid, guidance, noise_from, noise_to, sampler, shift, steps, "
    "strength, timesteps, token_timesteps"
)


def refusal(*args: Any, **kwargs: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        bind(*args, **kwargs)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.fixture
def graph(small):
    """Give the small graph, checked."""
    return load_text(small)


class TestValues:
    """What ends up at the ports and params."""

    def test_defaults_of_the_file_and_the_standard_inputs(self, graph) -> None:
        """The file's default wins; what it doesn't say is the standard one."""
        bound = bind(graph)
        assert bound.inputs == {
            "prompt": "a red circle", "size": Size(64, 64), "frames": 17, "seed": 0,
            "steps": 50, "fps": 16.0,
        }  # fmt: skip

    def test_stages_are_in_running_order(self, graph) -> None:
        """Each stage comes after those it needs."""
        names = [stage.name for stage in bind(graph).stages]
        assert names == ["encode", "noise", "denoise", "decode", "write"]

    def test_ports_have_values_or_references(self, graph) -> None:
        """An input is replaced by its value, an edge stays."""
        bound = bind(graph, {"seed": "7"})
        assert bound.stage("noise").inputs == {"size": Size(64, 64), "frames": 17, "seed": 7}
        assert bound.stage("decode").inputs == {"latents": PortRef("denoise", "latents")}

    def test_params_are_filled_with_defaults(self, graph) -> None:
        """A stage never has to ask for an op's default."""
        params = bind(graph, {"steps": 4}).stage("denoise").params
        assert params == {
            "steps": 4, "sampler": "unipc", "shift": 5.0, "grid": "diffusers", "guidance": 5.0,
            "noise_from": 1.0, "noise_to": 0.0, "strength": 1.0, "timesteps": "",
            "token_timesteps": "shared", "cache": "none", "cache_threshold": 0.0,
            "cache_retention": 0.2, "cache_k": 2, "cache_coefficients": "", "cache_ratios": "",
            "control_scale": 1.0, "attention": "native",
        }  # fmt: skip

    def test_optional_port_stays_out(self, graph) -> None:
        """No negative prompt was wired."""
        assert set(bind(graph).stage("encode").inputs) == {"prompt"}

    def test_outputs_and_models_come_along(self, graph) -> None:
        """A planner needs nothing but the bound graph."""
        bound = bind(graph)
        assert bound.outputs == {"video": PortRef("write", "file")}
        assert set(bound.models) == {"text", "dit", "vae"}
        assert bound.source.text.startswith("wanflow: 1")

    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("seed", "9223372036854775807", 2**63 - 1),
            ("fps", "23.976", 23.976),
            ("fps", "24", 24.0),
            ("fps", "2.4e1", 24.0),
            ("size", "832*480", Size(832, 480)),
            ("size", "832x480", Size(832, 480)),
            ("prompt", "", ""),
            ("prompt", "12", "12"),
            ("prompt", "true", "true"),
            ("prompt", "$prompt", "$prompt"),
            ("frames", "1", 1),
            ("frames", " 21 ", 21),
        ],
    )
    def test_text_is_read_by_the_type_of_its_input(self, graph, name, text, value) -> None:
        """A prompt of digits stays text; a number for a float may be whole."""
        bound = bind(graph, {name: text})
        assert bound.inputs[name] == value
        assert type(bound.inputs[name]) is type(value)

    def test_dollar_is_escaped_by_doubling(self, edited) -> None:
        """`$$seed` is the text `$seed`."""
        graph = edited(("{prompt: $prompt}", "{prompt: $$seed}"))
        assert bind(graph).stage("encode").inputs["prompt"] == "$seed"

    def test_text_with_a_dollar_in_it_is_text(self, edited) -> None:
        """Only a whole `$name` is a reference."""
        graph = edited(("{prompt: $prompt}", "{prompt: $5 on a table}"))
        assert bind(graph).stage("encode").inputs["prompt"] == "$5 on a table"


class TestRefusals:
    """Values that are not what the graph wants."""

    @pytest.mark.parametrize(
        ("name", "value", "code"),
        [
            ("steps", "2.7", "wrong-type"),
            ("steps", "1e3", "wrong-type"),
            ("steps", "true", "wrong-type"),
            ("steps", True, "wrong-type"),
            ("steps", 2.0, "wrong-type"),
            ("steps", "", "wrong-type"),
            ("steps", "0x10", "wrong-type"),
            ("steps", "1_000", "wrong-type"),
            ("steps", "٣", "wrong-type"),
            ("steps", "0", "out-of-range"),
            ("steps", "1001", "out-of-range"),
            ("seed", "-1", "out-of-range"),
            ("seed", "9223372036854775808", "out-of-range"),
            ("seed", "9" * 5000, "wrong-type"),
            ("fps", "nan", "wrong-type"),
            ("fps", "inf", "wrong-type"),
            ("fps", "1e999", "out-of-range"),
            ("fps", float("nan"), "out-of-range"),
            ("fps", 0, "out-of-range"),
            ("size", "832", "bad-size"),
            ("size", "832*", "bad-size"),
            ("size", "832*480*3", "bad-size"),
            ("size", 832, "wrong-type"),
            ("size", "-16*16", "bad-size"),
            ("size", "0*0", "out-of-range"),
            ("size", "8208*16", "out-of-range"),
            ("prompt", 5, "wrong-type"),
            ("prompt", "\udcff", "wrong-type"),
        ],
    )
    def test_value_is_not_guessed(self, graph, name, value, code) -> None:
        """Types are strict, ranges hold, and the message names the input."""
        error = refusal(graph, {name: value})
        assert error.code == code
        assert f"input '{name}'" in error.message
        error.message.encode()

    def test_size_names_the_nearest_two(self, graph) -> None:
        """Both sides rounded down, or both up."""
        error = refusal(graph, {"size": "830*470"})
        assert error.message == "input 'size' is 830*470, wants sides that are multiples of 16"
        assert error.hint == "nearest: 816*464 or 832*480"

    def test_frames_name_the_nearest_two(self, graph) -> None:
        """One below, one above."""
        error = refusal(graph, {"frames": "80"})
        assert error.message == "input 'frames' is 80, wants 4n+1 frames"
        assert error.hint == "nearest: 77 or 81"

    def test_unknown_input_says_what_was_meant(self, graph) -> None:
        """With the nearest name, or all of them."""
        error = refusal(graph, {"promt": "x"})
        assert error.message == "graph 'small' has no input 'promt'"
        assert error.hint == "did you mean 'prompt'?"

    def test_standard_input_that_the_graph_does_not_use(self, graph) -> None:
        """Giving it would change nothing, so it is told."""
        assert refusal(graph, {"guidance": "5"}).code == "unknown-input"

    def test_missing_prompt(self, edited) -> None:
        """The message is what to type."""
        graph = edited((", default: a red circle", ""))
        error = refusal(graph)
        assert error.message == "graph 'small' needs --prompt"
        assert error.code == "missing-input"

    def test_missing_size(self, edited) -> None:
        """Inputs without an option of their own are given by -i."""
        graph = edited(("default: 64*64", "about: how large"))
        assert refusal(graph).message == "graph 'small' needs -i size=..."

    def test_missing_text_is_empty_for_planning(self, edited) -> None:
        """A plan does not depend on the words."""
        graph = edited((", default: a red circle", ""))
        assert bind(graph, allow_missing_text=True).inputs["prompt"] == ""

    def test_range_of_a_declaration(self, edited) -> None:
        """A graph may narrow what its op allows."""
        graph = edited(("  size:", "  steps: {type: int, default: 4, max: 8}\n  size:"))
        assert refusal(graph, {"steps": "9"}).message == "input 'steps' is 9, wants 1 to 8"

    def test_range_of_the_port_holds_for_own_inputs(self, edited) -> None:
        """An input without a range of its own is checked where it is used."""
        graph = edited(
            ("  size:", "  turns: {type: int, default: 4}\n  size:"), ("$steps", "$turns")
        )
        error = refusal(graph, {"turns": "0"})
        assert error.message == "input 'turns' at 'denoise.steps' is 0, wants 1 to 1000"


class TestSettings:
    """`--set STAGE.PARAM=VALUE`."""

    def test_setting_wins_over_the_file(self, graph) -> None:
        """Over a literal and over an input."""
        bound = bind(graph, {"steps": 3}, {"denoise.steps": "4", "denoise.sampler": "euler"})
        params = bound.stage("denoise").params
        assert (params["steps"], params["sampler"]) == (4, "euler")

    @pytest.mark.parametrize(
        ("key", "value", "code", "hint"),
        [
            ("denose.steps", "4", "unknown-stage", "did you mean 'denoise'?"),
            ("denoise.step", "4", "unknown-param", "did you mean 'steps'?"),
            (
                "denoise",
                "4",
                "unknown-param",
                ALLOWED,
            ),
            ("decode.tile", "4", "unknown-param", "op decode_frames has no params"),
            ("denoise.steps", "x", "wrong-type", ""),
            ("denoise.sampler", "ddim", "bad-choice", "allowed: dpm++, euler, unipc"),
            ("denoise.grid", "wan", "bad-choice", "allowed: diffusers, official"),
            ("write.name", "../x.mp4", "bad-file-name", "no folders in it, no leading dot"),
        ],
    )
    def test_wrong_setting(self, graph, key, value, code, hint) -> None:
        """Stage, param and value are all checked."""
        error = refusal(graph, settings={key: value})
        assert (error.code, error.hint) == (code, hint)
        assert error.message.startswith("--set ")

    def test_no_official_grid_for_euler(self, graph) -> None:
        """Wan's own code steps by UniPC and DPM-Solver++ alone."""
        settings = {"denoise.grid": "official", "denoise.sampler": "euler"}
        error = refusal(graph, settings=settings)
        assert (error.code, "unipc or dpm++" in error.hint) == ("no-such-grid", True)

    def test_settings_can_not_make_two_writers_clash(self, edited) -> None:
        """What the file got right, the command line must not undo."""
        second = "  b: {op: write_video, in: {frames: decode.frames}, params: {name: b.mp4}}\n"
        graph = edited(("outputs:", second + "outputs:"))
        assert refusal(graph, settings={"b.name": "VIDEO.mp4"}).code == "same-file"


class TestTurns:
    """How often each stage repeats."""

    @pytest.fixture
    def bound(self, graph) -> BoundGraph:
        """Give the small graph with 33 frames and 5 steps."""
        return bind(graph, {"frames": 33, "steps": 5})

    @pytest.mark.parametrize(
        ("stage", "turns"),
        [("encode", 1), ("noise", 1), ("denoise", 5), ("decode", 9), ("write", 1)],
    )
    def test_turns(self, bound: BoundGraph, stage: str, turns: int) -> None:
        """Denoise: steps. Decode: latent frames, found through the stages between."""
        assert bound.turns(bound.stage(stage)) == turns

    def test_noise_of_follows_the_latents(self, bound: BoundGraph) -> None:
        """The stage that knows the size of what is decoded."""
        found = bound.noise_of(bound.stage("decode"))
        assert found is not None
        assert found.name == "noise"

    def test_stage_by_unknown_name(self, bound: BoundGraph) -> None:
        """As a user may ask `explain` for one."""
        with pytest.raises(InputError, match="no stage 'denose'"):
            bound.stage("denose")


def test_rules_from_outside_are_used(edited) -> None:
    """A graph whose shapes come from its weights is checked when they are known."""
    graph = edited(("part: vae, config: wan-tiny", "part: vae"), ("64*64", "40*40"))
    assert graph.rules is None
    assert refusal(graph, rules=VideoRules(16, 4)).code == "size-rule"
    assert bind(graph, rules=VideoRules(8, 4)).inputs["size"] == Size(40, 40)


def test_a_float_that_no_float_holds() -> None:
    """A row of a batch may have an int of any length."""
    error = refusal(load("t2v-tiny"), {"guidance": 10**400})
    assert error.message == "input 'guidance' wants a finite number"


def test_shipped_graph_binds() -> None:
    """What `wanflow plan t2v-14b` does first."""
    bound = bind(load("t2v-14b"), allow_missing_text=True)
    assert bound.inputs["size"] == Size(1280, 720)
    assert [bound.turns(stage) for stage in bound.stages] == [1, 1, 50, 21, 1]


class TestTimesteps:
    """As many steps as timesteps, unless someone says otherwise."""

    TIMES: ClassVar[Any] = {
        "denoise.timesteps": "1000, 750,500.5",
        "denoise.sampler": "euler",
    }

    def test_steps_follow(self, graph) -> None:
        """The default of an input says nothing."""
        stage = bind(graph, settings=self.TIMES).stage("denoise")
        assert (stage.params["timesteps"], len(stage.steps)) == ("1000,750,500.5", 3)

    def test_in_a_file(self, edited) -> None:
        """A list, one number, or an input of text."""
        for text, steps in (("[1000, 500]", 2), ("900", 1), ('"900, 5"', 2), ("$times", 2)):
            graph = edited(
                ("steps: $steps, sampler: unipc", f"timesteps: {text}, sampler: euler"),
                ("  frames: {", '  times: {type: text, default: "9,8"}\n  frames: {')
                if text == "$times"
                else ("name: small", "name: small"),
            )
            assert len(bind(graph).stage("denoise").steps) == steps

    @pytest.mark.parametrize(
        ("inputs", "settings", "message"),
        [
            ({"steps": 8}, {}, "has 3 timesteps, and -i steps says 8 steps"),
            ({}, {"denoise.steps": 8}, "--set denoise.steps says 8 steps"),
            ({}, {"denoise.sampler": "unipc"}, "timesteps of its own, which unipc can't take"),
            ({}, {"denoise.timesteps": "5,5"}, "has 5 and then 5"),
            ({}, {"denoise.timesteps": "1001,5"}, "is 1001, wants 0.001 to 1000"),
            ({}, {"denoise.timesteps": "5,0"}, "is 0, wants 0.001 to 1000"),
            ({}, {"denoise.timesteps": "5,x"}, "wants numbers, is text '5,x'"),
        ],
    )
    def test_refused(self, graph, inputs, settings, message) -> None:
        """By whoever said it, with the numbers."""
        assert message in refusal(graph, inputs, {**self.TIMES, **settings}).message

    def test_a_word_that_moved(self, graph) -> None:
        """What it is called now."""
        error = refusal(graph, settings={"denoise.timesteps": "own"})
        assert "token_timesteps: own" in error.hint

    def test_a_file_that_contradicts_itself(self, edited) -> None:
        """Both are said there."""
        graph = edited(
            ("steps: $steps, sampler: unipc", "steps: 3, timesteps: [9], sampler: euler")
        )
        assert "the graph says 3 steps" in refusal(graph).message


def test_a_cache_wants_a_threshold(graph) -> None:
    """It decides how much of the picture is given up."""
    error = refusal(graph, settings={"denoise.cache": "teacache"})
    assert "teacache and no threshold" in error.message
    assert "cache_threshold=0.08" in error.hint


@pytest.mark.parametrize(("cache", "param"), [("none", "threshold"), ("teacache", "ratios")])
def test_a_param_that_the_cache_does_not_read(graph, cache, param) -> None:
    """It would be dropped in silence."""
    settings = {"denoise.cache": cache, f"denoise.cache_{param}": "1"}
    assert f"cache_{param}: nothing reads it" in refusal(graph, settings=settings).message
