"""The orders of the shop and their lines, with coupons, cancellations and refunds."""

from dataclasses import dataclass

import numpy as np

from headwater.testing.shop_behaviour import DAY, Array, Season, draws, in_order, table
from headwater.testing.shop_campaigns import EMAIL, Campaigns, Messages
from headwater.testing.shop_catalogue import SLOTS, TIERS, Catalogue
from headwater.testing.shop_people import CHANNELS, People

STATUSES = ("completed", "processing", "cancelled", "partially_refunded", "refunded")
COUPONS = (("WELCOME10", 10), ("SAVE15", 15), ("BLACK20", 20))
COME_BACK_BY = (0.38, 0.26, 0.07, 0.03, 0.00, 0.04, 0.02)
"""Share of later orders by channel; the rest (a fifth) come by the channel of the first."""
GUESTS = 0.012
CANCELLED = 0.008
RETURNED = 0.035


@dataclass(frozen=True)
class Orders:
    """One row per order, by time, arrays (orders,): customer int32 (-1 = guest), second int32 since the shop's start,
    nth int32 (0 = the customer's first), codes channel int8, campaign int16, coupon int8 (-1 = none), status int8,
    updated int32 seconds."""

    customer: Array
    second: Array
    nth: Array
    channel: Array
    campaign: Array
    coupon: Array
    status: Array
    updated: Array


@dataclass(frozen=True)
class Lines:
    """One row per order line; sales first, by order, then what was given back, by order of the sale. Arrays (lines,):
    order int32, product int16, quantity int8 (negative = given back), price int32 cents a unit, discount int32 cents off
    the line (-1 = none). `sold` is how many of them are sales; the first sale of order i is `first_line[i]`.
    `returned` (lines - sold,) int32 seconds: when each of the others was booked."""

    order: Array
    product: Array
    quantity: Array
    price: Array
    discount: Array
    sold: int
    first_line: Array
    returned: Array


def as_booked(orders: Orders, lines: Lines) -> dict[str, Array]:
    """The columns of `lines` in the order of a shop's books: what is given back stands among the sales of its day."""
    late = in_order(lines.returned)
    later_order = np.searchsorted(orders.second, lines.returned[late], side="right")
    place = np.append(lines.first_line, lines.sold)[later_order]
    columns = {name: getattr(lines, name) for name in ("order", "product", "quantity", "price", "discount")}
    return {name: np.insert(c[: lines.sold], place, c[lines.sold :][late]) for name, c in columns.items()}


def timeline(seed: int, customer: Array, day: Array, nth: Array, season: Season) -> tuple[Array, Array, Array]:
    """(customer, second, nth) of every order by time: the customers' purchases and the guests' (customer -1)."""
    draw = draws(seed, "guests")
    guests = max(1, round(customer.size * GUESTS))
    who = np.concatenate([customer, np.full(guests, -1, dtype=np.int32)])
    nth = np.concatenate([nth, np.zeros(guests, dtype=np.int32)])
    second = season.seconds(np.concatenate([day, draw.random(guests) * season.days]))
    order = in_order(second)
    return who[order], second[order], nth[order]


def orders_and_lines(
    seed: int,
    who: tuple[Array, Array, Array],
    people: People,
    goods: Catalogue,
    plan: Campaigns,
    mails: Messages,
    season: Season,
) -> tuple[Orders, Lines]:
    """Fill the baskets of the orders that `timeline` gave."""
    customer, second, nth = who
    draw, end, count = draws(seed, "orders"), season.days * DAY, customer.size
    known = customer >= 0
    day = second // DAY

    channel = table((*COME_BACK_BY, 0.20))[draw.integers(0, 256, count, dtype=np.uint8)]
    own = np.where(known, people.channel[customer], 1)
    channel = np.where((nth == 0) | (channel == len(CHANNELS)), own, channel).astype(np.int8)
    won = mails.order >= 0
    channel[mails.order[won]] = EMAIL
    campaign = plan.running[channel, day]
    campaign[mails.order[won]] = mails.campaign[won]

    luck = draw.random(count, dtype=np.float32)
    months = (np.datetime64(season.start.replace(tzinfo=None), "D") + np.arange(season.days)).astype("datetime64[M]")
    november = (months.astype(np.int64) % 12 == 10)[day]
    coupon = np.full(count, -1, dtype=np.int8)
    coupon[(nth == 0) & (luck < 0.20)] = 0
    coupon[(nth > 0) & (luck < 0.09)] = 1
    coupon[november & (luck > 0.72)] = 2

    spend = np.where(known, people.spend[customer], 0.7).astype(np.float32)
    sizes = (1 + draw.poisson(0.60 + 0.92 * spend)).astype(np.int32)
    order = np.repeat(np.arange(count, dtype=np.int32), sizes)
    tier = (spend / (spend + 1.0) * TIERS).astype(np.int32)
    bits = draw.integers(0, 1 << 32, order.size, dtype=np.uint32)
    product = goods.choice.reshape(-1)[tier[order] * SLOTS + (bits & (SLOTS - 1))]
    quantity = (table((0.76, 0.16, 0.05, 0.03)) + 1).astype(np.int8)[(bits >> 12) & 255]
    price = goods.price.reshape(-1)[product.astype(np.int32) * season.days + day[order]]
    percent = np.array([share for _, share in COUPONS] + [0], dtype=np.int32)[coupon][order]
    discount = np.where(percent > 0, (quantity * price * percent + 50) // 100, -1).astype(np.int32)

    # what goes back: all of a cancelled order on the same day, single lines of others some days later
    cancelled = draw.random(count, dtype=np.float32) < CANCELLED
    back = cancelled[order] | ((bits >> 20) < RETURNED * (1 << 12))
    line = np.flatnonzero(back)
    of = order[line]
    delay = np.where(cancelled[of], 1_800, 2 * DAY + draw.integers(0, 20 * DAY, line.size)).astype(np.int64)
    seen = second[of] + delay < end
    line, of, delay = line[seen], of[seen], delay[seen]
    units = quantity[line]
    fewer = (units > 1) & ~cancelled[of] & (draw.random(line.size) < 0.5)
    returned = np.where(fewer, 1, units).astype(np.int8)
    paid = units * price[line] - np.maximum(discount[line], 0)

    given_back = np.bincount(of, weights=returned, minlength=count)
    status = np.zeros(count, dtype=np.int8)
    status[second > end - 2 * DAY] = 1
    status[given_back > 0] = 3
    status[(given_back > 0) & (given_back == np.bincount(order, weights=quantity, minlength=count))] = 4
    status[cancelled & (given_back > 0)] = 2
    shipped = (draw.random(count, dtype=np.float32) * (3 * DAY)).astype(np.int32)
    updated = np.minimum(second + shipped, end).astype(np.int32)
    booked = (second[of] + delay).astype(np.int32)
    np.maximum.at(updated, of, booked)

    first_line = np.cumsum(sizes) - sizes
    lines = Lines(
        order=np.concatenate([order, of]),
        product=np.concatenate([product, product[line]]),
        quantity=np.concatenate([quantity, -returned]),
        price=np.concatenate([price, (paid // units).astype(np.int32)]),
        discount=np.concatenate([discount, np.full(line.size, -1, dtype=np.int32)]),
        sold=order.size,
        first_line=first_line,
        returned=booked,
    )
    return Orders(customer, second, nth, channel, campaign, coupon, status, updated), lines
