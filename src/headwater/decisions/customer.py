"""One customer as decisions see them: the columns of `int_decision_candidates`, and nothing that names a person but the id.

Features are buckets ("Dormant", "150-500"), never raw values, never free text: a value that is not a short plain token is
replaced by `other` before any policy sees it, so a text that was smuggled into a field stays outside.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

FLAGS = ("has_email", "has_phone", "email_consent", "sms_consent")
FEATURES = ("ml_segment", "activity_status", "recency_bucket", "revenue_band", "nps_band", "engagement_level")
COLUMNS = ("customer_id", "segment", *FLAGS, "time_zone", "margin_pct", *FEATURES)
NOT_FEATURES = frozenset(("customer_id", "segment", *FLAGS, "time_zone", "margin_pct", "updated_at"))
OTHER = "other"

_TOKEN = re.compile(r"(?=.{1,32}$)[\w+<>=≤≥.()/–-]+( [\w+<>=≤≥.()/–-]+){0,2}")


@dataclass(frozen=True, slots=True)
class Customer:
    """`margin_pct`: what is left of a sale, percent, None when unknown. `features`: bucket by name, None when unknown.

    A flag that is None counts as no.
    """

    customer_id: str
    segment: str | None = None
    has_email: bool | None = False
    has_phone: bool | None = False
    email_consent: bool | None = False
    sms_consent: bool | None = False
    time_zone: str | None = None
    margin_pct: float | None = None
    features: Mapping[str, str | None] | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Customer":
        """From a row of the candidates relation; columns that are not fields become features."""
        margin = row.get("margin_pct")
        return cls(
            customer_id=row["customer_id"],
            segment=row.get("segment"),
            has_email=row.get("has_email"),
            has_phone=row.get("has_phone"),
            email_consent=row.get("email_consent"),
            sms_consent=row.get("sms_consent"),
            time_zone=row.get("time_zone"),
            margin_pct=None if margin is None else float(margin),
            features={name: row[name] for name in row if name not in NOT_FEATURES},
        )

    def flag(self, columns: Iterable[str]) -> bool:
        """Whether any of the flags is true."""
        for name in columns:  # noqa: SIM110 (three times as quick as any(), and it runs for every option)
            if getattr(self, name):
                return True
        return False

    def problems(self, segments: Iterable[str]) -> list[tuple[str, str, str]]:
        """What is wrong with the row: (field, value, reason) each; empty when nothing is."""
        found = []
        if not isinstance(self.customer_id, str) or not self.customer_id.strip():
            found.append(("customer_id", repr(self.customer_id), EMPTY_REASON))
        if self.segment is not None and self.segment not in segments:
            found.append(("segment", self.segment, unknown_segment(segments)))
        if self.margin_pct is not None and not (math.isfinite(self.margin_pct) and self.margin_pct <= 100):
            found.append(("margin_pct", f"{self.margin_pct:g}", MARGIN_REASON))
        return found


EMPTY_REASON = "it is empty or not text; every customer needs an id"
MARGIN_REASON = "it must be a finite number of percent, at most 100, or null when unknown"


def unknown_segment(segments: Iterable[str]) -> str:
    """The reason given for a segment that no table names."""
    return f"it is not a known segment; allowed: {', '.join(segments)}, or null"


def token(value: Any) -> str | None:
    """The value if it is a short plain bucket name (three words, 32 characters), `other` if it is anything else, None if it is
    unknown."""
    return None if value is None else _clean(value if isinstance(value, str) else str(value))


@lru_cache(maxsize=4096)
def _clean(text: str) -> str:
    return text if _TOKEN.fullmatch(text) else OTHER
