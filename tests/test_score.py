import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from chexnet_fast.predictions import Predictions, write_predictions
from chexnet_fast.score import comparison_text, score, write_scores
from shards.errors import UserError
from shards.findings import NIH_FINDINGS

LABELS = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"


def make_predictions(image_ids: list[str], labels: np.ndarray | None = None) -> Predictions:
    probabilities = np.random.default_rng(0).random((len(image_ids), len(NIH_FINDINGS)), np.float32)
    return Predictions(image_ids, None, probabilities, labels, NIH_FINDINGS)


@pytest.mark.real
def test_the_reference_predictions_give_the_reference_aucs_to_the_byte(nih: Path, tmp_path: Path) -> None:
    score(nih / "reference/preds.csv.gz", nih / "Data_Entry_2017_v2020.csv.gz", tmp_path / "score")
    assert (tmp_path / "score/aucs.csv").read_bytes() == (nih / "reference/aucs.csv").read_bytes()
    files = {path.name for path in (tmp_path / "score").iterdir()}
    assert files == {"aucs.csv", "comparison.csv", "comparison.md", "metrics.csv", "roc.png"}


def test_images_without_labels_are_counted_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(LABELS + "00000001_000.png,Mass,0,1,50,M,PA\n")
    write_predictions(make_predictions(["00000001_000.png", "00000002_000.png"]), tmp_path / "preds.csv")
    with pytest.raises(UserError, match="1 of 2 predicted images have no labels .00000002_000.png"):
        score(tmp_path / "preds.csv", tmp_path / "labels.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_finding_without_positives_is_an_empty_field_and_a_note(tmp_path: Path) -> None:
    labels = np.tile(np.array([[1.0], [0.0]], np.float32), (4, len(NIH_FINDINGS)))
    labels[:, -1] = 0
    image_ids = [f"{number}.png" for number in range(8)]
    scores = write_scores(make_predictions(image_ids, labels), image_ids, tmp_path)
    lines = (tmp_path / "aucs.csv").read_text().splitlines()
    assert lines[0] == "label,auc"
    assert lines[-1] == "Hernia,"
    assert pd.read_csv(tmp_path / "aucs.csv")["auc"].notna().sum() == 13
    assert scores.notes == ["Hernia: no AUC (0 positive and 8 negative images), left out of the mean"]
    for text in (str(scores), (tmp_path / "comparison.md").read_text()):
        assert scores.notes[0] in text
        assert "Pleural Thickening" in text


def test_comparison_text_formats_for_people() -> None:
    comparison = pd.DataFrame(
        {
            "finding": ["Pleural_Thickening", "Mean"],
            "auc": [0.81798, np.nan],
            "low": [0.8072, np.nan],
            "high": [0.8287, np.nan],
            "reproduce_chexnet": [0.7889, np.nan],
            "chexnet_paper": [0.8062, np.nan],
            "num_positive": pd.array([2423, None], "Int64"),
        }
    )
    text = comparison_text(comparison)
    assert text.iloc[0].tolist() == ["Pleural Thickening", "0.8180", "0.807–0.829", "0.7889", "0.8062", "2,423"]
    assert text.iloc[1].tolist() == ["Mean", "–", "–", "–", "–", "–"]


def test_scoring_needs_no_torch() -> None:
    code = "import sys, chexnet_fast.score, chexnet_fast.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
