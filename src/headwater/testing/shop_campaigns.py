"""The shop's marketing: campaigns, messages of the e-mail campaigns with what came of them, and money spent on ads."""

from dataclasses import dataclass

import numpy as np

from headwater.testing.shop_behaviour import DAY, Array, Season, draws
from headwater.testing.shop_people import ARRIVE_BY, CHANNELS, NEVER_BUY, People

EMAIL = CHANNELS.index("email")
COST_OF_CUSTOMER = {"paid_search": 2_600, "paid_social": 3_100, "affiliate": 1_700}
"""Channels that cost money, with cents spent for one new customer."""
COST_OF_CLICK = {"paid_search": 85, "paid_social": 48, "affiliate": 40}
MAIL_EVERY, MAIL_DAYS = 21, 240
MAIL_THEMES = ("new arrivals", "back in stock", "members' weekend", "season sale", "gift ideas")


@dataclass(frozen=True)
class Campaigns:
    """One row per campaign: name, channel (code), started and ended in seconds since the shop's start.
    `running` (channels, days) int16: the campaign that a channel runs on a day, -1 = none."""

    name: list[str]
    channel: Array
    started: Array
    ended: Array
    running: Array


@dataclass(frozen=True)
class Messages:
    """One row per message of an e-mail campaign, by campaign: codes campaign int16, customer int32, int32 seconds sent,
    opened, clicked, converted, unsubscribed (-1 = never), and `order`, the index of the order that it brought or -1."""

    campaign: Array
    customer: Array
    sent: Array
    opened: Array
    clicked: Array
    converted: Array
    unsubscribed: Array
    order: Array


@dataclass(frozen=True)
class AdSpend:
    """One row per day, channel and campaign: day int32, codes channel int8, campaign int16 (-1 = the brand, no campaign),
    cents int64, impressions and clicks int64."""

    day: Array
    channel: Array
    campaign: Array
    cents: Array
    impressions: Array
    clicks: Array


def campaigns(season: Season) -> Campaigns:
    """An ad campaign per paid channel and quarter, and a mail every three weeks of the last eight months."""
    name: list[str] = []
    channel: list[int] = []
    started: list[int] = []
    ended: list[int] = []
    running = np.full((len(CHANNELS), season.days), -1, dtype=np.int16)
    start = np.datetime64(season.start.replace(tzinfo=None), "D")
    days = start + np.arange(season.days)
    quarters = days.astype("datetime64[M]").astype(np.int64) // 3
    for code in (CHANNELS.index(paid) for paid in COST_OF_CUSTOMER):
        for quarter in np.unique(quarters):
            on = np.flatnonzero(quarters == quarter)
            running[code, on] = len(name)
            name.append(f"{CHANNELS[code].replace('_', ' ')} {1970 + quarter // 4} Q{quarter % 4 + 1}")
            channel.append(code)
            started.append(int(on[0]) * DAY)
            ended.append((int(on[-1]) + 1) * DAY - 1)
    for nth, back in enumerate(range(min(MAIL_DAYS, season.days) // MAIL_EVERY * MAIL_EVERY - 7, 0, -MAIL_EVERY)):
        name.append(f"e-mail {nth + 1:02d} {MAIL_THEMES[nth % len(MAIL_THEMES)]}")
        channel.append(EMAIL)
        started.append((season.days - back) * DAY + 9 * 3600)
        ended.append((season.days - back + 7) * DAY + 9 * 3600 - 1)
    return Campaigns(name, np.array(channel, np.int8), np.array(started, np.int32), np.array(ended, np.int32), running)


def messages(seed: int, plan: Campaigns, people: People, buyer: Array, bought: Array, season: Season) -> Messages:
    """Mail a seventh of those who agreed. `buyer`, `bought`: customer (-1 = guest) and second of every order, by time.

    Those who open and click are mostly those who buy in the next seven days: that order is the message's conversion.
    Who unsubscribes gets no later message.
    """
    draw = draws(seed, "messages")
    end = season.days * DAY
    mails = np.flatnonzero(plan.channel == EMAIL)
    since = plan.started[mails[0]] if mails.size else end
    orders = np.flatnonzero((bought >= since) & (buyer >= 0))
    key = buyer[orders].astype(np.int64) << 32 | bought[orders]
    by_customer = np.argsort(key, kind="stable")
    key, orders = np.append(key[by_customer], np.iinfo(np.int64).max), np.append(orders[by_customer], -1)

    listening = (people.email_ok == 1) & (people.has_email == 1)
    parts: list[tuple[Array, ...]] = []
    for mail in mails:
        start = plan.started[mail]
        who = np.flatnonzero(
            listening & (people.created < start) & (draw.random(len(people), dtype=np.float32) < 1 / 7)
        )
        sent = start + draw.integers(0, 7_200, who.size, dtype=np.int32)
        place = np.searchsorted(key, who.astype(np.int64) << 32 | sent, side="right")
        order = orders[place].astype(np.int32)
        wait = np.where(key[place] >> 32 == who, (key[place] & 0xFFFFFFFF) - sent, end)
        buys = (wait > 60) & (wait < 7 * DAY)
        luck = draw.random((4, who.size), dtype=np.float32)
        delay = np.where(buys, wait * 0.8 * luck[0], draw.exponential(9 * 3600, who.size))
        opens = (luck[1] < np.where(buys, 0.85, 0.34)) & (sent + delay < end)
        opened = np.where(opens, sent + delay, -1).astype(np.int32)
        clicks = opens & (luck[2] < np.where(buys, 0.7, 0.1)) & (opened + 20 < end)
        clicked = np.where(clicks, opened + 5 + (luck[0] * 10).astype(np.int32), -1).astype(np.int32)
        converts = clicks & buys & (sent + wait > clicked)
        leaves = opens & ~converts & (luck[3] < 0.012) & (opened + 60 < end)
        listening[who[leaves]] = False
        parts.append(
            (
                np.full(who.size, mail, dtype=np.int16),
                who.astype(np.int32),
                sent.astype(np.int32),
                opened,
                clicked,
                np.where(converts, sent + wait, -1).astype(np.int32),
                np.where(leaves, opened + 30, -1).astype(np.int32),
                np.where(converts, order, -1).astype(np.int32),
            )
        )
    return Messages(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def ad_spend(seed: int, plan: Campaigns, customers: int, season: Season) -> AdSpend:
    """Each paid channel spends, day by day, about what the new customers it is expected to bring may cost."""
    draw = draws(seed, "ad spend")
    day = np.arange(season.days, dtype=np.int32)
    coming = season.daily * (0.6 + 0.8 * (day + 0.5) / season.days) * customers * (1 - NEVER_BUY) / season.days
    parts: list[tuple[Array, ...]] = []
    for paid, cost in COST_OF_CUSTOMER.items():
        code = CHANNELS.index(paid)
        for share, campaign in ((0.85, plan.running[code]), (0.15, np.full_like(plan.running[code], -1))):
            if paid != "paid_search" and share < 0.5:
                continue
            noise = np.exp(draw.normal(0, 0.15, day.size))
            cents = np.rint(coming * ARRIVE_BY[code] * cost * share * noise).astype(np.int64) + 100
            clicks = np.rint(cents / COST_OF_CLICK[paid] * np.exp(draw.normal(0, 0.1, day.size))).astype(np.int64) + 1
            impressions = clicks * draw.integers(25, 60, day.size)
            parts.append((day, np.full(day.size, code, np.int8), campaign, cents, impressions, clicks))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.lexsort((columns[2], columns[1], columns[0]))
    return AdSpend(*(column[order] for column in columns))
