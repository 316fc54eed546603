"""What visitors do on the shop's site: visits of a few events each, by people known and unknown."""

from dataclasses import dataclass

import numpy as np

from headwater.testing.shop_behaviour import DAY, Array, Purchases, Season, draws, in_order, table
from headwater.testing.shop_campaigns import EMAIL, Campaigns, Messages
from headwater.testing.shop_catalogue import SLOTS, TIERS, Catalogue
from headwater.testing.shop_orders import Lines, Orders
from headwater.testing.shop_people import People

NAMES = (
    "page_viewed", "product_viewed", "product_added", "checkout_started", "order_completed", "signed_up",
    "demo_requested", "whitepaper_downloaded", "newsletter_subscribed", "meetup_attended", "community_joined",
)  # fmt: skip
PAGE, VIEW, ADD, CHECKOUT, COMPLETE, SIGN_UP, LEAD = range(7)
BROWSE, CART, ABANDON, BUY, JOIN, ENQUIRE = range(6)
"""Kinds of visit; each begins with pages and product views and ends with its TAIL."""
TAIL = np.array(
    [[0, 0, 0], [ADD, 0, 0], [ADD, CHECKOUT, 0], [ADD, CHECKOUT, COMPLETE], [SIGN_UP, 0, 0], [LEAD, 0, 0]],
    dtype=np.int8,
)
TAIL_LENGTH = np.array([0, 1, 2, 3, 1, 1], dtype=np.int32)
COME_BY = (0.34, 0.30, 0.14, 0.09, 0.04, 0.05, 0.04)
LEAD_NAMES = (0.20, 0.26, 0.28, 0.12, 0.14)


@dataclass(frozen=True)
class Events:
    """One row per event, by time, arrays (events,): name int8 (code of NAMES), second int32 since the shop's start,
    device int32, customer int32 (-1 = not known yet), session int32 (-1 = the app sends none), product int16 (-1 = none),
    channel int8, campaign int16 (-1 = none)."""

    name: Array
    second: Array
    device: Array
    customer: Array
    session: Array
    product: Array
    channel: Array
    campaign: Array


@dataclass(frozen=True)
class _Visits:
    """One row per visit. `at` is when it starts, but for BUY and JOIN when its last event happens."""

    kind: Array
    at: Array
    customer: Array
    device: Array
    channel: Array
    campaign: Array
    lead: Array
    product: Array


def events(
    seed: int,
    season: Season,
    event_days: int,
    people: People,
    buying: Purchases,
    goods: Catalogue,
    plan: Campaigns,
    mails: Messages,
    orders: Orders,
    lines: Lines,
) -> Events:
    """All events of the last `event_days` days; the newest page view is at the shop's very last second."""
    draw = draws(seed, "events")
    end, since = season.days * DAY, (season.days - event_days) * DAY
    parts = [
        _buying(draw, since, len(people), orders, lines),
        _browsing(draw, since, people, buying, season),
        _joining(since, people),
        _clicking(since, mails),
        _enquiring(draw, end, len(people)),
    ]
    parts.append(_strangers(draw, since, end, len(people), sum(part.kind.size for part in parts)))
    visits = _Visits(*(np.concatenate([getattr(p, name) for p in parts]) for name in _Visits.__dataclass_fields__))
    return _expand(draw, visits, end, since, people, goods, plan)


def _visits(kind: int, at: Array, customer: Array, device: Array, **more: Array) -> _Visits:
    unset = np.full(at.size, -1, dtype=np.int16)
    return _Visits(
        kind=np.full(at.size, kind, dtype=np.int8),
        at=at.astype(np.int32),
        customer=customer.astype(np.int32),
        device=device.astype(np.int32),
        channel=more.get("channel", unset),
        campaign=more.get("campaign", unset),
        lead=more.get("lead", unset),
        product=more.get("product", unset),
    )


def _buying(draw: np.random.Generator, since: int, customers: int, orders: Orders, lines: Lines) -> _Visits:
    """The visits that ended in an order; some orders come by phone and leave no trace on the site."""
    seen = np.flatnonzero((orders.second >= since) & (draw.random(orders.second.size, dtype=np.float32) < 0.93))
    customer = orders.customer[seen]
    device = np.where(customer >= 0, customer, 2 * customers + seen)
    return _visits(
        BUY,
        orders.second[seen],
        customer,
        device,
        channel=orders.channel[seen],
        campaign=orders.campaign[seen],
        product=lines.product[lines.first_line[seen]],
    )


def _browsing(draw: np.random.Generator, since: int, people: People, buying: Purchases, season: Season) -> _Visits:
    """Customers look around while they are with the shop, more often those who buy often, and most just after joining."""
    opened = season.shop_days(np.maximum(people.created, since))
    often = np.where(np.isnan(people.first), 0.006 + 0.3 * people.rate, 0.003 + 1.1 * people.rate)
    stays = np.maximum(buying.left - opened, 0)
    times = draw.poisson(stays * often)
    who = np.repeat(np.arange(len(people), dtype=np.int32), times)
    at = season.seconds(opened[who] + draw.random(who.size) * stays[who])
    fresh = np.flatnonzero(people.created >= since)
    again = np.repeat(fresh, draw.poisson(1.8, fresh.size))
    soon = people.created[again] + draw.exponential(4 * DAY, again.size)
    again, soon = again[soon < season.days * DAY], soon[soon < season.days * DAY]
    who, at = np.concatenate([who, again.astype(np.int32)]), np.concatenate([at, soon.astype(np.int32)])
    # three in ten visits come from the customer's second device
    device = np.where(draw.random(who.size, dtype=np.float32) < 0.3, who + len(people), who)
    visits = _visits(BROWSE, at, who, device)
    return _Visits(**{**vars(visits), "kind": _intent(draw, who.size)})


def _intent(draw: np.random.Generator, count: int) -> Array:
    return table((0.80, 0.14, 0.06))[draw.integers(0, 256, count, dtype=np.uint8)]


def _joining(since: int, people: People) -> _Visits:
    who = np.flatnonzero(people.created >= since)
    return _visits(JOIN, people.created[who], who, who, channel=people.channel[who])


def _clicking(since: int, mails: Messages) -> _Visits:
    """Visits that a mail brought, but for those that ended in an order, which are in `_buying`."""
    click = np.flatnonzero((mails.clicked >= since) & (mails.order < 0))
    who = mails.customer[click]
    return _visits(
        BROWSE,
        mails.clicked[click],
        who,
        who,
        channel=np.full(click.size, EMAIL, dtype=np.int8),
        campaign=mails.campaign[click],
    )


def _enquiring(draw: np.random.Generator, end: int, customers: int) -> _Visits:
    """Leads: people, known and unknown, who ask for a demo, read a paper, join … in the last two months."""
    leads = 400 + customers // 25
    known = draw.random(leads) < 0.6
    customer = np.where(known, draw.permutation(max(customers, leads))[:leads], -1)
    customer[customer >= customers] = -1
    device = np.where(customer >= 0, customer, 3 * customers + np.arange(leads) + (1 << 29))
    times = 1 + draw.poisson(0.9, leads)
    who = np.repeat(np.arange(leads), times)
    back = np.where(draw.random(who.size) < 0.75, draw.random(who.size) * 28, draw.random(who.size) * 60) * DAY
    lead = table(LEAD_NAMES)[draw.integers(0, 256, who.size, dtype=np.uint8)]
    return _visits(ENQUIRE, end - 600 - back, customer[who], device[who], lead=lead.astype(np.int16))


def _strangers(draw: np.random.Generator, since: int, end: int, customers: int, visits: int) -> _Visits:
    """Visitors who never say who they are: one in four visits, each device a few times."""
    count = visits // 3
    at = since + draw.random(count) * (end - since)
    device = 2 * customers + (1 << 28) + draw.integers(0, max(1, count // 2), count)
    stranger = _visits(BROWSE, at, np.full(count, -1), device)
    return _Visits(**{**vars(stranger), "kind": _intent(draw, count)})


def _expand(
    draw: np.random.Generator, visits: _Visits, end: int, since: int, people: People, goods: Catalogue, plan: Campaigns
) -> Events:
    """From visits to events."""
    count, kind = visits.kind.size, visits.kind
    pages = 1 + draw.poisson(0.35, count).astype(np.int32)
    views = np.where(kind >= JOIN, 0, np.maximum(draw.poisson(1.1, count), kind >= CART)).astype(np.int32)
    size = pages + views + TAIL_LENGTH[kind]
    pace = draw.integers(12, 75, count, dtype=np.int32)
    long = (size - 1) * pace
    start = np.where((kind == BUY) | (kind == JOIN), visits.at - long, np.minimum(visits.at, end - long))
    start = np.maximum(start, 0)
    channel = table(COME_BY)[draw.integers(0, 256, count, dtype=np.uint8)]
    channel = np.where(visits.channel >= 0, visits.channel, channel).astype(np.int8)
    day = np.minimum(visits.at // DAY, plan.running.shape[1] - 1)
    campaign = np.where(visits.channel >= 0, visits.campaign, plan.running[channel, day]).astype(np.int16)
    session = np.where(draw.random(count, dtype=np.float32) < 0.9, np.arange(count, dtype=np.int32), -1)
    signed_in = draw.random(count, dtype=np.float32) < 0.55

    visit = np.repeat(np.arange(count, dtype=np.int32), size)
    place = np.arange(visit.size, dtype=np.int32) - np.repeat((np.cumsum(size) - size).astype(np.int32), size)
    tail = place - (pages + views)[visit]
    name = TAIL.reshape(-1)[kind.astype(np.int32)[visit] * TAIL.shape[1] + np.maximum(tail, 0)]
    name[tail < 0] = VIEW
    name[tail < -views[visit]] = PAGE
    lead = np.flatnonzero(name == LEAD)
    name[lead] += visits.lead[visit[lead]].astype(np.int8)
    second = start[visit] + place * pace[visit]
    customer = visits.customer[visit]
    told = signed_in[visit] | (name >= CHECKOUT)
    customer[~told] = -1

    spend = np.where(visits.customer >= 0, people.spend[visits.customer], 0.7)
    tier = (spend / (spend + 1.0) * TIERS).astype(np.int32)
    slot = tier[visit] * SLOTS + draw.integers(0, SLOTS, visit.size, dtype=np.int32)
    product = np.where((name == VIEW) | (name == ADD), goods.choice.reshape(-1)[slot], -1).astype(np.int16)
    bought = (name == ADD) & (visits.product[visit] >= 0)
    product[bought] = visits.product[visit[bought]]

    order = in_order(second)
    order = order[np.searchsorted(second[order], since) :]
    last = order[np.flatnonzero(name[order] == PAGE)[-1]]
    order = np.append(order[order != last], last)
    second[last] = end
    return Events(
        name=name[order],
        second=second[order],
        device=visits.device[visit][order],
        customer=customer[order],
        session=session[visit][order],
        product=product[order],
        channel=channel[visit][order],
        campaign=campaign[visit][order],
    )
