"""The template's own live models under random changes of every source table, held to what really changed.

Each example is a shop of its own that lives through some changes and moves of the clock. After each, for every live model:
the keys whose rows really changed are among the touched keys, and the scoped SQL gives the rows of the whole SQL for them.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from template_models import Changes, Model, World, compiled, load, points, save, shop_rows, template_tables

from headwater.live.analysis import Analysis
from headwater.records.entities import ENTITIES

SOURCES = (
    *(f"raw.{name}" for name in ENTITIES),
    "collected.events",
    "collected.identifies",
    "headwater.identities",
    "main.mql_score",
)
PUSHES = (0, 0, 1, 3600, 86_400, 29 * 86_400, 30 * 86_400)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    """The compiled models, made once, whichever worker comes first."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    kept = shared / "template_models.json"
    with FileLock(shared / "template_models.lock"):
        if not kept.exists():
            save(compiled(shared / "template_models"), kept)
    return load(kept)


@pytest.fixture(scope="session")
def analyses(models: list[Model]) -> Iterator[dict[str, Analysis]]:
    rows, now = shop_rows(1)
    there = World(models, template_tables(), rows, now)
    yield there.analyses
    there.close()


def test_every_live_model_but_the_cohorts_is_kept_by_key(analyses: dict[str, Analysis]) -> None:
    assert {name: a.why_full for name, a in analyses.items() if a.mode == "full"} == {
        "mart_marketing__cohort_retention": ("every change of any table concerns every cohort_month",)
    }
    assert len(analyses) >= 24


def test_what_an_event_moves_is_found_without_reading_history(analyses: dict[str, Analysis]) -> None:
    """The way of a lead: from the landed event to the alert, no path reads a whole table of events."""
    way = ("fct_events", "user_mql_events", "user_mql_score", "user_alerts", "int_customer_events")
    for name in way:
        assert analyses[name].read_whole <= {"main.mql_score", "main.dim_customer"}, name
    first = {path.source: path.sql for path in analyses["int_event_persons"].paths}
    assert "{plus:" not in first["collected.events"]
    assert "{plus:" not in {p.source: p.sql for p in analyses["fct_events"].paths}["main.int_event_persons"]


def test_only_tables_of_one_row_and_cohorts_concern_every_key(analyses: dict[str, Analysis]) -> None:
    everything = {(name, path.source) for name, a in analyses.items() for path in a.paths if path.everything}
    assert everything == {
        ("int_customer_360", "main.int_rfm_cut_points"),
        ("product_sales", "main.int_catalogue_facts"),
        ("mart_marketing__cohort_retention", "main.fct_orders"),
        ("int_segment_scores", "headwater.segment_centroids"),
    }


def live_through(models: list[Model], analyses: dict[str, Analysis], seed: int, steps: int) -> list[str]:
    """What went wrong in one shop's life, with the step at which it did."""
    choose = random.Random(seed)
    rows, now = shop_rows(seed)
    there = World(models, template_tables(), {**rows, "main.mql_score": points()}, now, analyses)
    try:
        for step in range(steps):
            changes: dict[str, Any] = there.draw(choose, SOURCES) if step % 4 else {}
            wrong = there.step(changes, there.now + timedelta(seconds=choose.choice(PUSHES)))
            if wrong:
                return [f"seed {seed}, step {step}, changed {sorted(changes)}: {fault}" for fault in wrong]
    finally:
        there.close()
    return []


@settings(max_examples=1, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_no_untouched_key_changes(models: list[Model], analyses: dict[str, Analysis], seed: int) -> None:
    assert live_through(models, analyses, seed, steps=10) == []


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_no_untouched_key_changes_over_many_shops(
    models: list[Model], analyses: dict[str, Analysis], seed: int
) -> None:
    assert live_through(models, analyses, seed, steps=40) == []


def test_a_key_path_of_the_template_that_is_forgotten_is_caught(
    models: list[Model], analyses: dict[str, Analysis]
) -> None:
    """int_event_persons without the path from int_person_ids: what a visitor did before he was known would stay as it was."""
    whole = analyses["int_event_persons"]
    kept = tuple(path for path in whole.paths if path.source != "main.int_person_ids")
    assert len(kept) == len(whole.paths) - 1
    for paths, forgets in ((whole.paths, False), (kept, True)):
        rows, now = shop_rows(2)
        there = World(
            models, template_tables(), rows, now, {**analyses, "int_event_persons": replace(whole, paths=paths)}
        )
        known = [
            ("anonymous", visitor, "c5", "c5", now, "identify", None, None) for visitor in ("v0", "v3", "v4", "v5")
        ]
        faults = there.step({"headwater.identities": Changes(new=known)}, now)
        there.close()
        assert any("int_event_persons: key" in fault for fault in faults) == forgets
