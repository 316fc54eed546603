"""`bi/report.html`: what the warehouse says about the customers, as one file that can be sent around.

The page asks nobody for anything (no fonts, scripts or pictures from elsewhere; a content policy in the page forbids it),
so it opens from a disk, a mail or a web server alike. It is a pure function of the warehouse: the same tables give the
same bytes, whenever it is written. Text from the data is escaped; if that failed, the policy would still keep a script
of the data from running.
"""

import base64
import hashlib
import os
import re
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined

from headwater.console.charts import Svg
from headwater.console.formats import moment
from headwater.console.page import Page
from headwater.console.reader import Reader
from headwater.console.sections import SECTIONS
from headwater.console.sections.overview import freshness, tiles
from headwater.warehouse.connection import Warehouse

_STATES = {
    "ok": "ok", "pass": "ok", "fine": "ok", "warn": "warn", "skipped": "warn", "refused": "warn", "interrupted": "warn", "above it": "warn",
    "failed": "bad", "fail": "bad", "error": "bad",
}  # fmt: skip


@dataclass(frozen=True)
class Report:
    """A written report. `sections`: the ids of all parts; `empty_sections`: of those that have nothing to show;
    `warnings`: why a part is not to be trusted blindly, one sentence each."""

    path: Path
    size_bytes: int
    sections: tuple[str, ...]
    empty_sections: tuple[str, ...]
    warnings: tuple[str, ...]


def write(warehouse: Warehouse, path: Path, *, name: str = "shop", currency: str = "USD") -> Report:
    """Write the report to `path`, as a whole or not at all; reads only. The folder is made when it is missing."""
    page = _page(warehouse, name, currency)
    text = _html(page)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return Report(
        path,
        len(text.encode()),
        tuple(section.id for section in page.sections),
        tuple(section.id for section in page.sections if section.is_empty),
        page.doubts,
    )


def render(warehouse: Warehouse, *, name: str = "shop", currency: str = "USD") -> str:
    """The report as HTML text. `currency`: the shop's, ISO 4217; all amounts are written in it."""
    return _html(_page(warehouse, name, currency))


def _page(warehouse: Warehouse, name: str, currency: str) -> Page:
    reader = Reader(warehouse, currency)
    sections = tuple(section(reader) for section in SECTIONS)
    as_of = moment(reader.as_of) if reader.as_of else "no moment yet"
    doubts = (reader.doubt,) if reader.doubt else ()
    return Page(name, as_of, freshness(reader), tiles(reader), sections, doubts)


def _html(page: Page) -> str:
    style, script = _asset("report.css"), _asset("report.js")
    return (
        _environment()
        .get_template("report.html")
        .render(page=page, style=Svg(style), style_hash=_hash(style), script=Svg(script), script_hash=_hash(script))
    )


@cache
def _environment() -> Environment:
    folder = files("headwater.console") / "templates"
    environment = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["state"] = _state
    environment.filters["ticked"] = _ticked
    environment.filters["breakable"] = _breakable
    return environment


def _ticked(text: str) -> Svg:
    """The text, escaped, with `words between backticks` set as code."""
    return Svg(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)))


def _state(text: str) -> str:
    """The class of a cell that holds a status."""
    return _STATES.get(text, "")


def _breakable(text: str) -> Svg:
    """The text, escaped, that may go on in the next line after an underscore, a slash or a colon."""
    return Svg(re.sub(r"([_/:])(?=\w)", r"\1<wbr>", escape(text)))


@cache
def _asset(name: str) -> str:
    """A style sheet or script of the page, rendered; nothing from outside goes into it."""
    return _environment().get_template(name).render()


def _hash(text: str) -> str:
    """What a content policy calls this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
