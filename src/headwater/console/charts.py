"""Pictures as SVG text: numbers in, one `<svg>` out. Pure functions that read nothing and know no table.

Every picture is as wide as its place and as high as it says, in px: positions across are percentages, so letters keep
their size on a phone (390 px) and on a wide screen alike. Colours are classes of `report.css` and follow the theme:
`t0` … `t7` and `mute` are kinds, `q0` … `q8` are amounts from little to much, `good`, `warn`, `bad` are verdicts.
Every mark carries a `<title>`, which is what a pointer (and the page's tooltip) shows.

All text that comes from outside goes through `_text`, which escapes it; the functions answer `Svg`, which a template
prints as it stands.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from headwater.console.formats import clipped, percent, short

LEVELS = 9

Written = Callable[[float], str]
"""How a number is written on an axis."""


class Svg(str):
    """Finished markup: every text inside is escaped already."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Bar:
    """One row of `bars`: `value` sets the length (negative counts as 0), `second` a thinner bar beneath it."""

    label: str
    value: float
    text: str
    tone: str = "t0"
    tip: str = ""
    second: float | None = None


@dataclass(frozen=True)
class Span:
    """One row of `spans`: an estimate with its interval; `wide`, where given, is a second, wider one drawn faintly behind it."""

    label: str
    value: float
    low: float
    high: float
    text: str
    tone: str = "t0"
    tip: str = ""
    wide: tuple[float, float] | None = None


@dataclass(frozen=True)
class Part:
    """One piece of a `Stack`."""

    label: str
    value: float
    text: str
    tone: str


@dataclass(frozen=True)
class Stack:
    """One row of `stacked`."""

    label: str
    text: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Cell:
    """One cell of a `heat_map`: `level` in 0 … 1 sets the colour; None leaves the cell blank."""

    level: float | None
    text: str = ""
    small: str = ""
    tip: str = ""


@dataclass(frozen=True)
class Point:
    """One point of an `area`; `label` is written under the axis where there is room."""

    label: str
    value: float
    tip: str = ""


@dataclass(frozen=True)
class Bin:
    """One column of a `histogram`."""

    value: float
    tip: str = ""
    tone: str = "t0"


@dataclass(frozen=True)
class Node:
    """One block of one side of a `flow`."""

    name: str
    tone: str


@dataclass(frozen=True)
class Link:
    """`value` units go from one node on the left to one on the right, by name."""

    source: str
    target: str
    value: float
    tip: str = ""


def bars(rows: Sequence[Bar], *, name: str, whole: float | None = None) -> Svg:
    """Horizontal bars, label and number above each. `whole`: what the values are parts of (1 for shares); each bar then lies
    in a track as long as that. Without it the largest bar is as wide as the picture and there is no track: it is no part of anything.
    """
    full = whole or max((max(row.value, row.second or 0) for row in rows), default=0) or 1
    body, y = [], 0
    for row in rows:
        tip = _title(row.tip or f"{row.label}: {row.text}")
        height = 42 if row.second is None else 50
        body.append(f'<g class="mark"><rect class="hit" x="0" y="{y}" width="100%" height="{height}"/>{tip}')
        body.append(f'<text class="label" x="0" y="{y + 14}">{_text(_beside(row.label, row.text))}</text>')
        body.append(f'<text class="number" x="100%" y="{y + 14}" text-anchor="end">{_text(row.text)}</text>')
        body.append(_bar(y + 22, 10, row.value / full, row.tone, track=whole is not None))
        if row.second is not None:
            body.append(_bar(y + 34, 5, row.second / full, "second", track=whole is not None))
        body.append("</g>")
        y += height
    return _svg("bars", y, name, body)


def spans(rows: Sequence[Span], *, name: str) -> Svg:
    """Estimates with their intervals, one below the other on one scale, and a line where there is no difference."""
    ends = [0.0, *(end for row in rows for end in (row.low, row.high, *(row.wide or ())))]
    least, full = min(ends), (max(ends) - min(ends)) or 1.0

    def at(value: float) -> float:
        return 100 * (0.02 + 0.96 * (value - least) / full)

    body, y = [], 0
    for row in rows:
        tip = _title(row.tip or f"{row.label}: {row.text}")
        middle = y + 30
        body.append(f'<g class="mark"><rect class="hit" x="0" y="{y}" width="100%" height="46"/>{tip}')
        body.append(f'<text class="label" x="0" y="{y + 14}">{_text(_beside(row.label, row.text))}</text>')
        body.append(f'<text class="number" x="100%" y="{y + 14}" text-anchor="end">{_text(row.text)}</text>')
        for kind, height, ends_of in (("track", 14, row.wide), (f"fill {row.tone}", 5, (row.low, row.high))):
            if ends_of is not None:
                low, high = at(ends_of[0]), at(ends_of[1])
                body.append(
                    f'<rect class="{kind}" x="{_n(low)}%" y="{_n(middle - height / 2)}" '
                    f'width="{_n(max(high - low, 0.4))}%" height="{height}" rx="{_n(height / 2)}"/>'
                )
        body.append(f'<circle class="fill {row.tone}" cx="{_n(at(row.value))}%" cy="{middle}" r="6"/></g>')
        y += 46
    zero = f'<line class="baseline" x1="{_n(at(0))}%" x2="{_n(at(0))}%" y1="18" y2="{y}"/>'
    ticks = [(at(0) / 100, "no difference")]
    return _svg("spans", y + 18, name, [*body, zero, *_ticks(ticks, y + 18)])


def stacked(rows: Sequence[Stack], *, name: str, to_scale: bool = False) -> Svg:
    """Bars cut into parts in the order given; parts of 0 are left out. Their legend is the caller's.

    Each bar is as wide as the picture, or, `to_scale`, as long as its sum is of the largest one and without a track.
    A row without label and text takes no room for them.
    """
    totals = [sum(max(part.value, 0) for part in row.parts) for row in rows]
    full = max(totals, default=0) or 1
    body, y = [], 0
    for row, total in zip(rows, totals, strict=True):
        top = y
        if row.label or row.text:
            body.append(f'<text class="label" x="0" y="{y + 14}">{_text(_beside(row.label, row.text))}</text>')
            body.append(f'<text class="number" x="100%" y="{y + 14}" text-anchor="end">{_text(row.text)}</text>')
            top += 22
        if not to_scale:
            body.append(f'<rect class="track" x="0" y="{top}" width="100%" height="14" rx="3"/>')
        # what there is shall be seen: a part is at least 1.2 % wide, and the others make room for it
        shown = [part for part in row.parts if part.value > 0]
        shares = [max(part.value / total, 0.012) for part in shown]
        long = 100 * (total / full if to_scale else 1)
        x = 0.0
        for part, share in zip(shown, shares, strict=True):
            wide = long * share / sum(shares)
            body.append(
                f'<rect class="mark fill {part.tone}" x="{_n(x)}%" y="{top}" width="{_n(wide)}%" height="14">'
                f"{_title(f'{row.label}: {part.label} {part.text}'.removeprefix(': '))}</rect>"
            )
            if x:
                body.append(f'<rect class="gap" x="{_n(x)}%" y="{top}" width="2" height="14"/>')
            x += wide
        y = top + 14 + 14
    return _svg("stacked", y, name, body)


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell]],
    *,
    name: str,
    label_share: float = 14,
    row_height: int = 34,
    across: str = "",
) -> Svg:
    """A grid, `cells[i][j]` in row i and column j. `label_share`: percent of the width for the row labels;
    `across`: what the columns are, written above them."""
    step = (100 - label_share) / max(len(columns), 1)
    top = 40 if across else 22
    body = []
    if across:
        body.append(f'<text class="axis" x="{_n(label_share)}%" y="13">{_text(across)}</text>')
    for j, column in enumerate(columns):
        x = label_share + step * (j + 0.5)
        body.append(f'<text class="axis" x="{_n(x)}%" y="{top - 7}" text-anchor="middle">{_text(column)}</text>')
    for i, row in enumerate(rows):
        y = top + i * row_height
        middle = y + row_height / 2
        body.append(f'<text class="axis" x="0" y="{_n(middle + 4)}">{_text(row)}</text>')
        for j, cell in enumerate(cells[i]):
            if cell.level is None:
                continue
            x = label_share + step * j
            level = min(LEVELS - 1, max(0, int(cell.level * LEVELS)))
            tone = f"q{level}" + (" hot" if level >= 5 else "")
            body.append(
                f'<g class="mark {tone}"><rect class="cell" x="{_n(x)}%" y="{y}" width="{_n(step)}%" height="{row_height}"/>'
            )
            x_text = x + step / 2
            if cell.small:
                body.append(_centred(x_text, middle - 2, "value", cell.text))
                body.append(_centred(x_text, middle + 13, "small", cell.small))
            elif cell.text:
                body.append(_centred(x_text, middle + 4, "value", cell.text))
            body.append(f"{_title(cell.tip or cell.text)}</g>")
    return _svg("heat", top + len(rows) * row_height, name, body)


def histogram(
    bins: Sequence[Bin], ticks: Sequence[tuple[float, str]], *, name: str, height: int = 220, written: Written = short
) -> Svg:
    """Columns side by side. `ticks`: where under the axis (0 … 1 of the width) stands which text."""
    plot = height - 26
    full = _ceiling(max((b.value for b in bins), default=0))
    # most distributions are tall at the left: the numbers stand at the right
    body = _grid(full, plot, written, at_end=True)
    step = 100 / max(len(bins), 1)
    for i, b in enumerate(bins):
        tall = (plot - 18) * max(b.value, 0) / full
        body.append(
            f'<g class="mark"><rect class="hit" x="{_n(i * step)}%" y="0" width="{_n(step)}%" height="{plot}"/>{_title(b.tip)}'
            f'<rect class="fill {b.tone}" x="{_n(i * step + step * 0.06)}%" y="{_n(plot - tall)}" '
            f'width="{_n(step * 0.88)}%" height="{_n(max(tall, 1 if b.value else 0))}" rx="2"/></g>'
        )
    body.extend(_ticks(ticks, height))
    return _svg("histogram", height, name, body)


def area(points: Sequence[Point], *, name: str, height: int = 220, written: Written = short) -> Svg:
    """A line with its area, points at equal distances. A single point is drawn as a bar across."""
    plot = height - 26
    full = _ceiling(max((p.value for p in points), default=0))
    low = min((p.value for p in points), default=0)
    n = len(points)
    across = [100 * (i + 0.5) / n for i in range(n)]
    # a month that is worth less than nothing (more given back than bought) is drawn at the floor; its tip has the number
    heights = [100 - 100 * (plot - 18) / plot * max(p.value, 0) / full for p in points]
    line = " ".join(f"{_n(x)},{_n(y)}" for x, y in zip(across, heights, strict=True))
    grid = _grid(full, plot, written)
    numbers = [part for part in grid if part.startswith("<text")]
    body = [part for part in grid if part not in numbers]
    if n == 1:
        line = f"0,{_n(heights[0])} 100,{_n(heights[0])}"
        closed = f"0,100 {line} 100,100"
    else:
        closed = f"{_n(across[0])},100 {line} {_n(across[-1])},100" if n else ""
    body.append(
        f'<svg x="0" y="0" width="100%" height="{plot}" viewBox="0 0 100 100" preserveAspectRatio="none">'
        f'<polygon class="under" points="{closed}"/><polyline class="line" points="{line}"/></svg>'
    )
    body += numbers  # over the line, which may run through them
    step = 100 / max(n, 1)
    for i, p in enumerate(points):
        body.append(
            f'<g class="mark spot"><rect class="hit" x="{_n(i * step)}%" y="0" width="{_n(step)}%" height="{plot}"/>{_title(p.tip)}'
            f'<circle cx="{_n(across[i])}%" cy="{_n(heights[i] * plot / 100)}" r="4"/></g>'
        )
    every = max(1, ceil(n / 5))
    body.extend(_ticks([((i + 0.5) / n, p.label) for i, p in enumerate(points) if i % every == 0], height))
    if low < 0:
        body.append(f'<line class="zero" x1="0" x2="100%" y1="{plot}" y2="{plot}"/>')
    return _svg("area", height, name, body)


def flow(left: Sequence[Node], right: Sequence[Node], links: Sequence[Link], *, name: str) -> Svg:
    """What went from which block on the left to which on the right.

    Within a block the ribbons are as wide as their values. Blocks are at least as high as their text, so a small one is
    drawn larger than its share; the share is written beside it. Nodes without a link are left out.
    """
    links = [link for link in links if link.value > 0]
    given, taken = _sums(links, "source"), _sums(links, "target")
    sources = [node for node in left if node.name in given]
    targets = [node for node in right if node.name in taken]
    total = sum(given.values()) or 1
    sides = [
        (node, weights[node.name] / total) for nodes, weights in ((sources, given), (targets, taken)) for node in nodes
    ]
    labels = [_flow_lines(node.name, percent(share)) for node, share in sides]
    gap, edge = 10, 30
    rows = max(len(sources), len(targets))
    # every block has room for the longest label of them all
    least = 15.0 * max((len(lines) for lines in labels), default=1) + 4
    tall = max(1.35 * (rows * (least + gap) - gap), 100)

    at_left = _places(sources, given, least, gap, tall)
    at_right = _places(targets, taken, least, gap, tall)
    used_left, used_right = dict.fromkeys(at_left, 0.0), dict.fromkeys(at_right, 0.0)
    tone_of = {node.name: node.tone for node in sources}
    order_left = {node.name: i for i, node in enumerate(sources)}
    order_right = {node.name: i for i, node in enumerate(targets)}
    ribbons = []
    for link in sorted(links, key=lambda k: (order_left[k.source], order_right[k.target])):
        (y0, h0), (y1, h1) = at_left[link.source], at_right[link.target]
        a, b = y0 + used_left[link.source], y1 + used_right[link.target]
        wide0, wide1 = h0 * link.value / given[link.source], h1 * link.value / taken[link.target]
        used_left[link.source] += wide0
        used_right[link.target] += wide1
        path = (
            f"M0,{_n(a)} C50,{_n(a)} 50,{_n(b)} 100,{_n(b)} V{_n(b + wide1)} "
            f"C50,{_n(b + wide1)} 50,{_n(a + wide0)} 0,{_n(a + wide0)} Z"
        )
        calm = " stay" if link.source == link.target else ""
        tip = _title(link.tip or f"{link.source} → {link.target}")
        ribbons.append(f'<path class="mark ribbon {tone_of[link.source]}{calm}" d="{path}">{tip}</path>')
    body = [
        f'<svg x="{edge + 1}%" y="0" width="{100 - 2 * (edge + 1)}%" height="{_n(tall)}" viewBox="0 0 100 {_n(tall)}" '
        f'preserveAspectRatio="none">{"".join(ribbons)}</svg>'
    ]
    for nodes, where, x, x_text, anchor in (
        (sources, at_left, edge, f"{edge - 1.5}%", "end"),
        (targets, at_right, 100 - edge - 1, f"{100 - edge + 1.5}%", "start"),
    ):
        for node in nodes:
            y, h = where[node.name]
            body.append(f'<rect class="fill {node.tone}" x="{x}%" y="{_n(y)}" width="1%" height="{_n(h)}" rx="2"/>')
            share = percent((given if anchor == "end" else taken)[node.name] / total)
            words = _flow_lines(node.name, share)
            start = y + h / 2 + 4 - 7 * (len(words) - 1)
            for i, line in enumerate(words):
                small = f' <tspan class="small">{_text(share)}</tspan>' if i == len(words) - 1 else ""
                body.append(
                    f'<text class="label" x="{x_text}" y="{_n(start + 14 * i)}" text-anchor="{anchor}">{_text(line)}{small}</text>'
                )
    return _svg("flow", tall, name, body)


def _sums(links: Sequence[Link], end: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for link in links:
        node = getattr(link, end)
        found[node] = found.get(node, 0) + link.value
    return found


def _flow_lines(name: str, share: str) -> list[str]:
    """The lines of a node's label; the share goes behind the last one, which may be empty for it."""
    lines = _folded(name, 12)
    return lines if len(lines[-1]) + len(share) <= 13 else [*lines, ""]


def _places(
    nodes: Sequence[Node], weights: dict[str, float], least: float, gap: float, tall: float
) -> dict[str, tuple[float, float]]:
    """Top and height of each block: the least height, and of the room that is left its part by weight."""
    spare = tall - len(nodes) * (least + gap) + gap
    total = sum(weights[node.name] for node in nodes) or 1
    y, found = 0.0, {}
    for node in nodes:
        found[node.name] = (y, least + spare * weights[node.name] / total)
        y += found[node.name][1] + gap
    return found


def _svg(kind: str, height: float, name: str, body: Sequence[str]) -> Svg:
    return Svg(
        f'<svg class="chart {kind}" role="img" aria-label="{_text(name)}" width="100%" height="{_n(height)}">{"".join(body)}</svg>'
    )


def _bar(y: float, height: float, share: float, tone: str, *, track: bool) -> str:
    width = 100 * min(max(share, 0), 1)
    place = f'x="0" y="{y}" height="{height}" rx="{height / 2}"'
    behind = f'<rect class="track" {place} width="100%"/>' if track else ""
    return behind + (f'<rect class="fill {tone}" {place} width="{_n(max(width, 1))}%"/>' if width else "")


def _grid(full: float, plot: float, written: Written, *, at_end: bool = False) -> list[str]:
    """Two faint lines, the upper one the ceiling, each with its number at the left (or the right) end."""
    from_top = 18
    lines = []
    place = 'x="100%" text-anchor="end"' if at_end else 'x="0"'
    for part in (0.5, 1.0):
        if full * part % 1:  # nobody counts half a customer
            continue
        y = plot - (plot - from_top) * part
        lines.append(f'<line class="gridline" x1="0" x2="100%" y1="{_n(y)}" y2="{_n(y)}"/>')
        lines.append(f'<text class="axis" {place} y="{_n(y - 4)}">{_text(written(full * part))}</text>')
    lines.append(f'<line class="baseline" x1="0" x2="100%" y1="{plot}" y2="{plot}"/>')
    return lines


def _ticks(ticks: Sequence[tuple[float, str]], height: float) -> list[str]:
    """Texts under the axis; the ones at the very edges are turned inward so that none is cut."""
    found = []
    for at, text in ticks:
        anchor = "start" if at < 0.015 else "end" if at > 0.985 else "middle"
        found.append(
            f'<text class="axis" x="{_n(100 * at)}%" y="{height - 6}" text-anchor="{anchor}">{_text(text)}</text>'
        )
    return found


def _centred(x: float, y: float, kind: str, text: str) -> str:
    return f'<text class="{kind}" x="{_n(x)}%" y="{_n(y)}" text-anchor="middle">{_text(text)}</text>'


def _ceiling(value: float) -> float:
    """The next number at or above `value` that is round, and whose half is too; 1 for nothing."""
    if value <= 10:
        return float(max(ceil(value), 1))
    size = 10.0 ** floor(log10(value))
    return next(step * size for step in (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10) if step * size >= value * (1 - 1e-9))


def _beside(label: str, text: str) -> str:
    """The label as far as it fits in a line of a phone together with the number at its end."""
    return clipped(label, max(12, 43 - len(text)))


def _folded(text: str, width: int, most: int = 3) -> list[str]:
    """The text in at most `most` lines of `width` characters, broken after a blank or an underscore where there is one."""
    if len(text) <= width or most == 1:
        return [clipped(text, width)]
    marks = [i + 1 for i, letter in enumerate(text) if letter in " _" and i < width]
    at = marks[-1] if marks else width
    return [text[:at].rstrip(), *_folded(text[at:], width, most - 1)]


def _n(number: float) -> str:
    """A coordinate: two digits, no trailing zeros, so that the same numbers give the same bytes."""
    return f"{number:.2f}".rstrip("0").rstrip(".") or "0"


def _text(text: str) -> str:
    return escape(text, quote=True)


def _title(text: str) -> str:
    return f"<title>{_text(text)}</title>"
