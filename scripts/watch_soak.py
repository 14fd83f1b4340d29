"""Watch a folder while a run goes on in it, and hold the server's memory and handles to be flat.

`python -m scripts.watch_soak RUNS [--minutes 5]`: asks as two open pages do, each second, for what
runs and for each run, and prints a line every half minute. Exit 1 where the server's
memory grew by more than 8 MiB after the first quarter of the time, or its open files by more
than one.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from scripts.watch_check import answer, served_as

MOST_GROWTH_KIB = 8 * 1024


def rss_kib(pid: int) -> int:
    """Give what a process has in RAM."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def main(words: list[str]) -> int:
    """Ask, and look."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    given = parser.parse_args(words)
    seen: list[tuple[int, int]] = []
    damaged = False
    with served_as(given.runs) as (url, pid):
        began, asked, said = time.monotonic(), 0, 0.0
        while (now := time.monotonic() - began) < 60 * given.minutes:
            for _ in range(2):
                running = answer(url, "/api/now")["running"]
                asked += 1 + len(running)
                for run in running:
                    told = answer(url, f"/api/runs/{run['key']}").get("summary")
                    damaged = damaged or (told is not None and told["state"] == "damaged")
            for run in answer(url, "/api/runs")["runs"][:3]:
                answer(url, f"/api/runs/{run['key']}")
                asked += 1
            seen.append((rss_kib(pid), len(list(Path(f"/proc/{pid}/fd").iterdir()))))
            if now >= said:
                step = [run["head"] and run["head"]["step"] for run in running]
                took, files = seen[-1]
                print(f"{now:5.0f} s  {took} KiB  {files} files  {asked} asked  steps {step}")
                sys.stdout.flush()
                said += 30
            time.sleep(1)
    later = seen[len(seen) // 4 :]
    grown, files = later[-1][0] - later[0][0], later[-1][1] - later[0][1]
    print(f"after the first quarter: {grown:+} KiB, {files:+} files, {asked} requests")
    if damaged:
        print("a trace that goes on was taken for damaged")
    return 1 if grown > MOST_GROWTH_KIB or files > 1 or damaged else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
