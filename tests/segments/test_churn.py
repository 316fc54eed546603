"""The churn head is judged out of time; a feature that knows the future is caught by its AUC."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from segment_shops import AS_OF, QUICK, cdnow, synthetic
from sklearn.metrics import roc_auc_score

from headwater.clock import FixedClock
from headwater.segments import churn
from headwater.segments.features import at_sql
from headwater.segments.gate import Measures, judge
from headwater.segments.train import train
from headwater.warehouse.connection import Warehouse


def rows_at(warehouse: Warehouse, moment: datetime, days: int) -> tuple[np.ndarray, np.ndarray]:
    return churn._at(warehouse, "main.fct_orders", moment, moment + timedelta(days=days), at_sql)


def test_cdnow_out_of_time(warehouse: Warehouse, shared_data: Path) -> None:
    """Fit on what was known at 1997-06-30 and the quarter after; judged at 1997-09-30 on the 39 weeks after."""
    cdnow(warehouse, shared_data)
    early = rows_at(warehouse, datetime(1997, 6, 30), 92)  # noqa: DTZ001
    late = rows_at(warehouse, datetime(1997, 9, 30), 273)  # noqa: DTZ001
    head = churn.judge(early, late, 273, seed=1)
    assert isinstance(head, churn.Head)
    assert head.auc == pytest.approx(0.776, abs=0.01)
    assert head.baseline == pytest.approx(0.764, abs=0.01)
    assert head.auc > head.baseline
    assert head.customers == 2357


def knowing_sql(orders: str, as_of: datetime) -> str:
    """The mistake: recency looks at all orders, so whoever comes back has been here lately."""
    return f"""
        select known.* exclude (recency_days),
            greatest(0, (epoch(timestamp '{as_of}') - epoch(everything.last_order_at)) / 86400.0) as recency_days
        from ({at_sql(orders, as_of)}) as known
        join (select customer_id, max(ordered_at) as last_order_at from {orders} group by 1) as everything on everything.customer_id = known.customer_id"""


def test_a_leak_is_too_good_to_be_true_and_is_refused(warehouse: Warehouse, shared_data: Path) -> None:
    cdnow(warehouse, shared_data)
    end = datetime(1998, 6, 30)  # noqa: DTZ001
    honest = churn.out_of_time(warehouse, "main.fct_orders", end, seed=1)
    leaking = churn.out_of_time(warehouse, "main.fct_orders", end, seed=1, features=knowing_sql)
    assert isinstance(honest, churn.Head)
    assert isinstance(leaking, churn.Head)
    assert honest.auc < QUICK.max_auc
    assert leaking.auc > 0.97

    def verdict(head: churn.Head) -> tuple[str, ...]:
        measures = Measures(0.9, "Champions (VIPs)", 0.1, "Loyal Customers", 1.0, head.auc, head.baseline, head.noise)
        return tuple(finding.rule for finding in judge(measures, QUICK).refusals)

    assert verdict(honest) == ()
    assert verdict(leaking) == ("max_auc",)


def test_no_label_of_the_fit_lies_after_the_judged_features(warehouse: Warehouse) -> None:
    """Moving every order of the last period changes the judgement, never the fit."""
    synthetic(warehouse, 800)
    before = churn.out_of_time(warehouse, "main.fct_orders", AS_OF, seed=1)
    warehouse.execute(
        "delete from main.fct_orders where ordered_at > timestamp '2026-04-01' and hash(order_id) % 2 = 0"
    )
    after = churn.out_of_time(warehouse, "main.fct_orders", AS_OF, seed=1)
    assert isinstance(before, churn.Head)
    assert isinstance(after, churn.Head)
    np.testing.assert_array_equal(before.model[-1].coef_, after.model[-1].coef_)
    assert before.auc != after.auc


def test_short_histories_are_not_judged(warehouse: Warehouse) -> None:
    synthetic(warehouse, 300)
    warehouse.execute("delete from main.fct_orders where ordered_at < timestamp '2026-05-20'")
    assert churn.out_of_time(warehouse, "main.fct_orders", AS_OF, seed=1) == (
        "the churn head was not judged: the orders span 40 days, and two periods of at least 14 days after a first half are needed"
    )


def test_too_few_of_a_kind_are_not_judged(warehouse: Warehouse) -> None:
    synthetic(warehouse, 60)
    said = churn.out_of_time(warehouse, "main.fct_orders", AS_OF, seed=1)
    assert isinstance(said, str)
    assert said.startswith("the churn head was not judged: in the ")
    assert said.endswith("at least 30 of each are needed")


def test_without_orders_training_goes_on_and_says_so(warehouse: Warehouse, clock: FixedClock, tmp_path: Path) -> None:
    synthetic(warehouse, 600)
    trained = train(warehouse, QUICK, clock, tmp_path, orders="main.nothing")
    assert trained.version == 1
    assert trained.auc is None
    assert "the churn head was not judged: there is no relation main.nothing" in trained.warnings


def test_the_noise_of_a_difference_is_that_of_resampling() -> None:
    """DeLong's standard error against a bootstrap of the same difference."""
    random = np.random.default_rng(2)
    away = random.random(1500) < 0.6
    first = away + random.standard_normal(1500)
    second = first + random.standard_normal(1500)
    differences = []
    for _ in range(300):
        drawn = random.integers(0, 1500, 1500)
        differences.append(roc_auc_score(away[drawn], first[drawn]) - roc_auc_score(away[drawn], second[drawn]))
    assert churn._paired_error(first, second, away) == pytest.approx(np.std(differences), rel=0.15)
