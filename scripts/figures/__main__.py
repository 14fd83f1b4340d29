"""Draw docs/figures.

python -m scripts.figures [--plan [GRAPH ..]] [--run]

Without options the figures are drawn from what was planned and what ran last. --plan plans the
shipped graphs anew at several budgets, a minute each; --run runs the tiny model on this computer.
"""

from __future__ import annotations

import argparse

from benchmarks.lib.environment import ROOT
from scripts.figures import planned, runs
from scripts.figures.drawn import everything
from scripts.memory_tables.planned import stored

FOLDER = ROOT / "docs" / "figures"


def main(given: argparse.Namespace) -> None:
    """Make anew what is asked for, then draw."""
    swept = planned.stored() if given.plan is None else planned.make(given.plan)
    ran = runs.make() if given.run else runs.stored()
    everything(swept, ran, stored(), FOLDER)
    print(f"wrote {FOLDER}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--plan", nargs="*", metavar="GRAPH", help="plan these, or all, anew")
    parser.add_argument("--run", action="store_true", help="run the tiny model anew")
    main(parser.parse_args())
