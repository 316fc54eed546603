"""The default table, a shop's own table, and the seed's call."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import headwater.project
from headwater.decisions import Action, Table, next_best_action
from headwater.decisions.table import DEFAULT, FILE, load
from headwater.errors import ConfigError, InvalidValue

TEMPLATE = Path(str(files(headwater.project).joinpath(str(FILE))))


def test_the_seeds_call_gives_the_seeds_answer():
    action = next_best_action(segment="high_value_lapse_risk", goal="90d_clv", discount_cap=5.0, suppress_hours=24)
    assert action == {"channel": "email", "template": "winback_soft", "discount_pct": 5.0}
    assert isinstance(action["discount_pct"], float)


@pytest.mark.parametrize(
    ("segment", "options", "expected"),
    [
        ("high_value_lapse_risk", {}, ("email", "winback_soft", 5.0)),
        ("high_value_lapse_risk", {"discount_cap": 0}, ("email", "winback_soft", 0.0)),
        ("high_value_lapse_risk", {"discount_cap": 3.339}, ("email", "winback_soft", 3.33)),
        ("high_value_lapse_risk", {"goal": "engagement"}, ("email", "winback_soft", 0.0)),
        ("new_users_first_week_intent", {}, ("email", "onboarding_tips", 0.0)),
        ("churn_rescue_nps", {}, ("cs_ticket", "nps_followup_then_offer", 10.0)),
        (
            "churn_rescue_nps",
            {"discount_cap": 100, "goal": "retention"},
            ("cs_ticket", "nps_followup_then_offer", 10.0),
        ),
        ("all", {}, ("none", "holdout", 0.0)),
    ],
)
def test_default_table(segment, options, expected):
    action = next_best_action(segment=segment, **options)
    assert (action["channel"], action["template"], action["discount_pct"]) == expected


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"segment": "vip"},
            "segment: found 'vip'; allowed: churn_rescue_nps, high_value_lapse_risk, new_users_first_week_intent, all",
        ),
        (
            {"segment": None},
            "segment: found None; allowed: churn_rescue_nps, high_value_lapse_risk, new_users_first_week_intent, all",
        ),
        ({"goal": "clv"}, "goal: found 'clv'; allowed: 90d_clv, engagement, conversion, retention"),
        (
            {"discount_cap": None},
            "discount_cap: found None; allowed: a number of percent from 0 to 100 (0 = no discount)",
        ),
        (
            {"discount_cap": "5"},
            "discount_cap: found '5'; allowed: a number of percent from 0 to 100 (0 = no discount)",
        ),
        (
            {"discount_cap": float("inf")},
            "discount_cap: found inf; allowed: a number of percent from 0 to 100 (0 = no discount)",
        ),
        ({"suppress_hours": float("nan")}, "suppress_hours: found nan; allowed: a number of hours from 0 to 87600"),
        ({"suppress_hours": -1}, "suppress_hours: found -1; allowed: a number of hours from 0 to 87600"),
    ],
)
def test_bad_arguments_are_value_errors_that_name_what_is_allowed(options, sentence):
    with pytest.raises(ValueError) as error:
        next_best_action(**({"segment": "churn_rescue_nps"} | options))
    assert isinstance(error.value, InvalidValue)
    assert str(error.value) == sentence


def test_a_plan_for_a_segment_says_what_it_did_not_look_at():
    plan = DEFAULT.plan("high_value_lapse_risk", discount_cap=2)
    results = {step["rule"]: step["result"] for step in plan.trace}
    assert {rule for rule, result in results.items() if result == "not_evaluated"} >= {
        "consent",
        "frequency",
        "holdout",
    }
    assert results["discount"] == {"before": 5.0, "after": 2.0}


def test_the_import_is_quick_because_it_loads_nothing_heavy():
    code = (
        "import sys; from headwater.decisions import next_best_action as f; "
        "print([m for m in ('duckdb', 'numpy', 'pydantic', 'sklearn', 'yaml') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_project_brings_the_same_table_to_change(tmp_path):
    assert load(tmp_path) is DEFAULT
    own = tmp_path / FILE
    own.parent.mkdir()
    own.write_text(TEMPLATE.read_text())
    assert load(tmp_path) == DEFAULT
    assert load(tmp_path).digest() == DEFAULT.digest()
    own.write_text(TEMPLATE.read_text().replace('("high_value_lapse_risk",), 5.0)', '("high_value_lapse_risk",), 7.5)'))
    changed = load(tmp_path)
    assert changed.next_best_action("high_value_lapse_risk")["discount_pct"] == 7.5
    assert changed.digest() != DEFAULT.digest()


def test_the_seeds_import_works_in_the_projects_folder(tmp_path):
    own = tmp_path / FILE
    own.parent.mkdir()
    own.write_text(TEMPLATE.read_text())
    code = (
        "import json; from decisioning.nbs_rules import next_best_action; print(json.dumps(next_best_action("
        "segment='high_value_lapse_risk', goal='90d_clv', discount_cap=5.0, suppress_hours=24)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(found.stdout) == {"channel": "email", "template": "winback_soft", "discount_pct": 5.0}


def test_all_problems_of_a_table_are_told_at_once():
    with pytest.raises(ConfigError) as error:
        Table(
            (Action("none", ("fax",), "t", ("all",), 120), Action("a", (), "", ("churn_rescue_nps",))),
            {"profit": {}, "90d_clv": {"vip": "a", "churn_rescue_nps": "b"}},
        )
    assert str(error.value).splitlines() == [
        "the table of actions has 9 problems:",
        "  action 'none': the id must be a name other than 'none', which always exists",
        "  action 'none': channel 'fax' is not known; allowed: email, sms, push, cs_ticket",
        "  action 'none': segments must name the segments it makes sense for (not 'all')",
        "  action 'none': discount_pct: found 120; allowed: 0 to 100 percent",
        "  action 'a': template is empty; name the message to send",
        "  action 'a': channels is empty; allowed: email, sms, push, cs_ticket",
        "  rows: the goal 'profit' is not known; allowed: 90d_clv, engagement, conversion, retention",
        "  rows['90d_clv']['vip']: the action 'a' does not name this segment",
        "  rows['90d_clv']['churn_rescue_nps']: there is no action 'b'; there are: none, a",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1 +", "cannot be run: SyntaxError"),
        ("import nowhere_at_all", "cannot be run: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("TABLE = {}", "has no TABLE: found dict, expected headwater.decisions.Table"),
    ],
)
def test_a_project_file_that_cannot_be_used_says_so(tmp_path, text, sentence):
    own = tmp_path / FILE
    own.parent.mkdir()
    own.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        load(tmp_path)
