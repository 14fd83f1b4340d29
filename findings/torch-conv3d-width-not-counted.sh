#!/bin/bash
# torch 2.13.0 on a CPU, fp32: whether conv3d of one clip goes to oneDNN or to the old kernel, which writes all columns into
# memory, is decided by batch * channels * frames * height: the width is not counted (ConvParams::use_mkldnn, which was made
# for pictures, takes the first four sizes). So a video that lies and the same video turned take different kernels. The
# shapes are those of the first convolution of Wan's VAE encoder at 720p, padded: 3 colours, 4 frames and 2 of before.
#
# Seen: "1280x720: slow_conv3d, 1251 MiB more; 720x1280: mkldnn_convolution, 344 MiB more". Exit 0 while the kernels are
# these two and the first takes more than twice as much.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check torch==2.13.0 numpy
cat >"$work/one.py" <<'P'
import resource
import sys

import torch
from torch.profiler import profile

width, height = map(int, sys.argv[1:])
clip, weight = torch.ones(1, 3, 6, height + 2, width + 2), torch.ones(8, 3, 3, 3, 3)
with torch.no_grad(), profile() as profiler:
    torch.nn.functional.conv3d(torch.ones(1, 3, 3, 8, 8), weight)  # so that what the profiler takes is there before
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.nn.functional.conv3d(clip, weight)
more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
names = {event.key for event in profiler.key_averages()}
print("mkldnn_convolution" if "aten::mkldnn_convolution" in names else "slow_conv3d", more)
P
read -r wide wide_mib < <("$work/venv/bin/python" "$work/one.py" 1280 720 2>/dev/null)
read -r tall tall_mib < <("$work/venv/bin/python" "$work/one.py" 720 1280 2>/dev/null)
echo "1280x720: $wide, $wide_mib MiB more; 720x1280: $tall, $tall_mib MiB more"
[[ $wide == slow_conv3d && $tall == mkldnn_convolution && $wide_mib -gt $((2 * tall_mib)) ]]
