"""What a model must show before it may take the champion's place.

A refusal is an object: the rule, the sentence with the numbers, and what would make it pass. A doubt lets the model through
with `stability = 'doubtful'`. A refused model stays a challenger; only when there is no champion at all is it published,
as doubtful, because doubtful segments that say so are more use than none.
"""

from dataclasses import dataclass
from typing import Literal

from headwater.segments.settings import MlSegmentSettings
from headwater.segments.stability import Structure

Outcome = Literal["promoted", "doubtful", "refused"]


@dataclass(frozen=True)
class Finding:
    """One rule that was not met. `setting` is the key under `segments.ml` in headwater.yml that sets the threshold."""

    rule: str
    sentence: str
    found: float
    required: float
    setting: str


@dataclass(frozen=True)
class Measures:
    """What the gate looks at; None where it could not be measured (no model before, no orders to look ahead in).

    `auc_noise`: AUC points by which chance alone moves the head against the recency baseline (one-sided 95 %).
    `tighter`, `tighter_by_chance`, `silhouette`: see `stability.Structure`."""

    smallest_jaccard: float
    weakest: str
    smallest_share: float
    rarest: str
    overlap: float | None = None
    auc: float | None = None
    auc_baseline: float | None = None
    auc_noise: float = 0.0
    tighter: float | None = None
    tighter_by_chance: float = 0.0
    silhouette: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """`refusals` and `doubts` carry the numbers; `unmeasured` names the rules that could not be looked at."""

    outcome: Outcome
    refusals: tuple[Finding, ...]
    doubts: tuple[Finding, ...]
    unmeasured: tuple[str, ...]

    @property
    def reason(self) -> str:
        """All findings as one text; empty when there is nothing to say."""
        return " ".join(finding.sentence for finding in (*self.refusals, *self.doubts))


def judge(measures: Measures, settings: MlSegmentSettings) -> Verdict:
    """Apply every rule; all findings at once."""
    refusals: list[Finding] = []
    doubts: list[Finding] = []
    unmeasured: list[str] = []
    jaccard = measures.smallest_jaccard
    if jaccard < settings.min_jaccard:
        refusals.append(
            Finding(
                "smallest_jaccard",
                f"smallest_jaccard: {measures.weakest} is found again with Jaccard {jaccard:.2f}, at least "
                f"{settings.min_jaccard:.2f} is required; fewer clusters (segments.ml.k) or more customers would help.",
                jaccard,
                settings.min_jaccard,
                "min_jaccard",
            )
        )
    elif jaccard < settings.warn_jaccard:
        doubts.append(
            Finding(
                "smallest_jaccard",
                f"smallest_jaccard: {measures.weakest} is found again with Jaccard {jaccard:.2f}, below "
                f"{settings.warn_jaccard:.2f}; the segments are published as doubtful.",
                jaccard,
                settings.warn_jaccard,
                "warn_jaccard",
            )
        )
    if settings.require_structure and not _structured(measures):
        refusals.append(
            Finding(
                "structure",
                f"structure: the clusters are {measures.tighter or 0:.1%} tighter than in shuffled copies of the data, more than "
                f"{measures.tighter_by_chance:.1%} is required, and their silhouette is {measures.silhouette:.2f}: this looks like noise cut "
                "into pieces; set segments.ml.require_structure to false if slices are what is wanted.",
                measures.tighter or 0.0,
                measures.tighter_by_chance,
                "require_structure",
            )
        )
    if measures.smallest_share < settings.min_share:
        refusals.append(
            Finding(
                "min_share",
                f"min_share: {measures.rarest} holds {measures.smallest_share:.2%} of the customers, at least "
                f"{settings.min_share:.2%} is required; fewer clusters (segments.ml.k) would help.",
                measures.smallest_share,
                settings.min_share,
                "min_share",
            )
        )
    if measures.overlap is None:
        unmeasured.append("min_overlap (there is no model before)")
    elif measures.overlap < settings.min_overlap:
        refusals.append(
            Finding(
                "min_overlap",
                f"min_overlap: {measures.overlap:.0%} of the customers would keep their segment, at least "
                f"{settings.min_overlap:.0%} is required; lower segments.ml.min_overlap if the change is wanted.",
                measures.overlap,
                settings.min_overlap,
                "min_overlap",
            )
        )
    if measures.auc is None or measures.auc_baseline is None:
        unmeasured.append("churn_auc (no two periods of orders to compare)")
    elif measures.auc > settings.max_auc:
        refusals.append(
            Finding(
                "max_auc",
                f"max_auc: the churn head reaches AUC {measures.auc:.3f} out of time, above {settings.max_auc:.3f}; that is too "
                "good to be true: look for a feature that knows the future.",
                measures.auc,
                settings.max_auc,
                "max_auc",
            )
        )
    elif measures.auc < measures.auc_baseline - measures.auc_noise:
        refusals.append(
            Finding(
                "recency_auc",
                f"recency_auc: the churn head reaches AUC {measures.auc:.3f} out of time, below the {measures.auc_baseline:.3f} of "
                f"recency alone (chance explains {measures.auc_noise:.3f}); the features add nothing.",
                measures.auc,
                measures.auc_baseline,
                "max_auc",
            )
        )
    outcome: Outcome = "refused" if refusals else "doubtful" if doubts else "promoted"
    return Verdict(outcome, tuple(refusals), tuple(doubts), tuple(unmeasured))


def _structured(measures: Measures) -> bool:
    if measures.tighter is None:
        return True
    return Structure(measures.tighter, measures.tighter_by_chance, measures.silhouette).there
