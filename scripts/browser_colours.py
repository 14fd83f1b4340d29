"""Show a video in headless Chromium and compare the colours in its canvas with those written.

`python -m scripts.browser_colours` writes a frame of plain fields at three sizes. Exit 1 if any
colour is off by more than 4 levels: untagged, Chromium takes another matrix. Needs `chromium`.
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.browser_check import FLAGS, listening
from wanflow.stages.video_file import VideoFile

SIZES = ((192, 96), (832, 480), (1280, 720))
FIELDS = np.array(
    [[(215, 30, 36), (255, 0, 0), (0, 255, 0), (0, 0, 255)],
     [(128, 128, 128), (255, 255, 255), (200, 150, 120), (30, 90, 60)]], np.uint8,
)  # fmt: skip
MOST_OFF, MOST_SECONDS = 4, 60
# By its software renderer: without one, libyuv's blue is off by up to 12 levels.
OPTIONS = (
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
PAGE = """<video id="video" muted loop src="data:video/mp4;base64,{video}"></video>
<script>
video.requestVideoFrameCallback(() => {{
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  canvas.width = {width}; canvas.height = {height};
  context.drawImage(video, 0, 0);
  const seen = {points}.map(([x, y]) => [...context.getImageData(x, y, 1, 1).data].slice(0, 3));
  new Image().src = "http://127.0.0.1:{port}/" + JSON.stringify(seen);
}});
video.play();
</script>"""


def shown(width: int, height: int, folder: Path) -> NDArray[np.uint8] | None:
    """Give the colours `[2, 4, 3]` that the browser shows; None where it shows no frame."""
    tall, wide = height // 2, width // 4
    frame = FIELDS.repeat(tall, 0).repeat(wide, 1)
    video = VideoFile(folder / "video.mp4", Fraction(16), None)
    video.write(np.stack([frame] * 9))
    video.finish()
    video.close()
    points = [[wide * x + wide // 2, tall * y + tall // 2] for y in range(2) for x in range(4)]
    data = base64.b64encode(video.path.read_bytes()).decode("ascii")
    page, flags = folder / "page.html", [flag for flag in FLAGS if flag != "--disable-gpu"]
    with listening() as (port, requests):
        page.write_text(
            PAGE.format(video=data, width=width, height=height, points=points, port=port)
        )
        command = [shutil.which("chromium") or "chromium", *flags, *OPTIONS,
                   f"--user-data-dir={folder / 'profile'}", page.as_uri()]  # fmt: skip
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as browser:
            until = time.monotonic() + MOST_SECONDS
            while not requests and time.monotonic() < until:
                time.sleep(0.1)
            browser.terminate()
    levels = re.findall(rb"\d+", requests[0].partition(b" HTTP")[0]) if requests else []
    fits = len(levels) == FIELDS.size
    return np.array(levels, np.uint8).reshape(FIELDS.shape) if fits else None


def main() -> int:
    """Check each size."""
    wrong = 0
    for width, height in SIZES:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            seen = shown(width, height, Path(name))
        off = None if seen is None else int(np.abs(seen.astype(int) - FIELDS).max())
        wrong += off is None or off > MOST_OFF
        print(f"{width}*{height}: {'no frame' if off is None else f'off by at most {off}'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
