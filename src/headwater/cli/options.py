"""Options that several commands take, each declared once."""

from pathlib import Path
from typing import Annotated

import typer

Project = Annotated[Path, typer.Option("--project", "-C", envvar="HEADWATER_PROJECT", help="the project's folder")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
HERE = Path()

Segment = Annotated[str, typer.Option(envvar="SEGMENT", help="a segment, or all")]
Goal = Annotated[str | None, typer.Option(envvar="GOAL", help="90d_clv, engagement, conversion or retention")]
DiscountCap = Annotated[float | None, typer.Option(envvar="DISCOUNT_CAP", help="largest discount, percent (0 to 100)")]
SuppressHours = Annotated[float | None, typer.Option(envvar="SUPPRESS_HOURS", help="hours of silence after a contact")]
