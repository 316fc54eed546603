"""Tracking plans: what passes, what is removed, what is quarantined, and what a wrong plan is told."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from collecting import collecting
from collector_cases import batch, track

from headwater.collect import plan
from headwater.collect.settings import CollectSettings, SourceSettings
from headwater.errors import ConfigError

ORDER = {
    "type": "object",
    "required": ["order_id"],
    "properties": {
        "order_id": {"type": "string"},
        "revenue": {"type": "number", "minimum": 0},
        "products": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}},
    },
}


def send(tmp_path: Path, given: dict[str, Any], *events: dict[str, Any], **source: Any) -> tuple[list, list]:
    """Accepted and rejected payloads of a source with this plan."""
    (tmp_path / "plan.yml").write_text(yaml.safe_dump(given))
    settings = CollectSettings(
        sources=[SourceSettings(name="website", write_key="website", tracking_plan="plan.yml", **source)]
    )
    with collecting(settings, folder=tmp_path) as running:
        told = running.post("/v1/batch", batch(*events)).json()
        accepted, rejected = running.events(), running.rejected()
        assert (told["accepted"], len(told["rejected"])) == (len(accepted), len(rejected))
        return accepted, rejected


def order(**properties: Any) -> dict[str, Any]:
    return track(event="Order Completed", properties=properties)


def test_quarantine_says_every_violation_at_once(tmp_path: Path) -> None:
    given = {"events": {"Order Completed": {"schema": ORDER}}}
    accepted, rejected = send(tmp_path, given, order(order_id="1", revenue=5), order(order_id=1, revenue=-5), order())
    assert [event["properties"] for event in accepted] == [{"order_id": "1", "revenue": 5}]
    assert [[(r["code"], r["path"]) for r in one["reasons"]] for one in rejected] == [
        [("plan_violation", "properties.order_id"), ("plan_violation", "properties.revenue")],
        [("plan_violation", "properties")],
    ]
    assert rejected[0]["reasons"][0]["message"] == ('the event breaks its tracking plan: 1 is not of type "string"')
    assert '"order_id" is a required property' in rejected[1]["reasons"][0]["message"]


def test_allow_lets_pass_and_notes(tmp_path: Path) -> None:
    given = {"violations": "allow", "events": {"Order Completed": {"schema": ORDER}}}
    (event,), rejected = send(tmp_path, given, order(order_id=1, other=2))
    assert event["properties"] == {"order_id": 1, "other": 2}
    assert event["context"]["violations"] == ['properties.order_id: 1 is not of type "string"']
    assert rejected == []


def test_omit_removes_what_is_not_planned_and_quarantines_the_rest(tmp_path: Path) -> None:
    given = {"events": {"Order Completed": {"schema": {**ORDER, "additionalProperties": False}, "violations": "omit"}}}
    (event,), (rejected,) = send(
        tmp_path,
        given,
        order(order_id="1", card="4111", products=[{"sku": "a", "margin": 3}, {"sku": "b"}]),
        order(order_id=1, card="4111"),
    )
    assert event["properties"] == {"order_id": "1", "products": [{"sku": "a"}, {"sku": "b"}]}
    assert event["context"]["violations"] == [
        "properties.card: not in the plan, removed",
        "properties.products.margin: not in the plan, removed",
    ]
    assert [reason["path"] for reason in rejected["reasons"]] == ["properties.order_id"]


def test_events_that_are_not_planned(tmp_path: Path) -> None:
    planned = {"events": {"Order Completed": {"schema": {}}}}
    accepted, rejected = send(tmp_path, planned, track(event="Else"), order())
    assert (len(accepted), rejected) == (2, [])
    accepted, rejected = send(tmp_path, {**planned, "unplanned_events": "quarantine"}, track(event="Else"), order())
    assert [event["event"] for event in accepted] == ["Order Completed"]
    assert [reason["code"] for reason in rejected[0]["reasons"]] == ["unplanned_event"]


def test_calls_that_are_no_events_have_schemas_too(tmp_path: Path) -> None:
    mail = {"schema": {"required": ["email"], "properties": {"email": {"type": "string", "format": "email"}}}}
    given = {"identify": mail, "page": {"schema": {"required": ["url"]}}}
    accepted, rejected = send(
        tmp_path,
        given,
        {"type": "identify", "userId": "u", "traits": {"email": "a@example.com"}},
        {"type": "identify", "userId": "u", "traits": {"email": "nonsense"}},
        {"type": "page", "userId": "u"},
        {"type": "group", "userId": "u", "groupId": "g"},
    )
    assert [event["type"] for event in accepted] == ["identify", "group"]
    assert [one["reasons"][0]["path"] for one in rejected] == ["traits.email", "properties"]


def test_a_masked_source_says_no_values(tmp_path: Path) -> None:
    given = {"events": {"Order Completed": {"schema": {"properties": {"card": {"type": "integer"}}}}}}
    accepted, (rejected,) = send(tmp_path, given, order(card="4111-1111"), mask={"properties.card": "drop"})
    assert accepted == []
    assert "4111" not in str(rejected)
    assert rejected["reasons"][0]["message"].endswith('a hidden value is not of type "integer"')


def test_a_wrong_plan_is_told_everything(tmp_path: Path) -> None:
    path = tmp_path / "plan.yml"
    path.write_text(
        yaml.safe_dump(
            {"events": {"a": {"schema": {"type": "strange"}}, "b": {"schema": {"$ref": "https://example.com/x.json"}}}}
        )
    )
    with pytest.raises(ConfigError) as error:
        plan.load(path)
    assert "has 2 problem(s)" in str(error.value)
    assert "events.a.schema: " in str(error.value)
    assert "events.b.schema: " in str(error.value)
    path.write_text("violations: shrug\nevnts: {}\n")
    with pytest.raises(ConfigError, match=r"has 2 problem\(s\)"):
        plan.load(path)
    path.write_text("{a: [")
    with pytest.raises(ConfigError, match="neither YAML nor JSON"):
        plan.load(path)
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file or directory\)\. Make the file"):
        plan.load(tmp_path / "none.yml")
