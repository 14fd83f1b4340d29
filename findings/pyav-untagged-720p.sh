#!/bin/bash
# PyAV 18.1.0 (swscale) turns a video without colour tags to RGB by BT.601 at every size. Players and browsers take what is
# untagged for BT.709 from 720 lines on, so that a frame that is read is not the frame that is seen: of one and the same
# red, written as BT.709 numbers, the untagged file gives another red than the tagged one.
#
# Seen of (215, 30, 36): the tagged file gives (214, 28, 35), the untagged one (198, 9, 36). Exit 0 while they are so far apart.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check av==18.1.0 numpy
"$work/venv/bin/python" - "$work" <<'P'
import sys

import av
import numpy as np

BT709, LIMITED, UNSPECIFIED = 1, 1, 2
pixels = np.empty((720, 1280, 3), np.uint8)
pixels[:] = (215, 30, 36)


def first_pixel(path: str, *, tagged: bool) -> np.ndarray:
    """Write the colour as BT.709 numbers, with or without tags; read it back."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        if tagged:
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = LIMITED
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        if not tagged:
            frame.colorspace = UNSPECIFIED
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(path) as container:
        frame = next(container.decode(video=0))
        print("colour space tag", int(frame.colorspace), "->", tuple(frame.to_ndarray(format="rgb24")[360, 640].tolist()))
        return frame.to_ndarray(format="rgb24")[360, 640].astype(int)


right = first_pixel(f"{sys.argv[1]}/tagged.mp4", tagged=True)
wrong = first_pixel(f"{sys.argv[1]}/untagged.mp4", tagged=False)
raise SystemExit(not (abs(right - (215, 30, 36)).max() <= 3 and abs(wrong - right).max() > 10))
P
