"""`wanflow generate`: Wan2.1's own command line, planned and run inside the budget."""

from pathlib import Path
from typing import Any

from typer import Context

from wanflow.cli.output import clean, note, say, say_json


def generate(context: Context) -> int:
    """Run a Wan2.1 command line: --task --size --ckpt_dir --prompt ..."""
    from wanflow.cli import official, official_request, saving

    flags = official.parse(context.args)
    if flags.help:
        say(official.help_text().rstrip())
        return 0
    asked = official_request.read(flags)
    target = saving.check_target(flags.save_file)
    if not flags.json:
        for line in asked.notes:
            note(line)
    done = _run(asked, flags)
    saving.put(Path(str(done["video"])), target)
    _tell({**done, "save_file": str(target), "notes": list(asked.notes)}, flags)
    return 0


def _run(asked: Any, flags: Any) -> dict[str, object]:
    request = asked.request(flags)
    from wanflow import session
    from wanflow.cli.progress import silent, watch

    with silent() if flags.json else watch() as progress:
        return session.run(request, sink=progress)


def _tell(done: dict[str, Any], flags: Any) -> None:
    from wanflow.cli.render_run import render

    if flags.json:
        say_json(done)
        return
    said = render({**done, "video": flags.save_file}).split("\n")
    said.insert(-1, clean(f"run folder: {done['out']}"))
    say("\n".join(said))
