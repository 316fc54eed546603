"""Checks that a log must pass before any number made from it is believed. A check that fails says what it found, what it
expected, and what to look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.stats import chi2

SRM_P = 0.001
"""Below this a split is not the one that was meant."""

LEAST_ESS = 0.10
"""Effective rows, as a share of all: below this a handful of rows speak for everybody."""


@dataclass(frozen=True)
class Check:
    """One check. `value` is what was measured (a p-value, a mean, a share)."""

    name: str
    ok: bool
    value: float
    sentence: str


def sample_ratio(observed: Mapping[str, int], expected: Mapping[str, float]) -> Check:
    """Whether the groups have the sizes that were meant (`expected`: share by group). Pearson's chi-square, p < .001 fails."""
    n = sum(observed.values())
    wanted = {group: n * share / sum(expected.values()) for group, share in expected.items()}
    statistic = sum((observed.get(group, 0) - size) ** 2 / size for group, size in wanted.items() if size > 0)
    p = float(chi2.sf(statistic, max(1, len(wanted) - 1)))
    sizes = ", ".join(f"{group} {observed.get(group, 0):,} (meant {size:,.0f})" for group, size in wanted.items())
    sentence = f"groups: {sizes}, p = {p:.3g}"
    if p < SRM_P:
        sentence += "; customers were lost or added on one side, so the groups cannot be compared. Look for rows dropped after the draw"
    return Check("sample_ratio", p >= SRM_P, p, sentence)


def mean_weight(name: str, weights: np.ndarray) -> Check:
    """Whether importance weights (n,) average to 1 within three standard errors, as they do when propensities are true."""
    n = len(weights)
    mean = float(weights.mean())
    error = float(weights.std(ddof=1)) / sqrt(n) if n > 1 else float("inf")
    ok = abs(mean - 1) <= 3 * error + 1e-9
    sentence = f"mean importance weight of {name}: {mean:.4f} ± {error:.4f}"
    if not ok:
        sentence += (
            "; it must be 1. The logged propensities are not those of the actions taken: log the probability after the guardrails, "
            "of the action that was carried out"
        )
    return Check(f"mean_weight:{name}", ok, mean, sentence)


def effective_rows(weights: np.ndarray) -> Check:
    """Kish's effective sample size as a share of the rows."""
    total = float((weights**2).sum())
    share = float(weights.sum()) ** 2 / total / len(weights) if total > 0 else 0.0
    sentence = f"effective sample size: {share * len(weights):,.0f} of {len(weights):,} rows ({share:.1%})"
    if share < LEAST_ESS:
        sentence += (
            f"; below {LEAST_ESS:.0%} a few rows decide. Explore more, or judge a policy nearer to the logged one"
        )
    return Check("effective_rows", share >= LEAST_ESS, share, sentence)
