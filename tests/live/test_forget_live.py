"""Somebody is forgotten while models are live: they follow, stay right, and what arrives of him afterwards is taken out."""

from live_shop import Live, call

from headwater.identity.settings import IdentitySettings
from headwater.live import forget, memberships, persons

GONE = ("lead-to-forget", "browser-to-forget", "forget@example.org")


def entries(live: Live, first: int) -> list:
    return [
        live.track("Demo Requested", anonymous="browser-to-forget", number=first),
        call(
            "identify",
            first + 1,
            live.now,
            userId="lead-to-forget",
            anonymousId="browser-to-forget",
            traits={"email": "Forget@example.org", "nps": 2},
        ),
        live.track("Whitepaper Downloaded", "lead-to-forget", number=first + 2),
        live.track("Demo Requested", "lead-who-stays", "browser-that-stays", number=first + 3),
    ]


def everywhere(live: Live) -> str:
    tables = live.rows(
        "select table_schema || '.' || table_name from information_schema.tables where table_type = 'BASE TABLE' and table_catalog = current_database()"
    )
    logged = [record.payload for record in live.log.read("events", 0, 1000)]
    return str([live.rows(f"select * from {table}") for (table,) in tables]).lower() + str(logged).lower()


def test_models_follow_a_deletion_and_a_replay_does_not_bring_anybody_back(live: Live) -> None:
    live.settle()
    live.push(minutes=1)
    live.step(*entries(live, 500))
    memberships.follow(live.warehouse, live.now)
    assert all(word in everywhere(live) for word in GONE)
    live.engine.park()
    receipt = forget.forget(live.folder, live.warehouse, live.log, "forget@example.org", live.clock)
    assert receipt.complete
    live.engine.resume()
    live.settle()
    assert live.wrong() == []
    assert persons.recompute_all(live.warehouse, IdentitySettings()) == []
    assert not [word for word in GONE if word in everywhere(live)]
    assert live.rows("select mql_score from main.user_mql_score where person_id = 'lead-who-stays'") == [(30,)]
    memberships.reconcile(live.warehouse, live.now)
    assert memberships.differences(live.warehouse) == []

    live.push(days=2)  # message ids are not remembered for so long: nothing but the list keeps him out
    result = live.step(*entries(live, 600))
    assert result.landed.suppressed == 3
    assert result.landed.conserved
    live.settle()
    assert live.wrong() == []
    assert not [word for word in GONE if word in everywhere(live)]
