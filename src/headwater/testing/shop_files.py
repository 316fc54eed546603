"""How the shop's arrays become the columns of its files: one SELECT per entity, over relations named after the arrays.

The columns are those of `records.entities`, in that order. Codes become words, seconds become UTC timestamps, cents
become DECIMAL(18,2); ids are a letter and a number that sorts as the row does.
"""

from collections.abc import Sequence

from headwater.testing.shop_campaigns import Campaigns
from headwater.testing.shop_catalogue import BRANDS, CATEGORIES, STYLES, THINGS
from headwater.testing.shop_events import NAMES
from headwater.testing.shop_orders import COUPONS, STATUSES
from headwater.testing.shop_people import (
    CHANNELS,
    CITIES,
    CLASSES,
    COMPANIES,
    FIRST_NAMES,
    GENDERS,
    LAST_NAMES,
    STREETS,
)

CUSTOMER, ADDRESS, PRODUCT, ORDER, LINE, EVENT, MESSAGE, CAMPAIGN, SESSION, DEVICE = (
    ("C", 10_000_001),
    ("A", 10_000_001),
    ("P", 10_001),
    ("O", 100_000_001),
    ("L", 1_000_000_001),
    ("E", 1_000_000_001),
    ("M", 100_000_001),
    ("K", 101),
    ("S", 100_000_001),
    ("D", 1_000_000_001),
)


def _id(kind: tuple[str, int], column: str) -> str:
    letter, first = kind
    return f"'{letter}' || ({first} + {column})"


def _known_id(kind: tuple[str, int], column: str) -> str:
    """As `_id`, null for -1."""
    return f"case when {column} >= 0 then {_id(kind, column)} end"


def _word(words: Sequence[str], column: str) -> str:
    """The word that a code stands for; -1 gives null, as list positions begin at 1."""
    quoted = ", ".join("'" + word.replace("'", "''") + "'" for word in words)
    return f"list_extract([{quoted}], {column}::bigint + 1)"


def _money(column: str) -> str:
    return f"cast(cast({column} as decimal(16,0)) * cast(0.01 as decimal(2,2)) as decimal(18,2))"


def _yes(column: str) -> str:
    return f"case when {column} >= 0 then {column} = 1 end"


def selects(start: int, end: int, currency: str, plan: Campaigns) -> dict[str, str]:
    """Entity to SELECT. `start`, `end`: epoch seconds of the shop's first and last moment."""

    def moment(column: str) -> str:
        return f"make_timestamp(({start}::bigint + {column}) * 1000000)"

    def known_moment(column: str) -> str:
        return f"case when {column} >= 0 then {moment(column)} end"

    def city(part: int, column: str = "city") -> str:
        return _word([place[part] for place in CITIES], column)

    def postal(column: str) -> str:
        return f"{city(4, column)} || lpad((house % 100)::varchar, 2, '0')"

    things = [thing for of_category in THINGS for thing in of_category]
    email = (
        f"case when has_email = 1 then lower({_word(FIRST_NAMES, 'first_name')}) || '.' || "
        f"lower({_word(LAST_NAMES, 'last_name')}) || i || case when i % 5 = 0 then '@example.org' else '@example.com' end end"
    )
    return {
        "customers": f"""
            select {_id(CUSTOMER, "i")} as customer_id, {email} as email,
                case when has_phone = 1
                    then '+1' || (201 + i % 700) || '55501' || lpad((i * 7 % 100)::varchar, 2, '0') end as phone,
                {_word(FIRST_NAMES, "first_name")} as first_name, {_word(LAST_NAMES, "last_name")} as last_name,
                {_word(COMPANIES, "company")} as company, {_word(GENDERS, "gender")} as gender,
                {_word(CLASSES, "shop_class")} as customer_segment,
                {city(0)} as city, {city(1)} as state, {city(2)} as country, {postal("city")} as postal_code,
                case when has_zone = 1 then {city(3)} end as time_zone,
                {_id(ADDRESS, "i")} as shipping_address_id,
                case when second_address = 1 then {_id(ADDRESS, "second_id")} else {_id(ADDRESS, "i")} end
                    as billing_address_id,
                date_diff('month', {moment("created")}, make_timestamp({end}::bigint * 1000000)) as tenure_months,
                case when nps >= 0 then nps::bigint end as nps_score,
                {_yes("email_ok")} as email_opt_in, {_yes("sms_ok")} as sms_opt_in,
                {moment("created")} as created_at, {moment("updated")} as updated_at
            from customers""",
        "addresses": f"""
            select {_id(ADDRESS, "i")} as address_id, house || ' ' || {_word(STREETS, "street")} as street,
                {city(0)} as city, {city(1)} as state, {postal("city")} as postal_code, {city(2)} as country
            from addresses""",
        "products": f"""
            select {_id(PRODUCT, "i")} as product_id,
                {_word(STYLES, "style")} || ' ' || {_word(things, "thing")} || ' ' || (i + 1) as product_name,
                {_word(BRANDS, "brand")} as brand, {_word(CATEGORIES, "category")} as category,
                {_money("price_now")} as price, {_money("cost")} as cost, {moment("updated")} as updated_at
            from products""",
        "product_prices": f"""
            select {_id(PRODUCT, "product")} || '@' || strftime({moment("since")}, '%Y-%m-%dT%H:%M:%S') as product_price_id,
                {_id(PRODUCT, "product")} as product_id, {moment("since")} as valid_from, {_money("price")} as price,
                is_deleted = 1 as is_deleted
            from product_prices""",
        "orders": f"""
            select {_id(ORDER, "i")} as order_id, {_known_id(CUSTOMER, "customer")} as customer_id,
                {moment("second")} as ordered_at, {_word(STATUSES, "status")} as status, '{currency}' as currency,
                {_word(CHANNELS, "channel")} as channel, {_known_id(CAMPAIGN, "campaign")} as campaign_id,
                {_word([name for name, _ in COUPONS], "coupon")} as coupon_code,
                {_money("amount")} as amount, {moment("updated")} as updated_at
            from orders""",
        "order_lines": f"""
            select {_id(LINE, "i")} as order_line_id, {_id(ORDER, '"order"')} as order_id,
                {_id(PRODUCT, "product")} as product_id, quantity::bigint as quantity, {_money("price")} as unit_price,
                case when discount >= 0 then {_money("discount")} end as discount_amount
            from order_lines""",
        "events": f"""
            select {_id(EVENT, "i")} as event_id, {_id(DEVICE, "device")} as anonymous_id,
                {_known_id(CUSTOMER, "customer")} as customer_id, {_word(NAMES, "name")} as event_name,
                {moment("second")} as occurred_at, {_known_id(SESSION, "session")} as session_id,
                {_known_id(PRODUCT, "product")} as product_id,
                'https://shop.example.com/' || case when product >= 0 then 'p/' || {_id(PRODUCT, "product")}
                    when name in (0, 5) then '' else replace({_word(NAMES, "name")}, '_', '-') end as page_url,
                {_word(CHANNELS, "channel")} as channel, {_known_id(CAMPAIGN, "campaign")} as campaign_id
            from events""",
        "campaigns": f"""
            select {_id(CAMPAIGN, "i")} as campaign_id, {_word(plan.name, "i")} as campaign_name,
                {_word(CHANNELS, "channel")} as channel, {moment("started")} as started_at, {moment("ended")} as ended_at
            from campaigns""",
        "campaign_responses": f"""
            select {_id(MESSAGE, "i")} as campaign_response_id, {_id(CAMPAIGN, "campaign")} as campaign_id,
                {_id(CUSTOMER, "customer")} as customer_id, {moment("sent")} as sent_at,
                {known_moment("opened")} as opened_at, {known_moment("clicked")} as clicked_at,
                {known_moment("converted")} as converted_at, {known_moment("unsubscribed")} as unsubscribed_at
            from campaign_responses""",
        "ad_spend": f"""
            select strftime({moment("day * 86400")}, '%Y-%m-%d') || '/' || {_word(CHANNELS, "channel")} || '/'
                    || coalesce({_known_id(CAMPAIGN, "campaign")}, '') as ad_spend_id,
                cast({moment("day * 86400")} as date) as spent_on, {_word(CHANNELS, "channel")} as channel,
                {_known_id(CAMPAIGN, "campaign")} as campaign_id, {_money("cents")} as amount,
                impressions, clicks
            from ad_spend""",
    }
