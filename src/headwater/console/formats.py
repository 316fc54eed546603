"""How a number, an amount and a moment are written for people. Pure functions; every one accepts None and answers "–".

Numbers look as they do on the screen: 1,234,567 and $1,234.50 and 12.5%; only the minus is a typographic one.
Amounts stay Decimal until they are text; only `short_*` round, and they say so by their letter (k, M, bn).
"""

from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

NOTHING = "–"
THIN = "\u202f"
FIRM = "\u00a0"

# the sign stands before the digits; a currency without a sign of its own is written as its code behind them
SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "CNY": "¥", "INR": "₹", "BRL": "R$", "KRW": "₩", "AUD": "A$"}
WHOLE_CURRENCIES = {"JPY", "KRW", "CLP", "VND"}


def count(number: int | float | Decimal | None) -> str:
    """A whole number: 1234567 → 1,234,567."""
    return NOTHING if number is None else _grouped(Decimal(round(number)), 0)


def short(number: int | float | Decimal | None) -> str:
    """A number with at most three digits and a letter: 12345 → 12.3k. Below 1,000 it is exact to the unit."""
    if number is None:
        return NOTHING
    value = Decimal(str(number))
    for size, letter in ((Decimal(10) ** 9, "bn"), (Decimal(10) ** 6, "M"), (Decimal(10) ** 3, "k")):
        # 999,950 is 1M and not 1000k: the step up happens where rounding would reach it
        if abs(value) >= size * Decimal("0.9995"):
            scaled = value / size
            digits = 0 if abs(scaled) >= Decimal("99.95") else 1
            return f"{_sign(scaled)}{abs(scaled):.{digits}f}".removesuffix(".0") + letter
    return f"{_sign(value)}{abs(value):.0f}"


def money(amount: Decimal | int | float | None, currency: str) -> str:
    """An amount to the cent with its currency: $1,234.50."""
    if amount is None:
        return NOTHING
    value = Decimal(str(amount))
    return _with_sign(value, _grouped(abs(value), 0 if currency in WHOLE_CURRENCIES else 2), currency)


def short_money(amount: Decimal | int | float | None, currency: str) -> str:
    """An amount with at most three digits, a letter and its currency: $12.3k."""
    if amount is None:
        return NOTHING
    value = Decimal(str(amount))
    return _with_sign(value, short(abs(value)), currency)


def percent(share: float | Decimal | None, digits: int = 0) -> str:
    """A share of one as a percentage: .125 → 12%. More than nothing is never written as 0."""
    if share is None:
        return NOTHING
    value = float(share) * 100
    if 0 < value < 0.5 * 10**-digits:
        return f"<{10**-digits:.{digits}f}%"
    return f"{value:.{digits}f}%"


def ratio(value: float | Decimal | None, digits: int = 2) -> str:
    """A plain decimal number: 1.25."""
    return NOTHING if value is None else f"{_sign(Decimal(str(value)))}{abs(value):.{digits}f}"


def moment(at: datetime | None) -> str:
    """31 Jan 2026, 14:05 UTC; a line may break after the comma only."""
    return NOTHING if at is None else f"{day(at)}, {at:%H:%M}{FIRM}UTC"


def day(at: date | None) -> str:
    """31 Jan 2026, never broken at the end of a line."""
    return NOTHING if at is None else f"{at.day}{FIRM}{at:%b}{FIRM}{at:%Y}"


def month(at: date | None) -> str:
    """Jan 26, with a typographic apostrophe before the year."""
    return NOTHING if at is None else f"{at:%b} ’{at:%y}"


def span(length: timedelta | None) -> str:
    """A length of time in its one or two largest units: 2 d 3 h, 41 s, 0.4 s."""
    if length is None:
        return NOTHING
    seconds = length.total_seconds()
    if abs(seconds) < 10:
        return f"{seconds:.1f}{THIN}s"
    whole = round(abs(seconds))
    amounts = ((whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s"))
    first = next(i for i, (amount, _) in enumerate(amounts) if amount)
    parts = [f"{amount}{THIN}{unit}" for amount, unit in amounts[first : first + 2] if amount]
    return ("−" if seconds < 0 else "") + " ".join(parts)


def clipped(text: str, most: int) -> str:
    """The text, or its beginning and an ellipsis when it is longer than `most` characters."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _grouped(value: Decimal, digits: int) -> str:
    exact = value.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_EVEN)
    return f"{_sign(exact)}{abs(exact):,.{digits}f}"


def _sign(value: Decimal) -> str:
    return "−" if value < 0 else ""


def _with_sign(value: Decimal, digits: str, currency: str) -> str:
    sign = SIGNS.get(currency)
    return f"{_sign(value)}{sign}{digits}" if sign else f"{_sign(value)}{digits}\u00a0{currency}"
