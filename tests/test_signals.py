"""SIGTERM and SIGINT while work is in hand: it is told to stop, and what they did before is back after."""

import os
import signal
import threading

from headwater.signals import stopped_by


def test_both_signals_call_stop_and_then_do_what_they_did_before() -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    told: list[str] = []
    with stopped_by(lambda: told.append("stop")):
        for one in before:
            os.kill(os.getpid(), one)
    assert told == ["stop", "stop"]
    assert {one: signal.getsignal(one) for one in before} == before


def test_another_thread_is_left_as_it_is() -> None:
    held: list[object] = []

    def work() -> None:
        with stopped_by(lambda: None):
            held.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert held == [signal.getsignal(signal.SIGTERM)]
