"""No window of the limit's length ever holds more calls than allowed, as the destination sees them, and most of it is used."""

import heapq
import random
import shutil
import threading
from itertools import count
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater.activation import limits
from headwater.activation.destinations import Limits
from headwater.activation.limits import LOST_SECONDS, RateLimit
from headwater.activation.settings import DestinationSettings
from headwater.testing.fake_destination import SHELVES, Shelf


class Hand:
    """A clock moved by sleeping and by hand."""

    def __init__(self):
        self.at = 100.0

    def now(self):
        return self.at

    def sleep(self, seconds):
        assert seconds > 0
        self.at += seconds


def calling(limit, hand, threads, until, there, back):
    """So many callers that call as often as they may: the moments at which the calls arrive. `there` and `back` give seconds
    on the way to the destination and from there."""
    arrivals, order = [], count()
    due = [(hand.at, next(order), caller, False) for caller in range(threads)]
    waiting = []
    while due:
        hand.at, _, caller, answer = heapq.heappop(due)
        if hand.at >= until:
            break
        if answer:
            limit.answered(caller)
            due += [(hand.at, next(order), one, False) for one in (caller, *waiting)]
            heapq.heapify(due)
            waiting = []
            continue
        rest = limit.ask(caller)
        if rest == float("inf"):
            waiting.append(caller)
        elif rest > 0:
            heapq.heappush(due, (hand.at + rest, next(order), caller, False))
        else:
            arrivals.append(hand.at + there())
            heapq.heappush(due, (arrivals[-1] + back(), next(order), caller, True))
    return sorted(arrivals)


def most_in_a_window(arrivals, seconds):
    first = most = 0
    for number, at in enumerate(arrivals):
        while at - arrivals[first] >= seconds:
            first += 1
        most = max(most, number - first + 1)
    return most


LATENCIES = st.tuples(st.sampled_from([0.0, 0.001, 0.05, 0.4]), st.sampled_from([0.0, 0.3, 2.0]))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 30), st.sampled_from([1.0, 10.0]), st.integers(1, 8), LATENCIES, LATENCIES, st.integers())
@example(19, 1.0, 4, (0.05, 0.3), (0.0, 0.0), 0)
def test_never_more_than_allowed_arrive_in_any_window(calls, seconds, threads, there, back, seed):
    hand, draw = Hand(), random.Random(seed)
    limit = RateLimit(calls, seconds, now=hand.now)

    def took(usual, now_and_then):
        return draw.uniform(0, usual) + (draw.random() < 0.05) * now_and_then

    arrivals = calling(limit, hand, threads, 100 + 8 * seconds, lambda: took(*there), lambda: took(*back))
    assert most_in_a_window(arrivals, seconds) <= calls


@settings(deadline=None, max_examples=10)
@given(st.floats(0.01, 0.15), st.integers(2, 16), st.integers())
def test_ninety_five_hundredths_of_hubspots_limit_are_used(latency, threads, seed):
    hand, draw = Hand(), random.Random(seed)
    limit = RateLimit(190, 10.0, now=hand.now)
    arrivals = calling(
        limit, hand, max(threads, 5), 150.0, lambda: draw.uniform(0, latency), lambda: draw.uniform(0, latency)
    )
    assert most_in_a_window(arrivals, 10.0) <= 190
    assert len(arrivals) >= 0.95 * 190 * 5


def test_a_full_window_is_used_at_once_and_the_next_call_waits(monkeypatch):
    monkeypatch.setattr(limits, "APART", 1.0)
    hand = Hand()
    limit = RateLimit(3, 10.0, now=hand.now, sleep=hand.sleep)
    made = []
    for _ in range(7):
        limit.wait()
        made.append(hand.at - 100)
    assert made == [0, 0, 0, 10, 10, 10, 20]


def test_a_call_counts_until_a_window_after_its_answer(monkeypatch):
    monkeypatch.setattr(limits, "APART", 1.0)
    hand = Hand()
    limit = RateLimit(1, 10.0, now=hand.now, sleep=hand.sleep)
    with limit.call():
        hand.at += 3.0
        assert limit.ask("another") == float("inf")
    assert limit.ask("another") == 10.0


def test_clocks_that_run_apart_are_allowed_for():
    hand = Hand()
    limit = RateLimit(1, 10.0, now=hand.now, sleep=hand.sleep)
    limit.wait()
    limit.wait()
    assert hand.at == pytest.approx(110.01)


def test_nobody_calls_while_the_destination_asked_for_a_pause():
    hand = Hand()
    limit = RateLimit(5, 1.0, now=hand.now, sleep=hand.sleep)
    limit.pause(30.0)
    limit.wait()
    assert hand.at == 130.0


@pytest.mark.parametrize(("rate", "window", "calls", "seconds"), [(19, 10, 190, 10), (0.25, 1, 1, 4), (2.5, 1, 2, 0.8)])
def test_a_rate_a_second_over_a_window(rate, window, calls, seconds):
    limit = RateLimit.per_second(rate, window)
    assert (limit.calls, limit.seconds) == (calls, pytest.approx(seconds * limits.APART))


def test_the_next_process_knows_what_the_last_one_called(tmp_path):
    hand, place = Hand(), tmp_path / ".limits" / "crm"
    last = RateLimit(3, 10.0, place=place, now=hand.now)
    assert [last.ask(caller) for caller in "ab"] == [0.0, 0.0]
    hand.at += 1
    last.answered("a")
    hand.at += 1
    following = RateLimit(3, 10.0, place=place, now=hand.now)
    assert following.ask("c") == 0.0
    following.answered("c")
    assert following.ask("d") == pytest.approx(9.01), "a's answer is a second old"
    hand.at += 9.02
    assert following.ask("d") == 0.0
    hand.at += 1
    assert following.ask("e") == 0.0
    assert following.ask("f") == pytest.approx(LOST_SECONDS + 10.01 - 12.02), "b was killed before its answer"


def test_calls_of_another_limit_count_and_moments_that_cannot_be_do_not(tmp_path):
    hand, place = Hand(), tmp_path / "crm"
    RateLimit(5, 10.0, place=place, now=hand.now).ask("a")
    larger = RateLimit(2, 10.0, place=place, now=hand.now)
    assert larger.ask("b") == 0.0
    assert larger.ask("c") > 0
    hand.at = 0.0  # the machine was started anew
    assert RateLimit(2, 10.0, place=place, now=hand.now).ask("c") == 0.0


def test_one_limit_per_destination_shared_by_all_syncs(tmp_path):
    assert limits.shared(tmp_path, "crm", 5.0) is limits.shared(tmp_path, "crm", 5.0)
    assert limits.shared(tmp_path, "crm", 5.0) is not limits.shared(tmp_path, "other", 5.0)
    assert limits.shared(tmp_path, "crm", 5.0) is not limits.shared(tmp_path / "another", "crm", 5.0)
    assert limits.shared(tmp_path, "crm", None) is None


def test_threads_share_it_and_are_woken_by_an_answer():
    limit = RateLimit(2, 0.001)
    inside, most, lock = [], [], threading.Lock()

    def work(name):
        for _ in range(5):
            with limit.call():
                with lock:
                    inside.append(name)
                    most.append(len(inside))
                with lock:
                    inside.remove(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 20
    assert max(most) <= 2


def test_the_limit_is_kept_beside_the_warehouse(tmp_path):
    with limits.shared(tmp_path, "a/crm", 5.0).call():
        pass
    (kept,) = (one for one in tmp_path.rglob("*") if one.is_file())
    assert kept.relative_to(tmp_path).parts == ("warehouse", "limits", "a%2fcrm")


def test_a_folder_that_is_removed_meanwhile_loses_nothing_and_comes_again(tmp_path):
    hand, place = Hand(), tmp_path / "limits" / "crm"
    limit = RateLimit(2, 10.0, place=place, now=hand.now)
    assert limit.ask("a") == 0.0
    shutil.rmtree(place.parent)
    limit.answered("a")
    assert limit.ask("b") == 0.0
    shutil.rmtree(place.parent)
    assert limit.ask("c") == pytest.approx(10.01)
    limit.answered("b")
    assert RateLimit(2, 10.0, place=place, now=hand.now).ask("c") == pytest.approx(10.01), "both calls are known"


def test_a_file_that_cannot_be_written_or_read_is_done_without(tmp_path):
    hand = Hand()
    (tmp_path / "limits").write_text("a file where the folder should be")
    limit = RateLimit(1, 10.0, place=tmp_path / "limits" / "crm", now=hand.now)
    assert limit.ask("a") == 0.0
    limit.answered("a")
    assert limit.ask("a") == pytest.approx(10.01)
    (tmp_path / "crm").mkdir()
    assert RateLimit(1, 10.0, place=tmp_path / "crm", now=hand.now).ask("a") == 0.0


def test_what_another_process_called_is_known_when_a_run_begins(tmp_path):
    ours = limits.shared(tmp_path, "crm", 0.01)
    with RateLimit.per_second(0.01, place=tmp_path / "warehouse" / "limits" / "crm").call():
        pass
    assert limits.shared(tmp_path, "crm", 0.01) is ours
    assert ours.ask("a") > 0


def test_of_what_the_file_and_the_process_know_the_later_counts(tmp_path):
    hand, place = Hand(), tmp_path / "crm"
    ours, other = (RateLimit(2, 10.0, place=place, now=hand.now) for _ in range(2))
    assert ours.ask("a") == 0.0
    ours.answered("a")
    kept = place.read_bytes()
    assert ours.ask("b") == 0.0
    place.write_bytes(kept)  # as if the second could not be written
    ours.read()
    assert ours.ask("c") == pytest.approx(10.01), "a's answer; b is at the destination"
    ours.answered("b")
    hand.at += 11
    other.read()
    assert [other.ask("d"), other.ask("e")] == [0.0, 0.0]
    ours.read()
    assert ours.ask("f") == pytest.approx(LOST_SECONDS + 10.01), "both places are taken by the other process"


def test_a_limit_of_thousands_of_calls_costs_one_call_no_more_than_a_small_one(tmp_path, monkeypatch):
    """Bytes that go to and from the file do not grow with the limit, once it is there."""
    limit = RateLimit(5_000, 1.0, place=tmp_path / "crm")
    limit.ask("first")
    put = []
    monkeypatch.setattr(limits.os, "pwrite", lambda file, data, at: put.append(len(data)) or len(data))
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("read again"))
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: pytest.fail("written anew"))
    for _ in range(20):
        with limit.call():
            pass
    assert put == [8] * 40


def test_an_answer_is_not_thrown_away_for_the_limits_file(desk, tmp_path):
    shelf = SHELVES[str(tmp_path)] = Shelf(limits=Limits(max_rows=3))
    desk.destination = DestinationSettings(
        type="headwater.testing.fake_destination:FakeDestination", options={"shelf": str(tmp_path)}, rate_per_second=100
    )
    shelf.on_call = lambda: shutil.rmtree(desk.folder / "warehouse" / "limits")
    desk.people(*((f"c{n}", "Ann", "Oslo") for n in range(3)))
    done = desk.deliver()
    del SHELVES[str(tmp_path)]
    assert (done.status, done.confirmed, len(shelf.calls)) == ("ok", 3, 1)
