"""Tests, and rows that were left out, joined or mended."""

from typing import Any

from headwater.console import queries
from headwater.console.charts import Part, Stack, stacked
from headwater.console.formats import count, moment
from headwater.console.page import Badge, Empty, Figure, Section
from headwater.console.reader import Reader, legend, table

STATUS_TONES = {"pass": "good", "warn": "warn", "skipped": "mute"}


def quality(reader: Reader) -> Section:
    """Tests, rows left out and why, lines that are no rows."""
    title = "Data quality"
    results, counts = reader.read(queries.tests), reader.read(queries.row_counts)
    bad_rows, bad_lines = reader.read(queries.quarantined), reader.read(queries.file_rejects)
    total = sum(row["tests"] for row in results)
    passed = sum(row["tests"] for row in results if row["status"] == "pass")
    failed = sum(row["tests"] for row in results if row["status"] in ("fail", "error"))
    lead = "What was tested, and which rows were left out, joined or mended, by reason."
    badges = []
    if total:
        lead = f"{count(passed)} of {count(total)} tests pass."
        badges.append(Badge(f"{count(failed)} failed", "bad") if failed else Badge("no test failed", "good"))
    figures = [_tests(reader, results), *_row_counts(reader, counts)]
    if bad_rows:
        behind = table(
            ("Entity", "Column", "What is wrong", "Rows", "First seen", "Value", "What to do"),
            (
                (r["entity"], r["column_name"], r["reason"], count(r["rows"]), f"{r['file'] or '?'}:{r['line'] if r['line'] is not None else '?'}", r["value"], r["advice"])
                for r in bad_rows
            ),
            (3,), cards=True,
        )  # fmt: skip
        figures.append(
            Figure(
                "Quarantined rows", table=behind, open=True, wide=True, note="All of them are in main.quarantined_rows."
            )
        )
    if bad_lines:
        behind = table(
            ("File", "What is wrong", "Lines", "First line", "What to do"),
            ((r["file"], r["reason"], count(r["lines"]), str(r["first_line"]), r["advice"]) for r in bad_lines),
            (2, 3),
            cards=True,
        )
        figures.append(
            Figure(
                "Lines that are no rows",
                table=behind,
                open=True,
                wide=True,
                note="All of them are in headwater.file_rejects.",
            )
        )
    left_out = reader.read(queries.excluded)
    if left_out:
        behind = table(
            ("Entity", "Why", "Rows", "Amount"),
            (
                (
                    r["entity"],
                    r["reason"],
                    count(r["row_count"]),
                    reader.money(r["amount"]) if r["amount"] is not None else "",
                )
                for r in left_out
            ),
            (2, 3),
            cards=True,
        )
        note = "Sound rows that some models cannot use; they are in main.excluded_rows."
        figures.append(Figure("Rows that stay out of some models", table=behind, open=True, wide=True, note=note))
    if not results and not counts and not bad_rows and not bad_lines:
        return Section(
            "quality", title, lead, empty=Empty("Nothing was loaded and no test has run yet.", "headwater run")
        )
    if counts and not bad_rows:
        figures.append(Figure("Quarantined rows", empty=Empty("No row had to be set aside."), wide=True))
    return Section("quality", title, lead, tuple(figures), tuple(badges))


def _tests(reader: Reader, results: list[dict[str, Any]]) -> Figure:
    if not results:
        return Figure("Tests", empty=Empty("No dbt test has run yet.", "headwater test"))
    parts = tuple(
        Part(row["status"], row["tests"], count(row["tests"]), STATUS_TONES.get(row["status"], "bad"))
        for row in results
    )
    bad = reader.read(queries.tests_not_passed)
    behind = table(
        ("Test", "Model", "Status", "Rows that break it", "Message"),
        ((r["test_name"], r["model"], r["status"], count(r["failures"]), r["message"]) for r in bad),
        (3,),
        cards=True,
    )
    total = sum(row["tests"] for row in results)
    return Figure(
        "Tests",
        stacked([Stack("dbt tests", count(total), parts)], name="dbt tests by status"),
        tuple((part.tone, f"{part.text} {part.label}") for part in parts),
        f"Last tested {moment(max(row['tested_at'] for row in results))}."
        + ("" if bad else " Nothing to list: every one passed."),
        behind if bad else None,
        open=bool(bad),
        wide=True,
    )


PLACES = (
    ("kept", "kept", "good"),
    ("collapsed", "joined with others", "t0"),
    ("excluded", "left out by the mapping", "mute"),
    ("quarantined", "quarantined", "bad"),
    ("orphaned", "without their order", "warn"),
    ("unreadable", "unreadable", "t3"),
)
"""Where a row that was read can end up: outcome in row_counts, text, colour. Each row is in exactly one place."""


def _row_counts(reader: Reader, rows: list[dict[str, Any]]) -> tuple[Figure, ...]:
    if not rows:
        return ()
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        mine = found.setdefault(row["entity"], {})
        mine[row["outcome"]] = mine.get(row["outcome"], 0) + row["row_count"]
    shown = [
        Stack(
            entity,
            f"{count(mine.get('kept', 0))} of {count(sum(mine.get(outcome, 0) for outcome, _, _ in PLACES))} kept",
            tuple(
                Part(text, mine.get(outcome, 0), count(mine.get(outcome, 0)), tone) for outcome, text, tone in PLACES
            ),
        )
        for entity, mine in sorted(found.items())
    ]
    picture = stacked(shown, name="Rows by entity and what became of them")
    behind = table(
        ("Entity", *(text.capitalize() for _, text, _ in PLACES)),
        (
            (entity, *(count(mine.get(outcome, 0)) for outcome, _, _ in PLACES))
            for entity, mine in sorted(found.items())
        ),
        range(1, len(PLACES) + 1),
    )
    told = table(
        ("Entity", "Outcome", "Why", "Rows", "Amount"),
        (
            (
                r["entity"],
                r["outcome"],
                r["reason"],
                count(r["row_count"]),
                reader.money(r["amount"]) if r["amount"] is not None else "",
            )
            for r in rows
            if r["outcome"] not in ("read", "kept")
        ),
        (3, 4),
        cards=True,
    )
    figures = [Figure("What became of the rows", picture, legend(shown), table=behind, wide=True)]
    if told.rows:
        note = "Netted, repaired, duplicate, unattributed and ended rows are among the kept ones; the others are not."
        figures.append(Figure("What was done to rows, and why", table=told, open=True, wide=True, note=note))
    return tuple(figures)
