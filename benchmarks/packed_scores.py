"""Does the tiny model still show what its prompt says, with packed weights? The judge is asked.

    python -m benchmarks.packed_scores [--count 100] [--forms plain int8 fp8]
                                       [--weights NAME=PATH ...]

Runs `t2v-tiny` for the prompts and seeds of the training's report, once in each form (`--precision`
for transformer and text encoder; `--weights` another file or folder for the transformer), reads the
mp4 back and judges it. Prints percent right of each aspect, the mean, and how like the clips are to
the plain ones (PSNR); then one JSON object, which goes into benchmarks/results/ too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lib.report import keep, machine_line
from scripts.train_tiny.evaluate import Case, cases, likeness, share, verdicts
from scripts.train_tiny.judge import judge, read_video
from wanflow.session import Request, run

PLAIN = "plain"
_SAME_DECIBELS = 99.0  # what equal clips count as


def asked(case: Case, form: str, weights: dict[str, str]) -> Request:
    """A run of one prompt."""
    inputs: dict[str, str | int] = {"prompt": case.prompt, "seed": case.seed}
    precision = () if form == PLAIN or form in weights else (form,)
    given = (f"dit={weights[form]}",) if form in weights else ()
    return Request(
        "t2v-tiny", inputs, device="cpu", precision=precision, weights=given, prompt_cache=False
    )


def clips(form: str, every: list[Case], weights: dict[str, str]) -> list[NDArray[np.uint8]]:
    """Run every case and read its video."""
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(every):
            out = Path(folder) / str(number)
            run(asked(case, form, weights), out=out)
            made.append(read_video(out / "video.mp4"))
    return made


def main(given: argparse.Namespace) -> None:
    """Run, judge, print and keep."""
    weights = dict(text.split("=", 1) for text in given.weights)
    every = cases("final", given.count)
    plain: list[NDArray[np.uint8]] = []
    rows: list[dict[str, Any]] = []
    for form in (PLAIN, *(f for f in given.forms if f != PLAIN), *weights):
        made = clips(form, every, weights)
        plain = plain or made
        found = share([verdicts(c, judge(clip)) for c, clip in zip(every, made, strict=True)])
        alike = [
            min(likeness(clip, other), _SAME_DECIBELS)
            for clip, other in zip(made, plain, strict=True)
        ]
        rows.append(
            {"form": form, **found, "mean": round(fmean(found.values()), 2),
             "psnr_median": round(median(alike), 1), "psnr_least": round(min(alike), 1)}
        )  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    report = {
        "benchmark": "packed_scores", "machine": machine_line("cpu"), "count": given.count,
        "rows": rows,
    }  # fmt: skip
    keep(report, given.out)
    print(json.dumps(report))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--forms", nargs="+", default=["plain", "int8", "fp8"])
    parser.add_argument("--weights", nargs="*", default=[], metavar="NAME=PATH")
    parser.add_argument("--out", type=Path, help="where the JSON goes [benchmarks/results]")
    main(parser.parse_args())
