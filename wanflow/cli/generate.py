"""`wanflow generate`: the command lines of Wan2.1 and Wan2.2, planned and run in the budget."""

from pathlib import Path
from typing import Any

from typer import Context

from wanflow.cli.output import note, say, say_json
from wanflow.errors import WanflowError
from wanflow.terminal.safe import clean

_OTHER_MODEL = {  # by the code of the error
    "model-mismatch": "",
    "two-experts": ": --task t2v-A14B or i2v-A14B",
    "one-expert": ", one of two experts",
    "other-latents": ": Wan2.2 5B is for ti2v-5B, and ti2v-5B for it",
    "is-vace": ": --task vace-1.3B or vace-14B",
    "not-vace": "",
}


def generate(context: Context) -> int:
    """Run a Wan2.1 or Wan2.2 command line: --task --size --ckpt_dir --prompt ..."""
    from wanflow.cli import memory_events, official, official_request, saving

    flags = official.parse(context.args)
    if flags.help:
        say(official.help_text().rstrip())
        return 0
    translated = official_request.read(flags)
    suffix = translated.task.suffix
    saved = f"output{suffix}" if flags.save_file is None else flags.save_file
    target = saving.check_target(saved, suffix)
    wants_log = flags.profile_memory and flags.log_path is not None
    log = saving.make_folder(flags.log_path) if wants_log else None
    if not flags.json:
        for line in translated.notes:
            note(clean(line))
    done = _run(translated, flags)
    saving.put(Path(str(done["video"] if suffix == ".mp4" else done["picture"])), target)
    notes = [*translated.notes, *done["notes"]]
    files: dict[str, object] = {"save_file": str(target), "notes": notes}
    if flags.profile_memory:
        folder = log or Path(str(done["out"]))
        files["memory_events"] = str(memory_events.write(Path(str(done["trace"])), folder))
    say_json({**done, **files}) if flags.json else _tell(done, saved, files)
    return 0


def _run(translated: Any, flags: Any) -> dict[str, Any]:
    request = translated.request(flags)
    from wanflow import session
    from wanflow.cli.progress import silent, watch

    try:
        with silent() if flags.json else watch() as progress:
            return session.run(request, sink=progress)
    except WanflowError as error:
        if error.code in _OTHER_MODEL:
            error.hint = (
                f"--ckpt_dir {flags.ckpt_dir} has another model than {translated.task.name} wants"
                f"{_OTHER_MODEL[error.code]}"
            )
        raise


def _tell(done: dict[str, Any], saved: str, files: dict[str, object]) -> None:
    """What `run` says, of the file that was asked for, and where the rest is."""
    from wanflow.cli.render_run import render

    said = render({**done, "video": saved}).split("\n")
    said.insert(-1, clean(f"run folder: {done['out']}"))
    if "memory_events" in files:
        said.insert(-1, clean(f"memory events: {files['memory_events']}"))
    say("\n".join(said))
