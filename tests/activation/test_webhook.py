"""Rows as JSON over HTTP: what is on the wire, and what the answers mean. The receiver is the standard library's."""

import json
import logging
from decimal import Decimal

import pytest
from receiver import Receiver, receiving

from headwater.activation import destinations
from headwater.activation.destinations import Batch, Later, Operation, Rejected, Unusable
from headwater.activation.destinations.http import Answer
from headwater.activation.settings import DestinationSettings
from headwater.errors import ConfigError

ROW = Operation(
    "0" * 32,
    "people",
    "c 1/é",
    3,
    "update",
    {"name": "Zoë", "amount": Decimal("10.10"), "n": 7, "gone": None},
    {},
    "d1",
)
OTHER = Operation("1" * 32, "people", "c2", 1, "create", {"name": "Bo"})


def batch(*rows):
    return Batch("batch", "people", rows or (ROW,), ("name", "amount", "n", "gone", "city"))


@pytest.fixture
def receiver():
    with receiving(Receiver()) as receiver:
        yield receiver


@pytest.fixture
def hook(receiver, tmp_path):
    opened = []

    def make(environment=None, **options):
        settings = DestinationSettings(type="webhook", options={"url": receiver.url, **options})
        one = destinations.make("hook", settings, folder=tmp_path, environment=environment or {})
        one.open()
        opened.append(one)
        return one

    yield make
    for one in opened:
        one.close()


def sent(receiver):
    """(headers, body) of the last call."""
    call = receiver.calls[-1]
    return call["headers"], call["body"]


def test_the_default_body(hook, receiver):
    hook().deliver(batch())
    headers, body = sent(receiver)
    assert body.decode() == (
        '{"operation":"update","operation_id":"00000000000000000000000000000000","key":"c 1/é",'
        '"fields":{"name":"Zoë","amount":10.10,"n":7,"gone":null}}'
    )
    assert headers["Content-Type"] == "application/json"
    assert headers["Idempotency-Key"] == ROW.operation_id


def test_a_template(hook, receiver):
    receiver.script = [(200, {}, {})]
    body = {
        "id": "{@key}",
        "event": "{@sync}.{@operation} v{@version}",
        "person": {"name": "{name}", "spent": "{amount}", "city": "{city}", "gone": "{gone}"},
        "list": ["{n}", "{city}", "constant", 1, True],
        "{name}": "as a key",
        "text": "{name} spent {amount}{city}",
        "decision": "{@decision_id}",
    }
    hook(body=body).deliver(batch())
    assert json.loads(sent(receiver)[1], parse_float=Decimal) == {
        "id": "c 1/é",
        "event": "people.update v3",
        "person": {"name": "Zoë", "spent": Decimal("10.10"), "gone": None},
        "list": [7, "constant", 1, True],
        "Zoë": "as a key",
        "text": "Zoë spent 10.10",
        "decision": "d1",
    }


def test_a_template_that_names_an_unknown_field(hook, receiver):
    with pytest.raises(Unusable, match="the template of 'hook' names nmae, which the sync 'people' does not have"):
        hook(body={"x": "{nmae}"}).deliver(batch())
    assert receiver.calls == []


def test_a_batch_with_results_by_order_or_by_id(hook, receiver):
    receiver.script = [
        (200, {}, {"results": [{"ok": True}, {"ok": False, "code": 17, "message": "no"}]}),
        (200, {}, {"data": {"rows": [{"ref": "c2", "state": "fine"}, {"ref": ROW.operation_id, "state": "LOCKED"}]}}),
    ]
    by_order = hook(batch_size=10, results={}).deliver(batch(ROW, OTHER))
    assert [(one.status, one.code, one.message) for one in by_order] == [("done", "", ""), ("failed", "17", "no")]
    assert list(json.loads(sent(receiver)[1])) == ["rows"]
    named = {
        "path": "$.data.rows",
        "id": "$.ref",
        "ok": "$.state",
        "ok_value": "fine",
        "code": "$.state",
        "retry_codes": ["LOCKED"],
    }
    by_id = hook(batch_size=10, results=named, rows_field=None).deliver(batch(ROW, OTHER))
    assert [(one.operation_id, one.status, one.code) for one in by_id] == [
        (ROW.operation_id, "retry", "LOCKED"),
        (OTHER.operation_id, "done", ""),
    ]
    assert isinstance(json.loads(sent(receiver)[1]), list)


@pytest.mark.parametrize("answer", [{"results": [{"ok": True}]}, {"results": []}, {}, "not json", [], {"results": 7}])
def test_a_row_without_a_result_is_in_doubt(hook, receiver, answer):
    receiver.script = [(200, {}, answer)]
    results = hook(batch_size=10, results={}).deliver(batch(ROW, OTHER))
    assert [one.operation_id for one in results] == [ROW.operation_id, OTHER.operation_id]
    assert (results[1].status, results[1].code, results[1].in_doubt) == ("retry", "NO_RESULT", True)


def test_the_signature_is_the_hmac_of_the_body(hook, receiver):
    receiver.key = "it is me"
    assert hook({"KEY": "it is me"}, signature_env="KEY").deliver(batch())[0].status == "done"
    with pytest.raises(Unusable, match="HTTP 401: the signature is wrong"):
        hook({"KEY": "it is not"}, signature_env="KEY").deliver(batch())


def test_a_batch_has_one_key_of_its_own(hook, receiver):
    receiver.script = [(200, {}, {})] * 3
    one = hook(batch_size=5)
    for rows in ((ROW, OTHER), (ROW, OTHER), (OTHER, ROW)):
        one.deliver(batch(*rows))
    keys = [call["headers"]["Idempotency-Key"] for call in receiver.calls]
    assert keys[0] == keys[1] != keys[2]


def test_the_address_may_name_the_row(hook, receiver, tmp_path):
    receiver.script = [(200, {}, {}), (404, {}, {"message": "who?"}), (204, {}, "")]
    url = receiver.url + "/{@key}?name={name}"
    settings = DestinationSettings(type="webhook", options={"url": url, "method": "PUT", "delete_method": "DELETE"})
    one = destinations.make("hook", settings, folder=tmp_path, environment={})
    one.open()
    one.deliver(batch())
    assert receiver.calls[0]["path"] == "PUT /rows/c%201%2F%C3%A9?name=Zo%C3%AB"
    with pytest.raises(Rejected, match=r"HTTP 404: who\?"):
        one.deliver(batch())
    removal = Operation("2" * 32, "people", "c2", 2, "delete", {})
    assert one.deliver(batch(removal))[0].status == "done"
    assert (receiver.calls[2]["path"], receiver.calls[2]["body"]) == ("DELETE /rows/c2?name=", b"")
    one.close()


def test_removals_go_in_calls_of_their_own_where_they_have_a_method(hook, receiver):
    receiver.script = [(200, {}, {})]
    removal = Operation("2" * 32, "people", "c2", 2, "delete", {})
    one = hook(batch_size=5, delete_method="DELETE")
    with pytest.raises(Rejected):
        one.deliver(batch(ROW, removal))
    assert receiver.calls == []
    one.deliver(batch(removal))
    assert receiver.calls[0]["path"] == "DELETE /rows"
    assert json.loads(sent(receiver)[1])["rows"][0]["key"] == "c2"


@pytest.mark.parametrize(
    ("status", "kind", "in_doubt"),
    [
        (400, Rejected, None),
        (401, Unusable, None),
        (403, Unusable, None),
        (404, Unusable, None),
        (302, Unusable, None),
        (408, Later, True),
        (409, Rejected, None),
        (413, Rejected, None),
        (422, Rejected, None),
        (423, Later, False),
        (429, Later, False),
        (500, Later, True),
        (502, Later, True),
        (503, Later, False),
        (504, Later, True),
        (524, Later, True),
    ],
)
def test_what_a_status_means(hook, receiver, status, kind, in_doubt):
    receiver.script = [(status, {}, {"error": {"message": "because"}})]
    with pytest.raises(kind) as told:
        hook().deliver(batch())
    assert (told.value.code, told.value.message) == (f"HTTP {status}", "because")
    if in_doubt is not None:
        assert told.value.in_doubt is in_doubt
    if kind is not Later:
        assert told.value.advice


def test_statuses_and_paths_of_success_are_settings(hook, receiver):
    receiver.script = [
        (202, {}, {}),
        (200, {}, {}),
        (200, {}, {"status": {"ok": "yes"}}),
        (200, {}, {"status": {"ok": "no"}}),
    ]
    only = hook(success=[202])
    assert only.deliver(batch())[0].status == "done"
    with pytest.raises(Rejected, match="HTTP 200"):
        only.deliver(batch())
    looked = hook(success_path="$.status.ok", success_value="yes")
    assert looked.deliver(batch())[0].status == "done"
    with pytest.raises(Rejected, match=r'\$.status.ok is "no", expected "yes"'):
        looked.deliver(batch())
    receiver.script = [(409, {}, {})]
    with pytest.raises(Later):
        hook(retry=[409]).deliver(batch())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"Retry-After": "Sun, 01 Mar 2026 12:01:00 GMT", "Date": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Sun, 01 Mar 2026 12:00:00 GMT", "Date": "Sun, 01 Mar 2026 12:00:30 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_by_the_receivers_own_clock(headers, seconds):
    import httpx2

    assert Answer(503, httpx2.Headers(headers), "", None).retry_after == seconds


def test_a_connection_that_is_refused_left_nothing_and_one_that_breaks_may_have(hook, receiver):
    receiver.script = ["hang up"]
    with pytest.raises(Later) as broken:
        hook().deliver(batch())
    assert broken.value.in_doubt
    one = hook(url="http://127.0.0.1:9/nobody", timeout_seconds=2)
    with pytest.raises(Later) as refused:
        one.deliver(batch())
    assert not refused.value.in_doubt
    assert refused.value.message.startswith("hook cannot be reached: ")


def test_a_slow_answer_is_in_doubt(hook, receiver):
    receiver.script = ["sleep"]
    with pytest.raises(Later) as slow:
        hook(timeout_seconds=0.05).deliver(batch())
    assert (slow.value.code, slow.value.in_doubt) == ("ReadTimeout", True)


def test_a_redirect_is_not_followed(hook, receiver):
    receiver.script = [(307, {"Location": receiver.url}, {})]
    with pytest.raises(Unusable):
        hook().deliver(batch())
    assert len(receiver.calls) == 1


def test_a_huge_answer_is_cut(hook, receiver):
    receiver.script = [(400, {}, "x" * 6_000_000)]
    with pytest.raises(Rejected) as told:
        hook().deliver(batch())
    assert len(told.value.message) <= 300
    assert len(told.value.response) <= 2_000


def test_missing_secrets_are_named(hook):
    with pytest.raises(Unusable) as told:
        hook({"A": "x", "C": ""}, signature_env="A", secret_headers={"X-One": "B", "X-Two": "C"})
    assert str(told.value) == "SECRET_MISSING: the environment has no B, C"
    assert told.value.advice == "set them (`.env.example` lists the names), then run again"
    with pytest.raises(Unusable) as told:
        hook({"A": "x"}, secret_headers={"X-One": "B"})
    assert told.value.advice == "set it (`.env.example` lists the names), then run again"


@pytest.mark.parametrize("value", ["two\nlines", "näme"])
def test_a_secret_that_no_header_may_hold(hook, value):
    with pytest.raises(Unusable, match="TOKEN holds a line break or a character that no header may have") as told:
        hook({"TOKEN": value}, secret_headers={"Authorization": "TOKEN"})
    assert value not in str(told.value)


def test_a_secret_address_is_not_logged_or_told(receiver, tmp_path, caplog):
    secret = f"{receiver.url}/s3cr3t-path?token=s3cr3t-token"
    settings = DestinationSettings(type="webhook", options={"url_env": "HOOK", "secret_headers": {"X": "TOKEN"}})
    one = destinations.make("hook", settings, folder=tmp_path, environment={"HOOK": secret, "TOKEN": "s3cr3t-header"})
    with caplog.at_level(logging.DEBUG):
        one.open()
        one.deliver(batch())
        receiver.script = [(400, {}, {"error": "no"})]
        with pytest.raises(Rejected):
            one.deliver(batch())
        one.close()
    assert "s3cr3t" not in caplog.text
    assert "s3cr3t" not in repr(one)
    assert receiver.calls[0]["headers"]["X"] == "s3cr3t-header"
    assert {secret, "rows/s3cr3t-path", "token=s3cr3t-token", "s3cr3t-header"} <= set(one.secrets)


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({}, ["destinations.hook.options: give either `url` or `url_env`, not both"]),
        (
            {"url": "ftp://x", "batchsize": 3},
            ["destinations.hook.options.batchsize: no such option; known: batch_size, "],
        ),
        ({"url": "ftp://x"}, ["`url` must begin with http:// or https://, found 'ftp://x'"]),
        ({"url": "http://x/{name}", "batch_size": 2}, ["an address with {field} takes one row a call"]),
        (
            {"url": "http://x", "batch_size": 0, "method": "GET"},
            ["options.method: found 'GET'; Input should be 'POST', 'PUT' or 'PATCH'", "options.batch_size: found 0;"],
        ),
    ],
)
def test_wrong_options_are_told_at_once(tmp_path, options, lines):
    with pytest.raises(ConfigError) as told:
        destinations.make("hook", DestinationSettings(type="webhook", options=options), folder=tmp_path)
    for line in lines:
        assert line in str(told.value)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "https://x", "headers": {"Authorization": "Bearer s3cr3t"}},
        {"url": "https://x", "headers": {"X-Api-Key": "s3cr3t"}},
        {"url": "https://me:s3cr3t@x/"},
        {"url": "https://x/?api_token=s3cr3t"},
    ],
)
def test_a_secret_in_the_options_is_refused_and_not_shown(tmp_path, options):
    with pytest.raises(ConfigError, match=r"looks (like|as if it held) a secret: name an environment variable") as told:
        destinations.make("hook", DestinationSettings(type="webhook", options=options), folder=tmp_path)
    assert "s3cr3t" not in str(told.value)


def test_a_key_in_the_address_that_comes_from_the_row_is_no_secret(tmp_path):
    settings = DestinationSettings(type="webhook", options={"url": "https://x/rows?key={@key}"})
    assert destinations.make("hook", settings, folder=tmp_path).limits.max_rows == 1


def test_an_unknown_kind_of_destination(tmp_path):
    with pytest.raises(
        ConfigError,
        match="there is no destination named 'pigeon'; known: files, hubspot, kafka, nothing, postgres, salesforce, webhook",
    ):
        destinations.make("x", DestinationSettings(type="pigeon"), folder=tmp_path)
