"""How far off the predicted time is on a computer that nothing is known of, and at a second run.

    python benchmarks/first_run.py [ENVIRONMENTS]

ENVIRONMENTS (10) times: fresh folders for configuration, caches and data, then `wanflow run
t2v-tiny` twice, each as a process of its own. Before the first plan it measures the CPU. Prints a
JSON line a run, and at the end one object: for the first and the second run the median and the
middle half of what was predicted, what it took, and their difference as a share of what it took.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles

from benchmarks.lib.environment import ROOT, child_environment

PROMPT = "a red circle grows"
HOMES = ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")
Row = dict[str, float]


def run(folder: Path, number: int) -> Row:
    """Run once in the environment of *folder*."""
    homes = {name: str(folder / name) for name in HOMES}
    around = child_environment(**homes)
    plain = {name: value for name, value in around.items() if not name.startswith("WANFLOW_")}
    words = ["run", "t2v-tiny", "--device", "cpu", "--prompt", PROMPT, "--json"]
    command = [sys.executable, "-m", "wanflow", *words, "--out", str(folder / f"run-{number}")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=plain, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads(done.stdout)
    predicted, seconds = report["predicted_seconds"], report["seconds"]
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "run": number, "predicted_seconds": predicted, "seconds": seconds,
        "difference": predicted / seconds - 1, "processor_seconds": processor,
    }  # fmt: skip


def probe_seconds(folder: Path) -> float:
    """Read how long the probe took, as the machine that it left says."""
    stored = json.loads((folder / HOMES[0] / "wanflow/machines/cpu.json").read_text())
    return float(stored["about"].rpartition(" in ")[2].removesuffix(" s"))


def summed(rows: list[Row]) -> dict[str, object]:
    """The median, and the middle half, of each column."""
    told: dict[str, object] = {}
    for name in ("predicted_seconds", "seconds", "difference"):
        column = [row[name] for row in rows]
        low, _, high = quantiles(column, n=4, method="inclusive") if column[1:] else column * 3
        told[name] = {
            "median": round(median(column), 4),
            "from": round(low, 4),
            "to": round(high, 4),
        }
    return told | {"median_error": round(median(abs(row["difference"]) for row in rows), 4)}


def main(environments: int) -> None:
    """Measure and print."""
    rows: list[Row] = []
    probes: list[float] = []
    for environment in range(environments):
        with tempfile.TemporaryDirectory() as name:
            for number in (1, 2):
                rows.append(run(Path(name), number))
                print(json.dumps({"environment": environment, **rows[-1]}), flush=True)
            probes.append(probe_seconds(Path(name)))
    machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "load": os.getloadavg()}
    told = {"benchmark": "first_run", "machine": machine, "environments": environments}
    first, second = ([row for row in rows if row["run"] == number] for number in (1, 2))
    probe = {"median": median(probes), "most": max(probes)}
    print(
        json.dumps(
            {**told, "probe_seconds": probe, "first": summed(first), "second": summed(second)}
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
