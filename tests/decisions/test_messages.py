"""Texts: what they may not say, how they are filled, who lets them go out, which decision gets which."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from decision_cases import Candidates

from headwater.clock import FixedClock
from headwater.decisions import messages, messages_texts
from headwater.decisions.batch import decide_batch
from headwater.decisions.customer import Customer
from headwater.decisions.llm.settings import LlmSettings
from headwater.decisions.messages import DEFAULTS, Text, fill
from headwater.decisions.messages_check import problems
from headwater.decisions.messages_texts import Slot
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import DEFAULT
from headwater.errors import ConfigError, InvalidValue

NOON = FixedClock(datetime(2026, 3, 2, 12, tzinfo=UTC))
ON = LlmSettings(enabled=True, model="m", claims=["since 1931"], links=["shop.example"], features=["activity_status"])
GOOD = Text("We thought of you", "Hello {first_name},\n\nthere is something new to look at, and it is for you.")
OFFERED = Text("We thought of you", "Hello {first_name},\n\nyou have {offer} off the next order with us.")


def said(body: str = "", subject: str = "We thought of you", *, offers: bool = False, **changes) -> set[str]:
    text = Text(subject, f"Hello {{first_name}}, this is for you and it is from us. {body}")
    return {one.rule for one in problems(text, ON.model_copy(update=changes), offers=offers)}


def test_good_texts_have_no_problem():
    assert problems(GOOD, ON, offers=False) == []
    assert problems(OFFERED, ON, offers=True) == []
    assert said("We are here since 1931, see https://shop.example/new for it.") == set()
    german = Text("Schön, von Ihnen zu hören", "Hallo {first_name}, wir haben an Sie gedacht und es ist für Sie da.")
    assert problems(german, ON.model_copy(update={"language": "de"}), offers=False) == []


@pytest.mark.parametrize("template", DEFAULTS.values(), ids=lambda one: one.name)
@pytest.mark.parametrize("offers", [True, False])
def test_our_own_templates_pass_the_checks_that_texts_must_pass(template, offers):
    text = template.text(offers=offers)
    says = "{offer}" in text.body
    found = {one.rule for one in problems(text, ON.model_copy(update={"claims": ["Three", "two"]}), offers=says)}
    assert found == set()


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("Take 20% off.", "discount"),
        ("Take twenty percent off.", "discount"),
        ("Take ２０ ％ off.", "discount"),
        ("It is half price.", "discount"),
        ("Only 5 € today.", "discount"),
        ("Use the code SPRING.", "discount"),
        ("A free gift waits.", "discount"),
        ("Ein Rabatt wartet.", "discount"),
        ("You get your money back.", "discount"),
        ("We are the best.", "claim"),
        ("9 of 10 people like it.", "claim"),
        ("Since 1841.", "claim"),
        ("Limited time.", "claim"),
        ("It ends tonight.", "claim"),
        ("It is clinically tested.", "claim"),
        ("See https://evil.example.", "link"),
        ("See evil.com.", "link"),
        ("See evil dot com.", "link"),
        ("See https://shop.example.evil.io/x.", "link"),
        ("Write to a@b.example.", "link"),
        ("[here](x)", "link"),
        ("<b>new</b>", "link"),
        ("Call +49 170 1234567.", "link"),
        ("Please ACT  NOW.", "forbidden_word"),
        ("Gua\u200branteed.", "script"),
        ("Сome back.", "script"),
        ("Use {last_name}.", "placeholder"),
        ("Use {offer}.", "placeholder"),
        ("Use {first_name.__class__}.", "placeholder"),
        ("A brace { here.", "placeholder"),
        ("\nDear Anna, welcome.", "name"),
        ("x" * 1000, "length"),
    ],
)
def test_what_a_text_may_not_say(body, rule):
    assert rule in said(body)


def test_all_problems_are_told_at_once_with_what_was_found():
    text = Text("Hi\nthere", "Dear Anna, 20% off at evil.com, guaranteed.")
    found = problems(text, ON, offers=True)
    assert {one.rule for one in found} == {
        "placeholder", "discount", "claim", "link", "length", "language", "forbidden_word", "name",
    }  # fmt: skip
    sentences = " / ".join(one.sentence for one in found)
    for part in (
        "found '%': a discount or a price",
        "found 'evil.com'",
        "greets 'Anna'",
        "the body does not name {offer}",
    ):
        assert part in sentences


def test_another_language_is_a_problem():
    assert "language" in {
        one.rule for one in problems(Text("Hallo", "Wir haben an Sie gedacht und es ist für Sie da."), ON, offers=False)
    }
    assert "language" in {one.rule for one in problems(Text("Ok", "Xyz qwv"), ON, offers=False)}


def test_placeholders_are_filled_last_and_once():
    person = {"first_name": "  {offer} Ada"}
    assert fill(Text("{first_name}", "{offer} for {first_name}"), {"first_name": "Ada"}, 7.5) == Text(
        "Ada", "7.5% for Ada"
    )
    assert fill(Text("Hi {first_name}", "x"), person, 5.0).subject == "Hi there", "what a name contains is not filled"


@pytest.mark.parametrize(
    "name",
    [
        "http://evil.example",
        "win.com",
        "a@b",
        "<b>",
        "Ada\nBcc: all",
        "x" * 41,
        "",
        "   ",
        "90 off",
        None,
        7,
        "A\u200b",
    ],
)
def test_a_name_that_is_none_gives_way_to_a_neutral_word(name):
    assert fill(Text("Hi {first_name}", "x"), {"first_name": name}, None).subject == "Hi there"


@pytest.mark.parametrize("name", ["Ada", "Åsa-Maria", "O'Neil", "María José", "李雷"])
def test_a_name_is_a_name(name):
    assert fill(Text("Hi {first_name}", "x"), {"first_name": name}, None).subject == f"Hi {name}"


def test_a_projects_own_templates_stand_over_the_defaults_and_all_problems_are_told(tmp_path):
    path = tmp_path / "decisioning" / "messages.yml"
    path.parent.mkdir()
    path.write_text("winback_soft: {subject: Back again, body: 'Hello {first_name}', offer_body: '{offer} for you'}")
    found = messages.load(tmp_path)
    assert found["winback_soft"].text(offers=True).body == "{offer} for you"
    assert found["winback_soft"].about == DEFAULTS["winback_soft"].about
    assert found["onboarding_tips"] == DEFAULTS["onboarding_tips"]
    path.write_text("a: {subject: '{offer}', bodi: x}\nb: [1]\n")
    with pytest.raises(ConfigError) as error:
        messages.load(tmp_path)
    assert str(error.value).splitlines()[1:] == [
        "  a.bodi: no such part; there are about, subject, body, offer_subject, offer_body",
        "  a.body: missing",
        "  a.subject: {offer} is no placeholder here; there are {first_name}, {last_name}",
        "  b: found list; expected about, subject, body, offer_subject, offer_body",
    ]


# ------------------------------------------------------------------ on record


def slot(status: str | None = "Dormant", *, offers: bool = True) -> Slot:
    return Slot("winback_soft", "high_value_lapse_risk", (("activity_status", status),), offers, "en")


def decided(shop: Candidates, run: str, settings: LlmSettings = ON) -> dict[str, tuple[str, str | None, str]]:
    """Decide, assign, and say for each customer: source, reason, subject."""
    config = DecisionSettings(holdout_share=0, seed=hash(run) % 1000, discount_cap=10)
    decide_batch(shop.warehouse, config, NOON, run, table=DEFAULT)
    messages_texts.assign(shop.warehouse, settings, DEFAULTS, NOON)
    rows = shop.warehouse.execute(
        "select m.customer_id, m.source, m.reason, m.subject from headwater.decision_messages m"
        " join headwater.decision_log l using (decision_id) where l.run_id = ?",
        [run],
    ).fetchall()
    return {customer: tuple(rest) for customer, *rest in rows}


def people() -> list[Customer]:
    base = ("high_value_lapse_risk", True, True, True, True, "Europe/Paris", 50.0)
    return [
        Customer("a", *base, features={"activity_status": "Dormant", "revenue_band": "0"}),
        Customer("b", *base, features={"activity_status": "Active", "revenue_band": "0"}),
        Customer("c", None, True, True, True, True, "Europe/Paris", 50.0, {}),
    ]


def test_a_text_goes_out_when_somebody_has_approved_it_and_not_before(shop):
    shop.fill(people())
    kept = messages_texts.keep(shop.warehouse, ON, slot(), OFFERED, "call", NOON)
    assert (kept.state, kept.version, kept.problems) == ("proposed", 1, ())
    template = DEFAULTS["winback_soft"].offer.subject
    assert decided(shop, "first") == {
        "a": ("template", "a text waits for approval", template),
        "b": ("template", "no text for this segment and bucket", template),
    }
    (approved,) = messages_texts.review(shop.warehouse, "approved", "ann", NOON, campaign="winback_soft")
    assert (approved.state, approved.decided_by) == ("approved", "ann")
    assert decided(shop, "second")["a"] == ("llm", None, OFFERED.subject)
    newer = messages_texts.keep(shop.warehouse, ON, slot(), Text("A newer one", OFFERED.body), "call", NOON)
    assert newer.version == 2
    assert decided(shop, "third")["a"] == ("llm", None, OFFERED.subject), "the newer one waits"
    messages_texts.review(shop.warehouse, "approved", "ann", NOON, text_ids=[newer.text_id[:8]])
    assert decided(shop, "fourth")["a"] == ("llm", None, "A newer one")
    messages_texts.review(shop.warehouse, "rejected", "bob", NOON, text_ids=[newer.text_id])
    assert decided(shop, "fifth")["a"] == ("llm", None, OFFERED.subject), "the older one again"
    assert decided(shop, "sixth", LlmSettings(features=["activity_status"]))["a"] == (
        "template",
        "decisions.llm.enabled is false",
        template,
    )


def test_assigning_again_changes_nothing_and_a_text_for_no_offer_is_another_slot(shop):
    shop.fill(people())
    messages_texts.keep(shop.warehouse, ON, slot(offers=False), GOOD, "call", NOON)
    messages_texts.review(shop.warehouse, "approved", "ann", NOON, campaign="winback_soft")
    assert decided(shop, "first")["a"][0] == "template", "there is an offer, and the text has none"
    again = messages_texts.assign(shop.warehouse, ON, DEFAULTS, NOON)
    assert (again.decisions, shop.count("decision_messages")) == (0, 2)


def test_a_text_approved_after_the_decision_takes_the_templates_place_until_the_message_is_sent(shop):
    twins = [replace(one, customer_id=f"{one.customer_id}{n}") for one in people() for n in (1, 2)]
    shop.fill(twins)
    messages_texts.keep(shop.warehouse, ON, slot(), OFFERED, "call", NOON)
    assert {one[0] for one in decided(shop, "only").values()} == {"template"}
    shop.warehouse.execute(
        "insert into headwater.contact_ledger select 'k', customer_id, channel, 'c', decision_id, decided_at"
        " from headwater.decision_log where customer_id = 'a1'"
    )
    (approved,) = messages_texts.review(shop.warehouse, "approved", "ann", NOON, campaign="winback_soft")
    assert messages_texts.waiting(shop.warehouse, ON)[approved.slot.slot_id] == 1
    done = messages_texts.assign(shop.warehouse, ON, DEFAULTS, NOON)
    assert (done.decisions, done.by_model) == (1, 1)
    said = "select customer_id, source, subject from headwater.decision_messages order by 1"
    sources = {customer: (source, subject) for customer, source, subject in shop.warehouse.execute(said).fetchall()}
    template = ("template", DEFAULTS["winback_soft"].offer.subject)
    assert sources == {"a1": template, "a2": ("llm", OFFERED.subject), "b1": template, "b2": template}
    messages_texts.review(shop.warehouse, "rejected", "bob", NOON, text_ids=[approved.text_id])
    assert messages_texts.assign(shop.warehouse, ON, DEFAULTS, NOON).by_template == {messages_texts.NO_TEXT: 1}
    assert shop.count("decision_messages") == 4


def test_the_same_text_twice_is_one_version_and_a_refused_one_cannot_be_approved(shop):
    first = messages_texts.keep(shop.warehouse, ON, slot(), OFFERED, "call", NOON)
    assert messages_texts.keep(shop.warehouse, ON, slot(), OFFERED, "other", NOON) == first
    bad = messages_texts.keep(shop.warehouse, ON, slot(), Text("90% off", OFFERED.body), "call", NOON)
    assert (bad.state, {one.rule for one in bad.problems}) == ("refused", {"discount", "claim"})
    with pytest.raises(InvalidValue, match="was refused by the checks and cannot be used: found '%'"):
        messages_texts.review(shop.warehouse, "approved", "ann", NOON, text_ids=[bad.text_id])
    with pytest.raises(InvalidValue, match="'zzz' fits 0 texts; `headwater messages list` shows their ids"):
        messages_texts.review(shop.warehouse, "approved", "ann", NOON, text_ids=["zzz"])
    with pytest.raises(InvalidValue, match="campaign: found 'spring'; texts wait for: winback_soft"):
        messages_texts.review(shop.warehouse, "approved", "ann", NOON, campaign="spring")
    assert shop.count("message_texts") == 2


def test_under_sampling_a_share_waits_and_the_rest_goes_out(shop):
    sampled = ON.model_copy(update={"review": "sample", "sample_share": 0.25})
    states = [
        messages_texts.keep(shop.warehouse, sampled, slot(str(n)), OFFERED, "call", NOON).state for n in range(200)
    ]
    assert set(states) == {"proposed", "passed"}
    assert 30 < states.count("proposed") < 70
    assert (
        messages_texts.keep(shop.warehouse, sampled, slot(), Text("90% off", OFFERED.body), "", NOON).state == "refused"
    )


def test_nobodys_name_is_in_the_ledger(shop):
    shop.fill(people())
    decided(shop, "first")
    bodies = [row[0] for row in shop.warehouse.execute("select body from headwater.decision_messages").fetchall()]
    assert len(bodies) == 2
    assert all("{first_name}" in body and "5%" in body for body in bodies)


def test_sql_and_python_agree_on_what_a_name_is(shop):
    names = [
        "Ada",
        " Ada ",
        "Åsa-Maria",
        "O'Neil",
        "María José",
        "李雷",
        "x" * 40,
        "x" * 41,
        "",
        " ",
        "a",
        "win.com",
        "a@b",
        "<b>",
    ]
    names += [
        "Ada\nBcc",
        "90 off",
        "A\u200bB",
        "{x}",
        "a/b",
        "a:b",
        "100%",
        "A\tB",
        "\nAda",
        "Jean Luc de la",
        "٣ Ada",
        "A\u00a0B",
    ]
    for name in names:
        told = shop.warehouse.value(f"select {messages.is_name_sql('n')} from (select ?::varchar as n)", [name])
        assert told == messages.is_name(name), repr(name)
    assert shop.warehouse.value(f"select {messages.is_name_sql('null')}") is False
