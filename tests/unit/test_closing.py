"""Environments whose `close` raises, hangs, or takes too long together."""

import time

import pytest

from hpcq.envs import guest


class Sleeper:
    """Its `close` takes a while, and is noted when it is over."""

    def __init__(self, seconds, log):
        self.seconds, self.log = seconds, log

    def close(self):
        time.sleep(self.seconds)
        self.log.append(self)


def test_a_close_that_never_returns_is_left(monkeypatch):
    monkeypatch.setattr(guest, "CLOSE_SECONDS", 0.2)
    log, began = [], time.monotonic()
    guest.close(Sleeper(60, log))
    assert time.monotonic() - began < 10
    quick = Sleeper(0, log)
    guest.close(quick)
    assert log == [quick]
    # No alarm is left behind.
    time.sleep(0.3)


def test_what_close_raises_is_ignored():
    class Wrong:
        def close(self):
            raise SystemExit(3)

    guest.close(Wrong())
    guest.close(object())


def test_past_the_time_nothing_is_closed():
    log = []
    guest.close(Sleeper(0, log), time.monotonic() - 1)
    assert not log


def test_the_handler_of_others_stays(monkeypatch):
    import signal

    def theirs(number, frame):
        pytest.fail("not their alarm")

    before = signal.signal(signal.SIGALRM, theirs)
    try:
        guest.close(Sleeper(0, []))
        assert signal.getsignal(signal.SIGALRM) is theirs
    finally:
        signal.signal(signal.SIGALRM, before)
