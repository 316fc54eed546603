"""Persons out of links: connected components, grown link by link in the order of their time, within limits.

A link says that two ids are one person. Links are taken in the order (linked_at, event_id, link_id), whatever order they
arrived in, so a limit refuses the same links on every machine and after every replay. A link that would break a limit is
refused as a whole and reported; it joins nothing, and the links after it are judged as if it had not been there.

Two people who both have a user id become one only by `alias`. Any other link between them is refused (`user_limit`): a
computer that two customers share belongs to the one who was seen there first.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter

from headwater.identity.keys import KINDS, Kind

ALIAS = "alias"
"""The reason of a link that may join two user ids: its left id is the old one, its right id the one that stays."""

REFUSALS = {
    "user_limit": "both sides have a user id already, and only an alias call makes two of them one person",
    "email_limit": "the person would have more e-mail addresses than identity.email_limit",
    "anonymous_limit": "the person would have more anonymous ids than identity.anonymous_limit",
    "device_limit": "the person would have more device ids than identity.device_limit",
    "merge_cap": "the person is the result of identity.merge_cap merges already",
    "mapping_cap": "the person would have more ids than identity.mapping_cap",
    "undone": "somebody undid the link",
}


@dataclass(frozen=True)
class Limits:
    """How many ids of a kind one person may have, how many merges make one person at most, how many ids in all.

    A merge joins two people of two or more ids each; a single id that joins a person is no merge.
    """

    email: int = 5
    device: int = 20
    anonymous: int = 1000
    merges: int = 100
    mappings: int = 1000


@dataclass(frozen=True, slots=True)
class Link:
    """One statement that two ids are one person. `reason` is event, identify, email, device or alias; `undone` ones join nothing."""

    link_id: str
    left_kind: Kind
    left_id: str
    right_kind: Kind
    right_id: str
    reason: str
    linked_at: datetime
    event_id: str
    undone: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """Who one id is: a row of `headwater.identities`.

    `person_id` is `customer_id`, or `anon:` and the person's earliest anonymous id while no user id is known. `linked_at` and
    `reason` are those of the link that made it this customer (this person, while there is none); an id whose every link was
    refused has the first refusal as its reason.
    """

    id_kind: Kind
    id: str
    person_id: str
    customer_id: str | None
    linked_at: datetime
    reason: str


@dataclass(frozen=True)
class Resolution:
    """One identity per id that stands in any link, in no particular order; the refused links with the key of REFUSALS."""

    identities: list[Identity]
    refused: Mapping[str, str] = field(default_factory=dict)


_order = attrgetter("linked_at", "event_id", "link_id")
_Node = tuple[Kind, str]
_USER, _ANONYMOUS, _EMAIL, _DEVICE = (KINDS.index(kind) for kind in ("user", "anonymous", "email", "device"))
_POSITION = {kind: number for number, kind in enumerate(KINDS)}


class _Person:
    """A component while it grows. `since` holds each id's moment and reason; `anonymous` is the earliest anonymous id."""

    __slots__ = ("anonymous", "counts", "customer", "merges", "since")

    def __init__(self, node: _Node, at: tuple[datetime, str], turn: int) -> None:
        kind, name = node
        self.since = {node: at}
        self.counts = [0, 0, 0, 0]
        self.counts[_POSITION[kind]] = 1
        self.merges = 0
        self.customer = name if kind == "user" else None
        self.anonymous = (turn, name) if kind == "anonymous" else None


def resolve(links: Iterable[Link], limits: Limits | None = None) -> Resolution:
    """Who is who, by all links of some components.

    The components must be whole: leaving out a link that touches one of the ids may change the answer, leaving out one that
    touches none of them cannot. The order of `links` does not matter.
    """
    limits = limits or Limits()
    people: dict[_Node, _Person] = {}
    refused: dict[str, str] = {}
    for turn, link in enumerate(sorted(links, key=_order)):
        left, right = (link.left_kind, link.left_id), (link.right_kind, link.right_id)
        a, b = people.get(left), people.get(right)
        if link.undone:
            why = "undone"
        else:
            why = _refusal(
                a or _Person(left, (link.linked_at, ""), turn),
                b or _Person(right, (link.linked_at, ""), turn),
                link,
                limits,
            )
        at = (link.linked_at, why or link.reason)
        if a is None:
            a = people[left] = _Person(left, at, turn)
        if b is None:
            b = people[right] = _Person(right, at, turn)
        if why:
            refused[link.link_id] = why
        elif a is not b:
            joined = _join(a, b, link, at)
            for node in (b if joined is a else a).since:
                people[node] = joined
        elif link.reason == ALIAS and a.customer == link.left_id and link.left_kind == "user":
            _rename(a, link.right_id, at)
    return Resolution(_identities(people), refused)


def _refusal(a: _Person, b: _Person, link: Link, limits: Limits) -> str | None:
    if a is b:
        return None
    if a.customer is not None and b.customer is not None and link.reason != ALIAS:
        return "user_limit"
    counts = [one + other for one, other in zip(a.counts, b.counts, strict=True)]
    if counts[_EMAIL] > limits.email:
        return "email_limit"
    if counts[_ANONYMOUS] > limits.anonymous:
        return "anonymous_limit"
    if counts[_DEVICE] > limits.device:
        return "device_limit"
    if a.merges + b.merges + _is_merge(a, b) > limits.merges:
        return "merge_cap"
    return "mapping_cap" if sum(counts) > limits.mappings else None


def _is_merge(a: _Person, b: _Person) -> bool:
    return sum(a.counts) > 1 and sum(b.counts) > 1


def _join(a: _Person, b: _Person, link: Link, at: tuple[datetime, str]) -> _Person:
    """Both as one: `b`, the right side, keeps its customer; otherwise the one that is known stays."""
    customer = b.customer if b.customer is not None else a.customer
    merges = a.merges + b.merges + _is_merge(a, b)
    for person in (a, b):
        alone = sum(person.counts) == 1  # a lone id belongs to nobody yet, or was only refused: this link is its first
        if alone or person.customer != customer:
            person.since = dict.fromkeys(person.since, at)
    big, small = (a, b) if len(a.since) >= len(b.since) else (b, a)
    big.since.update(small.since)
    big.counts = [one + other for one, other in zip(a.counts, b.counts, strict=True)]
    big.merges = merges
    big.customer = customer
    big.anonymous = min((p for p in (a.anonymous, b.anonymous) if p is not None), default=None)
    return big


def _rename(person: _Person, customer: str, at: tuple[datetime, str]) -> None:
    person.customer = customer
    person.since = dict.fromkeys(person.since, at)


def _identities(people: Mapping[_Node, _Person]) -> list[Identity]:
    found = []
    for person in {id(person): person for person in people.values()}.values():
        if person.customer is not None:
            person_id = person.customer
        elif person.anonymous is not None:
            person_id = f"anon:{person.anonymous[1]}"
        else:
            person_id = ":".join(min(person.since))
        for (kind, name), (linked_at, reason) in person.since.items():
            found.append(Identity(kind, name, person_id, person.customer, linked_at, reason))
    return found
