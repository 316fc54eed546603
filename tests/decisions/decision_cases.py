"""A warehouse to fill, random shops for the property tests, and an oracle that knows the hard rules but none of the code that enforces them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import strategies as st

from headwater.decisions import log
from headwater.decisions.customer import COLUMNS, Customer
from headwater.decisions.guardrails.base import Switches
from headwater.decisions.hashing import unit
from headwater.decisions.learned import Learned, Linear
from headwater.decisions.policy import DefaultTable
from headwater.decisions.settings import BudgetSettings, CapSettings, DecisionSettings, QuietHourSettings
from headwater.decisions.table import DEFAULT, Action, Table
from headwater.records.decisions import Decision
from headwater.warehouse import Warehouse

SEGMENTS = ("churn_rescue_nps", "high_value_lapse_risk", "new_users_first_week_intent")
CHANNELS = ("email", "sms", "push", "cs_ticket")
CONSENT = {
    "email": ("email_consent",),
    "sms": ("sms_consent",),
    "push": (),
    "cs_ticket": ("email_consent", "sms_consent"),
}
ADDRESS = {"email": ("has_email",), "sms": ("has_phone",), "push": (), "cs_ticket": ("has_email", "has_phone")}
SECRET = "gender"


class PeekingPolicy(DefaultTable):
    """A policy that asks for something it must not know."""

    name = "peeking"
    features = (SECRET,)


class LearningPolicy(DefaultTable):
    """A policy that reads a bucket and spreads its choice."""

    name = "learning"
    features = ("activity_status",)
    floor = 0.01

    def _probs(self, context, actions):
        weights = [1 + len(action) * (1 + len(context.features["activity_status"] or "")) % 7 for action in actions]
        return {action: weight / sum(weights) for action, weight in zip(actions, weights, strict=True)}


class TrainedPolicy(Learned):
    """A model as a learner leaves it, of made-up coefficients; it knows all actions of the table but the first."""

    rule = "softmax"

    def __init__(self, table, settings):
        actions = (*(action.action_id for action in table.actions[1:]), "none")
        columns = ("activity_status=Active", "nps_band=promoter", f"segment={SEGMENTS[0]}")
        draw = np.random.default_rng(settings.seed % 1000)
        wide = len(columns) + 1
        model = Linear(
            actions,
            columns,
            draw.normal(0, 1, (len(actions), wide)),
            np.repeat(np.eye(wide)[None] * draw.uniform(0.01, 2), len(actions), axis=0),
            self.rule,
            float(draw.uniform(0.05, 2)),
            settings.learning.floor,
        )
        super().__init__(table, settings, model, actions, self.rule, "made up")


class TrainedThompson(TrainedPolicy):
    """The same by the other rule."""

    rule = "thompson"


POLICIES = (
    "default_table",
    "epsilon_mixed",
    "champion",
    "decision_cases:LearningPolicy",
    "decision_cases:PeekingPolicy",
    "decision_cases:TrainedPolicy",
    "decision_cases:TrainedThompson",
)


@dataclass
class Shop:
    """One random world. `contacts` and `said` by customer."""

    settings: DecisionSettings
    table: Table
    moment: datetime
    switches: Switches
    customers: list[Customer]
    contacts: dict[str, list[tuple[str, datetime]]]
    said: dict[str, list[tuple[str, bool, datetime]]]


@st.composite
def tables(draw) -> Table:
    if draw(st.booleans()):
        return DEFAULT
    channels = st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=3, unique=True)
    actions = [
        Action(
            f"a{number}",
            tuple(draw(channels)),
            draw(st.sampled_from(["winback", "tips", "followup"])),
            tuple(draw(st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3, unique=True))),
            draw(st.sampled_from([0.0, 2.5, 5.0, 10.0, 33.33, 100.0])),
            draw(st.sampled_from(["", "spring"])),
        )
        for number in range(draw(st.integers(1, 4)))
    ]
    rows = {}
    for goal in ("90d_clv", "engagement"):
        rows[goal] = {}
        for segment in SEGMENTS:
            fit = [action.action_id for action in actions if segment in action.segments]
            if fit:
                rows[goal][segment] = draw(st.sampled_from(fit))
    return Table(tuple(actions), rows)


@st.composite
def settings(draw) -> DecisionSettings:
    return DecisionSettings(
        goal=draw(st.sampled_from(["90d_clv", "engagement"])),
        discount_cap=draw(st.sampled_from([0.0, 0.01, 3.0, 4.999, 7.339, 10.0, 100.0])),
        suppress_hours=draw(st.sampled_from([0.0, 0.0, 1.5, 24.0, 48.0, 900.0])),
        holdout_share=draw(st.sampled_from([0.0, 0.1, 0.1, 0.5])),
        holdout_salt=draw(st.sampled_from(["headwater", "x'y"])),
        business_as_usual_share=draw(st.sampled_from([0.0, 0.0, 0.5])),
        policy=draw(st.sampled_from(POLICIES)),
        epsilon=draw(st.sampled_from([0.0, 0.3, 1.0])),
        seed=draw(st.integers(-3, 10**9)),
        segment_caps=draw(st.dictionaries(st.sampled_from(SEGMENTS), st.sampled_from([0.0, 1.25, 50.0]), max_size=2)),
        min_margin_pct=draw(st.sampled_from([None, 0.0, 20.0, 45.3])),
        caps=draw(
            st.lists(
                st.builds(
                    CapSettings,
                    max_contacts=st.sampled_from([0, 1, 2, 3, 3]),
                    days=st.integers(1, 40),
                    channel=st.sampled_from([None, *CHANNELS]),
                ),
                max_size=3,
            )
        ),
        quiet_hours=QuietHourSettings(
            start_hour=draw(st.integers(0, 23)),
            end_hour=draw(st.integers(0, 23)),
            channels=draw(st.just(["sms", "push"]) | st.lists(st.sampled_from(CHANNELS), unique=True)),
        ),
        budgets=draw(
            st.lists(
                st.builds(
                    BudgetSettings,
                    name=st.sampled_from(["mail", "all"]),
                    amount=st.sampled_from([0.0, 0.35, 1.0, 1000.0, 1000.0]),
                    days=st.sampled_from([1, 30]),
                    cost_per_contact=st.dictionaries(
                        st.sampled_from(CHANNELS), st.sampled_from([0.0, 0.05, 0.3]), max_size=3
                    ),
                ),
                max_size=2,
                unique_by=lambda budget: budget.name,
            )
        ),
        channels={
            name: f"{name}_sync"
            for name in draw(st.just(CHANNELS) | st.lists(st.sampled_from(CHANNELS), unique=True, max_size=4))
        },
    )


@st.composite
def shops(draw, most_customers: int = 8) -> Shop:
    moment = datetime(2026, 3, 1) + timedelta(minutes=draw(st.integers(0, 60 * 24 * 40)))  # noqa: DTZ001
    flag = st.sampled_from([True] * 5 + [False, None])
    customers = [
        Customer(
            f"c{number}",
            draw(st.sampled_from([*SEGMENTS, *SEGMENTS, None])),
            draw(flag),
            draw(flag),
            draw(flag),
            draw(flag),
            draw(st.sampled_from(["Europe/Paris", "Asia/Kolkata", "America/Los_Angeles", "Mars/Olympus", None])),
            draw(st.sampled_from([None, -5.0, 12.5, 47.32, 45.3, 100.0])),
            {
                "activity_status": draw(st.sampled_from(["Active", "Dormant", "ignore rules, 90 % off", None])),
                "nps_band": draw(st.sampled_from(["promoter", None])),
            },
        )
        for number in range(draw(st.integers(1, most_customers)))
    ]
    ids = [customer.customer_id for customer in customers]
    ago = st.integers(-60, 60 * 24 * 45).map(lambda minutes: moment - timedelta(minutes=minutes))
    contact = st.tuples(st.sampled_from(CHANNELS), ago)
    word = st.tuples(st.sampled_from([*CHANNELS, "all"]), st.booleans(), ago)
    return Shop(
        draw(settings()),
        draw(tables()),
        moment,
        draw(
            st.just(Switches())
            | st.just(Switches())
            | st.builds(
                Switches,
                everything=st.sampled_from([False, False, False, True]),
                channels=st.frozensets(st.sampled_from(CHANNELS), max_size=2),
                campaigns=st.frozensets(st.sampled_from(["winback", "winback_soft", "spring"]), max_size=2),
            )
        ),
        customers,
        draw(st.dictionaries(st.sampled_from(ids), st.lists(contact, max_size=5))),
        draw(st.dictionaries(st.sampled_from(ids), st.lists(word, max_size=3, unique_by=lambda w: w[2]))),
    )


def broken_rules(shop: Shop, customer: Customer, decision: Decision) -> set[str]:
    """The hard rules that an executed decision breaks, worked out from the words of the design and nothing else."""
    if decision.action == "none":
        return set()
    broken = set()
    config = shop.settings
    action = {a.action_id: a for a in shop.table.actions}[decision.action]
    channel = decision.channel
    assert channel in action.channels
    switches = shop.switches
    if switches.everything or channel in switches.channels or action.campaign in switches.campaigns:
        broken.add("kill_switch")
    agreed = any(getattr(customer, column) for column in CONSENT[channel])
    words = [(at, yes) for on, yes, at in shop.said.get(customer.customer_id, []) if on in (channel, "all")]
    if words:
        agreed = max(words)[1]
    if not agreed:
        broken.add("consent")
    if unit("holdout", config.holdout_salt, customer.customer_id) < config.holdout_share:
        broken.add("holdout")
    if decision.experiment_group == "business_as_usual" and decision.action != shop.table.default(
        config.goal, customer.segment
    ):
        broken.add("business_as_usual")
    if channel not in config.channels or not any(getattr(customer, column) for column in ADDRESS[channel]):
        broken.add("reachability")
    contacts = shop.contacts.get(customer.customer_id, [])
    if any(at + timedelta(hours=config.suppress_hours) > shop.moment for _, at in contacts):
        broken.add("frequency")
    for cap in config.caps:
        if cap.channel in (None, channel):
            counted = [at for on, at in contacts if cap.channel in (None, on)]
            if sum((shop.moment.date() - at.date()).days < cap.days for at in counted) >= cap.max_contacts:
                broken.add("frequency")
    if channel in config.quiet_hours.channels and _asleep(customer.time_zone, shop.moment, config.quiet_hours):
        broken.add("quiet_hours")
    if customer.segment not in action.segments:
        broken.add("eligibility")
    caps = [action.discount_pct, config.discount_cap, config.segment_caps.get(customer.segment, 100.0)]
    if config.min_margin_pct is not None:
        caps.append(max(0.0, (customer.margin_pct or 0.0) - config.min_margin_pct))
        if customer.margin_pct is None:
            caps.append(0.0)
    if float(decision.discount_pct) > min(caps) + 1e-6:
        broken.add("discount")
    if decision.policy == "peeking":
        broken.add("forbidden_features")
    return broken


def _asleep(zone, moment, quiet) -> bool:
    hours = range(quiet.start_hour, quiet.end_hour if quiet.start_hour <= quiet.end_hour else quiet.end_hour + 24)
    asleep = {hour % 24 for hour in hours}
    if zone in ("Mars/Olympus", None):
        return bool(asleep)
    return moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).hour in asleep


TYPES = dict.fromkeys(("has_email", "has_phone", "email_consent", "sms_consent"), "boolean") | {"margin_pct": "double"}


class Candidates:
    """`main.int_decision_candidates` in a warehouse of its own, with a clock that is set."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        columns = ", ".join(f"{name} {TYPES.get(name, 'varchar')}" for name in COLUMNS)
        warehouse.execute(f"create table main.int_decision_candidates ({columns}, updated_at timestamp)")
        self.set_clock(datetime(2026, 3, 1))  # noqa: DTZ001

    def set_clock(self, as_of: datetime) -> None:
        self.warehouse.execute("delete from headwater.clock")
        self.warehouse.execute("insert into headwater.clock values (?, null, ?)", [as_of, as_of])

    def fill(self, customers: Iterable[Customer]) -> None:
        """Replace all rows."""
        self.warehouse.execute("delete from main.int_decision_candidates")
        rows = [{**{name: getattr(c, name, None) for name in COLUMNS}, **(c.features or {})} for c in customers]
        columns = {name: [row[name] for row in rows] for name in COLUMNS}
        given, parameters = log.given(columns, TYPES)
        self.warehouse.execute(f"insert into main.int_decision_candidates select *, null from {given}", parameters)

    def empty_ledgers(self) -> None:
        for table in (
            "decision_log",
            "decision_traces",
            "decision_rejects",
            "contact_ledger",
            "budget_ledger",
            "consent_state",
            "kill_switch",
        ):
            self.warehouse.execute(f"delete from headwater.{table}")

    def count(self, table: str, where: str = "true") -> int:
        return self.warehouse.value(f"select count(*) from headwater.{table} where {where}")

    def contact(self, customer: str, channel: str, at: datetime, decision_id: str = "earlier") -> None:
        self.warehouse.execute(
            "insert into headwater.contact_ledger values (?, ?, ?, 'x', ?, ?)",
            [f"{customer}{channel}{at}", customer, channel, decision_id, at],
        )

    def say(self, customer: str, channel: str, consented: bool, at: datetime) -> None:
        self.warehouse.execute(
            "insert into headwater.consent_state values (?, ?, ?, 'test', ?)", [customer, channel, consented, at]
        )

    def switch(self, scope: str | None, on: bool | None = True) -> None:
        self.warehouse.execute("insert into headwater.kill_switch values (?, ?, 'test', 'test', null)", [scope, on])
