"""The door: what each kind of error says, and with which exit code it ends."""

import errno
import json

import pytest

from wanflow import errors
from wanflow.cli import main
from wanflow.files import cache


def fail_with(error):
    def command(_):
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.StageFailed("no"), 1),
        (errors.InputError("no"), 2),
        (errors.BudgetError("no"), 3),
        (errors.WeightsError("no"), 4),
        (errors.DiffExceeded("no"), 5),
        (errors.OutOfMemory("no"), 6),
        (errors.Interrupted("no"), 130),
        (errors.Interrupted("no", exit_code=143), 143),
        (KeyboardInterrupt(), 130),
        (MemoryError(), 6),
        (OSError(errno.ENOSPC, "No space left on device", "runs/a"), 1),
        (FileNotFoundError(errno.ENOENT, "No such file", "graphs/x"), 2),
        (OSError(errno.EIO, "Input/output error", "runs/a"), 1),
        (ZeroDivisionError("division by zero"), 70),
        (OSError("nobody knows"), 70),
    ],
)
def test_each_error_has_its_exit_code(error, code, capsys, monkeypatch, tmp_path):
    """Every error ends in one code, one short text and no traceback."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main.run([], fail_with(error)) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    assert len(said.err.splitlines()) <= 3


def test_error_and_hint_are_two_lines(capsys):
    """The text is what failed, then something to type."""
    main.run([], fail_with(errors.InputError("steps is 0", hint="write steps: 20")))
    assert capsys.readouterr().err == "error: steps is 0\nhint: write steps: 20\n"


def test_json_error_is_one_object_with_the_detail(capsys):
    """Under `--json` a program reads the error from stderr."""
    error = errors.BudgetError("too small", hint="h", code="budget", detail={"minimum_bytes": 5})
    assert main.run(["plan", "--json"], fail_with(error)) == 3
    assert json.loads(capsys.readouterr().err) == {
        "error": {
            "code": "budget",
            "message": "too small",
            "hint": "h",
            "minimum_bytes": 5,
            "exit_code": 3,
        }
    }


def test_control_characters_do_not_reach_the_terminal(capsys):
    """A name out of a file can't move the cursor."""
    main.run([], fail_with(errors.InputError("stage \x1b[2J\r is wrong")))
    assert capsys.readouterr().err == "error: stage \\x1b[2J\\r is wrong\n"


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_name_of_any_length_leaves_a_line_that_can_be_read(words, capsys):
    """Names in a file are anybody's; what a line begins with and ends in is kept."""
    error = errors.WeightsError(f"a.pth: entry {'x' * 5000!r} is not read\nsecond", hint="h" * 5000)
    main.run(words, fail_with(error))
    text = capsys.readouterr().err
    assert len(text) < 2200
    assert "a.pth: entry 'xxx" in text
    assert "[4127 letters]" in text
    assert "xxx' is not read" in text
    assert "second" in text


def test_crash_log_has_the_traceback_and_no_environment(capsys, monkeypatch, tmp_path):
    """What the person is not shown is in the file that is named."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "very-secret")
    assert main.run([], fail_with(ZeroDivisionError("division by zero"))) == 70
    (log,) = (tmp_path / "wanflow").glob("crash-*.log")
    assert str(log) in capsys.readouterr().err
    text = log.read_text(encoding="utf-8")
    assert "Traceback" in text
    assert "torch " in text
    assert "very-secret" not in text
    assert log.stat().st_mode & 0o077 == 0


def test_crash_log_goes_to_the_temporary_folder_when_there_is_no_cache(
    capsys, monkeypatch, tmp_path
):
    """A home that can't be written does not hide the error."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main.run([], fail_with(ZeroDivisionError("x"))) == 70
    assert str(tmp_path / "wanflow-crash-") in capsys.readouterr().err


def test_what_could_not_be_kept_is_said_once(capsys, tmp_path):
    """A cache that can't be written is no error, and no part of `--json`."""

    def command(_):
        for name in ("footprints", "prompts"):
            cache.put(tmp_path / "file" / name / "x", b"magic", b"body", 100, 1)
        return 0

    (tmp_path / "file").touch()
    assert main.run([], command) == main.run(["--json"], command) == 0
    folder = tmp_path / "file" / "footprints"
    said = f"nothing is kept for the next time: {folder}: Not a directory\n"
    assert capsys.readouterr().err == said


def test_help_of_a_group_without_a_command_is_no_error_text(wanflow_here):
    """`wanflow trace` shows what there is, and exits 2."""
    code, out, err = wanflow_here("trace")
    assert (code, out) == (2, "")
    assert err.startswith("Usage: wanflow trace")


@pytest.mark.parametrize(
    "words", [["nope"], ["run"], ["plan", "x", "--bogus"], ["trace", "events", "x", "--verb", "no"]]
)
def test_usage_errors_exit_2(words, wanflow_here):
    """A wrong command line names the help that tells more."""
    code, out, err = wanflow_here(*words)
    assert (code, out) == (2, "")
    assert "hint: wanflow" in err
    code, _, err = wanflow_here(*words, "--json")
    assert code == 2
    assert json.loads(err)["error"]["code"] == "usage"
