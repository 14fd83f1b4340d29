"""The campaign: `python -m scripts.campaign [kills|cuts|faults] [--count N] [--report]`.

Without a kind: 1,000 kills, 200 power cuts, every operation of every command made to fail. What was
done is kept in the folder, and not done again. Exit 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.campaign.seam import load_shim

if TYPE_CHECKING:
    from scripts.campaign.forks import Disk
    from scripts.campaign.judged import Whole

SIZES = {"kills": 1000, "cuts": 200, "faults": 100_000}


def main() -> int:
    """Read the options, go on where the campaign was."""
    options = _options()
    folder: Path = options.out.resolve()
    if options.report:
        return _report(folder)
    folder.mkdir(parents=True, exist_ok=True)
    load_shim(folder)
    wrong = 0
    whole: dict[str, tuple[Disk, Whole]] = {}
    for kind in [options.kind] if options.kind else SIZES:
        wrong += _run(kind, folder, options, whole)
    _report(folder)
    return int(bool(wrong))


def _run(
    kind: str, folder: Path, options: argparse.Namespace, whole: dict[str, tuple[Disk, Whole]]
) -> int:
    from scripts.campaign.cases import CASES
    from scripts.campaign.fault_jobs import FAULTS, JOBS, Walk
    from scripts.campaign.faults import Faults
    from scripts.campaign.forks import warm
    from scripts.campaign.kills import Kills
    from scripts.campaign.seam import Shim

    warm()
    count = options.count or SIZES[kind]
    if kind == "faults":
        jobs, faults = _names(options.only, JOBS), _names(options.fault, FAULTS)
        pairs = [*itertools.product(jobs, faults)]
        walk = Walk(options.first, options.step, count, options.spread)
        return Faults(folder, Shim()).run(pairs, walk)
    trials = Kills(folder, Shim(), kind == "cuts", whole)
    return trials.run(_names(options.only, CASES), options.seed, count)


def _names(asked: str, known: Iterable[str]) -> list[str]:
    """Give those of *known* that were asked for; all without a word."""
    names = [name for name in known if not asked or name in asked.split(",")]
    if not names:
        raise SystemExit(f"{asked}: none of {', '.join(known)}")
    return names


def _report(folder: Path) -> int:
    from scripts.campaign.results import Results, table

    rows = [row for kind in SIZES for row in Results(folder / f"{kind}.jsonl").rows()]
    print(table(rows))
    for row in rows:
        for problem in row["problems"]:
            print(f"{row['key']}: {problem}\n  again: {row['again']}")
    return int(any(row["problems"] for row in rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.campaign", description=__doc__)
    parser.add_argument("kind", nargs="?", choices=list(SIZES), help="only these trials")
    parser.add_argument("--out", type=Path, default=Path("runs/campaign"), metavar="DIR")
    parser.add_argument("--only", default="", metavar="NAME,...", help="cases, or commands")
    parser.add_argument("--fault", default="", metavar="NAME,...", help="faults")
    parser.add_argument("--seed", type=int, default=0, help="of the first kill")
    parser.add_argument("--first", type=int, default=1, help="the first operation that fails")
    parser.add_argument("--step", type=int, default=1, help="every so many operations")
    parser.add_argument("--spread", type=int, default=0, metavar="N", help="about N of each pair")
    parser.add_argument("--count", type=int, default=0, help="trials; failing operations of each")
    parser.add_argument("--report", action="store_true", help="tell what was done so far")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
