"""A file as an answer, with ranges, from a handle that is open: no name is followed again."""

from __future__ import annotations

import os

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from wanflow.watch.tree import path_of

_TYPES = {
    ".mp4": "video/mp4", ".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg", ".json": "application/json", ".msgpack": "application/octet-stream",
}  # fmt: skip
_SAVED = (".msgpack",)
_GROWS = (".msgpack", ".json")
_KEPT = "private, max-age=604800, immutable"  # its address has the time of its last change


class OpenFileResponse(FileResponse):
    """The file of a handle, which is closed with the answer. *name* says its type."""

    def __init__(self, handle: int, name: str) -> None:
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122  a name, no path
        super().__init__(
            path_of(handle),
            headers={"cache-control": "no-store" if suffix in _GROWS else _KEPT},
            media_type=_TYPES[suffix],
            filename=os.path.basename(name),  # noqa: PTH119  the same
            stat_result=os.fstat(handle),
            content_disposition_type="attachment" if suffix in _SAVED else "inline",
        )
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and let go of it however that ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self._handle)
