#!/bin/bash
# torch 2.13.0: the first operation that goes to the __torch_dispatch__ of a tensor subclass imports torch.distributed.tensor,
# and with it sympy, some 500 modules, though nothing is distributed and no shape is symbolic: half a second to a second for
# every process that has tensors of a class of its own. An operation on plain tensors imports nothing.
#
# Seen: "subclass: torch.distributed.tensor sympy, 520 modules in 0.74 s; plain: nothing, 0 modules in 0.00 s". Exit 0 while
# the first has both and the second neither.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check torch==2.13.0 numpy
cat >"$work/one.py" <<'P'
import sys
import time

import torch


class Sized(torch.Tensor):
    @staticmethod
    def __new__(cls, shape, dtype):
        return torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device="cpu")

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return Sized(args[0].shape, args[0].dtype)


tensor = torch.ones(2) if sys.argv[1] == "plain" else Sized((2,), torch.float32)
before, start = len(sys.modules), time.perf_counter()
assert type(tensor * tensor) is type(tensor)
took = time.perf_counter() - start
seen = [name for name in ("torch.distributed.tensor", "sympy") if name in sys.modules]
print(f"{' '.join(seen) or 'nothing'}, {len(sys.modules) - before} modules in {took:.2f} s")
P
own=$("$work/venv/bin/python" "$work/one.py" subclass)
plain=$("$work/venv/bin/python" "$work/one.py" plain)
echo "subclass: $own; plain: $plain"
[[ $own == "torch.distributed.tensor sympy,"* && $plain == "nothing,"* ]]
