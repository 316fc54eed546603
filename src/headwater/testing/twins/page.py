"""The page of a twin: what arrived, newest change first, with a search over every value. No script; nothing from elsewhere."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import urlencode

from starlette.responses import HTMLResponse

ROWS = 100
"""Records of one type on one page."""

Row = Mapping[str, Any]


def page(title: str, tables: Mapping[str, Sequence[Row]], *, query: str = "", number: int = 1) -> HTMLResponse:
    """The records by type, each type in the order given.

    `query` keeps the records of which a value contains it, in upper or lower case. `number` counts pages of `ROWS` from 1; a type
    that has fewer pages shows its last.
    """
    wanted = query.strip()
    body = "".join(_table(name, rows, wanted, number) for name, rows in tables.items())
    return HTMLResponse(
        _PAGE.format(
            title=escape(title),
            query=escape(wanted),
            clear='<a href="?">show all</a>' if wanted else "",
            body=body or "<p>Nothing has arrived yet.</p>",
        ),
        headers={"Content-Security-Policy": _POLICY},
    )


def _table(name: str, rows: Sequence[Row], query: str, number: int) -> str:
    pattern = re.compile(re.escape(query), re.IGNORECASE) if query else None
    found = [row for row in rows if pattern is None or any(pattern.search(_text(value)) for value in row.values())]
    last = max(1, -(-len(found) // ROWS))
    number = min(max(number, 1), last)
    shown = found[(number - 1) * ROWS : number * ROWS]
    columns = list(dict.fromkeys(column for row in shown for column in row))
    count = f"{len(rows):,} record{'' if len(rows) == 1 else 's'}"
    if query:
        count = f"{len(found):,} of {count} contain{'s' if len(found) == 1 else ''} “{escape(query)}”"
    head = "".join(f'<th scope="col">{_breakable(column)}</th>' for column in columns)
    body = "".join(
        "<tr>"
        + "".join(f'<td data-label="{escape(one)}">{_marked(_text(row.get(one)), pattern)}</td>' for one in columns)
        + "</tr>"
        for row in shown
    )
    table = (
        f'<div tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>' if shown else ""
    )
    return f"<h2>{escape(name)} <small>{count}</small></h2>{table}{_pager(query, number, last, len(found))}"


def _pager(query: str, number: int, last: int, found: int) -> str:
    """Which records these are, and the ways to newer and older ones; nothing while one page holds them all."""
    if last == 1:
        return ""

    def link(to: int, words: str) -> str:
        if not 1 <= to <= last:
            return ""
        asked = {"q": query} if query else {}
        return f'<a href="?{escape(urlencode({**asked, "page": to}))}">{words}</a>'

    first = (number - 1) * ROWS + 1
    here = f"<span>{first:,} to {min(first + ROWS - 1, found):,} of {found:,}</span>"
    return f"<nav>{link(number - 1, '← newer')}{here}{link(number + 1, 'older →')}</nav>"


def _marked(text: str, pattern: re.Pattern[str] | None) -> str:
    """The text, escaped, with what was looked for marked in it."""
    if pattern is None:
        return _breakable(text)
    parts, end = [], 0
    for match in pattern.finditer(text):
        parts.append(f"{_breakable(text[end : match.start()])}<mark>{_breakable(match[0])}</mark>")
        end = match.end()
    return "".join([*parts, _breakable(text[end:])])


def _breakable(text: str) -> str:
    """The text, escaped, that may go on in the next line after an underscore, an at or a slash."""
    return re.sub(r"([_@/])(?=[^\W_])", r"\1<wbr>", escape(text))


def _text(value: Any) -> str:
    return "" if value is None else str(value)


_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>{title}</title><link rel="icon" href="data:,"><style>
:root {{ --bg: #f2f6f7; --card: #fff; --ink: #10262e; --soft: #4d636c; --line: #dde7ea; --accent: #0b7285; --on-accent: #fff; --mark: #ffe08a }}
@media (prefers-color-scheme: dark) {{
:root {{ --bg: #0a1418; --card: #111e24; --ink: #e8f1f3; --soft: #a3b8c0; --line: #22363f; --accent: #56c7d8; --on-accent: #06232a; --mark: #6b5200 }}
}}
*, ::before, ::after {{ box-sizing: border-box }}
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 96rem; padding: 1.5rem 1rem 3rem; color: var(--ink); background: var(--bg); overflow-wrap: anywhere }}
h1 {{ font-size: 1.4rem; margin: 0 }} h2 {{ font-size: 1.1rem; margin: 1.75rem 0 .6rem }}
p, small, nav {{ color: var(--soft); font-weight: normal }} header p {{ margin: .2rem 0 1rem }} a {{ color: var(--accent) }}
form {{ display: flex; flex-wrap: wrap; gap: .5rem }}
input {{ flex: 1 1 14rem; max-width: 28rem; min-width: 0; min-height: 2.6rem; padding: 0 .8rem; font: inherit; color: inherit; background: var(--card); border: 1px solid var(--soft); border-radius: 9px }}
button {{ min-height: 2.6rem; padding: 0 1.1rem; font: inherit; color: var(--on-accent); background: var(--accent); border: 0; border-radius: 9px; cursor: pointer }}
form a {{ align-self: center; padding: .4rem }}
:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 2px }}
div {{ overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 12px }}
table {{ border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; overflow-wrap: normal }}
th, td {{ text-align: left; vertical-align: top; padding: .45rem .6rem; border-bottom: 1px solid var(--line) }}
tbody tr:last-child td {{ border-bottom: 0 }}
th {{ color: var(--soft); font-weight: 600; vertical-align: bottom }}
mark {{ color: inherit; background: var(--mark); border-radius: 3px }}
nav {{ display: flex; flex-wrap: wrap; gap: .5rem 1.25rem; margin-top: .8rem }}
@media (max-width: 760px) {{
thead {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }}
table, tbody, tr, td {{ display: block }} table {{ overflow-wrap: anywhere }}
tr {{ padding: .6rem .8rem; border-bottom: 1px solid var(--line) }} tbody tr:last-child {{ border-bottom: 0 }}
td {{ padding: .1rem 0; border: 0 }} td:empty {{ display: none }}
td::before {{ content: attr(data-label); margin-right: .45rem; color: var(--soft) }}
}}
</style></head><body><header><h1>{title}</h1><p>What has arrived here, newest change first.</p>
<form role="search"><input type="search" name="q" value="{query}" aria-label="Search in every value" placeholder="Search in every value"><button>Search</button>{clear}</form></header>
<main>{body}</main></body></html>"""
