"""The time zone of moments that carry none, as a database's `timestamp` columns."""

from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field


def _known(zone: str) -> str:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError("there is no such time zone; use an IANA name like Europe/Berlin") from error
    return zone


SourceTimezone = Annotated[
    str,
    AfterValidator(_known),
    Field(description="time zone of `timestamp` columns, which carry none; IANA name, as Europe/Berlin"),
]
