"""`wanflow generate`: the command lines that people type already, and what they are told."""

import json
import shlex
from pathlib import Path

import pytest

from tests.jobs import TINY
from tests.official import write_official
from tests.pictured import TWINS, make_folder, picture
from wanflow.cli import official, official_request, saving
from wanflow.cli.official_tasks import TASKS
from wanflow.errors import InputError, StageFailed
from wanflow.graph import load
from wanflow.session import plan

CATS = (
    '"Two anthropomorphic cats in comfy boxing gear and bright gloves fight intensely on a '
    'spotlighted stage."'
)
# The forms of the official README and of the fork's, word for word but for folders and pictures.
LINES = {
    "README, 14B": f"--task t2v-14B --size 1280*720 --ckpt_dir DIR --prompt {CATS}",
    "README, 1.3B on a 4090": "--task t2v-1.3B --size 832*480 --ckpt_dir DIR --offload_model True "
    f"--t5_cpu --sample_shift 8 --sample_guide_scale 6 --prompt {CATS}",
    "README, image": "--task i2v-14B --size 1280*720 --ckpt_dir DIR --image PIC --prompt 'a cat'",
    "README, two frames": "--task flf2v-14B --size 1280*720 --ckpt_dir DIR --first_frame PIC "
    "--last_frame PIC --prompt 'CG animation style, a small blue bird takes off'",
    "fork, image": "--task i2v-14B --image PIC --ckpt_dir DIR",
    "fork, for memory": "--task t2v-1.3B --size 832*480 --frame_num 81 --ckpt_dir DIR --prompt a "
    "--attention_slicing true --offload_model true --t5_cpu true",
    "fork, for speed": "--task t2v-1.3B --size 832*480 --frame_num 81 --ckpt_dir DIR --prompt a "
    "--precision fp16 --attention_slicing false --offload_model false",
    "fork, quick start": "--task t2v-1.3B --size 832*480 --frame_num 81 --ckpt_dir DIR --prompt "
    '"A beautiful sunset over the ocean" --precision fp16 --profile_memory true --log_path logs',
    "fork, bare switches": "--task t2v-1.3B --size 480*832 --ckpt_dir DIR --prompt a "
    "--attention_slicing --offload_model --t5_cpu",
}
GIVEN = {"i2v-14b-480p": "i2v", "i2v-14b-720p": "i2v", "flf2v-14b": "flf2v"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Make the tiny twin's folder of every graph, and a picture."""
    base = tmp_path_factory.mktemp("twins")
    made = {name: make_folder(TWINS[name], base / name) for name in ("i2v", "flf2v")}
    return {**made, "t2v": TINY, "picture": picture(base / "picture.png", 1)}


@pytest.fixture
def asked(folders):
    """Read a command line that has the twin's folder for DIR and a picture for PIC."""

    def read(line, *more):
        kind = line.partition("--task ")[2].partition("-")[0]
        put = {"DIR": str(folders[kind]), "PIC": folders["picture"]}
        words = [put.get(word, word) for word in shlex.split(line)]
        flags = official.parse([*words, *more])
        return official_request.read(flags), flags

    return read


def line(**flags):
    """Make the words of a small command line."""
    given = {"task": "t2v-1.3B", "size": "832*480", "ckpt_dir": TINY, "prompt": "a"} | flags
    return [str(w) for name, v in given.items() if v is not None for w in (f"--{name}", v)]


@pytest.fixture
def fake(session, tmp_path, monkeypatch):
    """Let a run leave a video of five bytes; what was asked for is kept."""
    monkeypatch.chdir(tmp_path)

    def run(request, *, sink):
        session.request = request
        folder = tmp_path / "runs" / "one"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "video.mp4").write_bytes(b"video")
        return {
            "video": "runs/one/video.mp4", "trace": "runs/one/trace.msgpack", "out": "runs/one",
            "frames": 5, "seconds": 1.0, "device": "cpu", "seed": request.inputs["seed"],
        }  # fmt: skip

    session.run = run
    return session


class TestRealRun:
    @pytest.mark.parametrize("layout", ["diffusers", "official"])
    def test_leaves_the_video(self, layout, tmp_path, wanflow_here, monkeypatch):
        """The quick start with few frames and steps: `output.mp4` where the command was typed."""
        monkeypatch.chdir(tmp_path)
        folder = TINY if layout == "diffusers" else write_official(tmp_path / "Wan2.1-T2V-1.3B")
        words = line(
            ckpt_dir=folder, frame_num=1, sample_steps=1, precision="fp16", sample_solver="dpm++",
            profile_memory="true", log_path="logs",
        )  # fmt: skip
        code, out, err = wanflow_here("generate", *words)
        assert code == 0, err
        said = out.splitlines()
        assert said[0] == "wrote output.mp4"
        (run,) = (tmp_path / "runs").iterdir()
        assert (tmp_path / "output.mp4").read_bytes() == (run / "video.mp4").read_bytes()
        assert f"run folder: {run.relative_to(tmp_path)}" in said
        report = json.loads((run / "run.json").read_text())
        events = json.loads((tmp_path / "logs" / "memory_events.json").read_text())
        assert events["measured_peak_bytes"] == report["peak_bytes"]
        assert {"denoise", "decode"} <= {each.get("stage") for each in events["events"]}
        assert f"seed {report['seed']}, drawn" in err
        assert not list(tmp_path.glob(".*.part"))


class TestLines:
    @pytest.mark.parametrize("form", LINES)
    def test_is_planned_with_the_twins_folder(self, form, asked):
        """Every form is a request that the tiny twin's folder can run, with its own shape."""
        read, flags = asked(
            LINES[form], "--device", "cpu", "--frame_num", "5", "--sample_steps", "2"
        )
        report = plan(read.request(flags)).report
        assert report["feasible"]
        assert all(report["weights"].values())
        assert report["graph"] == read.graph

    @pytest.mark.parametrize("task", TASKS)
    def test_the_graphs_have_the_official_defaults(self, task):
        """What a flag does not say is the graph's, and that is what generate.py has."""
        for size, graph in TASKS[task].graphs.items():
            inputs = load(graph).spec.inputs
            image = task == "i2v-14B"
            small = size in ("832*480", "480*832")
            shift = 16.0 if task == "flf2v-14B" else 3.0 if image and small else 5.0
            wanted = {"frames": 81, "steps": 40 if image else 50, "shift": shift, "guidance": 5.0}
            assert wanted == {name: inputs[name].default for name in wanted}

    def test_nothing_for_memory_leaves_it_to_the_planner(self, asked):
        """No flag, no pin; the seed is drawn, the rest as typed."""
        read, _ = asked(LINES["README, 14B"])
        assert (read.pins, read.settings, read.precision) == ((), (), ())
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
        assert read.settings == ("denoise.sampler=dpm++",)

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
    def test_by_size_or_folder(self, name, size, graph, why, folders, tmp_path, monkeypatch):
        """The size decides, else the folder's name, else the official default; which is said."""
        monkeypatch.chdir(tmp_path)
        Path(name).symlink_to(folders["i2v"])
        words = line(task="i2v-14B", size=size, ckpt_dir=name, image=folders["picture"])
        read = official_request.read(official.parse(words))
        assert read.graph == graph
        assert read.notes[0].startswith(f"i2v-14B is graph {graph} by ")
        assert read.notes[0].endswith(why)


WRONG = {
    "task": ({"task": "t2v-13B"}, "allowed: t2v-1.3B, t2v-14B, i2v-14B, flf2v-14B"),
    "task not served": ({"task": "t2i-14B"}, "--task t2v-14B --frame_num 1"),
    "VACE": ({"task": "vace-1.3B"}, "--task i2v-14B or flf2v-14B"),
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

    def test_no_picture(self, wanflow_here, folders):
        """A file that is no picture is told before anything runs."""
        words = line(task="i2v-14B", ckpt_dir=folders["i2v"], image=__file__)
        code, _, err = wanflow_here("generate", *words)
        assert code == 2
        assert "no picture" in err

    def test_a_model_of_another_task(self, wanflow_here, folders):
        """A folder whose transformer wants pictures is no text-to-video model's."""
        code, _, err = wanflow_here("generate", *line(ckpt_dir=folders["i2v"], frame_num=1))
        assert code == 2
        assert f"--ckpt_dir {folders['i2v']} has another model than t2v-1.3B wants" in err

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
            "--prompt_extend_target_lang zh", "--src_video a", "--src_mask a",
            "--src_ref_images a,b", "--gradient_checkpointing true", "--gradient_checkpointing",
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


class TestSeed:
    def test_is_drawn_anew_each_time(self, fake, wanflow_here):
        """Two runs differ; the seed that was drawn is said, and makes the run again."""
        wanflow_here("generate", *line(frame_num=5))
        first = fake.request.inputs["seed"]
        code, _, err = wanflow_here("generate", *line(base_seed=-1))
        assert code == 0
        assert first != fake.request.inputs["seed"]
        assert f"--base_seed {fake.request.inputs['seed']}" in err

    def test_a_given_one_is_kept(self, fake, wanflow_here):
        """And nothing is said about it."""
        _, _, err = wanflow_here("generate", *line(base_seed=0))
        assert fake.request.inputs["seed"] == 0
        assert err == ""


class TestSaving:
    def test_replaces_a_file(self, fake, wanflow_here, tmp_path):
        """As the official code does."""
        (tmp_path / "a.mp4").write_bytes(b"old, and longer")
        assert wanflow_here("generate", *line(save_file="a.mp4"))[0] == 0
        assert (tmp_path / "a.mp4").read_bytes() == b"video"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "runs"]

    def test_json_says_where(self, fake, wanflow_here, tmp_path):
        """What the run returns, the place and the notes; nothing on stderr."""
        code, out, err = wanflow_here("generate", *line(), "--json")
        said = json.loads(out)
        assert (code, err) == (0, "")
        assert said["save_file"] == str(tmp_path / "output.mp4")
        assert said["video"] == "runs/one/video.mp4"
        assert [note for note in said["notes"] if str(said["seed"]) in note]

    def test_writes_through_a_link(self, fake, wanflow_here, tmp_path):
        """The link stays, what it leads to is replaced."""
        (tmp_path / "real.mp4").write_bytes(b"old")
        (tmp_path / "link.mp4").symlink_to("real.mp4")
        wanflow_here("generate", *line(save_file="link.mp4"))
        assert (tmp_path / "link.mp4").is_symlink()
        assert (tmp_path / "real.mp4").read_bytes() == b"video"

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("absent/a.mp4", "there is no folder"),
            (".", "is a folder"),
            ("/dev/null", "is no regular file"),
            ("/proc/self/a.mp4", "--save_file /proc/self/a.mp4: "),
            ("a.avi", "end it in .mp4"),
            ("a", "end it in .mp4"),
            ("loop.mp4", "--save_file loop.mp4: "),
            ("x" * 300 + ".mp4", "file name too long"),
        ],
    )
    def test_is_refused_before_the_run(self, path, words, fake, wanflow_here, tmp_path):
        """Exit 2, and no run folder is made."""
        (tmp_path / "loop.mp4").symlink_to("loop.mp4")
        code, _, err = wanflow_here("generate", *line(save_file=path))
        assert code == 2
        assert words in err
        assert not (tmp_path / "runs").exists()

    def test_a_file_that_may_not_be_written(self, monkeypatch, tmp_path):
        """A file that is write-protected is not replaced behind its owner's back."""
        (tmp_path / "a.mp4").touch(0o444)
        monkeypatch.setattr(saving.os, "access", lambda *_: False)  # root may write anything
        with pytest.raises(InputError, match="may not be written over"):
            saving.check_target(str(tmp_path / "a.mp4"))

    def test_a_failing_copy_leaves_the_old_file(self, tmp_path):
        """The error says where the video is; nothing half-written stays."""
        (tmp_path / "a.mp4").write_bytes(b"old")
        with pytest.raises(StageFailed, match="no such file") as caught:
            saving.put(tmp_path / "absent.mp4", tmp_path / "a.mp4")
        assert caught.value.hint == f"the video is done: {tmp_path / 'absent.mp4'}"
        assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
        assert (tmp_path / "a.mp4").read_bytes() == b"old"


@pytest.fixture
def exporting(monkeypatch):
    """Write down what is exported: the run that stands in has no trace."""
    from wanflow.trace import exports

    def export(trace, wanted, output):
        output.write_text(json.dumps([str(trace), wanted]))

    monkeypatch.setattr(exports, "export", export)


class TestProfileMemory:
    @pytest.mark.parametrize(
        ("more", "folder"),
        [("", "runs/one"), ("--log_path profiler_logs/quick_start", "profiler_logs/quick_start")],
    )
    def test_goes_into_the_log_path(self, more, folder, fake, exporting, wanflow_here, tmp_path):
        """By the command that exports traces; a folder that is missing is made."""
        words = f"--profile_memory true --json {more}".split()
        code, out, _ = wanflow_here("generate", *line(), *words)
        path = tmp_path / folder / "memory_events.json"
        assert code == 0
        assert Path(json.loads(out)["memory_events"]).resolve() == path
        assert json.loads(path.read_text()) == ["runs/one/trace.msgpack", "json"]

    def test_a_log_path_that_is_a_file(self, fake, exporting, wanflow_here, tmp_path):
        """Exit 2 before anything runs."""
        (tmp_path / "log").touch()
        code, _, err = wanflow_here("generate", *line(log_path="log"), "--profile_memory", "yes")
        assert (code, err) == (2, "error: --log_path log: file exists\n")
        assert not (tmp_path / "runs").exists()

    def test_a_log_path_alone(self, fake, wanflow_here, tmp_path):
        """Nothing is written there, which is said."""
        code, _, err = wanflow_here("generate", *line(log_path="log", base_seed=1))
        assert code == 0
        assert err == "--log_path without --profile_memory true: nothing is written there\n"
        assert not (tmp_path / "log").exists()


class TestHelp:
    def test_has_every_flag(self, wanflow_here):
        """Those that are served and those that are not."""
        code, out, _ = wanflow_here("generate", "--help")
        flags = vars(official.parse([]))
        assert code == 0
        assert not [flag for flag in flags if f"--{flag}" not in out]
