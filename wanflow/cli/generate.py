"""`wanflow generate`: Wan2.1's own command line, planned and run inside the budget."""

from pathlib import Path
from typing import Any

from typer import Context

from wanflow.cli.output import note, say, say_json
from wanflow.errors import InputError
from wanflow.terminal.safe import clean


def generate(context: Context) -> int:
    """Run a Wan2.1 command line: --task --size --ckpt_dir --prompt ..."""
    from wanflow.cli import memory_events, official, official_request, saving

    flags = official.parse(context.args)
    if flags.help:
        say(official.help_text().rstrip())
        return 0
    translated = official_request.read(flags)
    target = saving.check_target(flags.save_file)
    wants_log = flags.profile_memory and flags.log_path is not None
    log = saving.make_folder(flags.log_path) if wants_log else None
    if not flags.json:
        for line in translated.notes:
            note(clean(line))
    done = _run(translated, flags)
    saving.put(Path(str(done["video"])), target)
    notes = [*translated.notes, *done["notes"]]
    files: dict[str, object] = {"save_file": str(target), "notes": notes}
    if flags.profile_memory:
        folder = log or Path(str(done["out"]))
        files["memory_events"] = str(memory_events.write(Path(str(done["trace"])), folder))
    say_json({**done, **files}) if flags.json else _tell(done, flags.save_file, files)
    return 0


def _run(translated: Any, flags: Any) -> dict[str, Any]:
    request = translated.request(flags)
    from wanflow import session
    from wanflow.cli.progress import silent, watch

    try:
        with silent() if flags.json else watch() as progress:
            return session.run(request, sink=progress)
    except InputError as error:
        if error.code == "model-mismatch":
            error.hint = f"--ckpt_dir {flags.ckpt_dir} has another model than {flags.task} wants"
        raise


def _tell(done: dict[str, Any], saved: str, files: dict[str, object]) -> None:
    """What `run` says, of the file that was asked for, and where the rest is."""
    from wanflow.cli.render_run import render

    said = render({**done, "video": saved}).split("\n")
    said.insert(-1, clean(f"run folder: {done['out']}"))
    if "memory_events" in files:
        said.insert(-1, clean(f"memory events: {files['memory_events']}"))
    say("\n".join(said))
