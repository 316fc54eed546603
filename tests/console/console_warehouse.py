"""A warehouse with every relation that the console reads, small, seeded, and with hostile names in it.

`fill` writes 400 customers over two years; the shapes are those of the dbt project and the ledgers. One segment, one
customer and one file are called `<script>…`, as somebody will.
"""

import json
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from headwater.clock import naive_utc
from headwater.warehouse.connection import Warehouse

AS_OF = naive_utc(datetime(2026, 1, 31, 18, 30, tzinfo=UTC))
HOSTILE = "<script>document.title='taken'</script>"
NAMES = ["Big Spenders", "At-Risk (Lapsing)", "Occasional Shoppers", "Champions (VIPs)", "Loyal Customers"]
WARNINGS = {
    "seed": ["orders.csv: 14 rows quarantined, ordered_at is not a time", "2 orders have no customer (199.75)"],
    "segment": ["the model is doubtful: the smallest Jaccard is 0.64, below 0.75"],
}
RULES = ["churn_rescue_nps", "high_value_lapse_risk", "new_users_first_week_intent", None]


def insert(warehouse: Warehouse, relation: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows (all with the same keys) to a table that exists. They go in as one text: DuckDB takes its time over each
    Python value that it is handed."""
    if rows:
        names = ", ".join(rows[0])
        shape = json.dumps([dict.fromkeys(rows[0], "VARCHAR")])
        warehouse.execute(
            f"insert into {relation} ({names}) select unnest(from_json(?, ?), recursive := true)",
            [json.dumps([dict(row) for row in rows], default=str), shape],
        )


def table(warehouse: Warehouse, relation: str, columns: str, rows: Sequence[Sequence[Any]] = ()) -> None:
    """Create a table and fill it; `columns` is `name type, …`."""
    warehouse.execute(f"create or replace table {relation} ({columns})")
    names = [part.split()[0] for part in columns.replace("decimal(18,4)", "decimal").split(", ")]
    insert(warehouse, relation, [dict(zip(names, row, strict=True)) for row in rows])


def money(value: float) -> Decimal:
    return Decimal(str(round(value, 2)))


def fill(warehouse: Warehouse) -> None:
    """All relations. The same on every machine."""
    dice = random.Random(20260131)
    customers = [_customer(dice, i) for i in range(400)]
    orders = [order for customer in customers for order in customer["orders"]]
    orders += [
        ("x1", None, AS_OF - timedelta(days=270), money(120.5)),
        ("x2", None, AS_OF - timedelta(days=230), money(-79.25)),
    ]
    insert(warehouse, "headwater.clock", [{"as_of": AS_OF, "position": None, "set_at": AS_OF + timedelta(minutes=40)}])
    _facts(warehouse, dice, customers, orders)
    _customer_marts(warehouse, dice, customers)
    _marketing(warehouse, dice, customers)
    _segments(warehouse, dice, customers)
    _decisions(warehouse, dice, customers)
    _experiment(warehouse)
    _activation(warehouse, dice)
    _quality(warehouse)
    _stages(warehouse)


def _customer(dice: random.Random, i: int) -> dict[str, Any]:
    first = AS_OF - timedelta(days=dice.triangular(0, 720, 430), hours=dice.randrange(24))
    rate, worth, dies = dice.gammavariate(0.7, 2.2), dice.lognormvariate(4.1, 0.7), dice.random()
    orders, at, number = [], first, 0
    while at <= AS_OF and number < 40:
        orders.append((f"o{i}-{number}", f"c{i:04}", at, money(worth * dice.uniform(0.6, 1.5))))
        number += 1
        at += timedelta(days=4 + dice.expovariate(rate / 70 + 0.0006))
        if dice.random() < 0.03 + 0.2 * dies:
            break
    spent = sum((order[3] for order in orders), Decimal(0))
    quiet = (AS_OF - orders[-1][2]).days
    return {
        "id": f"c{i:04}", "orders": orders, "spent": spent, "quiet": quiet, "first": first,
        "name": HOSTILE if i == 7 else f"Person {i}", "nps": dice.choice([None, 3, 6, 7, 8, 9, 10]),
    }  # fmt: skip


def _facts(warehouse: Warehouse, dice: random.Random, customers: list[dict[str, Any]], orders: list[Any]) -> None:
    table(
        warehouse,
        "main.dim_customer",
        "customer_id varchar, person_id varchar, email varchar, first_name varchar, signup_at timestamp",
        [(c["id"], f"p-{c['id']}", f"{c['id']}@example.com", c["name"], c["first"]) for c in customers],
    )
    table(
        warehouse,
        "main.fct_orders",
        "order_id varchar, customer_id varchar, ordered_at timestamp, order_date date, status varchar, currency varchar, channel varchar, revenue decimal(18,4), is_purchase boolean",
        [
            (o, c, at, at.date(), "paid", "USD", dice.choice(["email", "search", "social"]), r, r >= 0)
            for o, c, at, r in orders
        ],
    )
    table(
        warehouse,
        "main.fct_events",
        "event_id varchar, person_id varchar, customer_id varchar, event_name varchar, occurred_at timestamp",
        [(f"e{i}", "p-c0001", "c0001", "page_viewed", AS_OF - timedelta(hours=i * 7)) for i in range(60)],
    )


def _customer_marts(warehouse: Warehouse, dice: random.Random, customers: list[dict[str, Any]]) -> None:
    def score(value: float, cuts: Sequence[float]) -> int:
        return 1 + sum(value > cut for cut in cuts)

    table(
        warehouse,
        "main.mart_marketing__customer_360",
        "customer_id varchar, email varchar, first_name varchar, order_count bigint, lifetime_revenue decimal(18,4), rfm_recency_score bigint, rfm_frequency_score bigint, rfm_monetary_score bigint, activity_status varchar",
        [
            (
                c["id"], f"{c['id']}@example.com", c["name"], len(c["orders"]), c["spent"],
                6 - score(c["quiet"], (30, 90, 180, 365)), score(len(c["orders"]), (1, 2, 3, 6)),
                score(float(c["spent"]), (40, 90, 180, 400)), "Active",
            )
            for c in customers
        ],
    )  # fmt: skip
    table(
        warehouse,
        "main.mart_marketing__segment_scores",
        "customer_id varchar, segment varchar, updated_at timestamp",
        [(c["id"], dice.choices(RULES, (2, 1.4, 1, 6))[0], AS_OF) for c in customers],
    )
    first_months: dict[date, list[dict[str, Any]]] = {}
    for c in customers:
        first_months.setdefault(c["first"].date().replace(day=1), []).append(c)
    rows = []
    for month, members in sorted(first_months.items()):
        until = (AS_OF.year - month.year) * 12 + AS_OF.month - month.month
        for since in range(until + 1):
            wanted = (month.year * 12 + month.month - 1 + since) // 12, (month.month - 1 + since) % 12 + 1
            bought = [[o for o in c["orders"] if (o[2].year, o[2].month) == wanted] for c in members]
            active = sum(bool(found) for found in bought)
            revenue = sum((o[3] for found in bought for o in found), Decimal(0))
            rows.append((month, since, len(members), active, active / len(members), revenue))
    table(
        warehouse,
        "main.mart_marketing__cohort_retention",
        "cohort_month date, months_since_first bigint, cohort_customers bigint, active_customers bigint, retention_rate double, revenue decimal(18,4)",
        rows,
    )


def _marketing(warehouse: Warehouse, dice: random.Random, customers: list[dict[str, Any]]) -> None:
    table(
        warehouse,
        "main.mart_marketing__roas",
        "month date, channel varchar, campaign_id varchar, spend decimal(18,4), orders bigint, revenue decimal(18,4), roas double",
        [
            (date(2025, m, 1), channel, campaign, money(spend), n, money(n * 64.0), n * 64.0 / spend if spend else None)
            for m in range(1, 13)
            for channel, campaign, spend, n in (
                ("search", "brand", 900.0 + 20 * m, 40 + m),
                ("social", "spring", 1200.0, 12 + m),
                ("email", None, 0.0, 30),
                ("display", HOSTILE, 300.0, 3),
            )
        ],
    )
    table(
        warehouse,
        "main.mart_marketing__engagement_metrics",
        "event_date date, events bigint, visitors bigint, customers bigint, sessions bigint, orders bigint, revenue decimal(18,4)",
        [((AS_OF - timedelta(days=n)).date(), 60 + n % 7, 20, 9, 30 + n % 5, 2, money(90)) for n in range(300)],
    )
    table(
        warehouse,
        "main.mart_marketing__activation_metrics",
        "day date, sync varchar, planned bigint, sent bigint, confirmed bigint, failed bigint, held bigint",
        [
            ((AS_OF - timedelta(days=n)).date(), sync, 60, 60 - n, 58 - n, 2 if n == 3 else 0, n)
            for n in range(20)
            for sync in ("email_actions", "cs_ticket_actions")
        ],
    )
    table(
        warehouse,
        "main.mart_marketing__segment_performance",
        "segment varchar, campaign_id varchar, channel varchar, sent bigint, opened bigint, clicked bigint, converted bigint, unsubscribed bigint, revenue decimal(18,4)",
        [
            (s, campaign, "email", 900 + 100 * i, 300 + 60 * i, 80 + 30 * i, 12 + 9 * i, 3, money(900 + 700 * i))
            for i, s in enumerate(["new_users_first_week_intent", "churn_rescue_nps", "high_value_lapse_risk", None])
            for campaign in ("spring", "summer")
        ],
    )
    people = [
        (f"p{i}", f"c{i:04}" if i % 3 else None, dice.choice([5, 5, 10, 10, 15, 20, 25, 30, 35, 55]))
        for i in range(140)
    ]
    people.append((HOSTILE, None, 75))
    scores = [(p, c, c, s, AS_OF - timedelta(days=s)) for p, c, s in people]
    table(
        warehouse,
        "main.user_mql_score",
        "person_id varchar, customer_id varchar, user_id varchar, mql_score bigint, last_event_at timestamp",
        scores,
    )
    table(
        warehouse,
        "main.user_alerts",
        "person_id varchar, customer_id varchar, user_id varchar, mql_score bigint, last_event_at timestamp",
        [row for row in scores if row[3] >= 20],
    )


def segment_of(c: dict[str, Any], spent: float = 300.0) -> int:
    if c["quiet"] > 240:
        return 1
    if float(c["spent"]) > 2.2 * spent:
        return 3 if len(c["orders"]) > 6 else 0
    return 4 if len(c["orders"]) >= 3 else 2


def _segments(warehouse: Warehouse, dice: random.Random, customers: list[dict[str, Any]]) -> None:
    names = [*NAMES[:4], HOSTILE]
    now = [None if i % 40 == 0 else segment_of(c) for i, c in enumerate(customers)]
    table(
        warehouse,
        "main.fct_customer_segments",
        "customer_id varchar, segment_id bigint, segment_name varchar, stability varchar, total_orders bigint, total_revenue decimal(18,4), days_since_last_purchase bigint, predicted_clv decimal(18,4)",
        [
            (c["id"], s, "Unsegmented" if s is None else names[s], None if s is None else "doubtful", len(c["orders"]), c["spent"], c["quiet"], money(float(c["spent"]) / 3))
            for c, s in zip(customers, now, strict=True)
        ],
    )  # fmt: skip
    earlier, later = AS_OF - timedelta(days=31), AS_OF
    rows = []
    for i, (c, s) in enumerate(zip(customers, now, strict=True)):
        if s is None:
            continue
        common = {
            "customer_id": c["id"],
            "raw_segment_id": s,
            "margin": 0.4,
            "model": "kmeans",
            "version": 2,
            "stability": "doubtful",
        }
        before = dice.choices([s, 1, 2, 4], (8, 1, 1, 0.5))[0]
        if i % 9 == 0:
            rows.append(common | {"segment_id": s, "segment_name": names[s], "valid_from": later, "valid_to": None})
        elif before == s:
            rows.append(common | {"segment_id": s, "segment_name": names[s], "valid_from": earlier, "valid_to": None})
        else:
            rows.append(
                common | {"segment_id": before, "segment_name": names[before], "valid_from": earlier, "valid_to": later}
            )
            rows.append(common | {"segment_id": s, "segment_name": names[s], "valid_from": later, "valid_to": None})
    insert(warehouse, "headwater.segment_assignments", rows)
    insert(
        warehouse,
        "headwater.ml_model_registry",
        [
            {
                "model": model, "version": version, "alias": alias, "trained_at": at, "as_of": at, "params": "{}",
                "metrics": json.dumps(metrics), "stability": json.dumps({"smallest": jaccard, "jaccard": {"Big Spenders": 0.91, "Occasional Shoppers": jaccard}}),
                "verdict": verdict, "verdict_reason": reason, "data_hash": "x", "artefact": "x", "artefact_sha256": "x", "promoted_at": at,
            }
            for model, version, alias, at, jaccard, verdict, reason, metrics in (
                ("kmeans", 1, "previous", earlier, 0.82, "promoted", "", {}),
                ("kmeans", 2, "champion", later, 0.64, "doubtful", "smallest_jaccard: Occasional Shoppers is found again with Jaccard 0.64, below 0.75.", {}),
                ("clv", 2, "champion", later, None, "promoted", "", {"warnings": ["frequency and spend per purchase correlate at 0.41"]}),
            )
        ],
    )  # fmt: skip
    insert(
        warehouse,
        "headwater.segment_monitor",
        [
            {"run_id": "r2", "measured_at": later, "as_of": later, "model": "kmeans", "version": 2, "measure": measure, "subject": subject, "value": value, "threshold": threshold, "alert": alert}
            for measure, subject, value, threshold, alert in (
                *(("forecast", name, 0.2 + 0.02 * i, None, False) for i, name in enumerate(names)),
                *(("share", name, 0.24 - 0.02 * i, None, False) for i, name in enumerate(names)),
                ("psi", "recency_days", 0.041, 0.019, True),
                ("psi", "frequency", 0.006, 0.019, False),
            )
        ],
    )  # fmt: skip
    insert(
        warehouse,
        "headwater.clv_scores",
        [
            {
                "customer_id": c["id"], "as_of": AS_OF, "model": "clv", "version": 2, "expected_purchases": 0.6,
                "expected_value": money(60), "horizon_days": 90,
                "clv": money(float(c["spent"]) * dice.uniform(0.05, 0.4) * (1 if c["quiet"] < 120 else 0.2)),
            }
            for c in customers
        ],
    )  # fmt: skip


def _experiment(warehouse: Warehouse) -> None:
    same = {
        "window_days": 14,
        "unit": "points",
        "trusted": True,
        "power": "Nothing below 9 points can be seen.",
        "computed_at": AS_OF,
    }
    groups = json.dumps({"treatment": 360, "holdout": 40})
    check = [
        {
            "name": "sample_ratio",
            "ok": True,
            "sentence": "groups: treatment 360 (meant 360), holdout 40 (meant 40), p = 1",
        }
    ]
    insert(
        warehouse,
        "headwater.experiment_reports",
        [
            {"goal": "conversion", "groups": groups, "closed": groups, "message": "conversion: treatment against holdout: +12.00 points",
             "checks": json.dumps(check), **same},
            {"goal": "90d_clv", "groups": groups, "closed": "{}", "message": "no customer's 90 days are over yet.", "checks": "[]", **same},
        ],
    )  # fmt: skip
    numbers = {
        "mean_a": 0.22,
        "mean_b": 0.1,
        "lift": 0.12,
        "error": 0.05,
        "low": 0.02,
        "high": 0.22,
        "safe_low": -0.03,
        "safe_high": 0.27,
    }
    insert(
        warehouse,
        "headwater.experiment_results",
        [
            {"goal": "conversion", "segment": segment, "metric": metric, "group_a": "treatment", "group_b": "holdout",
             "customers_a": 360, "customers_b": 40, **numbers, "detectable": 0.14, "trusted": True, "sentence": "told", "computed_at": AS_OF}
            for segment in ("all", HOSTILE) for metric in ("reward", "complaint")
        ],
    )  # fmt: skip


def _decisions(warehouse: Warehouse, dice: random.Random, customers: list[dict[str, Any]]) -> None:
    actions = {
        "high_value_lapse_risk": ("winback", "email", "winback_soft", Decimal(5)),
        "churn_rescue_nps": ("nps_followup", "cs_ticket", "nps_followup_then_offer", Decimal(10)),
        "new_users_first_week_intent": ("onboarding", "email", "onboarding_tips", Decimal(0)),
    }
    segments = {
        r["customer_id"]: r["segment"] for r in warehouse.rows("select * from main.mart_marketing__segment_scores")
    }
    rows = []
    for run, at in (("r1", AS_OF - timedelta(days=1)), ("r2", AS_OF)):
        for c in customers:
            segment = segments[c["id"]]
            if run == "r1" and dice.random() < 0.1:
                segment = dice.choice(RULES)
            holdout = hash_share(c["id"]) < 0.1
            chosen = actions.get(segment or "")
            blocked = None
            if chosen and holdout:
                chosen, blocked = None, "holdout"
            elif chosen and dice.random() < 0.35:
                chosen, blocked = (
                    None,
                    dice.choices(
                        ["consent", "suppression", "caps", "reachability", "quiet_hours", HOSTILE], (9, 5, 3, 3, 2, 1)
                    )[0],
                )
            action, channel, template, discount = chosen or ("none", None, None, None)
            rows.append(
                {
                    "decision_id": f"{run}-{c['id']}", "idempotency_key": f"{run}-{c['id']}", "decided_at": at, "run_id": run,
                    "customer_id": c["id"], "experiment_group": "holdout" if holdout else "treatment", "segment": segment,
                    "goal": "90d_clv", "policy": "default_table", "action": action, "channel": channel, "template": template,
                    "discount_pct": discount, "propensity": 1.0, "blocked_by": blocked,
                }
            )  # fmt: skip
    insert(warehouse, "headwater.decision_log", rows)


def hash_share(text: str) -> float:
    return random.Random(text).random()


def _activation(warehouse: Warehouse, dice: random.Random) -> None:
    def run(
        sync: str, planned: int, confirmed: int, failed: int, held: int, status: str, **more: Any
    ) -> dict[str, Any]:
        return {
            "sync_run_id": f"s-{sync}-{more.get('n', 2)}", "sync": sync, "plan_id": "p", "run_id": "r2", "dry_run": more.get("dry_run", False), "status": status,
            "planned": planned, "sent": confirmed + failed, "confirmed": confirmed, "failed": failed, "held": held,
            "started_at": AS_OF + timedelta(minutes=41 - 60 * (2 - more.get("n", 2))), "ended_at": AS_OF + timedelta(minutes=42), "message": more.get("message", "done"),
        }  # fmt: skip

    insert(
        warehouse,
        "headwater.sync_runs",
        [
            run("email_actions", 71, 60, 0, 11, "ok"),
            run("email_actions", 50, 50, 0, 0, "ok", n=1),
            run(
                "cs_ticket_actions",
                32,
                25,
                5,
                2,
                "failed",
                message="5 rows failed; run `headwater activate cs_ticket_actions` again",
            ),
            run("mql_to_salesforce", 58, 0, 0, 0, "ok", dry_run=True, message="dry run: nothing was sent"),
        ],
    )
    insert(
        warehouse,
        "headwater.sync_rows",
        [
            {
                "sync_run_id": "s-cs_ticket_actions-2", "sync": "cs_ticket_actions", "operation_id": f"op{i}", "key": f"k{i}", "operation": "create", "attempt": 1,
                "status": "failed", "code": "422", "message": f"owner {HOSTILE} is unknown", "advice": "create the owner in the ticket system, then run activate again",
            }
            for i in range(5)
        ],
    )  # fmt: skip
    outbox = [
        ("email_actions", "done", None, 60),
        ("email_actions", "held", "consent", 8),
        ("email_actions", "held", "kill_switch", 3),
    ]
    outbox += [
        ("cs_ticket_actions", "done", None, 25),
        ("cs_ticket_actions", "failed", "422", 5),
        ("mql_to_salesforce", "ready", None, 58),
    ]
    insert(
        warehouse,
        "headwater.outbox",
        [
            {"operation_id": f"{sync}-{state}-{reason}-{i}", "sync": sync, "key": f"{i}", "version": 1, "operation": "create", "state": state, "reason": reason}
            for sync, state, reason, n in outbox
            for i in range(n)
        ],
    )  # fmt: skip


def _quality(warehouse: Warehouse) -> None:
    insert(
        warehouse,
        "headwater.test_results",
        [
            {"run_id": "r2", "test_name": f"unique_model_{i}_id", "model": f"model_{i}", "status": "pass", "failures": 0, "message": None, "tested_at": AS_OF}
            for i in range(61)
        ]
        + [
            {"run_id": run, "test_name": "relationships_fct_orders_customer_id__dim_customer", "model": "fct_orders", "status": status, "failures": n, "message": "Got 2 results, configured to warn if != 0", "tested_at": at}
            for run, status, n, at in (("r1", "pass", 0, AS_OF - timedelta(days=1)), ("r2", "warn", 2, AS_OF))
        ],
    )  # fmt: skip
    table(
        warehouse,
        "main.row_counts",
        "entity varchar, outcome varchar, reason varchar, row_count bigint, amount decimal(18,4)",
        [
            ("customers", "read", "", 403, None), ("customers", "kept", "", 400, None),
            ("customers", "quarantined", "customer_id: missing", 3, None),
            ("orders", "read", "", 1328, None), ("orders", "kept", "", 1290, money(98000)),
            ("orders", "quarantined", "ordered_at: not a time", 14, money(900)),
            ("orders", "collapsed", "one row made out of several of the file", 22, money(1400)),
            ("orders", "excluded", "left out by `where` in the mapping", 2, None),
            ("orders", "unattributed", "without a customer; in the revenue, in no customer", 2, money(41.25)),
            ("order_lines", "read", "", 3080, None), ("order_lines", "kept", "", 3080, money(98000)),
            ("order_lines", "netted", "given back or cancelled: the quantity is negative", 61, money(-2100)),
            ("order_lines", "repaired", "quantity: blanks around the value trimmed", 9, None),
        ],
    )  # fmt: skip
    table(
        warehouse,
        "main.excluded_rows",
        "entity varchar, reason varchar, row_count bigint, amount decimal(18,4)",
        [
            ("orders", "without a customer (counted in fct_orders, in no customer model)", 2, money(41.25)),
            ("events", "dated after the clock", 4, None),
        ],
    )
    table(
        warehouse,
        "main.quarantined_rows",
        "entity varchar, file varchar, line bigint, column_name varchar, value varchar, reason varchar, advice varchar",
        [
            *(("orders", "orders.csv", 31 + 7 * i, "ordered_at", "31/31/2025", "not a time", "write 2025-01-31 or mend the expression in mapping.yml") for i in range(14)),
            *(("customers", HOSTILE, 4 + i, "customer_id", HOSTILE, "missing", "every customer needs an id") for i in range(3)),
        ],
    )  # fmt: skip
    insert(
        warehouse,
        "headwater.file_rejects",
        [
            {
                "load_id": "l1",
                "file": "orders.csv",
                "line": 812,
                "column_name": None,
                "value": "…",
                "reason": "expected 8 columns, found 11",
                "advice": "quote the comma in this line",
            }
        ],
    )
    insert(
        warehouse,
        "headwater.file_loads",
        [
            {"load_id": f"l{i}", "file": f, "raw_table": f.split(".")[0], "sha256": "x", "size_bytes": 10, "read_rows": n, "loaded_rows": n - bad, "rejected_rows": bad, "loaded_at": AS_OF + timedelta(minutes=40)}
            for i, (f, n, bad) in enumerate((("customers.csv", 403, 0), ("orders.csv", 1329, 1), ("order_lines.parquet", 3080, 0)))
        ],
    )  # fmt: skip


def _stages(warehouse: Warehouse) -> None:
    start = AS_OF + timedelta(minutes=40)
    stages = [
        ("seed", "ok", 4812, 0.8, "3 files, 4 812 rows; 17 quarantined"),
        ("build_upstream", "ok", 14, 5.2, "14 models"),
        ("segment", "ok", 390, 3.9, "390 customers in 5 segments; the model is doubtful (smallest Jaccard 0.64)"),
        ("build", "ok", 21, 4.4, "21 models, 62 tests: 61 passed, 1 warned"),
        ("decide", "ok", 400, 0.3, "103 actions for 400 customers"),
        ("plan email_actions", "ok", 71, 0.2, "71 new"),
        ("plan cs_ticket_actions", "ok", 32, 0.2, "32 new"),
        ("activate cs_ticket_actions", "failed", 25, 1.1, "5 of 32 row(s) failed"),
        ("export", "running", None, None, None),
    ]
    rows = []
    for stage, status, n, seconds, message in stages:
        end = start + timedelta(seconds=seconds) if seconds is not None else None
        rows.append(
            {
                "run_id": "r2",
                "stage": stage,
                "status": status,
                "started_at": start,
                "ended_at": end,
                "as_of": AS_OF,
                "row_count": n,
                "message": message,
                "warnings": json.dumps(WARNINGS.get(stage, [])),
            }
        )
        start = end or start
    rows.append(
        rows[0]
        | {
            "run_id": "r1",
            "started_at": AS_OF - timedelta(days=1),
            "ended_at": AS_OF - timedelta(days=1),
            "message": "an older run",
        }
    )
    insert(warehouse, "headwater.stage_runs", rows)
