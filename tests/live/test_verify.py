"""`verify` finds every row that is not what its SQL gives, names it, and finds nothing else."""

from pathlib import Path

import live_shop
import pytest
from live_shop import CUSTOMERS, Live

from headwater.errors import ConfigError

A = CUSTOMERS[0]


@pytest.mark.parametrize(
    ("tamper", "model", "found"),
    [
        (f"update dim_customer set city = 'Atlantis' where customer_id = '{A}'", "dim_customer", ["live", "missing"]),
        (f"delete from int_customer_360 where customer_id = '{A}'", "int_customer_360", ["missing"]),
        (f"insert into user_alerts by name (select '{A}' as person_id, 99 as mql_score)", "user_alerts", ["live"]),
        (f"insert into int_customer_orders select * from int_customer_orders where customer_id = '{A}'", "int_customer_orders", ["live"]),
    ],
)  # fmt: skip
def test_a_tampered_row_is_found_and_named(live: Live, tamper: str, model: str, found: list[str]) -> None:
    live.settle()
    assert live.wrong() == []
    live.warehouse.execute(tamper)
    (verified,) = live.engine.verify([model])
    assert [d.found for d in verified.differences] == found
    assert verified.wrong == len(found)
    assert {d.key for d in verified.differences} == {A}
    assert live.rows("select wrong_rows from headwater.live_models where model = ?", [model]) == [(len(found),)]


def test_what_verify_finds_can_be_mended(live: Live) -> None:
    live.settle()
    live.warehouse.execute("delete from user_alerts")
    live.engine.verify(mend=True)
    live.settle()
    assert live.wrong() == []


def test_random_keys_are_enough_to_find_a_table_that_is_wrong(live: Live) -> None:
    live.settle()
    live.warehouse.execute("update int_customer_360 set events_30d = events_30d + 1")
    (verified,) = live.engine.verify(["int_customer_360"], keys=5)
    assert 0 < verified.rows <= 60
    assert verified.wrong >= verified.rows


def test_missing_rows_are_found_by_random_keys_too(live: Live) -> None:
    live.settle()
    live.warehouse.execute("delete from int_customer_orders")
    (verified,) = live.engine.verify(["int_customer_orders"], keys=20)
    assert verified.rows == 0
    assert verified.wrong > 0


def test_only_so_many_rows_are_named_and_all_are_counted(live: Live) -> None:
    live.settle()
    live.warehouse.execute("update fct_events set event_name = 'x'")
    (verified,) = live.engine.verify(["fct_events"])
    count = live.rows("select count(*) from fct_events")[0][0]
    assert verified.wrong == 2 * count
    assert len(verified.differences) == 40


def test_an_unknown_model_is_refused_with_the_ones_there_are(live: Live) -> None:
    with pytest.raises(ConfigError, match=r"there is no live model 'zzz'; there are: .*user_alerts"):
        live.engine.verify(["zzz"])
    with pytest.raises(ConfigError, match=r"there is no live model 'user_alrts'; did you mean 'user_alerts'\? A live"):
        live.engine.verify(["user_alrts"])


def test_verify_changes_nothing_that_a_batch_would_see(live: Live, tmp_path: Path, live_home: Path) -> None:
    other = Live(live_shop.copy(live_home, tmp_path / "other"))
    for shop in (live, other):
        shop.settle()
        shop.push(seconds=1)
        shop.step(shop.track("Demo Requested", "L1"))
    live.engine.verify(keys=10)
    for shop in (live, other):
        shop.push(days=2)
        shop.settle()
    assert live.tables() == other.tables()
    other.close()
