"""The demo at a size that fits a test: it learns what is drawn, and nothing else."""

import dataclasses

import pandas as pd
import pytest

from chexnet_fast import demo


def mean_test_auc(folder, monkeypatch, shuffle_labels: bool) -> float:
    small = dataclasses.replace(demo.demo_config(seed=0), epochs=8, batch_size=16)
    monkeypatch.setattr(demo, "NUM_IMAGES", 500)
    monkeypatch.setattr(demo, "DRAWN_SIZE", 128)
    monkeypatch.setattr(demo, "demo_config", lambda seed: small)
    report = demo.run_demo(folder, 0, shuffle_labels)
    return pd.read_csv(report.with_name("aucs.csv"))["auc"].mean()


@pytest.mark.slow
def test_the_demo_learns_what_is_drawn(tmp_path, monkeypatch, capsys):
    assert mean_test_auc(tmp_path / "demo", monkeypatch, shuffle_labels=False) > 0.6
    assert f"report: {tmp_path}/demo/evaluation/report.html" in capsys.readouterr().out


@pytest.mark.slow
def test_with_shuffled_labels_it_learns_nothing(tmp_path, monkeypatch):
    # 14 AUCs over some 100 test images: their mean scatters by about 0.02 around 0.5.
    assert mean_test_auc(tmp_path / "demo", monkeypatch, shuffle_labels=True) == pytest.approx(0.5, abs=0.07)
