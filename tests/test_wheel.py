"""The wheel carries graphs and the tiny model, and nothing that could get into anybody's way."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, unpacked as an installation would be."""
    folder = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(folder))
    with zipfile.ZipFile(built) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def wanflow(site: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the installed command from a folder that has nothing to do with it."""
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "wanflow", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_top_level_is_ours_alone(unpacked: Path) -> None:
    """One package and its metadata: no module `cli`, no `tests`, no `graphs`."""
    names = {path.name for path in unpacked.iterdir()}

    assert {name for name in names if not name.endswith(".dist-info")} == {"wanflow"}


def test_typed(unpacked: Path) -> None:
    """Type checkers may look inside; the graphs lie beside the code, and the page's files in it."""
    assert (unpacked / "wanflow" / "py.typed").is_file()
    assert (unpacked / "wanflow" / "watch" / "page" / "main.js").is_file()
    assert (unpacked / "wanflow" / "_graphs" / "t2v-tiny.yaml").is_file()


def test_shipped_graph_runs_from_anywhere(unpacked: Path, tmp_path: Path) -> None:
    """The graph and the weights are found in the installation."""
    done = wanflow(unpacked, "run", "t2v-tiny", "-i", "steps=1", "-i", "frames=1", cwd=tmp_path)

    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert list(tmp_path.glob("runs/*/video.mp4"))
