"""Commands around the language model: texts, risks, what it costs. All of them work without one, and say so."""

import json
from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from headwater.cli.apps import app, messages_app, risk_app
from headwater.cli.options import HERE, Json, Project
from headwater.cli.screen import line, print_json, table
from headwater.cli.within import beside, between, stack_of, with_stack
from headwater.records.counted import counted


@beside(messages_app, "preview")
def preview(
    segment: Annotated[str, typer.Option(envvar="SEGMENT", help="a segment")],
    n: Annotated[int, typer.Option("--n", help="how many texts: those for the largest buckets", min=1, max=200)] = 5,
    offers: Annotated[
        bool | None, typer.Option("--offers/--no-offers", help="only with, or only without a discount")
    ] = None,
    sent: Annotated[bool, typer.Option("--sent", help="also print what was sent to the model, whole")] = False,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Template beside the language model's text, for somebody made up; the text is kept, and waits for approval."""
    with stack_of(project) as stack:
        found = stack.preview_messages(segment, n, offers)
        why = "" if found else stack.why_no_preview(segment, offers)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        line("skipped", segment, why)
    for one in found:
        line("ok" if one.text and not one.problems else "warn", one.about, f"for {counted(one.customers, 'customer')}")
        _print_text("template", one.shown_template)
        if one.shown_text is not None:
            _print_text(f"text {(one.text_id or '')[:8]}, {one.state}", one.shown_text)
        else:
            line("note", "", f"no text: {one.reason}")
        for problem in one.problems:
            line("warn", "", problem)
        if sent:
            print(json.dumps(one.request, ensure_ascii=False, indent=1))
        else:
            told = json.loads(one.request["prompt"])
            line("note", "", f"the model is told: {', '.join(told)}; --sent shows all of it")


def _print_text(name: str, text: Any) -> None:
    line("note", name, text.subject)
    for part in text.body.splitlines():
        if part.strip():
            line("note", "", f"  {part}")


@between(messages_app, "list")
def list_(
    state: Annotated[
        Literal["proposed", "approved", "passed", "rejected", "refused"] | None, typer.Option(help="only these")
    ] = None,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Texts on record, newest first: version, state, what the checks found, who approved."""
    with stack_of(project) as stack:
        found = stack.message_texts(state)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        print("no texts; `headwater messages preview --segment NAME` has some written")
    for one in found:
        ok = {"approved": "ok", "passed": "ok", "proposed": "note", "rejected": "skipped", "refused": "warn"}[one.state]
        who = f" by {one.decided_by}" if one.decided_by else ""
        line(ok, f"{one.text_id[:8]} v{one.version}", f"{one.state}{who}: {one.slot.about}: {one.text.subject}")
        for problem in one.problems:
            line("note", "", f"{problem.rule}: {problem.sentence}")


Texts = Annotated[list[str] | None, typer.Argument(help="ids of texts, or how they begin")]
Campaign = Annotated[str | None, typer.Option(help="all texts of this template that wait")]


@between(messages_app, "approve")
def approve(texts: Texts = None, campaign: Campaign = None, project: Project = HERE, as_json: Json = False) -> None:
    """Let texts go out: those named, or all of a campaign that wait."""
    with_stack(project, as_json, lambda stack: stack.review_messages("approved", texts or (), campaign))


@between(messages_app, "reject")
def reject(texts: Texts = None, campaign: Campaign = None, project: Project = HERE, as_json: Json = False) -> None:
    """Keep texts from going out, also such as were approved; the template, or an older text, takes their place."""
    with_stack(project, as_json, lambda stack: stack.review_messages("rejected", texts or (), campaign))


@beside(risk_app, "ask")
def ask(project: Project = HERE, as_json: Json = False) -> None:
    """Have the language model estimate a churn risk per segment and bucket."""
    with_stack(project, as_json, lambda stack: stack.ask_risks())


@beside(risk_app, "calibrate")
def calibrate(project: Project = HERE, as_json: Json = False) -> None:
    """Hold the estimates against outcomes; refused, with the reason, unless they are worth something."""
    with_stack(project, as_json, lambda stack: stack.calibrate_risks())


@between(risk_app, "show")
def show_risks(project: Project = HERE, as_json: Json = False) -> None:
    """The calibrated churn risk of every segment and bucket, highest first."""
    with stack_of(project) as stack:
        rows = stack.risks()
    if as_json:
        print_json(rows)
    else:
        table(rows)


@between(app, "llm")
def llm(project: Project = HERE, as_json: Json = False) -> None:
    """The language model: which one, whether it may be asked, what it came to today."""
    with stack_of(project) as stack:
        found = stack.language_model()
    if as_json:
        print_json(asdict(found))
        return
    settings, today = found.settings, found.today
    if not settings.enabled:
        line(
            "skipped",
            "model",
            "off: decisions.llm.enabled is false; rules and templates answer, and nothing is sent anywhere",
        )
    else:
        key = (
            f"key in {settings.key_env}"
            if found.has_key
            else f"no key in {settings.key_env}, so rules and templates answer"
        )
        where = settings.base_url or f"the endpoint of {settings.provider}"
        line("ok" if found.has_key else "warn", "model", f"{settings.model or 'no model is named'} at {where}, {key}")
    statuses = ", ".join(f"{count:,} {status}" for status, count in found.statuses.items()) or "none"
    line("note", "calls today", statuses)
    line(
        "note",
        "spent today",
        f"{today.cost:.4f} of {settings.daily_cost:g}, {today.tokens:,} of {settings.daily_tokens:,} tokens, {today.seconds:.1f} of"
        f" {settings.daily_seconds:g} s",
    )
    if found.calibration is None:
        line(
            "note", "churn risk", "not calibrated, so of no use; `headwater risk ask`, then `headwater risk calibrate`"
        )
    else:
        usable = found.calibration["usable"]
        line(
            "ok" if usable else "warn",
            "churn risk",
            ("" if usable else "may not be used: ") + found.calibration["reason"],
        )
