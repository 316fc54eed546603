"""What the shop sells: products with cost, and their prices over time."""

from dataclasses import dataclass

import numpy as np

from headwater.testing.shop_behaviour import DAY, Array, draws

CATEGORIES = ("Apparel", "Bags", "Drinkware", "Electronics", "Home", "Office", "Outdoor", "Toys")
THINGS = (
    ("Shirt", "Jacket", "Cap", "Socks"),
    ("Backpack", "Tote", "Duffel", "Pouch"),
    ("Mug", "Bottle", "Tumbler", "Teapot"),
    ("Headphones", "Lamp", "Charger", "Speaker"),
    ("Cushion", "Candle", "Blanket", "Vase"),
    ("Notebook", "Pen", "Planner", "Organiser"),
    ("Tent", "Stove", "Hammock", "Compass"),
    ("Puzzle", "Kite", "Blocks", "Board Game"),
)
STYLES = ("Classic", "Coast", "Ember", "Field", "Lumen", "Metro", "Nord", "Prairie", "Summit", "Willow")
BRANDS = ("Northpeak", "Oak & Iron", "Paperline", "Riverstone", "Solstice", "Tidewater")
TIERS = 16
SLOTS = 4096


@dataclass(frozen=True)
class Catalogue:
    """Products `(products,)`: codes category, thing, style, brand int8; cost, price_now int32 cents; updated int32 seconds.
    Versions `(versions,)`, by product and time: version_product int32, version_from int32 seconds since the shop's start
    (the first lies before it), version_price int32 cents.
    `price` (products, days) int32 cents: what a unit costs on that day. `choice` (TIERS, SLOTS) int16: a random slot of a
    customer's tier is one product drawn by popularity and by the price that such a customer likes."""

    category: Array
    thing: Array
    style: Array
    brand: Array
    cost: Array
    price_now: Array
    updated: Array
    version_product: Array
    version_from: Array
    version_price: Array
    price: Array
    choice: Array

    def __len__(self) -> int:
        return self.category.size


def catalogue(seed: int, products: int, days: int) -> Catalogue:
    """Every product is sold from before the shop's first day; prices move a few times a year, at midnight UTC."""
    draw = draws(seed, "catalogue")
    listed = np.exp(draw.normal(np.log(2_400), 0.75, products)).clip(250, 45_000)
    listed = (np.rint(listed / 50) * 50 - 1).astype(np.int32)
    changes = draw.poisson(2.0 * days / 365, products).astype(np.int32)
    product = np.repeat(np.arange(products, dtype=np.int32), changes)
    day = draw.integers(1, days, product.size, dtype=np.int32)
    at = np.unique(product.astype(np.int64) * days + day)  # two changes of a product on one day are one
    product, day = (at // days).astype(np.int32), (at % days).astype(np.int32)
    factor = np.ones((products, days))
    factor[product, day] = np.exp(draw.normal(0.012, 0.06, product.size))
    price = np.maximum(np.rint(listed[:, None] * np.cumprod(factor, axis=1)), 100).astype(np.int32)

    launch = (-draw.integers(30, 400, products) * DAY).astype(np.int32)
    version_product = np.concatenate([np.arange(products, dtype=np.int32), product])
    version_from = np.concatenate([launch, day * DAY]).astype(np.int32)
    version_price = np.concatenate([price[:, 0], price[product, day]])
    order = np.lexsort((version_from, version_product))

    popular = draw.permutation(1.0 / np.arange(1, products + 1) ** 0.7)
    taste = np.log(np.interp(np.arange(TIERS), [0, TIERS - 1], [1_200, 7_000]))
    weight = popular * np.exp(-((np.log(listed) - taste[:, None]) ** 2) / (2 * 0.7**2))
    edges = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
    slots = (np.arange(SLOTS) + 0.5) / SLOTS
    changed = np.zeros(products, dtype=np.int32)
    np.maximum.at(changed, product, day * DAY)
    return Catalogue(
        category=(category := draw.integers(0, len(CATEGORIES), products, dtype=np.int8)),
        thing=category * 4 + draw.integers(0, 4, products, dtype=np.int8),
        style=draw.integers(0, len(STYLES), products, dtype=np.int8),
        brand=draw.integers(0, len(BRANDS), products, dtype=np.int8),
        cost=np.rint(listed * draw.uniform(0.38, 0.68, products)).astype(np.int32),
        price_now=price[:, -1],
        updated=np.maximum(changed, launch),
        version_product=version_product[order],
        version_from=version_from[order],
        version_price=version_price[order],
        price=price,
        choice=np.stack([np.searchsorted(row, slots).clip(0, products - 1).astype(np.int16) for row in edges]),
    )


def withdrawn(seed: int, goods: Catalogue, product: Array, sold: Array, days: int) -> tuple[Array, Array]:
    """(product, second): the few products that the shop gave up, the day after each was last sold."""
    draw = draws(seed, "withdrawn")
    some = draw.random(len(goods)) < 0.04
    last = np.zeros(len(goods), dtype=np.int32)
    np.maximum.at(last, goods.version_product, goods.version_from)
    np.maximum.at(last, product, sold)
    since = (last // DAY + 1) * DAY
    gone = np.flatnonzero(some & (since < days * DAY)).astype(np.int32)
    return gone, since[gone].astype(np.int32)
