"""How the shop's customers behave: when a shop is busy, and when its customers buy, come back and stay away.

Buying is BG/NBD (Fader, Hardie and Lee 2005): a customer buys at random moments with a rate of his own (gamma), and
after every repeat purchase leaves for good with a probability of his own (beta). Seasons are laid over it by drawing in
"shop days", which run evenly, and mapping them to the calendar, where busy hours hold more of a shop day than quiet ones.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DAY = 86_400
MONTHS = (0.86, 0.84, 0.92, 0.95, 1.00, 0.97, 0.90, 0.93, 1.00, 1.05, 1.32, 1.45)
WEEKDAYS = (0.95, 0.92, 0.94, 0.98, 1.08, 1.16, 1.05)
HOURS = (3, 2, 1, 1, 1, 2, 4, 7, 9, 11, 13, 14, 15, 15, 14, 14, 15, 17, 19, 21, 21, 17, 11, 6)

RATE_SHAPE, RATE_DAYS = 0.78, 43.0  # gamma over customers: mean rate a shop day = shape / days
DROPOUT_A, DROPOUT_B = 0.8, 5.0  # beta over customers: mean chance to leave after a repeat purchase
KNOTS = 1 << 18


def draws(seed: int, concept: str) -> np.random.Generator:
    """The random numbers of one concept: the same for a seed whatever else is drawn, in whatever order."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *concept.encode()])))


def in_order(second: Array) -> Array:
    """(n,) int64: the order in which `second` (n,) int32, not negative, rises; equals keep their place."""
    key = second.astype(np.int64) << 32 | np.arange(second.size)
    key.sort()
    return key & 0xFFFFFFFF


def table(shares: tuple[float, ...], size: int = 256) -> Array:
    """(size,) int8: the index of `shares`, each in proportion; a random byte looked up here is one draw."""
    edges = np.cumsum(shares) / np.sum(shares)
    return np.searchsorted(edges, (np.arange(size) + 0.5) / size).astype(np.int8)


class Season:
    """The calendar of the shop: `days` days that end at `end`, with busy months, weekdays and hours (UTC)."""

    def __init__(self, end: datetime, days: int) -> None:
        self.start = end - timedelta(days=days)
        self.days = days
        hours = [self.start + timedelta(hours=hour) for hour in range(days * 24)]
        busy = np.array([MONTHS[h.month - 1] * WEEKDAYS[h.weekday()] * HOURS[h.hour] for h in hours], dtype=np.float64)
        passed = np.concatenate([[0.0], np.cumsum(busy)]) * (days / busy.sum())
        self._passed = passed
        self._per_day = KNOTS / days
        self._seconds = np.interp(
            np.linspace(0, days, KNOTS + 1), passed, np.arange(days * 24 + 1, dtype=np.float64) * 3600
        )
        self.daily = busy.reshape(days, 24).sum(axis=1) * (days / busy.sum())
        """(days,) float64: how busy each day is, mean 1."""

    def seconds(self, shop_days: Array) -> Array:
        """(n,) shop days in [0, days) as (n,) int32 seconds since `start`."""
        place = shop_days * self._per_day
        knot = np.minimum(place.astype(np.int32), KNOTS - 1)
        low = self._seconds[knot]
        return (low + (self._seconds[knot + 1] - low) * (place - knot)).astype(np.int32)

    def shop_days(self, seconds: Array) -> Array:
        """The way back: (n,) seconds since `start` as (n,) float64 shop days."""
        return np.interp(seconds, np.arange(self._passed.size) * 3600.0, self._passed)


@dataclass(frozen=True)
class Purchases:
    """Who bought when. One row per purchase, unordered: customer int32, day float64 (shop days), nth int32 (0 = first).
    `left` is (customers,) float64: the shop day after which the customer never comes again, `days` when he is still there."""

    customer: Array
    day: Array
    nth: Array
    left: Array


def purchases(draw: np.random.Generator, first: Array, rate: Array, dropout: Array, days: int) -> Purchases:
    """Play BG/NBD for all customers at once. `first` (n,) float64: shop day of the first purchase, NaN = never buys."""
    left = np.full(first.size, float(days))
    who = np.flatnonzero(~np.isnan(first)).astype(np.int32)
    day, pace, leave = first[who], 1.0 / rate[who], dropout[who].astype(np.float32)
    bought, when, nth = [], [], 0
    order: list[Array] = []
    while who.size:
        bought.append(who)
        when.append(day)
        order.append(np.full(who.size, nth, dtype=np.int32))
        if nth:
            gone = draw.random(who.size, dtype=np.float32) < leave
            left[who[gone]] = day[gone]
            who, day, pace, leave = (a[~gone] for a in (who, day, pace, leave))
        day = day + draw.standard_exponential(who.size, dtype=np.float32) * pace
        here = day < days
        who, day, pace, leave = (a[here] for a in (who, day, pace, leave))
        nth += 1
    return Purchases(np.concatenate(bought), np.concatenate(when), np.concatenate(order), left)
