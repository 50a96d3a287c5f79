import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from chexnet_fast.predictions import Predictions, join_labels, read_predictions, write_predictions
from shards.errors import UserError


def predictions_of(probabilities: np.ndarray, findings: tuple[str, ...] = ("Mass", "Hernia")) -> Predictions:
    image_ids = [f"{number:08d}_000.png" for number in range(len(probabilities))]
    return Predictions(image_ids, None, probabilities.astype(np.float32), None, findings)


def test_csv_has_the_published_format(tmp_path: Path) -> None:
    write_predictions(predictions_of(np.array([[0.0116194645, 0.5], [1e-6, 1.0]])), tmp_path / "preds.csv")
    assert (tmp_path / "preds.csv").read_text() == (
        "Image Index,prob_Mass,prob_Hernia\n00000000_000.png,0.0116194645,0.5\n00000001_000.png,1e-06,1.0\n"
    )


@given(arrays(np.float32, (7, 2), elements=st.floats(0, 1, width=32)))
def test_round_trip_is_exact(tmp_path_factory: pytest.TempPathFactory, probabilities: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "preds.csv.gz"
    written = predictions_of(probabilities)
    write_predictions(written, path)
    read = read_predictions(path)
    assert read.image_ids == written.image_ids
    assert read.findings == written.findings
    assert np.array_equal(read.probabilities, probabilities)


def test_compressed_bytes_are_reproducible(tmp_path: Path) -> None:
    predictions = predictions_of(np.array([[0.25, 0.5]]))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_predictions(predictions, tmp_path / name / "preds.csv.gz")
    assert (tmp_path / "a/preds.csv.gz").read_bytes() == (tmp_path / "b/preds.csv.gz").read_bytes()


@pytest.mark.real
def test_the_reference_predictions_are_written_again_byte_for_byte(nih: Path, tmp_path: Path) -> None:
    original = nih / "reference/preds.csv.gz"
    write_predictions(read_predictions(original), tmp_path / "preds.csv")
    assert (tmp_path / "preds.csv").read_bytes() == gzip.decompress(original.read_bytes())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Image Index,Mass\na.png,0.5\n", "prob_<Finding>"),
        ("image,prob_Mass\na.png,0.5\n", "Image Index"),
        ("Image Index,prob_Mass\na.png,0.5\na.png,0.6\n", "image a.png stands twice"),
        ("Image Index,prob_Mass\na.png,0.5\nb.png,high\n", "prob_Mass of b.png is 'high'"),
        ("Image Index,prob_Mass\na.png,1.5\n", "not a probability"),
        ("Image Index,prob_Mass\na.png,\n", "not a probability"),
        ("", "cannot be read"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "preds.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_predictions(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere.csv"):
        read_predictions(tmp_path / "nowhere.csv")


def test_labels_are_joined_by_image_and_finding() -> None:
    predictions = predictions_of(np.zeros((2, 2)))
    labels = pd.DataFrame(
        {"image_id": ["other.png", "00000001_000.png", "00000000_000.png"], "Hernia": [1, 1, 0], "Mass": [1, np.nan, 1]}
    )
    joined = join_labels(predictions, labels).labels
    assert np.array_equal(joined, [[1, 0], [np.nan, 1]], equal_nan=True)
    assert joined.dtype == np.float32


def test_images_and_findings_without_labels_are_counted_and_named() -> None:
    predictions = predictions_of(np.zeros((3, 2)))
    labels = pd.DataFrame({"image_id": ["00000001_000.png"], "Hernia": [1.0], "Mass": [0.0]})
    with pytest.raises(UserError, match=r"2 of 3 predicted images have no labels \(00000000_000.png, 00000002_000.png"):
        join_labels(predictions, labels)
    with pytest.raises(UserError, match="1 of 2 predicted findings have no labels .Mass"):
        join_labels(predictions, labels.drop(columns="Mass"))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="probabilities"):
        Predictions(["a.png"], None, np.zeros((2, 1), np.float32), None, ("Mass",))
