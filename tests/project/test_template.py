"""The files that a user's folder starts with."""

import os
import subprocess

import pytest

from conftest import TEMPLATE, Shop
from headwater import scaffold
from headwater.config import Config, load


def test_the_settings_file_holds_the_defaults_and_three_syncs() -> None:
    config = load(TEMPLATE)
    assert (config.segments, config.mql, config.decisions) == (Config().segments, Config().mql, Config().decisions)
    assert [sync.name for sync in config.syncs] == ["email_actions", "cs_ticket_actions", "leads"]
    assert [sync.name for sync in config.syncs if sync.decisions] == ["email_actions", "cs_ticket_actions"]


def test_the_settings_that_sql_sees_are_the_defaults() -> None:
    assert (TEMPLATE / "macros" / "headwater_settings.sql").read_text() == scaffold.sql_settings(Config())


def test_the_fields_of_the_syncs_are_columns_of_their_models(random_shop: Shop) -> None:
    for sync in load(TEMPLATE).syncs:
        columns = {row["column_name"] for row in random_shop.rows(f"describe main.{sync.model}")}
        plain = {field for field in sync.fields.values() if "{" not in field}
        assert {sync.key, *plain} <= columns, sync.name
        random_shop.rows(f"select {sync.key} from {sync.model} where {sync.where or 'true'}")


def test_scores_of_leads_are_the_public_ones() -> None:
    assert (TEMPLATE / "seeds" / "mql_score.csv").read_text() == (
        "event_name,mql_score\ndemo_requested,30\nwhitepaper_downloaded,20\nnewsletter_subscribed,10\n"
        "meetup_attended,5\ncommunity_joined,5\n"
    )


def test_the_seed_of_segments_is_empty_with_its_header() -> None:
    assert (TEMPLATE / "seeds" / "customer_segments.csv").read_text() == "customer_id,segment_id,segment_name\n"


@pytest.mark.parametrize("verb", ["seed", "build", "test", "docs", "serve-docs", "activate"])
def test_each_verb_of_the_makefile_is_a_command(verb: str) -> None:
    made = subprocess.run(
        ["make", "-n", "-s", "-f", str(TEMPLATE / "Makefile"), verb], capture_output=True, text=True, check=True
    )
    assert made.stdout.strip() == f"headwater {verb}"


def test_activate_passes_its_settings_on() -> None:
    """From the environment or from the command line; the command line is stronger."""
    names = ("SEGMENT", "DRY_RUN", "GOAL", "DISCOUNT_CAP", "SUPPRESS_HOURS")
    environment = {key: value for key, value in os.environ.items() if key not in names}
    environment |= {"GOAL": "retention", "DISCOUNT_CAP": "5", "SUPPRESS_HOURS": "24", "DRY_RUN": "1"}
    show = "sh -c 'echo $$SEGMENT $$DRY_RUN $$GOAL $$DISCOUNT_CAP $$SUPPRESS_HOURS' "
    made = subprocess.run(
        [
            "make",
            "-s",
            "-f",
            str(TEMPLATE / "Makefile"),
            f"HEADWATER={show}",
            "activate",
            "SEGMENT=churn_rescue_nps",
            "DRY_RUN=0",
        ],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert made.stdout.split() == ["churn_rescue_nps", "0", "retention", "5", "24"]


def test_secrets_and_what_runs_make_stay_out_of_git() -> None:
    ignored = (TEMPLATE / "gitignore").read_text().splitlines()
    assert {"/warehouse/", "/outbox/", "/bi/", "/target/", "/.env"} <= set(ignored)
    for line in (TEMPLATE / "env.example").read_text().splitlines():
        assert not line or line.startswith("#"), "an example holds names, no values"
