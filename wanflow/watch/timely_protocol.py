"""HTTP for clients that get on: one that keeps a connection and does nothing with it loses it."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

REQUEST_SECONDS = 10.0  # to send a request: from the connection on, or from the answer before
ANSWER_SECONDS = 600.0  # to take more of an answer; a player that is paused longer asks anew


class TimelyProtocol(H11Protocol):
    """uvicorn's connection, which would wait for the rest of half a request for ever.

    Then 64 of them keep everybody else out for as long as who sent them likes.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._got_on = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """See whether a whole request came; a byte of one is none."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._got_on = self.loop.time()

    def on_response_complete(self) -> None:
        """See that it was answered."""
        self._got_on = self.loop.time()
        super().on_response_complete()

    def resume_writing(self) -> None:
        """See that some of an answer was taken."""
        self._got_on = self.loop.time()
        super().resume_writing()

    def _look(self) -> None:
        """Let go of a connection that got on too long ago, without a word: nobody would read it."""
        left = self._got_on + self._patience() - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
        else:
            self.transport.abort()

    def _patience(self) -> float:
        asked: RequestResponseCycle | None = self.cycle  # None before the first request
        answering = asked is not None and not asked.response_complete
        takes = answering or self.transport.get_write_buffer_size() > 0
        return ANSWER_SECONDS if takes else REQUEST_SECONDS
