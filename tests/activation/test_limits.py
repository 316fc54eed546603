"""No window of the limit's length ever holds more calls than allowed."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from headwater.activation import limits
from headwater.activation.limits import RateLimit


class Hand:
    """A clock moved by sleeping and by hand."""

    def __init__(self):
        self.at = 100.0

    def now(self):
        return self.at

    def sleep(self, seconds):
        assert seconds > 0
        self.at += seconds


@given(
    st.integers(1, 5),
    st.sampled_from([0.5, 1.0, 10.0]),
    st.lists(st.one_of(st.floats(0, 3), st.just("pause")), min_size=1, max_size=40),
)
def test_never_more_than_allowed_in_any_window(calls, seconds, pauses):
    hand = Hand()
    limit = RateLimit(calls, seconds, now=hand.now, sleep=hand.sleep)
    made = []
    for pause in pauses:
        if pause == "pause":
            limit.pause(2.0)
        else:
            hand.at += pause
        limit.wait()
        made.append(hand.at)
    for position, moment in enumerate(made):
        in_window = [one for one in made[position:] if one < moment + seconds - 1e-9]
        assert len(in_window) <= calls


def test_a_full_window_is_used_at_once_and_the_next_call_waits():
    hand = Hand()
    limit = RateLimit(3, 10.0, now=hand.now, sleep=hand.sleep)
    made = []
    for _ in range(7):
        limit.wait()
        made.append(hand.at - 100)
    assert made == [0, 0, 0, 10, 10, 10, 20]


def test_below_one_a_second():
    hand = Hand()
    limit = RateLimit.per_second(0.25, now=hand.now, sleep=hand.sleep)
    limit.wait()
    limit.wait()
    assert hand.at == 104.0


def test_one_limit_per_destination_shared_by_all_syncs():
    assert limits.shared("crm", 5.0) is limits.shared("crm", 5.0)
    assert limits.shared("crm", 5.0) is not limits.shared("other", 5.0)
    assert limits.shared("crm", None) is None


def test_threads_share_it():
    hand = Hand()
    limit = RateLimit(2, 1.0, now=hand.now, sleep=hand.sleep)
    threads = [threading.Thread(target=lambda: [limit.wait() for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hand.at == 109.0
