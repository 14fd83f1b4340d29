"""Signals: the first one stops between two calls, the second at once."""

import os
import signal
import threading

import pytest

from wanflow.errors import Interrupted
from wanflow.session.running.signals import stopping

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.mark.parametrize("number", SIGNALS)
class TestStopping:
    """SIGINT and SIGTERM while a run goes on."""

    def test_first(self, number):
        """The signal itself stops nothing; the next question does, with its exit code."""
        with stopping() as stop:
            stop()
            os.kill(os.getpid(), number)
            with pytest.raises(Interrupted, match=signal.Signals(number).name) as caught:
                stop()
        assert caught.value.exit_code == SIGNALS[number]
        assert caught.value.code == "interrupted"

    def test_every_question(self, number):
        """Once a signal has come every question is answered by it."""
        with stopping() as stop:
            os.kill(os.getpid(), number)
            for _ in range(2):
                with pytest.raises(Interrupted):
                    stop()

    def test_second(self, number):
        """The second one doesn't wait to be asked."""
        with stopping():
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)

    def test_handlers_come_back(self, number):
        """Afterwards signals do what they did before."""
        before = signal.getsignal(number)
        with stopping():
            assert signal.getsignal(number) != before
        assert signal.getsignal(number) == before

    def test_handlers_come_back_after_a_failure(self, number):
        """A run that fails puts them back as well."""
        before = signal.getsignal(number)
        with pytest.raises(ZeroDivisionError), stopping():
            raise ZeroDivisionError
        assert signal.getsignal(number) == before


class TestFirstCounts:
    """Two different signals."""

    def test_exit_code(self):
        """The exit code is the first one's."""
        with stopping() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(Interrupted) as caught:
                stop()
        assert caught.value.exit_code == 143


class TestThread:
    """Outside the main thread."""

    def test_never_raises(self):
        """A run in a thread goes on: its signals are somebody else's."""
        before, seen = signal.getsignal(signal.SIGINT), []

        def run():
            with stopping() as stop:
                stop()
                seen.append(signal.getsignal(signal.SIGINT))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert seen == [before]
