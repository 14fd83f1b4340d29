"""`wanflow generate`: the tasks of both command lines, what each takes, what is said of it."""

import json

import pytest

from tests.generating import OTHERS, line, words_of
from tests.jobs import TINY
from tests.pictured import picture
from wanflow.cli import official, official_request
from wanflow.cli.official_tasks import TASKS
from wanflow.errors import InputError
from wanflow.graph import load

_AREAS = {"832*480", "480*832", "1280*720", "720*1280"}
SIZES = {  # SUPPORTED_SIZES of both official `wan/configs/__init__.py`
    "t2v-1.3B": {"832*480", "480*832"}, "t2v-14B": _AREAS, "i2v-14B": _AREAS, "flf2v-14B": _AREAS,
    "t2i-14B": {*_AREAS, "1024*1024"}, "vace-1.3B": {"832*480", "480*832"}, "vace-14B": _AREAS,
    "t2v-A14B": _AREAS, "i2v-A14B": _AREAS, "ti2v-5B": {"1280*704", "704*1280"},
}  # fmt: skip
_WAN21 = {"frames": 81, "steps": 50, "shift": 5.0, "guidance": 5.0, "fps": 16}
_VACE = {**_WAN21, "shift": 16.0}
_A14B = {"frames": 81, "steps": 40, "fps": 16}
DEFAULTS = {  # of both `generate.py` and `wan/configs`; 480p is the size where it matters
    "t2v-1.3B": _WAN21,
    "t2v-14B": _WAN21,
    "t2i-14B": {"steps": 50, "shift": 5.0, "guidance": 5.0},
    "i2v-14B": {**_WAN21, "steps": 40, "shift": 3.0},
    "flf2v-14B": {**_WAN21, "shift": 16.0},
    "vace-1.3B": _VACE,
    "vace-14B": _VACE,
    "t2v-A14B": {
        **_A14B, "shift": 12.0, "guidance_high": 4.0, "guidance_low": 3.0, "boundary": 0.875
    },
    "i2v-A14B": {
        **_A14B, "shift": 5.0, "guidance_high": 3.5, "guidance_low": 3.5, "boundary": 0.9
    },
    "ti2v-5B": {"frames": 121, "steps": 50, "shift": 5.0, "guidance": 5.0, "fps": 24},
}  # fmt: skip


def read(form, **put):
    """Read a command line; the folder of weights is not looked into."""
    flags = official.parse(words_of(form, {"DIR": str(TINY), **put}))
    return official_request.read(flags)


class TestTask:
    def test_all_are_there(self):
        """Those of both command lines but for two."""
        assert set(TASKS) == set(SIZES)

    @pytest.mark.parametrize("task", TASKS)
    def test_the_graphs_have_the_official_defaults(self, task):
        """What a flag does not say is the graph's, and that is what generate.py has."""
        assert set(TASKS[task].graphs) == SIZES[task]
        for size, graph in TASKS[task].graphs.items():
            wanted = DEFAULTS[task]
            if task == "i2v-14B" and "720" in size:
                wanted = {**wanted, "shift": 5.0}
            inputs = load(graph).spec.inputs
            assert wanted == {name: inputs[name].default for name in wanted}

    @pytest.mark.parametrize("form", OTHERS)
    def test_two_are_refused_by_name(self, form):
        """Whatever their own flags are, the task is what is told, and why."""
        with pytest.raises(InputError, match=r"^--task (s2v|animate)-14B: is not served$") as error:
            read(form)
        assert "encoder" in error.value.hint

    @pytest.mark.parametrize(
        ("folders", "index", "task", "why"),
        [
            ([], None, "t2v-14B", "Wan2.1: --ckpt_dir has no two experts"),
            (
                ["high_noise_model", "low_noise_model"], None, "t2v-A14B",
                "Wan2.2: --ckpt_dir has two experts",
            ),
            (["transformer", "transformer_2"], None, "t2v-A14B", "has two experts"),
            (["transformer"], {"transformer_2": [None, None]}, "t2v-14B", "has no two experts"),
        ],
    )  # fmt: skip
    def test_without_one_the_weights_decide(self, folders, index, task, why, tmp_path):
        """Each command line has a default; which one is meant is seen from the folder, and said."""
        for name in folders:
            (tmp_path / name).mkdir()
        if index is not None:
            (tmp_path / "model_index.json").write_text(json.dumps(index))
        asked = read("--ckpt_dir DIR --prompt a", DIR=str(tmp_path))
        assert asked.task.name == task
        assert asked.notes[0].startswith(f"no --task: it is {task}, the default of Wan2.")
        assert asked.notes[0].endswith(why)
        assert asked.inputs["size"] == "1280*720"


class TestFlags:
    @pytest.mark.parametrize("task", ["t2v-A14B", "t2v-14B"])
    def test_one_scale_for_both_experts(self, task):
        """As the official code takes it."""
        asked = read(f"--task {task} --ckpt_dir DIR --prompt a --sample_guide_scale 6")
        both = {"guidance_high": 6.0, "guidance_low": 6.0}
        scales = {n: v for n, v in asked.inputs.items() if n.startswith("guidance")}
        assert scales == (both if task == "t2v-A14B" else {"guidance": 6.0})

    @pytest.mark.parametrize(("more", "type_"), [("", "bf16"), (" --precision fp32", "fp32")])
    def test_convert_model_dtype_says_what_it_does(self, more, type_):
        """Nothing: every model has a precision that its weights are converted to."""
        asked = read(f"--task ti2v-5B --ckpt_dir DIR --convert_model_dtype{more}")
        (said,) = [note for note in asked.notes if note.startswith("--convert_model_dtype")]
        assert said.endswith(f"the transformer's weights are {type_} with or without it")

    @pytest.mark.parametrize("more", ["", " --frame_num 1"])
    def test_one_picture_is_one_frame(self, more):
        """One frame may be asked for, as the README does; a video can't be had."""
        asked = read(f"--task t2i-14B --size 1024*1024 --ckpt_dir DIR{more}")
        assert asked.graph == "t2i-14b"
        assert asked.notes[-1].startswith("seed ")
        assert "the same picture again" in asked.notes[-1]
        with pytest.raises(InputError, match=r"^--frame_num 5: t2i-14B makes one picture$"):
            read("--task t2i-14B --ckpt_dir DIR --frame_num 5")

    def test_two_experts_have_the_settings_twice(self):
        """Sampler and grid of both, or the second would go on with another one."""
        asked = read("--task t2v-A14B --ckpt_dir DIR --sample_solver dpm++ --precision fp16")
        assert asked.settings == (
            "high.sampler=dpm++", "low.sampler=dpm++", "high.grid=official", "low.grid=official",
        )  # fmt: skip
        assert sorted(asked.precision) == ["high=fp16", "low=fp16", "text=fp16"]


class TestFiles:
    def test_a_picture_is_optional_for_ti2v(self, tmp_path):
        """With one it is image to video, without it text to video."""
        path = picture(tmp_path / "a.png", 1)
        assert read("--task ti2v-5B --ckpt_dir DIR --image PIC", PIC=path).inputs["image"] == path
        assert "image" not in read("--task ti2v-5B --ckpt_dir DIR").inputs

    def test_references_keep_their_order(self, tmp_path):
        """As they are typed."""
        paths = ",".join(picture(tmp_path / name, 1) for name in ("b.png", "a.png"))
        form = "--task vace-14B --ckpt_dir DIR --src_ref_images PICS --prompt a"
        asked = read(form, PICS=paths)
        assert asked.inputs["reference_images"] == paths
        assert not [note for note in asked.notes if "neither" in note]

    def test_a_text_alone_is_said(self):
        """The official example pictures stand in for a missing prompt's: they are not here."""
        (said,) = [n for n in read("--task vace-1.3B --ckpt_dir DIR").notes if "neither" in n]
        assert "example pictures are not here" in said


class TestOtherModel:
    @pytest.mark.parametrize(
        ("task", "of", "words"),
        [
            ("t2v-14B", "t2v-A14B", "wants: --task t2v-A14B or i2v-A14B"),
            ("t2v-A14B", "t2v-14B", "t2v-A14B wants, one of two experts"),
            ("ti2v-5B", "t2v-14B", "its latents have 16 channels, those of model 'dit'"),
            ("t2v-14B", "ti2v-5B", "Wan2.2 5B is for ti2v-5B"),
            ("t2v-14B", "vace-14B", "wants: --task vace-1.3B or vace-14B"),
            ("vace-14B", "t2v-14B", "has another model than vace-14B wants"),
        ],
    )
    def test_exits_4_with_what_it_is(self, task, of, words, twins, wanflow_here):
        """A folder that another task is for is none that this one has a use of."""
        folder = twins.official(of)
        code, out, err = wanflow_here("generate", *line(task=task, size=None, ckpt_dir=folder))
        assert (code, out) == (4, "")
        assert words in err
        assert f"hint: --ckpt_dir {folder} has another model than {task} wants" in err


WRONG = {
    "task in small letters": ({"task": "t2v-a14b"}, "did you mean 't2v-A14B'?"),
    "size of ti2v": ({"task": "ti2v-5B", "size": "1280*720"}, "allowed: 1280*704, 704*1280"),
    "square video": ({"task": "t2v-14B", "size": "1024*1024"}, "allowed: 1280*720, 720*1280"),
    "large VACE": ({"task": "vace-1.3B", "size": "1280*720"}, "allowed: 832*480, 480*832"),
    "image for text": ({"task": "t2v-A14B", "size": None, "image": __file__}, "takes no picture"),
    "source of another task": ({"src_video": __file__}, "--src_video is for vace-1.3B, vace-14B"),
    "image for VACE": (
        {"task": "vace-1.3B", "image": __file__},
        "takes --src_video, --src_mask and --src_ref_images",
    ),
    "a mask alone": ({"task": "vace-1.3B", "src_mask": __file__}, "--src_mask without --src_video"),
    "frames of a video": (
        {"task": "vace-1.3B", "src_video": __file__, "frame_num": 5},
        "--frame_num 5 with --src_video: the frames are the video's own",
    ),
    "one reference is not there": (
        {"task": "vace-1.3B", "src_ref_images": f"{__file__},no.png"},
        "--src_ref_images no.png: no such file",
    ),
    "a comma too many": (
        {"task": "vace-1.3B", "src_ref_images": f"{__file__},"},
        "paths stand between commas: a.png,b.png",
    ),
    "a video that is a folder": (
        {"task": "vace-1.3B", "src_video": "."}, "--src_video .: is a folder"
    ),
    "no image": ({"task": "i2v-A14B", "size": None}, "add --image FILE"),
    "a picture as a video": (
        {"task": "t2i-14B", "size": None, "save_file": "a.mp4"}, "end it in .png"
    ),
    "a video as a picture": ({"save_file": "a.png"}, "end it in .mp4"),
}  # fmt: skip


class TestWrong:
    @pytest.mark.parametrize("case", WRONG)
    def test_exits_2_with_what_is_allowed(self, case, wanflow_here, tmp_path, monkeypatch):
        """One error, its hint, no run folder."""
        monkeypatch.chdir(tmp_path)
        flags, words = WRONG[case]
        code, out, err = wanflow_here("generate", *line(**flags))
        assert (code, out) == (2, "")
        assert words in err
        assert len([text for text in err.splitlines() if text.startswith("error: ")]) == 1
        assert not list(tmp_path.iterdir())
