"""Reading a trace is light."""

import subprocess
import sys

READ = """
import sys
import wanflow.trace
wanflow.trace.summarise(sys.argv[1]).to_dict()
print(sorted({"torch", "networkx", "rich", "numpy"} & set(sys.modules)))
from wanflow.trace.views import render_summary
print(sorted({"torch", "networkx", "numpy"} & set(sys.modules)))
"""


def test_loads_nothing_heavy(write, run, child_env) -> None:
    """Neither torch nor networkx, and rich only to draw."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(write(run))],
        env=child_env, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.splitlines() == ["[]", "[]"]


def test_public_names_exist() -> None:
    """What the package lists is there, and it is not much."""
    import wanflow.trace

    assert len(wanflow.trace.__all__) <= 15
    assert all(hasattr(wanflow.trace, name) for name in wanflow.trace.__all__)
