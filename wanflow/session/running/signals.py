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
    signals: list[int] = []

    def catch(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        if len(signals) > 1:
            raise KeyboardInterrupt

    def stop() -> None:
        if signals:
            raise _stopped(signals[0])

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, catch) for number in _CODES}
    try:
        yield stop
    except KeyboardInterrupt:
        if not signals:
            raise
        raise _stopped(signals[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stopped(number: int) -> Interrupted:
    """The exit code is that of the first signal; who keeps the state adds how to go on."""
    name = signal.Signals(number).name
    return Interrupted(f"stopped by {name}", exit_code=_CODES[signal.Signals(number)])
