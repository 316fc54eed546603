"""A project with a language model, as its commands work: previews, approval, choices, risks; and without one."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from decision_cases import Candidates

from headwater import scaffold
from headwater.clock import FixedClock
from headwater.decisions.customer import Customer
from headwater.errors import InvalidValue, Refused
from headwater.stack import Stack
from headwater.testing import llm

NOON = FixedClock(datetime(2026, 3, 2, 12, tzinfo=UTC))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[tuple[llm.Endpoint, str]]:
    made = llm.Endpoint()
    with llm.serve(made) as address:
        yield made, address


@pytest.fixture
def project(tmp_path: Path, endpoint, monkeypatch) -> Iterator[Stack]:
    """A project of 40 customers in two buckets of one segment, nobody held out, that asks the stand-in."""
    made, address = endpoint
    made.requests.clear()
    monkeypatch.setenv("HEADWATER_LLM_KEY", "none")
    monkeypatch.setenv("USER", "ann")
    folder = tmp_path / "shop"
    scaffold.init(folder, None)
    settings = folder / "headwater.yml"
    text = settings.read_text(encoding="utf-8").replace("holdout_share: 0.10", "holdout_share: 0")
    assert "  policy: default_table" in text
    asked = f"  llm: {{enabled: true, model: stand-in, base_url: {address}/v1, features: [activity_status]}}\n  policy: llm #"
    settings.write_text(text.replace("  policy: default_table", asked), encoding="utf-8")
    with Stack(folder, clock=NOON) as stack:
        people = [
            Customer(
                f"customer-{n}",
                "high_value_lapse_risk",
                True,
                True,
                True,
                True,
                "Europe/Paris",
                50.0,
                {"activity_status": "Dormant" if n % 4 else "Active"},
            )
            for n in range(40)
        ]
        Candidates(stack.warehouse).fill(people)
        yield stack


def texts(stack: Stack) -> dict[str, int]:
    rows = stack.warehouse.execute(
        "select coalesce(m.reason, m.source), count(*) from headwater.decision_messages m"
        " join headwater.decision_log l using (decision_id) where l.run_id = ? group by all",
        [stack.run_id],
    ).fetchall()
    return dict(rows)


def test_a_preview_of_nothing_says_why(project):
    assert project.preview_messages("new_users_first_week_intent", 2) == []
    assert project.why_no_preview("new_users_first_week_intent") == "nobody is in this segment now"
    assert project.why_no_preview("new_users_first_week_intent", offers=True) == (
        "no action with an offer of this segment has a template with a text"
    )


def test_from_preview_to_what_is_sent(project, endpoint):
    previews = project.preview_messages("high_value_lapse_risk", 2, offers=True)
    assert [(one.customers, one.state, one.problems) for one in previews] == [
        (30, "proposed", ()),
        (10, "proposed", ()),
    ]
    assert previews[0].shown_template.body.startswith("Hello Ada,")
    assert "5% off" in previews[0].shown_text.body
    assert "Ada" not in "".join(endpoint[0].requests)
    assert [one.text_id for one in project.preview_messages("high_value_lapse_risk", 2, offers=True)] == [
        one.text_id for one in previews
    ]
    assert len(endpoint[0].requests) == 2, "what was written before is not asked for again"
    result = project.review_messages("approved", [previews[0].text_id[:8]], None)
    assert result.message == (
        "1 text is approved by ann; no message that it concerns waits to be sent, so it counts for the next that are decided"
    )
    done = project.decide()
    assert done.row_count == 40
    found = texts(project)
    assert sum(found.values()) == project.warehouse.value(
        "select count(*) from headwater.decision_log where action <> 'none'"
    )
    assert found["llm"] > 0
    assert found["a text waits for approval"] > 0
    assert any("by the language model, the others as templates" in one for one in done.warnings)
    approved = project.review_messages("approved", [previews[1].text_id[:8]], None).message
    assert approved.startswith(
        "1 text is approved by ann; the next `headwater decide` or `headwater activate` looks at the text of "
    )
    assert "2 texts" not in approved
    waiting = found["a text waits for approval"]
    assert approved.endswith(f" of {waiting} messages not sent yet") or waiting == 1
    project.decide()
    assert texts(project)["llm"] == found["llm"] + waiting, (
        "nothing was decided anew, and the text goes out all the same"
    )
    assert project.language_model().statuses == {"answered": 4}, "two texts, two situations"


def test_a_dry_run_asks_nothing_and_leaves_nothing(project, endpoint):
    with project.locked("a test"), project.warehouse.rehearsal():
        done = project.decide()
        assert "a dry run asks no language model; the table answers where nothing is on record" in done.warnings
    assert endpoint[0].requests == []
    assert project.warehouse.value("select count(*) from headwater.decision_messages") == 0


def test_without_the_key_the_run_goes_on_and_says_so(project, endpoint, monkeypatch):
    monkeypatch.delenv("HEADWATER_LLM_KEY")
    (preview,) = project.preview_messages("high_value_lapse_risk", 1)
    assert (preview.text, preview.reason) == (None, "the environment variable HEADWATER_LLM_KEY holds no key")
    done = project.decide()
    assert done.row_count == 40
    assert any(
        "the table answers in the others (the environment variable HEADWATER_LLM_KEY holds no key: 2)" in one
        for one in done.warnings
    )
    assert endpoint[0].requests == []


def test_risks_are_asked_for_and_refused_until_calibrated(project):
    asked = project.ask_risks()
    assert (asked.row_count, asked.message) == (2, "2 of 2 buckets have an estimate")
    with pytest.raises(Refused, match="were never held against outcomes"):
        project.risks()
    with pytest.raises(Refused, match="0 customers in 0 buckets have a closed outcome"):
        project.calibrate_risks()


def test_what_cannot_be_previewed_or_approved_is_said(project):
    with pytest.raises(
        InvalidValue, match="found 'all'; texts are written for one segment at a time: churn_rescue_nps"
    ):
        project.preview_messages("all", 1)
    with pytest.raises(InvalidValue, match="segment: found 'nobody'"):
        project.preview_messages("nobody", 1)
    with pytest.raises(InvalidValue, match="not both and not neither"):
        project.review_messages("approved", [], None)
