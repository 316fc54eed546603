"""One batch, tried, tried again, halved; and nothing called done that was not confirmed."""

from datetime import timedelta
from pathlib import Path

import pytest

from headwater.activation.destinations import Batch, Later, Limits, Operation, Rejected, Result, Unusable
from headwater.activation.limits import RateLimit
from headwater.activation.send import Sender
from headwater.activation.settings import DestinationSettings
from headwater.testing.fake_destination import SHELVES, FakeDestination, Shelf


def row(key, **more):
    return Operation(f"id-{key}", "people", key, 1, "create", {"name": key}, **more)


def batch(*keys):
    return Batch("batch-1", "people", tuple(row(key) for key in keys), ("name",))


@pytest.fixture
def shelf():
    shelf = SHELVES["send"] = Shelf(limits=Limits(max_rows=10))
    yield shelf
    del SHELVES["send"]


def sender(destination=None, limit=None, **settings):
    destination = destination or FakeDestination("there", {"shelf": "send"}, folder=Path(), environment={})
    return Sender(destination, DestinationSettings(type="x", **settings), limit)


def told(outcome):
    return {answer.operation.key: answer.result.status for answer in outcome.answers}


def test_rows_are_confirmed_one_by_one(shelf):
    shelf.refused = {"b"}
    outcome = sender().send(batch("a", "b", "c"))
    assert told(outcome) == {"a": "done", "b": "failed", "c": "done"}
    assert len(shelf.calls) == 1


def test_a_row_whose_answer_was_lost_stays_in_doubt_when_the_next_try_only_hears_later(shelf):
    shelf.faults = ["lost_answer", "later"]
    (answer,) = sender(attempts=2).send(batch("a")).answers
    assert (answer.result.code, answer.result.in_doubt) == ("BUSY", True)
    assert "a" in shelf.rows


def test_a_busy_destination_is_tried_again_until_the_tries_are_used_up(shelf):
    shelf.faults = ["later"] * 2
    outcome = sender().send(batch("a", "b"))
    assert told(outcome) == {"a": "done", "b": "done"}
    assert [(one.operation.key, one.attempt, one.result.status) for one in outcome.tries] == [
        (key, attempt, status) for attempt, status in ((1, "retry"), (2, "retry"), (3, "done")) for key in ("a", "b")
    ]
    shelf.faults = ["later"] * 9
    (answer,) = sender(attempts=3).send(batch("c")).answers
    assert (answer.result.status, answer.attempts, answer.left_ready) == ("retry", 3, False)
    assert (answer.result.code, answer.result.message, answer.result.advice) == (
        "BUSY",
        "the shelf is busy",
        "the next run tries it again",
    )
    assert not answer.result.in_doubt


def test_only_the_rows_that_are_left_are_tried_again(shelf):
    class Half(FakeDestination):
        def deliver(self, batch):
            results = super().deliver(batch)
            if len(self.shelf.calls) == 1:
                return [results[0], Result(results[1].operation_id, "retry", "LOCK", "locked")]
            return results

    outcome = sender(Half("there", {"shelf": "send"}, folder=Path(), environment={})).send(batch("a", "b"))
    assert told(outcome) == {"a": "done", "b": "done"}
    assert shelf.calls == [("id-a", "id-b"), ("id-b",)]


def test_a_poisoned_batch_is_halved_until_the_culprit_is_alone(shelf):
    shelf.poison = {"e"}
    outcome = sender().send(batch(*"abcdefgh"))
    assert told(outcome) == {key: "failed" if key == "e" else "done" for key in "abcdefgh"}
    assert len(shelf.calls) == 2 * 3 + 1
    assert {one.attempt for one in outcome.tries} == {1}
    (culprit,) = (answer.result for answer in outcome.answers if answer.operation.key == "e")
    assert (culprit.code, culprit.message, culprit.advice, culprit.in_doubt) == (
        "POISON",
        "something in the call is poison",
        "take it out",
        False,
    )


def test_a_bug_set_off_by_one_row_does_not_stop_the_others(shelf):
    class Broken(FakeDestination):
        def deliver(self, batch):
            if any(one.key == "b" for one in batch.operations):
                raise ZeroDivisionError("by zero")
            return super().deliver(batch)

    outcome = sender(Broken("there", {"shelf": "send"}, folder=Path(), environment={})).send(batch("a", "b", "c"))
    assert told(outcome) == {"a": "done", "b": "failed", "c": "done"}
    result = outcome.answers[1].result
    assert (result.code, result.message, result.in_doubt) == (
        "ZeroDivisionError",
        "the destination Broken broke on this row: by zero",
        True,
    )


def test_an_unusable_destination_stops_and_rows_stay_ready(shelf):
    shelf.faults = ["unusable"]
    one = sender()
    outcome = one.send(batch("a", "b"))
    assert all(answer.left_ready and not answer.result.in_doubt for answer in outcome.answers)
    assert str(outcome.unusable) == "CLOSED: the shelf is closed"
    after = one.send(batch("c"))
    assert after.answers[0].left_ready
    assert len(shelf.calls) == 1


def test_what_was_done_before_it_became_unusable_stays_done(shelf):
    """Halves of a poisoned batch: the first is written, then the credentials expire."""

    class Expiring(FakeDestination):
        def deliver(self, batch):
            if len(batch.operations) == 4:
                raise Rejected("POISON", "somewhere")
            if len(self.shelf.calls) == 1:
                raise Unusable("EXPIRED", "log in again")
            return super().deliver(batch)

    outcome = sender(Expiring("there", {"shelf": "send"}, folder=Path(), environment={})).send(batch(*"abcd"))
    assert [(answer.result.status, answer.left_ready) for answer in outcome.answers] == [
        ("done", False),
        ("done", False),
        ("retry", True),
        ("retry", True),
    ]


@pytest.mark.parametrize("results", [[], [Result("id-a", "done")], [Result("id-a", "done")] * 2])
def test_an_answer_that_is_not_one_per_row_is_in_doubt(shelf, results):
    class Sloppy(FakeDestination):
        def deliver(self, batch):
            return results

    outcome = sender(Sloppy("there", {"shelf": "send"}, folder=Path(), environment={}), attempts=1).send(
        batch("a", "b")
    )
    doubtful = [answer for answer in outcome.answers if answer.result.status != "done"]
    assert doubtful
    assert all(answer.result.in_doubt and answer.result.code == "NO_ANSWER" for answer in doubtful)


def test_doubt_stays_until_the_row_is_confirmed(shelf):
    shelf.faults = ["later"] * 9
    doubtful = Batch("batch-1", "people", (row("a", in_doubt=True),))
    assert sender().send(doubtful).answers[0].result.in_doubt
    shelf.faults, shelf.refused = [], {"a"}
    refused = sender().send(doubtful).answers[0].result
    assert (refused.status, refused.in_doubt) == ("failed", True)
    shelf.refused = set()
    assert not sender().send(doubtful).answers[0].result.in_doubt


def test_a_row_whose_answer_was_lost_stays_in_doubt_when_the_next_try_is_refused(shelf):
    class Fickle(FakeDestination):
        def deliver(self, sent):
            try:
                return super().deliver(sent)
            finally:
                shelf.refused = {"a"}

    shelf.faults = ["lost_answer"]
    (answer,) = (
        sender(Fickle("there", {"shelf": "send"}, folder=Path(), environment={}), attempts=2).send(batch("a")).answers
    )
    assert (answer.result.status, answer.result.in_doubt) == ("failed", True)
    assert "a" in shelf.rows


class Waiting:
    """A clock that moves only when somebody sleeps."""

    def __init__(self):
        self.at = 0.0
        self.slept = []

    def now(self):
        return self.at

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.at += seconds


class Asking(FakeDestination):
    """Says 429 with a wait, once."""

    asked = 7.0

    def deliver(self, batch):
        if not self.shelf.calls:
            self.shelf.calls.append(())
            raise Later("429", "slow down", retry_after=self.asked)
        return super().deliver(batch)


def asking(wait):
    destination = Asking("there", {"shelf": "send"}, folder=Path(), environment={})
    destination.asked = wait
    return destination


def test_retry_after_is_kept_by_everybody_who_shares_the_limit(shelf):
    clock = Waiting()
    limit = RateLimit(10, 1.0, now=clock.now, sleep=clock.sleep)
    one = sender(asking(7.0), limit)
    assert one._backoff(_again(7.0)) == timedelta(seconds=7)
    assert told(one.send(batch("a"))) == {"a": "done"}
    assert clock.at >= 7.0


def test_a_wait_longer_than_a_run_leaves_the_row_ready(shelf):
    (answer,) = sender(asking(3600.0), max_wait_seconds=60).send(batch("a")).answers
    assert (answer.left_ready, answer.wait_seconds, answer.attempts) == (True, 3600.0, 1)


def test_nobody_knocks_again_where_a_run_was_asked_to_stay_away_longer_than_it_waits(shelf):
    one = sender(asking(3600.0), max_wait_seconds=60)
    one.send(batch("a"))
    outcome = one.send(Batch("batch-2", "people", (row("b"), row("c", in_doubt=True))))
    assert shelf.calls == [()]
    assert [(answer.left_ready, answer.wait_seconds, answer.attempts) for answer in outcome.answers] == [
        (True, 3600.0, 0)
    ] * 2
    assert [(answer.result.code, answer.result.in_doubt) for answer in outcome.answers] == [
        ("429", False),
        ("429", True),
    ]
    assert outcome.tries == []


def test_halves_are_not_sent_any_more_once_a_destination_wants_to_be_left_alone(shelf):
    class Tired(FakeDestination):
        def deliver(self, sent):
            shelf.calls.append(tuple(one.key for one in sent.operations))
            if len(sent.operations) > 1:
                raise Rejected("POISON", "somewhere")
            raise Later("429", "slow down", retry_after=3600.0)

    outcome = sender(Tired("there", {"shelf": "send"}, folder=Path(), environment={}), max_wait_seconds=60).send(
        batch(*"abcd")
    )
    assert shelf.calls == [tuple("abcd"), tuple("ab"), ("a",)]
    assert [(answer.left_ready, answer.wait_seconds, answer.attempts) for answer in outcome.answers] == [
        (True, 3600.0, 1),
        *[(True, 3600.0, 0)] * 3,
    ]
    assert [one.operation.key for one in outcome.tries] == ["a"], "of what was not sent there is no try"


def test_who_pauses_between_tries_does_not_try_again_once_another_was_told_to_stay_away(shelf):
    class Busy(Asking):
        def deliver(self, sent):
            if sent.operations[0].key == "a":
                shelf.calls.append(("a",))
                one.resting = Later("429", "slow down", retry_after=3600.0)  # said to another thread
                raise Later("BUSY", "nobody answered", in_doubt=True)
            return super().deliver(sent)

    one = sender(Busy("there", {"shelf": "send"}, folder=Path(), environment={}), max_wait_seconds=60)
    (answer,) = one.send(batch("a")).answers
    assert shelf.calls == [("a",)]
    assert (answer.left_ready, answer.wait_seconds, answer.attempts) == (True, 3600.0, 1)
    assert (answer.result.code, answer.result.in_doubt) == ("BUSY", True)


def test_who_waits_for_a_turn_does_not_take_it_once_another_was_told_to_stay_away(shelf):
    clock = Waiting()

    def sleep(seconds):
        clock.sleep(seconds)
        one.resting = Later("429", "slow down", retry_after=3600.0)

    one = sender(limit=RateLimit(1, 1.0, now=clock.now, sleep=sleep), max_wait_seconds=60)
    assert told(one.send(batch("a"))) == {"a": "done"}
    (answer,) = one.send(batch("b")).answers
    assert (answer.left_ready, answer.attempts) == (True, 0)
    assert len(shelf.calls) == 1


def _again(wait):
    from headwater.activation.send import _Again

    return _Again(wait)


def test_secrets_are_blotted_out_of_everything_that_is_said(shelf):
    class Telling(FakeDestination):
        secrets = ("hush",)

        def deliver(self, batch):
            return [
                Result(one.operation_id, "failed", "c-hush", "m hush", "a hush", response={"hush": ["x hush y", 1]})
                for one in batch.operations
            ]

    (answer,) = sender(Telling("there", {"shelf": "send"}, folder=Path(), environment={})).send(batch("a")).answers
    result = answer.result
    assert (result.code, result.message, result.advice, result.response) == (
        "c-***",
        "m ***",
        "a ***",
        {"***": ["x *** y", 1]},
    )


def test_every_call_waits_its_turn(shelf):
    clock = Waiting()
    limit = RateLimit(1, 1.0, now=clock.now, sleep=clock.sleep)
    shelf.poison = {"a"}
    sender(limit=limit).send(batch("a", "b"))
    assert len(shelf.calls) == 3
    assert clock.at == pytest.approx(2.0, rel=0.01)


def test_tries_are_not_written_to_the_screen(shelf, capfd, caplog):
    shelf.faults = ["later"] * 2
    outcome = sender().send(batch("a"))
    assert [one.attempt for one in outcome.tries] == [1, 2, 3]
    assert (*capfd.readouterr(), caplog.text) == ("", "", "")
