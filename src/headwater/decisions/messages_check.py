"""What a text by a language model may not say; a text with a problem is never sent.

All problems are told at once. The checks read the text as a reader sees it: compatibility forms are made plain (NFKC), invisible
characters are a problem of their own, letters of another script among Latin ones too. The lists are short and err on the side
of refusing: a refused text costs nothing, the template is sent.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headwater.decisions.llm.settings import LlmSettings
from headwater.decisions.messages import OFFER, PLACEHOLDER, Text


@dataclass(frozen=True)
class Problem:
    """`rule`: placeholder | discount | claim | link | length | language | forbidden_word | script | name."""

    rule: str
    sentence: str


_DISCOUNT = (
    r"%|‰|\bper ?cent\b|\bprozent\b|\bpour ?cent\b|\bpor ?ciento\b|\bpor ?cento\b|\bper ?cento\b|\bprocent\b",
    r"[$€£¥]|\b(?:eur|usd|gbp|chf|euros?|dollars?|pounds?|bucks)\b",
    r"\b(?:half|halb\w*|moiti[eé]|mitad|met[aà]|metade|halve) (?:price|off|preis|prix|precio|prezzo|preço|prijs)\b|\bbogo\b",
    r"\b(?:discount|rabatt|remise|r[eé]duction|descuento|sconto|desconto|korting|voucher|coupon|gutschein|promo(?:tion)? ?code)\w*",
    r"\b(?:for free|free (?:gift|shipping|delivery|of charge)|gratis|kostenlos\w*|gratuit\w*|gratuito|gratuita|on the house)\b",
    r"\b(?:cash ?back|money back|refund\w*)\b|\bcode[: ]+[A-Z0-9]{4,}",
)
_CLAIMS = (
    r"\d",
    r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|thirty|fifty|hundred|thousand)s? (?:per|out of|times|days?|hours?)\b",
    r"\b(?:best|cheapest|lowest|fastest|leading|number one|unbeatable|award\w*|certified|proven|clinically|scientifically|always|never)\b",
    r"\b(?:only today|today only|ends (?:today|tonight|soon)|limited (?:time|stock|offer)|while stocks? last|hurry|final (?:hours|chance)|expires?)\b",
    r"\b(?:beste[nrsm]?|günstigste\w*|billigste\w*|garantiert|nur heute|meilleure?s?|mejor(?:es)?|migliore?|melhor(?:es)?|beste)\b",
)
_LINK = re.compile(
    r"https?\s*:|www\.|\bhxxp|[\w.+-]+\s*@\s*[\w-]+|\b[\w-]+(?:\.|\s*\[\.\]\s*|\s+dot\s+)(?:com|net|org|io|co|de|fr|es|it|nl|pt|uk|eu|shop|info|biz|app|ru|cn|xyz|top|link|click|store|me|ly)\b"
    r"|\[[^\]]*\]\([^)]*\)|<[^>]*>|\+?\d[\d ()/-]{6,}\d",
    re.IGNORECASE,
)
_GREETED = re.compile(
    r"^\W*(?i:hi|hello|hey|dear|hallo|liebe[rs]?|guten tag|bonjour|salut|ch[eè]re?|hola|querid[oa]|ciao|car[oa]|olá|beste)\s+(?!\{)([A-ZÀ-Þ]\w+)",
    re.MULTILINE,
)
_COMMON = {
    "en": "the and you your we to of a is are for with have our it that in on this when not be as has been",
    "de": "der die das und sie ihr ihre wir zu von ist sind für mit haben ein eine es dass im auf wenn nicht den dich du",
    "fr": "le la les et vous votre nous de du des est sont pour avec avons un une il que dans sur ce si ne pas",
    "es": "el la los las y usted su tu nosotros de del es son para con hemos un una que en si no te lo nos",
    "it": "il lo la i gli e tu tuo voi noi di del è sono per con abbiamo un una che in su se non ti ci",
    "nl": "de het een en je jouw u uw wij we van is zijn voor met hebben dat in op als niet er ons",
    "pt": "o a os as e você seu sua nós de do da é são para com temos um uma que em se não te no nos",
}
_WORDS = {name: frozenset(words.split()) for name, words in _COMMON.items()}
_LEAST_WORDS = 4


def problems(text: Text, settings: LlmSettings, *, offers: bool) -> list[Problem]:
    """All that is wrong with a text; empty when it may be shown to whoever approves."""
    whole = f"{text.subject}\n{text.body}"
    plain = unicodedata.normalize("NFKC", whole)
    bare = PLACEHOLDER.sub(" ", _without(plain, settings.claims))
    return [
        *_placeholders(text, settings.fields, offers=offers),
        *_found("discount", _DISCOUNT, bare, "a discount or a price; only {offer} may name one"),
        *_found("claim", _CLAIMS, bare, "a number or a claim that decisions.llm.claims does not hold"),
        *_links(bare, settings.links),
        *_lengths(text, settings),
        *_language(bare, settings.language),
        *_forbidden(plain, settings.forbidden_words),
        *_script(whole, plain),
        *[
            Problem("name", f"it greets {name!r}; only {{first_name}} may name a person")
            for name in _GREETED.findall(plain)
        ],
    ]


def _without(text: str, claims: Iterable[str]) -> str:
    for claim in sorted(claims, key=len, reverse=True):
        text = text.replace(unicodedata.normalize("NFKC", claim), " ")
    return text


def _placeholders(text: Text, fields: Sequence[str], *, offers: bool) -> list[Problem]:
    allowed = {*fields, OFFER} if offers else {*fields}
    found = []
    for part, value in (("subject", text.subject), ("body", text.body)):
        rest = PLACEHOLDER.sub("", value)
        if "{" in rest or "}" in rest:
            found.append(Problem("placeholder", f"the {part} has a brace that belongs to no placeholder"))
        for name in PLACEHOLDER.findall(value):
            if name not in allowed:
                known = ", ".join(f"{{{one}}}" for one in sorted(allowed)) or "none"
                found.append(Problem("placeholder", f"the {part} has {{{name}}}; allowed here: {known}"))
    if offers and f"{{{OFFER}}}" not in text.body:
        found.append(Problem("placeholder", "the body does not name {offer}, and there is one"))
    return found


def _found(rule: str, patterns: Iterable[str], text: str, what: str) -> list[Problem]:
    hits = [hit[0] for pattern in patterns for hit in [re.search(pattern, text, re.IGNORECASE)] if hit]
    return [Problem(rule, f"found {hit.strip()!r}: {what}") for hit in hits]


def _links(text: str, hosts: Sequence[str]) -> list[Problem]:
    for host in hosts:
        text = re.sub(rf"https://{re.escape(host)}(?:/[\w/-]*)?(?![\w.@-])", " ", text, flags=re.IGNORECASE)
    allowed = ", ".join(hosts) or "none"
    return [
        Problem(
            "link", f"found {hit[0].strip()!r}: links, addresses, numbers to call and markup; allowed hosts: {allowed}"
        )
        for hit in _LINK.finditer(text)
    ]


def _lengths(text: Text, settings: LlmSettings) -> list[Problem]:
    found = []
    if not text.subject.strip() or not text.body.strip():
        found.append(Problem("length", "the subject or the body is empty"))
    if len(text.subject) > settings.max_subject:
        found.append(
            Problem("length", f"the subject has {len(text.subject)} characters, {settings.max_subject} are allowed")
        )
    if len(text.body) > settings.max_body:
        found.append(Problem("length", f"the body has {len(text.body)} characters, {settings.max_body} are allowed"))
    if any(sign in text.subject for sign in "\n\r\t"):
        found.append(Problem("length", "the subject has more than one line"))
    return found


def _language(text: str, wanted: str) -> list[Problem]:
    words = re.findall(r"[^\W\d_]+", text.lower())
    counts = {name: sum(word in known for word in words) for name, known in _WORDS.items()}
    if len(words) < _LEAST_WORDS or counts[wanted] == 0:
        return [Problem("language", f"it cannot be told that this is {wanted}")]
    best = max(counts, key=lambda name: (counts[name], name == wanted))
    return [] if counts[wanted] == counts[best] else [Problem("language", f"it reads like {best}, expected {wanted}")]


def _forbidden(text: str, words: Iterable[str]) -> list[Problem]:
    flat = " ".join(text.casefold().split())
    return [
        Problem("forbidden_word", f"found {word!r}")
        for word in words
        if re.search(rf"(?<!\w){re.escape(' '.join(word.casefold().split()))}(?!\w)", flat)
    ]


def _script(whole: str, plain: str) -> list[Problem]:
    found = []
    hidden = {c for c in whole if unicodedata.category(c) in ("Cf", "Cc", "Co", "Cn", "Cs") and c not in "\n\r\t"}
    if hidden:
        found.append(
            Problem("script", f"found invisible characters: {', '.join(sorted(f'U+{ord(c):04X}' for c in hidden))}")
        )
    other = {c for c in plain if c.isalpha() and not unicodedata.name(c, "").startswith("LATIN")}
    if other:
        found.append(Problem("script", f"found letters that are not Latin: {''.join(sorted(other))!r}"))
    return found
