"""Write docs/memory-tables.md.

python -m scripts.memory_tables [--plan]

Without --plan the page is written from what was planned last; with it all of it is planned anew,
which takes some minutes and neither weights nor a GPU.
"""

from __future__ import annotations

import argparse
import sys

from scripts.memory_tables.page import PAGE, render
from scripts.memory_tables.planned import digests, make, stored


def main(given: argparse.Namespace) -> int:
    """Plan if it is asked for, then write; 2 where the scenarios are others than were planned."""
    planned = make() if given.plan else stored()
    if planned["digests"] != digests():
        print("the scenarios have changed: --plan", file=sys.stderr)
        return 2
    PAGE.write_text(render(planned), encoding="utf-8")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--plan", action="store_true", help="plan anew")
    sys.exit(main(parser.parse_args()))
