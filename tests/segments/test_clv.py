"""The published figures of Fader, Hardie and Lee on CDNOW, and what the formulas must obey."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from scipy.special import hyp2f1
from segment_shops import AS_OF, bgnbd_histories, cdnow, synthetic, view_at
from sklearn.metrics import roc_auc_score

from headwater.clock import FixedClock
from headwater.segments import clv, registry
from headwater.segments.settings import MlSegmentSettings
from headwater.segments.train import train
from headwater.warehouse.connection import Warehouse


@pytest.fixture(scope="module")
def calibrated(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[clv.History, np.ndarray]:
    """Histories to 1997-09-30, and the days with a purchase in the 39 weeks after."""
    with Warehouse(tmp_path_factory.mktemp("cdnow") / "w.duckdb") as warehouse:
        end = cdnow(warehouse, shared_data)
        history = clv.read_history(warehouse, "main.int_customer_rfm")
        later = warehouse.execute(f"""
            select count(distinct fct_orders.ordered_at) as days from main.int_customer_rfm left join main.fct_orders
                on fct_orders.customer_id = int_customer_rfm.customer_id and fct_orders.ordered_at > timestamp '{end}'
            group by int_customer_rfm.customer_id order by int_customer_rfm.customer_id""").fetchnumpy()
    return history, np.asarray(later["days"], float)


def test_bgnbd_on_cdnow(calibrated: tuple[clv.History, np.ndarray]) -> None:
    history, _ = calibrated
    found = clv.fit_bgnbd(history.x, history.t_x, history.age)
    assert found.r == pytest.approx(0.2426, abs=5e-5)
    assert found.alpha == pytest.approx(4.4136, abs=5e-4)
    assert found.a == pytest.approx(0.7929, abs=5e-4)
    assert found.b == pytest.approx(2.4259, abs=2e-3)
    assert found.log_likelihood == pytest.approx(-9582.43, abs=0.01)


def test_gamma_gamma_on_cdnow(calibrated: tuple[clv.History, np.ndarray]) -> None:
    history, _ = calibrated
    found = clv.fit_gamma_gamma(history.x, history.value)
    assert found.p == pytest.approx(6.250, abs=2e-3)
    assert found.q == pytest.approx(3.744, abs=1e-3)
    assert found.v == pytest.approx(15.444, abs=5e-3)
    assert found.log_likelihood == pytest.approx(-4055.92, abs=0.01)
    assert found.customers == 946


def test_the_holdout_of_cdnow(calibrated: tuple[clv.History, np.ndarray]) -> None:
    history, bought = calibrated
    model = clv.fit_bgnbd(history.x, history.t_x, history.age)
    expected = clv.expected_purchases(model, history.x, history.t_x, history.age, 39)
    assert np.corrcoef(expected, bought)[0, 1] == pytest.approx(0.6256, abs=1e-4)
    assert np.sqrt(np.mean((expected - bought) ** 2)) == pytest.approx(1.608, abs=1e-3)


def test_probability_alive_ranks_worse_than_chance_and_expected_purchases_do_not(
    calibrated: tuple[clv.History, np.ndarray],
) -> None:
    history, bought = calibrated
    model = clv.fit_bgnbd(history.x, history.t_x, history.age)
    alive = clv.probability_alive(model, history.x, history.t_x, history.age)
    expected = clv.expected_purchases(model, history.x, history.t_x, history.age, 39)
    assert (alive[history.x == 0] == 1).all()
    assert roc_auc_score(bought > 0, alive) == pytest.approx(0.316, abs=1e-3)
    assert roc_auc_score(bought > 0, expected) > 0.77


def test_expected_purchases_is_the_formula_of_the_paper() -> None:
    random = np.random.default_rng(3)
    model = clv.BgNbd(0.2426, 4.4136, 0.7929, 2.4259, 0.0)
    x = random.integers(0, 20, 200).astype(float)
    age = random.uniform(1, 39, 200)
    t_x = np.where(x > 0, age * random.random(200), 0.0)
    r, alpha, a, b, t = model.r, model.alpha, model.a, model.b, 39.0
    above = (a + b + x - 1) / (a - 1)
    above *= 1 - ((alpha + age) / (alpha + age + t)) ** (r + x) * hyp2f1(
        r + x, b + x, a + b + x - 1, t / (alpha + age + t)
    )
    below = 1 + np.where(x > 0, a / (b + np.maximum(x, 1) - 1) * ((alpha + age) / (alpha + t_x)) ** (r + x), 0.0)
    np.testing.assert_allclose(clv.expected_purchases(model, x, t_x, age, t), above / below, rtol=1e-9)


def test_heavy_buyers_stay_finite_where_the_plain_formula_does_not() -> None:
    model = clv.BgNbd(0.24, 4.4, 0.79, 2.43, 0.0)
    x, t_x, age = np.array([3000.0]), np.array([100.0]), np.array([104.0])
    expected = clv.expected_purchases(model, x, t_x, age, 13)
    assert np.isfinite(expected).all()
    assert 0 < expected[0] < 3000 / 104 * 13


def test_more_weeks_never_mean_fewer_purchases() -> None:
    model = clv.BgNbd(0.24, 4.4, 0.79, 2.43, 0.0)
    x, t_x, age = np.array([0.0, 1.0, 12.0]), np.array([0.0, 3.0, 30.0]), np.array([20.0, 30.0, 39.0])
    steps = [clv.expected_purchases(model, x, t_x, age, weeks) for weeks in (0.0, 1.0, 4.0, 13.0, 52.0)]
    assert (np.diff(steps, axis=0) >= 0).all()
    np.testing.assert_allclose(steps[0], 0, atol=1e-12)


def test_clv_is_purchases_times_value_discounted_month_by_month() -> None:
    purchases, spend = clv.BgNbd(0.24, 4.4, 0.79, 2.43, 0.0), clv.GammaGamma(6.25, 3.74, 15.4, 0.0, 946)
    history = clv.History(np.array([3.0]), np.array([20.0]), np.array([30.0]), np.array([40.0]))
    until = [
        0.0,
        *(clv.expected_purchases(purchases, history.x, history.t_x, history.age, d / 7)[0] for d in (30, 60, 75)),
    ]
    value = (6.25 * (15.4 + 3 * 40)) / (6.25 * 3 + 3.74 - 1)
    by_hand = sum((until[i + 1] - until[i]) * value / 1.02**months for i, months in enumerate((1, 2, 2.5)))
    often, worth, found = clv.lifetime_value(purchases, spend, history, 75, 0.02)
    assert found[0] == pytest.approx(by_hand)
    assert worth[0] == pytest.approx(value)
    assert often[0] == pytest.approx(until[-1])


def test_without_repeat_purchase_the_value_is_the_mean_of_the_shop() -> None:
    spend = clv.GammaGamma(6.25, 3.744, 15.444, 0.0, 946)
    found = clv.expected_value(spend, np.array([0.0, 2.0]), np.array([np.nan, -5.0]))
    np.testing.assert_allclose(found, 6.25 * 15.444 / 2.744)


def test_the_parameters_of_a_simulated_shop_are_found_again() -> None:
    found = clv.fit_bgnbd(*bgnbd_histories(8_000, 4))
    assert (found.r, found.alpha, found.a, found.b) == pytest.approx((0.8, 6.0, 0.8, 2.4), rel=0.15)
    assert found.at_bound == ()


def test_a_correlation_of_frequency_and_value_is_warned_of() -> None:
    x, t_x, age = bgnbd_histories(2_000, 5)
    free = np.where(x > 0, np.random.default_rng(5).gamma(6, 5, 2_000), np.nan)
    tied = np.where(x > 0, free * (1 + x), np.nan)
    assert clv.fit(clv.History(x, t_x, age, free), 1).warnings == ()
    (warning,) = clv.fit(clv.History(x, t_x, age, tied), 1).warnings
    assert warning.startswith("frequency and spend per purchase correlate at 0.")
    assert "read CLV as a ranking, not as money" in warning


def test_a_shop_that_nobody_leaves_is_said_to_be_at_the_bound_and_still_valued() -> None:
    random = np.random.default_rng(6)
    age = random.uniform(20, 60, 1_000)
    x = random.poisson(0.1 * age).astype(float)
    t_x = np.where(x > 0, age * random.random(1_000) ** (1 / np.maximum(x, 1)), 0.0)
    history = clv.History(x, t_x, age, np.where(x > 0, random.gamma(6, 5, 1_000), np.nan))
    life = clv.fit(history, 1)
    assert life.purchases.at_bound
    assert life.warnings[0].startswith(f"CLV: {', '.join(life.purchases.at_bound)} ended at the bound")
    often, _, worth = clv.lifetime_value(life.purchases, life.spend, history, 90, 0.01)
    assert np.isfinite(worth).all()
    assert often.mean() == pytest.approx(0.1 * 90 / 7, rel=0.15)


def test_too_few_repeat_buyers_are_not_fitted() -> None:
    x = np.concatenate([np.zeros(500), np.ones(29)])
    with pytest.raises(clv.NotIdentified, match="29 customers bought on more than one day, at least 30 are needed"):
        clv.fit_bgnbd(x, x * 5, np.full(529, 20.0))


def test_scores_are_replaced_as_a_whole_and_belong_to_their_customers(
    warehouse: Warehouse, clock: FixedClock, tmp_path: Path
) -> None:
    synthetic(warehouse, 600)
    settings = MlSegmentSettings(stability_refits=5, stability_sample=300)
    train(warehouse, settings, clock, tmp_path / "models")
    for _ in range(2):
        clv.score_all(warehouse, settings, tmp_path / "models", "main.int_customer_rfm", AS_OF)
        assert warehouse.value("select count(*) from headwater.clv_scores") == 600
    found = registry.load_artefact(tmp_path / "models", registry.champion(warehouse, registry.CLV))  # type: ignore[arg-type]
    warehouse.execute("create table main.one as select * from main.int_customer_rfm where customer_id = 'C100007'")
    _, _, alone = clv.lifetime_value(
        clv.BgNbd(**found["purchases"]),
        clv.GammaGamma(**found["spend"]),
        clv.read_history(warehouse, "main.one"),
        90,
        0.01,
    )
    assert float(
        warehouse.value("select clv from headwater.clv_scores where customer_id = 'C100007'")
    ) == pytest.approx(alone[0], abs=1e-4)


def test_a_shop_without_a_second_purchase_has_no_clv_and_says_so(
    warehouse: Warehouse, clock: FixedClock, tmp_path: Path
) -> None:
    synthetic(warehouse, 600)
    warehouse.execute(
        "delete from main.fct_orders where order_id not in (select min(order_id) from main.fct_orders group by customer_id)"
    )
    view_at(warehouse, datetime(2026, 6, 30))  # noqa: DTZ001
    trained = train(warehouse, MlSegmentSettings(stability_refits=5, stability_sample=300), clock, tmp_path / "models")
    assert (
        "CLV was not fitted: 0 customers have a repeat purchase of positive value, at least 30 are needed to tell what they spend; "
        "predicted_clv stays empty"
    ) in trained.warnings
    assert registry.champion(warehouse, registry.CLV) is None
