import json
import sys

import numpy as np
import pytest
from test_learned import a_log

from headwater.decisions.learned import Learned, learner, text_of
from headwater.decisions.policy import Context
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import DEFAULT
from headwater.errors import ConfigError

ALL = np.ones((4, 3), bool)
STANDINGS = np.array([[1.0, 0], [0.0, 0], [1, 1], [0, 1]])


def test_it_finds_what_is_best_and_what_is_stored_answers_the_same():
    one = learner("vowpal_wabbit", 0.02)
    trained = one.train(a_log(2_000))
    given = trained.probs(STANDINGS, ALL)
    assert given.sum(axis=1) == pytest.approx(np.ones(4))
    assert given.min() >= 0.02 - 1e-9
    assert given.argmax(axis=1).tolist() == [1, 2, 1, 2]
    restored = one.restore(json.loads(text_of(trained)))
    assert (restored.probs(STANDINGS, ALL) == given).all()
    some = restored.probs(STANDINGS, np.array([[True, False, True]] * 4))
    assert (some[:, 1] == 0).all()
    policy = Learned(DEFAULT, DecisionSettings(), restored, trained.actions, "vowpal_wabbit", "conversion:1")
    found = policy.probs(Context("conversion", "s", {"activity_status": "Active"}), ["a", "b", "none"])
    assert max(found, key=found.__getitem__) == "b"


def test_without_it_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "vowpalwabbit", None)
    with pytest.raises(
        ConfigError, match=r"not installed; `pip install 'headwater\[vw\]'` brings it, or use softmax or thompson"
    ):
        learner("vowpal_wabbit", 0.02).train(a_log(50))
