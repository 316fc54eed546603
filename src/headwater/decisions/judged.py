"""What a decision was judged by, as its key: as long as all of it is the same, the decision stands.

Judged by: goal, as-of and configuration; segment; what the lasting rules made of every option (consent, address, margin and
what a shop's own rules look at show here, and only where they change an answer); the buckets that are logged. Not part of it
is what momentary rules say (`Guardrail.momentary`): the hour passes, and our own message must not unmake the decision to send
it.

Both paths make the key of the same three parts; a batch makes the first two once per situation and per bucket.
"""

from collections.abc import Callable, Sequence

from headwater.decisions.guardrails.base import Guardrail
from headwater.decisions.hashing import digest, digest_sql
from headwater.decisions.settle import Verdict

WIDTH = 16
"""Hexadecimal characters of each of the first two parts: together with the id they fit one block of the hash."""


def lasting(
    passing: frozenset[str], verdicts: tuple[Verdict, ...], without: Callable[[], tuple[Verdict, ...]]
) -> tuple[Verdict, ...]:
    """The verdicts as the lasting rules alone give them. `passing`: the momentary rules; `without` judges by the others, and is
    asked only if one of them blocked."""
    return without() if any(by in passing for by, _ in verdicts) else verdicts


def momentary(rules: Sequence[Guardrail]) -> frozenset[str]:
    """Names of the rules whose word passes."""
    return frozenset(rule.name for rule in rules if rule.momentary)


def asked(goal: str, as_of: str, config: str) -> str:
    """What holds for everybody: goal, the data's moment (ISO), configuration."""
    return digest("key", goal, as_of, config)


def standing(segment: str | None, verdicts: Sequence[Verdict]) -> str:
    """Segment and verdicts (those of `lasting`)."""
    return digest(segment or "", *(f"{by or ''}:{discount}" for by, discount in verdicts))


def first(question: str, standing: str) -> str:
    """The first part: what `asked` and `standing` gave."""
    return digest(question, standing)[:WIDTH]


def look(tokens: Sequence[str | None]) -> str:
    """The second part: the buckets in the order of FEATURES."""
    return digest(*(token or "" for token in tokens))[:WIDTH]


def key(standing: str, look: str, customer_id: str) -> str:
    """The key of a decision, from its first part, its second, and the customer."""
    return digest(standing, look, customer_id)


def key_sql(standing: str, look: str, customer_id: str) -> str:
    """SQL of `key`."""
    return digest_sql(standing, look, customer_id)


def again(base: str, decision_id: str) -> str:
    """The key for what is decided anew though it was judged the same before: after another decision, or when a momentary rule
    no longer says no. `decision_id` is that of the decision it supersedes."""
    return digest(base, decision_id)


def again_sql(base: str, decision_id: str) -> str:
    """SQL of `again`."""
    return digest_sql(base, decision_id)
