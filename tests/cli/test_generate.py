"""`wanflow generate`: the command lines that people type already, and what they are told."""

import json
from pathlib import Path

import pytest

from tests.generating import LINES, NOT_WHOLE, line, served_part, words_of
from tests.pictured import picture
from wanflow.cli import official, official_request
from wanflow.errors import InputError
from wanflow.session import plan


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Write the pictures of a form, by the word that stands for them."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [picture(folder / name, seed) for seed, name in enumerate(("b.png", "a.png"))]
    return {"PIC": paths[0], "PICS": ",".join(paths)}


@pytest.fixture
def asked(twins, pictures):
    """Read a command line that has the official twin's folder for DIR and pictures for PIC."""

    def read(form, *more):
        task = form.partition("--task ")[2].split()[0]
        words = words_of(form, {"DIR": str(twins.official(task)), **pictures})
        flags = official.parse([*words, *more])
        return official_request.read(flags), flags

    return read


class TestLines:
    @pytest.mark.parametrize("form", LINES)
    def test_is_planned_with_the_twins_folder(self, form, asked):
        """Every form is a request that the tiny twin's folder can run, with its own shape."""
        frames = 1 if "t2i" in form else 5
        more = ["--device", "cpu", "--frame_num", str(frames), "--sample_steps", "3"]
        read, flags = asked(LINES[form], *more)
        report = plan(read.request(flags)).report
        assert report["feasible"]
        assert all(report["weights"].values())
        assert report["graph"] == read.graph

    @pytest.mark.parametrize("form", NOT_WHOLE, ids=range(len(NOT_WHOLE)))
    def test_what_one_device_serves(self, form, asked):
        """What is left out of a form is refused by name; the rest is a request like the others."""
        with pytest.raises(InputError, match=r"^--\w+: is not served$") as error:
            asked(form)
        assert error.value.code == "flag-not-served"
        read, _ = asked(served_part(form))
        assert read.task.name in form

    @pytest.mark.parametrize(
        ("words", "wanted"), [([], True), (["--no-metadata"], False), (["--no_metadata"], False)]
    )
    def test_metadata(self, asked, words, wanted):
        """What the video is to say of itself, in either spelling."""
        read, flags = asked(LINES["fork, for memory"], *words)
        assert read.request(flags).metadata == wanted

    def test_nothing_for_memory_leaves_it_to_the_planner(self, asked):
        """No flag, no pin; the seed is drawn, the rest as typed."""
        read, _ = asked(LINES["2.1, t2v-14B"])
        assert (read.pins, read.precision) == ((), ())
        assert read.settings == ("denoise.grid=official",)
        assert (read.graph, read.inputs["size"]) == ("t2v-14b", "1280*720")

    def test_flags_become_inputs(self, asked):
        """Frames, steps, shift, guidance, seed, solver."""
        read, _ = asked(
            "--task t2v-1.3B --ckpt_dir DIR --prompt=x --frame_num=17 --sample_steps 3 "
            "--base_seed 7 --sample_shift 8 --sample_guide_scale 6 --sample_solver dpm++"
        )
        assert read.inputs == {
            "prompt": "x", "size": "832*480", "seed": 7, "frames": 17, "steps": 3, "shift": 8.0,
            "guidance": 6.0,
        }  # fmt: skip
        assert read.settings == ("denoise.sampler=dpm++", "denoise.grid=official")

    def test_the_grid_is_a_flag(self, asked):
        """Wan's own noise levels are the default, diffusers' can be had."""
        read, _ = asked("--task t2v-1.3B --ckpt_dir DIR --prompt=x --sampler-grid diffusers")
        assert read.settings == ("denoise.grid=diffusers",)

    def test_precision_is_text_encoders_and_transformers(self, asked):
        """The VAE and CLIP stay as upstream computes them."""
        read, _ = asked("--task i2v-14B --image PIC --ckpt_dir DIR --precision fp32")
        assert read.precision == ("text=fp32", "dit=fp32")


class TestPins:
    @pytest.mark.parametrize(
        ("flags", "weights"),
        [
            ("--offload_model True", ["stream", "stream", "stream"]),
            ("--offload_model no", ["resident", "resident", "resident"]),
            ("--offload_model 0 --t5_cpu", ["stream", "resident", "resident"]),
            ("--t5_cpu", ["stream"]),
            ("--t5_cpu TRUE", ["stream"]),
            ("--t5_cpu false", []),
        ],
    )
    def test_of_weights(self, asked, flags, weights):
        """Where the weights are of encode, denoise and decode."""
        read, _ = asked(f"--task t2v-1.3B --ckpt_dir DIR --prompt a {flags}")
        stages = ("encode", "denoise", "decode")
        pins = [f"{s}.weights={w}" for s, w in zip(stages, weights, strict=False)]
        assert read.pins == tuple(pins)

    @pytest.mark.parametrize(
        ("flag", "rows"), [(" yes", "1024"), ("", "1024"), ("=false", "all"), ("=N", "all")]
    )
    def test_of_slicing(self, asked, flag, rows):
        """A block takes 1,024 rows at a time, or all of them."""
        read, _ = asked(f"--task t2v-1.3B --ckpt_dir DIR --attention_slicing{flag}")
        assert read.pins == (f"denoise.rows={rows}",)

    def test_every_stage_with_a_model(self, asked):
        """Of an image task CLIP and the VAE's encoder too."""
        read, _ = asked("--task i2v-14B --image PIC --ckpt_dir DIR --offload_model true")
        stages = ("encode", "see", "given", "denoise", "decode")
        assert read.pins == tuple(f"{stage}.weights=stream" for stage in stages)


class TestImageGraph:
    @pytest.mark.parametrize(
        ("name", "size", "graph", "why"),
        [
            ("any", "480*832", "i2v-14b-480p", "by --size 480*832"),
            ("Wan2.1-I2V-14B-720P", "832*480", "i2v-14b-480p", "by --size 832*480"),
            ("any", "1280*720", "i2v-14b-720p", "by --size 1280*720"),
            ("Wan2.1-I2V-14B-480P", None, "i2v-14b-480p", "'Wan2.1-I2V-14B-480P': 832*480"),
            ("Wan2.1-I2V-14B-720P", None, "i2v-14b-720p", "'Wan2.1-I2V-14B-720P': 1280*720"),
            ("any", None, "i2v-14b-720p", "by its default size: 1280*720"),
        ],
    )
    def test_by_size_or_folder(
        self, name, size, graph, why, twins, pictures, tmp_path, monkeypatch
    ):
        """The size decides, else the folder's name, else the official default; which is said."""
        monkeypatch.chdir(tmp_path)
        Path(name).symlink_to(twins.diffusers("i2v-14B"))
        words = line(task="i2v-14B", size=size, ckpt_dir=name, image=pictures["PIC"])
        read = official_request.read(official.parse(words))
        assert read.graph == graph
        assert read.notes[0].startswith(f"i2v-14B is graph {graph} by ")
        assert read.notes[0].endswith(why)


WRONG = {
    "task": ({"task": "t2v-13B"}, "allowed: t2v-1.3B, t2v-14B, t2i-14B, i2v-14B, flf2v-14B"),
    "size": ({"size": "640*480"}, "allowed: 832*480, 480*832"),
    "size of another task": ({"size": "1280*720"}, "allowed: 832*480, 480*832"),
    "size with an x": ({"size": "832x480"}, "allowed: 832*480, 480*832"),
    "frames": ({"frame_num": 80}, "nearest: 77 or 81"),
    "no frames": ({"frame_num": 0}, "a whole number of 1 to 4093"),
    "frames, no number": ({"frame_num": "8l"}, "a whole number of 1 to 4093"),
    "solver": ({"sample_solver": "euler"}, "allowed: unipc, dpm++"),
    "precision": ({"precision": "int8"}, "allowed: fp16, bf16, fp32"),
    "offload_model": ({"offload_model": "maybe"}, "allowed: true, false, yes, no, 1, 0"),
    "t5_cpu": ({"t5_cpu": "2"}, "allowed: true, false, yes, no, 1, 0"),
    "steps": ({"sample_steps": 0}, "a whole number of 1 to 1000"),
    "shift": ({"sample_shift": "nan"}, "a number of 0.01 to 100"),
    "seed": ({"base_seed": 2**63}, "a whole number of -9223372036854775808 to 9223372036854775807"),
    "image for text": ({"image": "x.png"}, "--image is for i2v-14B"),
    "no image": ({"task": "i2v-14B"}, "add --image FILE"),
    "image not there": ({"task": "i2v-14B", "image": "no.png"}, "--image no.png: no such file"),
    "image is a folder": ({"task": "i2v-14B", "image": "."}, "--image .: is a folder"),
    "one frame of two": ({"task": "flf2v-14B", "first_frame": __file__}, "add --last_frame FILE"),
    "no folder": ({"ckpt_dir": None}, "add --ckpt_dir DIR"),
    "a file of weights": ({"ckpt_dir": __file__}, "is a file"),
    "flag": ({"frames": 81}, "'--frames' is no flag"),
    "flag, nearly": ({"smple_steps": 5}, "did you mean '--sample_steps'?"),
    "a budget": ({"vram": "8"}, "write 8GiB"),
}


class TestWrong:
    @pytest.mark.parametrize("case", WRONG)
    def test_exits_2_with_what_is_allowed(self, case, wanflow_here):
        """One error, its hint, no run folder."""
        flags, words = WRONG[case]
        code, out, err = wanflow_here("generate", *line(**flags))
        assert (code, out) == (2, "")
        assert words in err
        assert len([text for text in err.splitlines() if text.startswith("error: ")]) == 1

    def test_no_picture(self, wanflow_here, twins):
        """A file that is no picture is told before anything runs."""
        words = line(task="i2v-14B", ckpt_dir=twins.diffusers("i2v-14B"), image=__file__)
        code, _, err = wanflow_here("generate", *words)
        assert code == 2
        assert "no picture" in err

    def test_a_model_of_another_task(self, wanflow_here, twins):
        """A folder whose transformer wants pictures is no text-to-video model's."""
        folder = twins.diffusers("i2v-14B")
        code, _, err = wanflow_here("generate", *line(ckpt_dir=folder, frame_num=1))
        assert code == 2
        assert f"--ckpt_dir {folder} has another model than t2v-1.3B wants" in err

    def test_no_weights_are_4(self, wanflow_here, tmp_path):
        """A folder that is not there, or has nothing in it."""
        for folder in (tmp_path / "absent", tmp_path):
            code, _, err = wanflow_here("generate", *line(ckpt_dir=folder))
            assert code == 4
            assert str(folder) in err

    def test_slicing_is_not_exact(self, wanflow_here):
        """The two flags are told to contradict each other."""
        code, _, err = wanflow_here("generate", *line(), "--attention_slicing", "--exact")
        assert code == 2
        assert "--attention_slicing rounds differently, which --exact rules out" in err

    def test_as_json(self, wanflow_here):
        """The error is one object."""
        code, _, err = wanflow_here("generate", *line(size="1*1"), "--json")
        assert (code, json.loads(err)["error"]["code"]) == (2, "bad-size")


class TestRefused:
    @pytest.mark.parametrize(
        "flag",
        [
            "--ulysses_size 8", "--ring_size=2", "--t5_fsdp", "--dit_fsdp", "--use_prompt_extend",
            "--prompt_extend_method dashscope", "--prompt_extend_model x",
            "--prompt_extend_target_lang zh", "--gradient_checkpointing true",
            "--gradient_checkpointing", "--audio a.wav", "--enable_tts", "--tts_text a",
            "--num_clip 2", "--pose_video a", "--start_from_ref", "--infer_frames 80",
            "--src_root_path a", "--refert_num 1", "--replace_flag", "--use_relighting_lora",
        ],
    )  # fmt: skip
    def test_by_name(self, flag, wanflow_here):
        """With the reason."""
        code, _, err = wanflow_here("generate", *line(), *flag.split())
        name = flag.replace("=", " ").split()[0]
        assert code == 2
        assert err.splitlines()[0] == f"error: {name}: is not served"
        assert err.splitlines()[1].startswith("hint: ")

    def test_one_device_is_what_there_is(self, asked):
        """A size of 1 asks for nothing."""
        read, _ = asked("--task t2v-1.3B --ckpt_dir DIR --ulysses_size 1 --ring_size=1")
        assert read.graph == "t2v-1.3b"


class TestHelp:
    def test_has_every_flag(self, wanflow_here):
        """Those that are served and those that are not."""
        code, out, _ = wanflow_here("generate", "--help")
        flags = vars(official.parse([]))
        assert code == 0
        assert not [flag for flag in flags if f"--{flag}" not in out]
