"""Turn the first Ctrl-C or SIGTERM into a stop between two calls; the second one stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from wanflow.errors import Interrupted

_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@contextmanager
def stopping() -> Iterator[Callable[[], None]]:
    """Yield a function that raises Interrupted once a signal has come.

    Outside the main thread signals can't be caught; there the function never raises.
    """
    came: list[int] = []

    def catch(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt

    def stop() -> None:
        if came:
            name = signal.Signals(came[0]).name
            raise Interrupted(
                f"stopped by {name}",
                exit_code=_CODES[signal.Signals(came[0])],
                hint="what the trace has recorded up to here can be read",
            )

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, catch) for number in _CODES}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
