"""A refusal names the rule and the numbers."""

import pytest

from headwater.segments.gate import Measures, judge
from headwater.segments.settings import MlSegmentSettings

SETTINGS = MlSegmentSettings()
GOOD = {
    "smallest_jaccard": 0.84,
    "weakest": "Loyal Customers",
    "smallest_share": 0.13,
    "rarest": "Champions (VIPs)",
    "overlap": 0.93,
    "auc": 0.776,
    "auc_baseline": 0.764,
    "auc_noise": 0.004,
    "tighter": 0.39,
    "tighter_by_chance": 0.03,
    "silhouette": 0.36,
}
REFUSED = {
    "smallest_jaccard": (
        {"smallest_jaccard": 0.55},
        "smallest_jaccard: Loyal Customers is found again with Jaccard 0.55, at least 0.60 is required; fewer clusters (segments.ml.k) or more customers would help.",
    ),
    "structure": (
        {"tighter": 0.01},
        "structure: the clusters are 1.0% tighter than in shuffled copies of the data, more than 3.0% is required, and their silhouette is 0.36: "
        "this looks like noise cut into pieces; set segments.ml.require_structure to false if slices are what is wanted.",
    ),
    "min_share": (
        {"smallest_share": 0.008},
        "min_share: Champions (VIPs) holds 0.80% of the customers, at least 1.00% is required; fewer clusters (segments.ml.k) would help.",
    ),
    "min_overlap": (
        {"overlap": 0.62},
        "min_overlap: 62% of the customers would keep their segment, at least 70% is required; lower segments.ml.min_overlap if the change is wanted.",
    ),
    "max_auc": (
        {"auc": 0.98},
        "max_auc: the churn head reaches AUC 0.980 out of time, above 0.900; that is too good to be true: look for a feature that knows the future.",
    ),
    "recency_auc": (
        {"auc": 0.75},
        "recency_auc: the churn head reaches AUC 0.750 out of time, below the 0.764 of recency alone (chance explains 0.004); the features add nothing.",
    ),
}


def test_a_good_model_is_promoted_without_a_word() -> None:
    verdict = judge(Measures(**GOOD), SETTINGS)
    assert (verdict.outcome, verdict.reason, verdict.unmeasured) == ("promoted", "", ())


@pytest.mark.parametrize("rule", REFUSED)
def test_each_rule_refuses_with_its_numbers(rule: str) -> None:
    change, sentence = REFUSED[rule]
    verdict = judge(Measures(**{**GOOD, **change}), SETTINGS)
    assert verdict.outcome == "refused"
    assert [(finding.rule, finding.sentence) for finding in verdict.refusals] == [(rule, sentence)]
    assert verdict.refusals[0].setting in MlSegmentSettings.model_fields


def test_a_weak_model_is_doubtful() -> None:
    verdict = judge(Measures(**{**GOOD, "smallest_jaccard": 0.70}), SETTINGS)
    assert verdict.outcome == "doubtful"
    assert verdict.reason == (
        "smallest_jaccard: Loyal Customers is found again with Jaccard 0.70, below 0.75; the segments are published as doubtful."
    )


def test_all_findings_at_once() -> None:
    verdict = judge(
        Measures(**{**GOOD, "smallest_jaccard": 0.5, "smallest_share": 0.001, "overlap": 0.1, "auc": 0.99}), SETTINGS
    )
    assert {finding.rule for finding in verdict.refusals} == {"smallest_jaccard", "min_share", "min_overlap", "max_auc"}


def test_chance_may_put_the_head_a_little_below_recency() -> None:
    assert judge(Measures(**{**GOOD, "auc": 0.761}), SETTINGS).outcome == "promoted"


def test_what_was_not_measured_is_named() -> None:
    verdict = judge(Measures(**{**GOOD, "overlap": None, "auc": None}), SETTINGS)
    assert verdict.outcome == "promoted"
    assert verdict.unmeasured == (
        "min_overlap (there is no model before)",
        "churn_auc (no two periods of orders to compare)",
    )


def test_the_gate_is_configurable() -> None:
    loose = SETTINGS.model_copy(update={"min_jaccard": 0.4, "warn_jaccard": 0.45, "require_structure": False})
    assert judge(Measures(**{**GOOD, "smallest_jaccard": 0.5, "tighter": 0.0}), loose).outcome == "promoted"
