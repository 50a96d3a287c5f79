from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import rcParams
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from chexnet_fast.metrics import auc_table
from chexnet_fast.plots import plot_aucs, plot_class_histogram, plot_logs, plot_roc, plot_runs, save_figure
from chexnet_fast.predictions import Predictions
from shards.errors import UserError

SEED_LOG = pd.DataFrame({"epoch": [1, 2], "train_loss": [0.16, 0.15], "val_loss": [0.155, 0.15]})
OWN_LOG = SEED_LOG.assign(val_auc=[0.7, 0.8], lr=[0.01, 0.001], images_per_second=[100.0, 110.0], data_wait=[0.5, 0.02])


def texts(figure: Artist) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text")))


def panel(figure: Figure, title: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_title(loc="left").startswith(title))


def test_runs_draw_only_the_panels_that_have_data() -> None:
    assert [axes.get_title(loc="left") for axes in plot_runs({"seed": SEED_LOG}).axes] == [
        "Loss (binary cross-entropy)"
    ]
    figure = plot_runs({"seed": SEED_LOG, "ours": OWN_LOG})
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    assert len(titles) == 5
    assert panel(figure, "Learning rate").lines[0].get_ydata().tolist() == [0.01, 0.001]
    assert panel(figure, "Time waiting").lines[0].get_ydata().tolist() == [50, 2]
    assert "seed, validation" in texts(figure)
    assert "ours, training" in texts(figure)


def test_one_run_keeps_its_colour_in_every_panel() -> None:
    figure = plot_runs({"seed": SEED_LOG, "ours": OWN_LOG})
    ours = panel(figure, "Loss").lines[2].get_color()
    assert panel(figure, "Validation AUC").lines[0].get_color() == ours


def test_logs_of_folders_and_files_go_into_one_picture(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    OWN_LOG.to_csv(tmp_path / "run/log_train.csv", index=False)
    SEED_LOG.to_csv(tmp_path / "log_train", index=False)
    plot_logs([tmp_path / "run", tmp_path / "log_train"], tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").width > 1000
    with pytest.raises(UserError, match="nothing"):
        plot_logs([tmp_path / "nothing"], tmp_path / "other.png")
    assert not (tmp_path / "other.png").exists()


def test_each_bar_of_the_histogram_carries_its_own_finding() -> None:
    table = pd.DataFrame(
        {
            "fold": ["train"] * 4 + ["test"] * 2,
            "Mass": [1, 0, 0, 0, 1, 1],
            "Pleural_Thickening": [1, 1, 1, np.nan, 0, 0],
        }
    )
    figure = plot_class_histogram(table, ["Mass", "Pleural_Thickening"])
    train, test = figure.axes
    names = [label.get_text() for label in train.get_yticklabels()]
    assert dict(zip(names, [bar.get_width() for bar in train.patches], strict=True)) == {
        "Mass": 1,
        "Pleural Thickening": 3,
    }
    assert dict(zip(names, [bar.get_width() for bar in test.patches], strict=True)) == {
        "Mass": 2,
        "Pleural Thickening": 0,
    }
    assert "train: 4 images" in texts(figure)
    assert "1 (25.0%)" in texts(figure)
    assert "3 (100.0%)" in texts(figure)


def test_roc_names_the_auc_of_each_finding_and_says_where_there_is_none() -> None:
    labels = np.array([[1, 0], [0, 0], [1, 0]], np.float32)
    probabilities = np.array([[0.9, 0.5], [0.5, 0.5], [0.1, 0.5]], np.float32)
    predictions = Predictions(["a", "b", "c"], None, probabilities, labels, ("Mass", "Hernia"))
    figure = plot_roc(predictions, auc_table(predictions))
    assert "AUC 0.500\n2 positive" in texts(figure.axes[0])
    assert "no AUC\n0 positive" in texts(figure.axes[1])
    assert len(figure.axes[1].lines) == 1


def test_aucs_stand_at_their_findings_row() -> None:
    ours = pd.DataFrame({"label": ["Mass", "Hernia"], "auc": [0.8, 0.9], "low": [0.7, 0.8], "high": [0.85, 0.95]})
    other = pd.DataFrame({"label": ["Hernia"], "auc": [0.85]})
    axes = plot_aucs({"ours": ours, "other": other}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Mass", "Hernia"]
    lines = {line.get_label(): line for line in axes.lines}
    assert np.round(lines["ours"].get_ydata()).tolist() == [0, 1]
    assert np.round(lines["other"].get_ydata()).tolist() == [1]


def test_figures_leave_global_settings_alone_and_save_whole(tmp_path: Path) -> None:
    before = dict(rcParams)
    save_figure(plot_runs({"ours": OWN_LOG}), tmp_path / "curves.png")
    assert dict(rcParams) == before
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
