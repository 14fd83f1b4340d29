#!/bin/bash
# gguf-py 0.19.0's GGUFReader makes several NumPy objects of every element of a list in the header. A text encoder's file has
# its tokenizer's words there, 256,384 of them for UMT5, with a score and a kind each: a header of 6 MB takes some 14 s and
# 700 MB to read, whatever is asked of the file.
#
# Seen with one small tensor beside such a header: 13.7 s, 660 MB more. Exit 0 while it takes over 300 MB.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check gguf==0.19.0
"$work/venv/bin/python" - "$work/umt5.gguf" <<'P'
import resource
import sys
import time
from pathlib import Path

import gguf
import numpy as np

WORDS = 256_384
writer = gguf.GGUFWriter(sys.argv[1], "t5encoder")
writer.add_token_list([f"word{number}" for number in range(WORDS)])
writer.add_token_scores([0.5] * WORDS)
writer.add_token_types([1] * WORDS)
writer.add_tensor("token_embd.weight", np.zeros((8, 32), np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.perf_counter()
gguf.GGUFReader(sys.argv[1])
more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
print(f"{Path(sys.argv[1]).stat().st_size >> 20} MiB: {time.perf_counter() - began:.1f} s, {more} MiB more at the peak")
raise SystemExit(not more > 300)
P
