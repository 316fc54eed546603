"""What the models say of themselves is true and complete, and their SQL keeps the rules that live refreshing needs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from conftest import TEMPLATE, Shop
from headwater.config import load

# relation: the columns that other stages and users build on; a rename here breaks them
PUBLIC_COLUMNS = {
    "dim_customer": "customer_id person_id email phone first_name last_name nps_score email_opt_in sms_opt_in signup_at",
    "fct_orders": "order_id customer_id ordered_at order_date status currency channel campaign_id coupon_code line_count units"
    " gross_revenue refund_amount discount_amount revenue is_first_order order_number updated_at",
    "fct_events": "event_id person_id customer_id anonymous_id event_name occurred_at event_date session_id product_id page_url"
    " channel campaign_id",
    "int_customer_orders": "customer_id first_order_at last_order_at order_count purchase_days revenue avg_order_value revenue_30d"
    " revenue_90d revenue_365d orders_30d orders_90d orders_365d repeat_revenue",
    "int_customer_rfm": "customer_id as_of recency_days frequency monetary avg_order_value tenure_days repeat_purchases"
    " last_purchase_age_days repeat_value",
    "fct_customer_segments": "customer_id segment_id segment_name stability gender city state country tenure_months total_orders"
    " total_revenue avg_order_value customer_lifetime_value predicted_clv first_order_at last_order_at"
    " days_since_last_purchase activity_status updated_at",
    "mart_marketing__customer_360": "customer_id person_id email first_name last_name phone company city state country time_zone"
    " nps_score email_opt_in sms_opt_in signup_at tenure_days first_order_at last_order_at days_since_last_order activity_status"
    " order_count lifetime_revenue avg_order_value revenue_30d revenue_90d revenue_365d orders_30d orders_90d last_event_at"
    " days_since_last_event events_30d sessions_30d engagement_level rfm_recency_score rfm_frequency_score rfm_monetary_score"
    " rule_segment ml_segment predicted_clv updated_at",
    "mart_marketing__segment_scores": "customer_id segment is_churn_rescue_nps is_high_value_lapse_risk"
    " is_new_users_first_week_intent updated_at",
    "int_decision_candidates": "customer_id segment ml_segment has_email has_phone email_consent sms_consent time_zone margin_pct"
    " activity_status recency_bucket revenue_band nps_band engagement_level updated_at",
    "mart_marketing__next_best_actions": "decision_id customer_id email phone first_name last_name segment goal action channel"
    " template discount_pct decided_at subject body text_source",
    "mart_marketing__cohort_retention": "cohort_month months_since_first cohort_customers active_customers retention_rate revenue",
    "mart_marketing__segment_performance": "segment campaign_id campaign_name channel sent opened clicked converted unsubscribed"
    " open_rate click_rate conversion_rate revenue",
    "mart_marketing__roas": "month channel campaign_id spend orders revenue roas",
    "mart_marketing__engagement_metrics": "event_date events visitors customers sessions orders revenue",
    "mart_marketing__activation_metrics": "day sync planned sent confirmed failed held",
    "user_alerts": "person_id customer_id user_id mql_score",
    "enriched_customers": "customer_id customer_name email shipping_address_city billing_address_city",
    "products_with_pk": "product_id brand product_name category price",
    "product_sales": "order_line_id order_id ordered_at product_id brand product_name price customer_id customer_name"
    " shipping_address_city shipping_address_state billing_address_state quantity total_amount",
    "thirty_day_customer_snapshot": "customer_id customer_name total_amount number_of_orders updated_at",
    "customer_segments": "customer_id segment_id segment_name",
}
FOLLOWED = (".clock", ".identities", ".segment_centroids")  # the engine knows of every change of these
VIEWS_OVER_LEDGERS_AND_CLOCK = {
    "mart_marketing__experiment_results",
    "decisions",
    "fct_customer_segments",
    "int_customer_rfm",
    "int_customer_segments",
    "int_decision_candidates",
    "mart_marketing__activation_metrics",
    "mart_marketing__customer_360",
    "mart_marketing__next_best_actions",
}
MONEY = re.compile(r"revenue|amount|price|cost$|spend|clv|(?<!high)_value|monetary(?!_score)")
WALL_CLOCK = re.compile(
    r"\b(now\s*\(|today\s*\(|current_(date|time|timestamp)|localtimestamp|get_current_\w+|sysdate|getdate)", re.I
)


@pytest.fixture(scope="module")
def manifest(random_shop: Shop) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((random_shop.folder / "target" / "manifest.json").read_text())
    return found


@pytest.fixture(scope="module")
def models(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The project's own models; staging models are written from the mapping and tested there."""
    return {
        node["name"]: node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and not node["name"].startswith("stg_")
    }


def seeds_of(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] == "seed"}


def test_every_model_and_seed_names_its_grain(manifest: dict[str, Any], models: dict[str, dict[str, Any]]) -> None:
    without = [
        name
        for name, node in {**models, **seeds_of(manifest)}.items()
        if not re.match(r"One row(, | per )\S", node["description"])
    ]
    assert without == []


def test_every_source_exposure_and_analysis_is_described(manifest: dict[str, Any]) -> None:
    analyses = [node for node in manifest["nodes"].values() if node["resource_type"] == "analysis"]
    described = [*manifest["sources"].values(), *manifest["exposures"].values(), *analyses]
    assert len(analyses) >= 5
    assert [node["name"] for node in described if not node["description"]] == []


def test_every_column_is_described_and_has_the_type_that_it_says(
    random_shop: Shop, manifest: dict[str, Any], models: dict[str, dict[str, Any]]
) -> None:
    differing = {}
    for name, node in {**models, **seeds_of(manifest)}.items():
        said = {
            column["name"]: column["data_type"].lower() for column in node["columns"].values() if column["description"]
        }
        found = {row["column_name"]: row["column_type"].lower() for row in random_shop.rows(f"describe main.{name}")}
        if list(said.items()) != list(found.items()):
            differing[name] = sorted(set(said.items()) ^ set(found.items())) or "the order of the columns"
    assert differing == {}


def test_the_public_columns_are_there(models: dict[str, dict[str, Any]], manifest: dict[str, Any]) -> None:
    known = {**models, **seeds_of(manifest)}
    missing = {name: set(columns.split()) - set(known[name]["columns"]) for name, columns in PUBLIC_COLUMNS.items()}
    assert {name: columns for name, columns in missing.items() if columns} == {}


def test_money_is_decimal(models: dict[str, dict[str, Any]]) -> None:
    wrong = [
        f"{name}.{column['name']}: {column['data_type']}"
        for name, node in models.items()
        for column in node["columns"].values()
        if MONEY.search(column["name"]) and column["data_type"] in ("double", "float", "real")
    ]
    assert wrong == []


def test_every_model_has_a_unique_key_under_test(manifest: dict[str, Any], models: dict[str, dict[str, Any]]) -> None:
    tested = {
        node["attached_node"]
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test"
        and (node.get("test_metadata") or {}).get("name") in ("unique", "unique_together")
    }
    without = {name for name, node in models.items() if node["unique_id"] not in tested}
    assert without == {"int_priced_lines"}, "a view under product_sales, where the key is tested"


def test_the_key_of_a_live_model_is_one_of_its_columns(models: dict[str, dict[str, Any]]) -> None:
    for name, node in models.items():
        live = node["config"]["meta"].get("headwater", {})
        if "key" in live:
            assert live["key"] in node["columns"], name
        elif node["config"]["materialized"] == "table":
            assert live.get("mode") == "full", f"{name} has neither a key nor says that it is rebuilt as a whole"


def test_what_reads_ledgers_or_the_clock_is_a_view(models: dict[str, dict[str, Any]]) -> None:
    fresh = {
        name
        for name, node in models.items()
        if any(parent.startswith("source.") and not parent.endswith(FOLLOWED) for parent in node["depends_on"]["nodes"])
        or re.search(r"\b(clock_now|days_since|activity_status|recency_bucket)\(", node["raw_code"])
    }
    assert fresh == VIEWS_OVER_LEDGERS_AND_CLOCK
    assert {models[name]["config"]["materialized"] for name in fresh} == {"view"}


def faults_of(raw: str, compiled: str) -> list[str]:
    """What a model's SQL must not hold; `raw` as it is written, `compiled` as the warehouse gets it."""
    faults = []
    if re.search(r"select\s+(\w+\.)?\*", raw, re.I):
        faults.append("select *")
    if WALL_CLOCK.search(compiled):
        faults.append("the machine's clock")
    if re.search(r"(?<!\w)as_of\(", raw):
        faults.append("as_of() outside within_last")
    if re.search(r"\blimit\s+\d|\bqualify\b|\basof\s+join\b", compiled, re.I):
        faults.append("not refreshable by key, or one warehouse's dialect")
    return faults


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("select t.* from t", "select *"),
        ("select a from t where at > now() - interval '1 day'", "the machine's clock"),
        ("select current_date as day", "the machine's clock"),
        ("select a from t where at < {{ as_of() }}", "as_of() outside within_last"),
        ("select a from t order by a limit 10", "not refreshable by key, or one warehouse's dialect"),
    ],
)
def test_the_rules_for_sql_find_what_breaks_them(sql: str, fault: str) -> None:
    assert faults_of(sql, sql) == [fault]


def test_the_sql_of_every_model_keeps_the_rules(random_shop: Shop, models: dict[str, dict[str, Any]]) -> None:
    folder = random_shop.folder / "target" / "compiled" / "shop"
    faults = {}
    for name, node in models.items():
        compiled = folder / node["original_file_path"]
        assert compiled.is_file(), f"{name} was not compiled by the build"
        faults[name] = faults_of(node["raw_code"], compiled.read_text())
    assert {name: found for name, found in faults.items() if found} == {}


def test_each_sync_has_its_exposure(manifest: dict[str, Any]) -> None:
    config = load(TEMPLATE)
    exposed = {
        exposure["config"]["meta"]["headwater"]["sync"]: exposure["depends_on"]["nodes"]
        for exposure in manifest["exposures"].values()
        if "headwater" in exposure["config"]["meta"]
    }
    assert exposed == {sync.name: [f"model.shop.{sync.model}"] for sync in config.syncs}


def test_qualified_leads_carry_the_tag_hightouch(models: dict[str, dict[str, Any]]) -> None:
    assert [name for name, node in models.items() if "hightouch" in node["tags"]] == ["user_alerts"]


def test_every_analysis_runs_and_the_documentation_needs_no_network(
    random_shop: Shop, manifest: dict[str, Any], tmp_path: Path
) -> None:
    copy = random_shop.copy(tmp_path / "shop")
    assert copy.dbt("docs", "generate", "--static").ok
    page = (copy.folder / "target" / "static_index.html").read_text()
    assert "One row per customer in dim_customer" in page
    assert re.findall(r"""<(?:script|link)[^>]+(?:src|href)=["']https?:""", page) == []
    folder = copy.folder / "target" / "compiled" / "shop" / "analyses"
    names = {node["name"] for node in manifest["nodes"].values() if node["resource_type"] == "analysis"}
    assert {path.stem for path in folder.glob("*.sql")} == names
    for path in folder.glob("*.sql"):
        copy.rows(path.read_text())
    assert copy.rows((folder / "clv_by_segment.sql").read_text())
