"""The texts of messages: one template per name that actions use, and how a text becomes a message.

A text has placeholders, {first_name} and {offer}, and is kept and checked with them. They are filled at the very end, one person
at a time: so nobody's name stands in a template, in a ledger or in what a language model is told, and the offer is what the
guardrails have left of it. A project brings its own templates in `decisioning/messages.yml`; a template that it does not name
keeps the default.

    winback_soft:
      subject: "We kept your favourites"
      body: "Hello {first_name}, …"
      offer_body: "Hello {first_name}, … {offer} off …"      # when there is a discount
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from headwater.errors import ConfigError
from headwater.settings import read_yaml

FILE = Path("decisioning") / "messages.yml"
OFFER = "offer"
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
NAMES = ("first_name", "last_name")
NEUTRAL: dict[str, str] = {
    "de": "liebe Kundin, lieber Kunde",
    "en": "there",
    "es": "de nuevo",
    "fr": "à vous",
    "it": "di nuovo",
    "nl": "daar",
    "pt": "de novo",
}
"""What stands after a greeting where a person has no given name, or one that is none; a family name is left out."""
_LONGEST_VALUE = 40
_NOT_IN_VALUES = ("/", ".", ":", "@", "<", ">", "{", "}", "%")
"""A name with one of these is a link, an address or markup that somebody signed up with, and is not repeated."""


@dataclass(frozen=True)
class Text:
    """A subject and a body, with placeholders."""

    subject: str
    body: str


@dataclass(frozen=True)
class Template:
    """What a message says when nothing better does. `offer`: when there is a discount; without one the plain text."""

    name: str
    about: str
    plain: Text
    offer: Text

    def text(self, *, offers: bool) -> Text:
        return self.offer if offers else self.plain


def _template(name: str, about: str, subject: str, body: str, offer_body: str = "") -> Template:
    return Template(name, about, Text(subject, body), Text(subject, offer_body or body))


DEFAULTS: dict[str, Template] = {
    one.name: one
    for one in (
        _template(
            "winback_soft",
            "Somebody who used to buy has not been seen for a while. Friendly, no pressure.",
            "It has been a while",
            "Hello {first_name},\n\nwe have not seen you for a while. A few things are new since your last visit; have a look"
            " when it suits you.\n\nYour shop",
            "Hello {first_name},\n\nwe have not seen you for a while. If you would like to come back, {offer} off your next order"
            " is waiting for you.\n\nYour shop",
        ),
        _template(
            "onboarding_tips",
            "Somebody is new and has looked around, and has not ordered. Helpful.",
            "Three things that help to find your way",
            "Hello {first_name},\n\nwelcome. Search by what you need, keep what you like on your list, and ask us whatever is"
            " unclear.\n\nYour shop",
        ),
        _template(
            "nps_followup_then_offer",
            "Somebody was not content. A colleague will get in touch; apologetic, concrete.",
            "We would like to make it right",
            "Hello {first_name},\n\nyou told us that we did not do well. A colleague would like to hear what went wrong and put"
            " it right.\n\nYour shop",
            "Hello {first_name},\n\nyou told us that we did not do well. A colleague would like to hear what went wrong, and"
            " {offer} off your next order is our apology.\n\nYour shop",
        ),
    )
}


def load(folder: Path) -> dict[str, Template]:
    """The templates of a project: its own over the defaults. Raises ConfigError with all problems of the file at once."""
    path = folder / FILE
    if not path.is_file():
        return dict(DEFAULTS)
    try:
        given = read_yaml(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, Mapping):
        raise ConfigError(f"{path}: found {type(given).__name__}; expected template names with subject and body")
    found, problems = dict(DEFAULTS), list[str]()
    for name, parts in given.items():
        wrong = _problems(str(name), parts)
        problems += wrong
        if not wrong:
            plain = Text(parts["subject"], parts["body"])
            offer = Text(parts.get("offer_subject", plain.subject), parts.get("offer_body", plain.body))
            before = found.get(str(name))
            found[str(name)] = Template(str(name), parts.get("about", before.about if before else ""), plain, offer)
    if problems:
        raise ConfigError("\n".join([f"{path} has {len(problems)} problem(s):", *problems]))
    return found


_PARTS = ("about", "subject", "body", "offer_subject", "offer_body")


def _problems(name: str, parts: Any) -> list[str]:
    if not isinstance(parts, Mapping):
        return [f"  {name}: found {type(parts).__name__}; expected {', '.join(_PARTS)}"]
    found = [f"  {name}.{key}: no such part; there are {', '.join(_PARTS)}" for key in parts if key not in _PARTS]
    found += [f"  {name}.{key}: missing" for key in ("subject", "body") if key not in parts]
    for key, value in parts.items():
        if not isinstance(value, str) or not value.strip():
            found.append(f"  {name}.{key}: found {value!r}; expected a text")
            continue
        allowed = {*NAMES, OFFER} if key.startswith("offer") else {*NAMES}
        found += [
            f"  {name}.{key}: {{{one}}} is no placeholder here; there are {', '.join(f'{{{a}}}' for a in sorted(allowed))}"
            for one in PLACEHOLDER.findall(value)
            if one not in allowed and key != "about"
        ]
    return found


def percent(discount: float, language: str) -> str:
    """A discount as a message says it: `5%` in English, `7,5 %` elsewhere, where a blank that does not break stands before the sign."""
    return f"{discount:g}%" if language == "en" else f"{discount:g}\u00a0%".replace(".", ",")


def fill(text: Text, person: Mapping[str, Any], discount: float | None, language: str = "en") -> Text:
    """The message for one person. A value that is missing, too long, or looks like anything but a name gives way to a neutral
    word. What a value contains is never filled again."""

    def value(name: str) -> str:
        if name == OFFER:
            return percent(discount or 0, language)
        said = person.get(name)
        if isinstance(said, str) and is_name(said):
            return said.strip(" ")
        return NEUTRAL[language] if name == "first_name" else ""

    def filled(part: str) -> str:
        return PLACEHOLDER.sub(lambda found: value(found[1]), part)

    return Text(filled(text.subject), filled(text.body))


def is_name_sql(column: str) -> str:
    """SQL of `is_name`, false for a null."""
    signs = "".join(_NOT_IN_VALUES)
    pattern = rf"[^\s\pC\d{signs}]([^\pC\d{signs}]{{0,{_LONGEST_VALUE - 2}}}[^\s\pC\d{signs}])?"
    return f"coalesce(regexp_full_match(trim({column}), '{pattern}'), false)"


def is_name(value: str) -> bool:
    """Whether a value may be repeated to the person: short, on one line, and no link, address or markup in it."""
    said = value.strip(" ")
    return (
        0 < len(said) <= _LONGEST_VALUE
        and not said[0].isspace()
        and not said[-1].isspace()
        and not any(unicodedata.category(character).startswith("C") for character in said)
        and not any(character in _NOT_IN_VALUES or character in "0123456789" for character in said)
    )
