import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.decisions.policy import POLICIES, Context, Policy, make
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import DEFAULT
from headwater.errors import ConfigError, StageFailed

ACTIONS = ["winback_soft", "winback_soft_no_offer", "none"]
LAPSING = Context("90d_clv", "high_value_lapse_risk")


@given(
    st.sampled_from(list(POLICIES)),
    st.floats(0, 1),
    st.sampled_from(["90d_clv", "engagement"]),
    st.sampled_from([*DEFAULT.segments, None]),
    st.lists(st.sampled_from([action.action_id for action in DEFAULT.actions]), unique=True),
)
def test_probabilities_are_of_exactly_these_actions_and_sum_to_one(name, epsilon, goal, segment, actions):
    policy = make(DEFAULT, DecisionSettings(policy=name, epsilon=epsilon))
    found = policy.probs(Context(goal, segment), [*actions, "none"])
    assert list(found) == [*actions, "none"]
    assert sum(found.values()) == pytest.approx(1)
    assert min(found.values()) >= 0


def test_the_default_table_is_sure_and_gives_none_when_its_action_is_gone():
    policy = make(DEFAULT, DecisionSettings())
    assert policy.probs(LAPSING, ACTIONS) == {"winback_soft": 1, "winback_soft_no_offer": 0, "none": 0}
    assert policy.probs(LAPSING, ["winback_soft_no_offer", "none"]) == {"winback_soft_no_offer": 0, "none": 1}


def test_epsilon_mixed_gives_each_action_its_share():
    policy = make(DEFAULT, DecisionSettings(policy="epsilon_mixed", epsilon=0.3))
    assert policy.probs(LAPSING, ACTIONS) == pytest.approx(
        {"winback_soft": 0.8, "winback_soft_no_offer": 0.1, "none": 0.1}
    )
    assert policy.version == "1:epsilon=0.3"


class Answers(Policy):
    """Says what it is told to."""

    name = "answers"
    said: dict

    def _probs(self, context, actions):
        return self.said


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            {"none": 1.0},
            "answered for ['none']; it was asked for exactly ['none', 'winback_soft', 'winback_soft_no_offer']",
        ),
        ({"winback_soft": 0.5, "winback_soft_no_offer": 0.0, "none": 0.4}, "must be ≥ 0 and sum to 1"),
        ({"winback_soft": 1.5, "winback_soft_no_offer": -0.5, "none": 0.0}, "must be ≥ 0 and sum to 1"),
        ({"winback_soft": float("nan"), "winback_soft_no_offer": 0.5, "none": 0.5}, "must be ≥ 0 and sum to 1"),
    ],
)
def test_an_answer_that_is_no_distribution_is_refused(said, sentence):
    policy = Answers(DEFAULT, DecisionSettings())
    policy.said = said
    with pytest.raises(StageFailed) as error:
        policy.probs(LAPSING, ACTIONS)
    assert sentence in str(error.value)


def test_a_policy_adds_no_action_and_the_floor_reaches_every_one():
    policy = Answers(DEFAULT, DecisionSettings())
    policy.said, policy.floor = {"winback_soft": 1.0, "winback_soft_no_offer": 0.0, "none": 0.0}, 0.05
    assert policy.probs(LAPSING, ACTIONS) == pytest.approx(
        {"winback_soft": 0.9, "winback_soft_no_offer": 0.05, "none": 0.05}
    )
    policy.said = {**policy.said, "free_car": 0.0}
    with pytest.raises(StageFailed):
        policy.probs(LAPSING, ACTIONS)


def test_an_unknown_policy_names_the_known_ones():
    with pytest.raises(
        ConfigError, match="there is no policy named 'clever'; known: champion, default_table, epsilon_mixed"
    ):
        make(DEFAULT, DecisionSettings(policy="clever"))
