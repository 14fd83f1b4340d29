"""The command as others run it: streams, exit codes, what an import costs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import wanflow

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "networkx", "diffusers", "transformers", "rich", "numpy", "av")


def loaded_by(*arguments):
    """Run a command line in a new process and name the heavy modules that it loaded."""
    code = (
        "import sys; from wanflow.cli.main import run; code = run(sys.argv[1:]);"
        f"print([m for m in {HEAVY!r} if m in sys.modules], code, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["generate", "--help"], ["--version"]]
)
def test_help_loads_nothing_heavy(words):
    """The answer to `--help` waits for no library."""
    assert loaded_by(*words) == "[] 0"


def test_a_word_that_is_no_device_is_refused_without_pytorch():
    """A mistyped option waits for no library that it isn't looked up in."""
    told = loaded_by("plan", "t2v-tiny", "--device", "nonsense")
    assert "torch" not in told
    assert told.endswith(" 2")


@pytest.mark.parametrize("words", [["doctor"], ["plan", "t2v-tiny", "--json"], ["--help"]])
def test_windows_is_told(words):
    """What Python lacks there is not come to: one sentence, and where it runs instead."""
    code = (
        "import sys; sys.modules.update(fcntl=None, resource=None)\n"
        "from wanflow.cli.main import run; sys.platform = 'win32'\n"
        f"sys.exit(run({words!r}))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "wanflow runs on Linux, and this is Windows" in done.stderr
    assert "wsl --install" in done.stderr


def test_a_wrong_flag_of_generate_loads_nothing_heavy():
    """A size that is not allowed is told at once."""
    words = ["generate", "--task", "t2v-1.3B", "--size", "1*1", "--ckpt_dir", "."]
    assert loaded_by(*words) == "[] 2"


def test_trace_summary_loads_rich_and_nothing_heavier(trace):
    """Reading a trace needs neither torch nor networkx."""
    assert loaded_by("trace", "summary", trace) == "['rich'] 0"
    assert loaded_by("trace", "summary", trace, "--json") == "[] 0"
    assert loaded_by("trace", "events", trace) == "[] 0"


def test_importing_the_package_loads_nothing_heavy():
    """`import wanflow` is free."""
    code = f"import sys, wanflow; sys.exit(any(m in sys.modules for m in {HEAVY!r}))"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_version_from_a_checkout_and_as_a_module(wanflow_process, tmp_path):
    """`cli.py` and `python -m wanflow` are the same door."""
    assert wanflow_process("--version").stdout == f"wanflow {wanflow.__version__}\n"
    done = subprocess.run(
        [sys.executable, "-m", "wanflow", "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == f"wanflow {wanflow.__version__}\n"


def test_help_lists_the_exit_codes(wanflow_process):
    """The codes are part of the contract, so the help has them."""
    text = wanflow_process("--help").stdout
    for code in (0, 1, 2, 3, 4, 5, 6, 70, 130):
        assert f"\n{code:>7}  " in text


def test_a_file_that_is_no_trace_exits_2(wanflow_process, tmp_path):
    """Neither nonsense nor a missing file makes a traceback."""
    nonsense = tmp_path / "x.msgpack"
    nonsense.write_bytes(os.urandom(100))
    for path in (nonsense, tmp_path / "absent", tmp_path):
        done = wanflow_process("trace", "summary", path, "--json")
        assert done.returncode == 2
        assert done.stdout == ""
        assert json.loads(done.stderr)["error"]["exit_code"] == 2


def test_a_reader_that_leaves_early_is_no_error(trace):
    """`wanflow trace events | head -1` is quiet."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, ROOT / "cli.py", "trace", "events", trace],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("words", [["--version"], ["--help"], ["trace", "events"]])
def test_full_disk_under_stdout_exits_1(words, trace):
    """What could not be written is not passed over."""
    words = [*words, str(trace)] if words[0] == "trace" else words
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, ROOT / "cli.py", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "error: the disk is full\nhint: free some space\n"


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_is_survived(closed):
    """Started with `>&-`, the command still does its work."""
    number = {"stdout": 1, "stderr": 2}[closed]
    done = subprocess.run(
        ["bash", "-c", f'exec "{sys.executable}" cli.py --version {number}>&-'],
        capture_output=True,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_odd_characters_do_not_end_a_command(wanflow_process):
    """A terminal that can't show a name gets it escaped."""
    done = wanflow_process("trace", "summary", "mö\udcffvie", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert "m\\xf6" in done.stderr


def test_interrupt_exits_130_without_a_traceback(tmp_path):
    """Ctrl-C while a command waits."""
    code = (
        "import signal, sys, time\n"
        "from wanflow.cli.main import run\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a shell ignores it\n"
        "def wait(_):\n    print('waiting', flush=True); time.sleep(30)\n"
        "sys.exit(run([], wait))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "error: interrupted\n")


def test_doctor_answers_in_text_and_json(wanflow_process, wanflow_here, monkeypatch):
    """The report names versions, devices and folders, and leaks no environment."""
    secret = {"HF_TOKEN": "very-secret", "WANFLOW_VRAM": "8GiB"}
    secret["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    found = json.loads(wanflow_process("doctor", "--json", env=secret).stdout)
    assert found["devices"][0]["name"] == "cpu"
    assert found["devices"][0]["total_bytes"] >= found["devices"][0]["free_bytes"] > 0
    assert found["footprints"]["files"] == found["footprints"]["nbytes"] == 0
    assert found["environment"]["WANFLOW_VRAM"] == "8GiB"
    monkeypatch.setattr("wanflow.cli.doctor.examine", lambda: found)
    code, text, _ = wanflow_here("doctor")
    assert code == 0
    assert "torch" in text
    assert "\nPYTORCH_CUDA_ALLOC_CONF  expandable_segments:True\n" in text  # the longest name
    assert "very-secret" not in text + json.dumps(found)
