"""Fork runs and end each with SIGKILL when it has made a value for the n-th time.

Usage: python kill_at.py GRAPH INPUTS NAME:N:FOLDER... INPUTS is JSON. One import for all of them.
Runs that are to end at a preview make one of each step.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import attrs
import torch

from wanflow.session import Request, run


@attrs.define
class Killer:
    """A watch that ends its process at the *left*-th tensor of a *name*."""

    name: str
    left: int

    def __call__(self, _stage: str, name: str, _tensor: torch.Tensor) -> None:
        """See a value."""
        self.left -= name == self.name
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run and wait, one after the other."""
    graph, inputs, *places = sys.argv[1:]
    for place in places:
        name, count, folder = place.split(":", 2)
        pid = os.fork()
        if not pid:
            every = int(name.endswith(".preview"))
            request = Request(
                graph, json.loads(inputs), device="cpu", exact=True, preview_every=every
            )
            run(request, out=Path(folder), watch=Killer(name, int(count)))
            os._exit(0)
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    main()
