"""The people of the shop: who they are, where they live, how they came, how happy they are, what they allow."""

from dataclasses import dataclass

import numpy as np

from headwater.testing.shop_behaviour import (
    DAY,
    DROPOUT_A,
    DROPOUT_B,
    RATE_DAYS,
    RATE_SHAPE,
    Array,
    Season,
    draws,
    table,
)

CHANNELS = ("direct", "organic_search", "paid_search", "paid_social", "email", "referral", "affiliate")
ARRIVE_BY = (0.14, 0.26, 0.22, 0.18, 0.02, 0.10, 0.08)
"""Share of new customers by channel."""
FAITH = (1.10, 1.15, 0.95, 0.75, 1.20, 1.35, 0.60)
"""How good the customers of a channel are: they buy more often, stay longer and spend more above 1."""

GENDERS = ("F", "M", "X")
CLASSES = ("Regular", "Premium", "New")
COMPANIES = (
    "Alder Works", "Birch & Sons", "Cobalt Studio", "Dune Logistics", "Ember Foods", "Fjord Media",
    "Granite Labs", "Harbour Supply", "Indigo Print", "Juniper Health", "Kestrel Motors", "Lumen Schools",
)  # fmt: skip
FIRST_NAMES = (
    "Ada", "Amir", "Ana", "Anders", "Aoife", "Bruno", "Carla", "Chen", "Clara", "Daniel", "Elena", "Emeka",
    "Emma", "Farid", "Fatima", "Felix", "Grace", "Hana", "Hugo", "Ines", "Ivan", "Jonas", "Julia", "Kofi",
    "Lars", "Leila", "Liam", "Lucia", "Maja", "Marco", "Maria", "Mateo", "Mei", "Nadia", "Noah", "Olga",
    "Omar", "Paula", "Priya", "Rafael", "Rosa", "Samir", "Sofia", "Tariq", "Tomas", "Vera", "Yuki", "Zoe",
)  # fmt: skip
LAST_NAMES = (
    "Abe", "Almeida", "Andersson", "Bauer", "Becker", "Bianchi", "Brown", "Castro", "Cohen", "Costa", "Diaz",
    "Dubois", "Eriksen", "Fischer", "Garcia", "Gupta", "Haddad", "Hansen", "Ito", "Ivanov", "Jensen", "Johnson",
    "Kaya", "Keller", "Khan", "Kim", "Kowalski", "Larsen", "Lopez", "Mensah", "Meyer", "Moreau", "Murphy",
    "Nguyen", "Novak", "Okafor", "Patel", "Petrov", "Reyes", "Rossi", "Sato", "Silva", "Singh", "Smith",
    "Tanaka", "Walsh", "Wong", "Zhang",
)  # fmt: skip
STREETS = ("Mill Lane", "Station Road", "Park Avenue", "Harbour Street", "Church Street", "Oak Drive", "High Street")
CITIES = (
    # city, state, country, IANA time zone, postal code without its last two digits
    ("New York", "NY", "US", "America/New_York", "100"),
    ("Boston", "MA", "US", "America/New_York", "021"),
    ("Newark", "NJ", "US", "America/New_York", "071"),
    ("Chicago", "IL", "US", "America/Chicago", "606"),
    ("Austin", "TX", "US", "America/Chicago", "787"),
    ("Denver", "CO", "US", "America/Denver", "802"),
    ("Los Angeles", "CA", "US", "America/Los_Angeles", "900"),
    ("Seattle", "WA", "US", "America/Los_Angeles", "981"),
    ("Toronto", "ON", "CA", "America/Toronto", "M5V 1"),
    ("London", "England", "GB", "Europe/London", "EC1A "),
    ("Manchester", "England", "GB", "Europe/London", "M1 "),
    ("Paris", "Île-de-France", "FR", "Europe/Paris", "750"),
    ("Lyon", "Auvergne-Rhône-Alpes", "FR", "Europe/Paris", "690"),
    ("Berlin", "Berlin", "DE", "Europe/Berlin", "101"),
    ("Munich", "Bavaria", "DE", "Europe/Berlin", "803"),
    ("Dresden", "Saxony", "DE", "Europe/Berlin", "010"),
    ("Madrid", "Madrid", "ES", "Europe/Madrid", "280"),
    ("São Paulo", "SP", "BR", "America/Sao_Paulo", "01310-0"),
    ("Mumbai", "MH", "IN", "Asia/Kolkata", "4000"),
    ("Tokyo", "Tokyo", "JP", "Asia/Tokyo", "100-00"),
    ("Sydney", "NSW", "AU", "Australia/Sydney", "20"),
)
LIVE_IN = (16, 6, 3, 9, 6, 4, 12, 5, 6, 10, 4, 6, 2, 4, 3, 2, 4, 4, 5, 3, 4)

NEVER_BUY = 0.14
NPS_ANSWERED = 0.62


@dataclass(frozen=True)
class People:
    """One row per customer in order of sign-up, all arrays (customers,). Codes index the tuples above, -1 = unknown.

    Money and time: `created`, `updated` int32 seconds since the shop's start; `first` float64 shop day of the first
    purchase, NaN = has not bought. `rate`, `dropout` float64 set the buying, `spend` float64 (mean about 1) the basket.
    `nps` int8, -1 = did not answer. `email_ok`, `sms_ok` int8: 1 yes, 0 no, -1 never asked.
    """

    created: Array
    updated: Array
    first: Array
    rate: Array
    dropout: Array
    spend: Array
    channel: Array
    nps: Array
    email_ok: Array
    sms_ok: Array
    has_email: Array
    has_phone: Array
    has_zone: Array
    first_name: Array
    last_name: Array
    company: Array
    gender: Array
    shop_class: Array
    city: Array
    street: Array
    house: Array
    second_address: Array

    def __len__(self) -> int:
        return self.created.size


def people(seed: int, customers: int, season: Season) -> People:
    """Everyone who ever made an account, most of whom have bought; the shop grows over its time."""
    draw = draws(seed, "people")
    days, end = season.days, season.days * DAY
    buys = draw.random(customers) >= NEVER_BUY
    # the density of new customers grows evenly from 0.6 to 1.4 over the shop's time: this inverts its integral
    arrived = (np.sqrt(0.36 + 1.6 * draw.random(customers)) - 0.6) / 0.8 * days
    recent = ~buys & (draw.random(customers) < 0.5)
    arrived[recent] = days - draw.random(int(recent.sum())) * min(45.0, days / 2)
    moment = season.seconds(np.clip(arrived, 0, np.nextafter(days, 0)))
    thinks = np.where(draw.random(customers) < 0.4, 0.0, draw.exponential(5.0, customers)) * DAY
    before = moment - 600 - thinks
    created = np.where(buys, np.where(before < 0, moment // 2, before), moment).astype(np.int32)
    order = np.argsort(created, kind="stable")
    created, first = created[order], np.where(buys, arrived, np.nan)[order]

    channel = table(ARRIVE_BY)[draw.integers(0, 256, customers, dtype=np.uint8)]
    faith = np.array(FAITH)[channel]
    mood = draw.standard_normal(customers)
    rate = draw.gamma(RATE_SHAPE, 1 / RATE_DAYS, customers) * faith + 1e-6
    # a happy customer's chance to leave shrinks, an unhappy one's grows: the exponent moves the beta draw
    dropout = draw.beta(DROPOUT_A, DROPOUT_B, customers) ** (np.exp(0.45 * mood) * faith**0.5)
    spend = draw.gamma(2.2, 1 / 2.2, customers) * faith**0.5
    opinion = np.clip(np.rint(7.9 + 1.7 * mood + 0.9 * draw.standard_normal(customers)), 0, 10)
    asked = (draw.random(customers) < NPS_ANSWERED) & (created < end - 14 * DAY)
    updated = created + (draw.random(customers) ** 2 * (end - created)).astype(np.int32)

    def some(share: float) -> Array:
        return (draw.random(customers, dtype=np.float32) < share).astype(np.int8)

    def code(count: int, missing: float = 0.0) -> Array:
        codes = draw.integers(0, count, customers, dtype=np.int8)
        return np.where(some(missing), np.int8(-1), codes) if missing else codes

    def consent(yes: float) -> Array:
        return np.where(some(0.05), np.int8(-1), some(yes))

    return People(
        created=created,
        updated=updated,
        first=first,
        rate=rate,
        dropout=dropout,
        spend=spend,
        channel=channel,
        nps=np.where(asked, opinion, -1).astype(np.int8),
        email_ok=consent(0.62),
        sms_ok=consent(0.27),
        has_email=some(0.97),
        has_phone=some(0.88),
        has_zone=some(0.95),
        first_name=code(len(FIRST_NAMES)),
        last_name=code(len(LAST_NAMES)),
        company=code(len(COMPANIES), 0.92),
        gender=code(len(GENDERS), 0.15),
        shop_class=np.where(created > end - 30 * DAY, 2, np.where(spend > 1.6, 1, 0)).astype(np.int8),
        city=table(LIVE_IN)[draw.integers(0, 256, customers, dtype=np.uint8)],
        street=code(len(STREETS)),
        house=draw.integers(1, 250, customers, dtype=np.int16),
        second_address=some(0.15),
    )
