"""The canonical entities of a shop: what a mapping fills, what staging models hold, what every mart builds on.

One staging model per entity, `stg_<entity>`, always with exactly these columns in this order (columns that the shop does
not have are null, entities that it does not have are empty). The types are few and mean the same on every warehouse:
text VARCHAR, integer BIGINT, decimal DECIMAL(18,4), timestamp TIMESTAMP (UTC), date DATE, boolean BOOLEAN.
"""

from dataclasses import dataclass, field
from typing import Literal

Type = Literal["text", "integer", "decimal", "timestamp", "date", "boolean"]

SQL_TYPES: dict[Type, str] = {
    "text": "varchar",
    "integer": "bigint",
    "decimal": "decimal(18,4)",
    "timestamp": "timestamp",
    "date": "date",
    "boolean": "boolean",
}


@dataclass(frozen=True)
class Field:
    """One column of an entity. `required`: a row without it is quarantined."""

    name: str
    type: Type
    text: str
    required: bool = False


@dataclass(frozen=True)
class Entity:
    """One kind of record. `key` is unique within the staging model; `grain` completes "one row per …"."""

    name: str
    grain: str
    key: str
    fields: tuple[Field, ...] = field(repr=False)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.fields)

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.fields if f.required)


ENTITIES: dict[str, Entity] = {
    entity.name: entity
    for entity in (
        Entity(
            "customers",
            "customer (a person who has an account or has bought)",
            "customer_id",
            (
                Field("customer_id", "text", "the shop's own id of the person", required=True),
                Field("email", "text", "e-mail address as given"),
                Field("phone", "text", "phone number as given"),
                Field("first_name", "text", "given name"),
                Field("last_name", "text", "family name"),
                Field("company", "text", "company, for business customers"),
                Field("gender", "text", "as the shop writes it"),
                Field("customer_segment", "text", "a class the shop itself gave (Premium, Regular …)"),
                Field("city", "text", "city of residence"),
                Field("state", "text", "state or region of residence"),
                Field("country", "text", "country of residence"),
                Field("postal_code", "text", "postal code, leading zeros kept"),
                Field("time_zone", "text", "IANA time zone, e.g. Europe/Paris"),
                Field("shipping_address_id", "text", "refers to addresses"),
                Field("billing_address_id", "text", "refers to addresses"),
                Field("tenure_months", "integer", "months as a customer, where the shop gives only that"),
                Field("nps_score", "integer", "latest answer to the NPS question, 0 to 10"),
                Field("email_opt_in", "boolean", "consent to e-mail marketing; null counts as no"),
                Field("sms_opt_in", "boolean", "consent to text messages; null counts as no"),
                Field("created_at", "timestamp", "when the account was made"),
                Field("updated_at", "timestamp", "when the source row last changed"),
            ),
        ),
        Entity(
            "addresses",
            "postal address",
            "address_id",
            (
                Field("address_id", "text", "id of the address", required=True),
                Field("street", "text", "street and number"),
                Field("city", "text", "city"),
                Field("state", "text", "state or region"),
                Field("postal_code", "text", "postal code, leading zeros kept"),
                Field("country", "text", "country"),
            ),
        ),
        Entity(
            "products",
            "product as it is now",
            "product_id",
            (
                Field("product_id", "text", "id or SKU", required=True),
                Field("product_name", "text", "name shown to customers"),
                Field("brand", "text", "brand"),
                Field("category", "text", "category"),
                Field("price", "decimal", "list price now, in the shop's currency"),
                Field("cost", "decimal", "cost of goods, in the shop's currency; bounds the discount"),
                Field("updated_at", "timestamp", "when the source row last changed"),
            ),
        ),
        Entity(
            "product_prices",
            "product and moment from which a price holds (a version)",
            "product_price_id",
            (
                Field("product_price_id", "text", "product_id and valid_from, joined by '@'", required=True),
                Field("product_id", "text", "refers to products", required=True),
                Field("valid_from", "timestamp", "the price holds from here, inclusive", required=True),
                Field("price", "decimal", "list price in the shop's currency"),
                Field("is_deleted", "boolean", "true when this version says that the product is gone"),
            ),
        ),
        Entity(
            "orders",
            "order",
            "order_id",
            (
                Field("order_id", "text", "id of the order, unique in the shop", required=True),
                Field("customer_id", "text", "refers to customers; null = unattributed, kept and reported"),
                Field("ordered_at", "timestamp", "when the order was placed", required=True),
                Field("status", "text", "as the shop writes it; lower case"),
                Field("currency", "text", "ISO 4217, upper case; null = the shop's currency"),
                Field("channel", "text", "marketing channel that the order is attributed to"),
                Field("campaign_id", "text", "refers to campaigns"),
                Field("coupon_code", "text", "coupon used"),
                Field("amount", "decimal", "order value, for shops without order lines"),
                Field("updated_at", "timestamp", "when the source row last changed"),
            ),
        ),
        Entity(
            "order_lines",
            "line of an order; a negative quantity is a refund or cancellation",
            "order_line_id",
            (
                Field("order_line_id", "text", "id of the line, unique in the shop", required=True),
                Field("order_id", "text", "refers to orders", required=True),
                Field("product_id", "text", "refers to products"),
                Field("quantity", "integer", "units; negative when given back", required=True),
                Field("unit_price", "decimal", "price of one unit in the shop's currency", required=True),
                Field("discount_amount", "decimal", "taken off the whole line; null = 0"),
            ),
        ),
        Entity(
            "events",
            "thing a visitor did on the site or in the app",
            "event_id",
            (
                Field("event_id", "text", "id of the event (Segment's messageId)", required=True),
                Field("anonymous_id", "text", "visitor id before he is known"),
                Field("customer_id", "text", "id of the person once known (Segment's userId)"),
                Field("event_name", "text", "snake_case name (Segment's event)", required=True),
                Field("occurred_at", "timestamp", "when it happened (Segment's timestamp)", required=True),
                Field("session_id", "text", "session, where the source has one"),
                Field("product_id", "text", "product looked at or bought"),
                Field("page_url", "text", "page"),
                Field("channel", "text", "marketing channel of the visit"),
                Field("campaign_id", "text", "campaign of the visit (utm_campaign)"),
            ),
        ),
        Entity(
            "campaigns",
            "marketing campaign",
            "campaign_id",
            (
                Field("campaign_id", "text", "id of the campaign", required=True),
                Field("campaign_name", "text", "name"),
                Field("channel", "text", "channel"),
                Field("started_at", "timestamp", "first moment it ran"),
                Field("ended_at", "timestamp", "last moment it ran"),
            ),
        ),
        Entity(
            "campaign_responses",
            "message of a campaign sent to a customer, with what came of it",
            "campaign_response_id",
            (
                Field("campaign_response_id", "text", "id of the message", required=True),
                Field("campaign_id", "text", "refers to campaigns", required=True),
                Field("customer_id", "text", "refers to customers", required=True),
                Field("sent_at", "timestamp", "when it was sent", required=True),
                Field("opened_at", "timestamp", "first open; null = never"),
                Field("clicked_at", "timestamp", "first click; null = never"),
                Field("converted_at", "timestamp", "first order attributed to it; null = never"),
                Field("unsubscribed_at", "timestamp", "unsubscribe; null = never"),
            ),
        ),
        Entity(
            "ad_spend",
            "day, channel and campaign",
            "ad_spend_id",
            (
                Field("ad_spend_id", "text", "day, channel and campaign joined by '/'", required=True),
                Field("spent_on", "date", "day", required=True),
                Field("channel", "text", "channel", required=True),
                Field("campaign_id", "text", "refers to campaigns; null = not tied to one"),
                Field("amount", "decimal", "money spent, in the shop's currency", required=True),
                Field("impressions", "integer", "times shown"),
                Field("clicks", "integer", "clicks"),
            ),
        ),
    )
}
