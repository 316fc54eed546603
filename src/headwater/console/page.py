"""What a page consists of, before it is HTML: sections of figures, each with its picture, its table and its sentences.

Everything here is plain text or finished `Svg`; the template escapes the text. A part that has nothing to show has an
`Empty` instead, which says why and which command fills it.
"""

from dataclasses import dataclass
from typing import Literal

from headwater.console.charts import Svg

Tone = Literal["good", "warn", "bad", "calm"]


@dataclass(frozen=True)
class Badge:
    """A word or two beside a title; `tone` says how to take it."""

    text: str
    tone: Tone = "calm"


@dataclass(frozen=True)
class Empty:
    """Why there is nothing to see, one sentence; `command` fills it (None: nothing needs doing)."""

    reason: str
    command: str | None = None


@dataclass(frozen=True)
class Table:
    """The numbers behind a picture, as text. `numeric`: the columns (by position) that are set to the right;
    `cards`: there are sentences in it, so that on a phone each row becomes a card."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    cards: bool = False


@dataclass(frozen=True)
class Figure:
    """A titled picture. `legend`: pairs of colour class and text; `scale`: what little and much colour mean.

    `open`: the table stands there, not behind a click."""

    title: str
    picture: Svg | None = None
    legend: tuple[tuple[str, str], ...] = ()
    note: str = ""
    table: Table | None = None
    empty: Empty | None = None
    wide: bool = False
    open: bool = False
    scale: tuple[str, str] | None = None


@dataclass(frozen=True)
class Section:
    """A part of the page under one heading. `caution` is shown in a box of its own: why not to trust it blindly."""

    id: str
    title: str
    lead: str
    figures: tuple[Figure, ...] = ()
    badges: tuple[Badge, ...] = ()
    caution: str = ""
    alerts: tuple[str, ...] = ()
    empty: Empty | None = None

    @property
    def arranged(self) -> tuple[tuple[Figure, bool], ...]:
        """The figures in their order, each with whether it takes a row of its own on a wide screen.

        Two that are not wide share a row, but not when one of them has nothing to show: it would stand there as a gap.
        """
        rows: list[list[Figure]] = []
        for figure in self.figures:
            beside = bool(rows) and len(rows[-1]) == 1 and not rows[-1][0].wide and not figure.wide
            if beside and (rows[-1][0].empty is None) == (figure.empty is None):
                rows[-1].append(figure)
            else:
                rows.append([figure])
        return tuple((figure, len(row) == 1) for row in rows for figure in row)

    @property
    def is_empty(self) -> bool:
        """Nothing to see here, but why."""
        return self.empty is not None or all(figure.empty is not None for figure in self.figures)

    @property
    def tone(self) -> Tone | Literal["none"]:
        """The worst of its badges, `none` when the part is empty; shown as a dot in the contents."""
        if self.is_empty:
            return "none"
        found = {badge.tone for badge in self.badges} | ({"warn"} if self.caution or self.alerts else set())
        return next((tone for tone in ("bad", "warn", "good") if tone in found), "calm")


@dataclass(frozen=True)
class Tile:
    """One of the headline numbers."""

    label: str
    value: str
    note: str = ""
    tone: Tone = "calm"


@dataclass(frozen=True)
class Page:
    """A whole report. `doubts`: what is in it but should not be trusted blindly, one sentence each."""

    name: str
    as_of: str
    fresh: str
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    doubts: tuple[str, ...] = ()
