"""What loading a graph imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "diffusers", "transformers", "numpy", "networkx", "pydantic", "rich", "typer")


def imported(program: str) -> set[str]:
    """Run a program and give the modules it left loaded."""
    child = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys; print(*sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return set(child.stdout.split())


@pytest.mark.parametrize(
    "program",
    [
        "import wanflow.graph",
        "from wanflow.graph import *; load('t2v-tiny')",
        "from wanflow.graph import *; bind(load('t2v-1.3b'), allow_missing_text=True)",
        "from wanflow.graph import *; describe(load('t2v-tiny'))",
        "from wanflow.graph.schema import *; schema_text()",
    ],
)
def test_nothing_heavy_is_loaded(program: str) -> None:
    """`graph check` starts at once on a machine without torch."""
    assert not imported(program) & set(HEAVY)


def test_import_alone_loads_no_yaml() -> None:
    """Nor what only a wrong file needs."""
    assert not imported("import wanflow.graph") & {"yaml", "difflib"}


def test_a_wrong_file_loads_nothing_heavy_either() -> None:
    """Telling problems, a cycle among them, takes the standard library."""
    program = (
        "from wanflow.graph import *\n"
        "for name in ('cycle', 'many'):\n"
        "    try: load(f'tests/graphs/bad/{name}.yaml')\n"
        "    except GraphError as error: assert error.problems\n"
    )
    assert not imported(program) & set(HEAVY)
