"""The thread that decides on demand: what has gathered is decided together, written in one transaction, then answered.

    closed    nobody has opened it yet, or the file is given away: requests are refused (Unavailable)
    open      one group after the other; while one is written the next gathers, so there is nothing to wait for

An answer is given after the commit. When the write fails, nothing of the group was kept and each of it is told so; the same
request may be sent again. A decision on a channel is made with the other channels closed, by the same rules.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from headwater.clock import Clock, naive_utc
from headwater.decisions import inputs
from headwater.decisions.customer import Customer
from headwater.decisions.decide import Decider
from headwater.decisions.ledgers import Reject
from headwater.decisions.log import ON_DEMAND
from headwater.decisions.realtime.present import Present
from headwater.decisions.realtime.remembered import RememberedLedgers
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import NONE, Table
from headwater.errors import HeadwaterError, Overloaded
from headwater.records.decisions import Decision

MOST = 256
"""Requests that are decided together."""
GIVE_BACK = timedelta(minutes=1)
"""How often what superseded decisions had reserved goes back to the budgets."""
_CLOSED = "decisions are not made now: the engine has given the warehouse to another command. Ask again in a moment"


class Unavailable(HeadwaterError):
    """No decision can be made now; nothing was kept, ask again later."""


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """What is asked. `channel`: only by this one. `release`: the decision is carried out by whoever asks, so it counts as a
    contact. `key`: names the decision; the same key gives the same decision back."""

    customer_id: str
    goal: str | None = None
    channel: str | None = None
    key: str | None = None
    release: bool = False

    def problems(self, channels: Sequence[str]) -> list[str]:
        """All that is wrong with it; empty when nothing is."""
        found = []
        if not self.customer_id.strip():
            found.append("customer_id: found an empty text; expected the shop's own id of the customer")
        if self.goal is not None and self.goal not in inputs.GOALS:
            found.append(f"goal: found {self.goal!r}; allowed: {', '.join(inputs.GOALS)}")
        if self.channel is not None and self.channel not in channels:
            found.append(f"channel: found {self.channel!r}; allowed: {', '.join(channels)}")
        if self.key is not None and not 8 <= len(self.key) <= 200:
            found.append(f"key: found {len(self.key)} characters; expected 8 to 200, different for each decision")
        if self.release and self.key is None:
            found.append(
                "key: missing; release needs one, so that a repeated request does not count as a second contact"
            )
        return found


@dataclass(frozen=True)
class Answer:
    """`status` as HTTP has it; `code` names an error, None when a decision was made."""

    status: int
    body: bytes
    code: str | None = None


@dataclass
class _Waiting:
    question: Question
    tell: Callable[[Answer], None]


@dataclass
class Counts:
    """Since the start. `groups` writes of `decided` new decisions; `repeated` were known already."""

    decided: int = 0
    repeated: int = 0
    groups: int = 0
    failed_writes: int = 0
    actions: dict[str, int] = field(default_factory=dict)
    blocked: dict[str, int] = field(default_factory=dict)


class Desk:
    """Decides what is asked. `open` and `close` in any thread; `ask` in any thread, the answer comes in the desk's own."""

    def __init__(self, settings: DecisionSettings, clock: Clock, table: Table) -> None:
        self.settings = settings
        self.counts = Counts()
        self.why_closed = _CLOSED
        self._clock = clock
        self._table = table
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._depth = threading.Semaphore(settings.realtime.max_waiting)
        self._state = threading.Lock()
        self._thread: threading.Thread | None = None
        self._present: Present | None = None
        self._deciders: dict[tuple[str, str | None], Decider] = {}
        self._gave_back = datetime.min  # noqa: DTZ901 (naive UTC)

    @property
    def is_open(self) -> bool:
        """Whether decisions are made now."""
        return self._thread is not None

    def open(self, ledgers: RememberedLedgers, present: Present) -> None:
        """Begin, on these. The connection of the ledgers belongs to the desk until `close`."""
        with self._state:
            self._present, self._deciders = present, {}
            self._thread = threading.Thread(target=self._work, args=(ledgers,), name="decisions", daemon=True)
            self._thread.start()

    def close(self, why: str = _CLOSED) -> None:
        """Answer what waits, then refuse. Closing twice is fine."""
        with self._state:
            thread, self._thread, self.why_closed = self._thread, None, why
            if thread is not None:
                self._waiting.put(None)
        if thread is not None:
            thread.join()

    def ask(self, question: Question, tell: Callable[[Answer], None]) -> None:
        """Have it decided; `tell` is called once, soon, in the desk's thread.

        Raises Unavailable when closed, Overloaded when too many wait: `tell` is not called then.
        """
        if not self._depth.acquire(blocking=False):
            raise Overloaded(
                f"{self.settings.realtime.max_waiting:,} requests wait for a decision; ask again in a moment"
            )
        with self._state:
            if self._thread is not None:
                self._waiting.put(_Waiting(question, tell))
                return
        self._depth.release()
        raise Unavailable(self.why_closed)

    # ------------------------------------------------------------------ in the thread

    def _work(self, ledgers: RememberedLedgers) -> None:
        last = False
        while not last:
            group: list[_Waiting] = []
            waiting = self._waiting.get()
            while True:
                if waiting is None:
                    last = True
                    break
                group.append(waiting)
                if len(group) >= MOST:
                    break
                try:
                    waiting = self._waiting.get_nowait()
                except queue.Empty:
                    break
            if group:
                self._serve(ledgers, group)

    def _serve(self, ledgers: RememberedLedgers, group: list[_Waiting]) -> None:
        questions = [one.question for one in group]
        try:
            with ledgers.lock:
                answers = self._decide(ledgers, questions)
        except Exception as error:
            self.counts.failed_writes += 1
            said = f"nothing was kept: {' '.join(f'{type(error).__name__}: {error}'.split())}. Ask again in a moment"
            answers = [refusal(503, "not_written", said)] * len(group)
        for one, answer in zip(group, answers, strict=True):
            self._depth.release()
            one.tell(answer)

    def _decide(self, ledgers: RememberedLedgers, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, all of them written."""
        assert self._present is not None
        moment = naive_utc(self._clock.now())
        ledgers.begin()
        as_of = self._present.as_of
        answers: list[Answer | None] = [None] * len(questions)
        made: list[tuple[int, Decision, bool]] = []
        alike: dict[tuple[str, str | None, bool], list[tuple[int, Customer]]] = {}
        for position, question in enumerate(questions):
            customer = self._present.find(question.customer_id)
            if customer is None:
                said = f"there is no customer {question.customer_id!r} in {len(self._present):,}"
                answers[position] = refusal(404, "unknown_customer", said)
            else:
                goal = question.goal or self.settings.goal
                alike.setdefault((goal, question.channel, question.release), []).append((position, customer))
        for (goal, channel, release), asked in alike.items():
            decider = self._decider(ledgers, goal, channel)
            decider.as_of = as_of
            found = decider.decide_many(
                [customer for _, customer in asked],
                keys=[questions[position].key for position, _ in asked],
                release=release,
            )
            new = ledgers.new
            for (position, _), decision in zip(asked, found, strict=True):
                if isinstance(decision, Reject):
                    said = f"{decision.field}: found {decision.value}; {decision.reason}"
                    answers[position] = refusal(422, "unusable_customer", said)
                elif differs := _differs(questions[position], goal, decision):
                    answers[position] = refusal(409, "key_reused", differs)
                else:
                    made.append((position, decision, decision.decision_id not in new))
                    new.discard(decision.decision_id)
        released = {
            decision.decision_id for _, decision, again in made if again and ledgers.released(decision.decision_id)
        }
        ledgers.flush(moment)
        if self.settings.budgets and moment - self._gave_back >= GIVE_BACK:
            self._gave_back = moment
            ledgers.give_back(moment)
        self.counts.groups += 1
        for position, decision, repeated in made:
            self._count(decision, repeated)
            out = questions[position].release and not repeated and decision.action != NONE
            answers[position] = _answer(decision, repeated, out or decision.decision_id in released)
        return answers  # pyrefly: ignore

    def _decider(self, ledgers: RememberedLedgers, goal: str, channel: str | None) -> Decider:
        decider = self._deciders.get((goal, channel))
        if decider is None:
            settings = self.settings
            if channel is not None:
                carried = {name: sync for name, sync in settings.channels.items() if name == channel}
                settings = settings.model_copy(update={"channels": carried})
            decider = Decider(settings, self._clock, ledgers, table=self._table, run_id=ON_DEMAND, goal=goal)
            self._deciders[goal, channel] = decider
        return decider

    def _count(self, decision: Decision, repeated: bool) -> None:
        counts = self.counts
        if repeated:
            counts.repeated += 1
            return
        counts.decided += 1
        counts.actions[decision.action] = counts.actions.get(decision.action, 0) + 1
        if decision.blocked_by is not None:
            counts.blocked[decision.blocked_by] = counts.blocked.get(decision.blocked_by, 0) + 1


def _differs(question: Question, goal: str, decision: Decision) -> str:
    """Why the decision is no answer to this question, though it has its key; empty when it is."""
    channel = question.channel in (None, decision.channel) or decision.channel is None
    if decision.customer_id == question.customer_id and decision.goal == goal and channel:
        return ""
    what = "another customer, goal or channel"
    return f"the key {question.key!r} was used for {what}; a key names one decision. Send a new one for a new decision"


def refusal(status: int, code: str, message: str) -> Answer:
    """An answer without a decision."""
    return Answer(status, msgspec.json.encode({"error": code, "message": message}), code)


def _answer(decision: Decision, repeated: bool, released: bool) -> Answer:
    return Answer(200, msgspec.json.encode(answered(decision, repeated=repeated, released=released)))


def answered(decision: Decision, *, repeated: bool, released: bool) -> dict[str, Any]:
    """A decision as the answer tells it; times are ISO 8601 in UTC, the discount is percent."""
    return {
        "decision_id": decision.decision_id,
        "key": decision.idempotency_key,
        "customer_id": decision.customer_id,
        "goal": decision.goal,
        "segment": decision.segment,
        "action": decision.action,
        "channel": decision.channel,
        "template": decision.template,
        "discount_pct": None if decision.discount_pct is None else float(decision.discount_pct),
        "blocked_by": decision.blocked_by,
        "experiment_group": decision.experiment_group,
        "released": released,
        "repeated": repeated,
        "decided_at": _iso(decision.decided_at),
        "as_of": _iso(decision.as_of),
        "policy": decision.policy,
        "policy_version": decision.policy_version,
        "propensity": decision.propensity,
        "probabilities": decision.probabilities,
        "feasible_actions": decision.feasible_actions,
        "trace": msgspec.Raw(decision.trace.text.encode()),
    }


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds") + "Z"
