"""`wanflow models`: look at weights on disk, and download them when asked."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from wanflow.cli.options import Json
from wanflow.cli.output import note, present
from wanflow.environment import DEVICE, VRAM

app = typer.Typer(
    name="models",
    help="Look at weights, and download them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def group() -> None:
    """Look at weights, and download them."""


@app.command()
def inspect(
    path: Annotated[
        Path, Argument(metavar="PATH", help="A folder of diffusers or of Wan, or a file.")
    ],
    *,
    json: Json = False,
) -> int:
    """Say what weights are, which graphs they serve and what they lack; nothing is loaded.

    Of a LoRA: its naming, its kinds, its ranks and the models that it fits.
    """
    from wanflow.cli.render_models import as_data, render
    from wanflow.session.weights import inspect as inspecting
    from wanflow.session.weights.inspect_lora import is_lora

    if is_lora(path):
        return _inspect_lora(path, json=json)

    inspected = inspecting.inspect(path)
    present(as_data(inspected), lambda console: render(inspected, console), json=json)
    return 0 if inspected.is_whole else 4


def _inspect_lora(path: Path, *, json: bool) -> int:
    from wanflow.cli.render_lora import as_data, render
    from wanflow.session.weights.inspect_lora import inspect_lora

    lora = inspect_lora(path)
    present(as_data(lora), lambda console: render(lora, console), json=json)
    return 0 if lora.fits else 4


@app.command()
def download(
    repo: Annotated[
        str,
        Argument(metavar="REPO", help="OWNER/NAME on the Hugging Face hub.", show_default=False),
    ],
    *,
    revision: Annotated[
        str | None,
        Option(metavar="SHA|TAG", help="A commit, a tag or a branch.", show_default="main"),
    ] = None,
    to: Annotated[
        Path | None,
        Option(metavar="FOLDER", help="Where to; else WANFLOW_MODELS, or the user's data folder."),
    ] = None,
    json: Json = False,
) -> int:
    """Download the weights of a model that graphs can run; the only command that uses the network.

    What is there is not fetched again: after a stop the same command goes on.
    """
    from wanflow.cli.download_progress import watch
    from wanflow.cli.render_models import as_data, downloaded, render_download
    from wanflow.session.weights import download as downloading

    with watch(silent=json) as watched:
        done = downloading.download(repo, revision, to, watched)
    data = downloaded(done) | {"inspected": as_data(done.inspected)}
    present(data, lambda console: render_download(done, console), json=json)
    return 0 if done.inspected.is_whole else 4


@app.command()
def shrink(
    path: Annotated[
        Path, Argument(metavar="PATH", help="A folder of diffusers or of Wan, or a file.")
    ],
    *,
    to: Annotated[str, Option(metavar="int8|fp8", help="How large weights are packed.")],
    output: Annotated[Path, Option(metavar="DIR", help="A new folder, for all of the model.")],
    json: Json = False,
) -> int:
    """Write a model with its large weights packed: half the bytes of bf16, a scale a row.

    It takes little memory; after a stop the same command goes on.
    """
    import attrs

    from wanflow.cli.render_models import as_data, render_shrunk
    from wanflow.cli.shrink_progress import watch
    from wanflow.session.weights import shrink as shrinking

    with watch(silent=json) as watched:
        done = shrinking.shrink(path, to, output, watched)
    data = attrs.asdict(done, recurse=False) | {"inspected": as_data(done.inspected)}
    present(data, lambda console: render_shrunk(done, console), json=json)
    return 0


@app.command("fit-preview")
def fit_preview(
    path: Annotated[
        Path, Argument(metavar="PATH", help="A model's folder, or that or the file of a VAE.")
    ],
    *,
    clips: Annotated[
        list[Path] | None,
        Option("--clip", metavar="FILE", help="A video to fit on; else clips are drawn."),
    ] = None,
    vram: Annotated[str, Option(metavar="SIZE", envvar=VRAM.name)] = VRAM.default,
    device: Annotated[str, Option(metavar="NAME", envvar=DEVICE.name)] = DEVICE.default,
    json: Json = False,
) -> int:
    """Fit the colours of a VAE's latents, which --preview shows a clip in while it is denoised.

    Clips go through its encoder and its decoder; the map is kept for this VAE in the user's folder.
    """
    from wanflow.cli.render_models import fitted, render_fitted
    from wanflow.session.weights.fit_preview import fit_preview as fit

    watched = None if json else lambda number, count: note(f"clip {number} of {count}")
    done = fit(path, clips or (), vram=vram, device=device, watch=watched)
    present(fitted(done), lambda console: render_fitted(done, console), json=json)
    return 0
