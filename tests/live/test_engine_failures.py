"""A model that fails, alone: its failing keys keep their last good rows, everything else goes on, and it heals."""

from dataclasses import replace
from pathlib import Path

import live_shop
from live_shop import CUSTOMERS, KEYED, Live

from headwater.live.project import Project
from headwater.live.settings import LiveSettings

A, B, _ = CUSTOMERS

POISON = "case when person_id = 'BAD' then cast('no number' as bigint) else"


def broken(live: Live, model: str = "user_mql_score", settings: LiveSettings | None = None) -> None:
    """Make the SQL of a model fail for the person BAD, as a cast in a user's model would."""
    live.engine.park()
    models = []
    for one in live.project.models:
        if one.name == model:
            scoped, whole = (
                f"select * replace (case when person_id = 'BAD' then cast('no' || 'number' as bigint) else {sum_of(one.columns)} end as {sum_of(one.columns)}) from ({sql})"
                for sql in (one.analysis.scoped, one.analysis.whole)
            )
            models.append(replace(one, analysis=replace(one.analysis, scoped=scoped, whole=whole)))
        else:
            models.append(one)
    live.project = Project(tuple(models), live.project.sources)
    live.restart()
    if settings:
        live.engine.settings = settings


def sum_of(columns: tuple[str, ...]) -> str:
    return next(name for name in ("mql_score", "events_30d") if name in columns)


def mended(live: Live, home: Path) -> None:
    live.engine.park()
    live.project = live_shop._read(live.warehouse, home)
    live.restart()


def test_one_failing_key_keeps_its_last_good_row_and_all_others_move(live: Live, live_home: Path) -> None:
    live.settle()
    live.step(live.track("Demo Requested", "BAD"))
    broken(live)
    live.push(seconds=1)
    result = live.step(
        live.track("Newsletter Subscribed", "BAD"),
        live.track("Demo Requested", "L1"),
        live.track("Demo Requested", "L2"),
    )
    assert "ConversionException" in result.failed["user_mql_score"]
    leads = dict(live.rows("select person_id, mql_score from user_alerts where person_id in ('BAD', 'L1', 'L2')"))
    assert leads == {"BAD": 30, "L1": 30, "L2": 30}  # BAD would have 40
    stale = live.rows("select model, key, origin_model from headwater.stale_keys order by model")
    assert stale == [("user_alerts", "BAD", "user_mql_score"), ("user_mql_score", "BAD", "user_mql_score")]

    live.push(seconds=1)
    again = live.step(live.track("Demo Requested", "BAD"), live.track("Demo Requested", "L3"))
    assert again.failed == {}, "a key that is known to fail does not fail a second batch"
    assert live.rows("select mql_score from user_alerts where person_id = 'L3'") == [(30,)]

    mended(live, live_home)
    live.push(seconds=31)
    live.settle()
    assert live.rows("select mql_score from user_alerts where person_id = 'BAD'") == [(40,)]
    assert live.rows("select * from headwater.stale_keys") == []
    assert live.wrong() == []


def test_many_failing_keys_stop_the_model_and_the_rest_goes_on(live: Live, live_home: Path) -> None:
    live.settle()
    broken(live)
    live.engine.settings = KEYED.model_copy(update={"max_stale_keys": 1, "full_above": 0, "full_share": 0.0001})
    live.engine.park()
    live.push(seconds=1)
    result = live.step(live.track("Demo Requested", "BAD"), live.track("Demo Requested", "L1"))
    assert "user_mql_score" in result.failed
    assert live.rows("select count(*) from fct_events where person_id in ('BAD', 'L1')") == [(2,)]
    live.settle()
    assert live.rows("select mql_score from user_mql_events where person_id = 'L1'") == [(30,)]
    mended(live, live_home)
    live.push(seconds=31)
    live.settle()
    assert live.rows("select state, message from headwater.live_models where model = 'user_mql_score'") == [
        ("live", None)
    ]
    assert live.wrong() == []


def test_a_model_whose_key_path_fails_is_stopped_keeps_its_rows_and_comes_back(live: Live, live_home: Path) -> None:
    live.settle()
    live.step(live.track("Demo Requested", "L1"))
    models = []
    for one in live.project.models:
        if one.name == "user_mql_score":
            paths = tuple(
                replace(path, sql="select cast('no' || 'number' as bigint) as key from {delta}")
                for path in one.analysis.paths
            )
            models.append(replace(one, analysis=replace(one.analysis, paths=paths)))
        else:
            models.append(one)
    live.engine.park()
    live.project = Project(tuple(models), live.project.sources)
    live.restart()
    live.push(seconds=1)
    result = live.step(live.track("Demo Requested", "L2"))
    assert list(result.failed) == ["user_mql_score"]
    ((state, message),) = live.rows("select state, message from headwater.live_models where model = 'user_mql_score'")
    assert state == "stopped"
    assert "Could not convert string 'nonumber'" in message
    assert live.rows("select mql_score from user_alerts where person_id = 'L1'") == [(30,)]
    mended(live, live_home)
    live.push(seconds=31)
    live.settle()
    assert live.rows("select mql_score from user_alerts where person_id = 'L2'") == [(30,)]
    assert live.wrong() == []


def test_a_model_that_needs_more_memory_than_there_is_stops_and_says_so_without_trying_its_keys(
    live: Live, live_home: Path
) -> None:
    live.settle()
    live.engine.park()
    hungry = "select {columns} from ({sql}) where (select len(list(range)) from range(60000000)) > 0"
    score = live.project.model("user_mql_score")
    scoped, whole = (
        hungry.format(columns=", ".join(score.columns), sql=sql)
        for sql in (score.analysis.scoped, score.analysis.whole)
    )
    large = replace(score, sql_hash="hungry", analysis=replace(score.analysis, scoped=scoped, whole=whole))
    models = tuple(large if one is score else one for one in live.project.models)
    live.project = Project(models, live.project.sources)
    live.settings = LiveSettings(memory_limit="200MB", full_every=0)
    live.restart()
    live.step(live.track("Demo Requested", "L1"))
    state, message = live.rows("select state, message from headwater.live_models where model = 'user_mql_score'")[0]
    assert state == "stopped"
    assert "live.memory_limit" in message
    assert live.rows("select count(*) from headwater.stale_keys") == [(0,)]
    assert live.rows("select count(*) from fct_events where person_id = 'L1'") == [(1,)]
    mended(live, live_home)
    live.push(seconds=61)
    live.settle()
    assert live.rows("select mql_score from user_alerts where person_id = 'L1'") == [(30,)]
