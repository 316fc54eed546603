"""What a guardrail is. One file per rule beside this one; `GUARDRAILS` in `__init__` lists them in order.

A rule looks at one option (an action by a channel) for one customer at one moment. It says yes, no, or "yes, with a smaller
discount". It never adds an option. The same rule is written twice, side by side: `check` in Python for one customer and
`sql` for a batch, and a property test holds them to the same answer on every row. The first line of the class's docstring
is the sentence that the console shows for a block.

To add one: copy a file, give it a name, a step and a sentence, and add it to GUARDRAILS (or name it in the setting
`guardrails` as `package.module:Class`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from headwater.decisions.customer import Customer
from headwater.decisions.hashing import unit
from headwater.decisions.policy import Policy
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import Action, Table


@dataclass(frozen=True)
class Switches:
    """Which kill switches are on: everything, some channels, some campaigns."""

    everything: bool = False
    channels: frozenset[str] = frozenset()
    campaigns: frozenset[str] = frozenset()
    reasons: tuple[str, ...] = ()

    def key(self) -> str:
        """What is on, as text; it goes into the config hash, so that switching gives new decisions."""
        return "|".join(["*" if self.everything else "", *sorted(self.channels), "#", *sorted(self.campaigns)])


@dataclass(frozen=True)
class Setup:
    """What holds for every customer of a batch, or of a Decider: settings with the call's own values put in."""

    settings: DecisionSettings
    table: Table
    policy: Policy
    usual: Policy | None = None
    """What the group "business as usual" gets in place of the policy; None when there is no such group."""

    def policy_of(self, usual: bool) -> Policy:
        """The policy of a customer: the usual one in that group."""
        return self.usual if usual and self.usual is not None else self.policy


@dataclass(frozen=True)
class Now:
    """The moment (naive UTC) and the switches at that moment."""

    moment: datetime
    switches: Switches = Switches()


@dataclass(frozen=True, slots=True)
class History:
    """What the ledgers know of one customer: contacts (channel, naive UTC moment) that any window may need, and the newest
    word on consent per channel."""

    contacts: tuple[tuple[str, datetime], ...] = ()
    said: Mapping[str, bool] = field(default_factory=dict)


NO_HISTORY = History()


class Case:
    """One customer at one moment, as the rules see it."""

    __slots__ = ("customer", "history", "in_holdout", "now", "usual")

    def __init__(self, customer: Customer, history: History, now: Now, setup: Setup) -> None:
        self.customer = customer
        self.history = history
        self.now = now
        self.in_holdout = (
            unit("holdout", setup.settings.holdout_salt, customer.customer_id) < setup.settings.holdout_share
        )
        self.usual = (
            setup.usual is not None
            and not self.in_holdout
            and unit("usual", setup.settings.holdout_salt, customer.customer_id)
            < setup.settings.business_as_usual_share
        )

    @property
    def group(self) -> str:
        """The group of the experiment, sticky: holdout, business_as_usual or treatment."""
        return "holdout" if self.in_holdout else "business_as_usual" if self.usual else "treatment"


class Option:
    """An action by one channel, with its discount in basis points."""

    __slots__ = ("action", "channel", "discount", "label")

    def __init__(self, action: Action, channel: str, discount: int) -> None:
        self.action = action
        self.channel = channel
        self.discount = discount
        self.label = f"{action.action_id}/{channel}"

    def with_discount(self, discount: int) -> "Option":
        return self if discount == self.discount else Option(self.action, self.channel, discount)


@dataclass(frozen=True)
class RuleSql:
    """A rule for a batch.

    `facts`: column → boolean or integer SQL, never null, over `c` (a row of the candidates) and the rule's own `joins`.
    `blocked`: boolean SQL over `s` (the facts, and `s.segment`) and `o` (option: action_id, channel, campaign, segments,
    discount). `discount`: integer SQL over the same, the discount in basis points after the rule; None = unchanged.
    Facts are few-valued on purpose: rows with the same facts are judged once.
    """

    blocked: str
    facts: Mapping[str, str] = field(default_factory=dict)
    joins: tuple[str, ...] = ()
    discount: str | None = None


class Guardrail:
    """Base of all rules. `step` is its place in the order of decisions (1 to 9).

    `momentary`: what the rule says passes with the hours and with our own contacts, though nothing about the customer has
    changed. Such a word does not unmake a decision that stands (it is asked again at send); only a `none` that it caused is
    decided anew once it no longer holds.
    """

    name: ClassVar[str]
    step: ClassVar[int]
    momentary: ClassVar[bool] = False

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    @classmethod
    def sentence(cls) -> str:
        """What the console shows when the rule blocks."""
        return (cls.__doc__ or "").strip().splitlines()[0]

    def check(self, case: Case, option: Option) -> Option | None:
        """The option if it may stay (perhaps with a smaller discount), None if not."""
        raise NotImplementedError

    def sql(self, now: Now) -> RuleSql:
        """The same for a batch."""
        raise NotImplementedError
