import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from chexnet_fast.metrics import auc_intervals, auc_table, mean_auc, threshold_metrics, undefined_aucs
from chexnet_fast.predictions import Predictions
from chexnet_fast.reference import CHEXNET_PAPER, REPRODUCE_CHEXNET, comparison_table
from shards.findings import NIH_FINDINGS


def make(probabilities: np.ndarray, labels: np.ndarray, findings: tuple[str, ...] | None = None) -> Predictions:
    names = findings or tuple(f"F{index}" for index in range(probabilities.shape[1]))
    image_ids = [f"{number}.png" for number in range(len(probabilities))]
    return Predictions(image_ids, None, probabilities.astype(np.float32), labels.astype(np.float32), names)


def drawn(seed: int, num_images: int = 300, num_findings: int = 3) -> Predictions:
    generator = np.random.default_rng(seed)
    labels = generator.random((num_images, num_findings)) < 0.3
    probabilities = np.round(np.clip(generator.random(labels.shape) * 0.8 + 0.2 * labels, 0, 1), 2)
    return make(probabilities, labels)


def test_auc_counts_ordered_pairs_and_half_of_ties() -> None:
    probabilities = np.array([[0.9], [0.5], [0.5], [0.1]])
    table = auc_table(make(probabilities, np.array([[1], [1], [0], [0]])))
    assert table.iloc[0].to_dict() == {"label": "F0", "auc": 3.5 / 4, "num_positive": 2, "num_negative": 2}


def test_unknown_labels_are_left_out() -> None:
    probabilities = np.array([[0.9], [0.8], [0.2], [0.99]])
    table = auc_table(make(probabilities, np.array([[1], [0], [0], [np.nan]])))
    assert table["auc"][0] == 1
    assert (table["num_positive"][0], table["num_negative"][0]) == (1, 2)


def test_a_finding_of_one_class_is_named_and_left_out_of_the_mean() -> None:
    predictions = make(np.array([[0.9, 0.3], [0.2, 0.4]]), np.array([[1, 0], [0, 0]]), ("Mass", "Hernia"))
    table = auc_table(predictions)
    assert np.isnan(table["auc"][1])
    assert undefined_aucs(table) == ["Hernia: no AUC (0 positive and 2 negative images), left out of the mean"]
    assert mean_auc(table) == 1
    intervals = auc_intervals(predictions, ["a", "b"]).set_index("label")
    assert intervals.loc["Hernia"].isna().all()
    assert intervals.loc["Mean"].tolist() == [1, 1]


def test_no_finding_with_both_classes_gives_nan_not_an_error() -> None:
    predictions = make(np.array([[0.9], [0.3]]), np.array([[1], [1]]))
    assert np.isnan(mean_auc(auc_table(predictions)))
    assert auc_intervals(predictions, ["a", "b"])["low"].isna().all()


def test_predictions_without_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="join them"):
        auc_table(Predictions(["a"], None, np.zeros((1, 1), np.float32), None, ("Mass",)))


def test_interval_with_one_image_a_patient_is_delongs() -> None:
    """DeLong's variance, written out pair by pair, is what the fast form gives up to (n - 1) against n."""
    predictions = drawn(0, num_images=400, num_findings=1)
    truth, scores = predictions.labels[:, 0] == 1, predictions.probabilities[:, 0]
    pairs = (scores[truth][:, None] > scores[~truth]) + 0.5 * (scores[truth][:, None] == scores[~truth])
    variance = pairs.mean(1).var(ddof=1) / truth.sum() + pairs.mean(0).var(ddof=1) / (~truth).sum()
    row = auc_intervals(predictions, predictions.image_ids).iloc[0]
    assert row["high"] - row["low"] == pytest.approx(2 * 1.959964 * np.sqrt(variance), rel=0.01)
    assert (row["high"] + row["low"]) / 2 == pytest.approx(auc_table(predictions)["auc"][0], abs=1e-12)


def test_copies_of_an_image_in_one_patient_do_not_narrow_the_interval() -> None:
    once = drawn(1)
    thrice = make(np.repeat(once.probabilities, 3, axis=0), np.repeat(once.labels, 3, axis=0))
    patients = np.repeat(once.image_ids, 3)
    pd.testing.assert_frame_equal(auc_intervals(thrice, patients), auc_intervals(once, once.image_ids))
    naive = auc_intervals(thrice, thrice.image_ids)
    assert (naive["high"] - naive["low"] < auc_intervals(thrice, patients)["high"] - naive["low"]).all()


def test_interval_covers_the_true_auc_about_95_times_in_100() -> None:
    """Scores are normal with means 0 and 1: the true AUC is 0.760; patients have three equal images."""
    covered = 0
    generator = np.random.default_rng(0)
    for _ in range(400):
        truth = generator.random(150) < 0.4
        scores = 1 / (1 + np.exp(-(generator.normal(size=150) + truth)))
        predictions = make(np.repeat(scores, 3)[:, None], np.repeat(truth, 3)[:, None])
        row = auc_intervals(predictions, np.repeat(np.arange(150), 3)).iloc[0]
        covered += row["low"] <= 0.76025 <= row["high"]
    assert 0.92 <= covered / 400 <= 0.98


@given(st.integers(0, 10_000))
def test_metrics_at_a_half_are_scikit_learns(seed: int) -> None:
    predictions = drawn(seed, num_images=120, num_findings=1)
    truth, predicted = predictions.labels[:, 0], predictions.probabilities[:, 0] >= 0.5
    row = threshold_metrics(predictions).iloc[0]
    assert row["f1"] == pytest.approx(sk.f1_score(truth, predicted))
    assert row["recall"] == pytest.approx(sk.recall_score(truth, predicted))
    assert row["precision"] == pytest.approx(sk.precision_score(truth, predicted))
    assert row["mcc"] == pytest.approx(sk.matthews_corrcoef(truth, predicted))
    assert row["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted))
    specificity = sk.recall_score(truth, predicted, pos_label=0)
    assert row["g_mean"] == pytest.approx(np.sqrt(row["recall"] * specificity))


def test_a_metric_without_a_denominator_is_nan() -> None:
    row = threshold_metrics(make(np.array([[0.4], [0.1]]), np.array([[1], [0]]))).iloc[0]
    assert np.isnan(row["precision"])
    assert np.isnan(row["mcc"])
    assert (row["f1"], row["recall"], row["accuracy"], row["num_predicted_positive"]) == (0, 0, 0.5, 0)


def test_published_aucs_cover_the_findings_and_have_the_published_means() -> None:
    assert set(CHEXNET_PAPER) == set(REPRODUCE_CHEXNET) == set(NIH_FINDINGS)
    assert round(np.mean(list(CHEXNET_PAPER.values())), 4) == 0.8414
    assert round(np.mean(list(REPRODUCE_CHEXNET.values())), 3) == 0.838


def test_comparison_keeps_the_order_and_ends_with_means_over_the_same_findings() -> None:
    predictions = make(
        np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.5]]), np.array([[1, 1, 0], [0, 0, 0]]), ("Mass", "Edema", "Hernia")
    )
    table = comparison_table(auc_table(predictions), auc_intervals(predictions, ["a", "b"]))
    assert table["finding"].tolist() == ["Mass", "Edema", "Hernia", "Mean"]
    mean = table.iloc[-1]
    assert mean["auc"] == 0.5
    assert mean["chexnet_paper"] == pytest.approx((0.8676 + 0.8878) / 2)
    assert mean["reproduce_chexnet"] == pytest.approx((0.8377 + 0.8945) / 2)
    assert table["num_positive"].tolist()[:3] == [1, 1, 0]
    assert table["num_positive"].isna().tolist() == [False, False, False, True]


def test_a_publication_that_lacks_a_finding_has_no_mean() -> None:
    predictions = make(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[1, 1], [0, 0]]), ("Mass", "Fracture"))
    table = comparison_table(auc_table(predictions), auc_intervals(predictions, ["a", "b"]))
    assert table["chexnet_paper"].isna().tolist() == [False, True, True]
