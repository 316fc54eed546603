"""The words by which shops name their columns. General vocabulary only: no data set is known by name.

A column's name is cut into lower-case words (`CustomerID`, `customer_id`, `Customer ID`, `customerid` all give
`customer id`). `FIELDS` lists for each field of each entity the names that mean it, best first. Words of `CONTEXT` may
stand before a name without changing it (`order status` means `status` in a file of orders).
"""

import re
from collections.abc import Sequence

PERSON = (
    "customer", "client", "user", "member", "buyer", "shopper", "account", "person", "contact", "consumer", "cust", "guest",
    "subscriber", "people",
)  # fmt: skip
ORDER = (
    "order",
    "invoice",
    "transaction",
    "purchase",
    "sale",
    "sales",
    "receipt",
    "basket",
    "trx",
    "txn",
    "bill",
    "checkout",
)
LINE = ("line", "item", "position", "row")
PRODUCT = ("product", "item", "sku", "article", "stock", "material")
ID = ("id", "number", "no", "nr", "num", "code", "key", "ref", "reference")
MOMENT = ("timestamp", "ts", "at", "datetime", "date time", "date", "time", "day", "on", "when")

CONTEXT: dict[str, tuple[str, ...]] = {
    "customers": PERSON,
    "addresses": ("address", "addr"),
    "products": PRODUCT,
    "product_prices": (*PRODUCT, "price"),
    "orders": ORDER,
    "order_lines": (*ORDER, *LINE, "product"),
    "events": ("event", "activity", "action", "web", "visit", "hit"),
    "campaigns": ("campaign", "promotion"),
    "campaign_responses": ("message", "mail", "email", "send", "campaign"),
    "ad_spend": ("ad", "ads", "advertising", "marketing", "media", "campaign"),
}

SUBJECTS: dict[str, tuple[str, ...]] = {
    "customers": ("customers", "customer", "clients", "client", "users", "user", "members", "contacts", "accounts", "people", "buyers"),
    "addresses": ("addresses", "address"),
    "products": ("products", "product", "articles", "catalog", "catalogue", "items", "skus"),
    "product_prices": ("prices", "price"),
    "orders": ("orders", "order", "invoices", "transactions", "purchases", "sales"),
    "order_lines": ("lines", "items", "details", "positions", "sales", "transactions"),
    "events": ("events", "event", "clicks", "clickstream", "views", "hits", "activity", "activities", "visits"),
    "campaigns": ("campaigns", "campaign"),
    "campaign_responses": ("responses", "messages", "sends", "mailings"),
    "ad_spend": ("spend", "spending", "costs", "budget"),
}  # fmt: skip
"""Words of a file's name that tell what it holds; they break ties and say what a bare `id` or `name` means."""


def _of(words: Sequence[str], ends: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{word} {end}" for end in ends for word in words)


_CUSTOMER_ID = (*_of(PERSON, ID), "customer", "client", "uid", "shopper", "buyer")
_PRODUCT_ID = (
    *_of(("product", "item", "article", "stock", "material"), ID), "product sku", "sku", "item sku", "sku id", "asin", "ean",
    "product", "item", "article",
)  # fmt: skip
_CAMPAIGN_ID = ("campaign id", "utm campaign", "campaign code", "campaign key", "campaign name", "campaign")
_CHANNEL = (
    "channel", "marketing channel", "utm source", "traffic source", "acquisition channel", "sales channel", "source", "medium",
    "utm medium", "source medium", "platform", "network",
)  # fmt: skip
_POSTAL = ("postal code", "zip code", "postcode", "post code", "zip", "zipcode", "zip code prefix", "plz", "postal")
_CREATED = (
    "created at", "created", "created on", "created date", "creation date", "date created", "signup at", "signup date",
    "sign up date", "signed up at", "registered at", "registration date", "registered on", "join date", "joined at",
    "joined on", "member since", "since", "enrolled at", "first seen",
)  # fmt: skip
_UPDATED = (
    "updated at", "updated", "updated on", "last updated", "modified at", "last modified", "modified", "modified date",
    "update date", "update timestamp", "last update",
)  # fmt: skip
_PRICE = ("unit price", "price", "price each", "item price", "avg price", "average price", "sale price", "selling price", "price per unit")  # fmt: skip
_MONEY = (
    "amount", "total", "total amount", "total price", "grand total", "order value", "value", "revenue", "sales", "sales amount",
    "net amount", "subtotal", "total value", "price total", "spend", "spent", "paid", "total paid", "order total",
)  # fmt: skip

FIELDS: dict[str, dict[str, tuple[str, ...]]] = {
    "customers": {
        "customer_id": (*_CUSTOMER_ID, "id"),
        "email": ("email", "e mail", "email address", "e mail address", "mail"),
        "phone": ("phone", "phone number", "telephone", "mobile", "mobile phone", "mobile number", "tel", "cell"),
        "first_name": ("first name", "firstname", "given name", "forename", "fname"),
        "last_name": ("last name", "lastname", "surname", "family name", "lname"),
        "company": ("company", "company name", "organisation", "organization", "business name", "employer"),
        "gender": ("gender", "sex"),
        "customer_segment": ("customer segment", "segment", "tier", "loyalty tier", "class", "type", "group", "category"),
        "city": ("city", "town", "location", "residence city"),
        "state": ("state", "region", "province", "county", "state code"),
        "country": ("country", "country code", "country name", "nation"),
        "postal_code": _POSTAL,
        "time_zone": ("time zone", "timezone", "tz"),
        "shipping_address_id": ("shipping address id", "delivery address id", "ship address id"),
        "billing_address_id": ("billing address id", "invoice address id", "bill address id"),
        "tenure_months": ("tenure months", "tenure in months", "months as customer", "tenure"),
        "nps_score": ("nps score", "nps", "net promoter score"),
        "email_opt_in": (
            "email opt in", "email optin", "email consent", "email subscribed", "email marketing consent", "marketing opt in",
            "marketing consent", "accepts email marketing", "email marketing", "accepts marketing", "opt in", "newsletter",
            "newsletter opt in", "subscribed",
        ),
        "sms_opt_in": (
            "sms opt in", "sms optin", "sms consent", "sms marketing consent", "accepts sms marketing", "sms marketing", "sms subscribed",
            "text opt in",
        ),
        "created_at": _CREATED,
        "updated_at": _UPDATED,
    },
    "addresses": {
        "address_id": (*_of(("address", "addr"), ID), "id"),
        "street": ("street", "street address", "address line 1", "address line", "address 1", "address", "line 1"),
        "city": ("city", "town"),
        "state": ("state", "region", "province", "county"),
        "postal_code": _POSTAL,
        "country": ("country", "country code", "country name"),
    },
    "products": {
        "product_id": (*_PRODUCT_ID, "id"),
        "product_name": ("product name", "name", "title", "product title", "description", "item name", "label"),
        "brand": ("brand", "brand name", "manufacturer", "vendor", "make"),
        "category": ("category", "category name", "category code", "product type", "type", "department", "category path"),
        "price": ("price", "list price", "unit price", "retail price", "rrp", "msrp", "current price"),
        "cost": ("cost", "unit cost", "cost price", "cogs", "purchase price"),
        "updated_at": _UPDATED,
    },
    "product_prices": {
        "product_price_id": ("product price id", "price id", "id"),
        "product_id": _PRODUCT_ID,
        "valid_from": ("valid from", "effective from", "effective date", "start date", "price date", "from date", "since", "changed at"),
        "price": ("price", "list price", "unit price", "new price"),
        "is_deleted": ("is deleted", "deleted", "is active false", "removed"),
    },
    "orders": {
        "order_id": (*_of(("order", "invoice", "transaction", "receipt", "basket", "trx", "txn", "bill", "sale", "purchase"), ID), "order", "invoice", "transaction", "receipt", "id"),
        "customer_id": _CUSTOMER_ID,
        "ordered_at": (
            "ordered at", "ordered on", "order ts", "order timestamp", "order datetime", "order date", "order time",
            "purchase timestamp", "purchased at", "purchase ts", "purchase date", "purchase time", "invoice date", "invoice timestamp",
            "invoice time", "transaction timestamp", "transaction ts", "transaction datetime", "transaction date", "transaction time",
            "sale date", "sales date", "sold at", "placed at", "placed on", "checkout at", "created at", "created on",
            "created date", "event date", "event time", "timestamp", "ts", "datetime", "date time", "date", "time",
        ),
        "status": ("order status", "status", "order state", "financial status", "payment status", "fulfillment status", "state"),
        "currency": ("currency", "currency code", "ccy"),
        "channel": _CHANNEL,
        "campaign_id": _CAMPAIGN_ID,
        "coupon_code": ("coupon code", "coupon", "voucher", "voucher code", "promo code", "promotion code", "discount code"),
        "amount": _MONEY,
        "updated_at": _UPDATED,
    },
    "order_lines": {
        "order_line_id": (
            "order line id", "order item id", "line id", "line item id", "item line id", "invoice line id", "transaction line id",
            "sales line id", "order position id", "order line number", "line number", "line no", "position", "item number", "id",
        ),
        "order_id": (*_of(("order", "invoice", "transaction", "receipt", "basket", "trx", "txn", "bill", "sale", "purchase"), ID), "order", "invoice", "transaction", "receipt"),
        "product_id": _PRODUCT_ID,
        "quantity": ("quantity", "qty", "units", "quantity ordered", "count", "pieces", "number of units", "units sold", "amount units"),
        "unit_price": _PRICE,
        "discount_amount": ("discount amount", "line discount", "discount value", "rebate amount"),
    },
    "events": {
        "event_id": ("event id", "message id", "hit id", "event key", "event uuid", "id"),
        "anonymous_id": (
            "anonymous id", "visitor id", "anon id", "cookie id", "device id", "client cookie", "browser id", "user pseudo id",
            "fullvisitor id", "full visitor id", "visitor",
        ),
        "customer_id": _CUSTOMER_ID,
        "event_name": ("event name", "event type", "event", "event action", "action", "action type", "activity", "activity type", "behavior", "behavior type", "behaviour", "interaction"),
        "occurred_at": (
            "occurred at", "event ts", "event timestamp", "event time", "event datetime", "event date", "timestamp", "ts",
            "datetime", "date time", "original timestamp", "received at", "sent at", "created at", "time", "date", "viewed at", "clicked at",
        ),
        "session_id": ("session id", "user session", "session", "visit id", "session key", "session number"),
        "product_id": _PRODUCT_ID,
        "page_url": ("page url", "url", "page", "page location", "path", "page path", "landing page", "href"),
        "channel": _CHANNEL,
        "campaign_id": _CAMPAIGN_ID,
    },
    "campaigns": {
        "campaign_id": ("campaign id", "campaign code", "campaign key", "campaign", "id"),
        "campaign_name": ("campaign name", "name", "title", "campaign title"),
        "channel": _CHANNEL,
        "started_at": ("started at", "start date", "start", "starts at", "launch date", "launched at", "begin", "begin date", "from date"),
        "ended_at": ("ended at", "end date", "end", "ends at", "finished at", "until", "to date"),
    },
    "campaign_responses": {
        "campaign_response_id": ("campaign response id", "response id", "message id", "send id", "email id", "id"),
        "campaign_id": _CAMPAIGN_ID,
        "customer_id": _CUSTOMER_ID,
        "sent_at": ("sent at", "send date", "sent on", "sent date", "sent ts", "delivered at", "send time", "sent"),
        "opened_at": ("opened at", "open date", "opened on", "open time", "first open at"),
        "clicked_at": ("clicked at", "click date", "clicked on", "click time", "first click at"),
        "converted_at": ("converted at", "conversion date", "converted on", "conversion time"),
        "unsubscribed_at": ("unsubscribed at", "unsubscribe date", "unsubscribed on", "opted out at", "opt out date"),
    },
    "ad_spend": {
        "ad_spend_id": ("ad spend id", "spend id", "id"),
        "spent_on": ("spent on", "spend date", "date", "day", "report date", "reporting date", "cost date"),
        "channel": _CHANNEL,
        "campaign_id": _CAMPAIGN_ID,
        "amount": ("spend", "ad spend", "marketing spend", "amount spent", "spend amount", "ad cost", "cost", "costs", "media cost", "amount"),
        "impressions": ("impressions", "impr", "views shown"),
        "clicks": ("clicks", "link clicks"),
    },
}  # fmt: skip

FULL_NAME = ("customer name", "full name", "name", "client name", "contact name", "user name full", "display name")
PERSON_ID = (
    "customer unique id", "unique customer id", "person id", "master customer id", "customer master id", "golden customer id",
    "unique client id", "client unique id", "unique user id", "user unique id", "global customer id", "household id",
)  # fmt: skip
LINE_NUMBER = ("order item id", "order line number", "line number", "line no", "line id", "line", "position", "item number", "sequence", "line item", "order line id", "line item id", "item no")  # fmt: skip
LINE_TOTAL = ("line total", "total price", "line amount", "extended price", "total", "amount", "total amount", "sales", "revenue", "line revenue", "net amount", "value")  # fmt: skip
ENDED = (
    "cancelled", "canceled", "cancelation", "cancellation", "cancel", "refunded", "refund", "returned", "unavailable", "void", "voided",
    "failed", "declined", "rejected", "chargeback", "abandoned", "expired", "fraud",
    "storniert", "storno", "erstattet", "rückerstattet", "abgebrochen", "abgelehnt", "widerrufen", "retourniert", "zurückgegeben",
    "annulé", "annulée", "remboursé", "remboursée", "cancelado", "cancelada", "anulado", "reembolsado", "annullato", "rimborsato",
    "geannuleerd", "terugbetaald",
)  # fmt: skip
"""Words of a status that says: nothing came of the order, or it was given back."""
PARTLY = (
    "partly",
    "partial",
    "partially",
    "teilweise",
    "partiellement",
    "parcialmente",
    "parzialmente",
    "gedeeltelijk",
)
ONGOING = (
    "paid", "unpaid", "pending", "shipped", "delivered", "completed", "complete", "processing", "fulfilled", "unfulfilled", "invoiced",
    "approved", "authorized", "confirmed", "open", "closed", "bezahlt", "unbezahlt", "offen", "versendet", "versandt", "geliefert",
    "zugestellt", "abgeschlossen", "bearbeitung", "bestätigt", "payé", "payée", "expédié", "livré", "pagado", "enviado", "entregado",
    "pagato", "spedito", "consegnato", "betaald", "verzonden", "geleverd",
)  # fmt: skip
"""Words of a status that says: the order is paid, on its way or done."""
SPEND_WORDS = ("spend", "spending", "cost", "costs", "budget")
SCORE = ("mql score", "score", "lead score", "points", "weight")

_SUFFIXES = ("id", "number", "date", "time", "name", "code", "key", "type", "at", "price", "datetime")
_KNOWN_WORDS = {
    word
    for names in (
        *(names for fields in FIELDS.values() for names in fields.values()), PERSON, ORDER, PRODUCT, LINE, ("visitor", "session", "event")
    )
    for name in names
    for word in name.split()
} - {"at", "on", "no", "in"}  # fmt: skip


def words(name: str) -> tuple[str, ...]:
    """The words of a column's or file's name."""
    text = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name))
    found: list[str] = []
    for word in re.findall(r"[a-z]+|[0-9]+", text.lower()):
        found += _unglue(word)
    return tuple(found)


def _unglue(word: str) -> list[str]:
    """`visitorid` is visitor id, where both are words that columns are named with."""
    if word in _KNOWN_WORDS or word in _SUFFIXES:
        return [word]
    for suffix in _SUFFIXES:
        head = word.removesuffix(suffix)
        if head != word and head in _KNOWN_WORDS:
            return [head, suffix]
    for head in sorted(_KNOWN_WORDS, key=len, reverse=True):
        if len(head) > 3 and word.startswith(head) and word[len(head) :] in _KNOWN_WORDS:
            return [head, word[len(head) :]]
    return [word]


def ended(status: str) -> bool:
    """Whether an order's status says that nothing came of it, or that all of it was given back."""
    found = _letters(status)
    return any(word in ENDED for word in found) and not any(word in PARTLY for word in found)


def is_status(value: str) -> bool:
    """Whether a value says how an order stands."""
    return any(word in ENDED or word in ONGOING for word in _letters(value))


def _letters(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())


def ended_sql(status: str) -> str:
    """SQL of `ended` over a text in lower case."""
    whole, partly = (
        f"regexp_matches({status}, '(^|\\P{{L}})({'|'.join(words)})(\\P{{L}}|$)')" for words in (ENDED, PARTLY)
    )
    return f"{whole} and not {partly}"


def rank(name: str, synonyms: Sequence[str], context: Sequence[str] = ()) -> int | None:
    """How well a column's name means one of `synonyms`: 0 is best, None is not at all.

    The name itself counts before the name without its leading context words.
    """
    given = words(name)
    best: int | None = None
    for cut in range(len(given)):
        if cut and given[cut - 1] not in context:
            break
        text = " ".join(given[cut:])
        if text in synonyms:
            found = list(synonyms).index(text) + 100 * cut
            best = found if best is None else min(best, found)
    return best
