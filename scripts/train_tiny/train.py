"""Train the tiny model: autoencoder, pool of latents, text encoder with transformer; then write it.

Usage: python -m scripts.train_tiny.train FOLDER [--out FOLDER] [--quiet FILE] [--steps N]

FOLDER keeps the checkpoints and `log.jsonl`; the same command goes on from them. While the file of
`--quiet` exists, nothing is computed. `--out` writes the averaged weights of the last checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from scripts.train_tiny import dit, shapes, vae
from scripts.train_tiny.export import export
from scripts.train_tiny.pool import SHARD, Pool, make_shard, read_pool

SEED = 20261125
_SHARDS = (8, 24)  # at the start, at the end
_SHARD_EVERY = 150  # steps


def latent_scale(pool: Pool) -> torch.Tensor:
    """Mean and deviation of each channel: `[2, 16, 1, 1, 1]`."""
    over = (0, 2, 3, 4)
    both = torch.stack([pool.latents.mean(over), pool.latents.std(over)])
    return both.view(2, -1, 1, 1, 1)


def trained_vae(folder: Path, quiet: Path | None) -> Any:
    """Give the autoencoder, trained as far as it is not yet."""
    torch.manual_seed(SEED)
    made = vae.new_vae(shapes.VAE)
    vae.train(made, folder, SEED, quiet)
    return made


class Growing:
    """The pool at a step: it starts small, so that training does, and grows."""

    def __init__(self, encoder: Any, folder: Path, quiet: Path | None) -> None:
        self.encoder, self.folder, self.quiet = encoder, folder, quiet
        self._pool: Pool | None = None

    def __call__(self, step: int) -> Pool:
        """Make the shards that the step needs, and read what is there then."""
        first, last = _SHARDS
        wanted = min(first + step // _SHARD_EVERY, last)
        if self._pool is None or len(self._pool) < wanted * SHARD:
            for number in range(wanted):
                make_shard(self.encoder, self.folder, SEED + 100, number, self.quiet)
            self._pool = read_pool(self.folder, wanted)
        return self._pool


def write(folder: Path, encoder: Any, out: Path) -> None:
    """Write the averaged weights of the last checkpoints, and the latents' scale."""
    scale = latent_scale(read_pool(folder / "pool", _SHARDS[0]))
    model = dit.Model()
    average = dit.Average(model)
    average.load_state_dict(torch.load(folder / "dit.pt", weights_only=True)["average"])
    average.copy_to(model)
    if (folder / "decoder.pt").is_file():
        encoder.load_state_dict(torch.load(folder / "decoder.pt", weights_only=True)["vae"])
    print(f"Wrote {out}: {export(model, encoder, scale, out)} bytes")


def main() -> None:
    """Go on from the last checkpoint of each phase."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quiet", type=Path)
    parser.add_argument("--steps", type=int, default=dit.Course().steps)
    parser.add_argument("--text-steps", type=int, default=500)
    parser.add_argument("--decoder-steps", type=int, default=700)
    parser.add_argument(
        "--only", choices=("decoder", "dit", "export"), help="this, beside the others"
    )
    given = parser.parse_args()
    encoder = trained_vae(given.folder, given.quiet)
    if given.only == "decoder":
        vae.train_decoder(encoder, given.folder, SEED + 300, given.quiet, given.decoder_steps)
        return
    if given.only == "export":
        write(given.folder, encoder, given.out)
        return
    torch.manual_seed(SEED)
    model = dit.Model()
    dit.train_text(model, given.folder, seed=SEED + 400, quiet=given.quiet, steps=given.text_steps)
    growing = Growing(encoder, given.folder / "pool", given.quiet)
    scale = latent_scale(growing(0))
    course = dit.Course(steps=given.steps)
    dit.train(
        model, growing, scale, given.folder, seed=SEED + 200, quiet=given.quiet, course=course
    )
    if given.only == "dit":
        return
    vae.train_decoder(encoder, given.folder, SEED + 300, given.quiet, given.decoder_steps)
    if given.out is not None:
        write(given.folder, encoder, given.out)


if __name__ == "__main__":
    main()
