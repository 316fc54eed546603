"""The template compiled for each target without a connection: it parses in the target's SQL, and what a target cannot keep fails."""

import json
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp
from target_shop import ROOT, compiled, dbt, make_project

ADAPTERS = ROOT / ".venv-targets" / "bin" / "python"
DIALECTS = {
    "postgres": "postgres",
    "redshift": "redshift",
    "materialize": "materialize",
    "snowflake": "snowflake",
    "confluent": "hive",
}
"""sqlglot has no dialect of Flink; Hive's has its quoting and its date functions."""

COMMON = (
    "cast coalesce count greatest least lag lead max min nullif replace row_number sum trim "
    "and as by case exists from group in not on or over then when where"
)
CALLED = {
    "postgres": "date_trunc decimal extract percentile_disc to_char",
    "redshift": "date_trunc datediff decimal percentile_disc to_char",
    "materialize": "array_agg ceil date_trunc decimal extract mz_now now to_char",
    "snowflake": "convert_timezone current_timestamp date_trunc datediff decimal greatest_ignore_nulls percentile_disc to_char",
    "confluent": "decimal extract floor",
}
"""The functions that the compiled models may call: none that only DuckDB has."""

LIVE = {
    "postgres": "materialized_view",
    "redshift": "materialized_view",
    "materialize": "materialized_view",
    "snowflake": "dynamic_table",
    "confluent": "streaming_table",
}

WINDOW = (
    "cannot be kept right on confluent: it needs the last 30 days of {ts}; Flink computes a row again when a row arrives, and none "
    "arrives when a window shrinks, so the totals of quiet customers would stay too high for ever. Leave it to the engine of "
    "Headwater, to Materialize or to Snowflake (leads: `mql: {{window: none}}` in headwater.yml counts events for ever)"
)
MOMENT = (
    "cannot be kept right on confluent: it needs the present moment; an age grows while nothing arrives, and Flink computes a row "
    "again only when one does. Compute the age where the table is read"
)
ORDER = (
    "cannot be kept right on confluent: it needs {name}, a {function}() over rows in their order; Flink takes that only of rows that "
    "arrive in this order and never change, and orders are corrected and events come late. Leave it to the engine of Headwater, or "
    "to another target"
)
PERCENTILE = (
    "cannot be kept right on confluent: it needs the customer below whom 0.2 of all lie by last_order_at; Flink has no percentile "
    "that answers with a value that occurs. Write the cut points from a warehouse that has one"
)
REFUSED_BY_CONFLUENT = {
    "fct_customer_segments": MOMENT,
    "fct_events": ORDER.format(name="previous_at", function="lag"),
    "int_customer_events": WINDOW.format(ts="occurred_at"),
    "int_customer_orders": WINDOW.format(ts="ordered_at"),
    "int_customer_rfm": MOMENT,
    "int_decision_candidates": MOMENT,
    "int_order_numbers": ORDER.format(name="order_number", function="row_number"),
    "int_product_prices": ORDER.format(name="version_number", function="row_number"),
    "int_rfm_cut_points": PERCENTILE,
    "mart_marketing__customer_360": MOMENT,
    "mart_marketing__segment_scores": WINDOW.format(ts="last_seen_at"),
    "thirty_day_customer_snapshot": WINDOW.format(ts="ordered_at"),
    "user_mql_events": WINDOW.format(ts="events.occurred_at"),
}


@dataclass(frozen=True)
class Answer:
    """What a target made of one model: its SQL, or what dbt said instead."""

    materialized: str
    sql: str = ""
    said: str = ""


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template, with the model that docs/other-engines.md shows as `my_model`."""
    folder = make_project(tmp_path_factory.mktemp("compiled") / "shop")
    shown = re.findall(r"```sql dbt\n(.*?)```", (ROOT / "docs" / "other-engines.md").read_text(), re.DOTALL)
    assert len(shown) == 1
    (folder / "models" / "my_model.sql").write_text(shown[0])
    return folder


def adapters() -> Path:
    assert ADAPTERS.exists(), (
        f"the adapters are not here ({ADAPTERS.relative_to(ROOT)}); `make test-all` makes their environment"
    )
    return ADAPTERS


@cache
def answers(project: Path, target: str) -> dict[str, Answer]:
    """Every model of the project, compiled for a target that nobody can reach."""
    if target == "confluent":
        done = subprocess.run(
            [adapters(), "-W", "ignore", Path(__file__).with_name("compile_each.py"), target],
            cwd=project,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return {name: Answer(**answer) for name, answer in json.loads(done.stdout).items()}
    done = dbt(
        project,
        target,
        *("compile", "--no-introspect", "--no-populate-cache", "--select", "resource_type:model"),
        python=None if target == "postgres" else adapters(),
        POSTGRES_HOST="nowhere.invalid",
    )
    assert done.returncode == 0, done.stdout
    nodes = json.loads((project / f"target_{target}" / "manifest.json").read_text())["nodes"].values()
    kinds = {node["name"]: node["config"]["materialized"] for node in nodes if node["resource_type"] == "model"}
    texts = compiled(project, target)
    assert set(texts) == set(kinds)
    return {name: Answer(kinds[name], text) for name, text in texts.items()}


def parsed(sql: str, target: str) -> exp.Expression:
    """The tree; an error where sqlglot does not understand it, a statement that it only passes on included."""
    tree = sqlglot.parse_one(sql, dialect=DIALECTS[target])
    assert isinstance(tree, exp.Query), sql
    assert tree.find(exp.Command) is None, sql
    return tree


def called(sql: str) -> set[str]:
    """Names that stand before a parenthesis."""
    text = re.sub(r"'(?:[^']|'')*'", "''", sql)
    return {name.lower() for name in re.findall(r"(?<![.\w\"`])([a-z_]+)\s*\(", text, re.IGNORECASE)}


targets = pytest.mark.parametrize(
    "target", ["postgres", *(pytest.param(name, marks=pytest.mark.targets) for name in DIALECTS if name != "postgres")]
)


@targets
def test_every_model_parses_and_calls_nothing_of_duckdb(project: Path, target: str) -> None:
    found = answers(project, target)
    assert len(found) >= 40
    refused = {name for name, answer in found.items() if answer.said}
    assert refused == ({*REFUSED_BY_CONFLUENT, "my_model"} if target == "confluent" else set())
    allowed = set(COMMON.split()) | set(CALLED[target].split())
    foreign = {}
    for name, answer in found.items():
        if answer.sql:
            parsed(answer.sql, target)
            foreign[name] = called(answer.sql) - allowed
    assert {name: names for name, names in foreign.items() if names} == {}


@targets
def test_live_models_are_what_the_target_keeps_itself(project: Path, target: str) -> None:
    found = answers(project, target)
    assert {found[name].materialized for name in ("dim_customer", "fct_orders", "user_alerts")} == {LIVE[target]}
    assert {answer.materialized for answer in found.values()} == {LIVE[target], "view"}
    assert {answer.materialized for name, answer in found.items() if name.startswith("stg_")} == {"view"}


def test_what_only_duckdb_calls_is_seen() -> None:
    assert called("select strftime(ts, '%f(') from t where date_diff('day', a, b) > 1") == {"strftime", "date_diff"}


def test_postgres_reads_the_clock_at_each_refresh(project: Path) -> None:
    sql = answers(project, "postgres")["user_mql_events"].sql
    clock = '(select clock.as_of from "postgres"."headwater"."clock" as clock)'
    assert f"where (events.occurred_at > {clock} - interval '30 days' and events.occurred_at <= {clock})" in sql


@targets
def test_the_model_of_the_page_is_kept_or_refused(project: Path, target: str) -> None:
    answer = answers(project, target)["my_model"]
    assert answer.materialized == LIVE[target]
    if target == "confluent":
        assert f"my_model {WINDOW.format(ts='ordered_at')}" in " ".join(answer.said.split())
    else:
        assert "30 days" in answer.sql


@pytest.mark.targets
def test_snowflake_takes_the_moment_of_the_refresh(project: Path) -> None:
    sql = answers(project, "snowflake")["user_mql_events"].sql
    now = "cast(convert_timezone('UTC', current_timestamp()) as timestamp_ntz)"
    assert f"where (events.occurred_at > {now} - interval '30 days' and events.occurred_at <= {now})" in sql
    nodes = json.loads((project / "target_snowflake" / "manifest.json").read_text())["nodes"]
    config = nodes["model.shop.user_mql_events"]["config"]
    assert (config["target_lag"], config["snowflake_warehouse"]) == ("1 minute", "transforming")


def misplaced(tree: exp.Expression) -> list[str]:
    """Uses of mz_now() that are no filter: it may only be compared, in a WHERE, alone or joined with AND."""
    found = []
    for call in tree.find_all(exp.Anonymous):
        if call.name.lower() != "mz_now":
            continue
        node = call.parent
        direct = isinstance(node, exp.GT | exp.GTE | exp.LT | exp.LTE) and node.this is call
        while isinstance(node, exp.GT | exp.GTE | exp.LT | exp.LTE | exp.And | exp.Paren):
            node = node.parent
        if not (direct and isinstance(node, exp.Where)):
            found.append(node.sql("materialize") if node else "")
    return found


@pytest.mark.parametrize(
    ("sql", "count"),
    [
        ("select a from t where (mz_now() < ts + interval '1 day' and mz_now() >= ts) and b", 0),
        ("select count(case when exists (select 1 where (mz_now() >= ts)) then 1 end) from t", 0),
        ("select count(case when mz_now() >= ts then 1 end) from t", 1),
        ("select a from t where b or mz_now() >= ts", 1),
        ("select a from t where ts > mz_now() - interval '1 day'", 1),
        ("select mz_now() from t", 1),
    ],
)
def test_a_misplaced_filter_of_materialize_is_seen(sql: str, count: int) -> None:
    assert len(misplaced(parsed(sql, "materialize"))) == count


@pytest.mark.targets
def test_materialize_gets_its_windows_as_temporal_filters(project: Path) -> None:
    found = answers(project, "materialize")
    assert (
        "where (mz_now() < events.occurred_at + interval '30 days' and mz_now() >= events.occurred_at)"
        in found["user_mql_events"].sql
    )
    windowed = [name for name, answer in found.items() if "mz_now" in answer.sql]
    assert {"int_customer_orders", "int_customer_events", "mart_marketing__segment_scores"} <= set(windowed)
    assert [fault for name in windowed for fault in misplaced(parsed(found[name].sql, "materialize"))] == []


@pytest.mark.targets
@pytest.mark.parametrize(("model", "sentence"), REFUSED_BY_CONFLUENT.items())
def test_what_flink_would_not_keep_right_fails_with_a_sentence(project: Path, model: str, sentence: str) -> None:
    said = " ".join(answers(project, "confluent")[model].said.split())
    assert f"{model} {sentence}, and build here with `--exclude {model}+`." in said


@pytest.mark.targets
def test_a_lead_that_counts_events_for_ever_compiles_for_flink(project: Path) -> None:
    done = dbt(
        project,
        "confluent",
        *("compile", "--no-introspect", "--no-populate-cache", "--select", "user_mql_events"),
        *("--vars", "{headwater_settings: {mql_window_days: null}}"),
        python=adapters(),
    )
    assert done.returncode == 0, done.stdout
    assert "where (events.occurred_at is not null)" in done.stdout


@pytest.mark.targets
def test_text_is_a_string_in_the_tables_of_flink(project: Path) -> None:
    """Its varchar would hold one character."""
    columns = "{'a': {'name': 'a', 'data_type': 'varchar'}, 'b': {'name': 'b', 'data_type': 'decimal(18,4)'}}"
    done = dbt(
        project,
        "confluent",
        *("compile", "--no-introspect", "--no-populate-cache"),
        *("--inline", f"{{{{ get_empty_schema_sql({columns}) }}}} -- {{{{ column_type('timestamp') }}}}"),
        python=adapters(),
    )
    assert done.returncode == 0, done.stdout
    assert "cast(null as string) as a, cast(null as decimal(18,4)) as b" in " ".join(done.stdout.split())
    assert done.stdout.rstrip().endswith("-- timestamp(6)")


@pytest.mark.long
def test_a_target_that_nobody_wrote_for_is_refused(tmp_path: Path) -> None:
    """Shown with Postgres, after its line in the macro was taken away."""
    project = make_project(tmp_path / "shop")
    macro = project / "macros" / "live_kind.sql"
    macro.write_text(macro.read_text().replace("    'postgres': 'materialized_view',\n", ""))
    done = dbt(project, "postgres", "parse")
    assert done.returncode != 0
    assert (
        "the models are not written for postgres; they are for duckdb, redshift, materialize, snowflake, confluent."
        in (" ".join(done.stdout.split()))
    )
