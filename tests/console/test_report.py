"""The page: its numbers are the tables' numbers, its text is escaped, and it says why a part is empty."""

import html
import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from console_warehouse import AS_OF, HOSTILE, insert

from headwater.console import formats, queries
from headwater.console.page import Empty, Figure, Section
from headwater.console.report import render, write
from headwater.console.sections import SECTIONS
from headwater.warehouse.connection import Warehouse

IDS = (
    "overview", "segments", "migration", "rfm", "cohorts", "clv", "decisions", "experiment", "activation", "leads", "marketing", "quality", "run",
)  # fmt: skip


LAST_26_WEEKS = "event_date >= date '2025-07-28' and event_date < date '2026-01-26'"
"""Whole weeks, from a Monday to the last Sunday before as_of."""


class Outline(HTMLParser):
    """The tags of a page, its sections' text, its tables, and whether every tag was closed in order."""

    VOID = {"meta", "link", "br", "wbr", "rect", "line", "circle", "path", "polygon", "polyline"}

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.section = ""
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = dict(attrs)["id"] or ""
        elif tag == "table":
            self.tables.setdefault(self.section, []).append([])
        elif tag == "tr":
            self.tables[self.section][-1].append([])
        elif tag in ("td", "th"):
            self.tables[self.section][-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag
        if tag == "section":
            self.section = ""

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.text[self.section] = self.text.get(self.section, "") + data
        if {"td", "th"} & set(self.open):
            self.tables[self.section][-1][-1][-1] += data


@pytest.fixture(scope="session")
def page(full: Warehouse) -> str:
    return render(full, name="Riverside", currency="EUR")


@pytest.fixture(scope="session")
def outline(page: str) -> Outline:
    return Outline(page)


def said(outline: Outline, section: str) -> str:
    return re.sub(r"\s+", " ", outline.text[section].replace(formats.THIN, " "))


def test_all_parts_are_there_in_order(outline: Outline) -> None:
    assert tuple(attributes["id"] for tag, attributes in outline.tags if tag == "section") == IDS
    assert len(SECTIONS) == len(IDS)
    linked = [
        attributes["href"]
        for tag, attributes in outline.tags
        if tag == "a" and (attributes.get("href") or "").startswith("#")
    ]
    assert {f"#{id_}" for id_ in IDS} <= set(linked)


def test_the_headline_is_the_warehouse(full: Warehouse, page: str, outline: Outline) -> None:
    total = queries.headline(full)
    assert formats.money(total["revenue"], "EUR") in outline.text[""]
    assert formats.count(total["orders"]) in outline.text[""]
    assert formats.moment(AS_OF) in outline.text[""]
    assert "$" not in "".join(outline.text.values())


def number(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace("€", "").replace("−", "-"))


@pytest.mark.parametrize(
    ("section", "which", "column", "expected"),
    [
        ("overview", 0, 1, "select sum(revenue) from main.fct_orders"),
        ("overview", 0, 2, "select count(*) from main.fct_orders where is_purchase"),
        ("overview", 1, 1, f"select sum(sessions) from main.mart_marketing__engagement_metrics where {LAST_26_WEEKS}"),
        ("overview", 1, 3, f"select sum(orders) from main.mart_marketing__engagement_metrics where {LAST_26_WEEKS}"),
        ("segments", 0, 1, "select count(*) from main.dim_customer"),
        ("segments", 0, 3, "select sum(total_revenue) from main.fct_customer_segments"),
        ("segments", 1, 1, "select count(*) from main.mart_marketing__segment_scores"),
        ("migration", 0, -1, "select count(distinct customer_id) from headwater.segment_assignments"),
        ("rfm", 0, 2, "select count(*) from main.mart_marketing__customer_360"),
        ("rfm", 0, 3, "select sum(lifetime_revenue) from main.mart_marketing__customer_360"),
        ("clv", 0, 2, "select count(*) from headwater.clv_scores"),
        ("clv", 1, 2, "select sum(clv) from headwater.clv_scores"),
        ("decisions", 0, 3, "select count(distinct customer_id) from headwater.decision_log"),
        ("decisions", 1, 1, f"select count(*) from {queries.LATEST_DECISIONS} where action = 'none'"),
        ("activation", 0, 4, "select 85"),
        ("activation", 1, 2, "select count(*) from headwater.outbox"),
        (
            "activation",
            2,
            1,
            "select sum(confirmed) from main.mart_marketing__activation_metrics where day > date '2026-01-17'",
        ),
        ("leads", 0, 1, "select count(*) from main.user_mql_score"),
        ("leads", 0, 2, "select count(*) from main.user_alerts"),
        ("marketing", 0, 2, "select sum(spend) from main.mart_marketing__roas"),
        ("marketing", 1, 1, "select sum(sent) from main.mart_marketing__segment_performance"),
        ("quality", 1, 1, "select sum(row_count) from main.row_counts where outcome = 'kept'"),
        ("quality", 1, 4, "select sum(row_count) from main.row_counts where outcome = 'quarantined'"),
        ("quality", 2, 3, "select sum(row_count) from main.row_counts where outcome not in ('read', 'kept')"),
        ("quality", 3, 3, "select count(*) from main.quarantined_rows"),
        ("quality", 4, 2, "select count(*) from headwater.file_rejects"),
        ("quality", 5, 2, "select sum(row_count) from main.excluded_rows"),
    ],
)
def test_columns_add_up_to_the_warehouse(
    section: str, which: int, column: int, expected: str, full: Warehouse, outline: Outline
) -> None:
    table = outline.tables[section][which]
    assert sum(number(row[column]) for row in table[1:]) == full.value(expected)


def test_no_text_of_the_data_becomes_markup(page: str, outline: Outline) -> None:
    assert HOSTILE in outline.text["segments"]
    assert HOSTILE not in page
    assert [attributes for tag, attributes in outline.tags if tag == "script"] == [{}]
    assert sum(tag == "script" for tag, _ in outline.tags) == 1


def test_a_hostile_project_name_stays_text(empty: Warehouse) -> None:
    outline = Outline(render(empty, name=HOSTILE, currency="<b>"))
    assert HOSTILE in outline.text[""]
    assert sum(tag == "script" for tag, _ in outline.tags) == 1


def test_the_page_asks_nobody_for_anything(page: str, outline: Outline) -> None:
    for tag, attributes in outline.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|sendBeacon", page)
    policy = next(
        a["content"] for tag, a in outline.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_every_picture_has_a_name_and_its_numbers_beside_it(outline: Outline) -> None:
    pictures = [
        attributes for tag, attributes in outline.tags if tag == "svg" and "chart" in (attributes.get("class") or "")
    ]
    assert len(pictures) >= 14
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
    figures = sum(tag == "figure" for tag, _ in outline.tags)
    tables = sum(len(found) for found in outline.tables.values())
    assert tables == figures


def test_headings_and_header_cells_are_marked_up(outline: Outline) -> None:
    assert sum(tag == "h1" for tag, _ in outline.tags) == 1
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in outline.tags if tag == "th")
    assert ("html", {"lang": "en"}) in outline.tags


def test_doubt_is_shown_wherever_the_model_is(outline: Outline) -> None:
    for section in ("segments", "migration", "clv"):
        assert "kmeans v2: doubtful · smallest Jaccard 0.64" in said(outline, section)
        assert "Doubtful." in said(outline, section)
    assert "Occasional Shoppers is found again with Jaccard 0.64, below 0.75. Take these segments as a hint" in said(
        outline, "segments"
    )
    assert "0.64" in next(row for row in outline.tables["segments"][0] if row[0] == "Occasional Shoppers")
    assert "frequency and spend per purchase correlate at 0.41" in said(outline, "clv")


def test_a_sound_model_is_called_stable_and_nothing_is_doubted(full_file: Path, tmp_path: Path) -> None:
    with copied(full_file, tmp_path) as warehouse:
        warehouse.execute(
            "update headwater.ml_model_registry set verdict = 'promoted', stability = '{\"smallest\": 0.91}' where version = 2"
        )
        outline = Outline(render(warehouse))
        assert "kmeans v2: stable · smallest Jaccard 0.91" in said(outline, "segments")
        assert "Doubtful" not in "".join(outline.text.values())
        assert write(warehouse, tmp_path / "report.html").warnings == ()


def copied(file: Path, folder: Path) -> Warehouse:
    target = folder / "copy.duckdb"
    target.write_bytes(file.read_bytes())
    return Warehouse(target)


def test_what_went_wrong_is_said(outline: Outline) -> None:
    run = said(outline, "run")
    assert "1 failed" in run
    assert "orders.csv: 14 rows quarantined, ordered_at is not a time" in run
    assert "an older run" not in run
    assert "5 of 32 row(s) failed" in run
    assert "create the owner in the ticket system" in said(outline, "activation")
    assert "relationships_fct_orders_customer_id__dim_customer" in said(outline, "quality")
    assert "31/31/2025" in said(outline, "quality")


def test_tile_and_section_tell_the_same_deliveries_after_a_run_that_could_send_nothing(
    full_file: Path, tmp_path: Path
) -> None:
    with copied(full_file, tmp_path) as warehouse:
        ever = formats.count(warehouse.value("select sum(confirmed) from headwater.sync_runs"))
        again = {"sync": "email_actions", "dry_run": False, "started_at": AS_OF + timedelta(hours=1)}
        again |= {"planned": 0, "sent": 0, "confirmed": 0, "failed": 0}
        insert(warehouse, "headwater.sync_runs", [{"sync_run_id": "z", "status": "ok", "held": 11} | again])
        outline = Outline(render(warehouse))
    assert f"Delivered{ever}rows that destinations have confirmed so far" in outline.text[""].replace("\n", "")
    assert f"Destinations have confirmed {ever} rows so far." in said(outline, "activation")
    (row,) = (row for row in outline.tables["activation"][0] if row[0] == "email_actions")
    assert row[1:7] == ["ok", "71", "60", "60", "0", "11"]


def test_the_outbox_says_of_each_sync_what_its_bar_shows(full: Warehouse, outline: Outline) -> None:
    text = said(outline, "activation")
    assert "email_actions60 done · 11 held" in text
    assert "mql_to_salesforce58 ready" in text
    assert "cs_ticket_actions25 done · 5 failed" in text


def test_more_states_than_fit_above_a_bar_give_way_to_their_sum(empty: Warehouse) -> None:
    states = ["done", "ready", "claimed", "held", "failed", "superseded"]
    rows = [{"operation_id": state, "sync": "leads", "key": state, "version": 1, "state": state} for state in states]
    insert(empty, "headwater.outbox", rows)
    assert "leads6 operations" in said(Outline(render(empty)), "activation")


def test_a_lead_who_is_a_customer_under_the_same_id_is_named_once(full_file: Path, tmp_path: Path) -> None:
    with copied(full_file, tmp_path) as warehouse:
        warehouse.execute("update main.user_alerts set mql_score = 0")
        for person, customer in (("C1", "C1"), ("p-2", "C2"), ("anon:3", None)):
            warehouse.execute("insert into main.user_alerts values (?, ?, null, 99, null)", [person, customer])
        top = Outline(render(warehouse)).tables["leads"][1]
    assert [row[:2] for row in top[1:4]] == [["C1", "yes"], ["anon:3", "not yet"], ["p-2", "C2"]]


def test_a_share_is_drawn_of_the_whole_and_nothing_else_lies_in_a_track(full: Warehouse, page: str) -> None:
    pictures = dict(
        re.findall(r'<svg class="chart bars" role="img" aria-label="([^"]*)"[^>]*>(.*?)</svg>', page, re.DOTALL)
    )
    shares = [row["customer_share"] for row in queries.rule_segments(full)]
    drawn = re.findall(r'class="fill [^"]*"[^>]*width="([\d.]+)%"', pictures["Customers by rule segment"])
    assert [float(wide) for wide in drawn] == pytest.approx([100 * share for share in shares], abs=0.01)
    both = re.findall(r'class="fill [^"]*"[^>]*width="([\d.]+)%"', pictures["Customers and revenue by ML segment"])
    assert sum(float(wide) for wide in both) == pytest.approx(200, abs=4)
    tracked = {name for name, picture in pictures.items() if 'class="track"' in picture}
    assert tracked == {
        "Customers and revenue by ML segment", "Customers by rule segment", "Share now and forecast share by segment",
        "Click and conversion rate by segment",
    }  # fmt: skip
    assert tracked < set(pictures)


def test_a_rule_that_blocks_is_explained(outline: Outline) -> None:
    assert "The person has not agreed to be contacted by this channel; no answer counts as no." in said(
        outline, "decisions"
    )


@pytest.mark.parametrize("shop", ["nothing", "hollow"])
def test_every_empty_part_says_why_and_what_fills_it(shop: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    report = write(request.getfixturevalue(shop), tmp_path / "report.html")
    outline = Outline(report.path.read_text(encoding="utf-8"))
    assert report.sections == IDS
    assert report.empty_sections == IDS
    for section in IDS:
        text = said(outline, section)
        assert re.search(r"\w[^.]*\. ?To fill it: headwater \w+", text), text
    assert "As of no moment yet" in said(outline, "")


@pytest.mark.parametrize(
    ("stage", "section"),
    [("segment", "clv"), ("decide", "decisions"), ("plan leads", "activation"), ("build_upstream", "overview")],
)
def test_an_empty_part_repeats_what_its_stage_said(stage: str, section: str, empty: Warehouse) -> None:
    row: dict[str, Any] = {
        "run_id": "r",
        "stage": stage,
        "status": "skipped",
        "started_at": AS_OF,
        "message": "Fewer than 250 <customers>.",
    }
    insert(empty, "headwater.stage_runs", [row])
    assert f"The stage “{stage}” was skipped: Fewer than 250 <customers>." in said(Outline(render(empty)), section)


def test_the_same_tables_give_the_same_bytes(full: Warehouse, page: str) -> None:
    assert render(full, name="Riverside", currency="EUR") == page


def test_writing_reads_only_and_leaves_one_whole_file(full: Warehouse, tmp_path: Path) -> None:
    target = tmp_path / "bi" / "report.html"
    report = write(full, target, name="Riverside", currency="EUR")
    assert report.size_bytes == target.stat().st_size
    assert report.empty_sections == ()
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]
    assert report.size_bytes < 400_000


def test_a_failure_leaves_the_report_of_before(
    full: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.html"
    target.write_text("before")

    def full_disk(self: Path, text: str, encoding: str) -> int:
        self.touch()
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write(full, target)
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def theme(page: str, name: str) -> dict[str, str]:
    """The colours of a theme: variable → #rrggbb."""
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    start = ':root[data-theme="dark"]' if name == "dark" else ":root {"
    block = style[1][style[1].index(start) :]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block[: block.index("}")]))


def contrast(one: str, other: str) -> float:
    """WCAG 2: relative luminance of the lighter over the darker, 1 … 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_text_can_be_read_and_marks_can_be_told_from_the_ground(name: str, page: str) -> None:
    colours = theme(page, name)
    texts = [("ink", ground) for ground in ("bg", "card", "raised", "good-bg", "warn-bg", "bad-bg", "calm-bg")]
    texts += [("soft", ground) for ground in ("bg", "card", "raised")] + [("accent", "card"), ("card", "ink")]
    texts += [("hero-ink", ground) for ground in ("hero-1", "hero-2")] + [
        ("hero-soft", ground) for ground in ("hero-1", "hero-2")
    ]
    texts += [("good", "card"), ("warn", "card"), ("bad", "card")]
    texts += [("ink", f"q{level}") for level in range(5)] + [("on-hot", f"q{level}") for level in range(5, 9)]
    marks = [(f"t{i}", "card") for i in range(8)] + [("mute", "card"), ("second", "card")]
    too_weak = [
        (pair, round(contrast(colours[pair[0]], colours[pair[1]]), 2))
        for pairs, least in ((texts, 4.5), (marks, 3.0))
        for pair in pairs
        if contrast(colours[pair[0]], colours[pair[1]]) < least
    ]
    assert too_weak == []


def test_colours_of_both_themes_are_the_same_names(page: str) -> None:
    assert set(theme(page, "light")) == set(theme(page, "dark"))


def test_a_figure_with_nothing_to_show_leaves_no_gap_beside_another() -> None:
    full, empty = Figure("full"), Figure("empty", empty=Empty("Nobody has moved."))
    wide = replace(full, wide=True)

    def alone(*figures: Figure) -> list[bool]:
        arranged = Section("s", "S", "", figures).arranged
        assert tuple(figure for figure, _ in arranged) == figures
        return [whole for _, whole in arranged]

    assert alone(full, full) == [False, False]
    assert alone(empty, empty) == [False, False]
    assert alone(empty, full) == [True, True]
    assert alone(full, full, empty) == [False, False, True]
    assert alone(full, wide, full, full) == [True, True, False, False]


def test_html_entities_in_the_data_are_not_decoded_twice(empty: Warehouse) -> None:
    insert(
        empty,
        "headwater.stage_runs",
        [{"run_id": "r", "stage": "seed", "status": "ok", "started_at": AS_OF, "message": "&lt;b&gt;"}],
    )
    page = render(empty)
    assert "&amp;lt;b&amp;gt;" in page
    assert html.unescape("&amp;lt;b&amp;gt;") in said(Outline(page), "run")


def test_the_forecast_stands_beside_the_share_of_today(outline: Outline) -> None:
    rows = [[cell.replace(formats.THIN, " ") for cell in row] for row in outline.tables["migration"][2]]
    assert rows[0] == ["Segment", "Share now", "Forecast share"]
    assert ["Champions (VIPs)", "18.0%", "26.0%"] in rows
