"""Links become persons: the earliest wins, limits refuse, and the order of arrival never matters."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.identity.resolve import ALIAS, REFUSALS, Limits, Link, Resolution, resolve
from headwater.identity.settings import IdentitySettings

START = datetime(2026, 3, 1)  # noqa: DTZ001  (naive UTC, as the warehouse holds it)


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def link(minute: int, left: str, right: str, reason: str = "event", *, undone: bool = False) -> Link:
    """`left` and `right` like "anonymous:a1"."""
    (left_kind, left_id), (right_kind, right_id) = left.split(":"), right.split(":")
    return Link(
        f"{left}={right}/{reason}", left_kind, left_id, right_kind, right_id, reason, at(minute), f"m{minute}", undone
    )


def who(resolution: Resolution) -> dict[str, str]:
    return {f"{i.id_kind}:{i.id}": i.person_id for i in resolution.identities}


def test_an_anonymous_id_belongs_to_the_customer_it_was_first_seen_with():
    found = resolve([link(9, "anonymous:kiosk", "user:U9"), link(5, "anonymous:kiosk", "user:U5")])
    assert who(found) == {"anonymous:kiosk": "U5", "user:U5": "U5", "user:U9": "U9"}
    assert found.refused == {"anonymous:kiosk=user:U9/event": "user_limit"}


def test_an_id_knows_since_when_and_why_it_is_this_customer():
    found = resolve(
        [
            link(1, "email:a@x", "anonymous:a", "email"),
            link(4, "email:a@x", "user:U1", "email"),
            link(6, "anonymous:b", "user:U1"),
        ]
    )
    since = {i.id: (i.customer_id, i.linked_at, i.reason) for i in found.identities}
    assert since == {
        "a": ("U1", at(4), "email"),
        "a@x": ("U1", at(4), "email"),
        "U1": ("U1", at(4), "email"),
        "b": ("U1", at(6), "event"),
    }


def test_before_anybody_is_known_the_earliest_anonymous_id_names_the_person():
    found = resolve([link(3, "email:a@x", "anonymous:z", "email"), link(5, "email:a@x", "anonymous:a", "email")])
    assert set(who(found).values()) == {"anon:z"}


def test_two_customers_become_one_by_alias_only():
    both = [link(1, "anonymous:a", "user:OLD"), link(2, "anonymous:b", "user:NEW")]
    assert set(who(resolve(both)).values()) == {"OLD", "NEW"}
    joined = resolve([*both, link(3, "user:OLD", "user:NEW", ALIAS)])
    assert set(who(joined).values()) == {"NEW"}
    assert {i.id: (i.linked_at, i.reason) for i in joined.identities}["a"] == (at(3), ALIAS)


def test_aliases_follow_each_other_and_the_last_word_counts():
    chain = [link(1, "user:A", "user:B", ALIAS), link(2, "user:B", "user:C", ALIAS)]
    assert set(who(resolve(chain)).values()) == {"C"}
    assert set(who(resolve([link(1, "user:A", "user:B", ALIAS), link(2, "user:B", "user:A", ALIAS)])).values()) == {"A"}


def test_an_undone_link_joins_nothing_and_leaves_its_ids_known():
    found = resolve([link(1, "anonymous:a", "user:U1", undone=True)])
    assert who(found) == {"anonymous:a": "anon:a", "user:U1": "U1"}
    assert set(found.refused.values()) == {"undone"}


@pytest.mark.parametrize(
    ("limits", "kind", "refusal"),
    [
        (Limits(email=2), "email", "email_limit"),
        (Limits(device=2), "device", "device_limit"),
        (Limits(anonymous=2), "anonymous", "anonymous_limit"),
        (Limits(mappings=3), "anonymous", "mapping_cap"),
    ],
)
def test_the_link_beyond_a_limit_is_refused_and_the_id_stays_alone(limits, kind, refusal):
    found = resolve([link(n, f"{kind}:{n}", "user:U1", kind) for n in range(1, 4)], limits)
    assert list(found.refused.values()) == [refusal]
    alone = {i.id: i.person_id for i in found.identities if i.customer_id is None}
    assert alone == {"3": "anon:3" if kind == "anonymous" else f"{kind}:3"}
    assert next(i.reason for i in found.identities if i.id == "3") == refusal


def test_merges_of_whole_people_are_capped_and_single_ids_are_no_merge():
    groups = [link(n, f"email:{n}", f"anonymous:{n}", "email") for n in range(3)]
    merges = [link(10 + n, "email:0", f"anonymous:{n}", "email") for n in (1, 2)]
    assert not resolve([*groups, *merges], Limits(merges=2)).refused
    assert list(resolve([*groups, *merges], Limits(merges=1)).refused.values()) == ["merge_cap"]
    singles = [link(20 + n, "email:0", f"anonymous:new{n}", "email") for n in range(3)]
    assert not resolve([groups[0], *singles], Limits(merges=0)).refused


def test_the_documented_caps_hold_at_their_edges():
    thousand = [link(n, f"anonymous:{n}", "user:U1") for n in range(1000)]
    refused = resolve(thousand).refused
    assert list(refused.values()) == ["mapping_cap"]
    assert list(refused) == ["anonymous:999=user:U1/event"]
    pairs = [link(n, f"email:e{n}", f"anonymous:{n}", "email") for n in range(102)]
    glue = [link(200 + n, "device:d", f"anonymous:{n}", "device") for n in range(102)]
    joined = resolve([*pairs, *glue], Limits(email=1000))
    assert list(joined.refused.values()) == ["merge_cap"]


def test_settings_become_limits():
    made = IdentitySettings(email_limit=1, device_limit=2, anonymous_limit=3, merge_cap=4, mapping_cap=5).limits
    assert made == Limits(email=1, device=2, anonymous=3, merges=4, mappings=5)
    assert IdentitySettings().limits == Limits()


_nodes = {"anonymous": "abcdef", "user": "UVW", "email": "mn", "device": "d"}


@st.composite
def _links(draw) -> list[Link]:
    found = {}
    for number in range(draw(st.integers(1, 14))):
        if draw(st.integers(0, 4)) == 0:
            left, right, reason = f"user:{draw(st.sampled_from('UVW'))}", f"user:{draw(st.sampled_from('UVW'))}", ALIAS
        else:
            kind = draw(st.sampled_from(["anonymous", "email", "device"]))
            other = draw(st.sampled_from(["user", "anonymous"])) if kind != "anonymous" else "user"
            left, right, reason = (
                f"{kind}:{draw(st.sampled_from(_nodes[kind]))}",
                f"{other}:{draw(st.sampled_from(_nodes[other]))}",
                kind,
            )
        if left != right:
            made = link(draw(st.integers(0, 9)), left, right, reason, undone=draw(st.integers(0, 7)) == 0)
            found[made.link_id] = Link(*(getattr(made, name) for name in made.__slots__[:7]), f"m{number}", made.undone)
    return list(found.values())


@settings(max_examples=150, deadline=None)
@given(
    _links(),
    st.randoms(use_true_random=False),
    st.sampled_from([Limits(), Limits(email=1, device=1, anonymous=2, merges=1, mappings=4)]),
)
def test_whatever_the_order_the_answer_is_the_same_and_within_limits(links, random, limits):
    found = resolve(links, limits)
    shuffled = resolve(random.sample(links, len(links)), limits)
    assert set(found.identities) == set(shuffled.identities)
    assert found.refused == shuffled.refused
    assert set(found.refused.values()) <= set(REFUSALS)
    people: dict[str, list] = {}
    for identity in found.identities:
        people.setdefault(identity.person_id, []).append(identity)
    for person, identities in people.items():
        kinds = [identity.id_kind for identity in identities]
        assert len(identities) <= limits.mappings
        assert kinds.count("email") <= limits.email
        assert kinds.count("anonymous") <= limits.anonymous
        assert len({identity.customer_id for identity in identities}) == 1
        if not any(one.reason == ALIAS for one in links):
            assert kinds.count("user") <= 1
        assert person.startswith("anon:") or identities[0].customer_id == person or kinds in (["email"], ["device"])


@settings(max_examples=150, deadline=None)
@given(_links())
def test_components_that_share_no_id_do_not_know_of_each_other(links):
    other = [
        Link(
            f"o{one.link_id}",
            one.left_kind,
            f"o{one.left_id}",
            one.right_kind,
            f"o{one.right_id}",
            one.reason,
            one.linked_at,
            one.event_id,
            one.undone,
        )
        for one in links
    ]
    together = resolve([*links, *other])
    assert set(together.identities) == set(resolve(links).identities) | set(resolve(other).identities)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abcd"), st.sampled_from("UVW")), min_size=1, max_size=15)
)
def test_plain_links_agree_with_the_rule_of_the_batch_model(said):
    """`int_person_ids`: per anonymous id the customer of the earliest event with both ids."""
    links: dict[tuple[str, str], Link] = {}
    for number, (minute, visitor, customer) in enumerate(said):
        one = link(minute, f"anonymous:{visitor}", f"user:{customer}")
        one = Link(one.link_id, "anonymous", visitor, "user", customer, "event", one.linked_at, f"m{number:02}")
        if (visitor, customer) not in links or (one.linked_at, one.event_id) < (
            links[visitor, customer].linked_at,
            links[visitor, customer].event_id,
        ):
            links[visitor, customer] = one
    first = {}
    for (visitor, customer), one in links.items():
        if visitor not in first or (one.linked_at, one.event_id) < first[visitor][:2]:
            first[visitor] = (one.linked_at, one.event_id, customer)
    found = {i.id: (i.customer_id, i.linked_at) for i in resolve(links.values()).identities if i.id_kind == "anonymous"}
    assert found == {visitor: (customer, moment) for visitor, (moment, _, customer) in first.items()}
