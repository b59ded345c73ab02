"""Requests to stop: which signals ask, and what they leave."""

import signal

from ovmse.system.signals import Stop


def test_a_terminal_that_closes_asks_to_stop_and_may_say_so_twice():
    told, before = [], signal.getsignal(signal.SIGHUP)
    with Stop(lambda: told.append(1)) as stop:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
    assert (stop.asked, stop.code, told) == (signal.SIGHUP, 129, [1])
    assert signal.getsignal(signal.SIGHUP) == before


def test_after_nohup_a_terminal_that_closes_asks_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop(lambda: None) as stop:
            signal.raise_signal(signal.SIGHUP)
        assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)
