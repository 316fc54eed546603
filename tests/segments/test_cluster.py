import numpy as np
import pytest
from segment_shops import blobs, features_of
from sklearn.cluster import KMeans

from headwater.segments.cluster import Model, Segment, fit, prepare, standardise
from headwater.segments.features import ConstantColumn


def test_features_are_logged_and_standardised() -> None:
    values = blobs(1_000, 1)
    model, z = prepare(features_of(values))
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(axis=0), 1)
    np.testing.assert_allclose(z[:, 0] * model.scales[0] + model.means[0], np.log1p(values[:, 0]))
    np.testing.assert_array_equal(standardise(model, values), z)


def test_it_is_scikit_learns_k_means() -> None:
    features = features_of(blobs(2_000, 1))
    found = fit(features, 5, seed=7)
    plain = KMeans(5, n_init=10, random_state=7).fit(prepare(features)[1])
    np.testing.assert_allclose(found.model.centroids, plain.cluster_centers_, atol=1e-9)
    np.testing.assert_array_equal(found.labels, plain.labels_)
    assert found.inertia == pytest.approx(plain.inertia_)


def test_the_same_data_and_seed_give_the_same_model() -> None:
    features = features_of(blobs(2_000, 1))
    assert fit(features, 5, 7).model.as_dict() == fit(features, 5, 7).model.as_dict()


def test_net_negative_customers_are_clipped_and_do_not_become_a_cluster_of_their_own() -> None:
    values = blobs(2_000, 1)
    values[:40, 2] = -500.0
    values[40:50, 2] = 0.0
    features = features_of(values)
    found = fit(features, 5, 7)
    assert found.model.floor == pytest.approx(np.quantile(values[50:, 2], 0.01))
    np.testing.assert_allclose(
        found.z[:50, 2] * found.model.scales[2] + found.model.means[2], np.log1p(found.model.floor)
    )
    spending = np.bincount(found.labels[50:], minlength=5)
    assert (spending > 100).all()
    assert features.unspent.sum() == 50


def test_without_repeat_buyers_the_frequency_is_left_out() -> None:
    values = blobs(500, 1)
    values[:, 1] = 1
    found = fit(features_of(values), 3, 1)
    assert found.model.columns == ("recency_days", "monetary")
    assert found.model.centroids.shape == (3, 2)


def test_one_spend_for_all_but_those_who_gave_back_is_a_constant_column() -> None:
    values = blobs(500, 1)
    values[:, 2] = 20.0
    values[:9, 2] = -3.0
    with pytest.raises(ConstantColumn, match="monetary is 20 for all 500 customers"):
        prepare(features_of(values))


def test_a_model_survives_json() -> None:
    model = fit(features_of(blobs(500, 1)), 3, 1).model.named((Segment(3, "a"), Segment(1, "b"), Segment(0, "c")))
    again = Model.from_dict(model.as_dict())
    assert again.as_dict() == model.as_dict()
    np.testing.assert_array_equal(again.centroids, model.centroids)
