"""One customer at a time, with full trace: the order of decisions from input check to log and release.

    0 input · 1 kill switch · 2 consent · 3 holdout · 4 reachability · 5 frequency · 6 quiet hours · 7 eligibility ·
    8 discount · 9 forbidden features · 10 policy · 11 sample · 12 budget · 13 final check · 14 log, then release

The options are filtered before anything is drawn, the chosen one is checked again after the draw, and consent, frequency and
switches are looked at once more at the moment of sending (send.py). `none` is always possible and is a decision like any other.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from headwater.clock import Clock, naive_utc
from headwater.decisions import budget, judged
from headwater.decisions import setup as setups
from headwater.decisions.customer import FEATURES, Customer, token
from headwater.decisions.guardrails import CHANNEL_STEP, load_all
from headwater.decisions.guardrails.base import NO_HISTORY, Case, Guardrail, History, Now, Option, Setup
from headwater.decisions.guardrails.frequency import window
from headwater.decisions.hashing import digest, unit
from headwater.decisions.ledgers import Entries, Ledgers, MemoryLedgers, Reject, contact_of
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.settle import CHANNEL_ORDER, Choice, Settled, Verdict, options, settle
from headwater.decisions.setup import UNSET
from headwater.decisions.table import NONE, Table
from headwater.errors import InvalidValue
from headwater.records.decisions import Decision

REMEMBERED = 65_536
"""Outcomes (and parts of keys) that a Decider keeps, to share them between customers of the same standing."""


class Decider:
    """Decides for customers as they come.

    A key names a decision: asked again with the same key, `decide` gives the same decision back and reserves and contacts
    nothing again. Left out, the key is made from customer, goal, as-of, configuration and all that the customer is judged by
    (judged.py); a `none` that only the hour or an earlier contact had caused is decided anew once that is over. Everything
    from reading the ledgers to writing them happens under their lock, so deciders in several threads may share one.
    """

    def __init__(
        self,
        settings: DecisionSettings,
        clock: Clock,
        ledgers: Ledgers | None = None,
        *,
        table: Table | None = None,
        run_id: str = "live",
        as_of: datetime | None = None,
        goal: object = UNSET,
        discount_cap: object = UNSET,
        suppress_hours: object = UNSET,
    ) -> None:
        """`as_of`: the moment of the data that customers are judged by; the clock's moment when left out. It may be set anew
        between two calls (naive UTC).

        `goal`, `discount_cap` (percent), `suppress_hours` replace the settings' values. Raises InvalidValue naming the field
        and the allowed values.
        """
        self.ledgers: Ledgers = MemoryLedgers() if ledgers is None else ledgers
        self.setup: Setup = setups.make(
            settings, table, goal=goal, discount_cap=discount_cap, suppress_hours=suppress_hours,
            warehouse=getattr(self.ledgers, "warehouse", None),
        )  # fmt: skip
        self._clock = clock
        self._run_id = run_id
        self.as_of = None if as_of is None else naive_utc(as_of)
        self._rules = load_all(self.setup)
        self._final = load_all(self.setup)
        self._options = options(self.setup.table)
        self._segments = self.setup.table.segments
        self._steps = _steps(self._rules)
        self._lasting = _steps([rule for rule in self._rules if not rule.momentary])
        self._momentary = judged.momentary(self._rules)
        self._window = window(self.setup)
        self._seed = str(self.setup.settings.seed)
        self._settled: dict[tuple, Settled] = {}
        self._looks: dict[tuple, str] = {}
        self._standings: dict[tuple, str] = {}
        self._hashes: dict[object, str] = {}

    def decide(self, customer: Customer, *, key: str | None = None, release: bool = False) -> Decision:
        """The decision for one customer, logged; with `release` the contact is in the ledger as well, in the same write.

        A decision that the key has made before comes back as it is; this call neither releases nor sends it again.
        Raises InvalidValue naming the first bad field of the customer.
        """
        (decided,) = self.decide_many([customer], keys=[key], release=release)
        if isinstance(decided, Reject):
            raise InvalidValue(f"{decided.field}: found {decided.value}; {decided.reason}")
        return decided

    def decide_many(
        self, customers: Sequence[Customer], *, keys: Sequence[str | None] | None = None, release: bool = False
    ) -> list[Decision | Reject]:
        """One decision per customer, in order, written to the ledgers together: all of them or, after a crash, none.

        Only when this returns may anything be sent. A customer with a bad field gives a Reject (the first bad field) and a row
        in `decision_rejects` per bad field.
        """
        with self.ledgers.lock:
            return self._decide_many(customers, keys or [None] * len(customers), release)

    def _decide_many(
        self, customers: Sequence[Customer], keys: Sequence[str | None], release: bool
    ) -> list[Decision | Reject]:
        now = Now(naive_utc(self._clock.now()), self.ledgers.switches())
        config = self._config_hash(now)
        as_of = self.as_of or now.moment
        entries = Entries()
        answers: list[Decision | Reject | None] = [self._reject(c, entries) for c in customers]
        ids = [customer.customer_id for customer in customers]
        histories = dict(self.ledgers.histories(ids, now.moment - self._window))
        question = judged.asked(self.setup.settings.goal, as_of.isoformat(), config)
        cases = [Case(c, histories.get(c.customer_id, NO_HISTORY), now, self.setup) for c in customers]
        verdicts = [
            judge(self._steps, self._options, case) if answer is None else ()
            for case, answer in zip(cases, answers, strict=True)
        ]
        named = [
            self._key(case, judgement, question) if key is None and judgement else key or ""
            for case, judgement, key in zip(cases, verdicts, keys, strict=True)
        ]
        known = dict(self.ledgers.known(named))
        budgets = budget.budgets(self.setup.settings, now.moment)
        used = {b.name: self.ledgers.used(b.name, b.period_start) for b in budgets}
        last = self.ledgers.last_decided_at()
        for position, customer in enumerate(customers):
            if answers[position] is not None:
                continue
            case, judgement, key = cases[position], verdicts[position], named[position]
            history = histories.get(customer.customer_id, NO_HISTORY)
            if history is not case.history:  # contacted by a row before this one
                case = Case(customer, history, now, self.setup)
                judgement = judge(self._steps, self._options, case)
            settled = self._settle(case, judgement)
            if keys[position] is None:
                key = self._current(key, known, settled)
            if key in known:
                answers[position] = known[key]
                continue
            at = now.moment if last is None or now.moment > last else last + timedelta(microseconds=1)
            last = at
            decision, choice = self._one(case, settled, key, at, as_of, config, budgets, used, entries)
            known[key] = answers[position] = decision
            entries.decisions.append(decision)
            if release and decision.action != NONE:
                contact = contact_of(decision, choice.campaign or "", now.moment)
                entries.contacts.append(contact)
                made = (*history.contacts, (contact.channel, contact.contacted_at))
                histories[customer.customer_id] = History(made, history.said)
        self.ledgers.save(entries, self._run_id, now.moment)
        return answers  # pyrefly: ignore

    def _one(
        self,
        case: Case,
        settled: Settled,
        key: str,
        at: datetime,
        as_of: datetime,
        config: str,
        budgets: list[budget.Budget],
        used: dict,
        entries: Entries,
    ) -> tuple[Decision, Choice]:
        """Steps 10 to 13 for a good customer that the rules have judged."""
        setup, customer = self.setup, case.customer
        seed = self._seed
        choice = settled.draw(unit("sample", seed, key))
        decision_id = digest("decision", key)
        action, trace, blocked, propensity = choice.action, choice.trace, settled.blocked_by, choice.probability
        if action != NONE:
            blocked = None
            if not self._stands(case, choice):  # step 13 before 12, so that nothing is reserved for what is not done
                action, trace, blocked, propensity = NONE, choice.broken, "final_check", None
            elif budgets:
                reserved = budget.reserve(budgets, used, choice.channel or "", decision_id)
                if reserved is None:
                    action, trace, blocked, propensity = NONE, choice.refused, "budget", None
                else:
                    entries.reservations += reserved
        done = action != NONE
        features = customer.features or {}
        decision = Decision(
            decision_id,
            key,
            at,
            self._run_id,
            customer.customer_id,
            case.group,
            customer.segment,
            setup.settings.goal,
            settled.policy,
            settled.policy_version,
            {name: token(features.get(name)) for name in FEATURES},
            settled.feasible,
            settled.probabilities,
            action,
            choice.channel if done else None,
            choice.template if done else None,
            choice.discount_pct if done else None,
            propensity,
            seed,
            trace,
            blocked,
            config,
            as_of,
        )
        return decision, choice

    def _settle(self, case: Case, verdicts: tuple[Verdict, ...]) -> Settled:
        setup, customer = self.setup, case.customer
        features = customer.features or {}
        seen = {name: token(features.get(name)) for name in setup.policy.features}
        known = (customer.segment, case.usual, tuple(seen.values()), verdicts)
        settled = self._settled.get(known)
        if settled is None:
            settled = settle(
                setup,
                self._rules,
                setup.settings.goal,
                customer.segment,
                seen,
                self._options,
                verdicts,
                usual=case.usual,
            )
            _keep(self._settled, known, settled)
        return settled

    def _stands(self, case: Case, choice: Choice) -> bool:
        """Step 13: whether every rule still lets the chosen action pass as it is."""
        action = self.setup.table.action(choice.action)
        if action is None or choice.channel is None:
            return False
        option: Option = Option(action, choice.channel, choice.discount)
        return all(rule.check(case, option) is option for rule in self._final)

    def _reject(self, customer: Customer, entries: Entries) -> Reject | None:
        problems = customer.problems(self._segments)
        if not problems:
            return None
        rejects = [Reject(customer.customer_id, *problem) for problem in problems]
        entries.rejects += rejects
        return rejects[0]

    def _key(self, case: Case, verdicts: tuple[Verdict, ...], question: str) -> str:
        customer = case.customer
        known = (customer.segment, verdicts)
        standing = self._standings.get(known)
        if standing is None:
            lasting = judged.lasting(self._momentary, verdicts, lambda: judge(self._lasting, self._options, case))
            standing = judged.standing(customer.segment, lasting)
            if lasting is verdicts:
                _keep(self._standings, known, standing)
        features = customer.features or {}
        seen = tuple([token(features.get(name)) for name in FEATURES])
        look = self._looks.get(seen)
        if look is None:
            look = judged.look(seen)
            _keep(self._looks, seen, look)
        return judged.key(judged.first(question, standing), look, customer.customer_id)

    def _current(self, key: str, known: dict[str, Decision], settled: Settled) -> str:
        """The key itself, or the key that follows a `none` that a momentary rule had caused and no longer causes."""
        base = key
        while key in known and known[key].blocked_by in self._momentary and settled.blocked_by != known[key].blocked_by:
            key = judged.again(base, known[key].decision_id)
            if key not in known:
                known.update(self.ledgers.known([key]))
        return key

    def _config_hash(self, now: Now) -> str:
        switches = now.switches.key()
        if switches not in self._hashes:
            self._hashes[switches] = setups.config_hash(self.setup, self._rules, now.switches)
        return self._hashes[switches]


Step = tuple[Callable[[Case, Option], Option | None], str, bool]
"""A rule's check, its name, and whether it comes after an action has settled on one channel."""


def _keep(cache: dict, key: object, value: object) -> None:
    if len(cache) >= REMEMBERED:
        cache.clear()
    cache[key] = value


def _steps(rules: Sequence[Guardrail]) -> tuple[Step, ...]:
    return tuple((rule.check, rule.name, rule.step > CHANNEL_STEP) for rule in rules)


def judge(steps: Sequence[Step], listed: Sequence[Option], case: Case) -> tuple[Verdict, ...]:
    """Steps 1 to 9: what becomes of each option. An action that is open by several channels keeps the first."""
    verdicts: list[Verdict] = []
    taken: str | None = None
    for option in listed:
        blocker, left, action_id = None, option, option.action.action_id
        opened = True
        for check, name, after_channel in steps:
            if after_channel and taken == action_id:
                blocker, opened = CHANNEL_ORDER, False
                break
            checked = check(case, left)
            if checked is None:
                blocker, opened = name, after_channel
                break
            left = checked
        verdicts.append((blocker, left.discount))
        if opened:
            taken = action_id
    return tuple(verdicts)


__all__ = ["Customer", "Decider", "Decision", "Reject", "judge", "replace"]
